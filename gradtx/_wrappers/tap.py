"""`tap`, which records measures of the updates at one place of a chain."""

from collections.abc import Hashable
from typing import Any

import optax

from gradtx._core.authors import described
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.measure import Measure
from gradtx._core.probes import Probe
from gradtx._core.static import show
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._wrappers.measures import norm


class tap(Transform):
    """Pass the updates on unchanged, and record measures of them in the state.

    $$ u = g $$

    A tap may stand anywhere: between the links of a chain, in a branch of a fan-out, in a partition,
    in a wrapper or in the definition of a recipe. Norms before and after clipping are

        chain(tap("grads"), clip_by_global_norm(1.0), tap("clipped"), adamw(1e-3), tap("updates"))

    and `gradtx.readings(state)` returns them. The measures are computed on the device, as a part of the
    step: in the pass over the updates that the transformations around the tap need anyway. The updates
    are the same as without taps.

    Args:
        name: the first part of the names of its readings, such as "grads" in "grads/global_norm".
        measure: a measure, or several measures. The default is the global norm.
        active: whether the tap records. With False it has no state, and the compiled step is the same
            as without the tap.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device records a reading of what it holds.

    The state is `TapState(readings, memory)`. `readings` is a dictionary from names to scalars, which
    are 0 before the first step. If no leaf of a reading has a gradient in a step, the reading keeps its
    value. `memory` is what measures remember from step to step, which is nothing for most of them.

    Raises:
        TypeError: if `name` is not a string, or if `measure` holds something that is not a `Measure`.
        ValueError: if `name` is empty, or if two measures have the same name.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.tap("in"), gradtx.clip_by_global_norm(1.0), gradtx.tap("out"))
    >>> g = jnp.array([3.0, 4.0])
    >>> updates, state = tx.update(g, tx.init(g))
    >>> {name: round(float(x), 6) for name, x in gradtx.readings(state).items()}
    {'in/global_norm': 5.0, 'out/global_norm': 1.0}
    """

    name: str
    measure: Measure | tuple[Measure, ...] = norm()
    active: bool = True
    axis_name: Hashable | None = None
    linear = True
    keeps_zero = True
    keeps_updates = True

    def __post_init__(self) -> None:
        measures_of(self)  # before numbers are looked for in the field
        super().__post_init__()

    def validate(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"`tap(name=...)` must be a string, not {show(self.name)}.")
        if not self.name:
            raise ValueError(
                "`tap(name='')` must not be empty, since the readings are called by it."
            )

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if not self.active:
            return stream, optax.EmptyState()
        probe = Probe(low, stream, self.name, measures_of(self), self.axis_name)
        low.probes.append(probe)
        return stream, probe.state

    def tex(self, g: Tex, page: Page) -> Tex:
        return g


def measures_of(tx: Any) -> tuple[Measure, ...]:
    """The measures in the field `measure` of `tx`, which holds one measure or several.

    Raises:
        TypeError: if the field holds something else.
    """
    measures = tx.measure if isinstance(tx.measure, tuple | list) else (tx.measure,)
    if not measures:
        raise ValueError(
            f"`{type(tx).__name__}(measure=...)` is empty. Pass a measure, such as `norm()`; "
            "`active=False` switches it off."
        )
    for x in measures:
        if not isinstance(x, Measure):
            raise TypeError(
                f"`{type(tx).__name__}(measure=...)` must be a measure, such as `norm()`, or a tuple of "
                f"measures, not {described(x)}."
            )
    return tuple(measures)
