"""Functions of the parameters among the extra arguments of `update`, such as `grad_fn`.

A transformation sees only the parameters that it updates, in float32 at least. A function of the caller
needs all of them, each in its own dtype.
"""

from typing import Any

from optax import MaskedNode

from gradtx._core.dtypes import saturated
from gradtx._core.trees import PyTree, Structure

NAMES = "grad_fn", "value_fn", "obj_fn"


def of_all_params(extra: dict[str, Any], owners: list[Any], structure: Structure) -> dict[str, Any]:
    """The extra arguments, in which functions of the parameters take trees with gaps.

    Args:
        extra: the extra arguments of `update`.
        owners: the parameters as the caller passed them, which fill the gaps.
        structure: the structure of their tree.
    """
    found = {name: f for name in NAMES if callable(f := extra.get(name))}
    if not found:
        return extra
    return extra | {name: _Filled(f, owners, structure) for name, f in found.items()}


class _Filled:
    """A function that is called with complete parameters, in their own dtypes."""

    def __init__(self, function: Any, owners: list[Any], structure: Structure) -> None:
        self.function, self.owners, self.structure = function, owners, structure

    def __call__(self, params: PyTree, *args: Any, **kwargs: Any) -> Any:
        try:
            leaves = self.structure.flatten_up_to(params)
        except (ValueError, TypeError):
            return self.function(params, *args, **kwargs)  # its own error says more
        whole = [_own(x, p) for x, p in zip(leaves, self.owners, strict=True)]
        return self.function(self.structure.unflatten(whole), *args, **kwargs)


def _own(x: Any, param: Any) -> Any:
    if x is None or isinstance(x, MaskedNode):
        return param
    dtype = getattr(param, "dtype", None)
    # A point beyond the range of the parameters is not infinite, as their gradient there would be NaN.
    return x if dtype is None or getattr(x, "dtype", dtype) == dtype else saturated(x, dtype)
