"""Tolerances from counted roundings, so that a test holds on every processor.

A processor may fuse a product and a sum, sum in another order, or approximate an exponential by other
polynomials. What it may not do is round worse than the format permits: an operation is off by at most
half a unit in the last place. A test therefore counts the operations that can matter, and says by how
much the rest of the calculation magnifies what they were off.
"""

import jax.numpy as jnp


def roundings(n, dtype="float64"):
    """The relative error of `n` operations that are each off by half a unit in the last place.

    `n` need not be an integer, and may be an array. An average with decay b forgets a rounding as it
    forgets a gradient, so k roundings per step are at most k / (1 - b) roundings altogether. A sum of
    which nothing is forgotten keeps those of all steps.
    """
    return n * float(jnp.finfo(dtype).eps) / 2


def mixed_roundings(n, dtype="float64"):
    """The relative error of `n` operations that are off by either sign.

    That is six standard deviations, the root of n. Higham and Mary (2019), "A new approach to
    probabilistic rounding error analysis", Theorem 3.1: a larger error than k roots of n has a
    probability below 2 n exp(-k^2 / 2). For long sums, whose bound of `roundings(n)` would hide defects.
    """
    return roundings(6 * n**0.5, dtype)
