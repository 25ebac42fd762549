"""Muon: momentum, orthogonalized, for hidden matrices; another optimizer for the rest."""

from typing import Any

from gradtx._compose import chain
from gradtx._core import Recipe, Transform
from gradtx._decay import decoupled_weight_decay
from gradtx._matrix import hidden_matrices
from gradtx._moments import scale_by_momentum
from gradtx._orthogonal import orthogonalize_newton_schulz, scale_by_shape
from gradtx._route import partition
from gradtx._scale import scale_by_learning_rate
from gradtx._value import Hyper
from gradtx.optimizers._adam import adamw


class muon(Recipe):
    r"""Muon, $u = -\eta\, (s\, \mathrm{NS}(m) + \lambda\, \theta)$ with Nesterov momentum $m$.

    For hidden matrices, by `axes`; all else goes to `auxiliary`, by default AdamW with the same rate
    and decay. Source: Jordan et al., 2024; Liu et al., 2025, arXiv:2502.16982.
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    weight_decay: Hyper = 0.0
    nesterov: bool = True
    coefficients: Any = "polar_express"
    steps: int | None = None
    form: str = "auto"
    scaling: str = "match_rms"
    ns_dtype: str | None = None
    mu_dtype: str | None = None
    mask: Any = None
    axes: Any = hidden_matrices()
    auxiliary: Transform | None = None

    def expand(self) -> Transform:
        matrices = chain(
            scale_by_momentum(self.beta, nesterov=self.nesterov, accumulator_dtype=self.mu_dtype),
            orthogonalize_newton_schulz(
                self.coefficients, self.steps, self.form, dtype=self.ns_dtype, axes=self.axes
            ),
            scale_by_shape(self.scaling, axes=self.axes),
            decoupled_weight_decay(self.weight_decay, mask=self.mask),
            scale_by_learning_rate(self.learning_rate),
        )
        rest = self.auxiliary or adamw(
            self.learning_rate, b2=0.95, weight_decay=self.weight_decay, mask=self.mask
        )
        return partition({"muon": matrices, "adamw": rest}, self.axes)
