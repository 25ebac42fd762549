"""Un-jitted loops that change a number at every step: they compile a bounded number of times."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import Compilations
from zoo import tree

import gradtx
from gradtx import adam, adamw, chain, clip_by_global_norm, muon, replace, sgd

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}
GRADIENTS = [tree(seed=seed, shapes={"w": (2, 3), "b": (3,)}) for seed in range(3)]


def loop(make, steps):
    state = make(0).init(PARAMS)
    for k in range(steps):
        updates, state = make(k).update(GRADIENTS[k % 3], state, PARAMS)
    return updates, state


# No number here is one that another test uses: an optimizer that was compiled for a number as a constant
# compiles for that number again at other shapes.
CHANGES = {
    "rate": lambda k: replace(adamw(0.1), learning_rate=0.1037 / (1 + k)),
    "second decay": lambda k: adam(0.1, b2=1 - 0.01037 / (2 + k)),
    "weight decay": lambda k: adamw(0.1, weight_decay=1.037e-3 / (1 + k)),
    "clipping": lambda k: chain(clip_by_global_norm(0.5037 + 0.01 * k), sgd(0.1, momentum=0.9)),
    "schedule built anew": lambda k: adamw(lambda step: 0.1 * 0.5**step),
    "schedule of a decay": lambda k: adam(0.1, b1=lambda step: 0.9 - 0.1 / (2 + step)),
    "muon": lambda k: muon(0.01037 / (1 + k), weight_decay=0.1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_number_that_changes_at_every_step_compiles_a_bounded_number_of_times(name):
    make = CHANGES[name]
    loop(make, 6)
    compilations = Compilations()
    loop(make, 20)
    assert compilations.count == 0


@pytest.mark.parametrize("name", CHANGES)
def test_the_numbers_are_those_of_constants(name):
    """Ten steps un-jitted, where numbers are arguments by then, and jitted one by one as constants."""
    make = CHANGES[name]
    updates, state = loop(make, 10)
    want = make(0).init(PARAMS)
    for k in range(10):
        tx = make(k)
        want_updates, want = jax.jit(tx.update)(GRADIENTS[k % 3], want, PARAMS)
    for a, b in zip(*map(jax.tree.leaves, ((updates, state), (want_updates, want))), strict=True):
        # Ten steps of some five roundings, relative to the largest entry.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(np.max(np.abs(b), initial=0)))


def test_a_second_moment_keeps_the_digits_of_its_decay():
    """1 - b2 as float32 alone would be off by 1.3e-5."""
    for k in range(6):
        tx = gradtx.second_moment(0.999 + 1e-6 * k)
        v, _ = tx.update(jnp.ones(3), tx.init(jnp.ones(3)))
        np.testing.assert_allclose(v, 1 - (0.999 + 1e-6 * k), rtol=3e-7)


def test_a_class_that_asks_for_its_number_still_works():
    class stepped(gradtx.Elementwise):
        size: gradtx.Hyper = 0.5

        def update_leaf(self, update, state, param):
            return (update if self.size > 0.25 else -update), state

    for k in range(8):
        tx = stepped(0.1 * (k + 0.5))
        out, _ = tx.update(jnp.ones(2), optax.EmptyState())
        assert out[0] == (1 if 0.1 * (k + 0.5) > 0.25 else -1)
