"""What it costs to keep the state of AdamW in a codec, beside AdamW with its state in float32."""

from collections.abc import Iterator

import gradtx
from benchmarks.measure import interleaved, ratio
from benchmarks.models import RATE, gradients, parameters
from benchmarks.programs import build_step, running
from benchmarks.registry import Number, benchmark

ADAMW = gradtx.adamw(RATE)
CODECS = ("int8", "bf16+8", "bf16_stochastic")


@benchmark(
    group="codecs",
    against="AdamW in float32",
    goal=None,
    because="""There is no peer, so the cost is stated. On a CPU a code saves memory and not time: the
    arithmetic of a code takes longer than to read the bytes that the code saves.""",
)
def step_with_codec(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of adamw whose state is stored in a codec"""
    params = parameters(4, 256, 1024) if quick else parameters(4, 2048, 2048)
    grads, runs = gradients(params), []
    for tx in (ADAMW, *(gradtx.stored(ADAMW, codec) for codec in CODECS)):
        program = build_step(tx, gradtx.apply_updates, params)
        runs.append(running(program, params, tx.init(params), grads))
    times = interleaved(5 if quick else 15, *runs)
    for i, codec in enumerate(CODECS, 1):
        yield ratio(codec, times[i], times[0], peer="float32", stated=True)
