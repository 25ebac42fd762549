"""Which optimizer is best, each at its best learning rate? Each rate trains with three seeds.

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


def loss(params, x, y):
    logits = jax.nn.relu(x @ params["hidden"]) @ params["head"]
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train(tx, key):
    def step(carry, rows):
        params, state = carry
        gradients = jax.grad(loss)(params, train_x[rows], train_y[rows])
        updates, state = tx.update(gradients, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    k1, k2, k3 = jax.random.split(key, 3)
    hidden, head = jax.random.normal(k1, (64, 64)) / 8, jax.random.normal(k2, (64, 10)) / 8
    params = {"hidden": hidden, "head": head}
    batches = jax.random.randint(k3, (200, 128), 0, len(train_x))  # the rows for each of 200 steps
    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), batches)
    return loss(params, valid_x, valid_y)


rates = jnp.logspace(-4, 0, 13)
for tx in (gradtx.sgd(0.1, momentum=0.9), gradtx.adamw(1e-3), gradtx.muon(1e-3)):
    result = gradtx.sweep(train, gradtx.grid(tx, learning_rate=rates), seeds=3)
    print(f"{result}\nbest: {result.best}\n")
