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
    Hyper,
    Recipe,
    adam,
    chain,
    clip_by_global_norm,
    difference,
    equilibrate_rows,
    identity,
    keep_norm,
    once,
    orthogonalize_newton_schulz,
    rms,
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
        # The gradients are clipped for the norm, and computed before they reach the inner branches.
        "after clipping": mean / chain(clip_by_global_norm(0.1) - mean, rms(0.5)),
    }


@pytest.mark.parametrize("name", in_branches(MEAN))
def test_a_shared_transformation_gives_the_updates_of_separate_ones(name):
    params = {"w": jnp.ones((2, 3))}
    separate, shared = in_branches(MEAN)[name], in_branches(once(MEAN, "m"))[name]
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
    state = (once(MEAN, "m") + chain(once(MEAN, "m"), scale_by_sign())).init(jnp.zeros(2))
    assert state[1] == (optax.EmptyState(), optax.EmptyState())
    assert type(state[0]).__name__ == "MomentumState"


def test_other_gradients_other_names_and_other_recipes_have_states_of_their_own():
    class mean_of(Recipe):
        decay: Hyper = 0.5

        def expand(self):
            return once(scale_by_momentum(self.decay), "m")

    for tx in (
        once(MEAN, "m") + chain(scale(2.0), once(MEAN, "m")),
        once(MEAN, "m") + once(MEAN, "n"),
        chain(once(MEAN, "m"), once(MEAN, "m")),
        mean_of() + mean_of(0.25),
    ):
        assert len(jax.tree.leaves(tx.init(jnp.zeros(2)))) == 2


def test_two_transformations_of_one_name_are_refused():
    for other in (scale_by_momentum(0.25), scale_by_sign()):
        with pytest.raises(ValueError, match="Two different transformations have one name, 'm'"):
            (once(MEAN, "m") + once(other, "m")).init(jnp.zeros(2))


def test_the_numbers_of_two_places_may_be_traced():
    """The state does not depend on whether the optimizer is an argument of a jitted function."""
    tx, g = in_branches(once(MEAN, "m"))["two branches"], jnp.ones(2)
    state = jax.jit(lambda tx: tx.init(g))(tx)
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(g))
    zoo.same(jax.jit(lambda tx, g, s: tx.update(g, s))(tx, g, state), tx.update(g, state))


def test_an_infinite_gradient_shows_in_all_branches():
    change = once(difference(), "d")
    tx = change / (root(chain(change, second_moment(0.5))) + 1e-8)
    g = jnp.array([jnp.inf, 1.0])
    update, _ = tx.update(g, tx.init(g))
    np.testing.assert_array_equal(jnp.isnan(update), [True, False])


def test_what_lies_around_an_optimizer_changes_nothing():
    zoo.same(zoo.updated(once(adam(0.1), "a")), zoo.updated(adam(0.1)))


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
