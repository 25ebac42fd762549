"""`observe`, which taps every stage of an optimizer."""

from collections import Counter
from collections.abc import Hashable
from typing import Any, NamedTuple

from gradtx._compose.chain import chain, identity
from gradtx._compose.fanout import fanout
from gradtx._compose.named_chain import named_chain
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.measure import Measure
from gradtx._core.probes import Probe
from gradtx._core.terms import Stream, Visit
from gradtx._core.transform import Transform
from gradtx._wrappers.measures import norm
from gradtx._wrappers.tap import measures_of, tap


class ObserveState(NamedTuple):
    """The state of `observe`.

    Attributes:
        taps: the state of every tap, in the order of the stages.
        inner_state: the state of the observed transformation.
    """

    taps: Any
    inner_state: Any


class observe(Wrapper):
    """The same optimizer with a tap behind every stage.

    $$ u = f(g) $$

    The stages are the links of chains, also inside the definitions of recipes, the groups of partitions
    and wrappers, but not inside the branches of a fan-out. Links that pass everything on are left out.
    The readings are called by the class of the link, with the labels of the partitions around it in
    front: `muon/scale_by_momentum/global_norm`. In a `named_chain` a link has its own name. If a name
    occurs again, the second one ends with `_2`. The first tap is called `gradients` and the last one
    `updates`.

    `gradtx.readings(state)` returns all readings. The updates are the same as those of `inner`. What it
    costs stands in the benchmark `step_with_observe`.

    Args:
        inner: the optimizer $f$.
        measure: what every tap records: a measure, or several measures.
        active: whether the taps record. With False they have no state, and the compiled step is the
            same as that of `inner`.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device records a reading of what it holds.

    The state is `ObserveState(taps, inner_state)`, where `inner_state` is the state of `inner`.

    Raises:
        TypeError: if `inner` is not a transformation, or if `measure` holds something that is not a
            `Measure`.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.observe(gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.sgd(0.5)))
    >>> g = jnp.array([3.0, 4.0])
    >>> _, state = tx.update(g, tx.init(g))
    >>> for name, x in gradtx.readings(state).items():
    ...     print(f"{name:40} {x:.2f}")
    gradients/global_norm                    5.00
    clip_by_global_norm/global_norm          1.00
    scale_by_learning_rate/global_norm       0.50
    updates/global_norm                      0.50
    learning_rate                            0.50
    """

    measure: Measure | tuple[Measure, ...] = norm()
    active: bool = True
    axis_name: Hashable | None = None
    linear = as_inner
    keeps_updates = True

    def __post_init__(self) -> None:
        measures_of(self)  # before numbers are looked for in the field
        super().__post_init__()

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if not self.active:
            stream, state = low.lower(self.inner, stream)
            return stream, ObserveState((), state)
        taps = _Taps(self, low)
        taps.add("gradients", stream)
        above = low.visit
        low.visit = _Watch(None, stream, [], taps=taps, above=above)
        stream, state = low.lower(self.inner, stream)
        if above is not None and not above.watches:
            above.inside += low.visit.inside
        low.visit = above
        taps.add("updates", stream)
        return stream, ObserveState(tuple(taps.states), state)

    def inner_at(self, state: Any) -> Transform:
        """`inner`, whose state is the field `inner_state` of the state of this transformation.

        Args:
            state: a state that `init` or `update` returned.
        """
        return self.inner

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


class _Taps:
    """The taps of one `observe`, in the order in which they are added."""

    def __init__(self, tx: observe, low: Lowering) -> None:
        self.tx, self.low = tx, low
        self.states: list[Any] = []
        self.names = Counter[str]()

    def add(self, name: str, stream: Stream) -> None:
        self.names[name] += 1
        name += f"_{self.names[name]}" if self.names[name] > 1 else ""
        probe = Probe(self.low, stream, name, measures_of(self.tx), self.tx.axis_name)
        self.low.probes.append(probe)
        self.states.append(probe.state)


class _Watch(Visit):
    """A visit that adds a tap behind every link of a chain.

    Args:
        taps: where the taps are added.
        labels: the labels of the partitions around the transformation.
        link: the name of the transformation as a link of a chain, or an empty string.
        above: the record of what is lowered outside of `observe`, or None.
    """

    def __init__(
        self,
        tx: Any,
        stream: Stream,
        inside: list[Visit],
        *,
        taps: _Taps,
        labels: tuple[str, ...] = (),
        link: str = "",
        above: Visit | None = None,
    ) -> None:
        super().__init__(tx, stream, inside)
        self.taps, self.labels, self.link = taps, labels, link
        self.above = above if above is not None and above.watches else None

    def below(self, tx: Any, stream: Stream) -> Visit:
        above = self.above.below(tx, stream) if self.above else None
        if isinstance(self.tx, fanout):
            self.inside.append(Visit(tx, stream, []) if above is None else above)
            return self.inside[-1]
        labels, link, place = self.labels, "", len(self.inside)
        match self.tx:
            case partition():
                labels = (*labels, str(list(self.tx.transforms)[place]))
            case named_chain():
                link = self.tx.names[place]
            case chain():
                link = type(tx).__name__
            case _:
                pass
        inner = _Watch(tx, stream, [], taps=self.taps, labels=labels, link=link, above=above)
        self.inside.append(inner)
        return self.inside[-1]

    def left(self, low: Lowering, stream: Stream) -> None:
        if self.above is not None:
            self.above.left(low, stream)
        # Behind a recipe that is a chain stands the tap of its last link.
        if self.link and not _is_chain(self) and not isinstance(self.tx, identity | tap):
            self.taps.add("/".join((*self.labels, self.link)), stream)


def _is_chain(visit: Visit) -> bool:
    """Whether a visited transformation is a chain, or a recipe for one."""
    if isinstance(visit.tx, Recipe):
        return any(map(_is_chain, visit.inside))
    return isinstance(visit.tx, chain | named_chain)
