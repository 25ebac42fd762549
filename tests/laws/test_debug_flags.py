"""The laws for JAX's flags of debugging: `jax_check_tracer_leaks`, `jax_disable_jit`, `jax_debug_nans`.

Each row of the zoo is traced once, under the check for leaked tracers, and its steps run without `jit`,
where JAX checks the result of every single operation for NaN. The reference of the first step is the
traced program, evaluated one operation after the other. So both sides share the compiled operations, and
no row has to be compiled; what a compiler makes of the traced program is the law "jit against eager".
"""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal
from zoo import full, tree

# Shapes that no other test has: a trace that JAX or gradtx remembers from elsewhere would hide a leak.
SHAPES = {"kernel": (2, 4), "bias": (4,)}
PARAMS = tree(shapes=SHAPES)
LARGEST = float(jnp.finfo("float32").max)
# The largest gradient comes last: a plain sum is infinite from then on.
GRADIENTS = [tree(seed=1, shapes=SHAPES), full(0.0, shapes=SHAPES), full(LARGEST, shapes=SHAPES)]
# Operations that call another program, and the parameter in which it stands.
NESTED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


@pytest.fixture(autouse=True)
def small_heap():
    """Hide what exists already from the garbage collector, through which JAX looks for leaks.

    It looks at every object that is not frozen, which takes ten times as long as a trace.
    """
    gc.freeze()
    yield
    gc.unfreeze()


def evaluated(program, *inputs):
    """The results of a traced program, operation by operation, with nested programs written out."""
    values = dict(zip(program.jaxpr.invars, inputs, strict=True))
    values |= zip(program.jaxpr.constvars, program.consts, strict=True)
    read = lambda x: x.val if isinstance(x, Literal) else values[x]
    for equation in program.jaxpr.eqns:
        arguments = [read(x) for x in equation.invars]
        if equation.primitive.name in NESTED:
            results = evaluated(equation.params[NESTED[equation.primitive.name]], *arguments)
        else:
            results = equation.primitive.bind(*arguments, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        values |= zip(equation.outvars, results, strict=True)
    return [read(x) for x in program.jaxpr.outvars]


@pytest.mark.representatives
def test_holds_under_the_flags_of_debugging(row):
    tx = row.make()
    with jax.checking_leaks():
        state = jax.eval_shape(tx.init, PARAMS)
        traced = jax.jit(tx.update).trace(GRADIENTS[0], state, PARAMS)
    with jax.disable_jit(), jax.debug_nans(True):
        state = tx.init(PARAMS)
        want = evaluated(traced.jaxpr, *jax.tree.leaves((GRADIENTS[0], state, PARAMS)))
        updates, state = tx.update(GRADIENTS[0], state, PARAMS)
        assert jax.tree.structure((updates, state)) == jax.tree.structure(traced.out_info)
        for a, b in zip(jax.tree.leaves((updates, state)), want, strict=True):
            assert (a.dtype, a.weak_type) == (b.dtype, b.weak_type)
            # A scalar that all leaves share may be rounded in another order: four roundings.
            rtol = 4 * jnp.finfo(a.dtype).eps if jnp.issubdtype(a.dtype, jnp.floating) else 0
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=float(rtol))
        for g in GRADIENTS[1:]:
            _, state = tx.update(g, state, PARAMS)
