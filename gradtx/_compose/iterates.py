"""Which transformations keep parameters of their own to evaluate with, and where these may stand.

Most optimizers have one sequence of parameters. A wrapper that defines `eval_tree`, such as `averaged`
or `schedule_free`, has a second one, which is evaluated. It computes this sequence from the updates that
it returns, so a transformation around it, or after it in a chain, must not change these updates.
"""

from typing import Any

from gradtx._core.transform import Transform


def evaluates(tx: Transform) -> bool:
    """Whether this transformation itself keeps parameters to evaluate with."""
    return tx._evaluates


def has_iterate(tx: Transform) -> bool:
    """Whether this transformation, or one inside it, keeps parameters to evaluate with."""
    return tx.traits.evaluates


def check_links(links: tuple[Transform, ...]) -> None:
    """Check that no link changes the updates of a link that keeps parameters to evaluate with.

    Raises:
        TypeError: if one does.
    """
    kept: Any = None
    for link in links:
        # What a transformation of Optax does is not known, so it is not refused.
        if kept is not None and not (link.keeps_updates or link.is_foreign):
            raise misplaced(kept, f"`{link!r}` follows it in a chain and")
        kept = link if has_iterate(link) else kept


def check_around(tx: Transform, inner: Transform) -> None:
    """Check that a transformation around another one does not change the updates of an iterate.

    Raises:
        TypeError: if `inner` keeps parameters to evaluate with, and `tx` changes its updates.
    """
    if inner.traits.evaluates and not tx.keeps_updates:
        raise misplaced(inner, f"`{type(tx).__name__}` around it")


def misplaced(tx: Any, why: str) -> TypeError:
    """The error for a transformation that changes the updates of one that keeps an iterate."""
    return TypeError(
        f"`{tx!r}` computes the parameters to evaluate with from its own updates, but {why} changes "
        f"these updates. Put the whole optimizer inside: `{_keeper(tx)}(chain(...))`."
    )


def _keeper(tx: Transform) -> str:
    """The name of the transformation inside `tx` that keeps parameters to evaluate with."""
    if evaluates(tx):
        return type(tx).__name__
    return next(map(_keeper, filter(has_iterate, tx.children)))
