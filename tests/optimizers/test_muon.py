"""Muon and its kin against the papers' recurrences in float64, and what makes them trustworthy.

`references.py` has the recurrences and names their papers.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import references
from rounding import mixed_roundings, roundings
from runs import normal, run_all, steps_of

import gradtx
from gradtx import newton_schulz, orthogonalize_newton_schulz

KELLER = {"coefficients": "jordan", "steps": 5}
STEPS = 4


# Two steps for what does not depend on their number: which matrices there are, in which precision.
TWO = {"coefficients": "jordan", "steps": 2}


def gaussian(*shape):
    return jnp.asarray(normal(*shape), "float32")


@jax.jit
def orthogonalized(updates):
    return orthogonalize_newton_schulz(**TWO).update(updates, ())[0]


@jax.jit
def orthogonalized_alone(matrix):
    return newton_schulz(matrix, **TWO)


def off_by(matrices):
    """What the float32 results of two runs may differ by: six products as long as the longer side, of
    which the first ones are magnified by the slope of two steps at zero. The results are below 1.2."""
    return mixed_roundings(2 * 6 * max(matrices.shape[-2:]), "float32") * 3.4445**2 * 1.2


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


def test_adaptive_muon_is_that_of_optax():
    # With `nesterov`, Optax corrects the two terms of the momentum by different factors.
    tx = gradtx.muon(0.1, nesterov=False, adaptive=True, scaling="original", **KELLER)
    theirs = optax.contrib.muon(0.1, nesterov=False, adaptive=True)
    x, gs = {"kernel": gaussian(6, 9)}, {"kernel": normal(3, 6, 9)}
    with jax.numpy_dtype_promotion("standard"):  # as Optax needs
        got, want = steps_of([tx, theirs], gs, params0=x)
    # The slope of the polynomials at zero, which magnifies roundings, is 3.4445 for each of the five.
    size, rounds = np.abs(want["kernel"]).max(), roundings(60, "float32") * 3.4445**5
    np.testing.assert_allclose(got["kernel"], want["kernel"], rtol=0, atol=size * rounds)


def test_equals_its_papers_recurrence_in_float64():
    # `weight` has outputs first, as the references do; `kernel` is its transpose.
    shapes = {"tall": (20, 12), "wide": (12, 20)}
    start = {name: normal(1, *shape)[0] for name, shape in shapes.items()}
    gradients = {name: normal(STEPS, *shape) for name, shape in shapes.items()}

    def twice(tree):
        return {
            k: {"a": {"weight": x}, "b": {"kernel": np.swapaxes(x, -1, -2)}}
            for k, x in tree.items()
        }

    seen = steps_of((tx for tx, _ in CASES.values()), twice(gradients), params0=twice(start))
    for (case, (_, reference)), updates in zip(CASES.items(), seen, strict=True):
        for name in shapes:
            want = np.stack(reference(list(gradients[name]), start[name]))
            # In float64, where rounding is far below: the references add 1e-7 or 1e-8 to norms, and
            # gradtx adds nothing.
            close = {"rtol": 2e-6, "atol": 1e-8, "err_msg": f"{case}, {name}"}
            np.testing.assert_allclose(updates[name]["a"]["weight"], want, **close)
            kernel = updates[name]["b"]["kernel"]
            np.testing.assert_allclose(np.swapaxes(kernel, -1, -2), want, **close)


def test_scion_signs_what_is_not_a_hidden_matrix():
    x, gradients = normal(1, 10, 8)[0], normal(STEPS, 10, 8)
    expected = references.scion(list(gradients), x, radius=3000.0, lmo="sign")
    ((updates, _),) = run_all(
        [gradtx.scion(2**-12)], {"head": {"weight": gradients}}, {"head": {"weight": x}}
    )
    np.testing.assert_allclose(updates["head"]["weight"], expected, rtol=roundings(8 * STEPS))


def test_all_that_is_not_a_hidden_matrix_goes_to_plain_adamw():
    shapes = {"embed": (9, 4), "bias": (4,), "scalar": ()}
    params = {name: normal(1, *shape)[0] for name, shape in shapes.items()}
    gradients = {name: normal(STEPS, *shape) for name, shape in shapes.items()}
    ours, adamw = steps_of(
        [gradtx.muon(1e-2, weight_decay=0.1), gradtx.adamw(1e-2, b2=0.95, weight_decay=0.1)],
        gradients,
        params0=params,
    )
    chex.assert_trees_all_equal(ours, adamw)


def test_the_auxiliary_optimizer_is_any_other_transformation():
    params, g = {"bias": jnp.ones(3)}, {"bias": jnp.full(3, 2.0)}
    tx = gradtx.muon(1e-2, auxiliary=gradtx.sgd(0.5))
    updates, _ = tx.update(g, tx.init(params), params)
    chex.assert_trees_all_equal(updates, {"bias": jnp.full(3, -1.0)})


def test_the_gradients_size_does_not_matter():
    g = gaussian(16, 24)
    sizes = (1.0, 1e-30, 1e-12, 1e12, 1e30)
    plain, *scaled = orthogonalized([{"w": g * size} for size in sizes])
    for same in scaled:
        chex.assert_trees_all_close(same, plain, rtol=0, atol=off_by(g))


def test_stacked_layers_are_orthogonalized_one_by_one_and_grouping_changes_nothing():
    shapes = {"a": (3, 8, 12), "b": (12, 8), "c": (8, 12), "d": (5, 5), "e": (2, 5, 5)}
    g = {name: {"kernel": gaussian(*shape)} for name, shape in shapes.items()}

    out = orthogonalized(g)
    for name, shape in shapes.items():
        x = g[name]["kernel"].reshape(-1, *shape[-2:])
        alone = jnp.stack([orthogonalized_alone(matrix) for matrix in x]).reshape(shape)
        chex.assert_trees_all_close(out[name]["kernel"], alone, rtol=0, atol=off_by(x))


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
    g = gaussian(3, 3, 4, 8)
    out = orthogonalized({"conv": {"kernel": g}})
    flat = orthogonalized_alone(g.reshape(36, 8))
    error = off_by(g.reshape(36, 8))
    chex.assert_trees_all_close(out["conv"]["kernel"].reshape(36, 8), flat, rtol=0, atol=error)


def test_fused_projections_split_into_blocks():
    g = gaussian(6, 12)
    tx = orthogonalize_newton_schulz(**TWO, axes=gradtx.hidden_matrices(blocks={"qkv": 3}))

    out, _ = jax.jit(lambda g: tx.update(g, ()))({"qkv": {"kernel": g}})
    parts = [orthogonalized_alone(part) for part in jnp.split(g, 3, axis=1)]
    want = jnp.concatenate(parts, axis=1)
    chex.assert_trees_all_close(out["qkv"]["kernel"], want, rtol=0, atol=off_by(parts[0]))


def test_zeros_give_zeros_in_every_shape():
    shapes = [(4, 4), (1, 5), (5, 1), (0, 3), (3, 0), (2, 3, 4)]
    params = [{"kernel": jnp.zeros(shape)} for shape in shapes]
    kin = gradtx.muon, gradtx.normuon, gradtx.adamuon, gradtx.scion
    txs = [recipe(0.1, **TWO) for recipe in kin]
    step = jax.jit(lambda params: [tx.update(params, tx.init(params), params) for tx in txs])
    for updates, state in step(params):
        chex.assert_trees_all_equal(updates, params)
        chex.assert_tree_all_finite(state)


def test_a_gradient_that_is_not_finite_shows_in_its_matrix_alone():
    for bad in (np.nan, np.inf):
        out = orthogonalized({"kernel": jnp.ones((2, 3, 4)).at[0, 0, 0].set(bad)})["kernel"]
        assert np.isnan(out[0]).all() and np.isfinite(out[1]).all()


def test_low_precision_matrices_are_iterated_in_float32_unless_asked():
    g = {"kernel": gaussian(16, 32).astype("bfloat16")}

    @jax.jit
    def results(g):
        both = [
            gradtx.chain(orthogonalize_newton_schulz(**TWO, dtype=dtype)).update(g, ((),))[0][
                "kernel"
            ]
            for dtype in (None, "bfloat16")
        ]
        return *both, newton_schulz(g["kernel"].astype(jnp.float32), **TWO)

    wide, narrow, exact = results(g)
    assert wide.dtype == jnp.bfloat16
    error = {"rtol": roundings(1.01, "bfloat16"), "atol": off_by(g["kernel"])}
    chex.assert_trees_all_close(wide.astype(jnp.float32), exact, **error)
    assert float(jnp.abs(narrow.astype(jnp.float32) - exact).max()) < 0.1


def test_sharded_weights_give_one_devices_numbers():
    params = {
        "layers": {"kernel": gaussian(8, 16, 32)},
        "tall": {"kernel": gaussian(64, 16)},
        "embed": gaussian(24, 8),
    }
    specs = {
        "layers": {"kernel": jax.P(None, None, "x")},
        "tall": {"kernel": jax.P("x", None)},
        "embed": jax.P("x"),
    }
    tx = gradtx.normuon(0.1, weight_decay=0.1, **TWO)
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    expected = jax.device_get(step(params, tx.init(params), params))
    # Updates are orthogonal factors times the rate, plus a decay; states are averages of gradients.
    error = 0.1 * off_by(np.asarray(params["layers"]["kernel"])) + roundings(20, "float32") * 4
    for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            put = lambda x, spec, mesh=mesh: jax.device_put(x, jax.NamedSharding(mesh, spec))
            sharded = jax.tree.map(put, params, specs)
            got = step(sharded, tx.init(sharded), sharded)
            for p, u in zip(jax.tree.leaves(sharded), jax.tree.leaves(got[0]), strict=True):
                assert u.sharding.is_equivalent_to(p.sharding, p.ndim)
        chex.assert_trees_all_close(jax.device_get(got), expected, rtol=0, atol=error)


def test_qk_clip_brings_logits_back_to_the_threshold():
    rng = np.random.default_rng(6)
    heads, d, size = 2, 6, 3
    q, k = (rng.normal(size=(d, heads, size)).astype(np.float32) for _ in range(2))
    x = rng.normal(size=(5, d)).astype(np.float32)

    @jax.jit
    def largest(params):
        queries, keys = (
            jnp.einsum("td,dhs->ths", x, params["attention"][n]["kernel"]) for n in ("query", "key")
        )
        return jnp.max(jnp.abs(jnp.einsum("ihs,jhs->hij", queries, keys)), axis=(1, 2))

    params = {"attention": {"query": {"kernel": jnp.asarray(q)}, "key": {"kernel": jnp.asarray(k)}}}
    before = largest(params)
    threshold = float(before.min() + before.max()) / 2
    tx = gradtx.chain(gradtx.scale(0.0), gradtx.qk_clip(threshold))

    @jax.jit
    def clipped(params, logits):
        updates, _ = tx.update(params, tx.init(params), params, max_logits={"attention": logits})
        return gradtx.apply_updates(params, updates)

    after = largest(clipped(params, before))
    # Sums of six and of three products, whose terms may cancel to a tenth of their size, and a root.
    error = roundings(10 * (2 * 6 + 3 + 5), "float32")
    chex.assert_trees_all_close(after, jnp.minimum(before, threshold), rtol=error)


def test_qk_clip_without_logits_says_how_to_pass_them():
    tx = gradtx.qk_clip(10.0)
    params = {"attention": {"query": {"kernel": jnp.ones((2, 2))}}}
    with pytest.raises(ValueError, match="max_logits="):
        tx.update(params, tx.init(params), params)


def test_qk_clip_takes_alternatives_for_names_and_refuses_a_path_without_such_weights():
    params = {
        "a": {"wq": jnp.ones((1, 2))},
        "b": {"wk": jnp.ones((1, 2))},
        "c": {"wqk": jnp.ones((1, 2))},
    }
    still = jax.tree.map(jnp.zeros_like, params)
    tx = gradtx.qk_clip(1.0, names="wq$|wk$")
    logits = {"a": jnp.full(2, 4.0), "b": jnp.full(2, 4.0)}
    updates, _ = tx.update(still, tx.init(params), params, max_logits=logits)
    assert [float(x.min()) for x in jax.tree.leaves(updates)] == [-0.5, -0.5, 0]
    with pytest.raises(ValueError, match=r"the path 'c', .* matches weights of 'a', 'b'\."):
        tx.update(still, tx.init(params), params, max_logits=logits | {"c": jnp.ones(2)})


def test_a_vector_cannot_be_orthogonalized_and_the_error_names_it():
    with pytest.raises(ValueError, match="`layer/bias`"):
        orthogonalize_newton_schulz().update({"layer": {"bias": jnp.ones(3)}}, ())


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
