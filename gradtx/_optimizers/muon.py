"""Muon, NorMuon and AdaMuon, which orthogonalize the momentum of hidden matrices.

All other leaves (vectors, embeddings, heads) go to an auxiliary optimizer, by default AdamW.
"""

from typing import Any, Literal

import optax
from jax.typing import DTypeLike

from gradtx._compose.chain import chain, identity
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import ShapeFactor, orthogonalize_newton_schulz, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._matrices.rows import equilibrate_rows, keep_norm, scale_by_neuron_rms, scale_to_rms
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.optax_arguments import MUON
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale_by_learning_rate, scale_by_sign
from gradtx._wrappers.cautious import cautious


def _group_names(recipe: Any) -> dict[str, str]:
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

    The state holds one entry per group, "muon" and "adamw": `MomentumState(mu)` for the matrices and the
    state of `auxiliary` for the rest, each with `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Sources: Jordan et al., "Muon", 2024; Liu et al., 2025, arXiv:2502.16982.

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
    instead = MUON
    group_names = property(_group_names)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=self.nesterov, accumulator_dtype=self.mu_dtype),
            *([equilibrate_rows(axes=self.axes)] if self.equilibrate else []),
            _orthogonalize(self, form=self.form, dtype=self.ns_dtype),
            scale_by_shape(self.scaling, self.axes),
        )
        step = cautious(step) if self.cautious_update else step
        return _routed(self, step, mask=self.mask, cautious=self.cautious_decay)


class normuon(Recipe):
    r"""NorMuon is Muon, with every row divided by the root mean square of that row over time.

    $$ u = -\eta\, (s\, \frac{\|O\|}{\|\hat O\|}\, \hat O + \lambda\, \theta), \qquad
       O = \mathrm{NS}(m), \qquad \hat O_{ij} = O_{ij} / (\sqrt{v_i} + \epsilon) $$

    with $\epsilon = 10^{-10}$. Row $i$ holds the weights of output $i$. The quotient of the Frobenius
    norms keeps the norm of $O$.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, a Nesterov average of the gradients, in [0, 1).
        b2: the decay of the averages $v_i$ of $\operatorname{mean}_j O_{ij}^2$, in [0, 1).
        weight_decay: the rate of decay $\lambda \ge 0$.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.

    The state is that of `muon`, and `ScaleByNeuronRmsState(nu)` with one number per row.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Li et al., 2025, arXiv:2510.05491.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, w = gradtx.normuon(0.1), jnp.zeros((4, 2))
    >>> update, _ = tx.update(jax.random.normal(jax.random.key(0), (4, 2)), tx.init(w), w)
    >>> neurons = jnp.linalg.norm(update, axis=0)  # in the first step all neurons move equally far
    >>> bool(jnp.isclose(*neurons))
    True
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    b2: Hyper = 0.95
    weight_decay: Hyper = 0.0
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    scaling: ShapeFactor = "match_rms"
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(_group_names)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            _orthogonalize(self),
            keep_norm(scale_by_neuron_rms(self.b2, axes=self.axes), axes=self.axes),
            scale_by_shape(self.scaling, self.axes),
        )
        return _routed(self, step)


class adamuon(Recipe):
    r"""AdaMuon orthogonalizes the sign of the momentum, and divides the result by a root mean square.

    $$ u = -\eta\, (0.2 \sqrt{mn}\, \hat O / \|\hat O\| + \lambda\, \theta), \qquad
       O = \mathrm{NS}(\operatorname{sign} M), \qquad \hat O = O / (\sqrt v + \epsilon) $$

    for a matrix with $m$ rows, $n$ columns and the momentum $M$. The root mean square of the first term
    is 0.2, about that of AdamW's updates.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $M$ and of the average $v$ of $O^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        weight_decay: the rate of decay $\lambda \ge 0$.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.

    The state is that of `muon`, and `SecondMomentState(nu)` with $v$, an array like the parameter.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Si, Zhang & Shen, 2025, arXiv:2507.11005.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, w = gradtx.adamuon(0.1), jnp.zeros((4, 2))
    >>> update, _ = tx.update(jax.random.normal(jax.random.key(0), (4, 2)), tx.init(w), w)
    >>> round(float(jnp.sqrt(jnp.mean(update**2))), 6)  # 0.1 * 0.2
    0.02
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    eps: Hyper = 1e-8
    weight_decay: Hyper = 0.01
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    limits = {"eps": "[0, inf)"}
    group_names = property(_group_names)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            scale_by_sign(),
            _orthogonalize(self),
            identity() / (root(second_moment(self.beta)) + self.eps),
            scale_to_rms(0.2, axes=self.axes),
        )
        return _routed(self, step)


def _orthogonalize(recipe: Any, **options: Any) -> Transform:
    return orthogonalize_newton_schulz(
        recipe.coefficients, recipe.steps, axes=recipe.axes, **options
    )


def _routed(recipe: Any, step: Transform, **decay: Any) -> Transform:
    """`step`, decay and rate for hidden matrices, and the auxiliary optimizer for all other leaves."""
    rate, weight_decay = recipe.learning_rate, recipe.weight_decay
    matrices = chain(
        step, decoupled_weight_decay(weight_decay, **decay), scale_by_learning_rate(rate)
    )
    rest = recipe.auxiliary or adamw(
        rate, b2=0.95, weight_decay=weight_decay, mask=decay.get("mask")
    )
    return partition({"muon": matrices, "adamw": rest}, recipe.axes)
