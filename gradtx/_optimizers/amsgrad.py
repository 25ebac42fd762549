"""AMSGrad: Adam that divides by the root of the largest second moment so far."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import Conventional, with_decay
from gradtx._transforms.adam import scale_by_amsgrad
from gradtx._transforms.scale import scale_by_learning_rate


class amsgrad(Conventional):
    r"""AMSGrad is Adam with the largest second moment so far in place of the present one.

    $$ u = -\eta\, \hat m / (\sqrt{\max_{s \le t} \hat v_s} + \epsilon) $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: a number, 0 or more, which is added to the maximum under the root. None adds nothing.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        bias_correction_mu: whether $m$ is divided by $1 - b_1^t$. The paper does not do so.
        bias_correction_nu: whether $v$ is divided by $1 - b_2^t$. The paper does not do so.
        nu_dtype: the dtype of $v$. None means the real dtype of the parameter, and float32 at least.
        weight_decay: $\lambda \ge 0$ of an L2 penalty, as in `adam`. None means no penalty.
        mask: which leaves decay, as in `adam`. None means all leaves.
        decoupled: whether the decay is added to the update and not to the gradient, as in `adam`.
        eps_hat: whether $\epsilon$ is added to the root of the uncorrected maximum, as in Keras. Then
            `eps` and `b2` must be constant.
        max_of_raw: whether the maximum is taken of the uncorrected $v_s$ and corrected afterwards, as in
            torch and Keras.
        convention: the library or paper whose defaults fill in the arguments that are not given:
            "optax", "torch", "keras" or "paper".

    The state holds `optax.ScaleByAmsgradState(count, mu, nu, nu_max)`, where `nu_max` is the maximum,
    and `LearningRateState(step, last_learning_rate)`. Without both bias corrections, or where a decay
    is a schedule, the first of these is the state of the composition instead.

    Raises:
        ValueError: if a number lies outside its interval, or if `convention` is unknown.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if it is a schedule
            where it must be constant, or if a dtype is neither floating nor complex.

    Source: Reddi, Kale & Kumar, 2018, arXiv:1904.09237, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.amsgrad(1e-3, convention="torch")
    amsgrad(0.001, max_of_raw=True)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    bias_correction_mu: bool = True
    bias_correction_nu: bool = True
    nu_dtype: DTypeLike | None = None
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
