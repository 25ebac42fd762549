"""The laws that hold for every value in the zoo: those of a value, and those of numbers and types."""

import copy
import dataclasses
import itertools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from zoo import SMALL, full, nudged, train, tree, types

import gradtx

FLOATS = ("float32", "bfloat16", "float16")
MAX = {name: float(jnp.finfo(name).max) for name in (*FLOATS, "float64")}


@pytest.fixture(scope="module", params=zoo.ROWS, ids=str)
def row(request):
    """Of module scope, so that pytest runs all laws of one row together and they share programs."""
    return request.param


def exactly(a, b):
    """Whether two trees are the same to the last bit, but for the sign of zero."""
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    chex.assert_trees_all_equal(a, b)


def close(a, b, rtol):
    chex.assert_trees_all_close(a, b, rtol=rtol, atol=rtol)


def test_every_public_transformation_is_in_the_zoo():
    def names(value):
        inside = [type(value)] if isinstance(value, gradtx.Transform) else []
        for field in dataclasses.fields(value) if isinstance(value, gradtx.Value) else ():
            inside += names(getattr(value, field.name))
        for x in (
            value.values() if isinstance(value, dict) else value if type(value) is tuple else ()
        ):
            inside += names(x)
        return inside

    # `qk_clip` asks for logits that belong to a model and not to a tree of parameters.
    abstract = {
        gradtx.Transform,
        gradtx.Elementwise,
        gradtx.Matrixwise,
        gradtx.Wrapper,
        gradtx.Moment,
    }
    abstract |= {gradtx.Recipe, gradtx.foreign, gradtx.qk_clip}
    kinds = (x for x in vars(gradtx).values() if isinstance(x, type))
    public = {x for x in kinds if issubclass(x, gradtx.Transform)} - abstract
    shown = {kind for row in zoo.ROWS for kind in names(row.make())}
    assert sorted(x.__name__ for x in public - shown) == []


# --- An optimizer is a value ----------------------------------------------------------------------


def test_prints_as_the_code_that_makes_it(row):
    tx = row.make()
    assert zoo.evaluate(repr(tx)) == tx
    assert repr(zoo.evaluate(repr(tx))) == repr(tx)


def test_equal_code_makes_equal_values_of_equal_hash(row):
    a, b = row.make(), row.make()
    assert a == b and (a != b) is False and hash(a) == hash(b)
    assert a != row.code and a != () and a != (a.init, a.update)
    if any(jax.tree.leaves(a)):
        assert a != nudged(a, 0.5)
    assert [r.code for r in zoo.ROWS if r.make() == a] == [row.code]


def test_copies_and_pickles(row):
    tx = row.make()
    for same in (copy.copy(tx), copy.deepcopy(tx), pickle.loads(pickle.dumps(tx))):
        assert type(same) is type(tx) and same == tx and hash(same) == hash(tx)


def test_flattens_and_unflattens_with_any_leaf(row):
    tx = row.make()
    leaves, structure = jax.tree.flatten(tx)
    assert structure.unflatten(leaves) == tx
    assert all(type(x) is float for x in leaves)
    odd = structure.unflatten([object()] * len(leaves))
    assert jax.tree.structure(odd) == structure
    assert jax.tree.map(lambda _: None, tx) is not None


def test_is_replaced_field_by_field(row):
    tx = row.make()
    assert dataclasses.replace(tx) == tx
    for field in dataclasses.fields(tx):
        assert dataclasses.replace(tx, **{field.name: getattr(tx, field.name)}) == tx
        value = getattr(tx, field.name)
        if isinstance(value, float):
            other = gradtx.replace(tx, **{field.name: 0.75 * value})
            assert getattr(other, field.name) == 0.75 * value and (other == tx) == (value == 0)


def test_is_an_optax_transformation(row):
    tx = row.make()
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    init, update = tx
    assert len(tx) == 2 and init == tx.init == tx[0] and update == tx.update == tx[1]
    params, g = tree(shapes=SMALL), tree(seed=1, shapes=SMALL)
    want = update(g, init(params), params, unknown_argument=3)
    exactly(want, update(g, init(params), params))
    chained = optax.chain(tx, optax.identity())
    updates, state = chained.update(g, chained.init(params), params, unknown_argument=3)
    exactly(want, (updates, state[0]))
    mine = gradtx.chain(tx, optax.identity())
    updates, state = mine.update(g, mine.init(params), params)
    exactly(want, (updates, state[0]))


def test_equal_rebuilt_value_never_retraces(row):
    traces = []

    def step(tx, params, g):
        traces.append(tx)
        return tx.update(g, tx.init(params), params)

    params, g = tree(shapes=SMALL), tree(seed=1, shapes=SMALL)
    static, data = (jax.jit(step, static_argnums=n) for n in (0, ()))
    for f in (static, data):
        traces.clear()
        for tx in (row.make(), row.make(), copy.deepcopy(row.make())):
            f.trace(tx, params, g)  # not called: what is looked at is there before it compiles
        assert len(traces) == 1


def test_sweeps_by_vmap_as_by_a_loop_and_compiles_once_for_all_numbers(row):
    traces = []

    def final(tx):
        traces.append(tx)
        return train(tx, tree(shapes=SMALL), [tree(seed=i, shapes=SMALL) for i in (1, 2)])

    txs = [nudged(row.make(), factor) for factor in (1.0, 0.75, 0.5)]
    jitted = jax.jit(final)
    one_by_one = [jitted(tx) for tx in txs]
    assert len(traces) == 1
    batch = gradtx.stack(txs)
    if not any(map(np.ndim, jax.tree.leaves(batch))):
        return  # nothing to sweep
    swept = jax.jit(jax.vmap(final, in_axes=(gradtx.axes(batch),)))(batch)
    close(swept, jax.tree.map(lambda *xs: jnp.stack(xs), *one_by_one), 1e-6)


def test_is_differentiated_and_agrees_with_a_finite_difference(row):
    @jax.jit
    @jax.value_and_grad
    def loss(tx, size):
        params, target = (tree("float64", seed, {"kernel": SMALL["kernel"]}) for seed in (0, 1))
        state = tx.init(params)
        for _ in range(2):
            g = jax.tree.map(lambda p, t: size * (p - t), params, target)
            updates, state = tx.update(g, state, params)
            params = gradtx.apply_updates(params, updates)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    with jax.enable_x64(True):
        tx = row.make()
        # A zero gradient too, where a square root has no slope.
        _, still = loss(tx, 0.0)
        _, moved = loss(tx, 1.0)
        assert jax.tree.structure(moved) == jax.tree.structure(tx)
        assert np.all(np.isfinite(jax.tree.leaves((still, moved))))
        if "_dtype='bfloat16'" in row.code:
            return  # what rounds has no difference quotient
        along = sum(x * d for x, d in zip(*map(jax.tree.leaves, (tx, moved)), strict=True))
        (above, _), (below, _) = (loss(nudged(tx, 1 + sign * 1e-6), 1.0) for sign in (1, -1))
        np.testing.assert_allclose(along, (above - below) / 2e-6, rtol=1e-5, atol=1e-7)


# --- Types ----------------------------------------------------------------------------------------


def check_types(tx, param_dtype, gradient_dtype, shapes=SMALL):
    def scanned(params, g):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(g, state, params)
            return (gradtx.apply_updates(params, updates), state), updates

        # Raises a TypeError where structure, shape, dtype or weak type of the carry change.
        return jax.lax.scan(body, (params, tx.init(params)), length=3)

    params = tree(param_dtype, shapes=shapes)
    (after, _), updates = jax.eval_shape(scanned, params, tree(gradient_dtype, shapes=shapes))
    assert types(after) == types(params)
    with jax.numpy_dtype_promotion("standard"):
        want = jnp.promote_types(param_dtype, gradient_dtype)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {want}


def one_step(tx, params, g):
    state = tx.init(params)
    return state, *tx.update(g, state, params)


def test_state_keeps_its_type_for_every_pair_of_dtypes(row):
    tx = row.make()
    for pair in (*itertools.product(FLOATS, FLOATS), ("complex64", "complex64")):
        check_types(tx, *pair)
    check_types(tx, "bfloat16", "float32", zoo.SHAPES)


def test_state_keeps_its_type_in_x64(row):
    with jax.enable_x64(True):
        tx = row.make()
        wide = itertools.product(("float64",), ("float64", "float32", "bfloat16"))
        for pair in (*wide, ("float32", "float64"), ("complex128", "complex128")):
            check_types(tx, *pair)
        check_types(tx, "float32", "float32")


def test_weak_types_and_python_numbers_become_strong(row):
    tx = row.make()
    for params in ({"a": jnp.asarray(1.0), "b": jnp.ones(3)}, {"a": 1.0, "b": np.ones(3)}):
        state, updates, after = one_step(tx, params, jax.tree.map(lambda p: p * 0.5, params))
        assert types(state) == types(after)
        assert not any(jax.typeof(x).weak_type for x in jax.tree.leaves((state, updates)))
        assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype("float32")}


def test_accumulates_in_float32_at_least(row):
    tx = row.make()
    for dtype in ("bfloat16", "float16"):
        state = jax.eval_shape(tx.init, tree(dtype))
        narrow = {x.dtype.name for x in jax.tree.leaves(state)} - {"float32", "int32"}
        assert narrow <= ({"bfloat16"} if "_dtype='bfloat16'" in row.code else set())


def numbers(*trees):
    """All leaves as NumPy arrays of at least float32, which NumPy knows."""
    arrays = map(np.asarray, jax.tree.leaves(trees))
    return [x.astype("float32") if x.dtype.itemsize == 2 else x for x in arrays]


# --- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*FLOATS, "complex64", "float64"])
def test_zero_gradient_gives_exactly_zero_or_the_decay(row, dtype):
    with jax.enable_x64(dtype == "float64"):
        tx, params = row.make(), tree(dtype, shapes=SMALL)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(full(0, dtype, SMALL), state, params)
            assert all(np.all(np.isfinite(x)) for x in numbers(updates, state))
        if row.at_zero is None:
            return
        wide = "float32" if dtype in ("bfloat16", "float16") else dtype
        for got, p in zip(*map(jax.tree.leaves, (updates, params)), strict=True):
            want = np.asarray(jnp.asarray(row.at_zero(np.asarray(p, wide)), dtype))
            assert got.dtype == want.dtype
            # Zero is exact; a decay may be off by one rounding, where a product fused with a sum.
            np.testing.assert_allclose(*numbers([got, want]), rtol=2 * jnp.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [*FLOATS, "float64"])
def test_no_finite_gradient_gives_nan(row, dtype):
    with jax.enable_x64(dtype == "float64"):
        tx, params = row.make(), tree(dtype, shapes=SMALL)
        largest = MAX[dtype]
        if "_dtype='bfloat16'" in row.code:  # what is asked to fit into it must
            largest = 1e18 if dtype == "float64" else min(largest, MAX["bfloat16"])
        for size in (1e-45, 1e-30, 1e-8, 1e4, 1e30, MAX[dtype]):
            size = min(size, largest)
            state = tx.init(params)
            for factor in (size, -size, size, 0.0, 1.0):
                updates, state = tx.update(full(factor, dtype, SMALL), state, params)
                for x in numbers(updates, state):
                    assert not np.any(np.isnan(x)), (size, factor)
                    assert not row.bounded or np.all(np.isfinite(x)), (size, factor)


def test_not_a_number_is_not_hidden(row):
    if "scale_by_sign" in row.code or "constant" in row.code or "freeze" in row.code:
        return
    tx, params = row.make(), tree(shapes=SMALL)
    updates, _ = tx.update(full(np.nan, shapes=SMALL), tx.init(params), params)
    assert any(np.all(np.isnan(x)) for x in numbers(updates))


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
def test_jitted_equals_eager(row, dtype):
    tx, params = row.make(), tree(dtype, shapes=SMALL)
    gradients = [tree(dtype, seed, SMALL) for seed in (1, 2)]
    eager = train(tx, params, gradients)
    compiled = jax.jit(lambda params, gradients: train(tx, params, gradients))(params, gradients)
    close(numbers(compiled), numbers(eager), 3e-7 if dtype != "bfloat16" else 8e-3)


# --- Leaves ---------------------------------------------------------------------------------------


def test_missing_gradient_leaves_its_state_and_moves_nothing(row):
    tx, shapes = row.make(), {"going": SMALL, "still": SMALL}
    params = tree(shapes=shapes)
    _, before = train(tx, params, [tree(seed=1, shapes=shapes)])
    g = tree(seed=2, shapes=shapes) | {"still": dict.fromkeys(SMALL)}
    updates, after = tx.update(g, before, params)
    pairs = zip(*map(jax.tree_util.tree_leaves_with_path, (before, after)), strict=True)
    for (path, old), (_, new) in pairs:
        if any(getattr(key, "key", None) == "still" for key in path):
            assert old.tobytes() == new.tobytes()
    for name, update in updates["still"].items():
        got = np.asarray(update)
        assert got.shape == params["still"][name].shape and np.all((got == 0) & np.signbit(got))
    exactly(gradtx.apply_updates(params, updates)["still"], params["still"])


def test_passes_over_what_is_not_optimized(row):
    params = tree(shapes=SMALL)
    odd = {"steps": jnp.arange(3), "mask": jnp.array([True, False]), "none": None, "act": jnp.tanh,
           "name": "dense", "size": 3, "key": jax.random.key(0)}  # fmt: skip
    model = {"odd": odd, "params": params}
    tx, g = row.make(), tree(seed=1, shapes=SMALL)
    state = tx.init(model)
    alone = tx.init({"params": params})
    assert [x.shape for x in jax.tree.leaves(state)] == [x.shape for x in jax.tree.leaves(alone)]
    float0 = np.zeros(3, jax.dtypes.float0)
    for steps in (None, jnp.arange(3), float0):
        gradients = {"odd": dict.fromkeys(odd) | {"steps": steps}, "params": g}
        updates, new = tx.update(gradients, state, model)
        want, _ = tx.update({"params": g}, alone, {"params": params})
        exactly(updates["params"], want["params"])
        assert types(new) == types(state)
        moved = gradtx.apply_updates(model, updates)
        assert moved["odd"].pop("key") == odd["key"]
        assert all(moved["odd"][k] is odd[k] for k in ("none", "act", "name", "size"))
        assert (
            moved["odd"]["steps"].tolist() == [0, 1, 2] and moved["odd"]["steps"].dtype == "int32"
        )
        assert moved["odd"]["mask"].tolist() == [True, False]


def test_trees_may_be_empty(row):
    tx = row.make()
    for empty in ({}, (), {"a": None, "b": []}):
        state = tx.init(empty)
        updates, after = tx.update(empty, state, empty)
        assert updates == empty and types(after) == types(state)


def test_wrong_gradients_are_errors_that_name_the_leaf(row):
    tx, params = row.make(), tree(shapes={"layers": [SMALL, SMALL]})
    state = tx.init(params)

    def spoil(leaf):
        g = tree(shapes={"layers": [SMALL, SMALL]})
        g["layers"][1]["bias"] = leaf
        return g

    for leaf, says in (
        (jnp.ones(4), "shape"), (jnp.ones((1,)), "shape"), (jnp.ones((3, 3)), "shape"),
        (jnp.ones(3, "int32"), "int32"), (jnp.ones(3, "complex64"), "complex64"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"layers/1/bias.*{says}"):
            tx.update(spoil(leaf), state, params)
    less = tree(shapes={"layers": [SMALL, SMALL]})
    del less["layers"][1]["bias"]
    with pytest.raises(ValueError, match="layers/1/bias"):
        tx.update(less, state, params)
    with pytest.raises(ValueError, match="complex"):
        tx.update(
            tree(shapes=SMALL), tx.init(full(1, "complex64", SMALL)), full(1, "complex64", SMALL)
        )


def test_parameters_are_asked_for_exactly_where_they_are_needed(row):
    tx, params, g = row.make(), tree(shapes=SMALL), tree(seed=1, shapes=SMALL)
    state = tx.init(params)
    if row.needs_params:
        with pytest.raises(ValueError, match="needs the parameters"):
            tx.update(g, state)
    else:
        exactly(tx.update(g, state), tx.update(g, state, params))


# --- States ---------------------------------------------------------------------------------------


def test_inits_from_shapes_alone(row):
    tx, params = row.make(), tree()
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    want = types(tx.init(params))
    assert types(tx.init(shapes)) == want
    assert types(jax.eval_shape(tx.init, params)) == want


def test_state_maps_over_its_parts_that_are_like_the_parameters(row):
    tx, params = row.make(), tree(shapes=SMALL)
    state = tx.init(params)
    marked = optax.tree.map_params(
        tx,
        lambda x: None if x is None else "like",
        state,
        transform_non_params=lambda x: "shared",
        is_leaf=lambda x: x is None,
    )
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for (path, _), kind in zip(leaves, jax.tree.leaves(marked), strict=True):
        assert kind == ("like" if getattr(path[-1], "key", None) in SMALL else "shared")


def test_no_buffer_is_shared_and_donated_jitted_steps_equal_eager_ones(row):
    tx, params = row.make(), tree()
    state = tx.init(params)
    arrays = [x for x in jax.tree.leaves((params, state)) if x.size]
    assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)

    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return gradtx.apply_updates(params, updates), state

    donated = jax.jit(step, donate_argnums=(0, 1))
    for seed in (1, 2):
        params, state = donated(params, state, tree(seed=seed))
    close((params, state), train(tx, tree(), [tree(seed=1), tree(seed=2)]), 3e-7)


def test_state_is_made_of_named_tuples_tuples_and_dicts_of_arrays(row):
    def check(node):
        if isinstance(node, dict):
            list(map(check, node.values()))
        elif isinstance(node, tuple | list):
            assert type(node) in (tuple, list) or hasattr(node, "_fields")
            list(map(check, node))
        else:
            assert node is None or isinstance(node, jax.Array)

    check(row.make().init(tree()))
