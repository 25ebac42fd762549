"""RAdam without a learning rate: Adam whose first steps are replaced by momentum, or shortened."""

from typing import Any

import optax

from gradtx._compose.fanout import constant
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._schedules.rectification import before_rectification, rectification
from gradtx._transforms.adam import ScheduledAdamState
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.nadam import scale_by_nadam_momentum
from gradtx._transforms.roots import root


class scale_by_radam(Recipe):
    r"""RAdam takes steps of momentum until the second moment is known, and then shortened steps of Adam.

    $$ u = \hat m \left( \frac{r_t}{\sqrt{\hat v + \bar\epsilon} + \epsilon} + [r_t = 0] \right) $$

    The factor $r_t$ is that of `rectification`. It is 0 in the first steps and approaches 1.

    Args:
        b1: the decay of $m$, the average of $g$, in [0, 1).
        b2: the decay of $v$, the average of $|g|^2$, in [0, 1), which must be constant.
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None means 0.
        threshold: the least length $\rho_t$ of the average for a step of Adam, see
            `rectification`. The paper and torch use a step of Adam for $\rho_t > 4$ and for
            $\rho_t > 5$.
        nesterov: whether NAdam's momentum, `scale_by_nadam_momentum`, takes the place of $\hat m$.

    The state is `optax.ScaleByAdamState(count, mu, nu)`. Where `b1` is a schedule, the state has one
    more field, `log_kept`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `b2` or `threshold` is a schedule.

    Source: Liu et al., 2019, arXiv:1908.03265, algorithm 2.
    """

    b1: Hyper = 0.9
    b2: Fixed = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    threshold: Fixed = 5.0
    nesterov: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def state(self) -> Any:
        return ScheduledAdamState if callable(self.b1) else optax.ScaleByAdamState

    def expand(self) -> Transform:
        average = scale_by_momentum(self.b1)
        m = scale_by_nadam_momentum(self.b1) if self.nesterov else bias_correction(average)
        v = bias_correction(second_moment(self.b2))
        v = v if self.eps_root is None else v + self.eps_root
        adam = constant(rectification(self.b2, self.threshold)) / (root(v) + self.eps)
        return m * (adam + before_rectification(self.b2, self.threshold))
