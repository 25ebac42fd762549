"""Prodigy: Adam whose learning rate is an estimate of the distance to the solution."""

from collections.abc import Hashable
from typing import Any

from optax.contrib import ProdigyState

from gradtx._core.dtypes import accumulator, scalar
from gradtx._core.latex import Page, Tex
from gradtx._core.numerics import abs_square, average, average_of_squares, bounded, sqrt
from gradtx._core.schedule import next_count
from gradtx._core.tree_sums import inner_product, sum_of_sizes
from gradtx._core.trees import PyTree, tree_map
from gradtx._core.values import Fixed, Hyper
from gradtx._core.varying import counter
from gradtx._transforms.combined import combined, copied
from gradtx._transforms.estimated import Estimated, clamped, grown, quotient, times_array


class scale_by_prodigy(Estimated):
    r"""Adam whose learning rate is the estimate of a distance, which grows as the parameters move.

    $$ u = \eta_t (m_t / (\sqrt{v_t} + d_{t+1} \epsilon) + \lambda\, \theta), \qquad
       \eta_t = d_t\, l_t \sqrt{1 - b_2^t} / (1 - b_1^t) $$

    where $m$ and $v$ are the averages of $d\, g$ and $|d\, g|^2$, $l$ is the learning rate, and the
    distance is

    $$ d_{t+1} = \max(d_t, c\, r_t / \|s_t\|_1), \qquad
       r_t = b_3 r_{t-1} + (d_t / d_0)\, \eta_t \langle g_t, \theta_0 - \theta \rangle, \qquad
       s_t = b_3 s_{t-1} + (d_t / d_0)\, \eta_t g_t $$

    with $b_3 = \sqrt{b_2}$. The inner product and the norm are those of the whole tree, so the distance
    is one number. The paper has $d_t \epsilon$ in the denominator; its authors' code and Optax have the
    next distance there, as here.

    Args:
        learning_rate: $l$, in units of the estimate. A schedule falls from 1.
        betas: the decays $(b_1, b_2)$ of Adam, in [0, 1), which must be constant.
        beta3: $b_3$, in [0, 1). None means $\sqrt{b_2}$.
        eps: $\epsilon \ge 0$.
        estim_lr0: $d_0 > 0$, the first estimate, which must be constant and smaller than the distance.
        estim_lr_coef: $c$, a factor of the estimates.
        weight_decay: $\lambda \ge 0$.
        safeguard_warmup: whether $s$ has the factor $d_t$ in place of $\eta_t$, so that a warm-up does
            not make it small.
        bias_correction: whether $\eta$ has the factors of the bias correction. The reference
            implementation leaves them out by default, and Optax always has them.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device estimates a distance of its own.

    The state is `optax.contrib.ProdigyState(exp_avg, exp_avg_sq, grad_sum, params0, estim_lr,
    numerator_weighted, count)`, where `estim_lr` is $d$ and `grad_sum` is $s$.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Mishchenko & Defazio, 2023, arXiv:2306.06101, algorithm 4.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.scale_by_prodigy(), jnp.zeros(2)
    >>> u, state = tx.update(jnp.array([3.0, -4.0]), tx.init(params), params)
    >>> bool(jnp.allclose(u, jnp.array([1e-6, -1e-6]), rtol=0.01))  # the first steps have size d_0
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
    axis_name: Hashable | None = None
    limits = {
        "beta3": "[0, 1)",
        "eps": "[0, inf)",
        "estim_lr0": "(0, inf)",
        "weight_decay": "(-inf, inf)",
    }

    def init_tree(self, params: PyTree) -> ProdigyState:
        axes, first = self.scalars(params)
        return ProdigyState(
            exp_avg=tree_map(accumulator, params),
            exp_avg_sq=tree_map(lambda p: accumulator(p, real=True), params),
            grad_sum=tree_map(accumulator, params),
            params0=tree_map(copied, params),
            estim_lr=first,
            numerator_weighted=counter(axes, scalar(0.0)),
            count=counter(frozenset()),
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, ProdigyState]:
        d = state.estim_lr
        rate = d * self.rate(state, params)
        b1, b2 = self.betas
        b3 = sqrt(scalar(b2)) if self.beta3 is None else scalar(self.beta3)
        weight = d / scalar(self.estim_lr0)
        way = combined(lambda u, p, p0: p0 - p, updates, params, state.params0)
        given = tree_map(lambda g: bounded(times_array(d, g)), updates)
        inner = inner_product(updates, way, self.axis_name)
        r = clamped(b3 * state.numerator_weighted + weight * rate * inner)
        share = weight * (d if self.safeguard_warmup else rate)
        s = combined(
            lambda g, s: times_array(b3, s) + times_array(share, g),
            updates,
            state.grad_sum,
            gaps=state.grad_sum,
        )
        m = combined(lambda g, m: average(m, g, b1), given, state.exp_avg, gaps=state.exp_avg)
        v = tree_map(abs_square, given)
        v = combined(
            lambda g, v: average_of_squares(v, g, b2), v, state.exp_avg_sq, gaps=state.exp_avg_sq
        )
        new_d = grown(d, scalar(self.estim_lr_coef) * r, sum_of_sizes(s, self.axis_name))
        small = new_d * scalar(self.eps)
        decay = rate * scalar(self.weight_decay)

        def step(g: Any, m: Any, v: Any, p: Any) -> Any:
            return times_array(rate, quotient(m, v.real, small)) + times_array(decay, p)

        new = ProdigyState(
            exp_avg=m,
            exp_avg_sq=v,
            grad_sum=s,
            params0=state.params0,
            estim_lr=new_d,
            numerator_weighted=r,
            count=next_count(state.count),
        )
        return combined(step, updates, m, v, params), new

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.tex_of(g, page, "Prodigy", scaled=True)
