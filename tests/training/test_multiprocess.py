"""Several processes train as one, and a job that lost a process goes on from its last checkpoint.

`make test` runs the example with two processes, and `make processes` runs what takes longer as well.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from numpy.testing import assert_allclose

ROOT = Path(__file__).parents[2]
STEPS, SAVE_EVERY = 15, 3
# Losses of about 4 in float32 differ by a few roundings of 6e-8 between meshes, and training amplifies
# the differences. One wrong shard of one gradient changes the next loss by 1e-3.
ROUNDING = 1e-5


class Job:
    """The example as a process, and the losses that it has printed so far, as text."""

    def __init__(self, folder, processes=2, heartbeat=300):
        command = [
            sys.executable,
            "-m",
            "examples.multiprocess",
            "--small",
            "--folder",
            str(folder),
        ]
        command += ["--steps", str(STEPS), "--save-every", str(SAVE_EVERY), "--print-every", "1"]
        command += ["--processes", str(processes), "--heartbeat", str(heartbeat)]
        # The losses are the same to rounding without optimizations, and compiling takes half the time.
        loose = {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | loose | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        )
        self.losses, self.ids, self.start = {}, [], None

    def read(self, until=None):
        """Read what the job prints, up to the line of a step."""
        for line in self.process.stdout:
            self.ids += [int(i) for i in re.findall(r"process \d+ is (\d+)", line)]
            if found := re.match(r"starts at step (\d+)", line):
                self.start = int(found[1])
            if found := re.match(r"step (\d+): the loss is (\S+)", line):
                self.losses[int(found[1])] = found[2]
                if int(found[1]) == until:
                    return

    def end(self):
        """The status and the errors, after all has been read."""
        self.read()
        _, errors = self.process.communicate(timeout=300)
        return self.process.returncode, errors


@pytest.fixture
def trained(monkeypatch):
    """Runs the example in this process, on some of its devices: its losses."""
    monkeypatch.syspath_prepend(ROOT)
    from examples.multiprocess.training import SMALL, train

    def run(folder, devices):
        devices = jax.devices()[:devices]
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return train(folder, STEPS, SAVE_EVERY, SMALL, devices, report=lambda line: None)

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield run
    jax.config.update("jax_disable_most_optimizations", before)


def first_checkpoint_only(checkpoints):
    """Remove all but the first complete checkpoint of a folder: the step of the first."""
    steps = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
    for step in steps[1:]:
        shutil.rmtree(checkpoints / str(step))
    return steps[0]


def assert_same(losses, others, rtol):
    steps = sorted({*losses} & {*others})
    assert len(steps) >= 4
    a, b = ([float(x[step]) for step in steps] for x in (losses, others))
    assert_allclose(a, b, rtol=rtol, atol=0)


def test_two_processes_train_as_one_and_a_killed_job_goes_on_with_the_same_bits(tmp_path, trained):
    broken = Job(tmp_path)
    # Saving the checkpoint of step 6 waits for that of step 3, so the latter is complete after step 7.
    broken.read(until=2 * SAVE_EVERY + 1)
    os.kill(broken.ids[1], signal.SIGKILL)
    status, errors = broken.end()
    assert status == 1
    assert errors.startswith("multiprocess: Process 1 of 2 was killed by the signal SIGKILL.")
    assert "Run the same command again to go on from the checkpoint of step" in errors
    for i in broken.ids:  # no process is left
        with pytest.raises(ProcessLookupError):
            os.kill(i, 0)

    start = first_checkpoint_only(tmp_path / "checkpoints")
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "copy")
    resumed = Job(tmp_path)
    status, errors = resumed.end()
    assert status == 0, errors
    assert resumed.start == start > 0
    both = {*broken.losses} & {*resumed.losses}
    assert both and max(resumed.losses) == STEPS
    # Nine digits tell all numbers of float32 apart.
    assert {i: broken.losses[i] for i in both} == {i: resumed.losses[i] for i in both}

    one = trained(tmp_path / "one", devices=1)
    assert one[STEPS] < one[1] - 0.5
    assert_same(broken.losses, one, ROUNDING)
    assert_same(resumed.losses, one, ROUNDING)
    assert_same(trained(tmp_path / "copy", devices=1), one, ROUNDING)
