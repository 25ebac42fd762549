"""Average the gradients of four small batches before each step, with `optax.MultiSteps`.

Run it with `python examples/hosts/accumulate_gradients.py`.
"""

import jax
import jax.numpy as jnp
import optax

import gradtx


def loss(params, x, y):
    return jnp.mean((x @ params["w"] - y) ** 2)


x = jax.random.normal(jax.random.key(0), (64, 4))
y = x @ jnp.array([1.0, -2.0, 3.0, 0.5])
adamw = gradtx.adamw(0.1)
accumulating = optax.MultiSteps(adamw, every_k_schedule=4)


@jax.jit
def small_step(params, state, x, y):
    gradients = jax.grad(loss)(params, x, y)
    updates, state = accumulating.update(gradients, state, params)
    return gradtx.apply_updates(params, updates), state  # Three of four updates are zero.


@jax.jit
def large_step(params, state):
    updates, state = adamw.update(jax.grad(loss)(params, x, y), state, params)
    return gradtx.apply_updates(params, updates), state


small = large = {"w": jnp.zeros(4)}
small_state, large_state = accumulating.init(small), adamw.init(large)
for _ in range(100):
    for rows in jnp.split(jnp.arange(64), 4):
        small, small_state = small_step(small, small_state, x[rows], y[rows])
    large, large_state = large_step(large, large_state)

difference = jnp.abs(small["w"] - large["w"]).max()
print(f"Accumulation: the loss is {loss(small, x, y):.1e}, {difference:.1e} from the large batch.")
