"""The grammar of texts that describe values, and a recursive descent parser for it.

    expression  operand (operator operand)*          with the precedence of Python
    operator    "|" | "&" | "+" | "-" | "*" | "/"
    operand     ("+" | "-" | "~") operand | primary ("." method "(" arguments ")")*
    primary     number | string | name | name "(" arguments ")" | "(" expression ")"
                | tuple | list | dict

Nothing is evaluated as code. A name has the meaning that the vocabulary gives to it. The only attributes
are the methods of schedules, and there are no subscripts, so a text cannot reach any other object.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from gradtx._core.fields import is_value
from gradtx._core.values import Value
from gradtx._schedules.schedule import Schedule
from gradtx._text.budget import MOST_LEVELS, Budget
from gradtx._text.operators import BEFORE, BETWEEN, before_problem, between_problem
from gradtx._text.tokens import Source, Token
from gradtx._text.vocabulary import METHODS, SWEEPS, Called, suggestion

_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Parser(Source):
    """The parser. The methods that read an expression return its value and its height.

    The height is the number of levels at which expressions are nested in it.
    """

    def __init__(self, text: str, names: Mapping[str, Any], budget: Budget) -> None:
        super().__init__(text, budget)
        self.names, self.depth = names, 0

    def value(self) -> Value:
        """The value that the whole text describes."""
        first = self.look()
        value = self.literal()
        if not isinstance(value, Value):
            self.fail(first.at, "this is not a transformation, rule or schedule.")
        return value

    def literal(self) -> Any:
        """What the whole text describes, which may also be a number, a list or a function."""
        value, _ = self.expression()
        if self.look().kind != "end":
            self.unexpected()
        return value

    def expression(self, least: int = 0) -> tuple[Any, int]:
        """Read operands that are joined by operators of at least this precedence."""
        left, height = self.operand()
        while True:
            sign = self.look()
            if sign.kind != "sign" or sign.text not in BETWEEN or BETWEEN[sign.text][0] < least:
                return left, height
            self.advance()
            binds, function = BETWEEN[sign.text]
            right, other = self.expression(binds + 1)
            height = self.level(sign, height, other)
            if problem := between_problem(sign.text, left, right):
                self.fail(sign.at, f"{sign} {problem}.")
            cost = is_value(type(left)) or is_value(type(right))
            left = self.made(sign, function, left, right, cost=cost)

    def operand(self) -> tuple[Any, int]:
        token = self.look()
        self.depth += 1
        self.level(token, self.depth - 1)
        if token.kind == "sign" and token.text in BEFORE:
            self.advance()
            value, height = self.operand()
            if problem := before_problem(token.text, value):
                self.fail(token.at, f"{token} {problem}.")
            made = self.made(token, BEFORE[token.text], value, cost=is_value(type(value)))
            result = made, self.level(token, height)
        else:
            result = self.methods(*self.primary(token))
        self.depth -= 1
        return result

    def primary(self, token: Token) -> tuple[Any, int]:
        match token.kind:
            case "number":
                return self.number(self.advance()), 1
            case "string":
                return self.string(self.advance()), 1
            case "name":
                return self.named(self.advance())
            case "unclear":
                self.unclear(token)
            case "sign" if token.text in _CLOSING:
                return self.bracket(self.advance())
            case _:
                self.unexpected()

    def methods(self, value: Any, height: int) -> tuple[Any, int]:
        """Read the calls of methods after a schedule."""
        while dot := self.take("."):
            if not isinstance(value, Schedule):
                self.fail(dot.at, f"{dot} can stand only after a schedule.")
            name = self.advance()
            if name.text not in METHODS:
                self.unknown(name, METHODS, f"{name} is not a method of schedules", "methods")
            if not self.take("("):
                self.fail(name.at, f"{name} must be called: write `.{name.text}(...)`.")
            args, keywords, other = self.arguments(name, METHODS[name.text])
            value = self.made(name, getattr(value, name.text), *args, **keywords)
            height = self.level(name, height, other)
        return value, height

    def named(self, token: Token) -> tuple[Any, int]:
        if token.text not in self.names:
            if token.text == "gradtx" and self.take("."):
                self.fail(token.at, "write names without the prefix `gradtx.`.")
            if token.text in SWEEPS:
                problem = f"{token} makes several optimizers, and a text holds one."
                self.fail(token.at, f"{problem} {SWEEPS[token.text]}")
            self.unknown(token, self.names, f"{token} is not a name of gradtx")
        meaning = self.names[token.text]
        if not isinstance(meaning, Called):
            return meaning, 1
        if not self.take("("):
            self.fail(token.at, f"{token} must be called: write `{token.text}(...)`.")
        args, keywords, height = self.arguments(token, meaning)
        value = self.made(token, meaning.make, *args, cost=meaning.price(keywords), **keywords)
        return value, self.level(token, height)

    def arguments(self, owner: Token, callee: Called) -> tuple[list[Any], dict[str, Any], int]:
        """Read arguments up to the closing parenthesis."""
        args, keywords, height = [], {}, 0
        while not self.take(")"):
            name = self.keyword()
            if name is None and keywords:
                self.fail(self.look().at, "a positional argument follows a keyword.")
            if name and name.text not in callee.arguments:
                near = callee.without(name.text)
                self.fail(name.at, f"{owner} has no argument {name}{near}")
            if name and name.text in keywords:
                self.fail(name.at, f"the argument {name} is given twice.")
            value, other = self.expression()
            height = max(height, other)
            if name:
                keywords[name.text] = value
            else:
                args.append(value)
            self.separator(")")
        return args, keywords, height

    def keyword(self) -> Token | None:
        """The name of the next argument, if it is a keyword argument `name=value`."""
        if self.look().kind != "name" or self.look(1).text != "=":
            return None
        name = self.advance()
        self.advance()
        return name

    def bracket(self, opening: Token) -> tuple[Any, int]:
        """Read a tuple, a list, a dict, or an expression in parentheses."""
        closing, items, keys, height, comma = _CLOSING[opening.text], [], {}, 0, None
        while not self.take(closing):
            if closing == "}":
                keys[self.key(keys)] = None
            item, other = self.expression()
            items.append(item)
            height = max(height, other)
            comma = self.separator(closing)
        if closing == ")" and len(items) == 1 and not comma:
            return items[0], height
        made = {")": tuple, "]": list, "}": lambda x: dict(zip(keys, x, strict=True))}[closing]
        return made(items), self.level(opening, height)

    def key(self, before: Mapping[Any, None]) -> Any:
        token = self.look()
        key, _ = self.expression()
        if not isinstance(key, str | int | float | None):
            self.fail(token.at, "a key must be a string, a number, a bool or None.")
        if key in before:
            self.fail(token.at, f"the key {token} is given twice.")
        if not self.take(":"):
            self.unexpected()
        return key

    def take(self, sign: str) -> Token | None:
        """The next token, which is consumed, if it is this sign, else None."""
        token = self.look()
        return self.advance() if token.kind == "sign" and token.text == sign else None

    def separator(self, closing: str) -> Token | None:
        """The comma after an item. It may be missing before the closing bracket."""
        comma = self.take(",")
        if not comma and self.look().text != closing:
            self.unexpected()
        return comma

    def level(self, token: Token, *heights: int) -> int:
        """The height of an expression around others of these heights, unless it is too high."""
        height = 1 + max(heights)
        if height > MOST_LEVELS:
            self.fail(token.at, f"expressions are nested more than {MOST_LEVELS} levels deep.")
        return height

    def made(
        self, token: Token, make: Callable[..., Any], *args: Any, cost: int = 1, **keywords: Any
    ) -> Any:
        """The result of `make`. An error that it raises is reported at `token`."""
        if problem := self.budget.call(cost):
            self.fail(token.at, problem)
        try:
            value = make(*args, **keywords)
        except Exception as error:
            reason = str(error) or type(error).__name__
            self.fail(token.at, f"{token}: {reason}", error)
        if isinstance(value, int) and value.bit_length() > 1024:
            self.fail(token.at, "the number is too large.")
        return value

    def unexpected(self) -> NoReturn:
        token = self.look()
        self.fail(token.at, f"{token} cannot stand here.")

    def unknown(self, token: Token, names: Iterable[str], problem: str, what: str = "") -> NoReturn:
        self.fail(token.at, problem + suggestion(token.text, names, what))
