"""What several branches of a composition have in common is computed once, and so advances once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from jax.sharding import NamedSharding, PartitionSpec as P
from rounding import roundings

from gradtx import (
    adam,
    chain,
    clip_by_global_norm,
    difference,
    equilibrate_rows,
    identity,
    keep_norm,
    once,
    orthogonalize_newton_schulz,
    root,
    scale,
    scale_by_momentum,
    scale_by_sign,
    second_moment,
    tap,
)

MEAN = scale_by_momentum(0.5)


def in_branches(mean):
    """Compositions in which the branches contain `mean`, which sees the same gradients everywhere."""
    return {
        "two branches": mean + chain(mean, scale_by_sign()),
        "a branch that squares": mean / (root(chain(mean, second_moment(0.5))) + 1e-8),
        "before a norm of the tree": mean + chain(mean, clip_by_global_norm(0.1)),
        "beside a tap": chain(mean + tap("here"), identity()) * mean,
        "before a stage of matrices": mean + chain(mean, orthogonalize_newton_schulz()),
    }


@pytest.mark.parametrize("name", in_branches(MEAN))
def test_a_shared_transformation_gives_the_updates_of_separate_ones(name):
    params = {"w": jnp.ones((2, 3))}
    separate, shared = in_branches(MEAN)[name], in_branches(once(MEAN))[name]
    states = separate.init(params), shared.init(params)
    for seed in range(2):
        g = {"w": jax.random.normal(jax.random.key(seed), (2, 3))}
        (a, left), (b, right) = (
            tx.update(g, state) for tx, state in zip((separate, shared), states, strict=True)
        )
        states = left, right
        # A sum of six squares, its root and a few products, in any order.
        np.testing.assert_allclose(a["w"], b["w"], rtol=roundings(16, "float32"))
    size = lambda state: sum(x.size for x in jax.tree.leaves(state) if x.ndim)
    assert size(states[1]) < size(states[0])


def test_the_state_stands_at_the_first_place():
    state = (once(MEAN) + chain(once(MEAN), scale_by_sign())).init(jnp.zeros(2))
    assert state[1] == (optax.EmptyState(), optax.EmptyState())
    assert type(state[0]).__name__ == "MomentumState"


def test_other_gradients_and_other_transformations_have_states_of_their_own():
    for tx in (
        once(MEAN) + chain(scale(2.0), once(MEAN)),
        once(MEAN) + once(scale_by_momentum(0.25)),
        chain(once(MEAN), once(MEAN)),
    ):
        assert len(jax.tree.leaves(tx.init(jnp.zeros(2)))) == 2


def test_an_infinite_gradient_shows_in_all_branches():
    change = once(difference())
    tx = change / (root(chain(change, second_moment(0.5))) + 1e-8)
    g = jnp.array([jnp.inf, 1.0])
    update, _ = tx.update(g, tx.init(g))
    np.testing.assert_array_equal(jnp.isnan(update), [True, False])


def test_what_lies_around_an_optimizer_changes_nothing():
    zoo.same(zoo.updated(once(adam(0.1))), zoo.updated(adam(0.1)))


@pytest.mark.parametrize(
    "tx",
    [
        chain(scale_by_momentum(0.5), identity() + equilibrate_rows()),
        chain(scale_by_momentum(0.5), keep_norm(scale_by_sign())),
    ],
    ids=str,
)
def test_a_momentum_before_branches_advances_once_on_a_mesh(tx):
    """The stage of matrices on a mesh computes its input, and the other branch must not do it again."""
    g = jax.random.normal(jax.random.key(0), (8, 16))
    _, alone = jax.jit(tx.update)(g, tx.init(g))
    mesh = jax.make_mesh((8,), ("d",))
    g = jax.device_put(g, NamedSharding(mesh, P(None, "d")))
    _, state = jax.jit(tx.update)(g, tx.init(g))
    zoo.same(jax.tree.map(np.asarray, state), jax.tree.map(np.asarray, alone))
