"""QK-clip, which keeps attention logits small by shrinking the query and key weights."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import compute_dtype
from gradtx._core.latex import THETA, Page, Tex, fraction, plus
from gradtx._core.shapes import Leaf
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten, paths
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.shards import refuse_part

Heads = Annotated[jax.Array, "heads"]


class qk_clip(Transform):
    r"""The query and key weights of heads with large logits are shrunk after the step.

    $$ \gamma_h = \min(1, \tau / S_h), \qquad u = \sqrt{\gamma_h}\, (\theta + g) - \theta $$

    $S_h$ is the largest logit of head $h$ in the forward pass. This transformation must be the last in a
    chain, so that $g$ is the step about to be taken. It takes the logits as an extra argument of
    `update`, `max_logits={"layers/0/attention": logits}`, which maps the path of each attention module
    to an array with one number per head. The updates of all other leaves pass through, and so do those
    of a module that is not in `max_logits`.

    Args:
        threshold: $\tau > 0$, a number, a schedule, or an array under `vmap`.
        names: the pattern of the weights to shrink, which is searched in the path of every leaf, where
            upper and lower case are the same. A match starts at the beginning of the path or after a
            slash, and what comes before the match is the path of the attention module.
        axes: the rule that says which axes of a leaf are the outputs.

    Raises:
        ValueError: if `update` is called without the parameters or without `max_logits`, if `max_logits`
            has the path of a module without such weights, if the number of heads does not divide the
            number of outputs, if `threshold` is not positive, or if `names` is not a regular expression.

    Source: Kimi Team, 2025, arXiv:2507.20534, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.qk_clip(100.0), {"attention": {"query": {"kernel": jnp.ones((1, 2))}}}
    >>> still = {"attention": {"query": {"kernel": jnp.zeros((1, 2))}}}
    >>> logits = {"attention": jnp.array([50.0, 400.0])}  # two heads of one output each
    >>> tx.update(still, tx.init(w), w, max_logits=logits)[0]["attention"]["query"]["kernel"]
    Array([[ 0. , -0.5]], dtype=float32)
    """

    threshold: Hyper = 100.0
    names: str = r"(query|key|q|k)(_?proj)?/\w+$"
    axes: MatrixRule = hidden_matrices()
    limits = {"threshold": "(0, inf)"}
    linear = True  # it takes gradients of any size

    def validate(self) -> None:
        try:
            re.compile(self.names)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"`qk_clip(names={self.names!r})` must be a regular expression ({error})."
            ) from None

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        if not isinstance(extra.get("max_logits"), Mapping):
            raise ValueError(
                "`qk_clip` needs the largest logit of every head. Call `update(updates, state, params, "
                "max_logits={'layers/0/attention': logits})`."
            )
        if params is None:
            raise ValueError(
                "`qk_clip` needs the parameters. Call `update(updates, state, params, max_logits=...)`."
            )
        leaves, structure = flatten(updates)
        owners = structure.flatten_up_to(params)
        modules = [self._module(path) for path in paths(updates)]
        for given in extra["max_logits"]:
            if given not in modules:
                known = sorted({repr(x) for x in modules if x is not None})
                raise ValueError(
                    f"`qk_clip`: `max_logits` has the path {given!r}, but `names` matches no weight of "
                    f"such a module. It matches weights of {', '.join(known) or 'no module'}."
                )
        for i, (path, module) in enumerate(zip(paths(updates), modules, strict=True)):
            logits = None if module is None else extra["max_logits"].get(module)
            if leaves[i] is not None and logits is not None:
                leaves[i] = self._clipped(path, leaves[i], owners[i], jnp.asarray(logits))
        return structure.unflatten(leaves), state

    def tex(self, g: Tex, page: Page) -> Tex:
        page.notes["S_t"] = r"\text{: the largest logit of the head of an entry}"
        limit = fraction(page.number(self.threshold, r"\tau"), Tex("S_t"))
        gain = page.define(r"\gamma", lambda _: Tex(rf"\min\left(1, {limit.text}\right)"))
        moved = plus(THETA, g)
        return Tex(rf"\sqrt{{{gain.text}}}\, \left({moved.text}\right) - {THETA.text}", 0)

    def _module(self, path: str) -> str | None:
        """The path of the attention module whose query or key this leaf is; None for other leaves."""
        match = re.search(rf"(^|/)(?:{self.names})", path, re.IGNORECASE)
        return match and path[: match.start()]

    def _clipped(self, path: str, u: Leaf, p: Leaf, logits: Heads) -> Leaf:
        try:
            refuse_part(self.axes, path, p)
        except ValueError as error:
            raise ValueError(f"`qk_clip`: {error}") from None
        dtype = compute_dtype(u, p)
        u, p = u.astype(dtype), p.astype(dtype)
        factor = jnp.sqrt(jnp.asarray(self.threshold, dtype) / logits.astype(dtype))
        factor = jnp.where(logits > self.threshold, factor, jnp.ones((), dtype))
        if p.ndim < 2:  # the bias of a projection, whose entries are all outputs
            return self._scaled(path, u, p, factor, (0,))
        return self._scaled(path, u, p, factor, self.axes.axes(path, p).outputs)

    def _scaled(self, path: str, u: Leaf, p: Leaf, factor: Heads, outputs: tuple[int, ...]) -> Leaf:
        shape = [p.shape[axis] for axis in outputs]
        size = math.prod(shape)
        if size % len(factor):
            raise ValueError(
                f"`qk_clip`: `max_logits` has {len(factor)} heads for `{path}`, whose outputs have the "
                f"shape {shape}. The number of heads must divide the number of outputs."
            )
        wide = [p.shape[axis] if axis in outputs else 1 for axis in range(p.ndim)]
        each = jnp.repeat(factor, size // len(factor), total_repeat_length=size).reshape(wide)
        each = jnp.broadcast_to(each, p.shape)
        return jnp.where(each == 1, u, each * (p + u) - p)
