"""What rounding takes from narrow parameters, kept in the state and added to later updates."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import compute_dtype
from gradtx._core.latex import Page, Tex
from gradtx._core.random_bits import seed_of
from gradtx._core.schedule import next_count
from gradtx._core.trees import PyTree, flatten
from gradtx._wrappers.remainders import decoded, in_8_bits, in_bfloat16


class CompensatedState(NamedTuple):
    """The state of `compensated`.

    Attributes:
        count: the number of steps.
        remainder: for each narrow dtype of the parameters a tree of remainders, under the name of the
            dtype, with `optax.MaskedNode()` in place of every parameter of another dtype.
        inner: the state of the inner transformation.
    """

    count: Any
    remainder: Any
    inner: Any


class compensated(Wrapper):
    r"""Keep what rounding takes from narrow parameters, and add it to the next updates.

    $$ \Delta = r + u(p + r), \qquad p \leftarrow \mathrm{round}(p + \Delta), \qquad
       r \leftarrow \Delta - (p_{\text{new}} - p) $$

    Here $p$ is the parameter, $r$ the remainder in the state, and $u$ the update of `inner`, which sees
    $p + r$ in place of $p$. The returned update $\Delta$ is float32, although gradients and parameters
    are narrower. Use `apply_updates` of gradtx or of Optax on it, without a cast in between. An update
    that is too small to change a bfloat16 parameter stays in the remainder, and counts as soon as their
    sum reaches the next number.

    The remainder takes 2 bytes per parameter in bfloat16 or 1 byte in 8 bits, while a float32 copy as in
    `master_weights` takes 4 bytes. The remainder is itself rounded at random to one of its two
    neighbors, by a hash of the number of the step and the position in the array. So $p + r$, which has
    16 binary digits for a bfloat16 parameter, is right on average also for updates that are too small
    for these digits.

    Put it around the whole optimizer, so that nothing changes its updates:
    `compensated(chain(clip(1.0), adamw(1e-3)))`. Parameters in float32, float64 or a complex dtype have
    no remainder.

    Args:
        inner: the optimizer, of gradtx or of Optax.
        remainder: "bfloat16", or "int8" for 1/256 of the distance to the next parameter as the unit.

    The state is `CompensatedState(count, remainder, inner)`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `remainder` is an unknown word, or if `update` is called without the parameters.

    Sources: Kahan, 1965, "Further remarks on reducing truncation errors"; Zamirai et al., 2020,
    arXiv:2010.06192, algorithm 1; for 8 bits, arXiv:2602.23349, which rounds the remainder to nearest.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.compensated(gradtx.sgd(1e-3), remainder="int8")
    >>> params = jnp.ones((), jnp.bfloat16)
    >>> state = tx.init(params)
    >>> for _ in range(100):
    ...     updates, state = tx.update(jnp.ones((), jnp.bfloat16), state, params)
    ...     params = gradtx.apply_updates(params, updates)
    >>> float(params)  # 0.8984375 is the bfloat16 number next to 0.9
    0.8984375
    """

    remainder: Literal["bfloat16", "int8"] = "bfloat16"
    linear = True
    keeps_updates = True
    wide_updates = True

    def init_tree(self, params: PyTree) -> CompensatedState:
        leaves, structure = flatten(params)
        names = [narrow_dtype(p) for p in leaves]
        dtype = jnp.dtype(self.remainder)

        def of(name: str) -> PyTree:
            return structure.unflatten(
                [
                    jnp.zeros_like(p, dtype) if own == name else gap(p)
                    for p, own in zip(leaves, names, strict=True)
                ]
            )

        remainder = {name: of(name) for name in sorted({*names} - {""})}
        wide = [_wide(p) if name else p for p, name in zip(leaves, names, strict=True)]
        inner = self.inner.init_tree(structure.unflatten(wide))
        return CompensatedState(jnp.int32(0), remainder, inner)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, CompensatedState]:
        if params is None:
            raise ValueError(
                "`compensated` rounds the parameters, so it needs the parameters: call "
                "`update(updates, state, params)`."
            )
        given, structure = flatten(params)
        kept = remainders(state, structure)
        restored = list(given)
        for i, (name, r) in kept.items():
            restored[i] = given[i] + decoded(given[i], r, name)
        out, inner = self.inner.update_tree(
            updates, state.inner, structure.unflatten(restored), extra
        )
        steps, count = structure.flatten_up_to(out), next_count(state.count)
        split = in_8_bits if self.remainder == "int8" else in_bfloat16
        new = {name: structure.flatten_up_to(tree) for name, tree in state.remainder.items()}
        for i, (name, r) in kept.items():
            if steps[i] is not None:
                change = decoded(given[i], r, name) + steps[i]
                steps[i], new[name][i] = split(given[i], change, name, seed_of(count, i))
        remainder = {name: structure.unflatten(leaves) for name, leaves in new.items()}
        return structure.unflatten(steps), CompensatedState(count, remainder, inner)

    def restored(self, params: PyTree, state: Any) -> PyTree:
        """The parameters in float32, with their remainders.

        Args:
            params: the parameters.
            state: the state of this transformation.
        """
        leaves, structure = flatten(params)
        for i, (name, r) in remainders(state, structure).items():
            wide = leaves[i].astype(jnp.float32)
            leaves[i] = wide + decoded(wide, r, name)
        return structure.unflatten(leaves)

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


def remainders(state: Any, structure: Any) -> dict[int, tuple[str, Any]]:
    """For the number of each leaf that has a remainder: the leaf's dtype, and the remainder."""
    found = {}
    for name, tree in state.remainder.items():
        for i, r in enumerate(structure.flatten_up_to(tree)):
            if hasattr(r, "dtype"):
                found[i] = name, r
    return found


def narrow_dtype(param: Any) -> str:
    """The name of the dtype of a parameter that is narrower than float32, or an empty string."""
    if param is None or compute_dtype(param) == param.dtype:
        return ""
    return jnp.dtype(param.dtype).name


def gap(param: Any) -> Any:
    """What stands in place of a remainder of a parameter that has none under this dtype."""
    return None if param is None else optax.MaskedNode()


def _wide(param: Any) -> Any:
    if isinstance(param, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(param.shape, jnp.float32, sharding=param.sharding)
    return param.astype(jnp.float32)
