"""Hyperparameters in the state, where they can be read and changed while training."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.fields import dtype_name
from gradtx._core.function_arguments import check_arguments
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.places import Cell
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.tune import Tune
from gradtx._core.tuned import NOT_KNOWN, Origin
from gradtx._wrappers.hyperparams import Found, Name, find, named, part_at, substituted


class tunable(Wrapper):
    """The same optimizer with its hyperparameters in the state, so that they can be changed any time.

    `gradtx.get(state, "learning_rate")` reads the learning rate, and
    `state = gradtx.set(state, learning_rate=1e-4)` changes it. Nothing is compiled again, also where the
    optimizer itself is a part of the compiled program, as in Flax's `nnx.Optimizer` and `TrainState`.
    The numbers are saved and restored with the state. The values in the state count: after `init`,
    `gradtx.replace` on the optimizer does not change a number that lies in the state. A number that the
    optimizer would refuse, such as `b2=1.0`, is refused by `gradtx.set`, too.

    Args:
        inner: the optimizer.
        names: which hyperparameters are kept in the state: a name or several names as in
            `gradtx.replace`, such as `"learning_rate"` or `"muon.learning_rate"`. None means all
            numbers.
        hyperparam_dtype: the dtype of the numbers in the state, float32 or wider. None means float32, or
            float64 if 64 bits are enabled.

    The state is `optax.InjectStatefulHyperparamsState(count, hyperparams, hyperparams_states,
    inner_state)`, as that of `optax.inject_hyperparams`. `hyperparams` is a dictionary from names to
    scalars. A name that occurs once in the optimizer is plain (`"learning_rate"`). A name that occurs
    several times has the label, the position or the field before it (`"muon.learning_rate"`,
    `"0.learning_rate"`); `gradtx.set(state, learning_rate=...)` then sets all of them. A number inside
    of a schedule has the name of the hyperparameter before it (`"learning_rate.peak_value"`). A
    hyperparameter that is a schedule is recorded at every step and cannot be set. Fields that are None,
    and initial values of states, are not kept.

    The updates are bitwise those of `inner` while only the learning rate is kept, and equal up to
    rounding otherwise. A decay that is set is rounded to the dtype of the state. For a decay near 1 this
    changes `1 - b` by up to one part in 10^4 at 0.9995, and by less for smaller decays.

    Raises:
        ValueError: if `inner` has no numbers, if one of `names` fits none of them, or if `update` gets
            a state with an array in the place of a number.
        TypeError: if `inner` is not a transformation, or if `hyperparam_dtype` is narrower than float32.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.tunable(gradtx.sgd(0.1))
    >>> state = gradtx.set(tx.init(jnp.zeros(())), learning_rate=0.25)
    >>> u, state = tx.update(jnp.ones(()), state)
    >>> float(u), float(gradtx.get(state, "learning_rate"))
    (-0.25, 0.25)
    """

    names: tuple[str, ...] | str | None = None
    hyperparam_dtype: DTypeLike | None = None
    linear = as_inner
    keeps_updates = True

    def validate(self) -> None:
        dtype = jnp.dtype(self.hyperparam_dtype or "float32")
        if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).nmant < 23:
            raise TypeError(
                f"`tunable(hyperparam_dtype={self.hyperparam_dtype!r})` must be 'float32' or 'float64': "
                "in a narrower dtype a decay such as 0.999 would be rounded to 1."
            )
        self.found  # noqa: B018 - for what it raises

    @property
    def found(self) -> dict[str, Found]:
        """The hyperparameters that lie in the state, by their names there."""
        if "_found" not in self.__dict__:
            self.__dict__["_found"] = self._find()
        return self.__dict__["_found"]

    def _find(self) -> dict[str, Found]:
        every = named(list(find(self.inner, tunable)))
        if not every:
            raise ValueError(
                f"`tunable(inner=...)`: `{self.inner}` does not have a number that could be kept in the "
                "state. For a transformation of Optax use `optax.inject_hyperparams`."
            )
        if self.names is None:
            return every
        wanted = (self.names,) if isinstance(self.names, str) else self.names
        for name in wanted:
            if not isinstance(name, str) or not any(x.fits(name) for x in every.values()):
                raise ValueError(
                    f"`tunable(names=...)`: `{self.inner}` has no hyperparameter `{name}`; it has "
                    f"{', '.join(every)}."
                )
        return {k: x for k, x in every.items() if any(x.fits(name) for name in wanted)}

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        numbers = {name: x for name, x in self.found.items() if not x.is_schedule}
        schedules = {name: x for name, x in self.found.items() if x.is_schedule}
        before = sum(isinstance(stage, Tune) for stage in low.stages)
        origin = Origin(tuple(x.value for x in numbers.values()), before)
        stage = Tune(origin, list(numbers), self.hyperparam_dtype or low.scalars)
        tuned = {x.path: origin.number(i, decay=x.decay) for i, x in enumerate(numbers.values())}
        inner = substituted(self.inner, tuned)
        places: dict[str, Any] = {}
        for name in numbers:
            places[name] = Cell(low.cell())
            stage.cells.append(places[name].number)
        for name, x in schedules.items():
            places[name] = Cell(low.cell())
            stage.schedules.append((places[name].number, part_at(inner, x.path), name))
        stage.step = low.cell()
        low.stages.append(stage)
        low.trees.append(stage)
        try:
            stream, state = low.lower(inner, stream)
        except (TypeError, ValueError) as error:
            if "tuned.Tuned" in str(error):  # JAX's own complaint about it
                raise TypeError(NOT_KNOWN) from error
            raise
        limited = zip(numbers.items(), origin.intervals, strict=True)
        keys = {k: Name(k, [x.interval] * bool(x.interval) + more) for (k, x), more in limited}
        places = {keys.get(name, name): cell for name, cell in places.items()}
        return stream, optax.InjectStatefulHyperparamsState(
            count=Cell(stage.step, counts=True),  # pyright: ignore[reportArgumentType]
            hyperparams=places,
            hyperparams_states=dict.fromkeys(schedules, ()),
            inner_state=state,
        )

    def inner_at(self, state: Any) -> Transform:
        """`inner` with the numbers that a state of this transformation holds.

        Args:
            state: a state that `init` or `update` returned.
        """
        found = {k: x for k, x in self.found.items() if not x.is_schedule}
        return substituted(self.inner, {x.path: state.hyperparams[k] for k, x in found.items()})

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


def inject_hyperparams(
    inner_factory: Callable[..., optax.GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: DTypeLike | None = None,
) -> Callable[..., tunable]:
    """Optax's name for `tunable`: `inject_hyperparams(adamw)(1e-3)` is `tunable(adamw(1e-3))`.

    The hyperparameters are named after the fields of the optimizer that `inner_factory` returns, see
    `tunable`. For an optimizer of gradtx these are the names of its arguments.

    Args:
        inner_factory: an optimizer of gradtx, or a function that returns one.
        static_args: the names of hyperparameters that are not kept in the state.
        hyperparam_dtype: the dtype of the numbers in the state, as in `tunable`. None means float32,
            also for parameters in a narrower dtype, where Optax takes the dtype of the parameters.

    Returns:
        A function with the arguments of `inner_factory`, which returns a `tunable`.

    Raises:
        TypeError: if `inner_factory` is not callable.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.inject_hyperparams(gradtx.adamw)(learning_rate=1e-3)
    >>> state = tx.init(jnp.zeros(()))
    >>> sorted(state.hyperparams)
    ['b1', 'b2', 'eps', 'learning_rate', 'weight_decay']
    """
    check_arguments(inject_hyperparams, {"static_args": static_args})
    if hyperparam_dtype is not None:
        dtype_name(hyperparam_dtype, "inject_hyperparams(hyperparam_dtype=...)")
    if not callable(inner_factory):
        raise TypeError(
            "`inject_hyperparams(inner_factory=...)` must be an optimizer that is not called yet, such "
            f"as `gradtx.adamw`, or a function that returns one. For the value `{inner_factory}` write "
            "`gradtx.tunable(...)`."
        )
    left_out = {static_args} if isinstance(static_args, str) else {*static_args}

    @functools.wraps(inner_factory)
    def make(*args: Any, **kwargs: Any) -> tunable:
        inner = inner_factory(*args, **kwargs)
        tx = tunable(inner, hyperparam_dtype=hyperparam_dtype)
        kept = [name for name, x in tx.found.items() if not any(map(x.fits, left_out))]
        return tx if len(kept) == len(tx.found) else tunable(inner, tuple(kept), hyperparam_dtype)

    return make
