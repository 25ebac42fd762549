"""What updates may not do: contain NaN, or make a parameter negative."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._core.latex import OTHERWISE, THETA, Page, Tex, cases, plus, times
from gradtx._core.unit import Elementwise


class zero_nans(Elementwise):
    r"""Entries that are NaN are replaced by 0.

    $$ u = 0 \text{ where } g \text{ is NaN}, \qquad u = g \text{ elsewhere} $$

    A NaN in a gradient most often means that something is wrong, and this transformation hides it.
    `skip_nonfinite` leaves out the whole step and counts such steps.

    The state is `optax.ZeroNansState(found_nan)`: for every leaf, whether its last gradient contained a
    NaN.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.zero_nans()
    >>> u, state = tx.update(jnp.array([jnp.nan, 2.0]), tx.init(jnp.zeros(2)))
    >>> u, bool(state.found_nan)
    (Array([0., 2.], dtype=float32), True)
    """

    linear = True
    keeps_zero = True

    def init_leaf(self, param: Any) -> Any:
        return optax.ZeroNansState(jnp.zeros((), bool))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        missing = jnp.isnan(update)
        kept = jnp.where(missing, jnp.zeros_like(update), update)
        return kept, optax.ZeroNansState(missing.any())

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        return cases((Tex("0"), rf"\text{{if }}{g.text}\text{{ is NaN}}"), (g, OTHERWISE))


class keep_params_nonnegative(Elementwise):
    r"""An update that would make a parameter negative is replaced by one that makes it 0.

    $$ u = \max(g, -\theta) $$

    Here $g$ is the step that is about to be taken, so this transformation stands last in a chain, behind
    the learning rate. Complex arrays, whose entries are neither positive nor negative, pass unchanged.

    The state is `optax.NonNegativeParamsState()`, which is empty.

    Raises:
        ValueError: if `update` is called without the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.keep_params_nonnegative())
    >>> w = jnp.array([2.0, 5.0])
    >>> tx.update(jnp.array([3.0, 3.0]), tx.init(w), w)[0]
    Array([-2., -3.], dtype=float32)
    """

    linear = True

    def init_leaf(self, param: Any) -> Any:
        return optax.NonNegativeParamsState()

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        if jnp.iscomplexobj(update):
            return update, state
        return jnp.where(param + update < 0, -param, update), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        below = rf"\text{{if }}{plus(THETA, g).text} < 0"
        return cases((times(Tex("-1"), THETA), below), (g, OTHERWISE))
