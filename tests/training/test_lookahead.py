"""`eval_params` and `lookahead_params`: the momentum is found where it lies, or refused.

`test_nesterov_forms.py` shows that the two ways are one method.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rounding import roundings

import gradtx
from gradtx import (
    adam,
    by_path,
    by_rank,
    chain,
    clip,
    decoupled_weight_decay,
    eval_params,
    freeze,
    identity,
    lookahead_params,
    masked,
    muon,
    partition,
    scale,
    scale_by_learning_rate,
    scale_by_momentum,
    sgd,
)  # fmt: skip

PARAMS = {"w": np.arange(6.0).reshape(2, 3), "b": np.ones(3), "steps": np.arange(3)}
GRADIENTS = {"w": np.full((2, 3), 2.0), "b": -np.ones(3), "steps": None}


def gaps(*cases):
    """For each (optimizer, function) where the function goes from the parameters after three steps."""

    @jax.jit
    def moves(params):
        seen = []
        for tx, function in cases:
            at, state = params, tx.init(params)
            for _ in range(3):
                updates, state = tx.update(GRADIENTS, state, at)
                at = gradtx.apply_updates(at, updates)
            seen.append((at, function(tx, at, state)))
        return seen

    out = []
    for at, moved in moves(jax.tree.map(jnp.asarray, PARAMS)):
        assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, at)
        assert jax.tree.map(lambda x: x.dtype, moved) == jax.tree.map(lambda x: x.dtype, at)
        assert moved["steps"].tolist() == [0, 1, 2]
        out.append({k: np.asarray(moved[k] - at[k]) for k in ("w", "b")})
    return out


# What a difference of parameters of size 6 is off by where it is as small as 0.04: three steps and the
# two points are some ten roundings.
OFF = roundings(10 * 6, "float32")


# After three constant gradients: 1 + .5 + .25, times the decay and the rate, by the gradient.
BALL, AVERAGE = 0.5 * 1.75 * 0.1, 0.5 * 0.875 * 0.1
BALL_LINK = scale_by_momentum(0.5, form="heavy_ball", nesterov=True)
OWN = {
    "recipe": (sgd(0.1, 0.5, nesterov=True), BALL),
    "chain": (
        chain(clip(9.0), scale_by_momentum(0.5, nesterov=True), scale_by_learning_rate(0.1)),
        AVERAGE,
    ),
    "chains_in_chains": (
        chain(chain(identity(), chain(BALL_LINK)), scale(-0.05), scale(2.0)),
        BALL,
    ),
    "upwards": (
        chain(sgd(0.1, 0.5, nesterov=True), scale(-1.0), scale_by_learning_rate(1.0, flip_sign=True)),
        BALL,
    ),
    "inside": (sgd(0.1, 0.5, nesterov=True, lr_inside=True), BALL),
    "decayed": (
        chain(sgd(0.1, 0.5, nesterov=True), decoupled_weight_decay(0.0)),
        BALL,
    ),
    "sum": (sgd(0.1, 0.5, nesterov=True, weight_decay=0.0, convention="keras"), BALL),
    "difference": (chain(identity() - sgd(0.1, 0.5, nesterov=True), scale(-1.0)), BALL),
    "all_masked": (masked(sgd(0.1, 0.5, nesterov=True), by_rank(0)), BALL),
    "scheduled": (
        chain(gradtx.replace(BALL_LINK, decay=lambda t: 0.5 + 0.0 * t), scale(-0.1)),
        BALL,
    ),
}  # fmt: skip


def test_finds_the_momentum_wherever_it_lies():
    seen = gaps(*((tx, eval_params) for tx, _ in OWN.values()))
    for (name, (_, size)), moves in zip(OWN.items(), seen, strict=True):
        for k, moved in moves.items():
            want = size * GRADIENTS[k]
            np.testing.assert_allclose(moved, want, rtol=0, atol=OFF, err_msg=name)


def test_looks_ahead_by_the_rate_of_the_coming_step():
    rate = lambda t: 0.1 * (1.0 + t)
    (moves,) = gaps((sgd(rate, 0.5), lookahead_params))
    for k, moved in moves.items():
        np.testing.assert_allclose(moved, -0.5 * 1.75 * 0.4 * GRADIENTS[k], rtol=0, atol=OFF)


def test_leaves_without_a_momentum_stay():
    groups = {"fast": sgd(0.1, 0.5, nesterov=True), "slow": sgd(0.1), "still": freeze()}
    both = {True: sgd(0.1, 0.5, nesterov=True), False: sgd(0.2, 0.5, nesterov=True)}
    slow, still, two, outside = gaps(
        *(
            (partition(groups, by_path({"w": "fast"}, rest)), eval_params)
            for rest in ("slow", "still")
        ),
        (partition(both, by_rank(2)), eval_params),
        (masked(sgd(0.1, 0.5, nesterov=True), by_rank(2)), eval_params),
    )
    for moved in (slow, still):
        np.testing.assert_allclose(moved["w"], BALL * 2.0, rtol=0, atol=OFF)
        assert not moved["b"].any()
    np.testing.assert_allclose(two["b"], -2 * BALL, rtol=0, atol=OFF)
    assert not outside["b"].any() and outside["w"].all()


def test_before_the_first_step_both_points_are_one():
    tx = sgd(0.1, 0.5, nesterov=True)
    state = tx.init(PARAMS)
    assert eval_params(tx, PARAMS, state)["w"].tolist() == PARAMS["w"].tolist()


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
def test_keeps_the_dtype(dtype):
    tx, params = sgd(jnp.float32(0.1), 0.5, nesterov=True), jnp.ones(3, dtype)
    updates, state = tx.update(params, tx.init(params), params)
    moved = eval_params(tx, updates, state)
    assert moved.dtype == dtype
    # In bfloat16 the update and the point it is added to are rounded.
    error = roundings(4, "bfloat16")
    np.testing.assert_allclose(np.asarray(moved, "complex64"), -0.1, rtol=error)


@pytest.mark.parametrize(
    ("tx", "says"),
    [
        (sgd(0.1), "needs an optimizer that has a momentum with `nesterov=False`"),
        (sgd(0.1, 0.9, nesterov=True), "nesterov=False"),
        (adam(0.1), "linear transformations, and not through"),
        (chain(sgd(0.1, 0.9), clip(1.0)), r"not through `clip\(1.0\)`"),
        (chain(sgd(0.1, 0.9), sgd(0.1, 0.9)), "one momentum only"),
        (chain(sgd(0.1, 0.9), masked(scale(2.0), by_rank(2))), "not through"),
        (gradtx.adam(1e-3, b1=lambda step: 0.5), "momentum"),
    ],
    ids=str,
)
def test_refuses_what_has_no_look_ahead_point(tx, says):
    with pytest.raises(TypeError, match=says):
        lookahead_params(tx, PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize(
    "tx",
    [
        sgd(0.1),
        sgd(0.1, 0.9),
        adam(0.1),
        optax.sgd(0.1),
        gradtx.rmsprop(0.1, decay=lambda step: 0.5),
        # Where the momentum does not reach the updates linearly, its iterates are not known.
        masked(muon(0.1), by_rank(2)),
        gradtx.nadam(0.1),
        chain(sgd(0.1, 0.9, nesterov=True), clip(1.0)),
        chain(sgd(0.1, 0.9, nesterov=True), sgd(0.1, 0.9)),
    ],
    ids=lambda tx: type(tx).__name__,
)
def test_optimizers_without_other_iterates_are_evaluated_at_their_parameters(tx):
    params = {k: jnp.asarray(x) for k, x in PARAMS.items() if k != "steps"}
    _, state = tx.update(params, tx.init(params), params)
    got = eval_params(tx, params, state)
    assert all(got[k] is params[k] for k in params)


def test_a_group_whose_momentum_is_not_linear_stays_and_the_others_move():
    groups = {True: muon(0.1), False: sgd(0.1, 0.5, nesterov=True)}
    (moves,) = gaps((partition(groups, by_rank(2)), eval_params))
    assert not moves["w"].any() and moves["b"].all()


def test_finds_the_momentum_in_wrappers_by_the_numbers_in_their_states():
    tx = gradtx.observe(gradtx.tunable(sgd(0.1, 0.5, nesterov=True)))
    params = jnp.ones(())
    _, state = tx.update(params, tx.init(params), params)
    state = gradtx.set(state, learning_rate=0.2)
    np.testing.assert_allclose(eval_params(tx, params, state), 1 + 0.2 * 0.5, rtol=1e-6)


def test_parameters_that_are_missing_are_asked_for():
    with pytest.raises(
        ValueError, match=r"`eval_params\(params=None\)`: pass the trained parameters"
    ):
        eval_params(sgd(0.1), None, sgd(0.1).init(PARAMS))
