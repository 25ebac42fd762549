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
# Saving the checkpoint of step 6 waits for that of step 3, so the latter is complete after step 7.
FIRST_SAVED = 2 * SAVE_EVERY + 1


class Job:
    """The example as a process, and the losses that it has printed so far, as text."""

    def __init__(self, folder, processes=2, heartbeat=300, devices=1):
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
        command += ["--devices", str(devices)]
        # The losses are the same to rounding without optimizations, and compiling takes half the time. A
        # job that goes on takes the programs that the job before it compiled.
        loose = {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"}
        loose |= {"JAX_COMPILATION_CACHE_DIR": f"{folder}-compiled"}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | loose | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        )
        self.losses, self.ids, self.start = {}, [], None

    def read(self, losses=None):
        """Read what the job prints, up to its end or until it has printed so many losses."""
        for line in self.process.stdout:
            self.ids += [int(i) for i in re.findall(r"process \d+ is (\d+)", line)]
            if found := re.match(r"starts at step (\d+)", line):
                self.start = int(found[1])
            if found := re.match(r"step (\d+): the loss is (\S+)", line):
                self.losses[int(found[1])] = found[2]
                if len(self.losses) == losses:
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


def assert_close(losses, others):
    """Two runs have the same losses to rounding, at the steps that both have shown."""
    steps = sorted({*losses} & {*others})
    assert len(steps) >= 4
    a, b = ([float(x[step]) for step in steps] for x in (losses, others))
    assert_allclose(a, b, rtol=ROUNDING, atol=0)


def assert_same_bits(losses, others):
    """Two runs have printed the same nine digits, which tell all numbers of float32 apart."""
    steps = {*losses} & {*others}
    assert len(steps) >= 4
    assert {i: losses[i] for i in steps} == {i: others[i] for i in steps}


def lost(job, i, by=signal.SIGKILL, after=4):
    """Send a signal to a process of a job after some losses: the sentence of the launcher."""
    job.read(losses=after)
    os.kill(job.ids[i], by)
    status, errors = job.end()
    assert status == 1
    assert "Run the same command again to go on from the checkpoint of step" in errors
    for one in job.ids:  # no process is left
        with pytest.raises(ProcessLookupError):
            os.kill(one, 0)
    return errors.removeprefix("multiprocess: ").split(". ")[0]


def test_two_processes_train_as_one_and_a_killed_job_goes_on_with_the_same_bits(tmp_path, trained):
    broken = Job(tmp_path)
    assert lost(broken, 1, after=FIRST_SAVED) == "Process 1 of 2 was killed by the signal SIGKILL"
    start = first_checkpoint_only(tmp_path / "checkpoints")
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "copy")
    resumed = Job(tmp_path)
    status, errors = resumed.end()
    assert status == 0, errors
    assert resumed.start == start > 0
    assert max(resumed.losses) == STEPS
    assert_same_bits(broken.losses, resumed.losses)

    one = trained(tmp_path / "one", devices=1)
    assert one[STEPS] < one[1] - 0.5
    assert_close(broken.losses, one)
    assert_close(resumed.losses, one)
    assert_close(trained(tmp_path / "copy", devices=1), one)


HEARTBEATS = """E1126 coordination_service.cc] Use error polling to propagate the following error to all
UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):
1
The tasks have crashed."""


@pytest.mark.parametrize(
    "statuses, logs, sentence",
    [
        ([1, -9], ["RuntimeError: Gloo", ""], "Process 1 of 2 was killed by the signal SIGKILL."),
        ([-6, None], [HEARTBEATS, ""], "Process 1 of 2 gave no sign of life for 9 seconds."),
        ([-6, -6], [HEARTBEATS, ""], "Process 1 of 2 gave no sign of life for 9 seconds."),
        (
            [-6, 1],
            ["", "Traceback\n  x\njax.errors.JaxRuntimeError: full\nnote"],
            "Process 1 of 2 failed: jax.errors.JaxRuntimeError: full",
        ),
        ([None, 1], ["", ""], "Process 1 of 2 failed: its log says more."),
        ([-6, None], ["", ""], "Process 0 of 2 was aborted by JAX, since it lost its connection"),
    ],
)
def test_the_sentence_names_the_process_that_failed_first(
    statuses, logs, sentence, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(ROOT)
    from examples.multiprocess.launcher import cause

    files = [tmp_path / str(i) for i in range(len(logs))]
    for file, text in zip(files, logs, strict=True):
        file.write_text(text)
    assert cause(statuses, files, 9).startswith(sentence)


@pytest.mark.parametrize(
    "argument, sentence",
    [("--steps=0", "--steps must be at least 1"), ("--processes=3", "must be 1, 2, 4 or 8")],
)
def test_an_argument_that_cannot_work_is_refused(argument, sentence, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from examples.multiprocess.__main__ import main

    with pytest.raises(SystemExit):
        main([argument])
    assert sentence in capsys.readouterr().err


@pytest.mark.skipif("PROCESSES" not in os.environ, reason="takes minutes: `make processes`")
def test_a_job_of_four_goes_on_as_four_then_as_two_then_on_eight_devices(tmp_path, trained):
    stopped = Job(tmp_path, processes=4, heartbeat=30)
    said = lost(
        stopped, 2, signal.SIGSTOP, FIRST_SAVED
    )  # a process that hangs, and is not seen to end
    assert said == "Process 2 of 4 gave no sign of life for 30 seconds"
    start = first_checkpoint_only(tmp_path / "checkpoints")

    killed = Job(tmp_path, processes=4)
    assert lost(killed, 0) == "Process 0 of 4 was killed by the signal SIGKILL"
    assert killed.start == start
    assert_same_bits(stopped.losses, killed.losses)

    first_checkpoint_only(tmp_path / "checkpoints")
    two = Job(tmp_path, processes=2)
    assert lost(two, 1) == "Process 1 of 2 was killed by the signal SIGKILL"
    first_checkpoint_only(tmp_path / "checkpoints")
    eight = Job(tmp_path, processes=4, devices=2)
    status, errors = eight.end()
    assert status == 0, errors

    one = trained(tmp_path / "one", devices=1)
    for job in (stopped, killed, two, eight):
        assert_close(job.losses, one)
    assert max(eight.losses) == STEPS
