"""Sharpness-aware minimization: gradients where the loss is larger than at the parameters."""

from collections.abc import Hashable

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import AsTransform
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.normalize import normalize_by_update_norm
from gradtx._transforms.param_size import scale_by_param_size
from gradtx._wrappers.perturbed import perturbed

_INSTEAD = {
    "adv_optimizer": "write `perturbed(optimizer, perturbation)`, whose second argument steps uphill",
    "sync_period": "leave it out, since each update takes both gradients",
    "opaque_mode": "leave it out, since each update takes both gradients",
    "reset_state": "leave it out, since the optimizer has one state, which is kept",
    "batch_axis_name": "take the mean over the batch axis in `grad_fn`",
}


class sam(Recipe):
    r"""Sharpness-aware minimization takes gradients after a step of fixed length uphill.

    $$ u = U(\nabla f(\theta + \epsilon)), \qquad \epsilon = \rho\, g / \|g\| $$

    So the optimizer $U$ avoids minima that are sharp. The second gradient comes from a function, which
    is an extra argument of `update`: `tx.update(g, state, params, grad_fn=jax.grad(loss))`. The step
    that `gradtx.make_step(loss)` returns passes it.

    Args:
        optimizer: $U$, of gradtx or of Optax.
        rho: $\rho$, the length of the step uphill, over the whole tree.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded, for the norm of the gradient.

    The state is `PerturbedState(perturbation, inner)`.

    Raises:
        TypeError: if `optimizer` is not a transformation, if `rho` is not a number, an array or a
            schedule, or if `grad_fn` is not a function.
        ValueError: if `update` is called without `grad_fn` or without the parameters.

    Source: Foret et al., 2020, arXiv:2010.01412, algorithm 1.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, params = gradtx.sam(gradtx.sgd(1.0), rho=0.5), jnp.array([0.3, 0.4])
    >>> grad_fn = jax.grad(lambda x: jnp.sum(x**2) / 2)
    >>> u, _ = tx.update(grad_fn(params), tx.init(params), params, grad_fn=grad_fn)
    >>> jnp.round(u, 4)
    Array([-0.6, -0.8], dtype=float32)
    """

    optimizer: AsTransform
    rho: Hyper = 0.05
    axis_name: Hashable | None = None
    instead = _INSTEAD

    def expand(self) -> Transform:
        uphill = normalize_by_update_norm(self.rho, 0.0, self.axis_name)
        return perturbed(self.optimizer, uphill)


class asam(Recipe):
    r"""Adaptive SAM measures the step uphill in units of the parameters, so that it has no scale.

    $$ u = U(\nabla f(\theta + \epsilon)), \qquad \epsilon = \rho\, T^2 g / \|T g\|, \qquad
       T = |\theta| + \eta $$

    The products are taken entry by entry. The second gradient comes from a function, which is an extra
    argument of `update`: `tx.update(g, state, params, grad_fn=jax.grad(loss))`. The step that
    `gradtx.make_step(loss)` returns passes it.

    Args:
        optimizer: $U$, of gradtx or of Optax.
        rho: $\rho$, the length of the step uphill, in units of $T$.
        eta: $\eta \ge 0$, which is added to the absolute values of the parameters.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded, for the norm of the gradient.

    The state is `PerturbedState(perturbation, inner)`.

    Raises:
        TypeError: if `optimizer` is not a transformation, if a hyperparameter is not a number, an array
            or a schedule, or if `grad_fn` is not a function.
        ValueError: if `eta` is negative, or if `update` is called without `grad_fn` or without the
            parameters.

    Source: Kwon et al., 2021, arXiv:2102.11600, algorithm 1, with element-wise normalization.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, params = gradtx.asam(gradtx.sgd(1.0), rho=0.5, eta=0.0), jnp.array([3.0, 0.0])
    >>> grad_fn = jax.grad(lambda x: jnp.sum(x))
    >>> u, _ = tx.update(grad_fn(params), tx.init(params), params, grad_fn=grad_fn)
    >>> u
    Array([-1., -1.], dtype=float32)
    """

    optimizer: AsTransform
    rho: Hyper = 0.5
    eta: Hyper = 0.01
    axis_name: Hashable | None = None

    def expand(self) -> Transform:
        size = scale_by_param_size(self.eta)
        uphill = chain(size, normalize_by_update_norm(self.rho, 0.0, self.axis_name), size)
        return perturbed(self.optimizer, uphill)
