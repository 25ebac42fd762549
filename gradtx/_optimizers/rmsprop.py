"""RMSProp, which divides by the root of a running average of the squared gradients."""

from typing import Any

from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._optimizers.convention import Conventional, rate_and_heavy_ball, with_decay
from gradtx._transforms.adaptive import scale_by_rms, scale_by_stddev


class rmsprop(Conventional):
    r"""RMSProp divides the gradient by the root of a running average of the squared gradients.

    $$ v_t = b\, v_{t-1} + (1 - b)\, |g_t|^2, \qquad u_t = -\eta\, g_t / \sqrt{v_t + \epsilon} $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        decay: $b$ of the average, in [0, 1).
        eps: $\epsilon \ge 0$. The lecture has none.
        initial_scale: $v_0 \ge 0$, which must be constant.
        eps_in_sqrt: whether $\epsilon$ is added under the root, or else to the root.
        centered: whether $v$ is the running variance of the gradients instead of the average of their
            squares.
        momentum: the decay, in [0, 1], of a heavy ball that sums the scaled gradients. None means no
            momentum.
        nesterov: whether this momentum looks one step ahead.
        bias_correction: whether $v_t$ is divided by $1 - b^t$.
        weight_decay: $\lambda \ge 0$ of an L2 penalty, which adds $\lambda\, \theta$ to the gradient.
            None means no penalty.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        decoupled: whether the decay is added to the update as $-\eta\, \lambda\, \theta$ and not to the
            gradient. The averages then do not contain it.
        lr_inside: whether the learning rate is applied before the momentum. Torch applies it afterwards.
        convention: the library or paper whose defaults fill in the arguments that are not given:
            "optax", "torch", "keras" or "paper".

    The state holds `optax.ScaleByRmsState(nu)` with $v$ (and `count` with a bias correction, `mu` if
    centered), `LearningRateState(step, last_learning_rate)`, and `optax.TraceState(trace)` if there is a
    momentum.

    Raises:
        ValueError: if a number lies outside its interval, if both `centered` and `bias_correction` are
            true, or if `convention` is unknown.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Sources: Hinton, 2012, lecture 6e; Graves, 2013, arXiv:1308.0850, eq. 38-41.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.rmsprop(0.1, decay=0.75)
    >>> float(tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0])  # -0.1 / root(0.25)
    -0.2
    """

    learning_rate: Hyper
    decay: Hyper = 0.9
    eps: Hyper = 1e-8
    initial_scale: Fixed = 0.0
    eps_in_sqrt: bool = True
    centered: bool = False
    momentum: Hyper | None = None
    nesterov: bool = False
    bias_correction: bool = False
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    lr_inside: bool = True
    limits = {"eps": "[0, inf)"}
    conventions = {
        "torch": {"learning_rate": 1e-2, "decay": 0.99, "eps_in_sqrt": False, "lr_inside": False},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "decoupled": True},
        "paper": {"eps": 0.0},
    }

    def validate(self) -> None:
        if self.centered and self.bias_correction:
            raise ValueError(
                "`rmsprop(centered=True, bias_correction=True)`: the corrected variance of a single "
                "gradient is 0, so that the first step would be the gradient divided by the root of "
                "epsilon. Set one of the two to False."
            )
        super().validate()

    def expand(self) -> Transform:
        scaling = (self.decay, self.eps, self.initial_scale, self.eps_in_sqrt)
        by_rms = (
            scale_by_stddev(*scaling)
            if self.centered
            else scale_by_rms(*scaling, bias_correction=self.bias_correction)
        )
        return with_decay(self, by_rms, *rate_and_heavy_ball(self))
