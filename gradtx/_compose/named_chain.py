"""`named_chain`, a chain whose state is a dictionary with the names of the links."""

from collections.abc import Sequence
from typing import Any

import optax

from gradtx._compose.iterates import check_links
from gradtx._core.authors import described
from gradtx._core.foreign import Inside, as_transform
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform


class named_chain(Transform):
    """Serial composition of links with names, whose state is a dictionary with the same names.

    $$ u = f_n(\\dots f_2(f_1(g))) $$

    The updates are the updates of `chain(f_1, ..., f_n)`. Only the state differs: a dictionary that maps
    each name to the state of its link, so that `gradtx.get(state, "clip")` finds the state of one link.

    Args:
        names: the names of the links. The constructor takes each link as a pair of its name and its
            transformation: `named_chain(("a", tx_a), ("b", tx_b))`.
        links: the transformations $f_1, \\dots, f_n$ of gradtx or of Optax.

    Raises:
        TypeError: if an argument is not a pair of a string and a transformation, or if a link changes
            the updates of a link before it that averages the parameters.
        ValueError: if two links have the same name.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.named_chain(("clip", gradtx.clip(1.0)), ("rate", gradtx.scale(-0.1)))
    >>> tx.update(jnp.array([0.5, 3.0]), tx.init(jnp.zeros(2)))[0]
    Array([-0.05, -0.1 ], dtype=float32)
    """

    names: tuple[str, ...]
    links: tuple[Inside, ...]

    def __init__(
        self,
        *args: tuple[str, optax.GradientTransformation],
        names: Sequence[str] = (),
        links: Sequence[optax.GradientTransformation] = (),
    ) -> None:
        # `dataclasses.replace` passes the fields by their names.
        for name, given in (("names", names), ("links", links)):
            if not isinstance(given, Sequence) or isinstance(given, str):
                raise TypeError(
                    f"`named_chain({name}=...)` must be a list, not {described(given)}."
                )
        if len(names) != len(links):
            raise ValueError(
                f"`named_chain(names=..., links=...)` got {len(names)} names and {len(links)} links; "
                "write `named_chain((name, link), ...)`."
            )
        args = args or tuple(zip(names, links, strict=True))
        for link in args:
            if type(link) is not tuple or len(link) != 2 or not isinstance(link[0], str):
                raise TypeError(
                    "`named_chain` takes each link as a pair of a name and a transformation, such as "
                    f'`named_chain(("clip", clip(1.0)), ("adam", adam(1e-3)))`, not {described(link)}.'
                )
        names = tuple([name for name, _ in args])
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"`named_chain(...)` has two links named {twice[0]!r}.")
        made = [as_transform(tx, f"named_chain(({name!r}, ...))") for name, tx in args]
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "links", tuple(made))
        self.__post_init__()

    def validate(self) -> None:
        check_links(self.links)

    def __repr__(self) -> str:
        return f"named_chain({', '.join(map(repr, zip(self.names, self.links, strict=True)))})"

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        states = {}
        for name, link in zip(self.names, self.links, strict=True):
            stream, states[name] = low.lower(link, stream)
        return stream, states

    def tex(self, g: Tex, page: Page) -> Tex:
        for link in self.links:
            g = link.tex(g, page)
        return g
