"""The gradient noise scale, which says how large a batch is worth its cost."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.measure import Measure
from gradtx._core.numerics import squarable
from gradtx._core.values import Fixed
from gradtx._wrappers.measures import length, squares


class gradient_noise_scale(Measure):
    r"""The batch size at which noise and signal of the gradient are equally large.

    $$ B = \frac{\operatorname{tr} \Sigma}{|G|^2}, \qquad
       |G|^2 \approx \frac{k |g|^2 - \overline{|g_i|^2}}{k - 1}, \qquad
       \operatorname{tr} \Sigma \approx \frac{k\, b}{k - 1} \left(\overline{|g_i|^2} - |g|^2\right) $$

    $g$ is the gradient at the tap, which must be the mean of the gradients $g_1, \dots, g_k$ of $k$
    small batches of $b$ examples each, such as those of the devices, or those that are accumulated.
    $G$ is the gradient for all data, and $\Sigma$ is the covariance of the gradients of single examples.
    Both estimates are averaged over the steps before they are divided, because the mean of their
    quotients would be biased. A batch much larger than $B$ wastes examples, and a batch much smaller
    wastes steps. While the averages are still noisy, the reading may be negative.

    The norms of the small batches are an argument of the step:

        update(grads, state, params, micro_batch_norms=norms)

    `norms` is an array of the $k \ge 2$ global norms $|g_i|$.

    Args:
        micro_batch_size: $b$, the number of examples, or of tokens, in a small batch. The reading has
            the same unit.
        decay: the decay of the two averages.
        per: "tree", since the norms are those of the whole tree.

    The tap remembers the two averages, in this order: $|G|^2$ and $\operatorname{tr} \Sigma$.

    Raises:
        ValueError: if a number is outside of its interval, if `per` is not "tree", or if `update` is not
            given `micro_batch_norms` with at least two norms.

    Source: McCandlish et al., 2018, arXiv:1812.06162, Appendix A.1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.tap("grads", gradtx.gradient_noise_scale(micro_batch_size=8))
    >>> small = jnp.array([[3.0, 1.0], [5.0, 3.0]])  # the gradients of two small batches
    >>> g, norms = jnp.mean(small, 0), jnp.linalg.norm(small, axis=1)
    >>> _, state = tx.update(g, tx.init(g), micro_batch_norms=norms)
    >>> f"{gradtx.readings(state)['grads/gradient_noise_scale']:.4f}"  # 16 * (22 - 20) / (40 - 22)
    '1.7778'
    """

    micro_batch_size: Fixed = 1.0
    decay: Fixed = 0.99
    limits = {"micro_batch_size": "(0, inf)", "decay": "[0, 1)"}
    extra_args = ("micro_batch_norms",)

    def validate(self) -> None:
        if self.per != "tree":
            raise ValueError(
                f"`gradient_noise_scale(per={self.per!r})` must be 'tree': `micro_batch_norms` holds "
                "the norms of whole trees."
            )

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        return squares(update)

    def initial(self) -> tuple[float, ...]:
        return 0.0, 0.0

    def step(
        self, sums: tuple[jax.Array, ...], memory: tuple[jax.Array, ...], extra: dict[str, Any]
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        norms = scalar(extra["micro_batch_norms"])
        if norms.ndim != 1 or norms.size < 2:
            raise ValueError(
                "`update(micro_batch_norms=...)` must be an array of at least two norms, one for each "
                f"small batch, not an array of shape {norms.shape}."
            )
        k, size = norms.size, scalar(self.micro_batch_size)
        decay, rate = scalar(self.decay), scalar(1 - self.decay)
        root, inverse = length(*sums)
        # Huge norms are clipped, since an infinite average would stay infinite; a NaN stays a NaN.
        large = jnp.square(squarable(root * inverse, k))
        small = jnp.mean(jnp.square(squarable(norms, k)))
        signal = (k * large - small) / (k - 1)
        noise = size * k / (k - 1) * (small - large)
        signal, noise = (
            decay * old + rate * new for old, new in zip(memory, (signal, noise), strict=True)
        )
        return noise / jnp.where(noise == 0, jnp.ones_like(signal), signal), (signal, noise)
