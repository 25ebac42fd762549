"""Models of Flax NNX, which hold their parameters as variables and are changed in place."""

from collections.abc import Callable
from typing import Any

from gradtx._core.trees import PyTree


def is_nnx_module(x: Any) -> bool:
    """Whether `x` is a module of Flax NNX. Flax is not imported for the question."""
    return any(
        kind.__name__ == "Module" and kind.__module__.startswith("flax.nnx")
        for kind in type(x).__mro__
    )


def with_params(model: Any, change: Callable[[PyTree], PyTree]) -> Any:
    """A copy of a model in which the variables of the type `nnx.Param` are changed.

    Args:
        model: a module of Flax NNX.
        change: a function from the state of these variables to the new one.
    """
    from flax import nnx

    definition, params, rest = nnx.split(model, nnx.Param, ...)
    return nnx.merge(definition, change(params), rest)
