"""Inputs for which optimizers fail without an error, each a function of `optax` or `gradtx`."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import gradtx

CASES = {}


def case(right):
    """Add a function to the table, with the right answer; its docstring is the question."""

    def add(function):
        CASES[function.__name__] = function, " ".join(function.__doc__.split()), right
        return function

    return add


def ones(dtype, *shape):
    return jnp.ones(shape, dtype)


def trained(tx, params, gradients):
    """The last update and the last state, with one step per row of `gradients`."""

    def step(state, g):
        updates, state = tx.update(g, state, params)
        return state, updates

    state, updates = jax.jit(lambda s, gs: jax.lax.scan(step, s, gs))(tx.init(params), gradients)
    return jax.tree.map(lambda u: u[-1], updates), state


def once(tx, gradients):
    """The updates of a first step, with parameters that equal the gradients."""
    return jax.jit(lambda g: tx.update(g, tx.init(g), g)[0])(gradients)


def outcome(function):
    """What a function returns, or the name of its error."""
    try:
        return function()
    except Exception as error:
        return f"raises {type(error).__name__}"


@case("-0.001")
def n01(lib):
    """`inject_hyperparams(adam)(1e-3)` with bfloat16 parameters: the first update for a gradient of 1"""
    return float(once(lib.inject_hyperparams(lib.adam)(learning_rate=1e-3), ones("bfloat16")))


@case("0.777, then 0.173")
def n02(lib):
    """Adam with bfloat16 parameters: the second moment after 1,500 gradients of 1, and then after
    1,500 of 0.01"""
    tx, p = lib.adam(1e-3), ones("bfloat16")
    gradients = jnp.repeat(jnp.array([1, 0.01], "bfloat16"), 1500)
    halves = [trained(tx, p, gs)[1] for gs in (gradients[:1500], gradients)]
    return tuple(float(optax.tree.get(state, "nu")) for state in halves)


@case("2000")
def n03(lib):
    """AdaGrad with bfloat16 parameters: the sum of squares after 2,000 gradients of 1"""
    _, state = trained(lib.adagrad(0.1), ones("bfloat16"), ones("bfloat16", 2000))
    return float(optax.tree.get(state, "sum_of_squares"))


@case("0")
def n04(lib):
    """A bfloat16 parameter of 1 after 1,000 steps of -0.001, in gradtx with `master_weights`"""
    tx = lib.sgd(1e-3) if lib is optax else gradtx.master_weights(gradtx.sgd(1e-3))

    def step(_, carry):
        params, state = carry
        updates, state = tx.update(ones("bfloat16"), state, params)
        return lib.apply_updates(params, updates), state

    params = ones("bfloat16")
    return float(jax.lax.fori_loop(0, 1000, step, (params, tx.init(params)))[0])


@case("finite")
def n05(lib):
    """`rmsprop(1e-3, decay=0.99, centered=True)`: the updates after 2,000 equal gradients, for 64
    gradients from 0.1 to 1000"""
    tx, g = lib.rmsprop(1e-3, 0.99, centered=True), jnp.logspace(-1, 3, 64)
    updates, _ = trained(tx, g, jnp.tile(g, (2000, 1)))
    return "finite" if jnp.all(jnp.isfinite(updates)) else "some are NaN"


@case("0")
def n06(lib):
    """Adam with a float16 parameter: the first update for a gradient of 0"""
    return float(once(lib.adam(1e-3), jnp.zeros((), "float16")))


@case("0.577")
def n07(lib):
    """`clip_by_global_norm(1.0)` of three float16 gradients of 300: the first entry"""
    return float(once(lib.clip_by_global_norm(1.0), jnp.full(3, 300, "float16"))[0])


@case("20")
def n08(lib):
    """The global norm of 400 bfloat16 leaves of 1"""
    norm = optax.tree.norm if lib is optax else gradtx.global_norm
    return float(norm([ones("bfloat16")] * 400))


@case("0")
def n09(lib):
    """`clip_by_global_norm(0.0)` of a gradient of 0"""
    return float(once(lib.clip_by_global_norm(0.0), jnp.zeros(())))


@case("0 of 7")
def n10(lib):
    """bfloat16 parameters and float32 gradients: optimizers whose state changes its dtypes in a step"""
    names = ("adam", "rmsprop", "adagrad", "adadelta", "amsgrad")
    optimizers = [getattr(lib, name)(0.1) for name in names] + [
        lib.sgd(0.1, 0.9),
        getattr(lib, "contrib", lib).muon(0.1),
    ]

    def changes(tx):
        params, gradients = ({"w": ones(dtype, 2, 3)} for dtype in ("bfloat16", "float32"))
        old = jax.eval_shape(tx.init, params)
        new = jax.eval_shape(lambda s: tx.update(gradients, s, params)[1], old)
        return [x.dtype for x in jax.tree.leaves(old)] != [x.dtype for x in jax.tree.leaves(new)]

    return f"{sum(map(changes, optimizers))} of {len(optimizers)}"


def mixed():
    return {"narrow": ones("bfloat16", 3), "wide": ones("float32", 2)}


@case("bfloat16")
def n11(lib):
    """`inject_hyperparams(adam)` of a bfloat16 and a float32 leaf: the dtype of the first update"""
    tx = lib.inject_hyperparams(lib.adam)(learning_rate=1e-3)
    return jax.eval_shape(functools.partial(once, tx), mixed())["narrow"].dtype.name


@case("5")
def n12(lib):
    """The norm of the last gradient under `lax.scan`, recorded by `optax.monitor` or `gradtx.tap`"""
    measured = optax.monitor({"norm": optax.tree.norm}) if lib is optax else gradtx.tap("norm")
    tx, gradients = lib.chain(measured, lib.sgd(0.1)), jnp.tile(jnp.array([3.0, 4.0]), (4, 1))
    state = lambda: trained(tx, gradients[0], gradients)[1]
    return outcome(lambda: float(jax.tree.leaves(state())[0]))


@case("2")
def n13(lib):
    """`optax.tree.map_params` of Adam after the norm of one leaf is measured, by `optax.snapshot` or
    `gradtx.tap`: the leaves of the state that belong to parameters"""
    params, seen = {"w": ones("float32", 3)}, []
    of_w, leaf = lambda updates: optax.tree.norm(updates["w"]), gradtx.norm(per="leaf")
    measured = optax.snapshot("norm", of_w) if lib is optax else gradtx.tap("norm", leaf)
    tx = lib.chain(measured, lib.adam(0.1))
    return outcome(lambda: optax.tree.map_params(tx, seen.append, tx.init(params)) and len(seen))


@case("2 runs, NaN in [4]")
def n14(lib):
    """`MultiSteps(sgd(1.0), 4)` over eight micro-batches, the first of which is NaN: how often the
    optimizer runs, and which updates are NaN"""
    runs = []

    def update(updates, state, params=None):
        jax.debug.callback(lambda: runs.append(None))
        return jax.tree.map(jnp.negative, updates), state

    counted = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    tx = lib.MultiSteps(counted, every_k_schedule=4)
    step, state, bad = jax.jit(tx.update), tx.init(jnp.zeros(())), []
    for call, g in enumerate([jnp.nan] + [1.0] * 7, start=1):
        u, state = step(jnp.asarray(g, "float32"), state)
        bad += [call] if jnp.isnan(u) else []
    jax.effects_barrier()
    return f"{len(runs)} runs, NaN in {bad}"


@case("-0.5")
def n15(lib):
    """`MultiSteps(polyak_sgd(), 2)` in a chain: the second update, for which `value=0.5` is passed"""
    tx = lib.MultiSteps(optax.polyak_sgd(), every_k_schedule=2).gradient_transformation()
    tx = lib.chain(tx, lib.scale(1.0))

    def second():
        g = jnp.ones(())
        state = tx.init(g)
        for _ in range(2):
            u, state = tx.update(g, state, g, value=jnp.asarray(0.5))
        return float(u)

    return outcome(second)


@case("0")
def n16(lib):
    """Lines of the library that compare versions as texts, by which 0.10 comes before 0.7"""
    files = [f for f in Path(lib.__file__).parent.rglob("*.py") if not f.name.endswith("_test.py")]
    return sum(len(re.findall(r"__version__ *[<>]", f.read_text("utf-8"))) for f in files)


@case("two errors")
def n17(lib):
    """A parameter of shape (3,) and a gradient of shape (2, 3): what `apply_updates` and Adam return"""
    p, g, tx = ones("float32", 3), ones("float32", 2, 3), lib.adam(0.1)
    calls = lambda: lib.apply_updates(p, g), lambda: tx.update(g, tx.init(p), p)[0]
    return tuple(outcome(lambda call=call: f"shape {call().shape}") for call in calls)


@case("finite")
def n18(lib):
    """`adafactor(0.1, decay_offset=1)`: the first update for a gradient of 1"""
    return float(once(lib.adafactor(0.1, decay_offset=1), ones("float32")))


@case("bfloat16")
def n19(lib):
    """Adam of all leaves at once, by `optax.flatten` or by gradtx's own pass: the dtype of the update
    of a bfloat16 leaf beside a float32 leaf"""
    tx = optax.flatten(optax.adam(0.1)) if lib is optax else gradtx.adam(0.1)
    return jax.eval_shape(functools.partial(once, tx), mixed())["narrow"].dtype.name


@case("0.08, 3")
def n20(lib):
    """`chain(clip(1.0), adamw(linear_schedule(0.1, 0.0, 10)))` after three steps: the learning rate and
    the count, read from the state"""
    tx = lib.chain(lib.clip(1.0), lib.adamw(lib.linear_schedule(0.1, 0.0, 10)))
    _, state = trained(tx, ones("float32"), ones("float32", 3))
    if lib is optax:
        rate = optax.tree.get(state, "learning_rate")
        return rate, outcome(lambda: optax.tree.get(state, "count"))
    return float(gradtx.readings(state)["learning_rate"]), int(gradtx.get(state, "count"))
