"""Muon against AdamW on a character-level transformer, with equal steps and each at its best rate.

    python examples/char_lm.py                 # takes about two minutes on two cores
    python examples/char_lm.py --data my.txt   # trains on any UTF-8 text

The text is Python's own reference, `pydoc_data.topics`; its last tenth is used for validation. Both
optimizers are tried with the same learning rates and the same schedule. Muon finds the hidden matrices
by the paths and the shapes of the parameters, and the table that is printed first shows which optimizer
each parameter goes to. The script writes the figure `out/char_lm.png`.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import gradtx

ROUND = 20  # training steps between two evaluations of the validation loss
OPTIMIZERS = {
    "AdamW": lambda rate: gradtx.adamw(rate, b2=0.95),  # the b2 of Muon's auxiliary AdamW
    "Muon": lambda rate: gradtx.muon(rate),
}


# The model.


class Block(eqx.Module):
    """A block of a transformer, with a norm before the attention and before the feed-forward layers."""

    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm2: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, width, heads, key):
        k1, k2, k3 = jax.random.split(key, 3)
        self.norm1 = eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=k1)
        self.norm2 = eqx.nn.LayerNorm(width)
        self.up = eqx.nn.Linear(width, 4 * width, key=k2)
        self.down = eqx.nn.Linear(4 * width, width, key=k3)

    def __call__(self, x):
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y, mask=jnp.tri(len(x), dtype=bool))
        y = jax.vmap(self.norm2)(x)
        return x + jax.vmap(self.down)(jax.nn.gelu(jax.vmap(self.up)(y)))


class CharLM(eqx.Module):
    """A transformer from characters `[length]` to logits of the next ones, `[length, vocabulary]`."""

    embed: eqx.nn.Embedding
    position_embed: jax.Array
    blocks: list[Block]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, vocabulary, length, width=64, depth=2, heads=4, *, key):
        k1, k2, k3, *keys = jax.random.split(key, 3 + depth)
        self.embed = eqx.nn.Embedding(weight=0.02 * jax.random.normal(k1, (vocabulary, width)))
        self.position_embed = 0.02 * jax.random.normal(k2, (length, width))
        self.blocks = [Block(width, heads, k) for k in keys]
        self.norm = eqx.nn.LayerNorm(width)
        self.head = eqx.nn.Linear(width, vocabulary, key=k3)

    def __call__(self, characters):
        x = jax.vmap(self.embed)(characters) + self.position_embed
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.head)(jax.vmap(self.norm)(x))


@eqx.filter_jit
def loss(model, windows):
    """The mean cross-entropy, in nats per character, of `windows` with shape `[batch, length + 1]`."""
    logits = jax.vmap(model)(windows[:, :-1])
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), windows[:, 1:, None], axis=-1).mean()


# The data, which are windows of a text.


def python_reference():
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def read(path):
    """The text of a file, or Python's reference without a path. An unusable file ends the program."""
    if path is None:
        return python_reference()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        sys.exit(f"char_lm: cannot read {path}: {error.strerror}.")
    except UnicodeDecodeError as error:
        sys.exit(f"char_lm: {path} is not UTF-8 text (byte {error.start}). Convert it first.")
    if len(text) < 5000 or len(set(text)) < 2:
        sys.exit(
            f"char_lm: {path} has {len(text)} characters, {len(set(text))} of them distinct. "
            "Pass a text of at least 5000 characters that are not all the same."
        )
    return text


def encode(text):
    """The training text and the validation text as integers, and the alphabet."""
    alphabet, codes = np.unique(np.array(list(text)), return_inverse=True)
    split = len(codes) * 9 // 10
    return codes[:split].astype(np.int32), codes[split:].astype(np.int32), alphabet


def windows_at(text, starts, length):
    return text[starts[:, None] + jnp.arange(length + 1)[None]]


# Training.


class warmup_cosine(eqx.Module):
    """The learning rate rises to `peak` in the first twentieth and falls to 0 along a cosine.

    Since the schedule is a pytree, `peak` is an argument of the compiled program, and all learning rates
    of the grid run the same program.
    """

    peak: float
    steps: int = eqx.field(static=True)

    def __call__(self, step):
        warmup = max(1, self.steps // 20)
        progress = jnp.clip((step - warmup) / (self.steps - warmup), 0.0, 1.0)
        return self.peak * jnp.minimum((step + 1) / warmup, 0.5 + 0.5 * jnp.cos(jnp.pi * progress))


@eqx.filter_jit
def train_round(tx, model, state, text, validation, key, batch):
    """The model and the state after `ROUND` steps on random windows, and the validation loss."""
    params, fixed = eqx.partition(model, eqx.is_inexact_array)
    length = validation.shape[1] - 1

    def step(carry, key):
        params, state = carry
        starts = jax.random.randint(key, (batch,), 0, len(text) - length)
        windows = windows_at(text, starts, length)
        gradients = jax.grad(lambda p: loss(eqx.combine(p, fixed), windows))(params)
        updates, state = tx.update(gradients, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, state), jax.random.split(key, ROUND))
    model = eqx.combine(params, fixed)
    return model, state, loss(model, validation)


class Diverged(Exception):
    """The loss is no longer finite."""


def train(tx, model, text, validation, steps, batch, seed=0, report=lambda: None):
    """The validation losses before training and after every round, and the trained model."""
    # `filter_jit` compiles again for every new Python float, so the numbers become arrays.
    tx = jax.tree.map(jnp.float32, tx)
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))
    losses = [float(loss(model, validation))]
    for key in jax.random.split(jax.random.key(seed), steps // ROUND):
        model, state, value = train_round(tx, model, state, text, validation, key, batch)
        losses.append(float(value))
        if not math.isfinite(losses[-1]):
            raise Diverged(f"the loss is {losses[-1]} after {ROUND * (len(losses) - 1)} steps")
        report()
    return np.array(losses), model


def sweep(model, text, validation, rates, steps, batch, console):
    """The losses of every optimizer at every rate, `{name: {rate: losses}}`, with a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    results = {name: {} for name in OPTIMIZERS}
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(OPTIMIZERS) * len(rates) * (steps // ROUND) * ROUND)
        for name, optimizer in OPTIMIZERS.items():
            for rate in rates:
                progress.update(task, description=f"{name:5} at rate {rate:<7g}")
                tx = optimizer(warmup_cosine(rate, steps))
                advance = lambda: progress.advance(task, ROUND)
                try:
                    losses, _ = train(tx, model, text, validation, steps, batch, report=advance)
                except Diverged as error:
                    raise Diverged(f"{name} at rate {rate:g} diverged: {error}") from None
                results[name][rate] = losses
    return results


# The results.


def best_rate(runs):
    """The learning rate with the lowest last loss."""
    return min(runs, key=lambda rate: runs[rate][-1])


def passing_step(losses, level):
    """The first step at which the loss is at most `level`, interpolated between rounds."""
    after = int(np.argmax(losses <= level))
    if after == 0:
        return 0.0
    above, below = losses[after - 1], losses[after]
    return ROUND * (after - 1 + (above - level) / (above - below))


def table(results, steps):
    rows = Table(title=f"Validation loss after {steps} steps (nats per character)")
    rows.add_column("learning rate", justify="right")
    for name in results:
        rows.add_column(name, justify="right")
    for rate in next(iter(results.values())):
        cells = []
        for runs in results.values():
            mark = "[bold]{:.3f} *[/]" if rate == best_rate(runs) else "{:.3f}  "
            cells.append(mark.format(runs[rate][-1]))
        rows.add_row(f"{rate:g}", *cells)
    return rows


def figure(results, steps, path):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import StrMethodFormatter

    colors = {"AdamW": "#e69f00", "Muon": "#0072b2"}
    grey = "#777777"
    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}
    with plt.rc_context(style):
        fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
        best = {name: runs[best_rate(runs)] for name, runs in results.items()}
        at = ROUND * np.arange(len(best["Muon"]))
        for name, losses in best.items():
            left.plot(at, losses, color=colors[name], lw=2)
            text = f"{name}\n{losses[-1]:.2f}"
            left.annotate(
                text, (at[-1], losses[-1]), (6, 0), textcoords="offset points",
                color=colors[name], weight="bold", va="center", annotation_clip=False,
            )  # fmt: skip
        # A circle where the lower curve passes the last loss of the higher curve.
        winner, loser = sorted(best, key=lambda name: best[name][-1])
        level = best[loser][-1]
        passing = passing_step(best[winner], level)
        left.plot([passing, steps], [level, level], color=grey, lw=1, ls=":")
        left.plot([passing], [level], "o", color=colors[winner], mfc="white", ms=6)
        left.annotate(
            f"{winner} reaches\n{loser}'s last loss after\n{passing / steps:.0%} of the steps",
            (passing, level), (0.03, 0.05), textcoords="axes fraction", color=grey,
            arrowprops={"arrowstyle": "-", "color": grey, "lw": 0.8, "shrinkB": 5},
        )  # fmt: skip
        left.set(xlabel="step", ylabel="validation loss (nats per character)", xlim=(0, steps))
        # The losses before training are left out, since they are far above all others.
        low, high = best[winner][-1], max(losses[1:].max() for losses in best.values())
        left.set_ylim(low - 0.25 * (high - low), high + 0.1 * (high - low))
        left.set_title("Each at its best learning rate", loc="left")

        for name, runs in results.items():
            rates, final = np.array(list(runs)), np.array([runs[rate][-1] for rate in runs])
            right.plot(rates, final, "o-", color=colors[name], lw=2, ms=4)
            rate = best_rate(runs)
            right.plot([rate], [runs[rate][-1]], "o", color=colors[name], mfc="white", ms=9, mew=2)
            right.annotate(
                f"best at {rate:g}", (rate, runs[rate][-1]), (0, -10), textcoords="offset points",
                color=colors[name], ha="center", va="top",
            )  # fmt: skip
            right.annotate(
                name, (rates[-1], final[-1]), (6, 0), textcoords="offset points",
                color=colors[name], weight="bold", va="center", annotation_clip=False,
            )  # fmt: skip
        right.set(xscale="log", xlabel="learning rate (peak of the schedule)", xticks=rates)
        right.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        right.minorticks_off()
        right.margins(y=0.15)
        right.set_title(f"Loss after {steps} steps", loc="left")
        for axis in (left, right):
            axis.grid(alpha=0.25)
        fig.savefig(path, dpi=150)
        plt.close(fig)


def arguments():
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", metavar="FILE", help="a UTF-8 text to use instead of Python's reference"
    )
    parser.add_argument("--steps", type=int, help="training steps per run (default: 400)")
    parser.add_argument(
        "--rates", type=float, nargs="+", metavar="RATE", help="learning rates to try"
    )
    parser.add_argument(
        "--out", default="out/char_lm.png", metavar="PATH", help="where the figure is written"
    )
    parser.add_argument(
        "--small", action="store_true", help="a tiny model and few steps, for tests"
    )
    given = parser.parse_args()
    given.rates = sorted(
        given.rates or ([3e-3, 3e-2] if given.small else [1e-3, 3e-3, 1e-2, 3e-2, 0.1])
    )
    if given.steps is None:
        given.steps = 2 * ROUND if given.small else 20 * ROUND
    if given.steps < ROUND or given.steps % ROUND:
        parser.error(f"--steps must be a multiple of {ROUND}")
    if not all(0 < rate < math.inf for rate in given.rates):
        parser.error("--rates must be positive")
    given.out = Path(given.out)
    if given.out.suffix not in (".png", ".pdf", ".svg"):
        parser.error(f"--out must end in .png, .pdf or .svg, not {str(given.out)!r}")
    try:
        given.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot write to {given.out.parent}: {error.strerror}")
    if given.out.is_dir():
        parser.error(f"cannot write {given.out}: it is a directory")
    return given


def main():
    given, console = arguments(), Console()
    length, batch, width, depth = (16, 8, 16, 1) if given.small else (64, 32, 64, 2)
    train_text, validation_text, alphabet = encode(read(given.data))
    starts = np.linspace(0, len(validation_text) - length - 1, 8 if given.small else 128)
    validation = windows_at(jnp.asarray(validation_text), starts.astype(int), length)
    model = CharLM(len(alphabet), length, width, depth, key=jax.random.key(0))

    console.print(gradtx.routing(OPTIMIZERS["Muon"](given.rates[0]), model), highlight=False)
    size = sum(x.size for x in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    console.print(f"\n{size:,} parameters, {len(train_text):,} characters to train on\n")
    start = time.perf_counter()
    try:
        results = sweep(
            model, jnp.asarray(train_text), validation, given.rates, given.steps, batch, console
        )
    except Diverged as error:
        sys.exit(f"char_lm: {error}. Pass smaller --rates.")
    console.print(table(results, given.steps))
    for name, runs in results.items():
        if len(runs) > 2 and best_rate(runs) in (given.rates[0], given.rates[-1]):
            console.print(f"The best rate of {name} is at an end of the grid. Pass more --rates.")
    figure(results, given.steps, given.out)
    console.print(f"{time.perf_counter() - start:.0f} s", highlight=False)
    console.print(f"figure: {given.out}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
