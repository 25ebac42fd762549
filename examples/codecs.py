"""Two small networks, trained with the state of the optimizer in float32 and in every codec.

    python -m examples.codecs            # takes about four minutes on two cores
    python -m examples.codecs --small    # few steps, for tests

The problems are the digits with the network of the race, and Python's own reference with the transformer
of `examples/char_lm.py`. Every optimizer trains from two seeds. The table shows

- `coded`, the share of the entries of the averages that is coded;
- `bytes`, the bytes of state per parameter;
- `loss`, the validation loss at the end, as the mean over the seeds;
- `distance`, the largest relative difference, at any evaluation, of the validation loss from that of the
  run in float32 with the same seed. In the rows for float32 it is the difference between two runs whose
  first parameters differ by one part in a million, which shows how chaotic the training is.
"""

import argparse
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from examples import char_lm
from examples.race import data, network, training

CODECS = ("int8", "bf16+8", "bf16_stochastic")
NUDGE = 1e-6
MIN_SIZE = 1024  # these networks are so small that few of their arrays have 4096 entries
train = jax.jit(training.train)
Losses = np.ndarray  # the validation losses of one run, [evaluations]


def digits(tx: Any, seed: int, nudge: float, small: bool) -> tuple[Losses, Any]:
    """The losses of one run on the digits, and the first parameters."""
    task = data.load(None, 0)
    params = network.initial_params(jax.random.key(seed), task.train_x.shape[1], task.classes)
    shape = training.schedule_of_evaluations(20 if small else 300)
    rows = np.random.default_rng(seed).integers(len(task.train_x), size=(*shape, 128))
    factors = np.linspace(1, 0, shape[0] * shape[1], endpoint=False, dtype=np.float32)
    to_train, held_out = (task.train_x, task.train_y), (task.valid_x, task.valid_y)
    batches = rows, factors.reshape(shape)
    losses, _ = train(tx, nudged(params, nudge), to_train, held_out, batches)
    return np.asarray(losses), params


def characters(tx: Any, seed: int, nudge: float, small: bool) -> tuple[Losses, Any]:
    """The losses of one run on characters, and the first parameters."""
    length, batch, width, depth = (16, 8, 64, 1) if small else (64, 32, 64, 2)
    text, validation, alphabet = char_lm.encode(char_lm.python_reference())
    starts = np.linspace(0, len(validation) - length - 1, 8 if small else 128).astype(int)
    windows = char_lm.windows_at(jnp.asarray(validation), starts, length)
    model = char_lm.CharLM(len(alphabet), length, width, depth, key=jax.random.key(seed))
    model = nudged(model, nudge)
    steps = char_lm.ROUND * (1 if small else 6)
    losses, _ = char_lm.train(tx, model, jnp.asarray(text), windows, steps, batch, seed)
    return losses, eqx.filter(model, eqx.is_inexact_array)


# For each problem the optimizers, at learning rates that are good for them in float32.
PROBLEMS = {
    "digits": (digits, {"AdamW": gradtx.adamw(3e-3), "Muon": gradtx.muon(2e-3)}),
    "characters": (
        characters,
        {"AdamW": gradtx.adamw(3e-3, b2=0.95), "Muon": gradtx.muon(1e-2)},
    ),
}


def nudged(tree: Any, size: float) -> Any:
    """The parameters with every entry multiplied by 1 + `size`."""
    return jax.tree.map(lambda x: x * (1 + size) if eqx.is_inexact_array(x) else x, tree)


def coded_share(tx: Any, params: Any) -> float:
    """How many entries of the arrays of the state are coded."""
    sizes = [0, 0]
    for part in jax.tree.leaves(tx.init(params).inner, is_leaf=is_coded):
        if is_coded(part):
            plain = sum(x.size for x in jax.tree.leaves(part.plain))
            codes = sum(x.size for x in jax.tree.leaves(next(trees(part.code))))
            sizes = [sizes[0] + codes, sizes[1] + codes + plain]
    return sizes[0] / sizes[1]


def is_coded(x: Any) -> bool:
    return getattr(x, "_fields", ()) == ("plain", "code")


def trees(code: Any) -> Any:
    """The trees like the parameters in a code; the first has the shapes of the parameters."""
    return iter(code) if hasattr(code, "_fields") else iter((code,))


def distance(runs: list[Losses], others: list[Losses]) -> float:
    """The largest relative difference between two runs of one seed."""
    return max(float(np.max(np.abs(a / b - 1))) for a, b in zip(runs, others, strict=True))


def rows(name: str, small: bool) -> Any:
    """The rows of the table for one problem."""
    run, optimizers = PROBLEMS[name]
    seeds = range(1 if small else 2)
    for optimizer, tx in optimizers.items():
        plain = [run(tx, seed, 0.0, small) for seed in seeds]
        losses, params = [x for x, _ in plain], plain[0][1]
        apart = distance([run(tx, seed, NUDGE, small)[0] for seed in seeds], losses)
        candidates = {"float32": tx} | {c: gradtx.stored(tx, c, MIN_SIZE) for c in CODECS}
        for codec, own in candidates.items():
            coded = codec != "float32"
            runs = [run(own, seed, 0.0, small)[0] for seed in seeds] if coded else losses
            summary = gradtx.summarize(own, params)
            yield (
                name,
                optimizer,
                codec,
                f"{coded_share(own, params):.0%}" if coded else "",
                f"{(summary.state_bytes or 0) / summary.parameters:.2f}",
                f"{np.mean([x[-1] for x in runs]):.4f}",
                f"{distance(runs, losses):.2%}" if coded else f"({apart:.2%})",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--small", action="store_true", help="few steps, for tests")
    small = parser.parse_args().small
    head = ("problem", "optimizer", "state", "coded", "bytes", "loss", "distance")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name in PROBLEMS:
        for row in rows(name, small):
            print("| " + " | ".join(row) + " |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
