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


@nnx.jit
def step(model, optimizer, x, y):
    def loss(model):
        return jnp.mean((model(x) - y) ** 2)

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


x = jax.random.normal(jax.random.key(0), (256, 4))
y = jnp.sin(x.sum(axis=1, keepdims=True))
model = Network(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, gradtx.muon(1e-2), wrt=nnx.Param)

print(gradtx.routing(gradtx.muon(1e-2), nnx.state(model, nnx.Param)))  # which leaf goes where
losses = [float(step(model, optimizer, x, y)) for _ in range(100)]
print(f"Flax NNX: the loss fell from {losses[0]:.3f} to {losses[-1]:.3f}.")
