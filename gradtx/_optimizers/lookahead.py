"""Lookahead: every few steps, go back part of the way."""

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import AsTransform
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.scale import scale
from gradtx._wrappers.outer import outer


class lookahead(Recipe):
    r"""Every few steps of an optimizer, go back part of the way to where these steps began.

    After every $k$ steps of the fast optimizer, the slow parameters $\varphi$ move to the fast ones
    $\theta$ by a fraction of the way, and the fast ones start again from there:

    $$ \varphi \leftarrow \varphi + \alpha\, (\theta - \varphi), \qquad \theta \leftarrow \varphi $$

    The trained parameters are the fast ones, and `gradtx.eval_params(tx, params, state)` returns the
    slow ones. In Optax, the parameters are a pair of both; here they are the fast ones alone.

    Args:
        fast_optimizer: the optimizer of every step, of gradtx or of Optax.
        sync_period: $k$, the number of steps for one step of the slow parameters, 1 or more.
        slow_step_size: $\alpha$.
        reset_state: whether the state of the fast optimizer starts anew after each slow step.

    The state is `OuterState(mini_step, gradient_step, slow, outer, inner)`.

    Raises:
        TypeError: if `fast_optimizer` is not a transformation, or if a number is not a number, an array
            or a schedule.
        ValueError: if `sync_period` is less than 1, or if `update` is called without the parameters.

    Source: Zhang et al., 2019, arXiv:1907.08610, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.lookahead(gradtx.sgd(1.0), sync_period=2), jnp.zeros(())
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...     u, state = tx.update(jnp.ones(()), state, params)
    ...     params = gradtx.apply_updates(params, u)
    ...     print(float(params))
    -1.0
    -1.0
    -2.0
    -2.0
    """

    fast_optimizer: AsTransform
    sync_period: Hyper = 5
    slow_step_size: Hyper = 0.5
    reset_state: bool = False

    def expand(self) -> Transform:
        slow = chain(scale(self.slow_step_size), scale(-1.0))
        return outer(self.fast_optimizer, slow, self.sync_period, self.reset_state)
