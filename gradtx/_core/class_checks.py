"""Checks of an author's class, made when the class is defined."""

import itertools
from typing import Any

# The methods that an author may write, and for each of them the base class that calls it.
_CALLED_BY = {
    "init_leaf": "Elementwise",
    "update_leaf": "Elementwise",
    "at_leaf": "Elementwise",
    "init_matrix": "Matrixwise",
    "update_matrix": "Matrixwise",
    "init_tree": "Transform",
    "update_tree": "Transform",
    "measure": "Elementwise",
    "begin": "Elementwise",
    "expand": "Recipe",
}

# What a class that was written for version 0.1 may define, and what to write instead.
_REMOVED = {
    "init_shared": "Put `gradtx.shared(...)` into the state in `init_leaf`, and advance it in `begin`",
    "looks": "Write `measure` instead of `look`, and `begin` instead of `advance`",
    "marked": "Write `at_leaf` instead of `marks` and `marked`",
}


def check_class(cls: type, root: type) -> None:
    """Check an author's class when it is defined.

    Raises:
        TypeError: if it defines a method that the library would never call, or what only version 0.1
            used, if `limits` names something that is not a field, or if its base classes stand in an
            order that does not work.
    """
    for method in ("init", "update"):
        if method in vars(cls) and root in cls.__mro__[1:]:
            raise TypeError(
                f"`{cls.__name__}.{method}` would not be called in a composition: `{method}` is for "
                "callers from outside, and checks what they pass. Write "
                f"`{method}_leaf` in a subclass of `Elementwise`, or `{method}_tree` in a subclass of "
                "`Transform`."
            )
    for name in cls.limits:  # pyright: ignore
        if name not in cls._hints:  # pyright: ignore
            own = ", ".join(map("`{}`".format, cls._hints)) or "it has none"  # pyright: ignore
            raise TypeError(
                f"`limits` of `{cls.__name__}` names {name!r}, which is not one of the fields of "
                f"`{cls.__name__}`: {own}. Name one of the fields, or declare {name!r} as a field."
            )
    if "_hooks" in vars(cls):
        return  # a base class of this library; `_hooks` lists the methods that it calls
    for name, remedy in _REMOVED.items():
        if name in vars(cls) and name not in cls._hints:  # pyright: ignore
            raise TypeError(
                f"`{cls.__name__}.{name}` belongs to version 0.1, and the library no longer reads it. "
                f"{remedy}."
            )
    bases: Any = [base for base in cls.__bases__ if issubclass(base, root)]
    for before, base in itertools.pairwise(bases):
        if base.wraps and not before.wraps:
            names = ", ".join(b.__name__ for b in sorted(bases, key=lambda b: not b.wraps))
            raise TypeError(
                f"`{cls.__name__}` derives from `{before.__name__}` before `{base.__name__}`, so the "
                f"methods of `{before.__name__}` would hide those of `{base.__name__}`. Write "
                f"`class {cls.__name__}({names})`."
            )
    kinds = [base for base in cls.__mro__ if "_hooks" in vars(base) and base is not root]
    kind: Any = kinds[-2 if len(kinds) > 1 and not kinds[-1]._hooks else -1] if kinds else root
    for hook, base in _CALLED_BY.items():
        if hook in vars(cls) and hook not in {*kind._hooks, *cls._hints}:  # pyright: ignore
            own, remedy = f"`{kind.__name__}`", f"`{base}`"
            if cls.wraps and base != "Recipe":  # pyright: ignore
                own = f"`Wrapper` and {own}" if kind.__name__ != "Wrapper" else own
                remedy = "`Wrapper` alone" if base == "Transform" else f"`Wrapper` and `{base}`"
            raise TypeError(
                f"`{cls.__name__}.{hook}` would never be called: `{cls.__name__}` is a subclass of "
                f"{own}, which calls {', '.join(kind._hooks)}. Derive it from {remedy}, or write one of "
                "the methods that are called."
            )
