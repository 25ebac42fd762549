"""Which transformations keep parameters of their own to evaluate with, and where these may stand.

Most optimizers have one sequence of parameters. A wrapper that defines `eval_tree`, such as `averaged`,
has a second one, which is evaluated. It computes this sequence from the updates that it returns, so a
transformation around it, or after it in a chain, must not change these updates.
"""

from typing import Any

from gradtx._compose.wrapper import Wrapper
from gradtx._core.schedule import ScheduledState
from gradtx._core.transform import Transform


def evaluates(tx: Transform) -> bool:
    """Whether this transformation itself keeps parameters to evaluate with."""
    return hasattr(type(tx), "eval_tree")


def has_iterate(tx: Transform) -> bool:
    """Whether this transformation, or one inside it, keeps parameters to evaluate with."""
    known = tx.__dict__.get("_has_iterate")
    if known is None:
        known = evaluates(tx) or any(map(has_iterate, tx.children))
        tx.__dict__["_has_iterate"] = known
    return known


def check_links(links: tuple[Transform, ...]) -> None:
    """Check that no link changes the updates of a link that keeps parameters to evaluate with.

    Raises:
        TypeError: if one does.
    """
    kept: Any = None
    for link in links:
        if kept is not None and not keeps_updates(link):
            raise misplaced(kept, f"`{link!r}` follows it in a chain and")
        kept = link if has_iterate(link) else kept


def keeps_updates(tx: Any) -> bool:
    """Whether a transformation returns the updates that it got, or that its inner one returned.

    What a transformation of Optax does is not known, so it is believed to keep them.
    """
    return tx.is_foreign or bool(getattr(tx, "keeps_updates", False))


def misplaced(tx: Any, why: str) -> TypeError:
    """The error for a transformation that changes the updates of one that keeps an iterate."""
    return TypeError(
        f"`{tx!r}` computes the parameters to evaluate with from its own updates, but {why} changes "
        "these updates. Put the whole optimizer inside: `averaged(chain(...))`."
    )


def inner_of(tx: Any, state: Any) -> tuple[Transform, Any]:
    """The transformation inside a wrapper as it is run, and its state inside the wrapper's state.

    A wrapper that replaces numbers of the inner transformation by numbers of its state has a method
    `inner_at(state)`, which returns the inner transformation with these numbers.

    Raises:
        TypeError: if the wrapper keeps the inner state in another field than `inner` or `inner_state`.
    """
    if isinstance(state, ScheduledState) and tx.scheduled:
        state = state.inner
    tuned = hasattr(tx, "inner_at")
    inner = tx.inner_at(state) if tuned else tx.inner
    if not tuned and not _adds_state(type(tx)):
        return inner, state
    for name in ("inner", "inner_state"):
        if name in getattr(state, "_fields", ()):
            return inner, getattr(state, name)
    raise TypeError(
        f"The state of `{type(tx).__name__}` does not show where the state of `inner` lies. Return a "
        "NamedTuple that has a field `inner`."
    )


def _adds_state(kind: type) -> bool:
    """Whether a class of wrappers has a state of its own around the state of `inner`."""
    hooks = "init_tree", "init_leaf", "init_matrix"
    return any(getattr(kind, hook, None) is not getattr(Wrapper, hook, None) for hook in hooks)
