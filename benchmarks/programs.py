"""Compiled programs: what they contain, and what they cost to make.

The cost is CPU time: it hardly changes when other processes run beside this one.
"""

import gc
from collections.abc import Callable
from time import process_time
from typing import Any, NamedTuple

import jax

from benchmarks.hlo import products
from benchmarks.measure import Run


class Program(NamedTuple):
    """A compiled program, the CPU seconds it took to make, and what XLA says of its content."""

    lowered: Any
    run: Any
    trace_seconds: float
    compile_seconds: float
    bytes: float
    temporary_bytes: int
    products: int
    flops: int


def trace(f: Callable[..., Any], *args: Any, donate: tuple[int, ...] = ()) -> tuple[float, Any]:
    """CPU seconds to trace and lower `f` for arguments (or their shapes) with empty caches."""
    jax.clear_caches()
    gc.collect()
    start = process_time()
    lowered = jax.jit(f, donate_argnums=donate).lower(*args)
    return process_time() - start, lowered


def build(f: Callable[..., Any], *args: Any, donate: tuple[int, ...] = ()) -> Program:
    """Compile `f` for arguments (or their shapes), without running it."""
    trace_seconds, lowered = trace(f, *args, donate=donate)
    start = process_time()
    program = lowered.compile()
    compile_seconds = process_time() - start
    bytes_accessed = program.cost_analysis().get("bytes accessed", 0.0)
    temporary = program.memory_analysis().temp_size_in_bytes
    counted = products(program.as_text())
    return Program(
        lowered, program, trace_seconds, compile_seconds, bytes_accessed, temporary, *counted
    )


def build_step(tx: Any, apply: Callable[..., Any], shapes: Any) -> Program:
    """Compile the donated step of an optimizer for parameters of these shapes."""
    state = jax.eval_shape(tx.init, shapes)
    return build(step_of(tx, apply), shapes, state, shapes, donate=(0, 1))


def step_of(tx: Any, apply: Callable[..., Any]) -> Callable[..., Any]:
    """A step `(params, state, gradients) -> (params, state)`, whose donated buffers are reused."""

    def step(params: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
        updates, state = tx.update(gradients, state, params)
        return apply(params, updates), state

    return step


def running(program: Program, params: Any, state: Any, gradients: Any) -> Run:
    """Runs of a donated step, each with what the run before it returned."""
    carried = jax.tree.map(lambda x: x.copy(), (params, state))

    def run() -> Any:
        nonlocal carried
        carried = program.run(*carried, gradients)
        return carried

    return run
