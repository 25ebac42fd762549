"""Optimizers that act in another basis, beside AdamW: the time of a step and the size of the state."""

from collections.abc import Iterator
from typing import Any

import jax

import gradtx
from benchmarks.measure import Run, interleaved, ratio
from benchmarks.models import RATE, Tree, gpt2, hidden_matrices, normal, size
from benchmarks.programs import step_of
from benchmarks.registry import Number, benchmark

STEPS = 10  # one of which renews the basis, except that psgd_kron fits its factors in every step
OPTIMIZERS = {
    "soap": gradtx.soap(RATE, precondition_frequency=STEPS),
    "splus": gradtx.splus(RATE, precondition_frequency=STEPS),
    "shampoo": gradtx.shampoo(RATE, precondition_frequency=STEPS),
    "psgd_kron": gradtx.psgd_kron(RATE, preconditioner_update_probability=1.0),
    "galore": gradtx.galore(RATE, update_proj_gap=STEPS),
}


@benchmark(
    group="bases",
    against="none",
    goal=None,
    because="""A count, stated beside the time of a step. AdamW keeps 2 copies. Soap adds the Gram
    matrices of both sides and their eigenvectors.""",
)
def basis_state(quick: bool) -> Iterator[Number]:
    """Copies of the parameters of GPT-2 small in the state"""
    shapes = gpt2()
    for name, tx in OPTIMIZERS.items():
        state = jax.eval_shape(tx.init, shapes)
        yield Number(name, size(state) / size(shapes), "copies", stated=True)


def runs_of(tx: Any, shapes: Tree) -> Run:
    """Runs of ten steps in one program, each of which continues the run before it."""
    params, grads = normal(shapes, 0), normal(shapes, 1)
    step = step_of(tx, gradtx.apply_updates)

    @jax.jit
    def several(params: Tree, state: Any) -> Any:
        return jax.lax.fori_loop(0, STEPS, lambda _, x: step(*x, grads), (params, state))

    carried = params, tx.init(params)

    def run() -> Any:
        nonlocal carried
        carried = several(*carried)
        return carried

    return run


@benchmark(
    group="bases",
    against="AdamW",
    goal=None,
    because="""A measurement, stated for those who choose between them. On a CPU, products and
    decompositions of matrices take most of the time. One of the ten steps renews the basis; psgd_kron
    fits its factors in every step, as it does in its first 500 by default.""",
)
def basis_step(quick: bool) -> Iterator[Number]:
    """Time of ten steps on the hidden matrices of one layer of GPT-2 small"""
    shapes = hidden_matrices(768, 1)
    plain = runs_of(gradtx.adamw(RATE), shapes)
    for name, tx in OPTIMIZERS.items():
        times = interleaved(1 if quick else 3, runs_of(tx, shapes), plain)
        yield ratio(name, *times, peer="adamw", stated=True)
