"""Adam, AdamW and AMSGrad: bias-corrected momentum over bias-corrected root mean square."""

from typing import Any

from gradtx._adam import epsilon, scale_by_nadam_momentum, with_eps_root
from gradtx._bias_correction import bias_correction
from gradtx._core import Transform
from gradtx._moments import root, running_max, scale_by_momentum, second_moment
from gradtx._scale import scale_by_learning_rate
from gradtx._value import Hyper
from gradtx.optimizers._convention import Conventional, with_decay, with_decay_between


class adam(Conventional):
    r"""Adam, $u = -\eta\, \hat m / (\sqrt{\hat v} + \epsilon)$.

    `eps_hat` puts epsilon beside the uncorrected $\sqrt v$, as Keras does; `eps_root` is added under
    the root; `weight_decay` is an L2 penalty unless `decoupled`.
    Source: Kingma & Ba, 2014, arXiv:1412.6980, algorithm 1 and end of section 2.
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
        m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        v = bias_correction(second_moment(self.b2, accumulator_dtype=self.nu_dtype))
        m = scale_by_nadam_momentum(self.b1, None, self.mu_dtype) if self.nesterov else m
        step = m / (root(with_eps_root(self, v)) + epsilon(self))
        return with_decay(self, step, scale_by_learning_rate(self.learning_rate))


class adamw(Conventional):
    r"""AdamW, $u = -\eta\, (\hat m / (\sqrt{\hat v} + \epsilon) + \lambda\, \theta)$.

    `decay_mode` says what multiplies the decay: "lr", all of the rate (Optax, torch, Keras); "schedule",
    only `schedule`, a second factor of the step, as in the paper; "absolute", nothing.
    Source: Loshchilov & Hutter, 2017, arXiv:1711.05101, algorithm 2.
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
        m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        v = bias_correction(second_moment(self.b2, accumulator_dtype=self.nu_dtype))
        m = scale_by_nadam_momentum(self.b1, None, self.mu_dtype) if self.nesterov else m
        step = m / (root(with_eps_root(self, v)) + epsilon(self))
        return with_decay_between(self, step)


class amsgrad(Conventional):
    r"""AMSGrad, $u = -\eta\, \hat m / (\sqrt{\max_{s \le t} \hat v_s} + \epsilon)$.

    With `max_of_raw`, as in torch, the maximum is of $v$ and corrected after; the paper corrects
    neither moment. Source: Reddi, Kale & Kumar, 2018, arXiv:1904.09237, algorithm 2.
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
        m = scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype)
        m = bias_correction(m) if self.bias_correction_mu else m
        v = second_moment(self.b2, accumulator_dtype=self.nu_dtype)
        if self.max_of_raw:
            v = running_max(v)
        v = bias_correction(v) if self.bias_correction_nu else v
        v = v if self.max_of_raw else running_max(v)
        step = m / (root(with_eps_root(self, v)) + epsilon(self))
        return with_decay(self, step, scale_by_learning_rate(self.learning_rate))
