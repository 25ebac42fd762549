"""How long every recipe takes to recover from one huge finite gradient, as a table in Markdown.

    python -m benchmarks.recovery                     the table of docs/long_runs.md
    python -m benchmarks.recovery adam muon           some recipes
    python -m benchmarks.recovery adam muon --write   and put their rows on the page

After a thousand steps with one gradient, whose entries have the size 1, comes a gradient of size 1e30 in
another direction, and then the first one again. An optimizer has recovered when its update differs by at
most a tenth from that of its twin, which got the first gradient in all steps.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from benchmarks import pages
from benchmarks.recipes import RATE, RECIPES, extra_arguments, linear_loss

BEFORE, MOST = 1000, 200_000
SIZE = 1e30
# In SOAP's basis, most entries of a gradient that never changes are roundings. Adam with a tiny epsilon
# scales them up, so that any two runs differ for good. This epsilon is far above them.
MAKE = RECIPES | {
    "soap": lambda rate: gradtx.soap(rate, eps=1e-3),
    "kl_soap": lambda rate: gradtx.kl_soap(rate, eps=1e-3),
    "soap_muon": lambda rate: gradtx.soap_muon(rate, eps=1e-3),
}
REMEDIES = {
    "alone": lambda tx: tx,
    "`clip_by_global_norm(4.0)` before it": lambda tx: gradtx.chain(
        gradtx.clip_by_global_norm(4.0), tx
    ),
    "`skip_spikes` around it": gradtx.skip_spikes,
}
# Remedies without a column.
OTHER_REMEDIES = {
    "clip_by_z_score": lambda tx: gradtx.chain(gradtx.clip_by_z_score(), tx),
    "clip_by_percentile": lambda tx: gradtx.chain(gradtx.clip_by_percentile(), tx),
}


def gradients():
    """The usual gradient, and the huge one."""
    rng = np.random.default_rng(0)
    draw = lambda: {"kernel": jnp.asarray(rng.normal(size=(3, 3)), "float32")}
    usual, other = draw(), draw()
    return usual, jax.tree.map(lambda x: SIZE * x, other)


def distance(a, b):
    """The norm of the difference of two updates by that of the second."""
    return gradtx.global_norm(jax.tree.map(jnp.subtract, a, b)) / gradtx.global_norm(b)


@functools.partial(jax.jit, static_argnums=(0, 3))
def recovery(tx, usual, huge, most=MOST):
    """The size of the huge step by that of a usual one, and the steps from it until it has recovered."""
    params = jax.tree.map(jnp.ones_like, usual)

    def step(state, g):
        extra = extra_arguments(linear_loss(g), params)
        return tx.update(g, state, params, **extra)[::-1]

    state, _ = jax.lax.scan(lambda s, _: (step(s, usual)[0], None), tx.init(params), length=BEFORE)
    twin, should = step(state, usual)
    state, at_once = step(state, huge)
    size = gradtx.global_norm(at_once) / gradtx.global_norm(should)

    def goes_on(carry):
        count, _, _, away = carry
        return (count < most) & ~(away <= 0.1)

    def body(carry):
        count, state, twin, _ = carry
        (state, update), (twin, should) = step(state, usual), step(twin, usual)
        return count + 1, state, twin, distance(update, should)

    start = jnp.int32(0), state, twin, jnp.float32(1)
    count, *_, away = jax.lax.while_loop(goes_on, body, start)
    return size, count, away


def measured(name, remedy="alone"):
    """What `recovery` found for one recipe with one remedy: the size, and the steps or None."""
    tx = (REMEDIES | OTHER_REMEDIES)[remedy](MAKE[name](RATE))
    size, count, away = recovery(tx, *gradients())
    return float(size), int(count) if away <= 0.1 else None


def shown_size(size):
    return f"{size:.1g}" if size >= 1e4 or size < 0.05 else f"{size:.1f}"


def shown_steps(count):
    return f"more than {MOST:,}" if count is None else f"{count:,}"


def row(name):
    """The cells of one recipe."""
    size, count = measured(name)
    remedies = [shown_steps(measured(name, remedy)[1]) for remedy in list(REMEDIES)[1:]]
    return [f"`{MAKE[name](RATE)}`", shown_size(size), shown_steps(count), *remedies]


HEAD = ["Recipe", "Size of the huge step", "Steps to recover", *list(REMEDIES)[1:]]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="recipes, all of them without a choice")
    parser.add_argument("--write", action="store_true", help="write rows into docs/long_runs.md")
    options = parser.parse_args(argv)
    if unknown := [x for x in options.names if x not in MAKE]:
        parser.error(f"there is no recipe {unknown[0]!r}; there are {', '.join(MAKE)}")
    print(pages.table(HEAD, []), end="")
    for name in options.names or MAKE:
        cells = row(name)
        print(pages.line(cells), end="", flush=True)
        if options.write:
            pages.update("recovery", HEAD, [cells], MAKE)


if __name__ == "__main__":
    main()
