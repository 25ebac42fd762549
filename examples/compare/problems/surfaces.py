"""Problems without data: a plateau, a curved valley, and gradients with heavy tails."""

from typing import Any

import jax
import jax.numpy as jnp

from ..problem import Problem, exact, no_data, rotation

WIDTH, DEPTH, SIZE = 16, 4, 32


def draw_plateau(key: jax.Array, data: None) -> tuple[Any, Any]:
    """Four small matrices, whose product is almost zero, and an orthogonal matrix to learn."""
    *keys, last = jax.random.split(key, DEPTH + 1)
    layers = [0.4 / WIDTH**0.5 * jax.random.normal(k, (WIDTH, WIDTH)) for k in keys]
    return {f"layer{i}": layer for i, layer in enumerate(layers)}, {"target": rotation(last, WIDTH)}


def plateau(params: Any, world: Any, key: Any = None) -> jax.Array:
    """Half of the mean square of the product of four matrices minus an orthogonal one."""
    product = params["layer0"]
    for i in range(1, DEPTH):
        product = product @ params[f"layer{i}"]
    return 0.5 * jnp.sum(jnp.square(product - world["target"])) / WIDTH


def draw_valley(key: jax.Array, data: None) -> tuple[Any, Any]:
    """A point beside the one at which the search for the minimum of Rosenbrock's function begins."""
    return {"x": -1 + 0.2 * jax.random.normal(key, (SIZE,))}, None


def valley(params: Any, world: Any, key: Any = None) -> jax.Array:
    """The chained Rosenbrock function, divided by the number of its terms."""
    x = params["x"]
    return jnp.mean(100 * jnp.square(x[1:] - jnp.square(x[:-1])) + jnp.square(1 - x[:-1]))


def draw_heavy_tails(key: jax.Array, data: None) -> tuple[Any, Any]:
    """Two random points: the start, and the minimum, so that small weights have no advantage."""
    k1, k2, k3 = jax.random.split(key, 3)
    start, minimum = (jax.random.normal(k, (SIZE, SIZE)) for k in (k1, k3))
    curvatures = jnp.logspace(0, -2, SIZE)[:, None]
    world = {"curvatures": curvatures, "basis": rotation(k2, SIZE), "minimum": minimum}
    return {"kernel": start}, world


def quadratic(params: Any, world: Any) -> jax.Array:
    coordinates = world["basis"] @ (params["kernel"] - world["minimum"])
    return 0.5 * jnp.sum(world["curvatures"] * jnp.square(coordinates)) / SIZE


def heavy_tails(params: Any, world: Any, key: jax.Array) -> jax.Array:
    """A quadratic, and a linear term whose slope has Student's distribution with 2 degrees."""
    u = jax.random.uniform(key, (SIZE, SIZE), minval=1e-6, maxval=1 - 1e-6)
    slope = (2 * u - 1) / jnp.sqrt(2 * u * (1 - u))  # the inverse of its distribution function
    return quadratic(params, world) + 0.1 * jnp.sum(slope * params["kernel"]) / SIZE


PLATEAU = Problem(
    "plateau",
    "Product of four matrices, from a plateau",
    "Gradients are tiny at the start and large later: depth without data.",
    "A. Saxe, J. McClelland, S. Ganguli (2013), arXiv:1312.6120, section 3 (the idea).",
    300,
    "decimal logarithm of the distance to the minimum",
    (-1.0, -4.0),
    no_data,
    draw_plateau,
    plateau,
    exact(plateau),
)
VALLEY = Problem(
    "valley",
    "Rosenbrock's valley in 32 dimensions",
    "A narrow, curved valley, whose only parameter is a vector.",
    "H. Rosenbrock (1960), An Automatic Method for Finding the Greatest or Least Value of a Function.",
    500,
    "decimal logarithm of the distance to the minimum",
    (0.0, -2.0),
    no_data,
    draw_valley,
    valley,
    exact(valley),
    vectors=True,
)
HEAVY_TAILS = Problem(
    "heavy_tails",
    "Quadratic, gradients with heavy tails",
    "A few huge gradients decide, unless an optimizer bounds what one of them can do.",
    "J. Zhang et al. (2019), arXiv:1912.03194 (the idea).",
    400,
    "decimal logarithm of the distance to the minimum",
    (-0.5, -1.0),
    no_data,
    draw_heavy_tails,
    heavy_tails,
    exact(quadratic),
)
