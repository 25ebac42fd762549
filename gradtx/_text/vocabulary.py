"""The names that a text or a configuration may use, and their meanings."""

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optax

from gradtx._compose.recipe import Recipe
from gradtx._core.authors import described
from gradtx._core.foreign import foreign
from gradtx._core.printed import DTYPES
from gradtx._core.values import Value
from gradtx._matrices.polar_express import polar_express
from gradtx._schedules.schedule import Schedule
from gradtx._text.arrays import jax_array, numpy_array
from gradtx._training.batch import Candidates

_LITERALS = {"None": None, "True": True, "False": False, "inf": math.inf, "nan": math.nan}
# How many ordinary calls take as long as one call of these.
_COSTS = {polar_express: 100, complex: 0}
# Public classes of several optimizers, which a text cannot hold.
SWEEPS = {
    name: f"Write one optimizer, and call `gradtx.{name}` in Python."
    for name in ("grid", "samples")
}
_NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY


class Called:
    """The meaning of a name that must be called.

    Args:
        make: the class or the function.

    Attributes:
        arguments: the names of its arguments.
        cost: how many ordinary calls take as long as one call of it.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        recipe = isinstance(make, type) and issubclass(make, Recipe)  # it makes all of its parts
        self.make, self.cost = make, _COSTS.get(make, 2 if recipe else 1)
        self.parameters = list(inspect.signature(make).parameters.values())
        self.arguments = [p.name for p in self.parameters if p.kind in _NAMED]
        # What to write instead of arguments that Optax has.
        self.instead: Mapping[str, str] = getattr(make, "instead", {})

    def without(self, name: str) -> str:
        """The end of a sentence about an argument that it does not have."""
        if name in self.instead:
            return f"; {self.instead[name]}."
        return suggestion(name, self.arguments, "arguments")

    def price(self, keywords: Mapping[str, Any]) -> int:
        """How many ordinary calls take as long as one with these keywords."""
        compiles = self.make is jax_array and keywords.get("weak_type") is True
        return 300 if compiles else self.cost

    @functools.cached_property
    def hints(self) -> Mapping[str, Any]:
        """The annotations of the arguments, and of the fields of a class."""
        make: Any = self.make
        init = make.__init__ if isinstance(make, type) else make
        own = inspect.get_annotations(init, eval_str=True) if inspect.isfunction(init) else {}
        return own | dict(getattr(make, "_hints", {}))

    def hint(self, parameter: inspect.Parameter | None) -> Any:
        """The annotation of one of the parameters, or None."""
        return None if parameter is None else self.hints.get(parameter.name)


def vocabulary(names: Mapping[str, Any] | None) -> dict[str, Any]:
    """The meaning of every name: `Called` for one that must be called, else the object itself.

    Args:
        names: the names that the user adds to those of gradtx.

    Raises:
        ValueError: if `names` is not a mapping.
    """
    if names is not None and not isinstance(names, Mapping):
        raise ValueError(f"`names` must map names to their meanings, not {described(names)}.")
    return _library() | _meanings(names or {})


@functools.cache
def _library() -> dict[str, Any]:
    import gradtx  # not at the top of this file, since gradtx imports it

    public = {k: x for k in gradtx.__all__ if not _excluded(x := getattr(gradtx, k))}
    called = {k: x for k, x in _meanings(public).items() if isinstance(x, Called)}
    arrays = {"Array": Called(jax_array), "array": Called(numpy_array), "complex": Called(complex)}
    return _LITERALS | {name: name for name in DTYPES} | arrays | called


def _excluded(x: Any) -> bool:
    """Whether a public object has no meaning in a text.

    Base classes have names that begin with a capital. A sweep is not the description of an optimizer.
    """
    if not isinstance(x, type) or not issubclass(x, Value):
        return False
    return x is foreign or x.__name__[0].isupper() or issubclass(x, Candidates)


def _meanings(names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Called(x) if _makes_values(x) else x for name, x in names.items()}


def _makes_values(x: Any) -> bool:
    """Whether `x` is a class of values, or a function that is annotated to return one."""
    made: Any = x.__annotations__.get("return") if inspect.isfunction(x) else x
    if x is polar_express:
        return True
    named_tuple = isinstance(made, type) and issubclass(made, tuple) and hasattr(made, "_fields")
    if named_tuple and not issubclass(made, optax.GradientTransformation):
        return made is x
    return isinstance(made, type) and issubclass(made, Value)


# The methods of schedules that a text may call.
METHODS: dict[str, Called] = {
    name: Called(functools.partial(method, None))  # without `self`
    for name, method in vars(Schedule).items()
    if inspect.isfunction(method) and not name.startswith("_")
}


def suggestion(name: str, known: Iterable[str], what: str = "") -> str:
    """The end of a sentence about an unknown name: the nearest known name, or a list of all.

    Args:
        name: the unknown name.
        known: the known names.
        what: what the names are, such as "arguments". If it is empty, the names are not listed.
    """
    known = list(known)
    cutoff = 0.5 if len(name) < 3 else 0.6  # `b3` is as near to `b2` as two letters can be
    if near := difflib.get_close_matches(name[:100], known, 1, cutoff):
        return f"; did you mean `{near[0]}`?"
    return f"; its {what} are {', '.join(known)}." if what and known else "."
