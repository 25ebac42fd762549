"""AdaDelta, which scales the gradient by the sizes of past updates and of past gradients."""

from typing import Any

from gradtx._compose.chain import identity
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import Conventional, with_decay
from gradtx._transforms.adadelta import scale_by_adadelta
from gradtx._transforms.scale import scale_by_learning_rate


class adadelta(Conventional):
    r"""AdaDelta scales the gradient by the ratio of the sizes of past updates and of past gradients.

    $$ u_t = -\eta\, x_t, \qquad x_t = g_t\, \sqrt{X_{t-1} + \epsilon} / \sqrt{G_t + \epsilon} $$

    where $G$ is a running average of the squared gradients $|g|^2$ and $X$ of the squares $|x|^2$.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. It is a number, a schedule, or
            an array under `vmap`. The paper has no learning rate, which is $\eta = 1$; None means 1 as
            well.
        rho: the decay of both averages, in [0, 1).
        eps: $\epsilon > 0$, which sets the size of the first steps.
        weight_decay: $\lambda \ge 0$ of an L2 penalty, which adds $\lambda\, \theta$ to the gradient.
            None means no penalty.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        decoupled: whether the decay is added to the update as $-\eta\, \lambda\, \theta$ and not to the
            gradient. The averages then do not contain it.
        convention: the library or paper whose defaults fill in the arguments that are not given:
            "optax", "torch", "keras" or "paper".

    The state holds `optax.ScaleByAdaDeltaState(e_g, e_x)` with $G$ and $X$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `convention` is unknown.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Zeiler, 2012, arXiv:1212.5701, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adadelta(rho=0.75, eps=1e-4)
    >>> update, _ = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> round(float(update), 4)  # -root(eps / (1 - rho))
    -0.02
    """

    learning_rate: Hyper | None = 1.0
    rho: Hyper = 0.9
    eps: Hyper = 1e-6
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    instead = {"weight_decay_mask": "write `mask=`"}
    conventions = {
        "torch": {},
        "keras": {"learning_rate": 1e-3, "rho": 0.95, "eps": 1e-7, "decoupled": True},
        "paper": {"rho": 0.95},
    }

    def __post_init__(self, convention: str = "optax") -> None:
        if self.learning_rate is None:  # for Optax, None also means no minus sign, which is ascent
            object.__setattr__(self, "learning_rate", 1.0)
        super().__post_init__(convention)

    def expand(self) -> Transform:
        # Optax keeps a place for the weight decay in the state, also where there is no weight decay.
        first = [identity()] if self.weight_decay is None else []
        return with_decay(
            self,
            *first,
            scale_by_adadelta(self.rho, self.eps),
            scale_by_learning_rate(self.learning_rate),  # pyright: ignore - None became 1.0
        )
