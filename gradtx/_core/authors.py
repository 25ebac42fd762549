"""What authors of transformations are told: parameters that speak, and the kinds of what they returned."""

from typing import Any


class Missing:
    """Parameters that were not passed: whatever uses them says so."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx

    def _needed(self, *args: Any) -> Any:
        raise ValueError(
            f"`{type(self._tx).__name__}` needs the parameters: call `update(updates, state, params)`."
        )

    __getattr__ = __jax_array__ = __array__ = __len__ = __getitem__ = __bool__ = _needed
    __eq__ = __ne__ = _needed  # pyright: ignore
    __hash__ = object.__hash__


for _name in ["add", "sub", "mul", "truediv", "pow", "matmul"]:
    for _prefix in ("", "r"):
        setattr(Missing, f"__{_prefix}{_name}__", Missing._needed)
for _name in ["neg", "abs", "lt", "le", "gt", "ge"]:
    setattr(Missing, f"__{_name}__", Missing._needed)


def kind_of(result: Any) -> str:
    """What a hook returned, in a word that shows nothing of the library."""
    if hasattr(result, "dtype") and hasattr(result, "shape"):
        return f"one array of shape {tuple(result.shape)}"
    if isinstance(result, tuple) and not hasattr(result, "_fields"):
        return f"a tuple of {len(result)}"
    return "None" if result is None else f"`{type(result).__name__}`"
