"""The grammar of texts that describe values, and a recursive descent parser for it.

    either   both ("|" both)*
    both     sum ("&" sum)*
    sum      product (("+" | "-") product)*
    product  factor (("*" | "/") factor)*
    factor   ("+" | "-" | "~") factor | number | string | name | name "(" arguments ")"
             | "(" either ")" | tuple | list | dict

Nothing is evaluated as code. A name has the meaning that the vocabulary gives to it, and the grammar has
no attributes or subscripts by which a text could reach any other object.
"""

import difflib
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import jax
import numpy as np

from gradtx._compose.rules import Rule
from gradtx._core.transform import Transform
from gradtx._core.values import Value
from gradtx._text.tokens import Source, Token

# How deep expressions may be nested. The functions that walk through a value are recursive, so a deeply
# nested value could exceed Python's limit on recursion.
_MAX_DEPTH = 50

_OPERATORS: list[dict[str, Callable[[Any, Any], Any]]] = [
    {"|": operator.or_},
    {"&": operator.and_},
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": operator.truediv},
]
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Called:
    """The meaning of a name that must be called: the constructor, and the names of its arguments."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        self.arguments = [
            p.name for p in inspect.signature(make).parameters.values() if p.kind in named
        ]


class Parser(Source):
    """The parser. The methods that read an expression return its value and its height.

    The height is the number of levels at which expressions are nested in it.
    """

    def __init__(self, text: str, names: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.names, self.next, self.depth = names, 0, 0

    def value(self) -> Value:
        """The value that the whole text describes."""
        value, _ = self.sum()
        if self.tokens[self.next].kind != "end":
            self.unexpected()
        if not isinstance(value, Value):
            self.fail(self.tokens[0].at, "this is not a transformation, rule or schedule.")
        return value

    def sum(self, rank: int = 0) -> tuple[Any, int]:
        if rank == len(_OPERATORS):
            return self.factor()
        left, height = self.sum(rank + 1)
        while sign := self.take(*_OPERATORS[rank]):
            right, other = self.sum(rank + 1)
            height = self.level(sign, height, other)
            rules = sign.text in "|&"
            if not (_combinable(left, right) if rules else _joinable(left, right)):
                kinds = "rules" if rules else "transformations and numbers"
                self.fail(sign.at, f"{sign} can stand only between {kinds}.")
            left = self.made(sign, _OPERATORS[rank][sign.text], left, right)
        return left, height

    def factor(self) -> tuple[Any, int]:
        token = self.tokens[self.next]
        self.next += 1
        self.depth += 1
        self.level(token, self.depth - 1)
        match token.kind:
            case "number":
                result = self.number(token), 1
            case "string":
                result = self.string(token), 1
            case "name":
                result = self.named(token)
            case "sign" if token.text in "+-":
                number, height = self.factor()
                if type(number) not in (int, float):
                    self.fail(token.at, f"{token} can stand only before a number.")
                result = (-number if token.text == "-" else number), self.level(token, height)
            case "sign" if token.text == "~":
                rule, height = self.factor()
                if not isinstance(rule, Rule):
                    self.fail(token.at, f"{token} can stand only before a rule.")
                result = self.made(token, operator.invert, rule), self.level(token, height)
            case "sign" if token.text in _CLOSING:
                result = self.bracket(token)
            case _:
                self.next -= 1
                self.unexpected()
        self.depth -= 1
        return result

    def named(self, token: Token) -> tuple[Any, int]:
        if token.text not in self.names:
            self.unknown(token, self.names, f"{token} is not a name of gradtx")
        meaning = self.names[token.text]
        if not isinstance(meaning, Called):
            return meaning, 1
        if not self.take("("):
            self.fail(token.at, f"{token} must be called: write `{token.text}(...)`.")
        args, keywords, heights = [], {}, [0]
        while not self.take(")"):
            name = self.keyword()
            if name is None and keywords:
                self.fail(self.tokens[self.next].at, "a positional argument follows a keyword.")
            if name and name.text not in meaning.arguments:
                self.unknown(name, meaning.arguments, f"{token} has no argument {name}")
            if name and name.text in keywords:
                self.fail(name.at, f"the argument {name} is given twice.")
            value, height = self.sum()
            heights.append(height)
            if name:
                keywords[name.text] = value
            else:
                args.append(value)
            self.separator(")")
        return self.made(token, meaning.make, *args, **keywords), self.level(token, *heights)

    def keyword(self) -> Token | None:
        """The name of the next argument, if it is a keyword argument `name=value`."""
        name = self.tokens[self.next]
        if name.kind != "name" or self.tokens[self.next + 1].text != "=":
            return None
        self.next += 2
        return name

    def bracket(self, opening: Token) -> tuple[Any, int]:
        """Read a tuple, a list, a dict, or an expression in parentheses."""
        closing, items, keys, heights, comma = _CLOSING[opening.text], [], [], [0], None
        while not self.take(closing):
            if closing == "}":
                keys.append(self.key(keys))
            item, height = self.sum()
            items.append(item)
            heights.append(height)
            comma = self.separator(closing)
        if closing == ")" and len(items) == 1 and not comma:
            return items[0], heights[1]
        made = {")": tuple, "]": list, "}": lambda x: dict(zip(keys, x, strict=True))}[closing]
        return made(items), self.level(opening, *heights)

    def key(self, before: list[Any]) -> Any:
        token = self.tokens[self.next]
        key, _ = self.sum()
        if not isinstance(key, str | int | float | None):
            self.fail(token.at, "a key must be a string, a number, a bool or None.")
        if key in before:
            self.fail(token.at, f"the key {token} is given twice.")
        if not self.take(":"):
            self.unexpected()
        return key

    def take(self, *signs: str) -> Token | None:
        """The next token, if it is one of these signs, else None."""
        token = self.tokens[self.next]
        if token.kind != "sign" or token.text not in signs:
            return None
        self.next += 1
        return token

    def separator(self, closing: str) -> Token | None:
        """The comma after an item. It may be missing before the closing bracket."""
        comma = self.take(",")
        if not comma and self.tokens[self.next].text != closing:
            self.unexpected()
        return comma

    def level(self, token: Token, *heights: int) -> int:
        """The height of an expression around others of these heights, unless it is too high."""
        height = 1 + max(heights)
        if height > _MAX_DEPTH:
            self.fail(token.at, f"expressions are nested more than {_MAX_DEPTH} levels deep.")
        return height

    def made(self, token: Token, make: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """The result of `make`. An error that it raises is reported at `token`."""
        try:
            return make(*args, **keywords)
        except Exception as error:
            reason = str(error) or type(error).__name__
            self.fail(token.at, f"{token}: {reason}", error)

    def unexpected(self) -> NoReturn:
        token = self.tokens[self.next]
        self.fail(token.at, f"{token} cannot stand here.")

    def unknown(self, token: Token, names: Iterable[str], problem: str) -> NoReturn:
        known = list(names)
        near = difflib.get_close_matches(token.text[:100], known, 1)
        listed = "" if len(known) > 40 else f"; its arguments are {', '.join(known)}"
        hint = f"; did you mean `{near[0]}`?" if near else f"{listed}."
        self.fail(token.at, problem + hint)


def _combinable(left: Any, right: Any) -> bool:
    return any(isinstance(x, Rule) for x in (left, right)) and callable(left) and callable(right)


def _joinable(*operands: Any) -> bool:
    numbers = [type(x) in (int, float) for x in operands]
    branches = [isinstance(x, Value | jax.Array | np.ndarray) for x in operands]
    some = any(isinstance(x, Transform) for x in operands)
    return all(numbers) or (some and all(map(operator.or_, numbers, branches)))
