"""Optimizers that find their learning rate by how far they have come: Prodigy, D-Adaptation and DoG."""

from typing import Any

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._schedules.averaging import polynomial_weight
from gradtx._transforms.dadapt import scale_by_dadapt
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.dog import scale_by_dog
from gradtx._transforms.prodigy import scale_by_prodigy
from gradtx._transforms.scale import scale, scale_by_learning_rate
from gradtx._wrappers.averaged import averaged


class prodigy(Recipe):
    r"""Prodigy is AdamW whose learning rate is an estimate of the distance to the solution.

    The estimate grows as the parameters move, and one number serves the whole tree.
    `scale_by_prodigy` has the equations.

    Args:
        learning_rate: the learning rate in units of the estimate; a schedule falls from 1.
        betas: the decays $(b_1, b_2)$ of Adam, in [0, 1), which must be constant.
        beta3: the decay of the estimate's sums, in [0, 1). None means $\sqrt{b_2}$.
        eps: $\epsilon \ge 0$.
        estim_lr0: the first estimate, more than 0, which must be constant.
        estim_lr_coef: a factor of the estimates.
        weight_decay: the rate of decay $\lambda \ge 0$.
        safeguard_warmup: whether a warm-up is kept out of the denominator of the estimate.
        bias_correction: whether the averages are bias-corrected. The reference implementation leaves
            the correction out by default, and Optax always has it.

    The state is `optax.contrib.ProdigyState(exp_avg, exp_avg_sq, grad_sum, params0, estim_lr,
    numerator_weighted, count)`, and `gradtx.get(state, "estim_lr")` is the estimate.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Mishchenko & Defazio, 2023, arXiv:2306.06101, algorithm 4.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.prodigy(), jnp.array([3.0, -4.0])
    >>> state = tx.init(params)
    >>> for _ in range(100):
    ...     u, state = tx.update(params, state, params)  # the gradient of |params|**2 / 2
    ...     params = gradtx.apply_updates(params, u)
    >>> float(gradtx.get(state, "estim_lr")) > 0.1  # it was 1e-6 at first
    True
    """

    learning_rate: Hyper = 1.0
    betas: tuple[Fixed, ...] = (0.9, 0.999)
    beta3: Fixed | None = None
    eps: Fixed = 1e-8
    estim_lr0: Fixed = 1e-6
    estim_lr_coef: Fixed = 1.0
    weight_decay: Fixed = 0.0
    safeguard_warmup: bool = False
    bias_correction: bool = True

    def expand(self) -> Transform:
        step = scale_by_prodigy(
            self.learning_rate,
            self.betas,
            self.beta3,
            self.eps,
            self.estim_lr0,
            self.estim_lr_coef,
            self.weight_decay,
            self.safeguard_warmup,
            self.bias_correction,
        )
        return chain(step, scale(-1.0))


class dadapt_adamw(Recipe):
    r"""D-Adaptation is AdamW whose learning rate is a lower bound of the distance to the solution.

    The bound grows as the gradients agree with each other, and one number serves the whole tree.
    `scale_by_dadapt` has the equations.

    Args:
        learning_rate: the learning rate in units of the estimate; a schedule falls from 1.
        betas: the decays $(b_1, b_2)$ of Adam, in [0, 1), which must be constant.
        eps: $\epsilon \ge 0$.
        estim_lr0: the first estimate, more than 0, which must be constant.
        weight_decay: the rate of decay $\lambda \ge 0$.
        bias_correction: whether the rate has the factors of the bias correction, as in Optax. The paper
            has none.

    The state is `optax.contrib.DAdaptAdamWState(exp_avg, exp_avg_sq, grad_sum, estim_lr,
    numerator_weighted, count)`, and `gradtx.get(state, "estim_lr")` is the estimate.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Defazio & Mishchenko, 2023, arXiv:2301.07733, algorithm 5.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.dadapt_adamw(), jnp.array([3.0, -4.0])
    >>> u, state = tx.update(params, tx.init(params), params)
    >>> bool(jnp.allclose(u, jnp.array([-1e-6, 1e-6]), rtol=0.01))
    True
    """

    learning_rate: Hyper = 1.0
    betas: tuple[Fixed, ...] = (0.9, 0.999)
    eps: Fixed = 1e-8
    estim_lr0: Fixed = 1e-6
    weight_decay: Fixed = 0.0
    bias_correction: bool = True

    def expand(self) -> Transform:
        step = scale_by_dadapt(
            self.learning_rate,
            self.betas,
            self.eps,
            self.estim_lr0,
            self.weight_decay,
            self.bias_correction,
        )
        return chain(step, scale(-1.0))


class dog(Recipe):
    r"""DoG is SGD whose learning rate is a distance over gradients, and needs no tuning.

    $$ u = -\eta\, \frac{\bar r_t}{\sqrt{G_t + \epsilon}}\, (g_t + \lambda\, \theta) $$

    where $\bar r$ is the largest distance from the first parameters so far, and $G$ the sum of all
    squared norms of what the fraction multiplies. Both are those of the whole tree.

    Args:
        learning_rate: $\eta$, a factor of the step.
        init_step: how the first step is made, as in `scale_by_dog`.
        eps: $\epsilon \ge 0$.
        weight_decay: $\lambda \ge 0$, which is added to the gradient. None means none.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        average: $\gamma \ge 0$ of the average of the parameters that is evaluated, in which the
            parameters of step $t$ have about the weight $t^\gamma$ (`polynomial_weight`). The authors
            take 8. None means no average.

    The state holds `optax.contrib.DoGState(is_init_step, init_params, max_dist, sum_sq_norm_grads)`.
    With an average, it is `AveragedState(count, average, inner)`, and `eval_params` returns the average.

    Raises:
        ValueError: if a number lies outside its interval, if `init_step` is not a pair of a word and a
            number, or if `update` is called without the parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Ivgi et al., 2023, arXiv:2302.12022, eq. 1-2; the average is that of the experiments there.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.dog(init_step=("distance", 0.5)), jnp.zeros(2)
    >>> jnp.round(tx.update(jnp.array([3.0, 4.0]), tx.init(params), params)[0], 6)
    Array([-0.3, -0.4], dtype=float32)
    """

    learning_rate: Hyper = 1.0
    init_step: Any = ("heuristic", 1e-6)
    eps: Hyper = 1e-8
    weight_decay: Hyper | None = None
    mask: Any = None
    average: Fixed | None = None

    def expand(self) -> Transform:
        step = scale_by_dog(self.init_step, self.eps)
        step = chain(step, scale_by_learning_rate(self.learning_rate))
        if self.weight_decay is not None:
            step = chain(decoupled_weight_decay(self.weight_decay, self.mask), *step.links)
        return step if self.average is None else averaged(step, polynomial_weight(self.average))
