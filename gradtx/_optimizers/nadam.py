"""NAdam and NAdamW: Adam with Nesterov's momentum."""

from typing import Any

from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.adam import adam_of
from gradtx._optimizers.convention import Conventional, with_decay, with_decay_between
from gradtx._transforms.scale import scale_by_learning_rate


class nadam(Conventional):
    r"""NAdam, $u = -\eta\, n / (\sqrt{\hat v} + \epsilon)$, whose momentum $n$ looks one step ahead.

    $$ n_t = \frac{\mu_{t+1}\, m_t}{1 - \prod_{s \le t+1} \mu_s}
           + \frac{(1 - \mu_t)\, g_t}{1 - \prod_{s \le t} \mu_s} $$

    Args:
        learning_rate, b1, b2, eps, eps_root, mu_dtype, nu_dtype: as in `adam`.
        momentum_decay: warms $\mu_t$ up to `b1`, as torch (0.004) and Keras (1) do; None for
            $\mu_t = b_1$ (Optax). See `scale_by_nadam_momentum`.
        weight_decay, mask, decoupled, eps_hat: as in `adam`.
        convention: whose defaults fill in what is not given: "optax", "torch" or "keras".

    Raises `ValueError` for a number outside its interval. Source: Dozat, 2016.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.nadam(0.1)
    >>> update, _ = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> round(float(update), 4)  # 1 + .9/1.9 times Adam's
    -0.1474
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: str | None = None
    momentum_decay: Hyper | None = None
    nu_dtype: str | None = None
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    eps_hat: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    conventions = {
        "torch": {"learning_rate": 2e-3, "momentum_decay": 4e-3},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "momentum_decay": 1.0, "decoupled": True},
    }

    def expand(self) -> Transform:
        step = adam_of(self, nesterov=True, momentum_decay=self.momentum_decay)
        return with_decay(self, step, scale_by_learning_rate(self.learning_rate))


class nadamw(Conventional):
    r"""NAdamW, $u = -\eta\, (n / (\sqrt{\hat v} + \epsilon) + \lambda\, \theta)$, $n$ as in `nadam`.

    Args:
        learning_rate, b1, b2, eps, eps_root, mu_dtype, nu_dtype: as in `adam`.
        weight_decay, mask, schedule, decay_mode: as in `adamw`.
        momentum_decay, eps_hat: as in `nadam`.
        convention: whose defaults fill in what is not given: "optax", "torch" or "keras".

    Raises `ValueError` for a number outside its interval, another mode, or an update without
    parameters. Sources: Dozat, 2016; Loshchilov & Hutter, 2017, arXiv:1711.05101.

    >>> import gradtx
    >>> gradtx.nadamw(1e-3, convention="torch")
    nadamw(0.001, momentum_decay=0.004)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: str | None = None
    weight_decay: Hyper = 1e-4
    mask: Any = None
    momentum_decay: Hyper | None = None
    nu_dtype: str | None = None
    eps_hat: bool = False
    schedule: Hyper | None = None
    decay_mode: str = "lr"
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    conventions = {
        "torch": {"learning_rate": 2e-3, "momentum_decay": 4e-3},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "momentum_decay": 1.0},
    }

    def expand(self) -> Transform:
        step = adam_of(self, nesterov=True, momentum_decay=self.momentum_decay)
        return with_decay_between(self, step)
