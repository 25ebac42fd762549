"""`gradtx.to_config`: writing optimizers as mappings, lists, strings and numbers."""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from gradtx._compose.chain import chain
from gradtx._compose.labels import label_tree
from gradtx._core.authors import described
from gradtx._core.printed import printing
from gradtx._core.static import show
from gradtx._core.values import Value, is_default
from gradtx._text.budget import Budget
from gradtx._text.kinds import is_call, takes_values, union_members
from gradtx._text.tokens import Source
from gradtx._text.vocabulary import Called, vocabulary


def to_config(tx: Value) -> Any:
    """A transformation, rule or schedule as mappings, lists, strings and numbers.

    TOML, YAML and JSON can write the result, and `from_config` reads it. Fields with their default
    values are left out, and None does not occur, since TOML does not have it. The order of mappings has
    a meaning in rules, so pass `sort_keys=False` to `yaml.dump`.

    Args:
        tx: the transformation, rule or schedule.

    Raises:
        TypeError: if `tx` is not a value of gradtx.
        ValueError: if `tx` contains something that a text cannot name: a transformation of Optax, a
            function without a name, or two different functions of one name.

    >>> import gradtx
    >>> gradtx.to_config(gradtx.chain(gradtx.clip(1.0), gradtx.adamw(1e-3, b2=0.95)))
    [{'clip': 1.0}, {'adamw': {'learning_rate': 0.001, 'b2': 0.95}}]
    """
    if not isinstance(tx, Value):
        raise TypeError(f"`to_config(tx)` needs a value of gradtx, not {described(tx)}.")
    with printing():
        return _Writer().value(tx, type(tx).__name__)


class _Writer:
    """What writes the parts of one value. Every method gets the place of its part."""

    def __init__(self) -> None:
        self.names = vocabulary(None)

    def value(self, x: Any, place: str) -> Any:
        """Write what stands where a value or a number stands."""
        if isinstance(x, bool):
            return x
        if isinstance(x, int | float):
            return x if math.isfinite(x) else str(x)
        if type(x) is chain:
            return [self.value(link, f"{place}[{i}]") for i, link in enumerate(x.links)]
        return self.call(x, place) if self.is_called(x) else self.text(x, place)

    def static(self, x: Any, place: str) -> Any:
        """Write what stands where labels, flags, patterns and dtypes stand."""
        labels = isinstance(x, label_tree)
        x = x.tree if labels else x
        plain = self.plain(x, labels)
        if plain is not None:
            return plain
        if self.is_called(x):
            made = self.call(x, place)
            if is_call(made, self.names | {type(x).__name__: Called(type(x))}):
                return made
        return {"parse": self.text(x, place)}

    def plain(self, x: Any, labels: bool) -> Any:
        """`x` in a form that is read back as `x` itself, or None.

        A field turns lists into tuples, but a tree of labels keeps both.
        """
        if isinstance(x, str | bool | int) or (isinstance(x, float) and math.isfinite(x)):
            return x
        if type(x) is list or (type(x) is tuple and not labels):
            parts = [self.plain(y, labels) for y in x]
            return None if any(y is None for y in parts) else parts
        if isinstance(x, Mapping) and all(isinstance(k, str) for k in x):
            parts = {k: self.plain(y, labels) for k, y in x.items()}
            unclear = is_call(parts, self.names) or any(y is None for y in parts.values())
            return None if unclear else parts
        return None

    def is_called(self, x: Any) -> bool:
        """Whether a value is made by calling its class by its name."""
        if not isinstance(x, Value):
            return False
        kind = type(x)
        known = self.names.get(kind.__name__)
        if isinstance(known, Called):
            return known.make is kind
        return kind.__module__.partition(".")[0] != __name__.partition(".")[0]

    def call(self, x: Any, place: str) -> Any:
        name = show(type(x))
        self.check(name, place)
        given = {}
        for field in dataclasses.fields(x):
            value = getattr(x, field.name)
            required = field.default is dataclasses.MISSING and not field.kw_only
            if required or not is_default(value, field.default):
                inside = f"{place}.{field.name}"
                hint = x._hints[field.name]
                given[field.name] = self.field(x, field.name, hint, value, inside)
        only = _single(x, given)
        return {name: given if only is None else only}

    def field(self, owner: Any, name: str, hint: Any, x: Any, place: str) -> Any:
        if not takes_values(hint):
            return self.static(x, place)
        members = union_members(hint)
        origins = [typing.get_origin(member) for member in members]
        if isinstance(x, Mapping) and Mapping in origins:
            named = {k if isinstance(k, str) else str(k): k for k in x}
            kind = typing.get_args(members[origins.index(Mapping)])[0]
            same = all(type(k) is (int if kind is int else str) for k in x)
            if [*named] == ["parse"] or not same:
                return self.text(x, place)
            return {k: self.number(owner, name, x[own], place) for k, own in named.items()}
        if type(x) is tuple and (tuple in origins or Sequence in origins):
            if any(isinstance(y, tuple | Mapping) and not isinstance(y, Value) for y in x):
                return self.text(x, place)
            return [self.number(owner, name, y, f"{place}[{i}]") for i, y in enumerate(x)]
        return self.number(owner, name, x, place)

    def number(self, owner: Any, name: str, x: Any, place: str) -> Any:
        """Like `value`, except that a number of steps has no decimal point."""
        written = self.value(x, place)
        shown = owner._shown(name, x) if isinstance(written, float) else ""
        return int(shown) if shown.lstrip("-").isdigit() else written

    def text(self, x: Any, place: str) -> str:
        """The text of anything else: a number as a string, an array, a function, an expression."""
        text = show(x)
        self.check(text, place)
        return text

    def check(self, text: str, place: str) -> None:
        """Refuse a text with something that is not a name."""
        source = Source(text, Budget())
        try:
            while (token := source.look()).kind != "end":
                if token.kind == "unclear":
                    source.unclear(token)
                if token.text == "foreign":
                    self.fail(place, "a transformation of Optax cannot be written", text)
                source.advance()
        except ValueError as error:
            self.fail(place, str(error).partition("\n")[0].partition(": ")[2], text)

    def fail(self, place: str, problem: str, text: str) -> NoReturn:
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise ValueError(f"`{place}`, which prints as {shown!r}: {problem}")


def _single(x: Any, given: dict[str, Any]) -> Any:
    """The only argument, if `from_config` reads it without its name, else None."""
    called = Called(type(x))
    first = [p.name for p in called.parameters if p.kind is not p.KEYWORD_ONLY][:1]
    if len(given) != 1 or [*given] != first:
        return None
    [only] = given.values()
    if not isinstance(only, dict):
        return only if isinstance(only, str | bool | int | float) else None
    is_text = [*only] == ["parse"] and isinstance(only["parse"], str)
    is_value = isinstance(getattr(x, first[0]), Value) and len(only) == 1
    return only if (is_text or is_value) and next(iter(only)) not in called.arguments else None
