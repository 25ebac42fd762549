"""Train a Flax Linen model with `TrainState`, which holds the optimizer, its state and the parameters.

Run it with `python examples/hosts/with_flax_linen.py`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.training.train_state import TrainState

import gradtx


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(32)(x)))


@jax.jit
def step(state, x, y):
    def loss(params):
        return jnp.mean((state.apply_fn({"params": params}, x) - y) ** 2)

    value, gradients = jax.value_and_grad(loss)(state.params)
    state = state.apply_gradients(grads=gradients)
    return state, {"loss": value} | gradtx.readings(state)  # with the learning rate


x = jax.random.normal(jax.random.key(0), (256, 4))
y = jnp.sin(x.sum(axis=1, keepdims=True))
model = Network()
state = TrainState.create(
    apply_fn=model.apply,
    params=model.init(jax.random.key(1), x)["params"],
    tx=gradtx.adamw(gradtx.cosine_decay_schedule(0.02, decay_steps=100)),
)
losses = []
for _ in range(100):
    state, metrics = step(state, x, y)
    losses.append(float(metrics["loss"]))
rate = metrics["learning_rate"]
print(
    f"Flax Linen: the loss fell from {losses[0]:.3f} to {losses[-1]:.3f}, the rate to {rate:.1e}."
)
