"""Train a Flax NNX model: `nnx.Optimizer` takes a gradtx optimizer where it takes one of Optax.

Run it with `python examples/hosts/with_flax_nnx.py`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

import gradtx


class Network(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(4, 32, rngs=rngs)
        self.head = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.hidden(x)))


def loss(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


x = jax.random.normal(jax.random.key(0), (256, 4))
y = jnp.sin(x.sum(axis=1, keepdims=True))
model = Network(nnx.Rngs(0))
tx = gradtx.muon(1e-2)
print(gradtx.routing(tx, nnx.state(model, nnx.Param)))  # which leaf goes where
# `tunable` keeps the learning rate in the state, where it can be changed.
optimizer = nnx.Optimizer(model, gradtx.tunable(tx), wrt=nnx.Param)
step = gradtx.make_nnx_step(loss)  # compiled, and in place

losses = []
for i in range(100):
    if i == 80:  # Nothing is compiled again.
        optimizer.opt_state = gradtx.set(optimizer.opt_state, learning_rate=2e-3)
    metrics = step(model, optimizer, x, y)
    losses.append(float(metrics["loss"]))
assert metrics["muon/learning_rate"] == metrics["adamw/learning_rate"] == jnp.float32(2e-3)
print(f"Flax NNX: the loss fell from {losses[0]:.3f} to {losses[-1]:.3f}.")
