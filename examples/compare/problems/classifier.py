"""A classifier: the loss of random rows of its data, and the scores of the rows that are held out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ..problem import cross_entropy

BATCH = 64

Logits = Callable[[Any, jax.Array], jax.Array]


def split(x: np.ndarray, y: np.ndarray, held_out: int) -> dict[str, np.ndarray]:
    """Rows at random: `held_out` of them for each of the two scores, and the others to train on."""
    order = np.random.default_rng(0).permutation(len(x))
    report, choose, train = np.split(order, [held_out, 2 * held_out])
    rows = {"train": train, "choose": choose, "report": report}
    return {f"{name}_{kind}": a[r] for name, r in rows.items() for kind, a in (("x", x), ("y", y))}


def loss_and_scores(logits: Logits) -> tuple[Callable[..., jax.Array], Callable[..., Any]]:
    """The cross-entropy of a network, as the loss and the scores of a `Problem`.

    Args:
        logits: `logits(params, x)` are those of the rows `x`.
    """
    return functools.partial(_loss, logits), functools.partial(_scores, logits)


def _loss(logits: Logits, params: Any, data: Any, key: jax.Array) -> jax.Array:
    rows = jax.random.randint(key, (BATCH,), 0, len(data["train_x"]))
    return cross_entropy(logits(params, data["train_x"][rows]), data["train_y"][rows])


def _scores(logits: Logits, params: Any, data: Any) -> tuple[jax.Array, jax.Array]:
    choose, report = (
        cross_entropy(logits(params, data[f"{rows}_x"]), data[f"{rows}_y"])
        for rows in ("choose", "report")
    )
    return choose, report
