"""A float32 copy of parameters in a narrower dtype, which is what the optimizer trains."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import accumulator, compute_dtype
from gradtx._core.latex import Page, Tex
from gradtx._core.trees import PyTree, flatten


class MasterWeightsState(NamedTuple):
    """The state of `master_weights`.

    `master` holds the float32 copies, with `optax.MaskedNode()` in place of every parameter that has no
    copy, and `inner` is the state of the inner transformation.
    """

    master: Any
    inner: Any


class master_weights(Wrapper):
    r"""Train a float32 copy of all parameters in a narrower dtype, such as bfloat16.

    $$ \theta \leftarrow \theta + u(\theta), \qquad \Delta = \theta - p $$

    Here $p$ is the parameter, $\theta$ its float32 copy, and $u$ the update of `inner`, which sees
    $\theta$ in place of $p$. The returned update $\Delta$ is float32, although gradients and parameters
    are narrower. So after `apply_updates(params, updates)` every parameter is its copy, rounded once to
    its dtype, bit for bit. An update that is too small to change a bfloat16 parameter is not lost: it
    stays in the copy, and counts as soon as their sum reaches the next number.

    The copy is computed as $p + \Delta$ in float32. This is the sum $\theta + u$ itself as long as an
    entry does not change its sign and does not grow or shrink by more than a factor of two in one step,
    and else differs from it by one rounding of float32.

    Put it around the whole optimizer, so that nothing changes its updates:
    `master_weights(chain(clip(1.0), adamw(1e-3)))`. Do not cast the updates before `apply_updates`. The
    copy takes 4 bytes per parameter. Parameters in float32, float64 or a complex dtype have no copy.

    Args:
        inner: the optimizer, of gradtx or of Optax.

    The state is `MasterWeightsState(master, inner)`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `update` is called without the parameters.

    Source: Micikevicius et al., 2017, arXiv:1710.03740, section 3.1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.master_weights(gradtx.sgd(1e-3))
    >>> params = jnp.ones((), jnp.bfloat16)
    >>> state = tx.init(params)
    >>> for _ in range(100):
    ...     updates, state = tx.update(jnp.ones((), jnp.bfloat16), state, params)
    ...     params = gradtx.apply_updates(params, updates)
    >>> float(params), round(float(state.master), 3)  # 0.8984375 is the bfloat16 number next to 0.9
    (0.8984375, 0.9)
    """

    linear = True
    keeps_updates = True
    wide_updates = True

    def init_tree(self, params: PyTree) -> MasterWeightsState:
        leaves, structure = flatten(params)
        copies = [copy_of(p) for p in leaves]
        seen = [p if x is None else x for p, x in zip(leaves, copies, strict=True)]
        gaps = [gap(p) if x is None else x for p, x in zip(leaves, copies, strict=True)]
        inner = self.inner.init_tree(structure.unflatten(seen))
        return MasterWeightsState(structure.unflatten(gaps), inner)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, MasterWeightsState]:
        if params is None:
            raise ValueError(
                "`master_weights` returns the difference of its copies and the parameters, so it needs "
                "the parameters: call `update(updates, state, params)`."
            )
        given, structure = flatten(params)
        masters = structure.flatten_up_to(state.master)
        seen = self.inner_params(params, state)
        out, inner = self.inner.update_tree(updates, state.inner, seen, extra)
        steps = structure.flatten_up_to(out)
        for i, (m, p, u) in enumerate(zip(masters, given, steps, strict=True)):
            if is_array(m) and u is not None:
                steps[i] = (m + u) - p
                # The same sum as in `apply_updates`, so that rounding both gives the same bits.
                masters[i] = p + steps[i]
        return structure.unflatten(steps), MasterWeightsState(structure.unflatten(masters), inner)

    def inner_params(self, params: PyTree, state: MasterWeightsState) -> PyTree:
        """The parameters that `inner` trains: the copies, and the parameters that have none.

        Args:
            params: the tree of parameters.
            state: the state of this wrapper.
        """
        given, structure = flatten(params)
        masters = structure.flatten_up_to(state.master)
        return structure.unflatten(
            [m if is_array(m) else p for m, p in zip(masters, given, strict=True)]
        )

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


def copy_of(param: Any) -> Any:
    """The float32 copy of a parameter in a narrower dtype, and None for every other one."""
    if param is None or compute_dtype(param) == param.dtype:
        return None
    if isinstance(param, jax.ShapeDtypeStruct):
        return accumulator(param)
    return param.astype(jnp.float32)


def gap(param: Any) -> Any:
    """What stands in place of the copy of a parameter that has none."""
    return None if param is None else optax.MaskedNode()


def is_array(x: Any) -> bool:
    """Whether this entry of the state is a copy, and not what stands in place of one."""
    return hasattr(x, "dtype")
