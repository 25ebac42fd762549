"""`Transform`: a value with `init` and `update`, and what happens at its boundary.

    init(params) -> state
    update(updates, state, params=None, **extra) -> (updates, state)

The two public methods are the boundary. They check that gradients, parameters and state belong
together, put `None` where there is nothing to optimize, and round once, on the way out. What a
transformation does stands in `init_tree` and `update_tree`; compositions call those, so that nothing
is checked or rounded twice.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Self

import optax

from gradtx._core.boundary import as_param, foreign_state, leave, matching, mismatch, unmapped
from gradtx._core.static import frozendict
from gradtx._core.trees import PyTree, flatten, paths
from gradtx._core.values import Hyper, Value

if TYPE_CHECKING:
    from gradtx._compose.fanout import fanout


class Transform(Value, optax.GradientTransformationExtraArgs):
    """A gradient transformation as a value.

    Subclass it for what works on whole trees: declare fields, write `init_tree` and `update_tree`
    (trees hold `None` where there is nothing to do; arithmetic is float32 at least). For what works on
    one array at a time, subclass `Elementwise`; for an optimizer that is a composition, `Recipe`.

    It is an `optax.GradientTransformationExtraArgs`, and `init, update = tx` unpacks it. `a / b`,
    `a * b`, `a + b`, `a - b` compose in parallel, see `fanout`.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> class normalize(gradtx.Transform):
    ...     def update_tree(self, updates, state, params, extra):
    ...         norm = gradtx.global_norm(updates)
    ...         return jax.tree.map(lambda u: u / norm, updates), state
    >>> normalize().update(jnp.array([3.0, 4.0]), ())[0]
    Array([0.6, 0.8], dtype=float32)
    """

    # Whether the parameters must be passed to `update`.
    needs_params: ClassVar[bool] = False
    # Whether it is written for one array (`init_leaf`, `update_leaf`), so that one pass serves many.
    elementwise: ClassVar[bool] = False
    # Whether `look` reads the whole tree, so that the updates must be there before the pass starts.
    looks: ClassVar[bool] = False
    # Whether it squares what it gets (and calls `squarable` on it first): then the branches beside it
    # in a `fanout` get what is bounded alike.
    squares: ClassVar[bool] = False

    # NumPy scalars leave `2.0 * tx` to us.
    __array_ufunc__ = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return tuple.__new__(cls)  # an empty tuple: the fields live in the instance's dictionary

    def init(self, params: PyTree) -> Any:  # pyright: ignore
        """The state before the first step: arrays only, shaped and sharded like the parameters."""
        leaves, structure = flatten(params)
        return self.working().init_tree(structure.unflatten([as_param(p) for p in leaves]))

    def update(  # pyright: ignore
        self, updates: PyTree, state: Any, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Any]:
        """One step: the updates to add to the parameters, and the next state.

        Raises `ValueError` if `params` are needed and not given, or if structure, shape or kind of a
        gradient differ from its parameter's; the message names the leaf's path.
        """
        if params is None and self.needs_params:
            raise ValueError(
                f"`{self}` needs the parameters: call `update(updates, state, params)`."
            )
        if field := unmapped(self):
            raise ValueError(
                f"`{field}` is an array where a step needs one number. To run the optimizers of a "
                "sweep side by side, map over it: `jax.vmap(train, in_axes=(gradtx.axes(tx),))(tx)`."
            )
        gradients, structure = flatten(updates)
        owners = [None] * len(gradients) if params is None else matching(params, updates, structure)
        for i, (g, p) in enumerate(zip(gradients, owners, strict=True)):
            if problem := mismatch(g, p):
                raise ValueError(f"The gradient at `{paths(updates)[i] or '.'}` {problem}.")
        todo, owned = [as_param(g) for g in gradients], owners
        if params is not None:
            owned = [as_param(p) for p in owners]
            todo = [None if p is None else g for g, p in zip(todo, owned, strict=True)]
            params = structure.unflatten(owned)
        try:
            out, state = self.working().update_tree(structure.unflatten(todo), state, params, extra)
        except Exception as error:
            # Gradients stand in for parameters, unless some are missing.
            if params is None and all(g is not None for g in gradients):
                params = updates
            if params is not None and (problem := foreign_state(self, state, params)):
                raise ValueError(problem) from error
            raise
        rounded = map(leave, structure.flatten_up_to(out), todo, owned, owners)
        return structure.unflatten(list(rounded)), state

    def init_tree(self, params: PyTree) -> Any:
        """The state for a tree of parameters. The default has none."""
        return ()

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        """One step on a tree of updates, without checks or rounding."""
        raise TypeError(f"`{type(self).__name__}` defines no `update_tree`.")

    def working(self) -> Any:
        """The transformation that does the work: those inside as theirs, and around one with schedules
        a wrapper that counts the steps. A recipe's is its definition's."""
        from gradtx._core.elementwise import scheduled, scheduled_fields  # they are transformations

        parts = {name: _working(getattr(self, name)) for name in self._data}
        changed = any(part is not getattr(self, name) for name, part in parts.items())
        tx = self._with(**parts) if changed else self
        return scheduled(tx) if scheduled_fields(tx) else tx

    def _repr_latex_(self) -> str | None:
        """The update as an equation, with the letters explained below it: what a notebook shows."""
        from gradtx._show.equations import equations  # written in terms of every transformation

        return equations(self)

    # The operators, and their reflections: a tuple would concatenate and repeat.

    def __truediv__(self, other: "Transform | Hyper") -> "fanout":
        return _fan("divide", self, other)

    def __rtruediv__(self, other: Hyper) -> "fanout":
        return _fan("divide", other, self)

    def __mul__(self, other: "Transform | Hyper") -> "fanout":  # pyright: ignore
        return _fan("multiply", self, other)

    def __rmul__(self, other: Hyper) -> "fanout":  # pyright: ignore
        return _fan("multiply", other, self)

    def __add__(self, other: "Transform | Hyper") -> "fanout":  # pyright: ignore
        return _fan("add", self, other)

    def __radd__(self, other: Hyper) -> "fanout":
        return _fan("add", other, self)

    def __sub__(self, other: "Transform | Hyper") -> "fanout":
        return _fan("subtract", self, other)

    def __rsub__(self, other: Hyper) -> "fanout":
        return _fan("subtract", other, self)

    # The pair (init, update), which is what Optax and its hosts unpack.

    def __iter__(self):  # pyright: ignore
        return iter((self.init, self.update))

    def __getitem__(self, index: Any) -> Any:
        return (self.init, self.update)[index]

    def __len__(self) -> int:
        return 2

    def __contains__(self, item: object) -> bool:
        return item in (self.init, self.update)

    def _unordered(self, other: object) -> Any:
        return NotImplemented

    __lt__ = __le__ = __gt__ = __ge__ = _unordered  # pyright: ignore


def _working(field: Any) -> Any:
    """A field with the transformations in it as those that work."""
    if isinstance(field, Transform):
        return field.working()
    if isinstance(field, frozendict):
        return frozendict({name: _working(x) for name, x in field.items()})
    return tuple(map(_working, field)) if type(field) is tuple else field


def _fan(combine: str, *branches: Any) -> "fanout":
    from gradtx._compose.fanout import fanout  # composition is written in terms of Transform

    return fanout(combine, *branches)
