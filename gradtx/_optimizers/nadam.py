"""NAdam and NAdamW, which are Adam and AdamW with Nesterov's momentum."""

from typing import Any, Literal

from jax.typing import DTypeLike

from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.adam import adam_of
from gradtx._optimizers.convention import Conventional, with_decay, with_decay_between
from gradtx._transforms.scale import scale_by_learning_rate


class nadam(Conventional):
    r"""NAdam is Adam with Nesterov's momentum, which looks one step ahead.

    $$ u_t = -\eta\, n_t / (\sqrt{\hat v_t} + \epsilon), \qquad
       n_t = \frac{\mu_{t+1}\, m_t}{1 - \prod_{s \le t+1} \mu_s}
           + \frac{(1 - \mu_t)\, g_t}{1 - \prod_{s \le t} \mu_s} $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: $b_1$, to which the decays $\mu_t$ of the momentum rise, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: a number, 0 or more, which is added to $\hat v$ under the root. None adds nothing.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        momentum_decay: how fast $\mu_t$ rises to $b_1$, 0 or more: 0.004 in torch and 1 in Keras
            (`scale_by_nadam_momentum`). None means $\mu_t = b_1$ at all steps, as in Optax.
        nu_dtype: the dtype of $v$. None means the real dtype of the parameter, and float32 at least.
        weight_decay: $\lambda \ge 0$ of an L2 penalty, as in `adam`. None means no penalty.
        mask: which leaves decay, as in `adam`. None means all leaves.
        decoupled: whether the decay is added to the update and not to the gradient, as in `adam`.
        eps_hat: whether $\epsilon$ is added to the uncorrected $\sqrt v$, as in `adam`. Then `eps` and
            `b2` must be constant.
        convention: the library whose defaults fill in the arguments that are not given: "optax", "torch"
            or "keras".

    The state is that of `adam`; where $\mu_t$ changes, it has `log_kept` as well, which is the logarithm
    of $\prod_{s \le t} \mu_s$ and its rounding error.

    Raises:
        ValueError: if a number lies outside its interval, or if `convention` is unknown.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if it is a schedule
            where it must be constant, or if a dtype is neither floating nor complex.

    Source: Dozat, 2016.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.nadam(0.1)
    >>> update, _ = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> round(float(update), 4)  # 1 + 0.9 / 1.9 times Adam's step
    -0.1474
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    momentum_decay: Hyper | None = None
    nu_dtype: DTypeLike | None = None
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    eps_hat: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    instead = {"nesterov": "leave it out, since NAdam always takes Nesterov's step"}
    conventions = {
        "torch": {"learning_rate": 2e-3, "momentum_decay": 4e-3},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "momentum_decay": 1.0, "decoupled": True},
    }

    def expand(self) -> Transform:
        step = adam_of(self, nesterov=True, momentum_decay=self.momentum_decay)
        return with_decay(self, step, scale_by_learning_rate(self.learning_rate))


class nadamw(Conventional):
    r"""NAdamW is NAdam with a weight decay that is added to the update and stays out of the averages.

    $$ u = -\eta\, (n / (\sqrt{\hat v} + \epsilon) + \lambda\, \theta) $$

    with the momentum $n$ of `nadam`.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: $b_1$, to which the decays $\mu_t$ of the momentum rise, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: a number, 0 or more, which is added to $\hat v$ under the root. None adds nothing.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay, as in `adamw`. None means all leaves.
        momentum_decay: how fast $\mu_t$ rises to $b_1$, as in `nadam`. None means $\mu_t = b_1$.
        nu_dtype: the dtype of $v$. None means the real dtype of the parameter, and float32 at least.
        eps_hat: whether $\epsilon$ is added to the uncorrected $\sqrt v$, as in `adam`. Then `eps` and
            `b2` must be constant.
        schedule: a second factor of the update, beside the learning rate. None means 1.
        decay_mode: which factors multiply the decay: "lr", "schedule" or "absolute", as in `adamw`.
        convention: the library whose defaults fill in the arguments that are not given: "optax", "torch"
            or "keras".

    The state is that of `nadam`.

    Raises:
        ValueError: if a number lies outside its interval, if `decay_mode` or `convention` is unknown,
            or if `update` is called without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if it is a schedule
            where it must be constant, or if a dtype is neither floating nor complex.

    Sources: Dozat, 2016; Loshchilov & Hutter, 2017, arXiv:1711.05101.

    >>> import gradtx
    >>> gradtx.nadamw(1e-3, convention="torch")
    nadamw(0.001, momentum_decay=0.004)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    weight_decay: Hyper = 1e-4
    mask: Any = None
    momentum_decay: Hyper | None = None
    nu_dtype: DTypeLike | None = None
    eps_hat: bool = False
    schedule: Hyper | None = None
    decay_mode: Literal["lr", "schedule", "absolute"] = "lr"
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    instead = {"nesterov": "leave it out, since NAdam always takes Nesterov's step"}
    conventions = {
        "torch": {"learning_rate": 2e-3, "momentum_decay": 4e-3},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "momentum_decay": 1.0},
    }

    def expand(self) -> Transform:
        step = adam_of(self, nesterov=True, momentum_decay=self.momentum_decay)
        return with_decay_between(self, step)
