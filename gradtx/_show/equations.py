"""Transformations as equations, as a notebook shows them.

Each class says in `tex` what update it makes of the updates `g`. A chain hands one link's expression to
the next, a quotient makes a fraction of two; what has a memory is a letter, and its recurrence goes to
the page.
"""

from gradtx._core.latex import Page, Tex
from gradtx._core.transform import Transform


def equations(tx: Transform) -> str | None:
    """`tx` as a display equation, with the definitions of its letters below.

    None for a value in which JAX has put something else where a number was.
    """
    page = Page()
    try:
        update = tx.tex(Tex("g_t"), page)
    except (TypeError, ValueError):
        return None
    lines = [f"u_t &= {update.text}", *(f"{name} &= {x}" for name, x in page.lines.items())]
    return r"$$\begin{aligned}" + r" \\ ".join(lines) + r"\end{aligned}$$"


# What a notebook shows of a transformation: the update as an equation, the letters explained below it.
Transform._repr_latex_ = equations  # pyright: ignore[reportAttributeAccessIssue]
