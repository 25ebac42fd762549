"""D-Adaptation: Adam whose learning rate is a lower bound of the distance to the solution."""

from collections.abc import Hashable
from typing import Any

from optax.contrib import DAdaptAdamWState

from gradtx._core.dtypes import accumulator, scalar
from gradtx._core.latex import Page, Tex
from gradtx._core.numerics import abs_square, average, average_of_squares, sqrt
from gradtx._core.schedule import next_count
from gradtx._core.tree_sums import inner_product, sum_of_sizes
from gradtx._core.trees import PyTree, tree_map
from gradtx._core.values import Fixed, Hyper
from gradtx._core.varying import counter
from gradtx._transforms.combined import combined
from gradtx._transforms.estimated import Estimated, clamped, grown, quotient, times_array


class scale_by_dadapt(Estimated):
    r"""Adam whose learning rate is a lower bound of the distance to the solution.

    $$ u = m_t / (\sqrt{v_t} + \epsilon) + \lambda\, \eta_t\, \theta, \qquad
       \eta_t = d_t\, l_t \sqrt{1 - b_2^t} / (1 - b_1^t) $$

    where $m$ is the average of $\eta\, g$, $v$ that of $|g|^2$, $l$ is the learning rate, and the
    distance is

    $$ d_{t+1} = \max\left(d_t, \frac{r_t}{(1 - b)\, \|s_t\|_1}\right), \qquad
       s_t = b\, s_{t-1} + (1 - b)\, \eta_t\, g_t, \qquad
       r_t = b\, r_{t-1} + (1 - b)\, \eta_t \left\langle g_t,
       \frac{s_{t-1}}{\sqrt{v_{t-1}} + \epsilon} \right\rangle $$

    with $b = \sqrt{b_2}$. The inner product and the norm are those of the whole tree, so the distance is
    one number.

    Args:
        learning_rate: $l$, in units of the estimate. A schedule falls from 1.
        betas: the decays $(b_1, b_2)$ of Adam, in [0, 1), which must be constant.
        eps: $\epsilon \ge 0$.
        estim_lr0: $d_0 > 0$, the first estimate, which must be constant and smaller than the distance.
        weight_decay: $\lambda \ge 0$.
        bias_correction: whether $\eta$ has the factors of the bias correction, as in Optax. The paper
            has none.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device estimates a distance of its own.

    The state is `optax.contrib.DAdaptAdamWState(exp_avg, exp_avg_sq, grad_sum, estim_lr,
    numerator_weighted, count)`, where `estim_lr` is $d$ and `grad_sum` is $s$.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Defazio & Mishchenko, 2023, arXiv:2301.07733, algorithm 5.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.scale_by_dadapt(), jnp.zeros(2)
    >>> u, state = tx.update(jnp.array([3.0, -4.0]), tx.init(params), params)
    >>> bool(jnp.allclose(u, jnp.array([1e-6, -1e-6]), rtol=0.01))  # the first steps have size d_0
    True
    """

    learning_rate: Hyper = 1.0
    betas: tuple[Fixed, ...] = (0.9, 0.999)
    eps: Fixed = 1e-8
    estim_lr0: Fixed = 1e-6
    weight_decay: Fixed = 0.0
    bias_correction: bool = True
    axis_name: Hashable | None = None
    limits = {"eps": "[0, inf)", "estim_lr0": "(0, inf)", "weight_decay": "(-inf, inf)"}

    def init_tree(self, params: PyTree) -> DAdaptAdamWState:
        axes, first = self.scalars(params)
        return DAdaptAdamWState(
            exp_avg=tree_map(accumulator, params),
            exp_avg_sq=tree_map(lambda p: accumulator(p, real=True), params),
            grad_sum=tree_map(accumulator, params),
            estim_lr=first,
            numerator_weighted=counter(axes, scalar(0.0)),
            count=counter(frozenset()),
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, DAdaptAdamWState]:
        d = state.estim_lr
        rate = d * self.rate(state, params)
        b1, b2 = self.betas
        b, eps = sqrt(scalar(b2)), scalar(self.eps)
        ahead = combined(
            lambda g, s, v: quotient(s, v.real, eps), updates, state.grad_sum, state.exp_avg_sq
        )
        inner = inner_product(updates, ahead, self.axis_name)
        r = clamped(b * state.numerator_weighted + (1 - b) * rate * inner)
        s = combined(
            lambda g, s: times_array(b, s) + times_array((1 - b) * rate, g),
            updates,
            state.grad_sum,
            gaps=state.grad_sum,
        )
        m = combined(
            lambda g, m: average(m, times_array(rate, g), b1),
            updates,
            state.exp_avg,
            gaps=state.exp_avg,
        )
        v = tree_map(abs_square, updates)
        v = combined(
            lambda g, v: average_of_squares(v, g, b2), v, state.exp_avg_sq, gaps=state.exp_avg_sq
        )
        decay = rate * scalar(self.weight_decay)

        def step(g: Any, m: Any, v: Any, p: Any) -> Any:
            return quotient(m, v.real, eps) + times_array(decay, p)

        new = DAdaptAdamWState(
            exp_avg=m,
            exp_avg_sq=v,
            grad_sum=s,
            estim_lr=grown(d, r, (1 - b) * sum_of_sizes(s, self.axis_name)),
            numerator_weighted=r,
            count=next_count(state.count),
        )
        return combined(step, updates, m, v, params), new

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.tex_of(g, page, "D-Adaptation", scaled=False)
