"""Train a character model with FSDP and Muon on several processes of this machine.

python -m examples.multiprocess                  # two processes with one device each
python -m examples.multiprocess --processes 4    # goes on from the last checkpoint, on four
kill -9 ...                                      # any process: the job ends with a sentence
"""

import argparse
import sys
from pathlib import Path

from .launcher import JobFailed, launch


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="python -m examples.multiprocess", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--processes", type=int, default=2, help="how many processes (default: 2)")
    parser.add_argument(
        "--devices", type=int, default=1, help="devices of each process (default: 1)"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("out/multiprocess"), help="where the checkpoints are"
    )
    parser.add_argument("--steps", type=int, default=200, help="the last step (default: 200)")
    parser.add_argument(
        "--save-every", type=int, default=50, help="steps between two checkpoints (default: 50)"
    )
    parser.add_argument(
        "--print-every", type=int, default=10, help="steps between two losses shown (default: 10)"
    )
    parser.add_argument(
        "--heartbeat",
        type=int,
        default=10,
        help="seconds without a sign of life after which a process is lost (default: 10)",
    )
    parser.add_argument("--small", action="store_true", help="a tiny model, for tests")
    given = parser.parse_args(argv)
    for name in ("processes", "devices", "steps", "save_every", "print_every", "heartbeat"):
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if given.processes * given.devices not in (1, 2, 4, 8):
        parser.error("--processes times --devices must be 1, 2, 4 or 8, which divide a batch")
    given.folder = given.folder.absolute()
    return given


def last_checkpoint(folder):
    """The step of the last complete checkpoint, or 0."""
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)


def main(argv=None):
    given = arguments(argv)
    job = ["--folder", str(given.folder / "checkpoints")]
    job += ["--steps", str(given.steps), "--save-every", str(given.save_every)]
    job += ["--print-every", str(given.print_every)]
    job += ["--small"] if given.small else []
    logs = given.folder / "logs"
    try:
        launch(job, given.processes, given.devices, given.heartbeat, logs)
    except KeyboardInterrupt:
        failure = "The job was interrupted."
    except JobFailed as error:
        failure = str(error)
    else:
        return
    step = last_checkpoint(given.folder / "checkpoints")
    again = f"go on from the checkpoint of step {step}" if step else "begin anew"
    sys.exit(
        f"multiprocess: {failure} All other processes were ended. Run the same command again to "
        f"{again}. The logs are in {logs}."
    )


if __name__ == "__main__":
    main()
