"""What a problem is: where a run starts, the loss of a random batch, and the score."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

FLOOR = 1e-10  # float32 cannot tell a smaller distance from the minimum


class Problem(NamedTuple):
    """A problem that all optimizers are compared on.

    Attributes:
        name: its name on the command line.
        title: what it is, in a few words.
        why: why it is among the problems.
        source: where its data or its idea are from.
        steps: the training steps of one run.
        score_name: what its score is. A lower score is better.
        targets: the scores whose first step is reported, from the easier to the harder one.
        load: reads the data, once in each process.
        draw: `draw(key, data)` returns the parameters at the start, and the world: all arrays that the
            loss needs besides them.
        loss: `loss(params, world, key)` is the loss of a random batch, which is trained on.
        scores: `scores(params, world)` returns two scores: the first one chooses the settings, and the
            second one is reported. They use different rows of the data. Where the objective is known
            exactly, they are the same.
        costly: whether only some optimizers run on it, with fewer settings and seeds.
        vectors: whether its parameters have no matrix. Then optimizers of matrices do not run on it,
            since each of them gives vectors to another optimizer.
    """

    name: str
    title: str
    why: str
    source: str
    steps: int
    score_name: str
    targets: tuple[float, ...]
    load: Callable[[], Any]
    draw: Callable[[jax.Array, Any], tuple[Any, Any]]
    loss: Callable[[Any, Any, jax.Array], jax.Array]
    scores: Callable[[Any, Any], tuple[jax.Array, jax.Array]]
    costly: bool = False
    vectors: bool = False


def no_data() -> None:
    """The data of a problem that is drawn from its seed alone."""


def exact(objective: Callable[[Any, Any], jax.Array]) -> Callable[[Any, Any], Any]:
    """The scores of a problem whose objective is known and has the minimum 0: its decimal logarithm."""
    return functools.partial(_exact_scores, objective)


def _exact_scores(objective: Any, params: Any, world: Any) -> tuple[jax.Array, jax.Array]:
    value = jnp.log10(jnp.maximum(objective(params, world), FLOOR))
    return value, value


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean of minus the log-probability of the right class, in nats."""
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1))


def rotation(key: jax.Array, size: int) -> jax.Array:
    """A random orthogonal matrix."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (size, size)))
    return q * jnp.sign(jnp.diagonal(r))[None]
