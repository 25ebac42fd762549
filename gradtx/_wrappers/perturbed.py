"""Steps with the gradient at other parameters than the present ones."""

import operator
from typing import Any, NamedTuple

import jax

from gradtx._compose.wrapper import Wrapper
from gradtx._core.authors import described
from gradtx._core.dtypes import compute_dtype
from gradtx._core.foreign import AsTransform
from gradtx._core.latex import THETA, Page, Tex, plus
from gradtx._core.trees import PyTree, flatten, is_inexact
from gradtx._transforms.combined import combined


class PerturbedState(NamedTuple):
    """The state of `perturbed`.

    Attributes:
        perturbation: the state of the transformation that makes the perturbation.
        inner: the state of the inner transformation.
    """

    perturbation: Any
    inner: Any


class perturbed(Wrapper):
    r"""Give an optimizer the gradient at perturbed parameters, in place of that at the parameters.

    $$ u = U(\nabla f(\theta + P(g))), \qquad g = \nabla f(\theta) $$

    The perturbation $P(g)$ is what another transformation makes of the gradient. `sam` and `asam` are
    this wrapper with a step of fixed size uphill. With `scale(-eta)` it is the extragradient method.

    The second gradient comes from a function, which is an extra argument of `update`:
    `tx.update(g, state, params, grad_fn=jax.grad(loss))`. The step that `gradtx.make_step(loss)` returns
    passes it. For complex parameters, `grad_fn` must return conjugated gradients, as for the first one.
    A step computes two gradients and so takes nearly twice the time.

    Args:
        inner: the optimizer, of gradtx or of Optax.
        perturbation: $P$, a transformation whose updates are added to the parameters.

    The state is `PerturbedState(perturbation, inner)`.

    Raises:
        TypeError: if `inner` or `perturbation` is not a transformation, or if `grad_fn` is not a
            function.
        ValueError: if `update` is called without `grad_fn` or without the parameters, or if the
            gradients that `grad_fn` returns do not fit the parameters.

    Source: for a step uphill, Foret et al., 2020, arXiv:2010.01412, algorithm 1.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx = gradtx.perturbed(gradtx.sgd(1.0), gradtx.scale(0.5))
    >>> grad_fn, params = jax.grad(lambda x: x**2 / 2), jnp.ones(())
    >>> u, state = tx.update(grad_fn(params), tx.init(params), params, grad_fn=grad_fn)
    >>> float(u)  # the gradient at 1 + 0.5 * 1
    -1.5
    """

    perturbation: AsTransform
    linear = True
    keeps_updates = True

    def init_tree(self, params: PyTree) -> PerturbedState:
        return PerturbedState(self.perturbation.init_tree(params), self.inner.init_tree(params))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, PerturbedState]:
        grad_fn = extra.get("grad_fn")
        if params is None or grad_fn is None:
            raise ValueError(
                "`perturbed`, which `sam` and `asam` are made of, needs the parameters and a function "
                "that returns the gradient at other parameters: call `update(updates, state, params, "
                "grad_fn=jax.grad(loss))`. The step of `gradtx.make_step(loss)` passes both."
            )
        if not callable(grad_fn):
            raise TypeError(
                f"`update(grad_fn=...)` must be a function of the parameters, not {described(grad_fn)}."
            )
        way, own = self.perturbation.update_tree(updates, state.perturbation, params, extra)
        at = combined(operator.add, way, params, gaps=params)
        given = where_given(gradients_like(grad_fn(at), params), updates)
        out, inner = self.inner.update_tree(given, state.inner, params, extra)
        return out, PerturbedState(own, inner)

    def tex(self, g: Tex, page: Page) -> Tex:
        at = plus(THETA, self.perturbation.tex(page.symbol(g), page))
        words = r"\text{: the gradient of the loss at these parameters}"
        return self.inner.tex(page.symbol(page.function("gradient", words, at)), page)


def gradients_like(gradients: PyTree, params: PyTree) -> PyTree:
    """The gradients that a function returned, in float32 at least, None where `params` has None.

    Raises:
        ValueError: if they differ from the parameters in structure or shape.
    """
    owned, structure = flatten(params)
    try:
        found = structure.flatten_up_to(gradients)
    except (ValueError, TypeError):
        raise ValueError(
            "`update(grad_fn=...)` must return gradients with the structure of the parameters, "
            f"{structure}, and it returned {described(gradients)}."
        ) from None
    out: list[Any] = []
    for p, g in zip(owned, found, strict=True):
        if p is None or not is_inexact(g):
            out.append(None)
            continue
        if g.shape != p.shape:
            raise ValueError(
                f"`update(grad_fn=...)` returned a gradient of shape {g.shape} for a parameter of shape "
                f"{p.shape}."
            )
        out.append(g.astype(compute_dtype(g, p)))
    return structure.unflatten(out)


def where_given(new: PyTree, updates: PyTree) -> PyTree:
    """`new`, but None at the leaves for which `updates` has no gradient."""
    return jax.tree.map(
        lambda u, x: None if u is None else x, updates, new, is_leaf=lambda x: x is None
    )
