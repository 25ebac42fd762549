"""Muon and its variants: momentum, orthogonalized, for hidden matrices; AdamW for the rest."""

from typing import Any

from gradtx._cautious import cautious
from gradtx._compose import chain, identity
from gradtx._core import Recipe, Transform
from gradtx._decay import decoupled_weight_decay
from gradtx._matrix import hidden_matrices
from gradtx._moments import root, scale_by_momentum, second_moment
from gradtx._neurons import equilibrate_rows, keep_norm, scale_by_neuron_rms, scale_to_rms
from gradtx._orthogonal import orthogonalize_newton_schulz, scale_by_shape
from gradtx._route import partition
from gradtx._scale import scale, scale_by_learning_rate, scale_by_sign
from gradtx._value import Hyper
from gradtx.optimizers._adam import adamw


class muon(Recipe):
    r"""Muon, $u = -\eta\, (s\, \mathrm{NS}(m) + \lambda\, \theta)$ with Nesterov momentum $m$.

    For the hidden matrices that the rule `axes` finds; all else goes to `auxiliary`, by default AdamW
    with the same rate and decay. `equilibrate` brings rows to one norm first, `cautious_update` and
    `cautious_decay` keep what agrees with the gradient and the update.
    Source: Jordan et al., 2024; Liu et al., 2025, arXiv:2502.16982.
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
            *([equilibrate_rows(self.axes)] if self.equilibrate else []),
            _orthogonalize(self, form=self.form, dtype=self.ns_dtype),
            scale_by_shape(self.scaling, self.axes),
        )
        step = cautious(step) if self.cautious_update else step
        return _routed(self, step, mask=self.mask, cautious=self.cautious_decay)


class normuon(Recipe):
    r"""NorMuon: Muon whose rows are divided by their root mean square over time, at equal norm.

    Source: Li et al., 2025, arXiv:2510.05491.
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
            keep_norm(scale_by_neuron_rms(self.b2, axes=self.axes), self.axes),
            scale_by_shape(self.scaling, self.axes),
        )
        return _routed(self, step)


class adamuon(Recipe):
    r"""AdaMuon: the sign of the momentum, orthogonalized, over its root mean square, at rms 0.2.

    Source: Si, Zhang & Shen, 2025, arXiv:2507.11005.
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    eps: Hyper = 1e-8
    weight_decay: Hyper = 0.01
    coefficients: Any = "polar_express"
    steps: int | None = None
    axes: Any = hidden_matrices()
    auxiliary: Transform | None = None

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            scale_by_sign(),
            _orthogonalize(self),
            identity() / (root(second_moment(self.beta)) + self.eps),
            scale_to_rms(0.2, self.axes),
        )
        return _routed(self, step)


class scion(Recipe):
    r"""Scion: steps of a fixed norm, spectral for hidden matrices and by the sign for the rest.

    $u = -\eta\, (\rho\, \mathrm{LMO}(m) + \theta)$ (Frank-Wolfe), or without $\theta$ if not
    `constrained`; the sign's radius is `sign_radius`, per input.
    Source: Pethick et al., 2025, arXiv:2502.07529.
    """

    learning_rate: Hyper
    beta: Hyper = 0.9
    radius: Hyper = 50.0
    sign_radius: Hyper = 3000.0
    constrained: bool = True
    coefficients: Any = "polar_express"
    steps: int | None = None
    axes: Any = hidden_matrices()

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
