"""Average the gradients of four small batches before each step, clip the average, and log its norms.

Run it with `python examples/hosts/accumulate_gradients.py`.
"""

import jax
import jax.numpy as jnp

import gradtx


def loss(params, x, y):
    return jnp.mean((x @ params["w"] - y) ** 2)


# Every stage of this chain sees the average of the four gradients.
tx = gradtx.chain(
    gradtx.tap("gradients"),
    gradtx.clip_by_global_norm(1.0),
    gradtx.tap("clipped"),
    gradtx.adamw(gradtx.cosine_decay_schedule(0.1, 100)),
)
accumulating = gradtx.accumulate(tx, every=4)
step = gradtx.make_step(loss)

x = jax.random.normal(jax.random.key(0), (64, 4))
y = x @ jnp.array([1.0, -2.0, 3.0, 0.5])
small, large = {"w": jnp.zeros(4)}, {"w": jnp.zeros(4)}
small_state, large_state = accumulating.init(small), tx.init(large)
log = []
for i in range(100):
    for rows in jnp.split(jnp.arange(64), 4):  # Three of four updates are zero.
        small, small_state, metrics = step(accumulating, small, small_state, x[rows], y[rows])
    log.append(jax.device_get(metrics))
    if i % 25 == 0:
        print({name: round(float(value), 3) for name, value in log[-1].items()})
    large, large_state, _ = step(tx, large, large_state, x, y)

assert max(entry["clipped/global_norm"] for entry in log) < 1.0001
difference = jnp.abs(small["w"] - large["w"]).max()
print(f"Accumulation: the loss is {loss(small, x, y):.1e}, {difference:.1e} from the large batch.")
