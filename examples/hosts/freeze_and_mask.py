"""Freeze an embedding, and let only matrices decay. `routing` shows what each parameter gets.

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


@jax.jit
def step(tx, params, state, tokens, y):
    value, gradients = jax.value_and_grad(loss)(params, tokens, y)
    updates, state = tx.update(gradients, state, params)
    return gradtx.apply_updates(params, updates), state, value


matrices = gradtx.by_rank(2)  # a mask: which leaves decay, here those with at least two axes
tx = gradtx.partition(
    {"frozen": gradtx.freeze(), "trained": gradtx.adamw(0.01, weight_decay=0.1, mask=matrices)},
    gradtx.by_path({"embed": "frozen"}, otherwise="trained"),
)
print(gradtx.routing(tx, params))
state = tx.init(params)  # A frozen leaf has no state.
tokens, y = jnp.arange(16), jnp.linspace(-1, 1, 16)[:, None]
for _ in range(100):
    params, state, value = step(tx, params, state, tokens, y)

unchanged = (params["embed"]["table"] == before["embed"]["table"]).all()
print(f"Freezing: the loss is {value:.1e}; the embedding is unchanged: {unchanged}.")
