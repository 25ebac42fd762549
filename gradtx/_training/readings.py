"""`readings`, which collects the scalars that are worth logging from a state."""

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar_dtype
from gradtx._core.function_arguments import check_arguments
from gradtx._core.probes import TapState
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, unboxed

# Further scalars that states of gradtx or of Optax hold, by the name of the field.
_COUNTERS = ("notfinite_count", "total_notfinite", "skipped", "dropped", "clipped", "loss_scale")


def readings(state: PyTree) -> dict[str, jax.Array]:
    """The scalars in a state that are worth logging: one flat dictionary for any logger.

    It holds

    - what taps recorded, by the name of the tap, the measure, and the layer or the leaf, if the measure
      has one: `"grads/global_norm"`, `"grads/norm/blocks/0"`;
    - `"learning_rate"`, the learning rate of the last step, and before the first step that of the first;
    - `"loss_scale"`, the scale of `dynamic_loss_scale`;
    - counters of skipped and of clipped steps and of dropped micro-batches, as in the state of
      `skip_nonfinite`, where `notfinite_count` is the number of skipped steps in a row up to the last
      one. Where every leaf has a counter of its own, this is their sum.

    A name that occurs several times has the labels around it in front, such as `"muon/learning_rate"`
    and `"adamw/learning_rate"`, or its position in the state where there are no labels. The names
    depend on the structure of the state alone, so `readings` may be called inside `jax.jit`, for a
    state that `jax.lax.scan` stacked (the scalars are then arrays over time), or under `jax.vmap`.

    Args:
        state: the state of an optimizer, or something that has it as `opt_state`, such as Flax's
            `nnx.Optimizer` and `TrainState`.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.tap("grads"), gradtx.adam(1e-3))
    >>> _, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
    >>> print({name: float(f"{x:.4g}") for name, x in gradtx.readings(state).items()})
    {'grads/global_norm': 5.0, 'learning_rate': 0.001}
    """
    check_arguments(readings, locals())
    found: list[tuple[str, tuple[str, ...], tuple[str, ...], Any]] = []
    _collect(unboxed(getattr(state, "opt_state", state)), (), (), found)
    plain = Counter(name for name, *_ in found)
    labelled = Counter("/".join((*labels, name)) for name, labels, *_ in found)
    named = {}
    for name, labels, places, x in found:
        full = "/".join((*labels, name))
        if plain[name] == 1:
            full = name
        elif labelled[full] > 1:
            full = "/".join((*places, name))
        named[full] = x
    return named


def _collect(node: Any, labels: tuple[str, ...], places: tuple[str, ...], found: list[Any]) -> None:
    """Append the name, the labels, the places and the value of every reading in a state."""
    if isinstance(node, Transform):
        return
    if isinstance(node, TapState) and isinstance(node.readings, dict):
        found += [(name, labels, places, x) for name, x in sorted(node.readings.items())]
    elif "last_learning_rate" in getattr(node, "_fields", ()):
        rate: Any = node
        found.append(("learning_rate", labels, places, rate.last_learning_rate))
    elif isinstance(node, dict):
        for key, x in node.items():
            _collect(x, (*labels, str(key)), (*places, str(key)), found)
    elif isinstance(node, tuple | list):
        names = getattr(node, "_fields", None)
        for i, x in enumerate(node):
            if names and names[i] in _COUNTERS:
                found.append((names[i], labels, places, _total(x)))
            else:
                _collect(x, labels, places if names else (*places, str(i)), found)


def _total(counts: Any) -> Any:
    """A counter, or the sum of the counters of all leaves, as a floating number that cannot overflow."""
    if hasattr(counts, "dtype"):
        return counts
    own = jax.tree.leaves(counts)
    return sum((x.astype(scalar_dtype()) for x in own), jnp.zeros((), scalar_dtype()))
