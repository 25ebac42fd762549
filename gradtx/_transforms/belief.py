"""AdaBelief without a learning rate: Adam with squared distances of gradients from their average."""

from typing import Any

import optax

from gradtx._compose.chain import chain, identity
from gradtx._compose.once import once
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.lifted import lifted
from gradtx._transforms.adam import ScheduledAdamState
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.roots import root


class scale_by_belief(Recipe):
    r"""AdaBelief divides the momentum by the root of an average of $|g - m|^2$, both bias-corrected.

    $$ u = \hat m / (\sqrt{\hat s} + \epsilon), \qquad
       s_t = b_2\, s_{t-1} + (1 - b_2)\, |g_t - m_t|^2 + \bar\epsilon $$

    Args:
        b1: the decay of $m$, the average of $g$, in [0, 1).
        b2: the decay of $s$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added to $s$ in every step.

    The state is `optax.ScaleByBeliefState(count, mu, nu)`, where `nu` is $s$ without $\bar\epsilon$,
    whose contribution to $\hat s$ is $\bar\epsilon / (1 - b_2)$ at every step. Where one of the two
    decays is a schedule, the state has one more field, `log_kept`; where both are, it is that of
    `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.

    Source: Zhuang et al., 2020, arXiv:2010.07468, algorithm 2.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-16
    eps_root: Hyper = 1e-16
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    instead = {"nesterov": "write `optax.scale_by_belief`, which works in gradtx"}

    def state(self) -> Any:
        changing = callable(self.b1) + callable(self.b2)
        return (optax.ScaleByBeliefState, ScheduledAdamState, None)[changing]

    def expand(self) -> Transform:
        m = once(scale_by_momentum(self.b1), "mean")
        s = chain(identity() - m, bias_correction(second_moment(self.b2)))
        added = lifted("/", self.eps_root, lifted("-", 1.0, self.b2))
        return bias_correction(m) / (root(s + added) + self.eps)
