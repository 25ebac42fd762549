"""`make_step`, which makes the compiled training step of a loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._core.authors import described
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.trees import PyTree, is_inexact
from gradtx._training.apply import apply_updates
from gradtx._training.fixed import Fixed, split
from gradtx._training.loss_scale import loss_scale_of, scaled
from gradtx._training.nnx import is_nnx_module
from gradtx._training.readings import readings

Loss = Callable[..., Any]
Extra = Callable[[Any], dict[str, Any]]


def make_step(
    loss: Loss, *, has_aux: bool = False, extra_args: Extra | None = None, donate: bool = True
) -> "Step":
    r"""The compiled training step of a loss: gradients, updates, new parameters and metrics.

    `step = make_step(loss)` is called with the optimizer, the parameters, its state and a batch:

        params, state, metrics = step(tx, params, state, x, y)

    The optimizer is an argument, so three learning rates need one compilation. `metrics` is a flat
    dictionary of scalars for any logger: the loss, and `gradtx.readings(state)`, which has the learning
    rate and what taps recorded. Transformations that use the loss or the gradients, such as
    `reduce_on_plateau`, get them as `value`, `grad` and `value_fn`, and `sam` takes gradients at other
    parameters with `grad_fn`. If the optimizer has a `dynamic_loss_scale`, the loss is multiplied by its
    scale before the gradient is taken; `metrics` holds the loss itself.

    The step donates the parameters and the state, and returns them in the same order, so that XLA
    updates them in place. Keep using what the step returns: the arrays that were passed are deleted.

    The parameters may be any tree of arrays or an Equinox model, unfiltered. Gradients are taken with
    respect to its floating and complex arrays. In an Equinox model, everything that is not an array,
    such as a function or a Python float, is a constant of the compiled step. For complex parameters, the
    optimizer gets the conjugate of what `jax.grad` returns, which is the direction of steepest ascent.

    Args:
        loss: a function `loss(params, *batch)` that returns the loss, a real scalar.
        has_aux: whether `loss` returns a pair: the loss, and a tree of arrays, which the step returns as
            `metrics["aux"]`.
        extra_args: a function from what `loss` returned beside its value to a dictionary of further
            keyword arguments for `update`, such as the `max_logits` of `qk_clip`. It needs `has_aux`.
        donate: whether the arrays of the parameters and of the state are donated.

    Raises:
        TypeError: if `loss` is not a function, if it returns something that is not a real scalar, if the
            first argument of the step is not an optimizer, or if the parameters are a module of Flax
            NNX.
        ValueError: if `extra_args` is given without `has_aux`.

    >>> import gradtx, jax.numpy as jnp
    >>> step = gradtx.make_step(lambda params, x: jnp.mean((x * params["w"] - 1) ** 2))
    >>> tx, params = gradtx.sgd(0.25), {"w": jnp.zeros(2)}
    >>> params, state, metrics = step(tx, params, tx.init(params), jnp.ones(2))
    >>> params["w"], {name: float(x) for name, x in metrics.items()}
    (Array([0.25, 0.25], dtype=float32), {'learning_rate': 0.25, 'loss': 1.0})
    """
    check_arguments(make_step, {"has_aux": has_aux, "donate": donate})
    return Step(loss, has_aux, extra_args, donate)


class Step:
    """The compiled training step that `make_step` returns."""

    def __init__(self, loss: Loss, has_aux: bool, extra_args: Extra | None, donate: bool) -> None:
        check("make_step", loss, has_aux, extra_args)
        self.loss, self.has_aux, self.extra_args = loss, has_aux, extra_args
        # Donated inputs are paired with outputs of the same shape in order. In another order, XLA would
        # copy every array of the state.
        self._jitted = jax.jit(self._run, static_argnums=0, donate_argnums=(2, 3) if donate else ())

    def __call__(
        self,
        tx: optax.GradientTransformation,
        params: PyTree,
        state: Any,
        *batch: Any,
        **named: Any,
    ) -> tuple[PyTree, Any, dict[str, Any]]:
        """One step.

        Args:
            tx: the optimizer.
            params: the parameters.
            state: the state of the optimizer.
            batch: further arguments of the loss.
            named: further arguments of the loss, by name.

        Returns:
            The new parameters, the new state, and the metrics.
        """
        args = self._arguments(tx, params, state, batch, named)
        arrays, new_state, metrics = self._jitted(*args)
        return args[0].join(arrays), new_state, metrics

    def lower(self, tx: Any, params: PyTree, state: Any, *batch: Any, **named: Any) -> Any:
        """The step lowered for these arguments: `step.lower(...).compile().memory_analysis()`."""
        return self._jitted.lower(*self._arguments(tx, params, state, batch, named))

    def _cache_size(self) -> int:
        """How often the step was compiled, as for a function that `jax.jit` returns."""
        return self._jitted._cache_size()  # pyright: ignore

    def _arguments(self, tx: Any, params: PyTree, state: Any, batch: Any, named: Any) -> Any:
        if not isinstance(tx, optax.GradientTransformation):
            raise TypeError(
                "The first argument of the step must be the optimizer, and it is "
                f"{described(tx)}. Call `step(tx, params, state, *batch)`."
            )
        if is_nnx_module(params):
            raise TypeError(
                "The parameters are a module of Flax NNX. Make the step with "
                "`gradtx.make_nnx_step(loss)`, and call `step(model, optimizer, *batch)`."
            )
        fixed, arrays = split(params)
        return fixed, as_transform(tx, "step(tx=...)"), arrays, state, batch, named

    def _run(
        self, fixed: "Fixed", tx: Any, arrays: list[Any], state: Any, batch: Any, named: Any
    ) -> tuple[list[Any], Any, dict[str, Any]]:
        params = fixed.join(arrays)

        def value_of(params: PyTree) -> tuple[Any, Any]:
            return checked(self.loss(params, *batch, **named), self.has_aux)

        scale = loss_scale_of(state)

        def loss_of(trained: list[Any]) -> tuple[Any, Any]:
            merged = [x if t is None else t for t, x in zip(trained, arrays, strict=True)]
            value, aux = value_of(fixed.join(merged))
            return scaled(value, scale), (value, aux)

        trained = [x if is_inexact(x) else None for x in arrays]
        (_, (value, aux)), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained)

        def whole(gradients: list[Any]) -> PyTree:
            return conjugate(fixed.join(gradients, fill=[None] * len(fixed.constants)))

        def grad_fn(params: PyTree) -> PyTree:
            """The gradients at other parameters, scaled like those of this step."""
            _, leaves = split(params)
            at = [x if is_inexact(x) else None for x in leaves]
            return whole(jax.grad(loss_of, has_aux=True)(at)[0])

        grad = whole(gradients)
        extra = self.extra_args(aux) if self.extra_args else {}
        functions = {"value_fn": lambda p: value_of(p)[0], "grad_fn": grad_fn}
        extra = {"value": value, "grad": grad, **functions} | extra
        updates, state = tx.update(grad, state, params, **extra)
        _, new = split(apply_updates(params, updates))
        return new, state, metrics_of(value, aux, state, self.has_aux)


def conjugate(gradients: PyTree) -> PyTree:
    """The gradients with complex ones conjugated: `jax.grad` returns dL/dx - i dL/dy of x + i y."""
    return jax.tree.map(lambda g: g.conj() if jnp.iscomplexobj(g) else g, gradients)


def check(function: str, loss: Any, has_aux: bool, extra_args: Any) -> None:
    """Check the arguments of `make_step` and of `make_nnx_step`.

    Raises:
        TypeError: if `loss` is not a function.
        ValueError: if `extra_args` is given without `has_aux`.
    """
    if not callable(loss) or isinstance(loss, optax.GradientTransformation):
        raise TypeError(
            f"`{function}(loss=...)` must be a function of the parameters and the batch, not "
            f"{described(loss)}. Write `step = gradtx.{function}(loss)`, and pass the optimizer to "
            "`step`."
        )
    if extra_args is not None and not has_aux:
        raise ValueError(
            f"`{function}(extra_args=...)` is called with what `loss` returns beside its value. Pass "
            "`has_aux=True`, and return a pair from `loss`."
        )


def checked(out: Any, has_aux: bool) -> tuple[Any, Any]:
    """What a loss returned, as a pair of its value and what it returned beside it.

    Raises:
        TypeError: if it is not a real scalar, or not a pair with a real scalar.
    """
    if has_aux != isinstance(out, tuple) or (has_aux and len(out) != 2):
        remedy = (
            "With `has_aux=True` it must return a pair: the loss, and a tree of arrays."
            if has_aux
            else "To return arrays beside the loss, pass `has_aux=True`."
        )
        raise TypeError(f"The loss function returned {described(out)}. {remedy}")
    value, aux = out if has_aux else (out, None)
    array = jnp.asarray(value)
    if array.ndim or not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            "The loss function must return a real scalar, and it returned an array of shape "
            f"{array.shape} and dtype {array.dtype}. Take the mean of it, such as `jnp.mean(loss)`."
        )
    return array, aux


def metrics_of(value: Any, aux: Any, state: Any, has_aux: bool) -> dict[str, Any]:
    """The dictionary of metrics that a step returns."""
    metrics = {"loss": value, **readings(state)}
    return metrics | {"aux": aux} if has_aux else metrics
