"""Scion: steps whose norm is fixed, in the norm that suits each kind of parameter."""

from dataclasses import replace
from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.chain import chain
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.laid_out import laid_out
from gradtx._matrices.orthogonalize import orthogonalize_newton_schulz, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale, scale_by_learning_rate, scale_by_sign


class scion(Recipe):
    r"""Scion takes steps of a fixed norm: orthogonal matrices, and signs for all other leaves.

    $$ u = -\eta\, (\rho\, \mathrm{LMO}(m) + \theta), \qquad
       \mathrm{LMO}(m) = \sqrt{out/in}\; \mathrm{NS}(m)
       \;\text{ or }\; \operatorname{sign}(m) / in $$

    where $m$ is the momentum, $in$ and $out$ are the numbers of inputs and outputs of a leaf, and the
    second form is for leaves that are not hidden matrices.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, an average of the gradients, in [0, 1).
        radius: $\rho \ge 0$ for hidden matrices.
        sign_radius: $\rho \ge 0$ for all other leaves.
        constrained: whether the update contains the term $\theta$. If it does, the method is that of
            Frank and Wolfe: at a learning rate of at most 1, a parameter that starts inside the ball of
            radius $\rho$ never leaves it.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        exchange_dtype: the dtype in which sharded matrices travel between devices, as in `muon`.

    The labels of the two kinds of leaves are "muon" and "sign".

    The state holds `MomentumState(mu)` and `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while `constrained` is true.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if `axes` is not a
            rule for matrices.

    Source: Pethick et al., 2025, arXiv:2502.07529.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, b = gradtx.scion(1.0, sign_radius=3.0), jnp.zeros(2)
    >>> b += tx.update(jnp.array([1.0, -0.1]), tx.init(b), b)[0]
    >>> b  # with a rate of 1 the step ends in a corner of the ball
    Array([-3.,  3.], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.9
    radius: Hyper = 50.0
    sign_radius: Hyper = 3000.0
    constrained: bool = True
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    axes: MatrixRule = hidden_matrices()
    exchange_dtype: DTypeLike | None = None
    limits = {"radius": "[0, inf)", "sign_radius": "[0, inf)"}

    def expand(self) -> Transform:
        spectral = chain(
            orthogonalize_newton_schulz(
                self.coefficients,
                self.steps,
                axes=self.axes,
                exchange_dtype=self.exchange_dtype,
            ),
            scale_by_shape("spectral", self.axes),
            scale(self.radius),
        )
        sign = chain(
            scale_by_sign(), scale_by_shape("per_input", self.axes), scale(self.sign_radius)
        )
        # All other leaves get signs, so their label is "sign" unless the rule is the user's own.
        rule = _with_signs(self.axes)
        label = getattr(rule, "others", "adamw")
        return chain(
            scale_by_momentum(self.beta),
            partition({"muon": spectral, label: sign}, rule),
            decoupled_weight_decay(1.0 if self.constrained else 0.0),
            scale_by_learning_rate(self.learning_rate),
        )


def _with_signs(rule: Any) -> Any:
    if isinstance(rule, laid_out):
        return replace(rule, rule=_with_signs(rule.rule))
    own = isinstance(rule, hidden_matrices) and rule.others == "adamw"
    return replace(rule, others="sign") if own else rule
