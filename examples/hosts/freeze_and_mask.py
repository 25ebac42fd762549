"""Freeze an embedding, and let only weights decay. `routing` shows what each parameter gets.

Run it with `python examples/hosts/freeze_and_mask.py`.
"""

import jax
import jax.numpy as jnp

import gradtx

k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
before = params = {
    "embed": {"table": jax.random.normal(k1, (16, 8))},
    "hidden": {"kernel": jax.random.normal(k2, (8, 8)) / 3, "bias": jnp.zeros(8)},
    "head": {"kernel": jax.random.normal(k3, (8, 1)) / 3},
}


def loss(params, tokens, y):
    x = params["embed"]["table"][tokens]
    x = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
    return jnp.mean((x @ params["head"]["kernel"] - y) ** 2)


step = gradtx.make_step(loss, donate=False)  # The initial parameters are used again below.
adamw = gradtx.adamw(0.01, weight_decay=0.1, mask=gradtx.decay_mask())
tx = gradtx.partition(
    {"frozen": gradtx.freeze(), "trained": adamw},
    gradtx.by_path({"embed": "frozen"}, otherwise="trained"),
)
print(gradtx.routing(tx, params))
state = tx.init(params)  # A frozen leaf has no state.
tokens, y = jnp.arange(16), jnp.linspace(-1, 1, 16)[:, None]
for _ in range(100):
    params, state, metrics = step(tx, params, state, tokens, y)

unchanged = (params["embed"]["table"] == before["embed"]["table"]).all()
print(f"Freezing: the loss is {metrics['loss']:.1e}; the embedding is unchanged: {unchanged}.")
