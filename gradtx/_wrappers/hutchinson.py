"""Hutchinson's estimate of the diagonal of the Hessian, from one product with a random vector."""

from typing import Any

import jax
import optax.contrib

from gradtx._core.authors import described
from gradtx._core.dtypes import real_dtype
from gradtx._core.latex import THETA, Page, Tex, times
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._wrappers.perturbed import gradients_like, where_given


class hutchinson_estimator_diag_hessian(Transform):
    r"""The updates are replaced by an unbiased estimate of the diagonal of the Hessian.

    $$ u = r \odot H r, \qquad r_i = \pm 1 $$

    Here $H$ is the Hessian of the loss, and $r$ is random and new in every step. The mean of $u_i$ is
    $H_{ii}$. The product with $H$ takes about the time of two gradients. For a complex parameter, $u_i$
    is the estimate for its real part.

    The loss, or its gradient, is a function that `update` gets as an extra argument:
    `tx.update(g, state, params, obj_fn=loss)` or `grad_fn=jax.grad(loss)`. The step that
    `gradtx.make_step(loss)` returns passes `grad_fn`.

    Args:
        random_seed: the seed of the random numbers, an integer. Equal seeds give equal numbers, which
            are those of Optax for `jax.random.PRNGKey(random_seed)`.

    The state is `optax.contrib.HutchinsonState(key)`, where `key` holds the bits of a key of
    `jax.random`.

    Raises:
        ValueError: if `update` is called without the parameters, or without one of the two functions.
        TypeError: if `random_seed` is not an integer.

    Source: Hutchinson, 1989; Liu et al., 2023, arXiv:2305.14342, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.hutchinson_estimator_diag_hessian(), jnp.ones(2)
    >>> loss = lambda w: jnp.sum(jnp.array([1.0, 5.0]) * w**2) / 2
    >>> tx.update(w, tx.init(w), w, obj_fn=loss)[0]  # exact, since this Hessian is diagonal
    Array([1., 5.], dtype=float32)
    """

    random_seed: int = 0
    linear = True

    def validate(self) -> None:
        if type(self.random_seed) is not int:
            raise TypeError(
                "`hutchinson_estimator_diag_hessian(random_seed="
                f"{described(self.random_seed)})` must be an integer. To continue with a key of "
                "`jax.random`, put its bits into the state: "
                "`gradtx.set(state, key=jax.random.key_data(key))`."
            )

    def init_tree(self, params: PyTree) -> Any:
        key = jax.random.key_data(jax.random.key(self.random_seed))
        return optax.contrib.HutchinsonState(key)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        grad_fn = extra.get("grad_fn")
        if grad_fn is None and extra.get("obj_fn") is not None:
            grad_fn = jax.grad(extra["obj_fn"])
        if params is None or grad_fn is None:
            raise ValueError(
                "`hutchinson_estimator_diag_hessian`, which `sophia` contains, needs the parameters and "
                "the loss or its gradient: call `update(updates, state, params, obj_fn=loss)` or "
                "`grad_fn=jax.grad(loss)`. The step of `gradtx.make_step(loss)` passes both."
            )
        key, now = jax.random.split(jax.random.wrap_key_data(state.key))
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(now, max(len(leaves), 1))
        signs = structure.unflatten(map(_signs, keys, leaves))
        _, product = jax.jvp(lambda x: gradients_like(grad_fn(x), params), (params,), (signs,))
        out = where_given(jax.tree.map(_real_product, product, signs), updates)
        return out, optax.contrib.HutchinsonState(jax.random.key_data(key))

    def tex(self, g: Tex, page: Page) -> Tex:
        page.notes["r_t"] = r"\text{: an array of random signs, new in every step}"
        words = r"\text{: the product of the Hessian of the loss at }\theta\text{ with an array}"
        product = page.function("hessian", words, Tex("r_t"), THETA)
        return times(Tex("r_t"), product)


def _real_product(x: jax.Array, signs: jax.Array) -> jax.Array:
    # The signs are real, so that the imaginary part belongs to entries beside the diagonal.
    return (x * signs).real.astype(x.dtype)


def _signs(key: jax.Array, x: jax.Array) -> jax.Array:
    return jax.random.rademacher(key, x.shape, real_dtype(x.dtype)).astype(x.dtype)
