"""Which optimizer is best, each at its best learning rate? All rates of one optimizer train at once.

    python examples/sweep.py

`python -m examples.race` does the same for your own data, with more optimizers and a figure.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import gradtx

x, y = (jnp.asarray(array) for array in load_digits(return_X_y=True))
x = x.astype(jnp.float32) / 16  # 1797 rows of 64 inputs between 0 and 1
train_x, valid_x, train_y, valid_y = x[:1400], x[1400:], y[:1400], y[1400:]


k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
first = {"hidden": jax.random.normal(k1, (64, 64)) / 8, "head": jax.random.normal(k2, (64, 10)) / 8}
batches = jax.random.randint(k3, (200, 128), 0, len(train_x))  # the rows for each of 200 steps


def loss(params, x, y):
    logits = jax.nn.relu(x @ params["hidden"]) @ params["head"]
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train(tx):
    def step(carry, rows):
        params, state = carry
        gradients = jax.grad(loss)(params, train_x[rows], train_y[rows])
        updates, state = tx.update(gradients, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (first, tx.init(first)), batches)
    return loss(params, valid_x, valid_y)


rates = jnp.logspace(-4, 0, 13)
for tx in (gradtx.sgd(rates, momentum=0.9), gradtx.adamw(rates), gradtx.muon(rates)):
    # `tx` holds 13 optimizers. Map over the learning rate; everything else is shared.
    losses = jax.jit(jax.vmap(train, in_axes=(gradtx.axes(tx, learning_rate=0),)))(tx)
    best = jnp.nanargmin(losses)
    print(f"{type(tx).__name__:6} {losses[best]:.3f} at the learning rate {rates[best]:.2g}")
