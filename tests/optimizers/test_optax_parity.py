"""Two hundred steps in float64 beside Optax, where Optax has the optimizer and is right.

A row of the table is the code of gradtx, which runs for Optax too once its names are taken from there.
`test_references.py` and the tests of single optimizers hold gradtx against the papers. Where the two
libraries differ on purpose, a table in docs/optax.md says so, and the row says how Optax is corrected.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rounding import roundings
from runs import rng

import gradtx

STEPS = 200


class Names(dict):
    """The public names of libraries, each of which is looked up when a row uses it."""

    def __init__(self, *modules):
        self.modules = modules

    def __missing__(self, name):
        found = [getattr(x, name) for x in self.modules if hasattr(x, name)]
        if not found:
            raise KeyError(name)
        return found[0]


GRADTX, OPTAX = Names(gradtx), Names(optax, optax.contrib)


@dataclasses.dataclass(frozen=True)
class Row:
    """The code, and where Optax needs another one or another state to start from.

    `lost`: by how much Optax magnifies its roundings.
    """

    code: str
    optax: str | None = None
    lost: float = 1.0
    start: Callable[[Any], Any] = lambda state: state

    def __str__(self) -> str:
        return self.code


def from_zero(state):
    """Optax's Yogi starts its momentum at 1e-6, and ours at 0, as the paper does."""
    return optax.tree.set(state, mu=jnp.zeros_like(optax.tree.get(state, "mu")))


ROWS = [
    Row("adamax(0.1, b1=0.8, b2=0.9)"),
    Row("adamaxw(0.1, weight_decay=0.1)"),
    Row("adabelief(0.1, b2=0.99, eps=1e-3)"),
    # The length of the average is 5 at first, and Optax computes it as a difference from 1999.
    Row("radam(0.1)", lost=1999),
    Row("radam(0.1, b2=0.9, eps_root=1e-3, threshold=4.5, nesterov=True)"),
    Row("yogi(0.1)", start=from_zero),
    Row("scale_by_yogi(0.8, 0.9, eps_root=1e-3)", start=from_zero),
    Row("sign_sgd(0.1)"),
    # The weights of Optax are rounded to float32, which has 29 bits fewer.
    Row("madgrad(0.1, weight_decay=0.01)", lost=2.0**29),
    Row("noisy_sgd(0.1, eta=0.1, key=3)"),
    Row("polyak_sgd(0.1, eps=1e-3, variant='sps+')"),
    Row("normalize_by_update_norm(2.0)"),
    Row("normalize()"),
    Row("centralize()"),
    Row("zero_nans()"),
    Row("prodigy(0.5, betas=(0.8, 0.9), estim_lr0=0.1, estim_lr_coef=0.5, weight_decay=0.01)"),
    Row("dadapt_adamw(0.5, betas=(0.8, 0.9), estim_lr0=0.1, weight_decay=0.01)"),
    Row("dog(0.5, ('distance', 0.1), weight_decay=0.01)"),
    Row("schedule_free_sgd(0.1, b1=0.8, weight_decay=0.1)"),
    Row("schedule_free_adamw(0.1, b2=0.9, weight_decay=0.1)"),
    Row("lion(0.1, weight_decay=0.1)"),
    Row("signum(0.1, 0.8)"),
    Row("lamb(0.1, weight_decay=0.1)"),
    Row("lars(0.1, weight_decay=0.1, trust_coefficient=0.01)"),
    Row("fromage(0.1)"),
    Row("novograd(0.1, weight_decay=0.1)"),
    # Optax has 1 - b2 where the paper has b2, which is the same for 0.5.
    Row("adan(0.1, b2=0.5, weight_decay=0.1)"),
    Row("adopt(0.1, b2=0.99, nesterov=True)"),
    Row("ademamix(0.1, b3=0.99, weight_decay=0.1)"),
    Row("simplified_ademamix(0.1, b1=0.9, alpha=4.0)"),
    Row("optimistic_gradient_descent(0.1, alpha=0.75, beta=0.5)"),
    Row("optimistic_adam_v2(0.1, beta=0.5)"),
    Row("scale_by_trust_ratio(0.1, 0.5, 1e-3)"),
    Row("chain(scale_by_param_block_norm(), scale(-1e-3))"),
    Row("chain(scale_by_param_block_rms(0.1), scale(-1e-3))"),
    Row("chain(sgd(1.0), keep_params_nonnegative())"),
]


@functools.cache
def updates_of_all():
    """The updates of every row, by gradtx and by Optax, one row of numbers per step.

    All of them run in one compiled program, which takes far less time than a program for each.
    """
    with jax.enable_x64(True):
        random = rng(200)
        sizes = np.array([1, 1e-3, 30.0])
        gradients = jnp.asarray(random.normal(size=(STEPS, 2, 3)) * sizes)
        losses = jnp.asarray(random.normal(size=STEPS) + 0.5)
        params = jnp.asarray(random.normal(size=(2, 3)))
        pairs, starts = [], []
        for row in ROWS:
            ours = eval(row.code, {}, GRADTX)
            theirs = optax.with_extra_args_support(eval(row.optax or row.code, {}, OPTAX))
            pairs += [ours, theirs]
            starts += [(params, ours.init(params)), (params, row.start(theirs.init(params)))]

        def body(carry, given):
            g, value = given
            after, seen = [], []
            for tx, (point, state) in zip(pairs, carry, strict=True):
                u, state = tx.update(g, state, point, value=value)
                after.append((optax.apply_updates(point, u), state))
                seen.append(u)
            return after, seen

        with jax.numpy_dtype_promotion("standard"):  # Optax needs it
            seen = jax.jit(functools.partial(jax.lax.scan, body))(starts, (gradients, losses))[1]
        return {
            row: (np.asarray(seen[2 * i]), np.asarray(seen[2 * i + 1]))
            for i, row in enumerate(ROWS)
        }


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_updates_are_those_of_optax(row):
    ours, theirs = updates_of_all()[row]
    assert np.abs(theirs).max() > 0
    # Averages forget their roundings, of which there are a few per step, and a power of a decay has as
    # many roundings as steps. An entry near 0 is the difference of larger ones.
    largest = np.abs(theirs).max(axis=0)
    assert np.all(np.abs(ours - theirs) <= roundings(4 * STEPS * row.lost) * largest)
