"""Fully sharded training: each device keeps an eighth of every parameter and of the optimizer's state.

Run it with `python examples/hosts/fsdp_mesh.py`.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")  # eight CPU devices

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard

import gradtx


def loss(params, x, y):
    # A weight is gathered where it is used. The gradient of `reshard` scatters its gradient again.
    hidden, head = (reshard(params[name], P(None, None)) for name in ("hidden", "head"))
    return jnp.mean((jax.nn.relu(x @ hidden) @ head - y) ** 2)


step = gradtx.make_step(loss)  # It donates the parameters and the state.

with jax.set_mesh(jax.make_mesh((jax.device_count(),), ("devices",))):
    x = reshard(jax.random.normal(jax.random.key(0), (256, 64)), P("devices", None))
    y = jnp.sin(x.sum(axis=1, keepdims=True))
    keys = jax.random.split(jax.random.key(1))
    params = {"hidden": jax.random.normal(keys[0], (64, 128)) / 8, "head": jnp.zeros((128, 1))}
    params = jax.tree.map(lambda p: reshard(p, P("devices", None)), params)

    tx = gradtx.muon(gradtx.warmup_stable_decay_schedule(0.0, 0.01, 5, 25, 20))
    state = tx.init(params)  # The state has the shardings of the parameters.
    losses = []
    for _ in range(50):
        params, state, metrics = step(tx, params, state, x, y)
        losses.append(float(metrics["loss"]))
    momentum = gradtx.get(state, "muon.mu")["hidden"]
    shard = momentum.addressable_shards[0].data.shape
    print(f"FSDP: the loss fell from {losses[0]:.3f} to {losses[-1]:.3f}.")
    print(f"A device holds {shard} of the momentum {momentum.shape}.")
