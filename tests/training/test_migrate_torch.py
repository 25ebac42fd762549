"""`migrate` from a `state_dict` of PyTorch: the run goes on with the steps that PyTorch would take.

The oracles are the equations in the documentation of `torch.optim` (version 2.13), in NumPy float64,
with its names of the arrays.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from rounding import roundings

import gradtx
from gradtx import migrate

SHAPES = {"up": {"kernel": (2, 3), "bias": (3,)}, "down": {"kernel": (3, 2)}}
NAMES = ["up/kernel", "up/bias", "down/kernel"]  # the order of the layers, and not of the alphabet
LR = 0.1


def adam(s, g, b1=0.9, b2=0.999, eps=1e-8, amsgrad=False):
    t = s["step"] = s.get("step", 0.0) + 1
    m = s["exp_avg"] = b1 * s.get("exp_avg", 0) + (1 - b1) * g
    v = s["exp_avg_sq"] = b2 * s.get("exp_avg_sq", 0) + (1 - b2) * g**2
    if amsgrad:
        v = s["max_exp_avg_sq"] = np.maximum(s.get("max_exp_avg_sq", 0), v)
    return LR / (1 - b1**t) * m / (np.sqrt(v / (1 - b2**t)) + eps)


def nadam(s, g, b1=0.9, b2=0.999, eps=1e-8, decay=4e-3):
    t = s["step"] = s.get("step", 0.0) + 1
    mu, ahead = (b1 * (1 - 0.5 * 0.96 ** (k * decay)) for k in (t, t + 1))
    product = s["mu_product"] = s.get("mu_product", 1.0) * mu
    m = s["exp_avg"] = b1 * s.get("exp_avg", 0) + (1 - b1) * g
    v = s["exp_avg_sq"] = b2 * s.get("exp_avg_sq", 0) + (1 - b2) * g**2
    size = np.sqrt(v / (1 - b2**t)) + eps
    return LR * ((1 - mu) / (1 - product) * g + ahead / (1 - product * ahead) * m) / size


def sgd(s, g, momentum=0.9):
    b = s["momentum_buffer"] = momentum * s.get("momentum_buffer", 0) + g
    return LR * (g + momentum * b)  # nesterov=True


def rmsprop(s, g, alpha=0.99, eps=1e-8, momentum=0.9, centered=False):
    s["step"] = s.get("step", 0.0) + 1
    v = s["square_avg"] = alpha * s.get("square_avg", 0) + (1 - alpha) * g**2
    if centered:
        m = s["grad_avg"] = alpha * s.get("grad_avg", 0) + (1 - alpha) * g
        v = v - m**2
    b = s["momentum_buffer"] = momentum * s.get("momentum_buffer", 0) + g / (np.sqrt(v) + eps)
    return LR * b


def adagrad(s, g, lr_decay=0.5, eps=1e-10):
    t = s["step"] = s.get("step", 0.0) + 1
    v = s["sum"] = s.get("sum", 0) + g**2
    return LR / (1 + (t - 1) * lr_decay) * g / (np.sqrt(v) + eps)


def adadelta(s, g, rho=0.9, eps=1e-6):
    s["step"] = s.get("step", 0.0) + 1
    v = s["square_avg"] = rho * s.get("square_avg", 0) + (1 - rho) * g**2
    x = s.setdefault("acc_delta", 0)
    delta = np.sqrt(x + eps) / np.sqrt(v + eps) * g
    s["acc_delta"] = rho * x + (1 - rho) * delta**2
    return LR * delta


CASES = {
    "adam": (adam, gradtx.adam(LR, convention="torch")),
    "amsgrad": (
        lambda s, g: adam(s, g, amsgrad=True),
        gradtx.amsgrad(LR, convention="torch"),
    ),
    "nadam": (nadam, gradtx.nadam(LR, convention="torch")),
    "sgd": (sgd, gradtx.sgd(LR, momentum=0.9, nesterov=True, convention="torch")),
    "rmsprop": (rmsprop, gradtx.rmsprop(LR, momentum=0.9, convention="torch")),
    "rmsprop, centered": (
        lambda s, g: rmsprop(s, g, centered=True),
        gradtx.rmsprop(LR, momentum=0.9, centered=True, convention="torch"),
    ),
    "adagrad": (adagrad, gradtx.adagrad(LR, lr_decay=0.5, convention="torch")),
    "adadelta": (adadelta, gradtx.adadelta(LR, convention="torch")),
}
# The correction of NAdam is a logarithm that is kept in the dtype of scalars, and there are some tens of
# other operations. The variance of a centered RMSProp is a difference of two averages, which loses three
# digits at most for these gradients.
TOLERANCE = roundings(1e3 * 64)


def after(step, gradients, groups=(NAMES,)):
    """The `state_dict` after these gradients, in PyTorch's order of the parameters."""
    states = {i: {} for i in range(len(NAMES))}
    for g in gradients:
        for i, name in enumerate(NAMES):
            layer, kind = name.split("/")
            step(states[i], np.asarray(g[layer][kind]))
    order = iter(range(len(NAMES)))
    return {
        "state": states,
        "param_groups": [{"lr": LR, "params": [next(order) for _ in group]} for group in groups],
    }


def drawn(count, dtype="float32"):
    return [zoo.tree(dtype, seed=i, shapes=SHAPES) for i in range(count)]


@pytest.mark.parametrize("name", CASES)
def test_a_run_of_pytorch_goes_on_in_gradtx(name):
    step, tx = CASES[name]
    with jax.enable_x64(True):
        params, *gradients = drawn(6, "float64")
        state_dict = after(step, gradients[:3])
        reports = []
        state = migrate(state_dict, tx, params, report=reports.append, names=NAMES)
        assert zoo.types(state) == zoo.types(tx.init(params))
        for g in gradients[3:]:
            updates, state = tx.update(g, state, params)
            for i, path in enumerate(NAMES):
                layer, kind = path.split("/")
                want = -step(state_dict["state"][i], np.asarray(g[layer][kind]))
                got = np.asarray(updates[layer][kind])
                np.testing.assert_allclose(got, want, rtol=TOLERANCE, atol=TOLERANCE)
    assert not reports[0].left and not reports[0].notes
    started = {path.split("/")[-1] for path in reports[0].started}
    assert started == ({"last_learning_rate", "step"} if name == "sgd" else {"last_learning_rate"})


def test_each_group_has_its_own_count_and_a_parameter_may_be_left_out():
    rule = gradtx.by_path({"down": "late"}, "early")
    tx = gradtx.partition({"early": gradtx.adam(LR), "late": gradtx.adam(LR)}, rule)
    _, *gradients = drawn(4)
    state_dict = after(adam, gradients, groups=(NAMES[:2], NAMES[2:]))
    state_dict["state"][2]["step"] = 7.0
    params = zoo.tree(shapes=SHAPES)
    state = migrate(state_dict, tx, params, names=NAMES)
    for label, steps in (("early", 3), ("late", 7)):
        group = state.inner_states[label].inner_state
        assert (int(group[0].count), int(group[1].step)) == (steps, steps)
    del params["up"]["bias"]
    reports = []
    names = ["up/kernel", None, "down/kernel"]
    state = migrate(state_dict, tx, params, report=reports.append, names=names)
    np.testing.assert_array_equal(
        state.inner_states["early"].inner_state[0].mu["up"]["kernel"],
        np.float32(state_dict["state"][0]["exp_avg"]),
    )
    # One count for both groups is wrong for one of them, and the report says so.
    migrate(state_dict, gradtx.adam(LR), params, report=reports.append, names=names)
    assert not reports[0].notes
    assert "`0/count` is 3" in reports[1].notes[0] or "`0/count` is 7" in reports[1].notes[0]
    assert reports[1].notes[0] in repr(reports[1])


def test_muon_keeps_an_average_and_sgd_a_sum():
    params = {"kernel": jnp.ones((3, 2))}
    buffer = np.arange(6.0).reshape(3, 2)
    for options, tx, field in (
        ({"ns_steps": 5}, gradtx.muon(LR), "muon.mu"),
        ({}, gradtx.sgd(LR, 0.9), "trace"),
    ):
        groups = [{"params": [0], **options}]
        state_dict = {"state": {0: {"momentum_buffer": buffer}}, "param_groups": groups}
        state = migrate(state_dict, tx, params)
        np.testing.assert_array_equal(gradtx.get(state, f"{field}.kernel"), buffer)
        with pytest.raises(ValueError, match="no array in common"):
            migrate(state_dict, gradtx.adam(LR), params)


def test_a_momentum_that_includes_the_rate_is_not_confused_with_one_that_does_not():
    _, *gradients = drawn(3)
    state_dict, params = after(rmsprop, gradients), zoo.tree(shapes=SHAPES)
    reports = []
    tx = gradtx.rmsprop(LR, momentum=0.9)
    state = migrate(state_dict, tx, params, report=reports.append, names=NAMES)
    assert not any(x.any() for x in jax.tree.leaves(gradtx.get(state, "trace")))
    assert 'convention="torch"' in reports[0].notes[0] and len(reports[0].left) == 3


def test_arrays_in_another_order_or_transposed_are_refused():
    _, *gradients = drawn(3)
    state_dict, params, tx = after(adam, gradients), zoo.tree(shapes=SHAPES), gradtx.adam(LR)
    with pytest.raises(ValueError) as caught:
        migrate(state_dict, tx, params)
    message = str(caught.value)
    assert "`exp_avg` of parameter 1 has shape (3,); `up/bias` has (3,)" not in message
    assert (
        "of parameter 0 has shape (2, 3), which is transposed; `down/kernel` has (3, 2)" in message
    )
    assert "pass `names`" in message and "[out, in]" in message
    for names, problem in (
        (NAMES[:2], "has 3 parameters, and 2 were named"),
        ([*NAMES[:2], "down"], "'down' is not the path of a parameter; the paths are"),
    ):
        with pytest.raises(ValueError, match=problem):
            migrate(state_dict, tx, params, names=names)
    with pytest.raises(TypeError, match="is for a `state_dict` of PyTorch"):
        migrate(tx.init(params), tx, params, names=NAMES)
    state_dict["state"][1]["step"] = 9.0
    with pytest.raises(ValueError, match=r"parameter 1 \(`up/bias`\) has taken 9 steps"):
        migrate(state_dict, tx, params, names=NAMES)
