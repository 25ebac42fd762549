"""Muon, which orthogonalizes the momentum of hidden matrices; its variants are in `muon_variants.py`.

All other leaves (vectors, embeddings, heads) go to an auxiliary optimizer, by default AdamW.
"""

from typing import Any, Literal

import optax
from jax.typing import DTypeLike

from gradtx._compose.chain import chain
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import ShapeFactor, orthogonalize_newton_schulz, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._matrices.products import scale_by_dual_norm
from gradtx._matrices.rows import equilibrate_rows
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.optax_arguments import MUON
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.clip import clip
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale_by_learning_rate
from gradtx._wrappers.cautious import cautious


def group_names_of(recipe: Any) -> dict[str, str]:
    """The names to show for the two groups of a recipe: its own, and that of the other optimizer."""
    others = "adamw" if recipe.auxiliary is None else type(recipe.auxiliary).__name__
    return {"muon": type(recipe).__name__, "adamw": others}


class muon(Recipe):
    r"""Muon orthogonalizes the momentum of hidden matrices, and trains all other leaves with AdamW.

    $$ u = -\eta\, (s\, \mathrm{NS}(m) + \lambda\, \theta) $$

    for a hidden matrix with the momentum $m$. The Newton-Schulz iteration $\mathrm{NS}$ moves the
    singular values of $m$ to one.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, an average of the gradients, in [0, 1).
        weight_decay: the rate of decay $\lambda \ge 0$.
        nesterov: whether the momentum looks one step ahead (`scale_by_momentum`).
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        form: how $\mathrm{NS}$ is computed: "standard", "gram", or "auto" for the cheaper of the two.
        scaling: the rule for the factor $s$ (`scale_by_shape`). With the default, "match_rms", the
            learning rate and the weight decay of AdamW can be used unchanged.
        equilibrate: whether all rows are scaled to norm one before $\mathrm{NS}$ (`equilibrate_rows`).
        cautious_update: whether only those entries move whose update agrees with the gradient
            (`cautious`).
        cautious_decay: whether an entry decays only if the update does not move it away from zero.
        ns_dtype: the dtype between the products of $\mathrm{NS}$. None means the dtype of the momentum.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        axes: the rule that says which leaves are hidden matrices, and which of their axes are inputs and
            outputs (`hidden_matrices`).
        auxiliary: the optimizer of all other leaves. None means `adamw` with `b2=0.95` and the same
            `learning_rate`, `weight_decay` and `mask`.
        exchange_dtype: the dtype in which sharded matrices travel between devices. "bfloat16" halves the
            bytes, and None means the dtype of the matrices.
        adaptive: whether the update of a matrix is multiplied by its product with the momentum, as in
            `polargrad`, so that it shrinks with the gradient (`scale_by_dual_norm`). The momentum is
            then bias-corrected, since its size matters.

    The state holds one entry per group, "muon" and "adamw": `MomentumState(mu)` for the matrices and the
    state of `auxiliary` for the rest, each with `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Sources: Jordan et al., "Muon", 2024; Liu et al., 2025, arXiv:2502.16982; Bernstein & Newhouse, 2024,
    arXiv:2409.20325 (`adaptive`).

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.muon(0.1, scaling="original"), jnp.zeros((2, 2))
    >>> update, _ = tx.update(jnp.array([[3.0, 0.0], [0.0, -4.0]]), tx.init(w), w)
    >>> jnp.round(update, 1)  # close to -0.1 U V^T
    Array([[-0.1, -0. ],
           [-0. ,  0.1]], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    weight_decay: Hyper = 0.0
    nesterov: bool = True
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    form: Literal["auto", "standard", "gram"] = "auto"
    scaling: ShapeFactor = "match_rms"
    equilibrate: bool = False
    cautious_update: bool = False
    cautious_decay: bool = False
    ns_dtype: DTypeLike | None = None
    mu_dtype: DTypeLike | None = None
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    exchange_dtype: DTypeLike | None = None
    adaptive: bool = False
    instead = MUON
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        m = scale_by_momentum(self.beta, nesterov=self.nesterov, accumulator_dtype=self.mu_dtype)
        polar = orthogonalize(self, form=self.form, dtype=self.ns_dtype)
        if self.equilibrate:
            polar = chain(equilibrate_rows(axes=self.axes), polar)
        if self.adaptive:
            # The largest numbers, divided by the gain of a momentum, are infinite.
            m = chain(clip(1e30), bias_correction(m))
            polar = scale_by_dual_norm(polar, axes=self.axes)
        step = chain(m, polar, scale_by_shape(self.scaling, self.axes))
        step = cautious(step) if self.cautious_update else step
        return routed(self, step, mask=self.mask, cautious=self.cautious_decay)


def orthogonalize(recipe: Any, **options: Any) -> Transform:
    """The orthogonalization that the fields of `recipe` describe."""
    return orthogonalize_newton_schulz(
        recipe.coefficients,
        recipe.steps,
        axes=recipe.axes,
        exchange_dtype=recipe.exchange_dtype,
        **options,
    )


def routed(recipe: Any, step: Transform, **decay: Any) -> Transform:
    """`step`, decay and rate for hidden matrices, and the auxiliary optimizer for all other leaves."""
    rate, weight_decay = recipe.learning_rate, recipe.weight_decay
    matrices = chain(
        step, decoupled_weight_decay(weight_decay, **decay), scale_by_learning_rate(rate)
    )
    rest = recipe.auxiliary or adamw(
        rate, b2=0.95, weight_decay=weight_decay, mask=decay.get("mask")
    )
    return partition({"muon": matrices, "adamw": rest}, recipe.axes)
