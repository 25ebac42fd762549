"""The law of the persistent compilation cache: a second process with equal optimizers compiles nothing.

Two processes run this file as a program, with other hashes of strings and in another order. JAX looks a
lowered program up in its cache by its text, so the texts of the rows of the zoo have to be the same; no
row is compiled for that. Two optimizers then train with a cache that both processes share.
"""

import difflib
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
TRAINED = ("adamw(0.1)", "chain(clip_by_global_norm(0.5), sgd(fading, momentum=0.9))")


def looked_at():
    """The rows of the zoo that are lowered: an eighth of them, unless `ROWS` asks for all."""
    import zoo

    return zoo.ROWS if os.environ.get("ROWS") == "all" else zoo.ROWS[::8]


def lowered(rows):
    """The text of one program that makes a step of every row, each in a function of its own."""
    import jax
    import zoo

    params, g = zoo.tree(shapes=zoo.SMALL), zoo.tree(seed=1, shapes=zoo.SMALL)

    def step(tx, name):
        def call(params, g):
            return tx.update(g, tx.init(params), params)

        call.__name__ = name
        return jax.jit(call)

    made = {row.code: row.make() for row in rows}
    steps = [step(made[row.code], f"row_{i}") for i, row in enumerate(looked_at())]
    every = jax.jit(lambda params, g: [step(params, g) for step in steps])
    return every.lower(params, g).as_text()


def train():
    """How often a program was asked of the cache, and how often it was there."""
    import jax
    import zoo

    events = Counter()
    jax.monitoring.register_event_listener(lambda event, **_: events.update([event]))
    params, g = zoo.tree(shapes=zoo.SMALL), zoo.tree(seed=1, shapes=zoo.SMALL)
    for code in TRAINED:
        tx = zoo.evaluate(code)
        jitted = jax.jit(tx.update)
        state = tx.init(params)
        for update in (tx.update, tx.update, jitted, jitted):
            _, state = update(g, state, params)
    names = ("compile_requests_use_cache", "cache_hits")
    return [events[f"/jax/compilation_cache/{name}"] for name in names]


def report(order):
    if order == "forward":
        text = lowered(looked_at())
        requests, hits = train()
    else:
        requests, hits = train()
        text = lowered(looked_at()[::-1])
    return {"text": text, "requests": requests, "hits": hits}


@functools.cache
def reports():
    """What both processes report, of which the second begins when the first has filled the cache."""
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        for seed, order in enumerate(("forward", "backward")):
            env = os.environ | {
                "PYTHONHASHSEED": str(seed),
                "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
                "JAX_COMPILATION_CACHE_DIR": folder,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }
            command = (sys.executable, __file__, order)
            result = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
            assert result.returncode == 0, result.stderr
            answers.append(json.loads(result.stdout))
    return answers


def test_equal_optimizers_are_equal_programs_in_every_process():
    first, second = (report["text"].splitlines() for report in reports())
    assert len(first) > 1000
    assert "\n".join(difflib.unified_diff(first, second, lineterm="")) == ""


def test_a_second_process_compiles_nothing():
    first, second = reports()
    assert first["hits"] < first["requests"]
    assert second["hits"] == second["requests"] > 0


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1])))
