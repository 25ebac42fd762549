"""The leading entry of a public competition between optimizers, written as one expression of parts.

    python examples/record.py        # draws the optimizer, and trains a small transformer with it

The competition is the track for optimizers of modded-nanogpt: a transformer with 124 million parameters
is to reach a given loss in as few steps as possible. Muon, tuned, takes 3250 steps, and the entry that
led in November 2026 took 2690. Its parts come from different authors. Since every part is a
transformation, the whole entry is a composition, and any part can be changed or left out.

The numbers of steps are the same fractions of the whole run as in the entry. Three details are simpler
here: all other leaves have one `b2`, all attention matrices are treated like the other matrices, and a
floor per matrix takes the place of the entry's own budget for all rows of a matrix.
"""

import argparse
import time

import equinox as eqx
import jax
from char_lm import CharLM, encode, loss, python_reference, train, windows_at

import gradtx


def record(rate, steps, other_rate=3e-3):
    """The optimizer for a run of `steps` steps.

    Args:
        rate: the first learning rate of the hidden matrices, which falls to 0 along a line.
        steps: the number of steps of the whole run.
        other_rate: the first learning rate of all other leaves.
    """
    early, late, tail = steps // 9, steps - steps // 13, steps - steps // 9
    falling = gradtx.linear_schedule(1.0, 0.0, steps)
    eta = rate * falling
    momentum = gradtx.piecewise_interpolate_schedule(
        "linear", 0.85, {early: 0.95 / 0.85, late: 1.0, steps: 0.85 / 0.95}
    )
    # Gradients are taken ahead of the iterates, but not in the first and the last steps.
    ahead = gradtx.join_schedules([0.0, 0.3, 0.0], [early, late]) * falling

    matrices = gradtx.chain(
        # Adam's division takes place in the eigenbasis of the gradients, as in SOAP ...
        gradtx.in_basis(
            gradtx.eigenbasis(0.9, every=1),
            gradtx.identity() / (gradtx.rms(0.9) + 1e-8),
            gradtx.scale_by_momentum(momentum, nesterov=True),
        ),
        # ... and Muon's orthogonalization follows.
        gradtx.orthogonalize_newton_schulz((2.0, -1.5, 0.5), 12, norm="schatten"),
        gradtx.scale_by_shape("original"),
        # Norms of matrices grow half as fast, and every row moves by some fraction of its own norm.
        gradtx.brake_radial(outward=0.5),
        gradtx.floor_update_ratio(0.35),
        gradtx.keep_norm(gradtx.floor_update_ratio(0.3825, per="row")),
        gradtx.radial_step(eta),
        # A decay takes directions, which are updates with the other sign.
        gradtx.scale(-1.0),
        gradtx.decoupled_weight_decay(0.025 * eta, cautious=True),
        gradtx.scale(-1.0),
    )
    others = gradtx.chain(
        gradtx.scale_by_momentum(0.9) / (gradtx.rms(0.99) + 1e-10),
        gradtx.scale_by_learning_rate(other_rate * falling),
    )
    step = gradtx.partition({"muon": matrices, "adamw": others}, gradtx.hidden_matrices())
    moving = gradtx.ema_nesterov(step, 0.99, ahead)
    # The last ninth is averaged, without the embeddings.
    return gradtx.averaged(
        moving,
        gradtx.ema_weight(1 - 18 / steps),
        start=tail,
        mask=gradtx.by_path({"embed": False}, otherwise=True),
    )


def evaluated(tx, params, state):
    """The parameters that the entry evaluates with: 0.4 of the last ones, and 0.6 of their average."""
    return gradtx.incremental_update(gradtx.eval_params(tx, params, state), params, 0.6)


def main():
    parser = argparse.ArgumentParser(description="Train with the leading entry.")
    parser.add_argument("--steps", type=int, default=200, help="training steps")
    parser.add_argument("--rate", type=float, default=0.02, help="learning rate of the matrices")
    options = parser.parse_args()
    length = 32
    text, held_out, alphabet = encode(python_reference())
    model = CharLM(len(alphabet), length, width=32, depth=1, key=jax.random.key(0))
    starts = jax.random.randint(jax.random.key(1), (64,), 0, len(held_out) - length)
    validation = windows_at(held_out, starts, length)
    entry = record(options.rate, options.steps)
    print(gradtx.summarize(entry, eqx.filter(model, eqx.is_inexact_array)))
    print(f"loss {float(loss(model, validation)):.3f} before training")
    for name, tx in (("AdamW", gradtx.adamw(3e-3)), ("the entry", entry)):
        start = time.perf_counter()
        losses, _ = train(tx, model, text, validation, options.steps, batch=16)
        seconds = time.perf_counter() - start
        print(f"{name}: loss {losses[-1]:.3f} after {options.steps} steps, {seconds:.0f} seconds")


if __name__ == "__main__":
    main()
