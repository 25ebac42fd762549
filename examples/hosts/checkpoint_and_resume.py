"""Save a run with Orbax and resume it: the resumed run equals the uninterrupted one, bit for bit.

Run it with `python examples/hosts/checkpoint_and_resume.py`.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

import gradtx

x = jax.random.normal(jax.random.key(0), (64, 8))


def loss(params, x):
    return jnp.mean((x @ params["w"] - 1) ** 2)


step = gradtx.make_step(loss, donate=False)  # The first half is used twice below.


def begin(tx):
    params = {"w": jnp.zeros(8)}
    return {"params": params, "state": tx.init(params)}


def train(tx, run):
    params, state = run["params"], run["state"]
    for _ in range(5):
        params, state, _ = step(tx, params, state, x)
    return {"params": params, "state": state}


schedule = gradtx.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=3, decay_steps=10)
tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(schedule))
half = train(tx, begin(tx))
with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(Path(folder) / "arrays", half)
    (Path(folder) / "optimizer.txt").write_text(repr(tx))
    checkpointer.wait_until_finished()
    # In another process: the text makes the optimizer, and the optimizer says what to restore.
    again = gradtx.parse((Path(folder) / "optimizer.txt").read_text())
    restored = checkpointer.restore(Path(folder) / "arrays", jax.eval_shape(lambda: begin(again)))

resumed, uninterrupted = train(again, restored), train(tx, half)
equal = (resumed["params"]["w"] == uninterrupted["params"]["w"]).all()
print(f"Checkpoint: {again} goes on; its parameters are equal bit for bit: {equal}.")
