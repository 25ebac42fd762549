"""`stored`: what is coded, that averages do not freeze, and that everything reads the state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

import gradtx
from gradtx import blockwise_int8, stored

NAMES = ("int8", "bf16+8", "bf16_stochastic")
SHAPES = {"w": (8, 512), "b": (512,)}  # one leaf is coded, and one is small
PARAMS = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}


def gradients(seed, scale=1.0):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {n: scale * jax.random.normal(k, SHAPES[n]) for n, k in zip(SHAPES, keys, strict=True)}


def run(tx, steps, params=PARAMS):
    """The parameters and the state after steps with normal gradients."""

    def body(carry, key):
        params, state = carry
        g = jax.tree.map(lambda p: jax.random.normal(key, p.shape), params)
        updates, state = tx.update(g, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(0), steps)
    return jax.lax.scan(body, (params, tx.init(params)), keys)[0]


def decoded(tx, state):
    return tx.inner_of(state)[1]


# --- What is coded --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "most"), [("int8", 2.1), ("bf16+8", 6.01), ("bf16_stochastic", 4.01)]
)
def test_the_state_of_adamw_takes_few_bytes_per_parameter(codec, most):
    shapes = {
        "a": (768, 3072),
        "b": (300, 70),
        "c": (50257, 64),
        "d": (11008,),
        "e": (3, 3, 64, 128),
    }
    params = {k: jax.ShapeDtypeStruct(shape, jnp.float32) for k, shape in shapes.items()}
    summary = gradtx.summarize(stored(gradtx.adamw(1e-3), codec), params)
    assert summary.state_bytes / summary.parameters <= most
    assert f"{summary.state_bytes / summary.parameters:.3g} bytes per parameter" in repr(summary)


def test_the_summary_of_one_parameter_lists_its_codes():
    for params in (jnp.zeros((64, 64)), {"w": jnp.zeros((64, 64))}):
        arrays = gradtx.summarize(stored(gradtx.scale_by_momentum(), "bf16+8"), params).arrays
        found = {x.name: (x.dtype, x.bytes_per_parameter) for x in arrays}
        assert found["inner.mu.code.low"] == ("int8", 1) and len(found) == 3


def test_small_arrays_scalars_and_other_dtypes_are_not_coded():
    params = PARAMS | {"z": jnp.zeros((64, 64), jnp.complex64), "n": jnp.zeros((64, 64), jnp.int32)}
    tx = stored(gradtx.adam(0.1, mu_dtype="bfloat16"), "int8")
    mu, nu = (getattr(tx.init(params).inner[0], name) for name in ("mu", "nu"))
    assert mu.plain["w"].dtype == jnp.bfloat16 and mu.plain["z"].dtype == jnp.complex64
    assert nu.plain["b"].dtype == jnp.float32 and nu.code.codes["w"].dtype == jnp.uint8
    assert nu.code.codes["z"].dtype == jnp.uint8  # the square of a complex gradient is real
    assert isinstance(nu.plain["w"], optax.MaskedNode)
    assert isinstance(nu.code.codes["b"], optax.MaskedNode)
    small = stored(gradtx.adam(0.1), "int8", min_size=512).init(PARAMS).inner[0]
    assert small.nu.code.codes["b"].dtype == jnp.uint8 and small.count.dtype == jnp.int32


def test_the_only_parameter_may_be_one_array():
    for inner in (gradtx.adam(0.1), gradtx.skip_nonfinite(gradtx.adam(0.1)), optax.adam(0.1)):
        for params in (jnp.zeros((64, 64)), jnp.zeros(3), jnp.zeros(())):
            tx = stored(inner, "int8")
            state = tx.init(params)
            updates, after = tx.update(jnp.ones_like(params), state, params)
            assert jax.tree.structure(state) == jax.tree.structure(after)
            # Optax corrects the averages with an error of 7e-6.
            np.testing.assert_allclose(updates, np.full(params.shape, -0.1), rtol=1e-5)


INNER = [
    "optax.adam(0.1)",
    "muon(0.1)",
    "tunable(adamw(0.1))",
    "accumulate(adam(0.1), 2)",
    "chain(clip_by_global_norm(1.0), tap('in'), sgd(0.1, momentum=0.9))",
    "partition({'a': adamw(0.1), 'b': sgd(0.1, momentum=0.9)}, by_path({'w': 'a'}, 'b'))",
]


@pytest.mark.parametrize("code", INNER)
def test_24_bits_are_as_good_as_float32_for_any_transformation(code):
    inner = eval(code, {"optax": optax} | {n: getattr(gradtx, n) for n in dir(gradtx)})
    tx = stored(inner, "bf16+8", min_size=64)
    run_one = jax.jit(run, static_argnums=(0, 1))
    params, state = run_one(tx, 6)
    want, plain = run_one(gradtx.chain(inner), 6)
    spread = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(want))
    for x, y in zip(*map(jax.tree.leaves, (params, want)), strict=True):
        # Six steps, each of which rounds two averages by 2**-16; orthogonalization enlarges that.
        np.testing.assert_allclose(
            x, y, rtol=0, atol=(64 if "muon" in code else 12) * 2**-16 * spread
        )
    own = decoded(tx, state)
    for x, y in zip(jax.tree.leaves(own), jax.tree.leaves(plain[0]), strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype


def test_tunable_lies_inside_or_outside():
    g, updates = gradients(1), []
    for tx in (
        stored(gradtx.tunable(gradtx.sgd(0.1, momentum=0.9)), "int8"),
        gradtx.tunable(stored(gradtx.sgd(0.1, momentum=0.9), "int8")),
    ):
        state = gradtx.set(tx.init(PARAMS), learning_rate=0.25)
        u, state = tx.update(g, state, PARAMS)
        assert gradtx.get(state, "hyperparams.learning_rate") == 0.25
        updates.append(u["w"])
        np.testing.assert_allclose(u["w"], -0.25 * g["w"], rtol=1e-6)


# --- Numbers --------------------------------------------------------------------------------------


def after_a_change(codec, steps=4000):
    """The root of a second moment after the gradients have changed, over its right value."""
    n = 4096
    first, second = 10 ** np.random.default_rng(0).uniform(-2, 0, (2, n)).astype("float32")
    tx = stored(gradtx.second_moment(0.995), codec)

    def body(state, i):
        return tx.update(jnp.where(i < steps // 2, first, second), state)[1], None

    state, _ = jax.jit(lambda: jax.lax.scan(body, tx.init(jnp.zeros(n)), jnp.arange(steps)))()
    return np.sqrt(np.asarray(decoded(tx, state).nu)) / second


@pytest.mark.parametrize("codec", ["int8", "bf16_stochastic"])
def test_an_average_follows_the_gradients_after_they_have_changed(codec):
    ratio = after_a_change(codec)
    # Eight bits are coarse for entries far below the largest of their block.
    assert np.all((ratio > 0.3) & (ratio < 3)) and 0.9 < np.median(ratio) < 1.1


def test_an_average_that_is_rounded_to_the_nearest_value_stays_where_it_was():
    """So the default is to round at random."""
    ratio = after_a_change(blockwise_int8(rounding="nearest"))
    assert np.quantile(ratio, 0.9) > 3


@pytest.mark.parametrize("codec", [*NAMES, blockwise_int8(rounding="nearest")])
def test_a_gradient_that_vanishes_does_not_make_a_huge_step(codec):
    """A small entry of a second moment that was rounded to 0 would leave the momentum over eps."""
    n, tx = 4096, stored(gradtx.scale_by_adam(), codec)
    size = 10.0 ** np.linspace(0, -7, n).astype("float32")

    def body(state, i):
        u, state = tx.update(jnp.where(i < 100, size, 0.0), state)
        return state, jnp.abs(u).max()

    _, largest = jax.jit(lambda: jax.lax.scan(body, tx.init(jnp.zeros(n)), jnp.arange(120)))()
    assert float(largest.max()) < 3


def test_a_leaf_without_a_gradient_keeps_its_code_bit_for_bit():
    class drifting(gradtx.Codec):
        def encode(self, x, seed):
            return {"half": 0.5 * x}

        def decode(self, code):
            return code["half"]

    for codec in (*NAMES, drifting()):
        tx = stored(gradtx.scale_by_momentum(), codec, min_size=1)
        _, state = tx.update(gradients(1), tx.init(PARAMS), PARAMS)
        _, after = tx.update(gradients(2) | {"w": None}, state, PARAMS)
        old, new = jax.tree.leaves_with_path(state), jax.tree.leaves(after)
        for (path, a), b in zip(old, new, strict=True):
            if any(getattr(key, "key", None) == "w" for key in path):
                assert a.tobytes() == b.tobytes()


def test_rounding_at_random_is_the_same_in_every_way_to_run():
    tx = stored(gradtx.scale_by_momentum(), "bf16_stochastic")
    jitted, state = jax.jit(tx.update), tx.init(PARAMS)
    members = jax.vmap(tx.init)(jax.tree.map(lambda x: jnp.stack([x, x]), PARAMS))
    eager = state
    for seed in (1, 2, 3):
        g = gradients(seed)
        state, eager = jitted(g, state, PARAMS)[1], tx.update(g, eager, PARAMS)[1]
        both = jax.tree.map(lambda x: jnp.stack([x, x]), g)
        members = jax.vmap(lambda g, s: tx.update(g, s)[1])(both, members)
    want = np.asarray(state.inner.mu.code["w"], "float32")
    np.testing.assert_array_equal(np.asarray(eager.inner.mu.code["w"], "float32"), want)
    for i in range(2):
        np.testing.assert_array_equal(np.asarray(members.inner.mu.code["w"][i], "float32"), want)
    again = jitted(gradients(3), state, PARAMS)[1]  # the same number is rounded otherwise
    assert np.mean(np.asarray(again.inner.mu.code["w"], "float32") != want) > 0.5


def test_the_number_of_encodings_begins_again():
    tx = stored(gradtx.scale_by_momentum(), "bf16_stochastic")
    state = gradtx.set(tx.init(PARAMS), encodings=2**31 - 1)
    assert tx.update(gradients(1), state, PARAMS)[1].encodings == 0


# --- Around it ------------------------------------------------------------------------------------


def test_everything_that_reads_a_state_reads_this_one():
    tx = stored(gradtx.chain(gradtx.tap("g"), gradtx.skip_nonfinite(gradtx.adam(0.1))), "int8")
    _, state = tx.update(gradients(1), tx.init(PARAMS), PARAMS)
    assert {"g/global_norm", "learning_rate", "total_notfinite"} <= {*gradtx.readings(state)}
    gradtx.check(state)
    assert gradtx.get(state, "nu").code.codes["w"].shape == (8, 512)
    assert gradtx.get(decoded(tx, state), "nu")["w"].dtype == jnp.float32
    assert gradtx.get(gradtx.set(state, count=5), "count") == 5
    specs = {"w": "sharded", "b": "replicated"}
    marked = optax.tree.map_params(tx, lambda x: x.shape, state)
    assert gradtx.get(marked, "mu").plain["b"] == (512,)
    is_gap = lambda x: isinstance(x, optax.MaskedNode)
    marked = optax.tree.map_params(tx, lambda x, spec: spec, state, specs, is_leaf=is_gap)
    assert gradtx.get(marked, "mu").code.codes == gradtx.get(marked, "mu").plain == specs


@pytest.mark.parametrize("codec", ["bf16+8", "bf16_stochastic"])
def test_eval_params_decodes(codec):
    params = {"w": jnp.linspace(1.0, 2.0, 4096)}
    for inner in (gradtx.averaged(gradtx.sgd(0.1)), gradtx.sgd(0.1, momentum=0.9, nesterov=True)):
        tx, plain = stored(inner, codec), gradtx.chain(inner)
        got, want = (run(x, 3, params) for x in (tx, plain))
        got, want = (gradtx.eval_params(x, *y) for x, y in ((tx, got), (plain, want)))
        np.testing.assert_allclose(got["w"], want["w"], rtol=0, atol=3 * 2.0**-7)
        moved = gradtx.eval_params(plain, *run(plain, 3, params))["w"]
        assert np.abs(moved - run(plain, 3, params)[0]["w"]).max() > 0.05


def test_master_weights_lie_outside_of_eight_bits():
    for code in ("master_weights(sgd(0.1))", "chain(averaged(sgd(0.1)))"):
        inner = eval(code, {n: getattr(gradtx, n) for n in dir(gradtx)})
        with pytest.raises(
            TypeError, match=r"too coarse for the parameters .*\(stored\(\.\.\.\)\)"
        ):
            stored(inner, "int8")
        stored(inner, "bf16+8")
    params = jnp.ones((64, 64), jnp.bfloat16)
    tx = gradtx.master_weights(stored(gradtx.adamw(1e-3), "int8"))
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(jnp.ones_like(params), state, params)
        params = gradtx.apply_updates(params, updates)
    np.testing.assert_array_equal(
        np.asarray(params, "float32"), np.asarray(state.master.astype(jnp.bfloat16), "float32")
    )


@pytest.mark.parametrize(
    ("kind", "shape", "spec", "is_inside"),
    [
        ("Auto", (16, 1536), P("data"), True),
        ("Explicit", (16, 1536), P(None, "data"), True),
        ("Auto", (16, 1536), P("data", "model"), True),
        ("Explicit", (16, 1536), P("data", "model"), True),
        ("Auto", (8, 32, 64), P(None, "data"), True),  # blocks extend over the last two axes
        ("Explicit", (8, 32, 64), P(None, None, "data"), False),
    ],
)
def test_blocks_lie_within_shards_so_that_eight_bits_need_no_collective(
    kind, shape, spec, is_inside
):
    types = (jax.sharding.AxisType[kind],) * 2
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=types)
    params = {"w": jax.device_put(jnp.zeros(shape), NamedSharding(mesh, spec))}
    tx = stored(gradtx.scale_by_adam(), "int8")
    with jax.set_mesh(mesh):
        shardings = gradtx.state_shardings(tx, params)
        state = jax.jit(tx.init, out_shardings=shardings)(params)
        program = jax.jit(tx.update, out_shardings=None).lower(params, state, params).compile()
        _, after = program(params, state, params)
    code = after.inner.nu.code
    sent = any(x in program.as_text() for x in ("all-gather", "all-reduce", "all-to-all"))
    assert sent != is_inside
    assert code.codes["w"].sharding.is_equivalent_to(params["w"].sharding, len(shape)) or sent
    assert not code.scales["w"].sharding.is_fully_replicated or sent
    assert code.scales["w"].size == params["w"].size // (192 if shape[-1] == 1536 else 256)


def test_mistakes_are_sentences():
    with pytest.raises(ValueError, match=r"'int4'.* must be a `Codec` or one of 'int8', 'bf16"):
        stored(gradtx.sgd(0.1), "int4")
    with pytest.raises(TypeError, match="must be a `Codec` or its name"):
        stored(gradtx.sgd(0.1), 8)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="min_size=0"):
        stored(gradtx.sgd(0.1), "int8", min_size=0)
    assert stored(gradtx.sgd(0.1), "int8") == stored(gradtx.sgd(0.1), blockwise_int8())


def test_the_compiler_does_not_encode_the_zeros_of_a_new_state_itself():
    """For an embedding of 50,257 x 768 this took minutes."""
    tx = gradtx.stored(gradtx.adamw(1e-3), "int8")
    program = jax.jit(tx.init).lower(jax.ShapeDtypeStruct((64, 128), jnp.float32)).as_text()
    hidden = [x for x in program.splitlines() if "optimization_barrier" in x]
    assert sum("tensor<64x128xf32>" in x for x in hidden) == 2
