"""One process of the job. The launcher starts it; it joins the other processes, and trains.

On a cluster, the scheduler takes the place of the launcher, and `jax.distributed.initialize()` finds
without any argument what is passed to it here.
"""

import argparse
import os
import sys
import threading
from pathlib import Path

import jax

from .training import NORMAL, SMALL, train


def end_with_the_launcher():
    """End this process when the launcher has ended, which closes the pipe that it wrote to."""

    def wait():
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--coordinator", required=True, help="the address of the first process")
    parser.add_argument("--processes", type=int, required=True, help="how many processes there are")
    parser.add_argument("--process", type=int, required=True, help="the number of this process")
    parser.add_argument("--heartbeat", type=int, required=True, help="seconds until one is lost")
    parser.add_argument("--folder", type=Path, required=True, help="where the checkpoints are")
    parser.add_argument("--steps", type=int, required=True, help="the last step")
    parser.add_argument("--save-every", type=int, required=True, help="steps between checkpoints")
    parser.add_argument("--print-every", type=int, required=True, help="steps between losses")
    parser.add_argument("--small", action="store_true", help="a tiny model")
    given = parser.parse_args()
    end_with_the_launcher()
    # From here on, `jax.devices()` are the devices of all processes, and arrays may lie on all of them.
    jax.distributed.initialize(
        given.coordinator,
        given.processes,
        given.process,
        heartbeat_timeout_seconds=given.heartbeat,
    )

    def report(line):
        if given.process == 0:
            print(line, flush=True)

    train(
        given.folder,
        given.steps,
        given.save_every,
        size=SMALL if given.small else NORMAL,
        report=report,
        print_every=given.print_every,
    )
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
