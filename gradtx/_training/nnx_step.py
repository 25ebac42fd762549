"""`make_nnx_step`, which makes the compiled training step of a loss of a Flax NNX model."""

from collections.abc import Callable
from typing import Any

from gradtx._core.function_arguments import check_arguments
from gradtx._training.loss_scale import loss_scale_of, scaled
from gradtx._training.step import Extra, Loss, check, checked, conjugate, metrics_of


def make_nnx_step(
    loss: Loss, *, has_aux: bool = False, extra_args: Extra | None = None, donate: bool = True
) -> Callable[..., dict[str, Any]]:
    """The compiled training step of a loss of a Flax NNX model, which it changes in place.

    `step = make_nnx_step(loss)` is called with the model, its `nnx.Optimizer` and a batch:

        metrics = step(model, optimizer, x, y)

    It changes the model and the optimizer in place. What else the model changes in its forward pass,
    such as the statistics of `nnx.BatchNorm`, is kept, too. The arguments and the metrics are those of
    `gradtx.make_step`. The model and the optimizer are donated, so that XLA updates them in place.
    `nnx.Optimizer` keeps its transformation in the structure of the compiled program. To change the
    learning rate without compiling again, wrap the transformation in `gradtx.tunable`.

    Args:
        loss: a function `loss(model, *batch)` that returns the loss, a real scalar.
        has_aux: whether `loss` returns a pair: the loss, and a tree of arrays, which the step returns as
            `metrics["aux"]`.
        extra_args: a function from what `loss` returned beside its value to a dictionary of further
            keyword arguments for `update`. It needs `has_aux`.
        donate: whether the arrays of the model and of the optimizer are donated.

    Raises:
        ImportError: if Flax is not installed.
        TypeError: if `loss` is not a function, or if it returns something that is not a real scalar.
        ValueError: if `extra_args` is given without `has_aux`.

    >>> import gradtx, jax.numpy as jnp
    >>> from flax import nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(model, gradtx.adamw(1e-3), wrt=nnx.Param)
    >>> step = gradtx.make_nnx_step(lambda model, x: jnp.mean(model(x) ** 2))
    >>> sorted(step(model, optimizer, jnp.ones((4, 2))))
    ['learning_rate', 'loss']
    """
    check_arguments(make_nnx_step, {"has_aux": has_aux, "donate": donate})
    check("make_nnx_step", loss, has_aux, extra_args)
    try:
        from flax import nnx
    except ImportError as error:
        raise ImportError(
            "`make_nnx_step` needs Flax. Install it with `pip install flax`."
        ) from error

    def step(model: Any, optimizer: Any, *batch: Any, **named: Any) -> dict[str, Any]:
        if not isinstance(optimizer, nnx.Optimizer):
            raise TypeError(
                "The second argument of the step must be an `nnx.Optimizer`, and it is a "
                f"`{type(optimizer).__name__}`. Call `step(model, optimizer, *batch)`."
            )

        scale = loss_scale_of(optimizer)

        def loss_of(model: Any) -> tuple[Any, Any]:
            value, aux = checked(loss(model, *batch, **named), has_aux)
            return scaled(value, scale), (value, aux)

        trained = nnx.DiffState(0, optimizer.wrt)
        of_loss = nnx.value_and_grad(loss_of, argnums=trained, has_aux=True)
        (_, (value, aux)), gradients = of_loss(model)
        gradients = conjugate(gradients)
        extra = extra_args(aux) if extra_args else {}
        optimizer.update(model, gradients, **({"value": value, "grad": gradients} | extra))
        return metrics_of(value, aux, optimizer, has_aux)

    return nnx.jit(step, donate_argnums=(0, 1) if donate else ())
