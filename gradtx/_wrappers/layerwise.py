"""`layerwise`: learning rates that fall from the output to the input of a network."""

import re
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.patterns import EMBEDDING, found, has_pattern, unmatched
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.authors import described
from gradtx._core.dtypes import real_dtype
from gradtx._core.latex import Page, Tex, times
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.trees import is_none
from gradtx._core.unit import Elementwise
from gradtx._core.values import Fixed
from gradtx._wrappers.factors import multiplied

# `layers/3`, `blocks.3`, `block_3`, `encoderblock_3`, `h3_attn`, and any other item of a list.
_LAYER = r"(?:^|[/.])(?:(?:[a-z_]*(?:layers?|blocks?|stages?)|h)_?)?(\d+)(?=[/._]|$)"


class layerwise(Wrapper):
    r"""The updates of each layer are multiplied by a factor, which falls from the output to the input.

    $$ u = \gamma^{d_{above}}\, f(g) $$

    where $d_{above}$ says how far a leaf lies below the output. Of $N$ layers, it is 1 for the last and
    $N$ for the first. It is $N + 1$ for the embeddings, and 0 for everything else, such as the head and
    the last norm. If $f$ ends with the learning rate, this multiplies the learning rate, and with it the
    decoupled weight decay.

    The depth is read from the path. The first number in the path is that of the layer: `layers/3/...`,
    `block_3/...`, `h.3....`. Leaves without a number are embeddings if their name says so, such as
    `patch_embed/kernel`. Layers that are stacked along the first axis of their leaves, as `nnx.vmap` and
    `nn.scan` make them, have no number: name them in `stacked`.

    Args:
        inner: the transformation $f$, such as `adamw(1e-3)`.
        decay: $\gamma$, in (0, 1].
        stacked: the pattern of leaves whose first axis is the layers, such as "layers". None means that
            no layers are stacked.
        layers: the pattern of numbered layers, whose first group is the number. The smallest number in
            the tree is that of the first layer. None means the names above.
        embedding: the pattern of embeddings. None means typical names, those of `hidden_matrices`.

    The patterns are regular expressions that are searched in the path, where upper and lower case are
    the same. The state is the state of `inner`.

    Raises:
        ValueError: if `decay` lies outside its interval, or if a pattern is not a regular expression;
            and by `init`, if no path holds the number of a layer, or if `stacked` matches no leaf.
        TypeError: if `inner` is not a transformation, or if `decay` is a schedule.

    Sources: Clark et al., 2020, arXiv:2003.10555 (ELECTRA); Bao et al., 2021, arXiv:2106.08254 (BEiT),
    whose depths these are.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"embed": jnp.ones(1), "layers": [jnp.ones(1), jnp.ones(1)], "head": jnp.ones(1)}
    >>> tx = gradtx.layerwise(gradtx.sgd(1.0), 0.5)
    >>> updates, _ = tx.update(params, tx.init(params))
    >>> [float(updates["embed"][0]), *(float(x[0]) for x in updates["layers"])]
    [-0.125, -0.25, -0.5]
    """

    decay: Fixed = 0.75
    stacked: str | None = None
    layers: str | None = None
    embedding: str | None = None
    limits = {"decay": "(0, 1]"}
    linear = as_inner
    keeps_zero = True

    def validate(self) -> None:
        if callable(self.decay):
            raise TypeError(
                "`layerwise(decay=...)` must be a number or an array, and not a schedule."
            )
        for name in ("stacked", "layers", "embedding"):
            pattern = getattr(self, name)
            if pattern is None:
                continue
            try:
                groups = re.compile(pattern).groups
            except (re.error, TypeError) as error:
                raise ValueError(
                    f"`layerwise({name}=...)` must be a regular expression, not {described(pattern)} "
                    f"({error})."
                ) from None
            if name == "layers" and not groups:
                raise ValueError(
                    f"`layerwise(layers={pattern!r})` must have a group that matches the number of the "
                    r"layer, as in 'Dense_(\d+)'."
                )

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        stream, state = low.lower(self.inner, stream)
        question = "powers", self.stacked, self.layers, self.embedding
        powers = low.once(question, lambda: self._powers(low.paths, low.leaves))
        factors = {power: _by_depth(self.decay, power) if power else 1.0 for power in powers}
        return multiplied(low, stream, [factors[power] for power in powers]), state

    def _powers(self, paths: list[str], leaves: list[Any]) -> list[Any]:
        """For every leaf the power of `decay`, or a tuple with the power of each stacked layer."""
        if all(map(is_none, leaves)):
            return [0] * len(leaves)
        if self.stacked is not None and not has_pattern(self.stacked, paths):
            raise unmatched("layerwise(stacked=...)", self.stacked, paths, "leave it out")
        stacked = [
            self.stacked is not None and leaf is not None and found(self.stacked, path)
            for path, leaf in zip(paths, leaves, strict=True)
        ]
        hits = [re.search(self.layers or _LAYER, path, re.IGNORECASE) for path in paths]
        numbers = [
            int(hit.group(1)) if hit and not own else None
            for hit, own in zip(hits, stacked, strict=True)
        ]
        known = [n for n in numbers if n is not None]
        lengths = [x.shape[0] for x, own in zip(leaves, stacked, strict=True) if own and x.shape]
        if not known and self.stacked is None:
            raise ValueError(
                f"`layerwise` found the number of a layer in none of the paths, such as "
                f"`{paths[len(paths) // 2]}`. Say how layers are numbered, such as "
                r"`layers='Dense_(\d+)'`, or which leaves are stacked layers, such as "
                "`stacked='layers'`."
            )
        first = min(known, default=0)
        top = max([n - first + 1 for n in known] + lengths, default=0) + 1
        powers: list[Any] = []
        for path, leaf, n, own in zip(paths, leaves, numbers, stacked, strict=True):
            if own and leaf.shape:
                powers.append(tuple(top - 1 - i for i in range(leaf.shape[0])))
            elif n is not None:
                powers.append(top - 1 - (n - first))
            else:
                powers.append(top if found(self.embedding or EMBEDDING, path) else 0)
        return powers

    def tex(self, g: Tex, page: Page) -> Tex:
        base = page.number(self.decay, r"\gamma").within(2)
        page.notes["N"] = r"\text{: the number of layers}"
        page.notes["d"] = r"\text{: the depth of a leaf, which is 0 for embeddings}"
        return times(Tex(f"{base}^{{N + 1 - d}}"), self.inner.tex(g, page))


class _by_depth(Elementwise):
    """The update is multiplied by a power of `decay`, or slice by slice by several powers."""

    decay: Fixed
    power: Any
    linear = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        if not isinstance(self.power, tuple):
            return self.decay**self.power * update, state
        dtype = real_dtype(update.dtype)
        powers = jnp.asarray(self.power, dtype).reshape(-1, *[1] * (update.ndim - 1))
        return jnp.asarray(self.decay).astype(dtype) ** powers * update, state
