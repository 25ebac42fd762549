"""A run that may be killed at any time: started again, it goes on from its last checkpoint.

    python examples/resume.py                   # trains, and writes checkpoints to out/resume
    kill -9 ...                                 # at any time, also while a checkpoint is written
    python examples/resume.py                   # goes on; ends with the same bits as without the kill
    python examples/resume.py --optimizer "adamw(1e-2)"   # refuses to go on, and lists what differs

A checkpoint holds all that the next steps depend on: the parameters, the state of the optimizer, the
position in the data, and the optimizer as text. Orbax writes it into a temporary folder, in the
background, and renames the folder when it is complete. So a folder with the name of a step is complete.
"""

import argparse
import sys
from pathlib import Path
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

import gradtx

CONTEXT, WIDTH, HIDDEN, BATCH = 8, 16, 128, 64
OPTIMIZER = gradtx.chain(
    gradtx.clip_by_global_norm(1.0),
    gradtx.averaged(gradtx.adamw(gradtx.warmup_cosine_decay_schedule(0.0, 3e-3, 50, 1000))),
)


# The model: from the last characters to the next one.


def initial_params(vocabulary):
    keys = jax.random.split(jax.random.key(0), 3)
    normal = lambda key, *shape: jax.random.normal(key, shape) / shape[0] ** 0.5
    return {
        "embed": normal(keys[0], vocabulary, WIDTH),
        "hidden": {"kernel": normal(keys[1], CONTEXT * WIDTH, HIDDEN), "bias": jnp.zeros(HIDDEN)},
        "head": {"kernel": normal(keys[2], HIDDEN, vocabulary), "bias": jnp.zeros(vocabulary)},
    }


def loss(params, windows):
    x = params["embed"][windows[:, :-1]].reshape(len(windows), -1)
    x = jax.nn.gelu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = x @ params["head"]["kernel"] + params["head"]["bias"]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), windows[:, -1:], axis=-1).mean()


# The data: windows of Python's own reference, in a new random order in every epoch.


class Batches:
    """Batches without an end, and the position of the next one, with which the data can go on."""

    def __init__(self, codes, epoch=0, batch=0):
        self.codes, self.epoch, self.batch = codes, epoch, batch
        self._shuffle()

    def _shuffle(self):
        order = np.random.default_rng(self.epoch).permutation(len(self.codes) - CONTEXT)
        self.starts = order[: len(order) // BATCH * BATCH].reshape(-1, BATCH)

    @property
    def position(self):
        return {"epoch": self.epoch, "batch": self.batch}

    def __next__(self):
        if self.batch == len(self.starts):
            self.epoch, self.batch = self.epoch + 1, 0
            self._shuffle()
        starts = self.starts[self.batch]
        self.batch += 1
        return self.codes[starts[:, None] + np.arange(CONTEXT + 1)]


# The run.


def restored(checkpoints, step, tx, shapes):
    """The parameters, the state and the position in the data of a checkpoint.

    An optimizer other than the one that was saved is refused before any array is read.
    """
    run = checkpoints.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore())).run
    arrays = checkpoints.item_metadata(step).arrays
    saved = gradtx.parse(run["optimizer"])
    gradtx.check_state(arrays["state"], tx, shapes["params"], saved=saved)
    target = ocp.args.StandardRestore(shapes)
    arrays = checkpoints.restore(step, args=ocp.args.Composite(arrays=target)).arrays
    return arrays["params"], arrays["state"], run["position"]


def train(folder, tx, steps, save_every):
    """Train up to a step, from the last checkpoint in the folder if there is one."""
    text = "\n".join(topics[name] for name in sorted(topics))
    alphabet, codes = np.unique(np.array(list(text)), return_inverse=True)
    codes = codes.astype(np.int32)
    params = initial_params(len(alphabet))
    state, batches = tx.init(params), Batches(codes)

    options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
    items = {"arrays": ocp.StandardCheckpointHandler(), "run": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(folder, options=options, item_handlers=items) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            shapes = jax.eval_shape(lambda: {"params": params, "state": state})
            params, state, position = restored(checkpoints, start, tx, shapes)
            batches = Batches(codes, **position)
        print(f"starts at step {start}", flush=True)
        step = gradtx.make_step(loss)
        for i in range(start + 1, steps + 1):
            params, state, metrics = step(tx, params, state, next(batches))
            if i % save_every == 0 or i == steps:
                arrays = ocp.args.StandardSave({"params": params, "state": state})
                run = {"optimizer": repr(tx), "position": batches.position}
                run = ocp.args.JsonSave(run)
                checkpoints.save(i, args=ocp.args.Composite(arrays=arrays, run=run))
            if i % 10 == 0 or i == steps:
                print(f"step {i}: the loss is {metrics['loss']:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", default="out/resume", help="where the checkpoints are written")
    parser.add_argument("--steps", type=int, default=1000, help="the last step")
    parser.add_argument("--save-every", type=int, default=20, help="steps between two checkpoints")
    parser.add_argument("--optimizer", type=gradtx.parse, default=OPTIMIZER, metavar="TEXT")
    given = parser.parse_args()
    try:
        train(Path(given.folder).absolute(), given.optimizer, given.steps, given.save_every)
    except ValueError as error:
        sys.exit(f"resume: {error}")


if __name__ == "__main__":
    main()
