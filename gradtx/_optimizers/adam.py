"""Adam and AdamW, which divide a momentum by a root mean square, both bias-corrected."""

from typing import Any, Literal

from jax.typing import DTypeLike

from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import Conventional, with_decay, with_decay_between
from gradtx._transforms.adam import scale_by_adam
from gradtx._transforms.scale import scale_by_learning_rate
from gradtx._wrappers.cautious import cautious


def adam_of(recipe: Any, **options: Any) -> Transform:
    """`scale_by_adam` with the hyperparameters of `recipe`, which is a variant of Adam."""
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
    r"""Adam divides an average of the gradients by the root of an average of their squares.

    $$ u = -\eta\, \hat m / (\sqrt{\hat v} + \epsilon), \qquad
       \hat m = m / (1 - b_1^t), \qquad \hat v = v / (1 - b_2^t) $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: a number, 0 or more, which is added to $\hat v$ under the root. None adds nothing.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        nesterov: whether NAdam's momentum (`scale_by_nadam_momentum`) takes the place of $\hat m$.
        nu_dtype: the dtype of $v$. None means the real dtype of the parameter, and float32 at least.
        weight_decay: $\lambda \ge 0$ of an L2 penalty, which adds $\lambda\, \theta$ to the gradient.
            None means no penalty.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        decoupled: whether the decay is added to the update as $-\eta\, \lambda\, \theta$ and not to the
            gradient. The averages then do not contain it.
        eps_hat: whether $\epsilon$ is added to the uncorrected $\sqrt v$, as in Keras. Then `eps` and
            `b2` must be constant.
        convention: the library or paper whose defaults fill in the arguments that are not given:
            "optax", "torch", "keras" or "paper".

    The state holds `optax.ScaleByAdamState(count, mu, nu)`, where `mu` is $m$ and `nu` is $v$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `convention` is unknown.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if it is a schedule
            where it must be constant, or if a dtype is neither floating nor complex.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, algorithm 1; `eps_hat`: end of section 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adam(0.1)
    >>> state = tx.init(jnp.zeros(2))
    >>> jnp.round(tx.update(jnp.array([1e-3, -7.0]), state)[0], 4)  # the first steps have size 0.1
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    nesterov: bool = False
    nu_dtype: DTypeLike | None = None
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
    r"""AdamW is Adam with a weight decay that is added to the update and stays out of the averages.

    $$ u = -\eta\, (\hat m / (\sqrt{\hat v} + \epsilon) + \lambda\, \theta) $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: a number, 0 or more, which is added to $\hat v$ under the root. None adds nothing.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        nesterov: whether NAdam's momentum (`scale_by_nadam_momentum`) takes the place of $\hat m$.
        nu_dtype: the dtype of $v$. None means the real dtype of the parameter, and float32 at least.
        eps_hat: whether $\epsilon$ is added to the uncorrected $\sqrt v$, as in Keras. Then `eps` and
            `b2` must be constant.
        schedule: a second factor of the update, beside the learning rate. None means 1.
        decay_mode: which factors multiply the decay: "lr", the learning rate and `schedule` (Optax,
            torch, Keras); "schedule", `schedule` alone (the paper); "absolute", neither of the two.
        cautious_update: whether only those entries move whose update agrees with the gradient, as in
            C-AdamW (`cautious`).
        convention: the library or paper whose defaults fill in the arguments that are not given:
            "optax", "torch", "keras" or "paper".

    The state holds `optax.ScaleByAdamState(count, mu, nu)`, where `mu` is $m$ and `nu` is $v$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, if `decay_mode` or `convention` is unknown,
            or if `update` is called without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if it is a schedule
            where it must be constant, or if a dtype is neither floating nor complex.

    Sources: Loshchilov & Hutter, 2017, arXiv:1711.05101, algorithm 2; Liang et al., 2024,
    arXiv:2411.16085 (C-AdamW).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adamw(0.1, weight_decay=0.01)
    >>> w = jnp.array([1.0, 10.0])
    >>> tx.update(jnp.zeros(2), tx.init(w), w)[0]  # the gradient is 0, so the decay acts alone
    Array([-0.001, -0.01 ], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    weight_decay: Hyper = 1e-4
    mask: Any = None
    nesterov: bool = False
    nu_dtype: DTypeLike | None = None
    eps_hat: bool = False
    schedule: Hyper | None = None
    decay_mode: Literal["lr", "schedule", "absolute"] = "lr"
    cautious_update: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    conventions = {
        "torch": {"learning_rate": 1e-3, "weight_decay": 1e-2},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "weight_decay": 4e-3, "eps_hat": True},
        "paper": {"learning_rate": 1e-3, "decay_mode": "schedule"},
    }

    def expand(self) -> Transform:
        step = adam_of(self, nesterov=self.nesterov)
        return with_decay_between(self, cautious(step) if self.cautious_update else step)
