"""Every transformation is lowered to programs for a GPU and for a TPU, on a machine without them."""

import functools

import jax
import jax.numpy as jnp
import pytest
from shares import share
from zoo import SMALL, tree

from benchmarks.recipes import RATE, RECIPES, extra_arguments

PLATFORMS = ("cuda", "tpu")
# Lowering needs shapes and dtypes only. Half of the leaves have the dtype that accelerators train in.
PARAMS = jax.eval_shape(lambda: {x: tree(x, shapes=SMALL) for x in ("float32", "bfloat16")})


def lowered(function, *args):
    """The program of a function for both platforms. It is not compiled."""
    return jax.export.export(jax.jit(function), platforms=PLATFORMS)(*args)


def two_steps(tx, params, gradients, **extra):
    """The second step is given a state as it comes out of a first one."""
    _, state = tx.update(gradients, tx.init(params), params, **extra)
    return tx.update(gradients, state, params, **extra)


def with_a_loss(tx, params, gradients):
    """Two steps with what some recipes need besides the gradient, in every dtype."""
    wide = lambda tree: [x.astype("float32") for x in jax.tree.leaves(tree)]
    products = lambda p: [jnp.sum(a * b) for a, b in zip(wide(gradients), wide(p), strict=True)]
    loss = lambda p: jnp.stack(products(p)).sum()
    return two_steps(tx, params, gradients, **extra_arguments(loss, params))


@pytest.mark.representatives
def test_a_step_lowers_to_cuda_and_to_tpu(row):
    step = functools.partial(two_steps, row.make())
    program = lowered(step, PARAMS, PARAMS)
    assert program.platforms == PLATFORMS
    want = jax.tree.leaves(jax.eval_shape(step, PARAMS, PARAMS))
    assert [(x.shape, x.dtype) for x in program.out_avals] == [(x.shape, x.dtype) for x in want]


@pytest.mark.parametrize("name", share(RECIPES, "lowering", 3))
def test_a_step_of_every_recipe_lowers_to_cuda_and_to_tpu(name):
    program = lowered(functools.partial(with_a_loss, RECIPES[name](RATE)), PARAMS, PARAMS)
    assert program.platforms == PLATFORMS


def test_an_operation_that_only_a_cpu_has_is_refused():
    """So the law above can fail."""
    with pytest.raises(NotImplementedError, match="hessenberg"):
        lowered(jax.lax.linalg.hessenberg, jax.ShapeDtypeStruct((3, 3), "float32"))
