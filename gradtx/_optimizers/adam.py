"""Adam, AdamW and AMSGrad: bias-corrected momentum over bias-corrected root mean square."""

from typing import Any

from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import Conventional, with_decay, with_decay_between
from gradtx._transforms.adam import scale_by_adam, scale_by_amsgrad
from gradtx._transforms.scale import scale_by_learning_rate


def adam_of(recipe: Any, **options: Any) -> Transform:
    """`scale_by_adam` with the numbers that a recipe of Adam's kin has."""
    return scale_by_adam(
        recipe.b1,
        recipe.b2,
        recipe.eps,
        recipe.eps_root,
        recipe.mu_dtype,
        nu_dtype=recipe.nu_dtype,
        eps_hat=recipe.eps_hat,
        **options,
    )


class adam(Conventional):
    r"""Adam, $u = -\eta\, \hat m / (\sqrt{\hat v} + \epsilon)$.

    Args:
        learning_rate: $\eta \ge 0$. Numbers here may be schedules, and arrays under `vmap`,
            unless they are called constant.
        b1, b2: decays of the averages $m$ of $g$ and $v$ of $|g|^2$, in [0, 1).
        eps, eps_root: $\epsilon \ge 0$ beside the root, and what is added under it, if anything.
        mu_dtype, nu_dtype: of $m$ and $v$; by default the parameter's, and float32 at least.
        nesterov: NAdam's momentum, `scale_by_nadam_momentum`, in place of $\hat m$.
        weight_decay, mask: an L2 penalty, and the leaves that it is for (`decoupled_weight_decay`).
        decoupled: the penalty stays out of the averages, times the learning rate.
        eps_hat: epsilon stands beside the uncorrected $\sqrt v$, as in Keras; then `eps` and `b2` are
            constant.
        convention: whose defaults fill in what is not given: "optax", "torch", "keras" or "paper".

    Raises `ValueError` for a number outside its interval. Source: Kingma & Ba, 2014,
    arXiv:1412.6980, algorithm 1 and end of section 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adam(0.1)
    >>> state = tx.init(jnp.zeros(2))
    >>> jnp.round(tx.update(jnp.array([1e-3, -7.0]), state)[0], 4)  # the first step is the rate
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: str | None = None
    nesterov: bool = False
    nu_dtype: str | None = None
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    eps_hat: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    conventions = {
        "torch": {"learning_rate": 1e-3},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "eps_hat": True, "decoupled": True},
        "paper": {"learning_rate": 1e-3},
    }

    def expand(self) -> Transform:
        step = adam_of(self, nesterov=self.nesterov)
        return with_decay(self, step, scale_by_learning_rate(self.learning_rate))


class adamw(Conventional):
    r"""AdamW, $u = -\eta\, (\hat m / (\sqrt{\hat v} + \epsilon) + \lambda\, \theta)$.

    Args:
        learning_rate: $\eta \ge 0$. Numbers here may be schedules, and arrays under `vmap`,
            unless they are called constant.
        b1, b2: decays of the averages $m$ of $g$ and $v$ of $|g|^2$, in [0, 1).
        eps, eps_root: $\epsilon \ge 0$ beside the root, and what is added under it, if anything.
        mu_dtype, nu_dtype: of $m$ and $v$; by default the parameter's, and float32 at least.
        weight_decay, mask: $\lambda \ge 0$, and the leaves that decay (`decoupled_weight_decay`).
        nesterov: NAdam's momentum, `scale_by_nadam_momentum`, in place of $\hat m$.
        eps_hat: epsilon stands beside the uncorrected $\sqrt v$, as in Keras; then `eps` and `b2` are
            constant.
        schedule: a second factor of the step, beside the learning rate.
        decay_mode: what multiplies the decay: "lr", both factors (Optax, torch, Keras); "schedule",
            only that (the paper); "absolute", neither.
        convention: whose defaults fill in what is not given: "optax", "torch", "keras" or "paper".

    Raises `ValueError` for a number outside its interval, another mode, or an update without
    parameters. Source: Loshchilov & Hutter, 2017, arXiv:1711.05101, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adamw(0.1, weight_decay=0.01)
    >>> w = jnp.array([1.0, 10.0])
    >>> tx.update(jnp.zeros(2), tx.init(w), w)[0]  # without a gradient, the decay alone
    Array([-0.001, -0.01 ], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: str | None = None
    weight_decay: Hyper = 1e-4
    mask: Any = None
    nesterov: bool = False
    nu_dtype: str | None = None
    eps_hat: bool = False
    schedule: Hyper | None = None
    decay_mode: str = "lr"
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    conventions = {
        "torch": {"learning_rate": 1e-3, "weight_decay": 1e-2},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "weight_decay": 4e-3, "eps_hat": True},
        "paper": {"learning_rate": 1e-3, "decay_mode": "schedule"},
    }

    def expand(self) -> Transform:
        step = adam_of(self, nesterov=self.nesterov)
        return with_decay_between(self, step)


class amsgrad(Conventional):
    r"""AMSGrad, $u = -\eta\, \hat m / (\sqrt{\max_{s \le t} \hat v_s} + \epsilon)$.

    Args:
        learning_rate, b1, b2, eps, eps_root, mu_dtype, nu_dtype: as in `adam`.
        bias_correction_mu, bias_correction_nu: whether $m$ and $v$ are corrected; not in the paper.
        weight_decay, mask, decoupled, eps_hat: as in `adam`.
        max_of_raw: the maximum is of $v$ and corrected after, as in torch.
        convention: whose defaults fill in what is not given: "optax", "torch", "keras" or "paper".

    Raises `ValueError` for a number outside its interval. Source: Reddi, Kale & Kumar, 2018,
    arXiv:1904.09237, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.amsgrad(1e-3, convention="torch")
    amsgrad(0.001, max_of_raw=True)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: str | None = None
    bias_correction_mu: bool = True
    bias_correction_nu: bool = True
    nu_dtype: str | None = None
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    eps_hat: bool = False
    max_of_raw: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    conventions = {
        "torch": {"learning_rate": 1e-3, "max_of_raw": True},
        "keras": {
            "learning_rate": 1e-3,
            "eps": 1e-7,
            "eps_hat": True,
            "decoupled": True,
            "max_of_raw": True,
        },
        "paper": {"bias_correction_mu": False, "bias_correction_nu": False, "eps": 0.0},
    }

    def expand(self) -> Transform:
        step = scale_by_amsgrad(
            self.b1,
            self.b2,
            self.eps,
            self.eps_root,
            self.mu_dtype,
            self.bias_correction_mu,
            self.bias_correction_nu,
            self.nu_dtype,
            self.eps_hat,
            self.max_of_raw,
        )
        return with_decay(self, step, scale_by_learning_rate(self.learning_rate))
