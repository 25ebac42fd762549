"""What to write for a name that gradtx does not have, which most often is a name of Optax or PyTorch.

Python calls `missing` for such a name, so that the error says what to write in its place.
"""

import difflib
import sys
import types
from collections.abc import Iterable
from typing import Any, NoReturn

import optax

_LINK = (
    "`optax.{name}` works as a link of `gradtx.chain` and wherever gradtx takes a transformation"
)
_AROUND = "`optax.{name}` can be wrapped around every transformation of gradtx"
_SAME = "it stays Optax's, so write `optax.{name}`"
_CLASS = "gradtx uses Optax's own class, so write `optax.{name}`"
_FLAT = "gradtx has one namespace, so write `gradtx.` before the name of the {what}"

# What to write for single names of Optax.
_NAMES = {
    "conditionally_mask": _AROUND,
    "conditionally_transform": _AROUND,
    "contrib": _FLAT.format(what="optimizer"),
    "flatten": "gradtx computes neighboring elementwise steps in one pass without flattening",
    "init_empty_state": "a class without `init_leaf` has an empty state",
    "lbfgs": _LINK + ", since extra arguments such as `value_fn` are handed on to it",
    "measure_with_ema": "record a scalar with `gradtx.tap`",
    "monitor": "record a scalar with `gradtx.tap`",
    "periodic_update": (
        "write `jax.tree.map(lambda new, old: jnp.where(step % period == 0, new, old), new, old)`"
    ),
    "safe_int32_increment": "the name is `gradtx.safe_increment`",
    "safe_norm": "`gradtx.global_norm` neither overflows nor underflows",
    "schedules": _FLAT.format(what="schedule"),
    "selective_transform": _AROUND,
    "skip_large_updates": _SAME,
    "skip_not_finite": _SAME,
    "snapshot": "record a scalar with `gradtx.tap`",
    "transforms": _FLAT.format(what="transformation"),
    "tree_map_params": "`optax.tree.map_params` works on the states of gradtx",
    "tree_utils": "`optax.tree` works on the trees and the states of gradtx",
    "value_and_grad_from_state": _SAME,
    "with_extra_args_support": "every transformation of gradtx takes extra arguments",
}
# What to write for all names that one part of Optax defines. Every other name is a transformation.
_PARTS = {
    "optax.losses": _SAME,
    "optax.schedules": "every schedule of Optax works in gradtx, so write `optax.{name}`",
    "optax._src.base": _CLASS,
    "optax._src.linear_algebra": _SAME,
    "optax._src.numerics": _SAME,
    "optax._src.utils": _SAME,
    "optax._src.update": _SAME,
    "optax.tree_utils": _SAME,
    "optax.microbatching": _SAME,
    "typing": _SAME,
    "collections.abc": _SAME,
}
# What to write for names of PyTorch.
_TORCH = {
    "CosineAnnealingLR": "cosine_decay_schedule",
    "CosineAnnealingWarmRestarts": "sgdr_schedule",
    "ExponentialLR": "exponential_decay",
    "LinearLR": "linear_schedule",
    "MultiStepLR": "piecewise_constant_schedule",
    "OneCycleLR": "cosine_onecycle_schedule",
    "PolynomialLR": "polynomial_schedule",
    "ReduceLROnPlateau": "reduce_on_plateau",
    "SequentialLR": "join_schedules",
    "clip_grad_norm_": "clip_by_global_norm",
    "clip_grad_value_": "clip",
    "param_groups": "partition",
}


def _missing(name: str) -> NoReturn:
    raise AttributeError(_advice(name, dir(sys.modules["gradtx"])))


# A type checker must not learn that gradtx has a function for missing names, since it would then take
# every name for an existing one.
missing: Any = _missing


def _advice(name: str, known: Iterable[str]) -> str:
    """The sentence for `name`, where the names in `known` exist."""
    if not name.startswith("_"):
        # `vars` and not `hasattr`, which warns where Optax has moved a name.
        if name in vars(optax):
            return f"gradtx has no `{name}`: {_for_optax(name).format(name=name)}."
        if name in vars(optax.contrib):
            return f"gradtx has no `{name}`: {_LINK.format(name=f'contrib.{name}')}."
    public = {_plain(x): x for x in known if not x.startswith("_")}
    if _TORCH.get(name) in public.values():
        return f"gradtx has no `{name}`: write `gradtx.{_TORCH[name]}`."
    near = difflib.get_close_matches(_plain(name), public, 1, cutoff=0.75)
    hint = f" Did you mean `gradtx.{public[near[0]]}`?" if near else ""
    return f"gradtx has no `{name}`.{hint}"


def _for_optax(name: str) -> str:
    thing: Any = getattr(optax, name)
    if name in _NAMES:
        return _NAMES[name]
    if isinstance(thing, types.ModuleType):
        return _SAME
    if hasattr(thing, "_fields"):  # the NamedTuple of a state
        return _CLASS
    home = str(getattr(thing, "__module__", ""))
    return next((text for part, text in _PARTS.items() if home.startswith(part)), _LINK)


def _plain(name: str) -> str:
    """The name in lower case and without underscores, since `AdamW` means `adamw`."""
    return name.lower().replace("_", "")
