"""SGD: stochastic gradient descent, with or without momentum."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._optimizers.convention import Conventional, rate_and_heavy_ball, with_decay
from gradtx._schedules.conventions import dampened
from gradtx._transforms.scale import scale


class sgd(Conventional):
    r"""SGD steps against the gradient, or against a momentum of the gradients.

    $$ u_t = -\eta\, g_t \qquad\text{or}\qquad
       u_t = -\eta\, m_t \quad\text{with}\quad m_t = b\, m_{t-1} + g_t $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        momentum: $b$ of a heavy ball, in [0, 1]. None means no momentum.
        nesterov: whether the momentum looks one step ahead, $u_t = -\eta\, (g_t + b\, m_t)$. The
            parameters are then the points at which gradients are taken (`eval_params`).
        accumulator_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        dampening: $d$ in [0, 1], which must be constant. All gradients but the first are multiplied by
            $1 - d$, as in torch. None means 0.
        weight_decay: $\lambda \ge 0$ of an L2 penalty, which adds $\lambda\, \theta$ to the gradient.
            None means no penalty.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        decoupled: whether the decay is added to the update as $-\eta\, \lambda\, \theta$ and not to the
            gradient. The momentum then does not contain it.
        lr_inside: whether the rate is applied before the momentum, $u_t = b\, u_{t-1} - \eta\, g_t$, as
            in Keras and the papers. At a constant rate this gives the same updates.
        convention: the library or paper whose defaults fill in the arguments that are not given:
            "optax", "torch", "keras" or "paper".

    The state holds `optax.TraceState(trace)` with $m$, if there is a momentum, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, if `dampening` is given without a momentum or
            together with `nesterov`, or if `convention` is unknown.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `dampening` is a
            schedule, or if the dtype is neither floating nor complex.

    Sources: Robbins & Monro, 1951; Polyak, 1964; Sutskever et al., 2013.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.sgd(0.1, momentum=0.5)
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.ones(()), state)[0])
    (-0.1, -0.15)
    """

    learning_rate: Hyper
    momentum: Hyper | None = None
    nesterov: bool = False
    accumulator_dtype: DTypeLike | None = None
    dampening: Fixed | None = None
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    lr_inside: bool = False
    conventions = {
        "torch": {"learning_rate": 1e-3},
        "keras": {"learning_rate": 1e-2, "lr_inside": True, "decoupled": True},
        "paper": {"lr_inside": True},
    }

    def validate(self) -> None:
        if self.dampening is not None and (self.nesterov or self.momentum is None):
            raise ValueError(
                "`sgd(dampening=...)` needs a `momentum`, and cannot be combined with `nesterov=True`."
            )
        super().validate()

    def expand(self) -> Transform:
        dampen = [] if self.dampening is None else [scale(dampened(self.dampening))]
        return with_decay(self, *dampen, *rate_and_heavy_ball(self, self.accumulator_dtype))
