"""A run that is killed and started again ends with the same bits as a run that is not.

`make resume` kills 20 times, and `make test` once. SIGKILL cannot be caught, so nothing is written
after it. A third of the kills waits for the temporary folder in which Orbax writes a checkpoint.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", "1"))
STEPS = 80 * (KILLS + 1)
TEMPORARY = "*orbax-checkpoint-tmp*"


def started(folder, *arguments):
    """The example, as a process that prints to a pipe."""
    command = [sys.executable, "examples/resume.py", "--folder", str(folder)]
    command += ["--steps", str(STEPS), "--save-every", "10", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ
        | {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"},
    )


def finished(folder, *arguments):
    """The status and the output of a run that is not killed."""
    process = started(folder, *arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def kill(folder, kind, draw):
    """Start the example and kill it: whether an unfinished checkpoint is left."""
    process = started(folder)
    lines, last = [], None
    if kind == "at any time":  # mostly while modules are imported and the step is compiled
        time.sleep(draw.uniform(0.0, 6.0))
    else:
        target = draw.choice([20, 30])  # after the first checkpoint
        for line in process.stdout:
            lines.append(line)
            # A warning of a library may come before or between the lines of the example.
            if found := re.search(r"starts at step (\d+)", line):
                last = f"step {int(found[1]) + target}:"
            if last and line.startswith(last):
                break
        if kind == "at any step":
            time.sleep(draw.uniform(0.0, 0.2))
        else:
            end = time.monotonic() + 120
            while not list(folder.glob(TEMPORARY)) and time.monotonic() < end:
                time.sleep(0.001)
    process.kill()
    process.wait()
    process.stdout.close()
    assert process.returncode == -9, f"the run has ended before it was killed: {''.join(lines)}"
    return bool(list(folder.glob(TEMPORARY)))


def result(folder):
    """The arrays and the position in the data of the last checkpoint."""
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(folder / str(STEPS) / "arrays")
    text = (folder / str(STEPS) / "run" / "metadata").read_text()
    return jax.tree.map(np.asarray, arrays), json.loads(text)


def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    begin = time.monotonic()
    status, output = finished(whole)
    assert status == 0 and "starts at step 0\n" in output, output
    draw = random.Random(0)
    kinds = ["at an unfinished checkpoint", "at any step", "at any time"]
    left = [kill(broken, kinds[i % 3], draw) for i in range(KILLS)]
    status, output = finished(broken)
    assert status == 0, output
    assert "starts at step 0\n" not in output
    (a, run_a), (b, run_b) = result(whole), result(broken)
    assert run_a == run_b and jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.tobytes() == y.tobytes()
    print(
        f"{KILLS} kills, {sum(left)} of them while a checkpoint was unfinished, "
        f"in {time.monotonic() - begin:.0f} s"
    )
    assert sum(left) >= max(1, KILLS // 4)


def test_another_optimizer_is_refused_with_a_list_of_what_differs(tmp_path, monkeypatch, capsys):
    """In this process, with a loop of no steps, which reads and writes one checkpoint."""
    monkeypatch.syspath_prepend(ROOT)
    from examples import resume

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        resume.train(tmp_path, resume.gradtx.adamw(0.1), 1, 1)
        for text, changes in (
            ("adamw(0.1, b2=0.95)", "`adamw.b2` is 0.95 and was 0.999"),
            ("sgd(0.1)", "`0/mu/embed` is not expected (float32[103, 16])"),
        ):
            monkeypatch.setattr(
                "sys.argv", ["resume", "--folder", str(tmp_path), "--optimizer", text]
            )
            try:
                resume.main()
            except SystemExit as error:
                assert str(error).startswith("resume: The") and changes in str(error)
            else:
                raise AssertionError("the run has gone on with another optimizer")
    assert "step 1: the loss is" in capsys.readouterr().out
