"""A character model that trains with FSDP and Muon, on all devices of all processes.

Nothing in this file depends on the number of processes. Every process runs the same program on the same
mesh, reads the rows of a batch that lie on its own devices, and writes its own part of a checkpoint.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from examples.char_lm import CharLM, encode, loss, python_reference


class Size(NamedTuple):
    """The shape of the model and of a batch. All batches are whole on 1, 2, 4 and 8 devices."""

    length: int
    batch: int
    width: int
    depth: int


step = gradtx.make_step(loss)
NORMAL, SMALL = Size(64, 32, 64, 2), Size(16, 8, 16, 1)


def optimizer(steps):
    schedule = gradtx.warmup_cosine_decay_schedule(0.0, 1e-2, steps // 20 + 1, steps)
    return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.muon(schedule))


def shardings(shapes, mesh):
    """Every array is sharded along its longest axis that the devices divide, or is on all devices."""

    def of(x):
        axes = [i for i, n in enumerate(x.shape) if n % mesh.size == 0]
        longest = max(axes, key=lambda i: x.shape[i], default=None)
        return NamedSharding(mesh, P(*("data" if i == longest else None for i in range(x.ndim))))

    return jax.tree.map(of, shapes)


def batch_of(text, step, size, mesh):
    """The windows of a step, which depend on nothing but the number of the step.

    Every process draws where all windows start, and reads those that its own devices need.
    """
    starts = np.random.default_rng(step).integers(len(text) - size.length, size=size.batch)
    return jax.make_array_from_callback(
        (size.batch, size.length + 1),
        NamedSharding(mesh, P("data")),
        lambda rows: text[starts[rows[0], None] + np.arange(size.length + 1)],
    )


def begun(tx, size, vocabulary, mesh):
    """A function that makes the parameters and the state, sharded, and the function's shapes."""

    def make_params():
        model = CharLM(vocabulary, size.length, size.width, size.depth, key=jax.random.key(0))
        return eqx.filter(model, eqx.is_inexact_array)

    shapes = jax.eval_shape(make_params)
    params = shardings(shapes, mesh)
    where = {"params": params, "state": gradtx.state_shardings(tx, shapes, params)}

    def make():
        params = make_params()
        return {"params": params, "state": tx.init(params)}

    make = jax.jit(make, out_shardings=where)
    return make, jax.eval_shape(make)


def model_of(params, size, vocabulary):
    """The model with these parameters: Equinox keeps functions beside the arrays."""
    make = lambda: CharLM(vocabulary, size.length, size.width, size.depth, key=jax.random.key(0))
    fixed = eqx.filter_eval_shape(make)
    return eqx.combine(params, eqx.filter(fixed, lambda x: not hasattr(x, "dtype")))


def train(folder, steps, save_every, size=NORMAL, devices=None, report=print, print_every=1):
    """Train up to a step, from the last checkpoint in the folder if there is one.

    The result is a dictionary of losses by the numbers of their steps.
    """
    mesh = jax.make_mesh(
        (len(devices or jax.devices()),), ("data",), axis_types=(AxisType.Auto,), devices=devices
    )
    text, _, alphabet = encode(python_reference())
    tx = optimizer(steps)
    make, shapes = begun(tx, size, len(alphabet), mesh)
    options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
    with ocp.CheckpointManager(folder, options=options) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            run = checkpoints.restore(start, args=ocp.args.StandardRestore(shapes))
        else:
            run = make()
        params, state = model_of(run["params"], size, len(alphabet)), run["state"]
        report(f"starts at step {start} on {mesh.size} devices of {jax.process_count()} processes")
        losses = {}
        for i in range(start + 1, steps + 1):
            params, state, metrics = step(tx, params, state, batch_of(text, i, size, mesh))
            losses[i] = float(metrics["loss"])
            if i % print_every == 0 or i == steps:
                report(f"step {i}: the loss is {losses[i]:.9g}")
            if i % save_every == 0 or i == steps:
                arrays = {"params": eqx.filter(params, eqx.is_inexact_array), "state": state}
                checkpoints.save(i, args=ocp.args.StandardSave(arrays))
    return losses
