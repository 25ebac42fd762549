"""Read an optimizer with a schedule from a configuration file, and write it down for the record.

Run it with `python examples/hosts/config_file.py`.
"""

import json
import tomllib

import jax
import jax.numpy as jnp

import gradtx

# A call is a table with one key, the name. A list of calls is a chain.
CONFIG = """
[[optimizer]]
clip_by_global_norm = 1.0

[[optimizer]]
[optimizer.adamw]
weight_decay = 0.1
mask.decay_mask = {}

[optimizer.adamw.learning_rate.warmup_cosine_decay_schedule]
init_value = 0.0
peak_value = 0.1
warmup_steps = 20
decay_steps = 200
"""


def loss(params, x, y):
    return jnp.mean((jnp.tanh(x @ params["kernel"] + params["bias"][None]) - y) ** 2)


tx = gradtx.from_config(tomllib.loads(CONFIG)["optimizer"])
print(tx)
assert gradtx.from_config(json.loads(json.dumps(gradtx.to_config(tx)))) == tx

x = jax.random.normal(jax.random.key(0), (64, 4))
y = jnp.tanh(x @ jnp.array([[1.0], [-2.0], [0.5], [0.0]]))
params = {"kernel": jnp.zeros((4, 1)), "bias": jnp.zeros(1)}
state, step = tx.init(params), gradtx.make_step(loss)
for _ in range(200):
    params, state, metrics = step(tx, params, state, x, y)
rate = metrics["learning_rate"]
print(f"Config file: the loss is {metrics['loss']:.1e}, and the learning rate {rate:.1e}.")
