"""Gaussian noise that is added to the gradients, and fades over the steps."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._core.authors import described
from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, fraction, plus, sqrt, times
from gradtx._core.numerics import shard_axes
from gradtx._core.schedule import next_count
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Hyper


class add_noise(Transform):
    r"""Normal noise, whose variance falls over the steps, is added to the gradients.

    $$ u_t = g_t + \sqrt{\eta / t^\gamma}\, \xi_t, \qquad \xi_t \sim N(0, 1) $$

    Args:
        eta: $\eta \ge 0$, the variance in the first step.
        gamma: $\gamma \ge 0$, how fast the variance falls.
        key: the seed of the random numbers, an integer. Equal seeds give equal numbers, which are those
            of Optax. A complex entry gets noise of this variance, in equal parts in both directions.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, all devices add the same noise to what they hold.

    The state is `optax.AddNoiseState(count, rng_key)`, where `rng_key` holds the bits of a key of
    `jax.random` (`jax.random.key_data`). In a sweep, set other bits for every member:
    `gradtx.set(state, rng_key=bits)`.

    Raises:
        ValueError: if a number is negative.
        TypeError: if `key` is not an integer.

    Source: Neelakantan et al., 2015, arXiv:1511.06807, eq. 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.add_noise(0.01, 0.55, key=0)
    >>> u, state = tx.update(jnp.zeros(1000), tx.init(jnp.zeros(1000)))
    >>> float(jnp.round(jnp.std(u), 2))
    0.1
    """

    eta: Hyper
    gamma: Hyper
    key: int = 0
    axis_name: Hashable | None = None
    limits = {"eta": "[0, inf)", "gamma": "[0, inf)"}
    linear = True
    instead = {"seed": "write `key=`, which takes the same integer"}

    def validate(self) -> None:
        if type(self.key) is not int:
            raise TypeError(
                f"`add_noise(key={described(self.key)})` must be an integer, the seed. To continue with "
                "a key of `jax.random`, put its bits into the state: "
                "`gradtx.set(state, rng_key=jax.random.key_data(key))`."
            )

    def init_tree(self, params: PyTree) -> Any:
        key = jax.random.key_data(jax.random.key(self.key))
        return optax.AddNoiseState(jnp.zeros((), jnp.int32), key)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        count = next_count(state.count)
        size = jnp.sqrt(scalar(self.eta) / scalar(count) ** scalar(self.gamma))
        key, now = jax.random.split(jax.random.wrap_key_data(state.rng_key))
        leaves, structure = jax.tree.flatten(updates)
        keys = jax.random.split(now, max(len(leaves), 1))
        noisy = [self._noisy(x, k, size) for x, k in zip(leaves, keys, strict=False)]
        return structure.unflatten(noisy), optax.AddNoiseState(count, jax.random.key_data(key))

    def _noisy(self, x: jax.Array, key: jax.Array, size: jax.Array) -> jax.Array:
        for axis in shard_axes(x, self.axis_name):  # other noise on every shard
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        return x + size.astype(x.dtype) * jax.random.normal(key, x.shape, x.dtype)

    def tex(self, g: Tex, page: Page) -> Tex:
        words = r"\text{: an array of independent normal numbers of variance 1, new in every step}"
        page.notes[r"\xi_t"] = words
        gamma = page.number(self.gamma, r"\gamma")
        variance = fraction(page.number(self.eta, r"\eta"), Tex(rf"t^{{{gamma.text}}}"))
        return plus(g, times(sqrt(variance), Tex(r"\xi_t")))
