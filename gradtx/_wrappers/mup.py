"""`mup`: learning rates that stay right when the width of a network changes.

In a wide network each output of a matrix sums over more inputs. Under Adam every entry of a matrix moves
equally far, so its outputs move further the wider the network is. The maximal update parametrization
divides the learning rates of matrices by the growth of their inputs, so that the rates that are best for
a narrow network are best for a wide one, too.
"""

import math
import operator
from collections.abc import Mapping
from typing import Any, Literal

import jax

from gradtx._compose.patterns import EMBEDDING, VECTOR, found
from gradtx._compose.recipe import Recipe
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.authors import described
from gradtx._core.latex import Page, Tex, fraction, times
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, leaf_items
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import SHAPE_FACTORS, scale_by_shape
from gradtx._matrices.rows import scale_to_rms
from gradtx._matrices.shards import whole_leaf
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._wrappers.factors import multiplied


class mup(Wrapper):
    r"""The learning rates of an optimizer that was tuned on a narrow network, carried to a wide one.

    $$ u = s\, f(g) $$

    where the factor $s$ depends on the shape of the leaf and on its shape in the narrow network, the
    base. $n$ and $m$ are the growth of the numbers of inputs and outputs, from the base to this network:

    - Matrices under `"adam"`, which stands for every optimizer whose step does not depend on the size of
      the gradient, have $s = 1/n$. Vectors and embeddings have $s = 1$.
    - Matrices under `"sgd"` have $s = m/n$. Vectors and embeddings have $s = m$.
    - Matrices whose step is orthogonal, as in `muon`, have the $s$ with which the spectral norm of the
      step grows like $\sqrt{m/n}$. For $m = n$ this is 1 if `scaling` is "spectral" or "original", and
      $1/\sqrt{n}$ if `scaling` is "match_rms".

    The product of learning rate and weight decay stays the same, since the decay inside $f$ is divided
    by $s$. What else the parametrization asks for belongs to the model: the variance of hidden matrices
    at the start is $1/n$ of the base's, that of the output head is $1/n^2$ of the base's or 0, and
    attention divides the logits by the size of a head and not by its root.

    Args:
        inner: the optimizer $f$, such as `adamw(1e-3)` or `muon(2e-3)`, with the learning rate that is
            best for the base.
        base: the parameters of the base or their `jax.ShapeDtypeStruct`s, as a tree with the paths of
            the parameters: `mup(tx, jax.eval_shape(lambda: make_params(width=64)))`. The value keeps a
            mapping from paths to shapes, which may also be given.
        method: whether $f$ is like Adam or like SGD.
        output_multiplier: whether the model itself multiplies the output of the head by $1/n$, as in
            table 8 of the paper. Then the head, the matrix whose inputs grow and whose outputs do not,
            has $s = 1$ under `"adam"` and $s = n$ under `"sgd"`.
        axes: the rule that says which axes of a leaf are its inputs and outputs (`hidden_matrices`).

    If no axis has grown, the updates are bitwise those of `inner`. The state is the state of `inner`.

    Raises:
        ValueError: if `method` is unknown; and by `init`, if a parameter is not in `base`, or if it has
            another number of axes there.
        TypeError: if `inner` is not a transformation, if `base` has no arrays, or if `axes` is not a
            rule for matrices.

    Sources: Yang et al., 2022, arXiv:2203.03466, tables 3 and 8; Yang, Simon & Bernstein, 2023,
    arXiv:2310.17813 (the spectral condition).

    >>> import gradtx, jax.numpy as jnp
    >>> narrow, wide = ({"w": jnp.ones((n, n)), "b": jnp.ones(n)} for n in (2, 8))
    >>> tx = gradtx.mup(gradtx.adam(0.1), narrow)
    >>> updates, _ = tx.update(wide, tx.init(wide), wide)
    >>> round(float(updates["w"][0, 0]), 4), round(float(updates["b"][0]), 4)
    (-0.025, -0.1)
    """

    base: Any
    method: Literal["adam", "sgd"] = "adam"
    output_multiplier: bool = False
    axes: MatrixRule = hidden_matrices()
    linear = as_inner
    keeps_zero = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", _shapes(self.base))
        super().__post_init__()

    def validate(self) -> None:
        if self.method not in ("adam", "sgd"):
            raise ValueError(f"`mup(method={self.method!r})` must be 'adam' or 'sgd'.")

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        factors = [
            1.0 if x is None else self.factor(path, x)
            for path, x in zip(low.paths, low.leaves, strict=True)
        ]
        stream, state = low.lower(_adapted(self.inner, self, factors, low), stream)
        return multiplied(low, stream, factors), state

    def factor(self, path: str, leaf: Any) -> float:
        """The factor $s$ of a leaf whose step is not orthogonal.

        Args:
            path: the path of the leaf.
            leaf: the parameter, or whatever else has its shape.

        Raises:
            ValueError: if the leaf is not in `base`, or has another number of axes there.
        """
        (inputs, outputs), (more_inputs, more_outputs) = self.sizes(path, leaf, self.axes)
        n, m = more_inputs / inputs, more_outputs / outputs
        if self.output_multiplier and m == 1 and n != 1:
            return n if self.method == "sgd" else 1.0
        return m / n if self.method == "sgd" else 1 / n

    def sizes(self, path: str, leaf: Any, axes: MatrixRule) -> tuple[tuple[int, int], ...]:
        """The numbers of inputs and outputs of a leaf, in the base and now.

        Args:
            path: the path of the leaf.
            leaf: the parameter, or whatever else has its shape.
            axes: the rule that says which axes are inputs and outputs.

        Raises:
            ValueError: if the leaf is not in `base`, or has another number of axes there.
        """
        # Inside `shard_map` the factor is that of the whole leaf, if the rule knows how it is sharded.
        axes, leaf = whole_leaf(axes, path, leaf)
        old, new = self.base.get(path), tuple(leaf.shape)
        if old is None or len(old) != len(new):
            problem = "is not in `base`" if old is None else f"has the shape {old} in `base`"
            raise ValueError(
                f"`mup`: the leaf `{path or '.'}` of shape {new} {problem}. Make `base` by the function "
                "that makes the parameters, with another width."
            )
        if len(old) < 2 or 0 in old + new or found(VECTOR, path) or found(EMBEDDING, path):
            # All entries count as outputs: of an embedding, the width is one axis alone.
            return tuple((1, math.prod(shape) or 1) for shape in (old, new))
        shapes = [jax.ShapeDtypeStruct(shape, leaf.dtype) for shape in (old, new)]
        return tuple(axes.axes(path, x).size(x.shape) for x in shapes)

    def tex(self, g: Tex, page: Page) -> Tex:
        page.notes["s"] = r"\text{: the factor of a leaf, by its width}"
        base, now = (Tex(rf"d_{{\mathrm{{{name}}}}}") for name in ("in,\\ base", "in"))
        return times(fraction(base, now), self.inner.tex(g, page))


def _adapted(tx: Any, owner: mup, factors: list[float], low: Lowering) -> Any:
    """`tx` with every part that must not be multiplied by `factors` divided by them.

    `owner` multiplies the updates of `tx` by `factors`. A decay is not to change. The scale of an
    orthogonal step is to change by another factor.
    """
    inverse = [1 / f for f in factors]
    if isinstance(tx, decoupled_weight_decay):
        return _around(tx, tuple(factors), tuple(inverse))
    if isinstance(tx, scale_by_shape | scale_to_rms):
        pairs = zip(low.paths, low.leaves, inverse, strict=True)
        after = (
            1.0 if x is None else _of_orthogonal(tx, owner, path, x) * f for path, x, f in pairs
        )
        return _around(tx, (1.0,) * len(factors), tuple(after))
    if isinstance(tx, Recipe):
        inside = _adapted(tx.children[0], owner, factors, low)
        if inside is tx.children[0]:
            return tx
        new = tx._with()
        new.__dict__["children"] = (inside,)  # the recipe goes on to name the state
        return new
    changes = {}
    for name in tx._transforms:
        value = getattr(tx, name)
        new = jax.tree.map(
            lambda x: _adapted(x, owner, factors, low) if isinstance(x, Transform) else x,
            value,
            is_leaf=lambda x: isinstance(x, Transform),
        )
        if any(map(operator.is_not, *map(_parts, (new, value)))):
            changes[name] = new
    return tx._with(**changes) if changes else tx


def _parts(value: Any) -> list[Any]:
    return jax.tree.leaves(value, is_leaf=lambda x: isinstance(x, Transform))


def _of_orthogonal(tx: Any, owner: mup, path: str, leaf: Any) -> float:
    """The factor that makes the spectral norm of an orthogonal step grow like the root of out / in."""
    mode = getattr(tx, "mode", "match_rms")  # `scale_to_rms` gives an orthogonal step the same size
    if mode in ("per_input", "symmetric") or len(leaf.shape) < 2:
        return 1.0  # a step of signs, whose factor falls with the width already
    excess = [
        math.sqrt(outputs / inputs) / SHAPE_FACTORS[mode](inputs, outputs)
        for inputs, outputs in owner.sizes(path, leaf, tx.axes)
    ]
    return excess[1] / excess[0]


class _around(Wrapper):
    """`inner`, with the updates of each leaf multiplied by numbers before and after it."""

    before: tuple[Any, ...]
    after: tuple[Any, ...]
    linear = as_inner

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if low.visit is not None:
            low.visit.tx = self.inner  # `summarize` shows what the user wrote
        stream, state = self.inner.lower(low, multiplied(low, stream, list(self.before)))
        return multiplied(low, stream, list(self.after)), state


def _shapes(base: PyTree) -> Mapping[str, tuple[int, ...]]:
    if isinstance(base, Mapping) and all(map(_is_shape, base.values())):
        return {path: tuple(shape) for path, shape in base.items()}
    shapes = {path: tuple(x.shape) for path, x in leaf_items(base) if hasattr(x, "shape")}
    if not shapes:
        raise TypeError(
            "`mup(base=...)` must be a tree of arrays or of `jax.ShapeDtypeStruct`s, not "
            f"{described(base)}."
        )
    return shapes


def _is_shape(x: Any) -> bool:
    return type(x) in (tuple, list) and all(type(n) is int for n in x)
