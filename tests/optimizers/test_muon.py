"""Muon and its kin against the papers' recurrences in float64, and what makes them trustworthy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

import gradtx

KELLER = {"coefficients": "jordan", "steps": 5}
STEPS = 4


def run(tx, gradients, params):
    """The updates of `tx` for a list of gradients, in float64."""
    with jax.enable_x64(True):
        x = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
        state, updates = tx.init(x), []
        update = jax.jit(tx.update)
        for g in gradients:
            u, state = update(jax.tree.map(lambda y: jnp.asarray(y, jnp.float64), g), state, x)
            x = gradtx.apply_updates(x, u)
            updates.append(jax.tree.map(np.asarray, u))
    return updates


def matrices(shape, seed=0):
    """A matrix in torch's layout (outputs, inputs), and gradients for it."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), [rng.normal(size=shape) for _ in range(STEPS)]


CASES = {
    "muon": (
        gradtx.muon(0.02, scaling="original", weight_decay=0.1, **KELLER),
        lambda g, x: references.muon(g, x, lr=0.02, weight_decay=0.1),
    ),
    "muon without nesterov": (
        gradtx.muon(0.02, scaling="original", nesterov=False, **KELLER),
        lambda g, x: references.muon(g, x, lr=0.02, nesterov=False),
    ),
    "moonlight": (
        gradtx.muon(1e-3, weight_decay=0.1, **KELLER),
        lambda g, x: references.muon_moonlight(g, x),
    ),
    "equilibrated": (
        gradtx.muon(0.02, scaling="original", equilibrate=True, **KELLER),
        lambda g, x: references.muon(g, x, lr=0.02, equilibrate=True),
    ),
    "cautious": (
        gradtx.muon(0.02, scaling="original", cautious_update=True, **KELLER),
        lambda g, x: references.muon(g, x, lr=0.02, mask_update=True),
    ),
    "cautious decay": (
        gradtx.muon(0.02, scaling="original", weight_decay=0.3, cautious_decay=True, **KELLER),
        lambda g, x: references.muon(g, x, lr=0.02, weight_decay=0.3, mask_decay=True),
    ),
    "normuon": (
        gradtx.normuon(0.02, scaling="original", weight_decay=0.1, **KELLER),
        lambda g, x: references.normuon(g, x, lr=0.02, weight_decay=0.1),
    ),
    "adamuon": (
        gradtx.adamuon(0.02, **KELLER),
        lambda g, x: references.adamuon(g, x, lr=0.02),
    ),
    "scion": (gradtx.scion(2**-12, **KELLER), lambda g, x: references.scion(g, x)),
    "unconstrained scion": (
        gradtx.scion(2**-12, constrained=False, **KELLER),
        lambda g, x: references.scion(g, x, constrained=False),
    ),
}


@pytest.mark.parametrize("shape", [(24, 16), (12, 20)])
@pytest.mark.parametrize("case", CASES)
def test_equals_its_papers_recurrence_in_float64(case, shape):
    tx, reference = CASES[case]
    x, gradients = matrices(shape)
    expected = reference(gradients, x)
    # `weight` has outputs first, as the references do; `kernel` is its transpose.
    both = [{"a": {"weight": g}, "b": {"kernel": g.T}} for g in gradients]
    updates = run(tx, both, {"a": {"weight": x}, "b": {"kernel": x.T}})
    for want, got in zip(expected, updates, strict=True):
        # The references add 1e-7 or 1e-8 to norms, gradtx adds nothing.
        chex.assert_trees_all_close(got["a"]["weight"], want, rtol=2e-6, atol=1e-8)
        chex.assert_trees_all_close(got["b"]["kernel"], want.T, rtol=2e-6, atol=1e-8)


def test_scion_signs_what_is_no_hidden_matrix():
    x, gradients = matrices((10, 8))
    expected = references.scion(gradients, x, radius=3000.0, lmo="sign")
    updates = run(
        gradtx.scion(2**-12), [{"head": {"weight": g}} for g in gradients], {"head": {"weight": x}}
    )
    chex.assert_trees_all_close([u["head"]["weight"] for u in updates], expected, rtol=1e-12)


def test_all_that_is_no_hidden_matrix_goes_to_plain_adamw():
    rng = np.random.default_rng(1)
    params = {"embed": rng.normal(size=(9, 4)), "bias": rng.normal(size=4), "scalar": rng.normal()}
    gradients = [jax.tree.map(lambda p: rng.normal(size=np.shape(p)), params) for _ in range(STEPS)]
    ours = run(gradtx.muon(1e-2, weight_decay=0.1), gradients, params)
    adamw = run(gradtx.adamw(1e-2, b2=0.95, weight_decay=0.1), gradients, params)
    chex.assert_trees_all_equal(ours, adamw)


def test_the_auxiliary_optimizer_is_any_other_transformation():
    params, g = {"bias": jnp.ones(3)}, {"bias": jnp.full(3, 2.0)}
    tx = gradtx.muon(1e-2, auxiliary=gradtx.sgd(0.5))
    updates, _ = tx.update(g, tx.init(params), params)
    chex.assert_trees_all_equal(updates, {"bias": jnp.full(3, -1.0)})


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
def test_the_gradients_size_does_not_matter(size):
    g = jax.random.normal(jax.random.key(0), (16, 24))
    tx = gradtx.orthogonalize_newton_schulz()
    plain, _ = tx.update({"w": g}, ())
    scaled, _ = tx.update({"w": g * size}, ())
    chex.assert_trees_all_close(scaled, plain, atol=1e-5)


def test_stacked_layers_are_orthogonalized_one_by_one_and_grouping_changes_nothing():
    key = jax.random.key(1)
    shapes = {"a": (3, 8, 12), "b": (12, 8), "c": (8, 12), "d": (5, 5), "e": (2, 5, 5)}
    g = {
        name: {"kernel": jax.random.normal(jax.random.fold_in(key, i), s)}
        for i, (name, s) in enumerate(shapes.items())
    }
    out, _ = gradtx.orthogonalize_newton_schulz().update(g, ())
    for name, shape in shapes.items():
        x = g[name]["kernel"].reshape(-1, *shape[-2:])
        alone = jnp.stack([gradtx.newton_schulz(matrix) for matrix in x]).reshape(shape)
        chex.assert_trees_all_close(out[name]["kernel"], alone, atol=1e-5)


def test_a_group_over_the_cap_is_cut_and_gives_the_same():
    from gradtx._matrices.groups import map_groups

    calls = []

    def f(x):
        calls.append(x.shape)
        return (2 * x,)

    stacks = [jnp.full((2, 4, 6), float(i)) for i in range(5)] + [jnp.ones((1, 6, 4))]
    stacks = [(x,) for x in stacks]
    out = map_groups(f, stacks, transposes=True, cap=2 * 2 * 4 * 6 * 4)
    assert [shape[0] for shape in calls] == [4, 4, 3]
    chex.assert_trees_all_equal(out, [(2 * x,) for (x,) in stacks])
    calls.clear()
    out = map_groups(f, stacks)
    assert calls == [(10, 4, 6), (1, 6, 4)]
    chex.assert_trees_all_equal(out, [(2 * x,) for (x,) in stacks])


def test_convolutions_are_one_matrix_of_all_taps():
    g = jax.random.normal(jax.random.key(2), (3, 3, 4, 8))
    out, _ = gradtx.orthogonalize_newton_schulz().update({"conv": {"kernel": g}}, ())
    flat = gradtx.newton_schulz(g.reshape(36, 8))
    chex.assert_trees_all_close(out["conv"]["kernel"], flat.reshape(g.shape), atol=1e-5)


def test_fused_projections_split_into_blocks():
    g = jax.random.normal(jax.random.key(3), (6, 12))
    axes = gradtx.hidden_matrices(blocks={"qkv": 3})
    out, _ = gradtx.orthogonalize_newton_schulz(axes=axes).update({"qkv": {"kernel": g}}, ())
    parts = [gradtx.newton_schulz(part) for part in jnp.split(g, 3, axis=1)]
    chex.assert_trees_all_close(out["qkv"]["kernel"], jnp.concatenate(parts, axis=1), atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (1, 5), (5, 1), (0, 3), (3, 0), (2, 3, 4)])
def test_zeros_give_zeros_in_every_shape(shape):
    params = {"kernel": jnp.zeros(shape)}
    for tx in (gradtx.muon(0.1), gradtx.normuon(0.1), gradtx.adamuon(0.1), gradtx.scion(0.1)):
        updates, state = tx.update(params, tx.init(params), params)
        chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, params))
        chex.assert_tree_all_finite(state)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_shows_in_its_matrix_alone(bad):
    g = jnp.ones((2, 3, 4)).at[0, 0, 0].set(bad)
    out, _ = gradtx.orthogonalize_newton_schulz().update({"kernel": g}, ())
    assert np.isnan(out["kernel"][0]).all() and np.isfinite(out["kernel"][1]).all()


def test_low_precision_matrices_are_iterated_in_float32_unless_asked():
    g = {"kernel": jax.random.normal(jax.random.key(4), (16, 32), jnp.bfloat16)}
    wide, _ = gradtx.chain(gradtx.orthogonalize_newton_schulz()).update(g, ((),))
    narrow, _ = gradtx.chain(gradtx.orthogonalize_newton_schulz(dtype="bfloat16")).update(g, ((),))
    exact = gradtx.newton_schulz(g["kernel"].astype(jnp.float32))
    assert wide["kernel"].dtype == jnp.bfloat16
    chex.assert_trees_all_close(wide["kernel"].astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)
    assert float(jnp.abs(narrow["kernel"].astype(jnp.float32) - exact).max()) < 0.1


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_sharded_weights_give_one_devices_numbers(kind):
    key = jax.random.key(5)
    params = {
        "layers": {"kernel": jax.random.normal(key, (8, 16, 32))},
        "tall": {"kernel": jax.random.normal(key, (64, 16))},
        "embed": jax.random.normal(key, (24, 8)),
    }
    tx = gradtx.normuon(0.1, weight_decay=0.1)
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    expected = step(params, tx.init(params), params)
    mesh = jax.make_mesh((8,), ("x",), axis_types=(getattr(jax.sharding.AxisType, kind),))
    with jax.set_mesh(mesh):
        specs = {
            "layers": {"kernel": jax.P(None, None, "x")},
            "tall": {"kernel": jax.P("x", None)},
            "embed": jax.P("x"),
        }
        sharded = jax.tree.map(
            lambda x, spec: jax.device_put(x, jax.NamedSharding(mesh, spec)), params, specs
        )
        got = step(sharded, tx.init(sharded), sharded)
        for p, u in zip(jax.tree.leaves(sharded), jax.tree.leaves(got[0]), strict=True):
            assert u.sharding.is_equivalent_to(p.sharding, p.ndim)
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(expected), atol=1e-6)


def test_qk_clip_brings_logits_back_to_the_threshold():
    rng = np.random.default_rng(6)
    heads, d, size = 2, 6, 3
    q, k = (rng.normal(size=(d, heads, size)).astype(np.float32) for _ in range(2))
    x = rng.normal(size=(5, d)).astype(np.float32)

    def largest(params):
        queries, keys = (
            jnp.einsum("td,dhs->ths", x, params["attention"][n]["kernel"]) for n in ("query", "key")
        )
        return jnp.max(jnp.abs(jnp.einsum("ihs,jhs->hij", queries, keys)), axis=(1, 2))

    params = {"attention": {"query": {"kernel": jnp.asarray(q)}, "key": {"kernel": jnp.asarray(k)}}}
    before = largest(params)
    threshold = float(before.min() + before.max()) / 2
    tx = gradtx.chain(gradtx.scale(0.0), gradtx.qk_clip(threshold))
    updates, _ = tx.update(params, tx.init(params), params, max_logits={"attention": before})
    after = largest(gradtx.apply_updates(params, updates))
    chex.assert_trees_all_close(after, jnp.minimum(before, threshold), rtol=1e-5)


def test_qk_clip_without_logits_says_how_to_pass_them():
    tx = gradtx.qk_clip(10.0)
    params = {"attention": {"query": {"kernel": jnp.ones((2, 2))}}}
    with pytest.raises(ValueError, match="max_logits="):
        tx.update(params, tx.init(params), params)


def test_a_vector_cannot_be_orthogonalized_and_the_error_names_it():
    with pytest.raises(ValueError, match="`layer/bias`"):
        gradtx.orthogonalize_newton_schulz().update({"layer": {"bias": jnp.ones(3)}}, ())


@pytest.mark.parametrize(
    "make",
    [
        lambda: gradtx.adamuon(0.1, eps=-1.0),
        lambda: gradtx.scion(0.1, radius=-1.0),
        lambda: gradtx.scion(0.1, sign_radius=-1.0),
    ],
)
def test_numbers_that_would_turn_a_step_around_are_refused(make):
    with pytest.raises(ValueError, match=r"=-1.0\).*\[0, inf\)"):
        make()
