"""`offloaded`: the state of an optimizer, kept in the memory of the host."""

from typing import Any

import jax

from gradtx._compose.wrapper import Wrapper
from gradtx._core.latex import Page, Tex
from gradtx._core.trees import PyTree


class offloaded(Wrapper):
    r"""Keep the state of an optimizer in the memory of the host, and move it to the device for a step.

    $$ u = f(g) $$

    The state lies in pinned host memory (`pinned_host`) between the steps. A step copies it to the
    device, runs `inner`, $f$, and copies the new state back. The updates are those of `inner`. On the
    device, the state takes memory during the update alone, and the step takes longer by the two copies,
    as far as the compiler does not overlap them with other work.

    A compiled step that donates the state has to return it in the place where it is donated, as the step
    of `gradtx.make_step` does, or to be given `out_shardings`. If it returns the updates first, JAX
    would give an array of the updates the memory of an array of the state, and stop.

    Args:
        inner: the optimizer, of gradtx or of Optax.
        min_size: arrays with fewer entries than this number stay on the device. Among these are counts,
            for which a copy would take longer than the arithmetic.

    The state is the state of `inner`. `gradtx.state_shardings` says in which memory its arrays lie.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `min_size` is not a whole number, 0 or more.

    Source: Ren et al., 2021, arXiv:2101.06840 (ZeRO-Offload), section 4.2, whose update runs on the
    host; here it runs on the device.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.offloaded(gradtx.adam(1e-3))
    >>> params = jnp.ones((64, 64))
    >>> state = tx.init(params)
    >>> updates, state = tx.update(params, state, params)
    >>> gradtx.get(state, "mu").sharding.memory_kind, updates.sharding.memory_kind
    ('pinned_host', 'device')
    """

    min_size: int = 4096
    linear = True
    keeps_updates = True

    def validate(self) -> None:
        if type(self.min_size) is not int or self.min_size < 0:
            raise ValueError(
                f"`offloaded(min_size={self.min_size!r})` must be a whole number of entries, 0 or more."
            )

    def init_tree(self, params: PyTree) -> Any:
        return self._moved(self.inner.init_tree(params), jax.memory.Space.Host)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        state = self._moved(state, jax.memory.Space.Device)
        updates, state = self.inner.update_tree(updates, state, params, extra)
        return updates, self._moved(state, jax.memory.Space.Host)

    def _moved(self, state: Any, space: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.device_put(x, space) if x.size >= self.min_size else x, state
        )

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)
