"""Sophia, which divides a momentum by the diagonal of the Hessian and clips the quotient."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.chain import chain, identity
from gradtx._compose.fanout import fanout
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import AsTransform
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.clip import clip
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale_by_learning_rate
from gradtx._wrappers.hutchinson import hutchinson_estimator_diag_hessian
from gradtx._wrappers.refreshed_average import refreshed_average

# Behind the clip, `clipped_fraction` would compare the entries with the gradients, not the quotient.
_WIN_RATE = (
    "derive a `Measure` of the share of entries whose absolute value is less than `clip_threshold`, and "
    "write `observe(sophia(...), measure)`; the reading of `clip` is the win rate"
)


class sophia(Recipe):
    r"""Sophia divides a momentum by an average of the Hessian's diagonal, and clips every entry.

    $$ u = -\eta\, (\min(\max(\hat m / \max(\gamma\, h, \epsilon), -\rho), \rho) + \lambda\, \theta) $$

    Where the curvature $h$ is small or negative, the quotient is clipped, so that the step is that of
    SignSGD with momentum. The diagonal is estimated every few steps. The estimate needs the loss, or its
    gradient, as a function: `tx.update(g, state, params, obj_fn=loss)` or `grad_fn=jax.grad(loss)`; the
    step that `gradtx.make_step(loss)` returns passes it.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the average $m$ of the gradients, in [0, 1).
        b2: the decay of the average $h$ of the estimates, in [0, 1).
        eps: $\epsilon \ge 0$, the least denominator.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        gamma: $\gamma \ge 0$, which divides the steps that are not clipped.
        clip_threshold: $\rho \ge 0$. None does not clip.
        update_interval: the number of steps from one estimate to the next, which must be constant.
        hessian_diagonal_fn: the transformation, of gradtx or of Optax, that estimates the diagonal. None
            means `hutchinson_estimator_diag_hessian()`.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        late: whether a step uses the average of the step before, $h_{t-1}$, as in Optax and in the code
            of the authors. With False, a step uses $h_t$, as in the paper.

    The momentum is $\hat m = m / (1 - b_1^t)$, as in Optax; the paper takes $m$ itself. In the state,
    `nu` is $h$.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters or without the loss.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Liu et al., 2023, arXiv:2305.14342, algorithm 3.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, w = gradtx.sophia(0.1), jnp.array([3.0, -4.0])
    >>> loss = lambda w: jnp.sum(w**2) / 2
    >>> u, state = tx.update(jax.grad(loss)(w), tx.init(w), w, obj_fn=loss)
    >>> jnp.round(u, 2)
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.965
    b2: Hyper = 0.99
    eps: Hyper = 1e-8
    weight_decay: Hyper = 1e-4
    mask: Any = None
    gamma: Hyper = 0.01
    clip_threshold: Hyper | None = 1.0
    update_interval: int = 10
    hessian_diagonal_fn: AsTransform | None = None
    mu_dtype: DTypeLike | None = None
    late: bool = True
    limits = {"eps": "[0, inf)", "gamma": "[0, inf)"}
    instead = {
        "weight_decay_mask": "write `mask=`",
        "verbose": _WIN_RATE,
        "print_win_rate_every_n_steps": _WIN_RATE,
    }

    def expand(self) -> Transform:
        m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        estimate = self.hessian_diagonal_fn or hutchinson_estimator_diag_hessian()
        h = refreshed_average(estimate, self.b2, self.update_interval, self.late)
        return chain(
            m / fanout("maximum", self.gamma * h, self.eps),
            identity() if self.clip_threshold is None else clip(self.clip_threshold),
            decoupled_weight_decay(self.weight_decay, mask=self.mask),
            scale_by_learning_rate(self.learning_rate),
        )
