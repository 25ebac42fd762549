"""Splitting text into tokens, reading literals, and errors that point at a place in the text."""

import math
import re
from typing import NamedTuple, NoReturn

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
    | (?P<number>(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)
    | (?P<string>[A-Za-z]*(?:'(?:[^'\\\n\0]|\\.)*'|"(?:[^"\\\n\0]|\\.)*"))
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>[-+*/()\[\]{},:=&|~])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4}|.)"
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\", "'": "'", '"': '"'}


class Token(NamedTuple):
    """A token: its kind ("number", "string", "name", "sign" or "end"), its text and its position."""

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
    """A text and its tokens, of which the last one marks the end."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, at = text, [], 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                unclosed = text[at] in "'\""
                problem = (
                    "starts a string that does not end"
                    if unclosed
                    else "cannot occur in a text outside a string"
                )
                self.fail(at, f"{quoted(text[at])} {problem}.")
            if match.lastgroup != "space":
                self.tokens.append(Token(str(match.lastgroup), match.group(), at))
            at = match.end()
        self.tokens.append(Token("end", "", len(text)))

    def fail(self, at: int, problem: str, cause: BaseException | None = None) -> NoReturn:
        """Raise `ValueError` with the problem, and the line with a caret under the place."""
        start = self.text.rfind("\n", 0, at) + 1
        line, column = self.text[start:].split("\n", 1)[0], at - start
        left = max(0, column - 70)
        shown = "".join(c if c.isprintable() else " " for c in line[left : left + 100])
        place = f"line {self.text.count(chr(10), 0, at) + 1}, column {column + 1}"
        caret = " " * (column - left) + "^"
        raise ValueError(f"{place}: {problem}\n    {shown}\n    {caret}") from cause

    def number(self, token: Token) -> int | float:
        """The value of a number."""
        try:
            value = int(token.text) if token.text.replace("_", "").isdigit() else float(token.text)
        except ValueError:
            self.fail(token.at, f"{token} is not a number.")
        if value == math.inf:
            self.fail(token.at, f"{token} is too large a number; write `inf` for infinity.")
        return value

    def string(self, token: Token) -> str:
        """The value of a string, with the escapes that Python prints."""
        prefix, _, body = token.text[:-1].partition(token.text[-1])
        if prefix in ("r", "R"):
            return body
        if prefix:
            self.fail(token.at, f"a string can have the prefix `r`, and not `{prefix}`.")

        def escaped(match: re.Match[str]) -> str:
            code = match.group(1)
            if len(code) == 1 and code not in _ESCAPED:
                problem = f"`\\{code}` is not an escape; for a backslash write r'...'."
                self.fail(token.at + 1 + match.start(), problem)
            return _ESCAPED[code] if len(code) == 1 else chr(int(code[1:], 16))

        return _ESCAPE.sub(escaped, body)
