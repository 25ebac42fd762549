"""Norms of matrices and of their rows: what the variants of Muon put before and after it.

A row is what belongs to one output (a neuron's incoming weights), a matrix what `axes` says; stacked
layers are apart. With `orthogonalize_newton_schulz` these make

    MuonEq    momentum, equilibrate_rows, orthogonalize
    NorMuon   momentum, orthogonalize, keep_norm(scale_by_neuron_rms)
    AdaMuon   momentum, sign, orthogonalize, identity / (root(second_moment) + eps), scale_to_rms
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import compute_dtype, like
from gradtx._core.foreign import as_transform
from gradtx._core.numerics import abs_square, bounded, sqrt
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixAxes, hidden_matrices
from gradtx._matrices.groups import replicated
from gradtx._matrices.orthogonalize import matrix_axes
from gradtx._transforms.moments import average


def _rescaled(x: jax.Array, target: Any, axis: tuple[int, ...] = (-2, -1)) -> jax.Array:
    """`x` with this norm over `axis`; zeros stay. By the largest entry first: nothing overflows."""
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=0)
    unit = x / jnp.where(largest == 0, 1, largest).astype(x.dtype)
    size = sqrt(jnp.sum(jnp.square(jnp.abs(unit)), axis=axis, keepdims=True))
    return unit * (target / jnp.where(size == 0, 1, size)).astype(x.dtype)


def _norm(x: jax.Array) -> jax.Array:
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True, initial=0)
    unit = jnp.abs(x) / jnp.where(largest == 0, 1, largest)
    return largest * sqrt(jnp.sum(jnp.square(unit), axis=(-2, -1), keepdims=True))


def map_matrices(f: Callable[..., Any], rule: Any, tree: PyTree, *rest: PyTree) -> PyTree:
    """`f` of the matrices `[batch, inputs, outputs]` of every leaf, and of the leaf's of `rest`."""
    leaves, structure = flatten(tree)
    others = [structure.flatten_up_to(r) for r in rest]
    for i, axes in enumerate(matrix_axes(rule, tree)):
        if axes is not None:
            leaves[i] = _mapped(f, axes, leaves[i], *(other[i] for other in others))
    return structure.unflatten(leaves)


def _mapped(f: Callable[..., Any], axes: MatrixAxes, x: jax.Array, *rest: jax.Array) -> jax.Array:
    dtype = compute_dtype(x, *rest)
    x, back = replicated(x.astype(dtype))
    others = (axes.split(replicated(r.astype(dtype))[0]) for r in rest)
    return back(axes.join(f(axes.split(x), *others), x.shape))


class equilibrate_rows(Transform):
    r"""Every row brought to norm one: $u_i = g_i / \|g_i\|$, zero rows stay zero.

    Args:
        axes: the rule that says which axes are the matrix; by default `hidden_matrices()`.

    What follows does not see a common scale, so this is the row equilibration of MuonEq. Raises
    `ValueError` for a leaf with fewer than two axes. Source: Chang et al., 2026, arXiv:2603.28254.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.equilibrate_rows()  # a row is what goes into one output: here a column
    >>> tx.update(jnp.array([[3.0, 0.0], [4.0, 0.5]]), ())[0]
    Array([[0.6, 0. ],
           [0.8, 1. ]], dtype=float32)
    """

    axes: Any = hidden_matrices()

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        return map_matrices(lambda x: _rescaled(x, 1.0, axis=(-2,)), self.axes, updates), state


class scale_to_rms(Transform):
    r"""Every matrix brought to one root mean square: $u = r \sqrt{mn}\, g / \|g\|_F$, zeros stay zero.

    Args:
        rms: $r \ge 0$.
        axes: the rule that says which axes are the matrix; by default `hidden_matrices()`.

    Raises `ValueError` for a negative `rms`, or a leaf with fewer than two axes. Source: Si, Zhang &
    Shen, 2025, arXiv:2507.11005.
    """

    rms: Hyper = 0.2
    axes: Any = hidden_matrices()
    limits = {"rms": "[0, inf)"}

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        def scaled(x: jax.Array) -> jax.Array:
            root = (x.shape[-2] * x.shape[-1]) ** 0.5
            return _rescaled(x, jnp.asarray(self.rms, jnp.finfo(x.dtype).dtype) * root)

        return map_matrices(scaled, self.axes, updates), state


class keep_norm(Transform):
    r"""Another transformation, with every matrix brought back to the norm that it came with.

    $$ u = f(g)\, \|g\|_F / \|f(g)\|_F $$

    Args:
        inner: $f$.
        axes: the rule that says which axes are the matrix; by default `hidden_matrices()`.

    Zeros stay zero. Raises `TypeError` if `inner` is no transformation, `ValueError` for a leaf with
    fewer than two axes. Source: Li et al., 2025, arXiv:2510.05491 (NorMuon).
    """

    inner: Transform
    axes: Any = hidden_matrices()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", as_transform(self.inner, "keep_norm(inner)"))
        super().__post_init__()

    @property
    def needs_params(self) -> bool:  # pyright: ignore
        return self.inner.needs_params

    def init_tree(self, params: PyTree) -> Any:
        return self.inner.init_tree(params)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        new, state = self.inner.update_tree(updates, state, params, extra)
        return map_matrices(lambda x, g: _rescaled(x, _norm(g)), self.axes, new, updates), state


class ScaleByNeuronRmsState(NamedTuple):
    """The average of the mean square of every row, `[batch, 1, outputs]`, one number a neuron."""

    nu: Any


class scale_by_neuron_rms(Transform):
    r"""Every row divided by its own root mean square over time.

    $$ v_t = b\, v_{t-1} + (1 - b) \operatorname{mean}_j g_{ij}^2, \qquad
       u_{ij} = g_{ij} / (\sqrt{v_{t,i}} + \epsilon) $$

    Args:
        decay: $b$, in [0, 1).
        eps: $\epsilon \ge 0$.
        axes: the rule that says which axes are the matrix; by default `hidden_matrices()`.

    One number of state a neuron. Raises `ValueError` for a number outside its interval, or a leaf with
    fewer than two axes. Source: Li et al., 2025, arXiv:2510.05491 (NorMuon).
    """

    decay: Hyper = 0.95
    eps: Hyper = 1e-10
    axes: Any = hidden_matrices()
    limits = {"decay": "[0, 1)", "eps": "[0, inf)"}

    def init_tree(self, params: PyTree) -> ScaleByNeuronRmsState:
        leaves, structure = flatten(params)
        sizes = zip(leaves, matrix_axes(self.axes, params), strict=True)
        return ScaleByNeuronRmsState(
            structure.unflatten([None if axes is None else _zeros(x, axes) for x, axes in sizes])
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        leaves, structure = flatten(updates)
        nus = structure.flatten_up_to(state.nu)
        for i, axes in enumerate(matrix_axes(self.axes, updates)):
            if axes is not None:
                x, back = replicated(leaves[i].astype(compute_dtype(leaves[i])))
                rows, nus[i] = self._divided(axes.split(x), nus[i])
                leaves[i] = back(axes.join(rows, x.shape))
        return structure.unflatten(leaves), ScaleByNeuronRmsState(structure.unflatten(nus))

    def _divided(self, x: jax.Array, nu: jax.Array) -> tuple[jax.Array, jax.Array]:
        real = jnp.finfo(x.dtype).dtype
        decay, eps = (jnp.asarray(h, real) for h in (self.decay, self.eps))
        x = bounded(x)
        square = jnp.sum(abs_square(x) / max(x.shape[-2], 1), -2, keepdims=True)
        new = average(nu.astype(real), square, decay)
        root = sqrt(new) + eps
        return x / jnp.where(root == 0, 1, root).astype(x.dtype), like(new, nu)


def _zeros(x: Any, axes: MatrixAxes) -> jax.Array:
    _, outputs = axes.size(x.shape)
    return jnp.zeros((axes.batch(x.shape), 1, outputs), jnp.finfo(compute_dtype(x)).dtype)
