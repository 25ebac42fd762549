"""Splitting text into tokens, reading literals, and errors that point at a place in the text."""

import math
import re
from collections import deque
from typing import NamedTuple, NoReturn

from gradtx._text.budget import Budget
from gradtx._text.regex import problem_with

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    | (?P<number>(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?[jJ]?)
    | (?P<string>[A-Za-z]{0,2}(?:'[^'\\\n\0]*(?:\\.[^'\\\n\0]*)*'|"[^"\\\n\0]*(?:\\.[^"\\\n\0]*)*"))
    | (?P<unclear>(?:[^\W\d]\w*|<[^<>\n]+>)(?:<[0-9]+>)|<[^<>\n]+>)
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>[-+*/()\[\]{},:=&|~.])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4}|.)"
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\", "'": "'", '"': '"'}
_LONGEST_STRING = 2000
_LONGEST_PROBLEM = 2000


class Token(NamedTuple):
    """A token: its kind ("number", "string", "name", "unclear", "sign" or "end"), text and position."""

    kind: str
    text: str
    at: int

    def __str__(self) -> str:
        return quoted(self.text) if self.text else "the end of the text"


def quoted(text: str) -> str:
    """`text` in the form in which a message shows it: printable, and at most 40 characters long."""
    text = text if len(text) <= 40 else text[:37] + "..."
    return f"`{text}`" if text.isprintable() else repr(text)


class Source:
    """A text that is read token by token, without holding all tokens at once."""

    def __init__(self, text: str, budget: Budget) -> None:
        self.text, self.budget = text, budget
        self._at, self._ahead = 0, deque[Token]()

    def look(self, ahead: int = 0) -> Token:
        """The next token, or one that comes later; it is not consumed."""
        while len(self._ahead) <= ahead:
            self._ahead.append(self._read())
        return self._ahead[ahead]

    def advance(self) -> Token:
        """The next token, which is consumed."""
        token = self.look()
        self._ahead.popleft()
        return token

    def _read(self) -> Token:
        text = self.text
        while self._at < len(text):
            at = self._at
            match = _TOKEN.match(text, at)
            if match is None:
                unclosed = text[at] in "'\""
                problem = (
                    "starts a string that does not end"
                    if unclosed
                    else "cannot occur in a text outside a string"
                )
                self.fail(at, f"{quoted(text[at])} {problem}.")
            self._at = match.end()
            if match.lastgroup != "space":
                return Token(str(match.lastgroup), match.group(), at)
        return Token("end", "", len(text))

    def fail(self, at: int, problem: str, cause: BaseException | None = None) -> NoReturn:
        """Raise `ValueError` with the problem, and the line with a caret under the place."""
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", start)
        line, column = self.text[start : end if end >= 0 else None], at - start
        left = max(0, column - 70)
        shown = "".join(c if c.isprintable() else " " for c in line[left : left + 100])
        place = f"line {self.text.count(chr(10), 0, at) + 1}, column {column + 1}"
        caret = " " * (column - left) + "^"
        if len(problem) > _LONGEST_PROBLEM:
            problem = problem[:_LONGEST_PROBLEM] + " ..."
        raise ValueError(f"{place}: {problem}\n    {shown}\n    {caret}") from cause

    def number(self, token: Token) -> int | float | complex:
        """The value of a number."""
        digits = token.text.rstrip("jJ")
        try:
            value = int(digits) if digits.replace("_", "").isdigit() else float(digits)
        except ValueError:
            self.fail(token.at, f"{token} is not a number.")
        if value == math.inf:
            self.fail(token.at, f"{token} is too large a number; write `inf` for infinity.")
        return value if digits == token.text else complex(0, value)

    def string(self, token: Token) -> str:
        """The value of a string, with the escapes that Python prints."""
        prefix, _, body = token.text[:-1].partition(token.text[-1])
        if prefix not in ("r", "R", ""):
            self.fail(token.at, f"a string can have the prefix `r`, and not `{prefix}`.")

        def escaped(match: re.Match[str]) -> str:
            code = match.group(1)
            if len(code) == 1 and code not in _ESCAPED:
                problem = f"`\\{code}` is not an escape; for a backslash write r'...'."
                self.fail(token.at + 1 + match.start(), problem)
            return _ESCAPED[code] if len(code) == 1 else chr(int(code[1:], 16))

        value = body if prefix else _ESCAPE.sub(escaped, body)
        if problem := string_problem(value, self.budget):
            self.fail(token.at, problem)
        return value

    def unclear(self, token: Token) -> NoReturn:
        """Refuse what a value prints for a function that a text cannot name."""
        name, second, _ = token.text.partition("<")
        if name and second:
            self.fail(
                token.at,
                f"{token} stands for a function or a class whose name `{name}` also has another meaning "
                "in this text. Give it a name of its own and print the value again; or write a name of "
                "its own here, and pass its meaning in `names`.",
            )
        self.fail(
            token.at,
            f"{token} is not a name. Write a name here, and pass its meaning in `names`.",
        )


def string_problem(value: str, budget: Budget) -> str:
    """What is wrong with a string in a text or a configuration, or an empty string.

    Whether a string is a pattern is known only where it is used, so every string has to be a pattern
    that is searched in bounded time.
    """
    if len(value) > _LONGEST_STRING:
        return f"a string can have at most {_LONGEST_STRING} characters, and this one has {len(value)}."
    if "[" in value and (problem := budget.call(1 + value.count("-") // 16)):
        return problem
    if problem := problem_with(value):
        return f"{quoted(value)} may take too long to search, if it is a pattern: {problem}."
    return ""
