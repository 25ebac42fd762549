"""Train an Equinox model, unfiltered: what is not a floating array is passed over.

Run it with `python examples/hosts/with_equinox.py`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

import gradtx


def loss(model, x, y):
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


x = jax.random.normal(jax.random.key(0), (256, 4))
y = jnp.sin(x.sum(axis=1))
model = eqx.nn.MLP(4, "scalar", width_size=32, depth=1, key=jax.random.key(1))
schedule = gradtx.warmup_cosine_decay_schedule(0.0, 0.02, warmup_steps=10, decay_steps=100)
tx = gradtx.averaged(gradtx.adamw(schedule), gradtx.ema_weight(0.9))
state = tx.init(model)
step = gradtx.make_step(loss)  # compiled, and in place

losses = []
for i in range(100):
    if i == 50:
        tx = gradtx.replace(tx, peak_value=0.01)  # Nothing is compiled again; the state goes on.
    model, state, metrics = step(tx, model, state, x, y)
    losses.append(float(metrics["loss"]))

evaluated = gradtx.eval_params(tx, model, state)  # the model with the averaged weights
assert step._cache_size() == 1 and loss(evaluated, x, y) < 2 * losses[-1]
print(f"Equinox: the loss fell from {losses[0]:.3f} to {losses[-1]:.3f}.")
