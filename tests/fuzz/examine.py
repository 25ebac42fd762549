"""The laws that the fuzzer holds one composition against. Everything is compiled once."""

import collections
import warnings

import compositions
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from zoo import types

import gradtx

# The trees take turns.
SHAPES = (
    {"kernel": (2, 3), "bias": (3,), "gain": (), "none": None},
    {"stack": (2, 3, 2), "row": (1, 4), "empty": (0, 3), "none": None},
)
DTYPES = {
    "float32": {"a": "float32"},
    "narrow": {"a": "bfloat16", "b": "float16"},
    "mixed": {"a": "float32", "b": "bfloat16"},
    "float8": {"a": "float8_e4m3fn", "b": "float8_e5m2"},
    "complex64": {"a": "complex64"},
}
# What some optimizers need besides the gradient: the loss, and its gradient elsewhere.
EXTRA = {"value": 1.0, "grad_fn": lambda params: params}
SIZES = {
    "zero": 0.0,
    "denormal": 1e-40,
    "tiny": 1e-30,
    "small": 1e-8,
    "one": 1.0,
    "large": 1e4,
    "huge": 1e30,
    "largest": float("inf"),  # stands for the largest finite number of the dtype
}
STEPS = 5  # of each run: a size, its negative, itself, zero, and ordinary numbers

counts = collections.Counter()  # inputs by name, kind of dtypes and size
inputs = collections.Counter()  # inputs of all compositions


def drawn(rng, dtype, size, shapes):
    """One gradient: normal numbers times the size, or the largest finite numbers."""

    def leaf(name, shape):
        if shape is None:
            return None
        x = rng.normal(size=(2, *shape))
        z = x[0] + 1j * x[1] if dtype == "complex64" else x[0]
        if np.isinf(size):
            return jnp.asarray(np.sign(x[0]) * float(jnp.finfo(dtype).max), dtype)
        limit = float(jnp.finfo(dtype).max) / 8  # a normal number is below 8
        return jnp.asarray(np.clip(size, -limit, limit) * z, dtype)

    return {name: leaf(name, shape) for name, shape in shapes.items()}


def trees(rng, kind, size, seed):
    shapes = SHAPES[seed % len(SHAPES)]
    return {name: drawn(rng, dtype, size, shapes) for name, dtype in DTYPES[kind].items()}


class Law(AssertionError):
    """A law that does not hold, with the names of the law and of the input."""


def hold(law, kind, size, condition, detail=""):
    if not condition:
        raise Law(f"{law}, for dtypes {kind!r} and size {size!r} {detail}".strip())


def keeps_zero(tx):
    """Whether a transformation and all its parts say that they keep a zero update."""
    return tx.keeps_zero and all(map(keeps_zero, tx.children))


def values(tree):
    return [wide(x) for x in jax.tree.leaves(tree)]


def wide(x):
    x = np.asarray(x)
    return (x if x.dtype.kind in "fciub" else x.astype("float32")).astype("complex128")


def examine(row, kind, seed, sizes=SIZES, runs=3):
    """Hold one composition against all laws, for trees of these dtypes.

    Raises:
        Law: if one of them does not hold.
    """
    tx, rng = row.make(), np.random.default_rng(seed)
    # The gradients whose results are compared are normal numbers, and so are the terms at most.
    terms = 1.0 if " - " in row.code else 0.0
    params = trees(rng, kind, 1.0, seed)
    state = tx.init(params)

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params, **EXTRA)
        return (gradtx.apply_updates(params, updates), state), updates

    @jax.jit
    def run(params, state, gradients):
        return jax.lax.scan(step, (params, state), gradients)

    def update(g, state, params):
        return tx.update(g, state, params, **EXTRA)

    one = jax.jit(update)
    public = compositions.names(row.code)
    for size_name, size in sizes.items():
        for _ in range(runs):
            factors = (size, -size, size, 0.0, min(size, 1.0))
            gradients = [trees(rng, kind, f, seed) for f in factors]
            stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *gradients)
            try:
                (_, after), updates = run(params, state, stacked)
            except TypeError as error:
                raise Law(f"type law, for dtypes {kind!r}: {error}") from error
            hold("type law", kind, size_name, types(after) == types(state))
            hold("None passes", kind, size_name, updates["a"]["none"] is None)
            arrays = values((updates, after))
            finite = [not np.isinf(x).any() for x in arrays]
            if any(np.isnan(x).any() for x in arrays):
                # The zoo's laws keep the parameters. Here they move, and the sum of a huge gradient and
                # of the decay of a huge parameter may overflow.
                bounded = row.bounded and not row.needs_params and kind != "complex64"
                overflowed = not bounded and (
                    not all(finite) or _overflows_first(tx, params, state, gradients)
                )
                hold("no NaN", kind, size_name, overflowed)
            if keeps_zero(tx) and size == 0.0:
                hold(
                    "zero for zero",
                    kind,
                    size_name,
                    all((x[0] == 0).all() for x in values(updates)),
                )
            inputs[size_name] += 1
            for name in public:
                counts[name, kind, size_name] += 1
            if size_name == "one":
                _same_by_a_loop(one, params, state, gradients, updates, kind, terms)
    eager = update(gradients[-1], state, params)
    _close("jit equals eager", one(gradients[-1], state, params), eager, kind, terms)
    if kind == "float32":
        _same_in_shard_map(update, params, state, gradients[-1], eager, terms)


def _overflows_first(tx, params, state, gradients):
    """Whether the first value of a run that is not finite is infinite and not NaN.

    A sum of the largest finite numbers overflows, and what divides by an infinite number gives NaN. A
    NaN from finite numbers is a defect.
    """
    for g in gradients:
        if found := gradtx.locate_nonfinite(tx, g, state, params, **EXTRA):
            return "NaN" not in found.message
        updates, state = tx.update(g, state, params, **EXTRA)
        params = gradtx.apply_updates(params, updates)
    return False


def _same_by_a_loop(one, params, state, gradients, updates, kind, terms):
    for i, g in enumerate(gradients):
        u, state = one(g, state, params)
        _close("scan equals loop", jax.tree.map(lambda x, i=i: x[i], updates), u, kind, terms)
        params = gradtx.apply_updates(params, u)


def _same_in_shard_map(update, params, state, g, want, terms):
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    put = lambda x: jax.device_put(x, NamedSharding(mesh, P()))
    args = jax.tree.map(put, (g, state, params))
    got = jax.jit(jax.shard_map(update, mesh=mesh, in_specs=P(), out_specs=P()))(*args)
    _close("shard_map equals one device", got, want, "float32", terms)


def _close(law, got, want, kind, terms=0.0):
    """Whether two ways to compile a step agree, within some roundings of the largest entry.

    Args:
        law: the name of the law.
        got: the results of one way.
        want: the results of the other.
        kind: the name of the dtypes.
        terms: the size of the terms of a difference, which are what is rounded.

    A step has at most some fifty operations, each of which may be rounded once less where it is fused,
    and Newton and Schulz's iteration enlarges a difference (`tests/laws/test_number_laws.py`). All of
    that happens in float32 at least, and what is narrower is rounded when it is written: in each of the
    five steps the update, the parameter, and perhaps the state.
    """
    hold(law, kind, "one", jax.tree.structure(got) == jax.tree.structure(want))
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        hold(law, kind, "one", x.dtype == y.dtype and x.shape == y.shape)
        tolerance = 0.0
        if jnp.issubdtype(x.dtype, jnp.inexact):
            tolerance = 1024 * float(jnp.finfo("float32").eps)
            if (eps := float(jnp.finfo(x.dtype).eps)) > 1e-6:
                tolerance += 3 * STEPS * eps
        a, b = map(wide, (x, y))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            close = np.allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max(initial=terms))
        hold(law, kind, "one", close, f"({a.ravel()[:3]} and {b.ravel()[:3]})")
