"""Optimizers that keep the norms of matrices, or train them separately: AdamH, MuonH and Muown."""

from typing import Any

import optax

from gradtx._compose.chain import chain
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.hyperball import hyperball
from gradtx._matrices.orthogonalize import ShapeFactor, orthogonalize_newton_schulz, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._optimizers.adam import adam, adamw
from gradtx._schedules.lifted import lifted
from gradtx._transforms.adam import scale_by_adam
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale_by_learning_rate
from gradtx._wrappers.weight_norm import weight_norm


def _group_names(recipe: Any) -> dict[str, str]:
    others = "adam" if recipe.auxiliary is None else type(recipe.auxiliary).__name__
    return {"muon": type(recipe).__name__, "adamw": others}


def _on_the_ball(recipe: Any, direction: Transform) -> Transform:
    """`direction` on the hyperball for hidden matrices, and the auxiliary optimizer for all others."""
    matrices = chain(direction, hyperball(recipe.learning_rate, axes=recipe.axes))
    rest = recipe.auxiliary or adam(recipe.learning_rate, recipe.b1, recipe.b2, recipe.eps)
    return partition({"muon": matrices, "adamw": rest}, recipe.axes)


class adamh(Recipe):
    r"""AdamH turns hidden matrices by a given angle along Adam's direction, and keeps their norms.

    $$ W \leftarrow R\, \frac{W'}{\|W'\|}, \qquad W' = W - \eta\, R\, \frac{d}{\|d\|}, \qquad
       d = \hat m / (\sqrt{\hat v} + \epsilon) $$

    $R$ is the norm of the matrix at the first step, and $\eta$ is about the angle in radians
    (`hyperball`). All other leaves are trained with Adam.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`. For a rate $\eta_0$ and a decay $\lambda$ of
            AdamW, $\sqrt{\eta_0 \lambda}$ is a first guess.
        b1: the decay of the average $m$ of the gradients, in [0, 1).
        b2: the decay of the average $v$ of their squares, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adam` with the numbers of this
            optimizer. Adam's rate is then the angle $\eta$, which is often too large.

    A matrix of zeros never moves, since its norm is kept.

    The state of hidden matrices is `optax.ScaleByAdamState(count, mu, nu)` and
    `HyperballState(step, last_learning_rate, radius)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Wen et al., 2026, arXiv:2606.16899.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adamh(0.02, auxiliary=gradtx.adam(3e-3))
    >>> w = jnp.array([[3.0, 0.0], [0.0, 4.0]])
    >>> w += tx.update(jnp.ones((2, 2)), tx.init(w), w)[0]
    >>> round(float(jnp.linalg.norm(w)), 4)
    5.0
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.95
    eps: Hyper = 1e-8
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    limits = {"eps": "[0, inf)"}
    group_names = property(_group_names)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        return _on_the_ball(self, scale_by_adam(self.b1, self.b2, self.eps))


class muonh(Recipe):
    r"""MuonH turns hidden matrices by a given angle along Muon's direction, and keeps their norms.

    $$ W \leftarrow R\, \frac{W'}{\|W'\|}, \qquad W' = W - \eta\, R\, \frac{d}{\|d\|}, \qquad
       d = \mathrm{NS}(m) $$

    $R$ is the norm of the matrix at the first step, and $\eta$ is about the angle in radians
    (`hyperball`). $m$ is the momentum, and $\mathrm{NS}$ is the iteration that moves the singular values
    to one. All other leaves are trained with Adam.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, an average of the gradients, in [0, 1).
        nesterov: whether the momentum looks one step ahead (`scale_by_momentum`).
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        b1: the decay of Adam's average of the gradients, in [0, 1).
        b2: the decay of Adam's average of their squares, in [0, 1).
        eps: the number, 0 or more, that Adam adds to the root.
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adam` with the numbers of this
            optimizer. Adam's rate is then the angle $\eta$, which is often too large.

    A matrix of zeros never moves, since its norm is kept.

    The state of hidden matrices is `MomentumState(mu)` and
    `HyperballState(step, last_learning_rate, radius)`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Wen et al., 2026, arXiv:2606.16899.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.muonh(0.1), jnp.diag(jnp.array([3.0, 4.0]))
    >>> update, _ = tx.update(jnp.ones((2, 2)), tx.init(w), w)
    >>> round(float(jnp.linalg.norm(w + update)), 4)  # the norm is kept
    5.0
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    nesterov: bool = True
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    b1: Hyper = 0.9
    b2: Hyper = 0.95
    eps: Hyper = 1e-8
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    limits = {"eps": "[0, inf)"}
    group_names = property(_group_names)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        direction = chain(
            scale_by_momentum(self.beta, nesterov=self.nesterov),
            orthogonalize_newton_schulz(self.coefficients, self.steps, axes=self.axes),
        )
        return _on_the_ball(self, direction)


class muown(Recipe):
    r"""Muown turns the rows of hidden matrices with Muon, and trains their lengths with Adam.

    $$ W_i = r_i\, v_i / \|v_i\|, \qquad \Delta v = -\eta\, s\, \mathrm{NS}(m), \qquad
       \Delta r = -\eta\, c\, (\hat m_r / (\sqrt{\hat v_r} + \epsilon) + \lambda\, r) $$

    where $m$ is the momentum of the gradient of $v$, and $\hat m_r$ and $\hat v_r$ are Adam's averages
    of the gradient of $r$ (`weight_norm`). A row $W_i$ holds the incoming weights of one output. All
    other leaves are trained with AdamW.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, an average of the gradients of $v$, in [0, 1).
        weight_decay: the rate of decay $\lambda \ge 0$ of the lengths, and of all other leaves.
        gain_rate: the factor $c$ of the learning rate of the lengths.
        b1: the decay of Adam's average of the gradients, in [0, 1).
        b2: the decay of Adam's average of their squares, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        nesterov: whether the momentum looks one step ahead (`scale_by_momentum`).
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw` with the numbers of this
            optimizer.

    The state of hidden matrices is `WeightNormState(lengths, sizes, directions, gains)`: the momentum
    and four numbers per row.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Lion et al., 2026, arXiv:2605.10797.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.muown(0.1), jnp.diag(jnp.array([3.0, 4.0]))
    >>> update, _ = tx.update(jnp.ones((2, 2)), tx.init(w), w)
    >>> jnp.round(jnp.linalg.norm(w + update, axis=0), 2)  # each output's length moves by the rate
    Array([2.9, 3.9], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    weight_decay: Hyper = 0.0
    gain_rate: Hyper = 1.0
    b1: Hyper = 0.9
    b2: Hyper = 0.95
    eps: Hyper = 1e-8
    nesterov: bool = False
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    scaling: ShapeFactor = "match_rms"
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    limits = {"eps": "[0, inf)"}
    group_names = property(_group_names)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        rate, numbers = self.learning_rate, (self.b1, self.b2, self.eps)
        turn = chain(
            scale_by_momentum(self.beta, nesterov=self.nesterov),
            orthogonalize_newton_schulz(self.coefficients, self.steps, axes=self.axes),
            scale_by_shape(self.scaling, self.axes),
            scale_by_learning_rate(rate),
        )
        gain = chain(
            scale_by_adam(*numbers),
            decoupled_weight_decay(self.weight_decay),
            scale_by_learning_rate(lifted("*", rate, self.gain_rate)),
        )
        rest = self.auxiliary or adamw(rate, *numbers, weight_decay=self.weight_decay)
        matrices = weight_norm(turn, gain, self.axes)
        return partition({"muon": matrices, "adamw": rest}, self.axes)
