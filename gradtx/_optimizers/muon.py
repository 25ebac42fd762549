"""Muon and its variants: momentum, orthogonalized, for hidden matrices; AdamW for the rest."""

from typing import Any

from gradtx._compose.chain import chain, identity
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import hidden_matrices
from gradtx._matrices.orthogonalize import orthogonalize_newton_schulz, scale_by_shape
from gradtx._matrices.rows import equilibrate_rows, keep_norm, scale_by_neuron_rms, scale_to_rms
from gradtx._optimizers.adam import adamw
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale, scale_by_learning_rate, scale_by_sign
from gradtx._wrappers.cautious import cautious


class muon(Recipe):
    r"""Muon, $u = -\eta\, (s\, \mathrm{NS}(m) + \lambda\, \theta)$ with Nesterov momentum $m$.

    For the hidden matrices that the rule `axes` finds; all else goes to `auxiliary`.

    Args:
        learning_rate: $\eta \ge 0$. Numbers here may be schedules, and arrays under `vmap`,
            unless they are called constant.
        beta, nesterov, mu_dtype: decay, form and dtype of the momentum $m$, see `scale_by_momentum`.
        weight_decay, mask: $\lambda \ge 0$, and the leaves that decay (`decoupled_weight_decay`).
        coefficients, steps, form, ns_dtype: of the iteration $\mathrm{NS}$, see `newton_schulz`.
        scaling: which $s$, see `scale_by_shape`; the default has AdamW's rates carry over.
        equilibrate: rows are brought to one norm first (`equilibrate_rows`).
        cautious_update: only entries that agree with the gradient move (`cautious`).
        cautious_decay: only entries that the update shrinks anyway decay.
        axes: the rule: which leaves are matrices, and along which axes.
        auxiliary: the optimizer of all else; by default `adamw` with `b2=0.95`, the same rate and decay.

    Raises `ValueError` for a number outside its interval. Sources: Jordan et al., 2024; Liu et al.,
    2025, arXiv:2502.16982.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.muon(0.1, scaling="original"), jnp.zeros((2, 2))
    >>> update, _ = tx.update(jnp.array([[3.0, 0.0], [0.0, -4.0]]), tx.init(w), w)
    >>> jnp.round(update, 1)  # nearly -0.1 U V^T
    Array([[-0.1, -0. ],
           [-0. ,  0.1]], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    weight_decay: Hyper = 0.0
    nesterov: bool = True
    coefficients: Any = "polar_express"
    steps: int | None = None
    form: str = "auto"
    scaling: str = "match_rms"
    equilibrate: bool = False
    cautious_update: bool = False
    cautious_decay: bool = False
    ns_dtype: str | None = None
    mu_dtype: str | None = None
    mask: Any = None
    axes: Any = hidden_matrices()
    auxiliary: Transform | None = None

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
    r"""NorMuon: Muon whose rows are divided by their root mean square over time, at equal norm.

    $$ u = -\eta\, (s\, \frac{\|O\|}{\|\hat O\|}\, \hat O + \lambda\, \theta), \qquad
       O = \mathrm{NS}(m), \qquad \hat O_{ij} = O_{ij} / (\sqrt{v_i} + \epsilon) $$

    Args:
        learning_rate, beta, weight_decay, coefficients, steps, scaling, axes, auxiliary: as in `muon`.
        b2: decay of the averages $v$ of $\operatorname{mean}_j O_{ij}^2$ (`scale_by_neuron_rms`).

    Raises `ValueError` for a number outside its interval. Source: Li et al., 2025, arXiv:2510.05491.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, w = gradtx.normuon(0.1), jnp.zeros((4, 2))
    >>> update, _ = tx.update(jax.random.normal(jax.random.key(0), (4, 2)), tx.init(w), w)
    >>> neurons = jnp.linalg.norm(update, axis=0)  # at the first step all move equally far
    >>> bool(jnp.isclose(*neurons))
    True
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    b2: Hyper = 0.95
    weight_decay: Hyper = 0.0
    coefficients: Any = "polar_express"
    steps: int | None = None
    scaling: str = "match_rms"
    axes: Any = hidden_matrices()
    auxiliary: Transform | None = None

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            _orthogonalize(self),
            keep_norm(scale_by_neuron_rms(self.b2, axes=self.axes), axes=self.axes),
            scale_by_shape(self.scaling, self.axes),
        )
        return _routed(self, step)


class adamuon(Recipe):
    r"""AdaMuon: the sign of the momentum, orthogonalized, over its root mean square, at rms 0.2.

    $$ u = -\eta\, (0.2 \sqrt{mn}\, \hat O / \|\hat O\| + \lambda\, \theta), \qquad
       O = \mathrm{NS}(\operatorname{sign} m), \qquad \hat O = O / (\sqrt v + \epsilon) $$

    Args:
        learning_rate, weight_decay, coefficients, steps, axes, auxiliary: as in `muon`.
        beta: decay of the momentum and of the average $v$ of $O^2$, in [0, 1).
        eps: $\epsilon \ge 0$.

    Raises `ValueError` for a number outside its interval. Source: Si, Zhang & Shen, 2025,
    arXiv:2507.11005.

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
    coefficients: Any = "polar_express"
    steps: int | None = None
    axes: Any = hidden_matrices()
    auxiliary: Transform | None = None
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            scale_by_sign(),
            _orthogonalize(self),
            identity() / (root(second_moment(self.beta)) + self.eps),
            scale_to_rms(0.2, axes=self.axes),
        )
        return _routed(self, step)


class scion(Recipe):
    r"""Scion: steps of a fixed norm, spectral for hidden matrices and by the sign for the rest.

    $u = -\eta\, (\rho\, \mathrm{LMO}(m) + \theta)$ with $\sqrt{out/in}\, \mathrm{NS}(m)$ or
    $\operatorname{sign}(m) / in$ for $\mathrm{LMO}(m)$.

    Args:
        learning_rate: $\eta \ge 0$. Numbers here may be schedules, and arrays under `vmap`,
            unless they are called constant.
        beta: decay of the momentum $m$, in [0, 1).
        radius, sign_radius: $\rho$ of hidden matrices and of the rest.
        constrained: Frank-Wolfe, which keeps parameters within their ball; otherwise without
            $\theta$.
        coefficients, steps, axes: as in `muon`.

    Raises `ValueError` for a number outside its interval. Source: Pethick et al., 2025,
    arXiv:2502.07529.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, b = gradtx.scion(1.0, sign_radius=3.0), jnp.zeros(2)
    >>> b += tx.update(jnp.array([1.0, -0.1]), tx.init(b), b)[0]
    >>> b  # with a rate of one, at a corner of its ball
    Array([-3.,  3.], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.9
    radius: Hyper = 50.0
    sign_radius: Hyper = 3000.0
    constrained: bool = True
    coefficients: Any = "polar_express"
    steps: int | None = None
    axes: Any = hidden_matrices()
    limits = {"radius": "[0, inf)", "sign_radius": "[0, inf)"}

    def expand(self) -> Transform:
        spectral = chain(
            _orthogonalize(self), scale_by_shape("spectral", self.axes), scale(self.radius)
        )
        sign = chain(
            scale_by_sign(), scale_by_shape("per_input", self.axes), scale(self.sign_radius)
        )
        return chain(
            scale_by_momentum(self.beta),
            partition({"muon": spectral, "adamw": sign}, self.axes),
            decoupled_weight_decay(1.0 if self.constrained else 0.0),
            scale_by_learning_rate(self.learning_rate),
        )


def _orthogonalize(recipe: Any, **options: Any) -> Transform:
    return orthogonalize_newton_schulz(
        recipe.coefficients, recipe.steps, axes=recipe.axes, **options
    )


def _routed(recipe: Any, step: Transform, **decay: Any) -> Transform:
    """Hidden matrices to `step`, decay and rate; the rest to the auxiliary optimizer."""
    rate, weight_decay = recipe.learning_rate, recipe.weight_decay
    matrices = chain(
        step, decoupled_weight_decay(weight_decay, **decay), scale_by_learning_rate(rate)
    )
    rest = recipe.auxiliary or adamw(
        rate, b2=0.95, weight_decay=weight_decay, mask=decay.get("mask")
    )
    return partition({"muon": matrices, "adamw": rest}, recipe.axes)
