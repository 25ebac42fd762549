"""Nested chains compile to what flat ones do."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from runs import normal, steps

from gradtx import (
    adam,
    chain,
    identity,
    scale,
    scale_by_learning_rate,
    scale_by_momentum,
    scale_by_rms,
)  # fmt: skip


def test_oracle_42_composition_is_associative_and_compiles_to_the_same():
    a, b, c = scale_by_momentum(), scale_by_rms(), scale_by_learning_rate(0.1)
    g = normal(20, 5).astype("f4")
    with jax.enable_x64(False):
        u = steps(chain(a, b, c), g, dtype="float32")
        for same in (
            chain(chain(a, b), c),
            chain(a, chain(b, c)),
            chain(identity(), a, b, identity(), c),
        ):
            np.testing.assert_array_equal(steps(same, g, dtype="float32"), u)
        halves = steps(chain(scale(0.5), scale(0.25)), g, dtype="float32")
        np.testing.assert_array_equal(halves, steps(scale(0.125), g, dtype="float32"))
        # `steps` is a compiled scan; this is a loop, eager.
        tx = adam(1.0)
        state, loop = tx.init(jnp.asarray(g[0])), []
        for row in g:
            out, state = tx.update(jnp.asarray(row), state)
            loop.append(out)
    assert_allclose(loop, steps(tx, g, dtype="float32"), rtol=0, atol=5e-7)
