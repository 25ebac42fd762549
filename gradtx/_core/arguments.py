"""Sentences for calls whose arguments do not fit.

Python's own message for a constructor names a method that the caller has never written:
`adam.__init__() missing 1 required positional argument: 'learning_rate'`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def explained(method: Method) -> Method:
    """`method`, which raises a plain sentence if its arguments do not fit its signature.

    The arguments are examined only after the call has failed, so that a correct call costs no time.
    """

    @functools.wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except TypeError:
            cls = self if isinstance(self, type) else type(self)
            if problem := misfit(cls, method, args, kwargs):
                raise TypeError(problem) from None
            raise

    return call  # pyright: ignore[reportReturnType] - to a type checker the signature is the same


def misfit(
    cls: type, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """What is wrong with these arguments for a method of `cls`, or an empty string."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    kinds = {p.kind for p in parameters}
    any_position = inspect.Parameter.VAR_POSITIONAL in kinds
    any_name = inspect.Parameter.VAR_KEYWORD in kinds
    own = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    by_position = [p.name for p in own if p.kind is not p.KEYWORD_ONLY]
    names = [p.name for p in own]

    constructor = method.__name__ in ("__init__", "__new__")
    function = cls.__name__ if constructor else method.__name__
    shown = f"`{function}(...)`" if constructor else f"`{function}(...)` of `{cls.__name__}`"
    listed = (
        f"its argument is {names[0]}"
        if len(names) == 1
        else f"its arguments are {', '.join(names)}"
    )

    if not parameters and (args or kwargs):
        return f"{shown} takes no arguments."
    unknown = [name for name in kwargs if name not in names]
    if unknown and not any_name:
        instead = getattr(cls, "instead", {}).get(unknown[0])
        return f"{shown} has no argument `{unknown[0]}`; {instead or listed}."
    if len(args) > len(by_position) and not any_position:
        most = f"at most {len(by_position)}" if by_position else "no"
        noun = "argument" if len(by_position) == 1 else "arguments"
        instead = getattr(cls, "instead", {}).get("")
        return f"{shown} takes {most} {noun} by position, and got {len(args)}; {instead or listed}."
    given = by_position[: len(args)]
    if twice := [name for name in given if name in kwargs]:
        return f"{shown} got `{twice[0]}` twice, by its position and by its name."
    required = [p.name for p in own if p.default is p.empty]
    by_name = {p.name for p in own if p.kind is not p.POSITIONAL_ONLY} & {*kwargs}
    if missing := [name for name in required if name not in given and name not in by_name]:
        shortened = [*required, "..."] if any_position or len(names) > 3 else names
        call = ", ".join(shortened)
        needed = " and ".join(f"`{name}`" for name in missing)
        return f"{shown} needs {needed}: write `{function}({call})`."
    return ""
