"""AdaDelta."""

from typing import Any

from gradtx._compose.chain import identity
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import Conventional, with_decay
from gradtx._transforms.adadelta import scale_by_adadelta
from gradtx._transforms.scale import scale_by_learning_rate


class adadelta(Conventional):
    r"""AdaDelta, $u = -\eta\, g\, \sqrt{X + \epsilon} / \sqrt{G + \epsilon}$.

    $X$ and $G$ are averages of the squared steps (without $\eta$) and gradients, see
    `scale_by_adadelta`.

    Args:
        learning_rate: $\eta \ge 0$; 1 in the paper, which has none, and for None.
        rho: decay of both averages, in [0, 1).
        eps: $\epsilon > 0$, which sets the size of the first steps.
        weight_decay, mask: an L2 penalty, and the leaves that it is for (`decoupled_weight_decay`).
        decoupled: the penalty stays out of the averages, times the learning rate.
        convention: whose defaults fill in what is not given: "optax", "torch", "keras" or "paper".

    Raises `ValueError` for a number outside its interval. Source: Zeiler, 2012, arXiv:1212.5701,
    algorithm 1.

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
    conventions = {
        "torch": {},
        "keras": {"learning_rate": 1e-3, "rho": 0.95, "eps": 1e-7, "decoupled": True},
        "paper": {"rho": 0.95},
    }

    def __post_init__(self, convention: str = "optax") -> None:
        if self.learning_rate is None:  # in Optax it leaves out the sign too, and ascends
            object.__setattr__(self, "learning_rate", 1.0)
        super().__post_init__(convention)

    def expand(self) -> Transform:
        # Optax has its weight decay in the first place, also where there is none.
        first = [identity()] if self.weight_decay is None else []
        return with_decay(
            self,
            *first,
            scale_by_adadelta(self.rho, self.eps),
            scale_by_learning_rate(self.learning_rate),
        )
