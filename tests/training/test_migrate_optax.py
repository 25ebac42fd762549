"""`migrate` from Optax: the run goes on with the steps that Optax would have taken."""

import jax
import numpy as np
import optax
import pytest
import zoo
from rounding import roundings

import gradtx
from gradtx import migrate

# Leaves of one shape share their operations, which are compiled one by one. Muon has a vector, too.
SHAPES = {"up": (2, 3), "layers": [{"kernel": (2, 3), "bias": (2, 3)}]}
WITH_VECTOR = {"up": (2, 3), "layers": [{"kernel": (2, 3), "bias": (3,)}]}
MASK = {"up": False, "layers": [{"kernel": True, "bias": True}]}
LABELS = {"up": "a", "layers": [{"kernel": "b", "bias": "a"}]}


def falling(step):
    return 0.1 / (1 + step)


def groups(library, label):
    return library.multi_transform(
        {"a": library.adam(falling), "b": library.sgd(0.1, 0.9)}, lambda params: label
    )


# The same optimizer in both libraries.
CASES = {
    "sgd": lambda x: x.sgd(falling),
    "sgd with momentum": lambda x: x.sgd(falling, 0.9, nesterov=True),
    "adam": lambda x: x.adam(falling),
    "adamw": lambda x: x.adamw(0.1, weight_decay=0.1, mask=MASK),
    "nadamw": lambda x: x.nadamw(0.1),
    "amsgrad": lambda x: x.amsgrad(0.1),
    "rmsprop": lambda x: x.rmsprop(falling, momentum=0.9),
    "rmsprop, centered": lambda x: x.rmsprop(0.1, centered=True),
    "rmsprop, corrected": lambda x: x.rmsprop(0.1, bias_correction=True),
    "adagrad": lambda x: x.adagrad(0.1),
    "adadelta": lambda x: x.adadelta(0.1),
    "a chain": lambda x: x.chain(x.clip_by_global_norm(1.0), x.adamw(falling), x.trace(0.5)),
    "a named chain": lambda x: x.named_chain(("clip", x.clip(0.5)), ("adam", x.adam(0.1))),
    "an average": lambda x: x.chain(x.ema(0.9), x.scale(-0.1)),
    "noise, which has a key": lambda x: x.chain(x.add_noise(0.1, 0.5, key=3), x.adamax(falling)),
    "scheduled decay": lambda x: x.chain(x.add_decayed_weights(falling), x.sgd(0.1)),
    "groups": lambda x: groups(x, LABELS),
    "groups in a chain": lambda x: x.chain(x.clip(0.5), groups(x, LABELS)),
    "a mask": lambda x: x.masked(x.adam(0.1), MASK),
    "micro-batches": lambda x: steps(x.MultiSteps(x.adam(falling), 2)),
    "micro-batches of sgd": lambda x: steps(x.MultiSteps(x.sgd(falling), 2)),
    "hyperparameters in the state": lambda x: x.inject_hyperparams(x.adamw)(0.1, b1=0.8),
    "finite steps": lambda x: x.apply_if_finite(x.adam(0.1), 2),
    "muon": lambda x: (
        optax.contrib.muon(0.1, nesterov=False)
        if x is optax
        else x.muon(
            0.1, nesterov=False, coefficients="jordan", scaling="original", auxiliary=x.adam(0.1)
        )
    ),
}
# Optax's Adam divides by 1 - b2**t and takes the root of the whole, and there is a handful of further
# operations. The sum of two gradients of different signs magnifies a rounding, by less than a thousand
# for the fixed random gradients below. In float64 this is far from what a wrong array would change.
TOLERANCE = roundings(1e3 * 32)
# Optax takes the mean of micro-batches in float32.
# Muon divides by the norm plus 1e-8 in Optax alone. The five polynomials have slopes up to 3.45.
TOLERANCES = dict.fromkeys(("micro-batches", "micro-batches of sgd"), roundings(16, "float32"))
TOLERANCES["muon"] = 1e-8 * 3.45**5


def steps(tx):
    return tx.gradient_transformation()


def run(tx, state, params, gradients):
    """Parameters after each step."""
    seen = []
    with jax.numpy_dtype_promotion("standard"):  # Optax needs it
        for g in gradients:
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            seen.append(params)
    return seen, state


@pytest.mark.parametrize("name", CASES)
def test_a_run_of_optax_goes_on_in_gradtx(name):
    theirs, ours = CASES[name](optax), CASES[name](gradtx)
    shapes = WITH_VECTOR if name == "muon" else SHAPES
    with jax.enable_x64(True):
        params, *gradients = (zoo.tree("float64", seed=i, shapes=shapes) for i in range(8))
        seen, state = run(theirs, theirs.init(params), params, gradients[:3])
        reports = []
        carried = migrate(state, ours, seen[-1], report=reports.append)
        assert zoo.types(carried) == zoo.types(ours.init(params))
        want, _ = run(theirs, state, seen[-1], gradients[3:])
        got, _ = run(ours, carried, seen[-1], gradients[3:])
        fresh, _ = run(ours, ours.init(seen[-1]), seen[-1], gradients[3:])
    tolerance = TOLERANCES.get(name, TOLERANCE)
    got, want, fresh = (list(map(np.asarray, jax.tree.leaves(x))) for x in (got, want, fresh))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    worst = max(np.max(np.abs(a - b)) for a, b in zip(fresh, want, strict=True))
    assert worst > 1e-4, "an optimizer that starts again takes other steps"
    # What is not taken over is a display of the learning rate, or does not exist in Optax.
    started = {path.split("/")[-1] for path in reports[0].started}
    assert started <= {"last_learning_rate", "gave_up", "step"}, reports[0]
    assert not reports[0].notes
