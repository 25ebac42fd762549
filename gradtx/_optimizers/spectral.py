"""Variants of Muon that also use a norm of the momentum."""

import optax
from jax.typing import DTypeLike

from gradtx._compose.chain import chain
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.blockwise import blockwise_second_moment
from gradtx._matrices.matrix_blocks import matrix_blocks
from gradtx._matrices.norms import matrix_norm
from gradtx._matrices.orthogonalize import ShapeFactor, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._matrices.products import scale_by_dual_norm, scale_to_operator_norm
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.muon import group_names_of, orthogonalize, routed
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.freeze import freeze
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale, scale_by_learning_rate


class polargrad(Recipe):
    r"""PolarGrad is Muon whose update of every matrix is multiplied by the nuclear norm of the momentum.

    $$ u = -\eta\, (\langle O, m \rangle\, O + \lambda\, \theta), \qquad O = \mathrm{NS}(m) $$

    The inner product is the sum of the singular values of $m$. So the update vanishes with the gradient,
    and the learning rate has the units of that of SGD.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, an average of the gradients, in [0, 1).
        weight_decay: the rate of decay $\lambda \ge 0$.
        nesterov: whether the momentum looks one step ahead (`scale_by_momentum`).
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.
        exchange_dtype: the dtype in which sharded matrices travel between devices, as in `muon`.

    The state is that of `muon`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Lau, Long & Su, 2025, arXiv:2505.21799, with the momentum before the polar factor.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.polargrad(0.1, beta=0.0, steps=10), jnp.zeros((2, 2))
    >>> u, _ = tx.update(jnp.diag(jnp.array([3.0, 1.0])), tx.init(w), w)
    >>> jnp.round(u, 1)  # the singular values 3 and 1 have the sum 4
    Array([[-0.4, -0. ],
           [-0. , -0.4]], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    weight_decay: Hyper = 0.0
    nesterov: bool = False
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    exchange_dtype: DTypeLike | None = None
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        momentum = scale_by_momentum(self.beta, nesterov=self.nesterov)
        polar = scale_by_dual_norm(orthogonalize(self), axes=self.axes)
        return routed(self, chain(momentum, polar))


class namo(Recipe):
    r"""NAMO is Muon with one adaptive rate for every matrix, as Adam has one for every entry.

    $$ u = -\eta\, \frac{\operatorname{rms}(\hat m)}{\sqrt{\hat v} + \epsilon}\,
       (s\, \mathrm{NS}(m) + \lambda\, \theta), \qquad
       v = b_2 v + (1 - b_2) \operatorname{rms}(g)^2 $$

    The root mean squares are those of whole matrices, so $v$ is one number for each. Both averages are
    bias-corrected by their own gain, so that a constant gradient has the quotient 1. The code of the
    authors corrects a Nesterov momentum as if it were a plain one, and cuts the rate off at 1.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, a Nesterov average of the gradients, in [0, 1).
        b2: the decay of $v$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to a root mean square.
        weight_decay: the rate of decay $\lambda \ge 0$, which the adaptive rate multiplies, too.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.
        exchange_dtype: the dtype in which sharded matrices travel between devices, as in `muon`.

    The state is that of `muon`, and `BlockwiseMomentState(nu)` with $v$, one number per matrix.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Zhang et al., 2026, arXiv:2602.17080, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.namo(0.1, scaling="original", steps=10), jnp.zeros((2, 2))
    >>> u, _ = tx.update(jnp.diag(jnp.array([3.0, 1.0])), tx.init(w), w)
    >>> jnp.round(jnp.diag(u), 3)  # the adaptive rate is 1 at first
    Array([-0.1, -0.1], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    b2: Hyper = 0.99
    eps: Hyper = 1e-8
    weight_decay: Hyper = 0.1
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    scaling: ShapeFactor = "match_rms"
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    exchange_dtype: DTypeLike | None = None
    limits = {"eps": "[0, inf)"}
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        momentum = bias_correction(scale_by_momentum(self.beta, nesterov=True))
        polar = chain(orthogonalize(self), scale_by_shape(self.scaling, self.axes))
        decay = chain(freeze(), decoupled_weight_decay(self.weight_decay))
        square = blockwise_second_moment(self.b2, matrix_blocks(self.axes))
        step = chain(momentum, (polar + decay) * matrix_norm(rms=True, axes=self.axes)) / (
            root(bias_correction(square)) + self.eps
        )
        rate = scale_by_learning_rate(self.learning_rate)
        rest = adamw(self.learning_rate, b2=0.95, weight_decay=self.weight_decay)
        return partition({"muon": chain(step, rate), "adamw": self.auxiliary or rest}, self.axes)


class contra_muon(Recipe):
    r"""Contra-Muon is Muon less a part of the momentum, so that small singular values count more.

    $$ u = -\eta\, (s\, (\mathrm{NS}(m) - a\, m / \|m\|_{\mathrm{op}}) + \lambda\, \theta) $$

    A singular value $\sigma$ of $m$ becomes $1 - a\, \sigma / \sigma_{\max}$, which is largest for the
    smallest one. The norm is estimated from above by a Schatten norm (`scale_to_operator_norm`), so
    that a little less than this is taken away.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, a Nesterov average of the gradients, in [0, 1).
        contrast: $a$, the part of the momentum that is taken away.
        weight_decay: the rate of decay $\lambda \ge 0$.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.
        exchange_dtype: the dtype in which sharded matrices travel between devices, as in `muon`.

    The state is that of `muon`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: the record of step counts of modded-nanogpt, track 3, results 11 and 20, 2026.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.contra_muon(1.0, beta=0.0, contrast=0.5, scaling="original", steps=10)
    >>> w = jnp.zeros((2, 2))
    >>> u, _ = tx.update(jnp.diag(jnp.array([4.0, 2.0])), tx.init(w), w)
    >>> jnp.round(jnp.diag(-u), 2)
    Array([0.5 , 0.75], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    contrast: Hyper = 0.2
    weight_decay: Hyper = 0.0
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    scaling: ShapeFactor = "match_rms"
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    exchange_dtype: DTypeLike | None = None
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        contrast = chain(scale_to_operator_norm(axes=self.axes), scale(self.contrast))
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            orthogonalize(self) - contrast,
            scale_by_shape(self.scaling, self.axes),
        )
        return routed(self, step)
