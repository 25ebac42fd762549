"""The parameters at which Nesterov's method takes gradients, for a momentum that does not look ahead."""

from typing import Any

from gradtx._core.boundary import as_param
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._training.nesterov import moved, shift_of
from gradtx._training.states import plain_state


def lookahead_params(tx: Transform, params: PyTree, state: Any) -> PyTree:
    r"""The parameters at which Nesterov's method takes gradients, for a momentum with `nesterov=False`.

    $$ \varphi = \theta + L(b\, m) $$

    Here $m$ is the momentum, $b$ its decay, and $L$ the linear map by which the links after the momentum
    turn it into updates (for a learning rate, $L = -\eta$).

    Args:
        tx: an optimizer that has a momentum with `nesterov=False`.
        params: the parameters $\theta$ that `tx` trains.
        state: the state of `tx`.

    Raises:
        TypeError: if `tx` has no momentum with `nesterov=False`, or if what follows the momentum is not
            linear.

    Sources: Nesterov, 1983; Sutskever et al., 2013, eq. 3-4.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.sgd(0.1, momentum=0.5)
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(gradtx.lookahead_params(tx, u, state))
    (-0.1, -0.15)
    """
    check_arguments(lookahead_params, locals())
    tx = as_transform(tx, "lookahead_params(tx=...)")
    leaves, structure = flatten(params)
    program = tx.program([as_param(p) for p in leaves], structure)
    shift = shift_of(tx, plain_state("lookahead_params", tx, program, state), nesterov=False)
    if shift is None:
        raise TypeError(
            "`lookahead_params` needs an optimizer that has a momentum with `nesterov=False`, and "
            f"`{tx}` has none."
        )
    return structure.unflatten(moved(leaves, structure.flatten_up_to(shift), 1.0))
