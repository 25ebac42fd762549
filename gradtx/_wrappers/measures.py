"""What taps measure: norms and their ratios, the cosine with the gradient, and counts of entries.

No square overflows or vanishes here, whatever the size of the entries. A norm is made of two sums: the
squares of the entries multiplied by a large number, and the squares of the entries divided by another
one. If the first sum is finite, then the norm is read from it, and otherwise from the second. Both are
computed in one loop, which takes no branch and writes nothing to memory.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.measure import Measure
from gradtx._core.numerics import abs_square


def scales(x: jax.Array) -> tuple[float, float]:
    """The factors of the two scales for the dtype of `x`: powers of two, so that they are exact.

    In float32, the first sum is finite for norms below 2**27, and has all digits for entries above
    1e-30. From that norm on, the second sum has all digits for up to 2**31 entries of one size. It is
    finite for a million entries of the largest finite number. Float64 has eight times these exponents.
    """
    octave = jnp.finfo(x.dtype).maxexp // 128
    return 2.0 ** (37 * octave), 2.0 ** (-74 * octave)


def squares(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The squares of the entries of `x` in the two scales."""
    up, down = scales(x)
    return abs_square(scaled(x, up)), abs_square(scaled(x, down))


def scaled(x: jax.Array, scale: float) -> jax.Array:
    """The product of `x` with one of the two scales.

    Where an array has one entry, XLA would turn a product of two such products into `x * x` times the
    product of the scales, which overflows or vanishes. The barrier keeps it from doing so.
    """
    product = x * scale
    return jax.lax.optimization_barrier(product) if x.size == 1 else product


def length(up: jax.Array, down: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The norm from the sums of squares in the two scales, as a root and the inverse of its scale."""
    small = up < jnp.inf  # False for a NaN as well
    inverse = [jnp.full_like(up, 1 / scale) for scale in scales(up)]
    return jnp.sqrt(jnp.where(small, up, down)), jnp.where(small, *inverse)


def quotient(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The quotient of two norms, and 0 if the first one is 0."""
    root, inverse = length(*a)
    other, other_inverse = length(*b)
    zero = (root == 0) & (other == 0)
    ratio = root / jnp.where(zero, jnp.ones_like(other), other)
    return ratio * (inverse / other_inverse)


class norm(Measure):
    r"""The Euclidean norm of the updates, $\sqrt{\sum_i |u_i|^2}$.

    Args:
        per: what one reading covers: "tree", "layer", "leaf" or a depth, as for `Measure`.

    The reading is called `global_norm` for the whole tree, and `norm` otherwise. It neither overflows
    nor vanishes where the norm itself is a number of its dtype.

    Raises:
        ValueError: if `per` is something else.

    >>> import gradtx
    >>> gradtx.tap("grads", gradtx.norm(per="layer"))
    tap('grads', measure=norm(per='layer'))
    """

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        return squares(update)

    def value(self, *sums: jax.Array) -> jax.Array:
        root, inverse = length(*sums)
        return root * inverse

    @property
    def label(self) -> str:
        return "global_norm" if self.per == "tree" else "norm"


class update_rms(Measure):
    r"""The root mean square of the entries of the updates, $\sqrt{\frac1n \sum_i |u_i|^2}$.

    Args:
        per: what one reading covers: "tree", "layer", "leaf" or a depth, as for `Measure`.

    Raises:
        ValueError: if `per` is something else.
    """

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        return *squares(update), size_of(update)

    def value(self, *sums: jax.Array) -> jax.Array:
        *both, count = sums
        root, inverse = length(*both)
        return root / jnp.sqrt(jnp.maximum(count, 1)) * inverse


class update_ratio(Measure):
    r"""The norm of the updates by the norm of the weights, $\|u\| / \|\theta\|$.

    At the end of a chain this is the relative change of the weights in one step. It is 0 where the
    update is 0, and infinite where only the weights are 0.

    Args:
        per: what one reading covers: "tree", "layer", "leaf" or a depth, as for `Measure`.

    Raises:
        ValueError: if `per` is something else, or if `update` is called without the parameters.
    """

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        return *squares(update), *squares(param.astype(update.dtype))

    def value(self, *sums: jax.Array) -> jax.Array:
        u, u_down, p, p_down = sums
        return quotient((u, u_down), (p, p_down))


class gradient_cosine(Measure):
    r"""The cosine of the angle between updates and gradients, $\langle u, g \rangle / (\|u\| \|g\|)$.

    The gradients $g$ are those that `update` of the whole optimizer was given. At the end of a chain the
    cosine is about -1 for an update straight downhill. It is 0 if the updates or the gradients are 0.

    Args:
        per: what one reading covers: "tree", "layer", "leaf" or a depth, as for `Measure`.

    Raises:
        ValueError: if `per` is something else.
    """

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        def product(a: float, b: float) -> jax.Array:
            return (scaled(update, a).conj() * scaled(gradient, b)).real

        both = scales(update)
        mixed = (product(a, b) for a in both for b in both)
        return *squares(update), *squares(gradient), *mixed

    def value(self, *sums: jax.Array) -> jax.Array:
        u, u_down, g, g_down, up_up, up_down, down_up, down_down = sums
        up = jnp.where(g < jnp.inf, up_up, up_down)
        down = jnp.where(g < jnp.inf, down_up, down_down)
        product = jnp.where(u < jnp.inf, up, down)
        both = length(u, u_down)[0], length(g, g_down)[0]
        zero = (both[0] == 0) | (both[1] == 0)
        one = jnp.ones_like(product)
        cosine = product / jnp.where(zero, one, both[0]) / jnp.where(zero, one, both[1])
        # A rounded cosine may leave the interval, and `clip` keeps a NaN.
        return jnp.clip(cosine, -1.0, 1.0)


class clipped_fraction(Measure):
    """The share of entries whose absolute value is smaller than in the gradients.

    Behind a clip that follows on the gradients, this is what the clip did. Behind `clip` it is the share
    of entries that were clipped. Behind `clip_by_global_norm` it is 1 in a step in which the norm was
    clipped, and 0 in other steps; its mean over the steps is the share of steps that were clipped.
    Entries that are not finite do not count, and neither do gradients of 0.

    Args:
        per: what one reading covers: "tree", "layer", "leaf" or a depth, as for `Measure`.

    Raises:
        ValueError: if `per` is something else.
    """

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        size = jnp.abs(gradient)
        smaller = (jnp.abs(update) < size).astype(size.dtype)
        return smaller, (size > 0).astype(size.dtype)

    def value(self, *sums: jax.Array) -> jax.Array:
        smaller, count = sums
        return smaller / jnp.maximum(count, 1)


class nonfinite_count(Measure):
    """The number of entries that are infinite or NaN.

    Args:
        per: what one reading covers: "tree", "layer", "leaf" or a depth, as for `Measure`.

    The reading is a floating number, like all readings.

    Raises:
        ValueError: if `per` is something else.
    """

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        dtype = jnp.finfo(update.dtype).dtype
        return (~jnp.isfinite(update)).astype(dtype)


def size_of(x: jax.Array) -> jax.Array:
    """The number of entries of `x`, in its real dtype."""
    return jnp.full((), x.size, jnp.finfo(x.dtype).dtype)
