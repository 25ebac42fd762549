"""Reading optimizers from the text of configuration files, command lines and logs."""

from collections.abc import Mapping
from typing import Any

from gradtx._core.authors import described
from gradtx._text.budget import Budget
from gradtx._text.grammar import Parser
from gradtx._text.vocabulary import vocabulary


def parse(text: str, names: Mapping[str, Any] | None = None) -> Any:
    """The transformation, rule or schedule that a text describes, read without evaluating code.

    `parse(repr(tx)) == tx` holds for every `tx` that contains no function written by the user. With
    functions, `parse(repr(tx), names)` is `tx` if `names` has them, and an error if it does not, or if
    two different functions in `tx` have the same name. Any text is read or refused within two seconds.

    Args:
        text: calls of gradtx's public names with positional and keyword arguments; numbers, `inf`,
            strings, `True`, `False`, `None`, tuples, lists and dicts; `+ - * /` between transformations,
            schedules and numbers; the methods of schedules; `& | ~` between rules; arrays as values,
            JAX and NumPy print them; comments and line breaks. A text has at most 100,000 characters,
            50 levels and 1,000 calls, and a string in it has at most 2,000 characters.
        names: more names that the text may use, and their meanings. A class of values is called in the
            text; every other object, such as a schedule or a function, is used by its name alone.

    Raises:
        ValueError: if `text` is not a string, if it contains anything else, if a string in it is a
            pattern that may take too long to search, or if a constructor refuses its arguments. The
            message shows the line with a caret under the place, and suggests the nearest name.

    >>> import gradtx
    >>> gradtx.parse("chain(clip_by_global_norm(1.0), adamw(3e-4, b2=0.95))")
    chain(clip_by_global_norm(1.0), adamw(0.0003, b2=0.95))
    >>> gradtx.parse("sgd(2 * cosine_decay_schedule(0.1, 1000).max(1e-3))")
    sgd(2.0 * cosine_decay_schedule(0.1, 1000).max(0.001))
    """
    if not isinstance(text, str):
        raise ValueError(f"`parse(text)` needs a string, not {described(text)}.")
    budget = Budget()
    if problem := budget.read(len(text)):
        raise ValueError(f"`parse(text)`: {problem}")
    return Parser(text, vocabulary(names), budget).value()
