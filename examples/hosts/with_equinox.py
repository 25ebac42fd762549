"""Train an Equinox model. `tx.init` takes the whole model and passes over what is not a floating array.

Run it with `python examples/hosts/with_equinox.py`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

import gradtx


@eqx.filter_jit
def step(tx, model, state, x, y):
    def loss(model):
        return jnp.mean((jax.vmap(model)(x) - y) ** 2)

    value, gradients = eqx.filter_value_and_grad(loss)(model)
    updates, state = tx.update(gradients, state, model)
    return gradtx.apply_updates(model, updates), state, value


x = jax.random.normal(jax.random.key(0), (256, 4))
y = jnp.sin(x.sum(axis=1))
model = eqx.nn.MLP(4, "scalar", width_size=32, depth=1, key=jax.random.key(1))
# An array, since `filter_jit` compiles again for every other Python number.
tx = gradtx.adamw(jnp.float32(0.02))
state = tx.init(model)

losses = []
for i in range(100):
    if i == 50:
        tx = gradtx.replace(tx, learning_rate=jnp.float32(0.002))  # The state goes on unchanged.
    model, state, value = step(tx, model, state, x, y)
    losses.append(float(value))
print(f"Equinox: the loss fell from {losses[0]:.3f} to {losses[-1]:.3f}.")
