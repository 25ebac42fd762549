"""The laws of `in_basis`: what holds for every basis and every transformation inside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from shares import share
from test_soap import gradients, updates

import gradtx
from gradtx import eigenbasis, fixed_basis, in_basis

BASES = {
    "eigenbasis": eigenbasis(0.8, every=2),
    "kl": eigenbasis(0.8, every=2, statistics="kl", first="plain"),
    "eigh": eigenbasis(0.8, every=2, method="eigh", side="longer"),
    "whitening": gradtx.whitening(0.8, every=2),
    "blocked": gradtx.blocked(eigenbasis(0.8, every=2), 2),
    "low rank": gradtx.low_rank(2, every=2),
    "random": gradtx.low_rank(2, every=2, method="random"),
    "fitted": gradtx.fitted_whitening(0.1),
    "fixed": fixed_basis(inputs=np.eye(3)[[2, 0, 1]], outputs=np.diag([1.0, -1, 1, -1])),
}
# Each has a state of another kind, and none of them knows of bases.
FOREIGN = {
    "sgd": gradtx.sgd(0.1),
    "lion": optax.scale_by_lion(),
    "stored": gradtx.stored(gradtx.adam(0.1), "bf16+8", min_size=1),
}
each_basis = pytest.mark.parametrize("basis", BASES.values(), ids=BASES)


def rotation(n, seed=3):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


@pytest.mark.parametrize("name", share(BASES, "foreign", 2))
def test_any_transformation_stands_in_any_basis_with_gradients_of_every_size(name):
    """One by one, in one compiled program, since compilation takes most of the time."""
    txs, params = [in_basis(BASES[name], tx) for tx in FOREIGN.values()], jnp.zeros((3, 4))
    rng = np.random.default_rng(0)
    step = jax.jit(
        lambda g, states: [tx.update(g, own) for tx, own in zip(txs, states, strict=True)]
    )
    states = [tx.init(params) for tx in txs]
    for size in (1.0, 1.0, 1e-25, 0.0, 3e38, 1.0, 1e30, 1e-30):
        g = rng.normal(size=params.shape)
        pairs = step(jnp.asarray(size * g / np.abs(g).max(), "float32"), states)
        for inner, (u, new), state in zip(FOREIGN, pairs, states, strict=True):
            assert jax.tree.map(lambda x: x.aval, new) == jax.tree.map(lambda x: x.aval, state)
            arrays = jax.tree.leaves((u, new))
            assert all(bool(jnp.isfinite(x).all()) for x in arrays), (inner, size)
        states = [new for _, new in pairs]
    lion = list(FOREIGN).index("lion")
    assert float(jnp.abs(pairs[lion][0]).max()) > 0  # the other steps may underflow


def test_the_identity_basis_is_the_inner_transformation_bit_for_bit():
    gs = gradients((3, 4), steps=4)
    inner = gradtx.chain(FOREIGN["sgd"], FOREIGN["stored"])
    for a, b in zip(updates(in_basis(fixed_basis(), inner), gs), updates(inner, gs), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["eigenbasis", "kl", "eigh", "whitening"])
def test_rotated_gradients_give_rotated_updates(name):
    gs, p, s = gradients((4, 4), steps=10), rotation(4), rotation(4, 5)
    tx = in_basis(BASES[name], gradtx.identity() / (gradtx.rms(0.9) + 1e-8))
    if name in ("kl", "eigh", "whitening"):
        # The first step in the basis of the parameters is not equivariant, and neither is a side that
        # keeps its basis. In a whitening, the transformation inside has to be equivariant itself.
        plain = {"kl": eigenbasis(0.8, every=2, statistics="kl"), "whitening": BASES["whitening"]}
        tx = in_basis(plain.get(name, eigenbasis(0.8, every=2, method="eigh")), tx.inner)
        tx = gradtx.replace(tx, inner=gradtx.identity()) if name == "whitening" else tx
    turned = updates(tx, [p @ g @ s.T for g in gs])
    for u, v in zip(updates(tx, gs), turned, strict=True):
        np.testing.assert_allclose(p @ u @ s.T, v, rtol=0, atol=1e-8)


def test_a_linear_transformation_does_not_see_a_rotation():
    gs = gradients((4, 4), steps=12)
    inner = gradtx.scale_by_momentum(0.9, nesterov=True)
    inside = updates(in_basis(eigenbasis(every=2, first="plain"), inner), gs)
    for a, b in zip(inside, updates(inner, gs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_a_weight_decay_inside_a_rotation_is_that_outside():
    gs, w = gradients((3, 3), steps=3), jnp.asarray(rotation(3), "float32")
    tx = in_basis(fixed_basis(inputs=w, outputs=w), gradtx.decoupled_weight_decay(0.1))
    params = jnp.asarray(gs[1], "float32")
    u, _ = tx.update(jnp.zeros_like(params), tx.init(params), params)
    np.testing.assert_allclose(u, 0.1 * params, rtol=0, atol=1e-5)


def decays_in(basis):
    """A step with a weight decay inside the basis."""
    tx, w = in_basis(basis, gradtx.decoupled_weight_decay(0.1)), jnp.ones((3, 3))
    return tx.update(jnp.zeros_like(w), tx.init(w), w)[0]


@pytest.mark.parametrize(
    "basis",
    [
        gradtx.whitening(),
        gradtx.low_rank(1),
        fixed_basis(inputs=2 * jnp.eye(3)),  # the decay would be four times as strong
        fixed_basis(outputs=np.eye(3) + np.eye(3, k=1)),
        fixed_basis(inputs=np.eye(3)[:2]),
        gradtx.blocked(fixed_basis(inputs=2 * np.eye(3)), 3),
    ],
    ids=["whitening", "low rank", "scaled", "sheared", "projection", "blocks"],
)
def test_what_needs_the_parameters_is_refused_where_they_have_no_coordinates(basis):
    with pytest.raises(ValueError, match="is not known to be a rotation"):
        decays_in(basis)


def test_a_fixed_basis_is_a_rotation_if_its_entries_are_known_and_orthogonal():
    narrow = jnp.asarray(rotation(3), "bfloat16")
    for m in (np.eye(3, dtype=int)[[2, 0, 1]], narrow, rotation(3), None):
        got = jax.jit(lambda m=m: decays_in(fixed_basis(inputs=m)))()
        np.testing.assert_allclose(got, 0.1, rtol=0.05)
    with pytest.raises(ValueError, match="is not known to be a rotation"):
        jax.jit(lambda m: decays_in(fixed_basis(outputs=m)))(jnp.eye(3))


class unnamed_state(gradtx.Elementwise):
    def init_leaf(self, param):
        return (gradtx.accumulator(param),)

    def update_leaf(self, update, state, param):
        return update, state


def test_a_state_of_unknown_degree_is_refused():
    tx, w = in_basis(eigenbasis(), unnamed_state()), jnp.ones((2, 2))
    with pytest.raises(TypeError, match="does not say how"):
        tx.update(w, tx.init(w))
    kept = gradtx.replace(tx, on_refresh="keep")
    kept.update(w, kept.init(w))


def test_reset_starts_the_inner_transformation_anew():
    gs = gradients((3, 3), steps=4)
    tx = in_basis(gradtx.whitening(every=2), gradtx.scale_by_momentum(0.5), on_refresh="reset")
    w = jnp.zeros((3, 3))
    state = tx.init(w)
    for g in gs[:3]:
        _, state = tx.update(jnp.asarray(g, "float32"), state)
    # The third step refreshed, so that the average has seen one gradient.
    root = state.basis
    want = 0.5 * root.root_left[0] @ jnp.asarray(gs[2], "float32") @ root.root_right[0]
    np.testing.assert_allclose(state.inner.mu, want, rtol=1e-4)


def test_a_tap_inside_reads_the_coordinates_and_changes_nothing():
    gs = gradients((2, 3), steps=2)
    plain = in_basis(eigenbasis(0.8), gradtx.scale_by_adam())
    tapped = in_basis(eigenbasis(0.8), gradtx.chain(gradtx.tap("in"), gradtx.scale_by_adam()))
    np.testing.assert_array_equal(updates(tapped, gs), updates(plain, gs))


LOWERED = {name: in_basis(basis, gradtx.scale_by_adam()) for name, basis in BASES.items()}
LOWERED |= {
    "scale in basis": gradtx.scale_in_basis(BASES["low rank"], gradtx.scale_by_adam()),
    "dion": gradtx.orthogonalize_low_rank(rank=2),
    "operator norm": gradtx.scale_to_operator_norm(precision="highest"),
}


@pytest.mark.parametrize("tx", LOWERED.values(), ids=LOWERED)
def test_products_and_decompositions_are_lowered_with_all_digits(tx):
    params = jnp.zeros((3, 4))
    step = jax.jit(tx.update)
    text = step.trace(params, tx.init(params)).lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products and all("precision = [HIGHEST, HIGHEST]" in line for line in products)
