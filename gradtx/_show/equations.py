"""Transformations as equations, which notebooks display.

The method `tex` of each class returns the LaTeX of its update, for incoming updates `g`. A chain passes
the expression of one link to the next link, and a quotient of two branches becomes a fraction. A
quantity that the state keeps, such as a momentum, becomes a letter, and so does a schedule. Below the
equation, the page defines all letters, and says in words what is not an equation.
"""

from gradtx._core.latex import GRADIENT, Page
from gradtx._core.transform import Transform


def equations(tx: Transform) -> str | None:
    """`tx` as a displayed equation, with the definitions of its letters below it.

    The result is None if a field of `tx` does not hold a number but something that JAX put there, such
    as a `jax.ShapeDtypeStruct` or a batch axis.
    """
    page = Page()
    try:
        update = tx.tex(GRADIENT, page)
    except (TypeError, ValueError):
        return None
    return page.text("u_t", update)


# Notebooks call this method to display a value. It is attached here, since `Transform` lies in a lower
# folder than the equations.
Transform._repr_latex_ = equations  # pyright: ignore[reportAttributeAccessIssue]
