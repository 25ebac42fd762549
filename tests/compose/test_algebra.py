"""The algebra: how compositions of transformations relate to each other."""

import functools
import operator
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from rounding import roundings
from zoo import SMALL, fading, full, tree

import gradtx
from gradtx import (
    adam,
    adamw,
    bias_correction,
    by_rank,
    chain,
    clip,
    clip_by_global_norm,
    decoupled_weight_decay,
    fanout,
    freeze,
    identity,
    masked,
    partition,
    rms,
    root,
    scale,
    scale_by_learning_rate,
    scale_by_momentum,
    scale_by_sign,
    second_moment,
    sgd,
)

# Powers of two multiply without rounding, so that laws about factors hold to the last bit.
powers = st.integers(-20, 20).map(lambda k: 2.0**k)
decays = st.sampled_from([0.0, 0.3, 0.9, 0.999])
# What the dtype can hold, and nothing whose square vanishes or that XLA would flush to zero.
sizes = st.floats(2.0**-10, 2.0**10, width=32)
entries = st.one_of(st.just(0.0), sizes, sizes.map(operator.neg))
# Few shapes: each compiles its own program.
shapes = st.sampled_from([(), (3,), (2, 3)])
gradients = shapes.flatmap(lambda shape: arrays.arrays(np.float32, (3, *shape), elements=entries))


def run(tx, gradients, params=None):
    """All updates of a run whose parameters stand still."""
    state, updates = tx.init(gradients[0] if params is None else params), []
    for g in gradients:
        update, state = tx.update(g, state, params)
        updates.append(update)
    return updates


def run_all(txs, gradients, params=None):
    """All updates of several runs, in one program."""
    return jax.jit(lambda gs, params: [run(tx, gs, params) for tx in txs])(gradients, params)


def same(a, b):
    chex.assert_trees_all_equal(a, b)
    chex.assert_trees_all_equal_dtypes(a, b)


def close(a, b, n=32):
    """Whether they differ by `n` roundings of float32 at most, or of 1 where they are smaller."""
    chex.assert_trees_all_close(a, b, rtol=roundings(n, "float32"), atol=roundings(n, "float32"))


PARAMS = tree(shapes=SMALL)
GRADIENTS = [tree(seed=i, shapes=SMALL) for i in (1, 2, 3)]
# One of each kind: plain, with state, scheduled, looking at the tree, with parameters, on trees.
LINKS = [
    scale(0.5),
    scale_by_momentum(0.9),
    scale(fading),
    clip_by_global_norm(0.5),
    decoupled_weight_decay(0.1),
    masked(scale_by_sign(), by_rank(2)),
]


# --- Serial ---------------------------------------------------------------------------------------


def test_chain_is_associative_and_identity_is_its_unit():
    triples = [[LINKS[(i + k) % len(LINKS)] for k in range(3)] for i in range(len(LINKS))]
    ways = [
        lambda a, b, c: chain(a, b, c),
        lambda a, b, c: chain(chain(a, b), c),
        lambda a, b, c: chain(a, chain(b, c)),
        lambda a, b, c: chain(identity(), a, chain(), b, identity(), c),
    ]
    # The same program is compiled, so that nesting changes no number and costs nothing.
    for links in triples:
        assert len({program(way(*links)) for way in ways}) == 1, links


def program(tx):
    """What `update` is lowered to, without the names of its arguments and results."""
    text = jax.jit(tx.update).lower(GRADIENTS[0], tx.init(PARAMS), PARAMS).as_text()
    return re.sub(r' {jax\.result_info = "[^"]*"}', "", text)


def test_chain_is_its_links_applied_one_after_the_other():
    turns = [LINKS[i:] + LINKS[:i] for i in (0, 2, 4)]

    @jax.jit
    def one_after_the_other(params):
        out = []
        for links in turns:
            states, updates = [tx.init(params) for tx in links], []
            for g in GRADIENTS:
                for k, link in enumerate(links):
                    g, states[k] = link.update(g, states[k], params)
                updates.append(g)
            out.append(updates)
        return out

    fused = run_all([chain(*links) for links in turns], GRADIENTS, PARAMS)
    # Six links of a few roundings each, in either way.
    close(fused, one_after_the_other(PARAMS), 2 * 6)


def test_state_of_a_chain_is_the_tuple_of_its_links_states():
    chained = chain(*LINKS).init(PARAMS)
    same(chained, tuple(tx.init(PARAMS) for tx in LINKS))


def test_empty_chain_passes_updates_on():
    same(run(chain(), GRADIENTS), GRADIENTS)


@given(gradients, powers, powers)
def test_scales_multiply(gs, a, b):
    same(run(chain(scale(a), scale(b)), gs), run(scale(a * b), gs))


def test_clipping_with_adam_in_one_chain_equals_two_passes():
    clipping, inner = clip_by_global_norm(0.5), adam(0.1)
    same(run(chain(clipping, inner), GRADIENTS), run(inner, run(clipping, GRADIENTS)))


# --- Moments --------------------------------------------------------------------------------------

MOMENTS = [
    lambda b: scale_by_momentum(b),
    lambda b: scale_by_momentum(b, nesterov=True),
    lambda b: scale_by_momentum(b, form="heavy_ball"),
    lambda b: bias_correction(scale_by_momentum(b)),
]


@pytest.mark.parametrize("make", MOMENTS)
@given(gradients, powers, st.data())
def test_momentum_is_linear(make, gs, c, data):
    tx = make(data.draw(decays))
    same(run(tx, c * gs), [c * u for u in run(tx, gs)])
    others = data.draw(arrays.arrays(np.float32, gs.shape, elements=entries))
    both = [a + b for a, b in zip(run(tx, gs), run(tx, others), strict=True)]
    chex.assert_trees_all_close(
        run(tx, gs + others),
        both,
        # Three steps of some ten roundings in each of three runs, of sums of up to three gradients.
        atol=roundings(3 * 10 * 3, "float32") * (np.abs(gs) + np.abs(others)).max(),
        rtol=0,
    )


@given(gradients, powers, decays)
def test_rms_is_homogeneous_of_degree_one(gs, c, decay):
    for tx in (rms(decay), root(bias_correction(second_moment(decay)))):
        same(run(tx, c * gs), [c * u for u in run(tx, gs)])
        same(run(tx, -gs), run(tx, gs))


@given(gradients, powers)
def test_adam_without_epsilon_does_not_see_the_gradients_scale(gs, c):
    same(run(adam(0.1, eps=0.0), c * gs), run(adam(0.1, eps=0.0), gs))


@given(gradients)
def test_constant_gradient_comes_out_of_bias_correction_unchanged(gs):
    g = [gs[0]] * 5
    for b in (0.3, 0.9, fading):
        close(run(bias_correction(scale_by_momentum(b)), g), g)
        close(run(bias_correction(second_moment(b)), g), [np.square(x) for x in g])
    close(run(bias_correction(scale_by_momentum(0.9, form="heavy_ball")), g), g)
    close(run(bias_correction(scale_by_momentum(0.9, nesterov=True)), g), g)


def test_momentum_averages_as_its_equation_says():
    gs = [np.asarray(g["kernel"], "f8") for g in GRADIENTS]
    for b, form, nesterov in ((0.3, "ema", False), (0.9, "ema", True), (0.9, "heavy_ball", True)):
        rate = 1 - b if form == "ema" else 1
        m, want = 0, []
        for g in gs:
            m = b * m + rate * g
            want.append(b * m + rate * g if nesterov else m)
        got = run(scale_by_momentum(b, form, nesterov), GRADIENTS)
        close([u["kernel"] for u in got], [w.astype("f4") for w in want])


# --- Limits ---------------------------------------------------------------------------------------

LIMITS = [
    (scale_by_momentum(0.0), identity()),
    (scale_by_momentum(0.0, form="heavy_ball", nesterov=True), identity()),
    (bias_correction(scale_by_momentum(0.0)), identity()),
    (sgd(0.5, momentum=0.0), sgd(0.5)),
    (sgd(1.0), scale(-1.0)),
    (identity() / rms(0.0), scale_by_sign()),
    (adam(0.5, b1=0.0, b2=0.0, eps=0.0), chain(scale_by_sign(), scale_by_learning_rate(0.5))),
    (adamw(0.1, weight_decay=0.0), adam(0.1)),
    (adamw(0.1, weight_decay=0.5, mask=by_rank(9)), adam(0.1)),
    (scale_by_learning_rate(0.1, flip_sign=False), scale(0.1)),
    (clip(1e9), identity()),
    (clip_by_global_norm(1e9), identity()),
    (decoupled_weight_decay(0.0), identity()),
    (freeze(by_rank(9)), identity()),
    (freeze(by_rank(0)), scale(-0.0)),
    (masked(adam(0.1), by_rank(0)), adam(0.1)),
    (masked(adam(0.1), by_rank(9)), identity()),
    (partition({"all": adam(0.1)}, "all"), adam(0.1)),
    (scale(fading), scale_by_learning_rate(fading, flip_sign=False)),
    (adam(lambda step: 0.1), adam(0.1)),
    (fanout("add", identity()), identity()),
]


def test_limits_reduce_to_simpler_optimizers():
    runs = run_all([tx for pair in LIMITS for tx in pair], GRADIENTS, PARAMS)
    for pair, got, want in zip(LIMITS, runs[::2], runs[1::2], strict=True):
        error = roundings(4, "float32")
        chex.assert_trees_all_close(got, want, rtol=error, atol=0, custom_message=str(pair))


def test_adam_is_the_quotient_that_its_definition_says():
    m = bias_correction(scale_by_momentum(0.9))
    v = bias_correction(second_moment(0.999))
    same(
        run(chain(m / (root(v) + 1e-8), scale_by_learning_rate(0.1)), GRADIENTS),
        run(adam(0.1), GRADIENTS),
    )


def test_clipping_by_norm_leaves_the_direction_and_the_norm_asked_for():
    (u,) = run(clip_by_global_norm(0.5), GRADIENTS[:1])
    norm = gradtx.global_norm(GRADIENTS[0])
    assert norm > 0.5
    np.testing.assert_allclose(gradtx.global_norm(u), 0.5, rtol=roundings(16, "float32"))
    close(u, jax.tree.map(lambda g: g * 0.5 / norm, GRADIENTS[0]))
    for size in (1e-30, 1e30, 3.4e38):
        g = full(size, shapes=SMALL)
        (u,) = run(clip_by_global_norm(1e-32), [g])
        np.testing.assert_allclose(u["bias"], 1e-32 / 3, rtol=roundings(16, "float32"))


def test_complex_entries_are_clipped_by_their_absolute_value():
    g = jnp.asarray([3 + 4j, 0.3 - 0.4j, 0, 3e38 + 3e38j], "complex64")
    got = run(clip(1.0), [g])[0]
    np.testing.assert_allclose(
        got, [0.6 + 0.8j, 0.3 - 0.4j, 0, (1 + 1j) / 2**0.5], rtol=roundings(16, "float32")
    )


# --- Parallel -------------------------------------------------------------------------------------

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]


def test_operators_take_numbers_on_both_sides():
    g = np.array([1.5, -2.0], "f4")
    txs, expected = [], []
    for number in (3, 0.7, np.float32(0.7), np.int64(3), np.array(0.7), fading):
        value = np.float32(number(0) if callable(number) else number)
        for op in OPERATORS:
            both = op(identity(), number), op(number, identity())
            txs += both
            expected += [op(g, value)], [op(value, g)]
            for tx in both:
                assert isinstance(number, np.ndarray) or zoo.evaluate(repr(tx)) == tx
    for tx, got, want in zip(txs, run_all(txs, [g]), expected, strict=True):
        chex.assert_trees_all_close(got, want, rtol=roundings(4, "float32"), custom_message=str(tx))


def test_operators_join_what_the_branches_give():
    pairs = [
        (scale_by_momentum(), rms()),
        (identity(), clip_by_global_norm(0.5)),
        (masked(scale(2.0), by_rank(2)), scale_by_momentum()),  # not written for one array
        (clip_by_global_norm(0.5), decoupled_weight_decay(0.1)),
    ]
    joined = [op(a, b) for a, b in pairs for op in OPERATORS]
    runs = run_all([*joined, *(tx for pair in pairs for tx in pair)], GRADIENTS, PARAMS)
    runs, apart = iter(runs[: len(joined)]), runs[len(joined) :]
    for (a, b), x, y in zip(pairs, apart[::2], apart[1::2], strict=True):
        for op in OPERATORS:
            close(next(runs), [jax.tree.map(op, *both) for both in zip(x, y, strict=True)])
            same(op(a, b).init(PARAMS), (a.init(PARAMS), b.init(PARAMS)))


def test_a_difference_takes_a_mean_square_of_complex_parameters():
    tx, p = chain(second_moment(0.5), gradtx.difference()), jnp.ones(2, "complex64")
    state = tx.init(p)
    for g, want in ((1.0, 0.0), (2.0, 1.75)):  # the mean squares are 0.5 and 2.25
        u, new = tx.update(g * p, state, p)
        np.testing.assert_array_equal(u, want * p)
        assert zoo.types(new) == zoo.types(state)
        state = new


@pytest.mark.parametrize("other", ["parameters()", "chain(freeze(), decoupled_weight_decay(0.1))"])
def test_an_infinite_gradient_shows_beside_a_branch_that_ignores_gradients(other):
    tx = rms() + zoo.evaluate(other)
    u, _ = tx.update(jnp.array([jnp.inf, 2.0]), tx.init(jnp.ones(2)), jnp.ones(2))
    assert np.isnan(u[0]) and np.isfinite(u[1])


def test_what_follows_the_parameters_in_a_chain_leaves_large_gradients_as_they_are():
    tx, g = identity() * chain(gradtx.parameters(), gradtx.absolute()), jnp.array([2e30, -1e30])
    w = jnp.array([-0.5, 2.0])
    np.testing.assert_array_equal(tx.update(g, tx.init(w), w)[0], jnp.array([1e30, -2e30]))


def test_operators_bind_and_print_as_in_python():
    a, b = scale_by_momentum(), rms()
    for code in ("a / (b + 1e-08)", "a / b / a", "a / (b / a)", "a - (b - 1.0)", "(a + b) * 2.0"):
        tx = eval(code, {"a": a, "b": b})
        assert repr(tx) == code.replace("a", repr(a)).replace("b", "rms()").replace(
            repr(a).replace("b", "rms()"), repr(a)
        )
        assert zoo.evaluate(repr(tx)) == tx


def test_named_combinations_take_any_number_of_branches():
    g = [np.array([1.5, -2.0], "f4")]
    a, b, c = identity(), scale(2.0), scale(4.0)
    txs = [
        fanout("add", a, b, c),
        fanout("multiply", a, b, c),
        fanout(lambda x, y, z: x + y * z, a, b, c),
        fanout("add", a, 1.0, fading),
    ]
    wanted = [7 * g[0]], [8 * g[0] ** 3], [g[0] + 8 * g[0] ** 2], [g[0] + 1.5]
    close(run_all(txs, g), list(wanted))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "complex64"])
def test_zero_divided_by_zero_is_zero(dtype):
    g = full(0, dtype, SMALL)
    txs = identity() / identity(), identity() / rms(), 1.0 / identity(), identity() / 0.0
    for updates in run_all(txs, [g, g]):
        same(updates, [g, g])


def test_elementwise_links_share_one_function_for_each_shape():
    def calls(tx, params):
        text = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
        return text.count("func.func private @run_leaf")

    params = {str(i): jnp.ones((3, 4)) for i in range(5)} | {"b": jnp.ones(4), "c": jnp.ones(4)}
    long = chain(clip(1.0), adamw(0.1), scale(0.5), scale_by_momentum())
    assert calls(long, params) == 2
    assert calls(chain(clip_by_global_norm(1.0), long), params) == 2
    assert calls(chain(long, clip_by_global_norm(1.0)), params) == 4


WRAPS = [
    gradtx.scale_to_rms,
    lambda rms: gradtx.keep_norm(gradtx.scale_by_neuron_rms(rms)),
    lambda rms: gradtx.cautious(gradtx.scale_to_rms(rms)),
    lambda rms: masked(gradtx.scale_to_rms(rms), by_rank(1)),
    lambda rms: partition({"a": chain(gradtx.scale_to_rms(rms), scale(2.0))}, lambda *_: "a"),
    lambda rms: gradtx.normuon(0.1, b2=rms, coefficients="jordan", steps=2),
]


def test_a_schedule_of_what_works_on_trees_is_its_value_at_each_step():
    rng = np.random.default_rng(0)
    gradients = [jnp.asarray(rng.normal(size=(3, 4)), jnp.float32) for _ in range(3)]

    @jax.jit
    def both(gradients):
        out = []
        for wrap in WRAPS:
            still, updates = wrap(fading(0)).init(gradients[0]), []
            for step, g in enumerate(gradients):
                update, still = wrap(fading(step)).update(g, still, g)
                updates.append(update)
            out.append((run(wrap(fading), gradients, gradients[0]), updates))
        return out

    for moving, fixed in both(gradients):
        close(moving, fixed)


class behind(gradtx.Transform):
    """A wrapper as a user writes one: it only hands on."""

    inner: gradtx.Transform
    factor: gradtx.Hyper = 1.0

    def init_tree(self, params):
        return self.inner.init_tree(params)

    def update_tree(self, updates, state, params, extra):
        updates, state = self.inner.update_tree(updates, state, params, extra)
        return jax.tree.map(lambda u: self.factor * u, updates), state


def test_a_wrapper_that_only_hands_on_has_schedules_inside_and_of_its_own():
    g = jnp.arange(6.0).reshape(2, 3)
    inners = gradtx.scale_to_rms(fading), sgd(fading), masked(scale(fading), True)
    wrapped = run_all([behind(inner, fading) for inner in inners], [g] * 3)
    plain = run_all(inners, [g] * 3)
    for got, want in zip(wrapped, plain, strict=True):
        close(got, [fading(step) * u for step, u in enumerate(want)])


# --- Errors ---------------------------------------------------------------------------------------


def test_what_cannot_be_composed_is_refused_by_name():
    with pytest.raises(TypeError, match=r"chain\(\.\.\.\).*0\.1"):
        chain(adam(0.1), 0.1)
    with pytest.raises(ValueError, match=r"'power'.*add.*divide"):
        fanout("power", identity(), 2.0)
    with pytest.raises(TypeError, match="at least one transformation"):
        fanout("add", 1.0, 2.0)
    with pytest.raises(TypeError):
        identity() / "a"
    with pytest.raises(TypeError, match=r"bias_correction.*rms"):
        bias_correction(rms())
    with pytest.raises(TypeError, match=r"root\(inner=\.\.\.\).*must be a gradient transformation"):
        root(None)
    with pytest.raises(TypeError):
        functools.reduce(operator.lt, [identity(), scale(0.5)])
