"""Adan without a learning rate, which averages the gradients and their changes."""

from gradtx._compose.chain import chain, identity
from gradtx._compose.once import once
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.adam import quotient
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.previous import difference


class scale_by_adan(Recipe):
    r"""Adan divides two momenta by a root mean square that looks one step ahead.

    $$ u = \frac{\hat m + b_2\, \hat d}{\sqrt{\hat n + \bar\epsilon} + \epsilon} $$

    where $m$ is an average of the gradients $g_t$, $d$ of the changes $\Delta_t = g_t - g_{t-1}$, and
    $n$ of the squares $|g_t + b_2 \Delta_t|^2$. The first change is 0.

    Args:
        b1: the decay of $m$, in [0, 1). It is $1 - \beta_1$ of the paper, and likewise for the others.
        b2: the decay of $d$, in [0, 1).
        b3: the decay of $n$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None means 0.

    This and every other number may be a schedule, or an array under `vmap`. Optax 0.2.8 has $1 - b_2$ in
    the two places where the paper has $b_2$.

    The state is that of `expand()`. It holds the gradient of the last step once.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Xie et al., 2022, arXiv:2208.06677, algorithm 1.
    """

    b1: Hyper = 0.98
    b2: Hyper = 0.92
    b3: Hyper = 0.99
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def expand(self) -> Transform:
        change = once(difference())
        m = bias_correction(scale_by_momentum(self.b1))
        d = chain(change, bias_correction(scale_by_momentum(self.b2)))
        ahead = identity() + change * self.b2
        n = chain(ahead, bias_correction(second_moment(self.b3)))
        return quotient(self, m + d * self.b2, n)
