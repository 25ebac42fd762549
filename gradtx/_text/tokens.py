"""Text as tokens, literals as Python values, and errors that point at the place."""

import math
import re
from typing import NamedTuple, NoReturn

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
    | (?P<number>(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)
    | (?P<string>[A-Za-z]*(?:'(?:[^'\\\n\0]|\\.)*'|"(?:[^"\\\n\0]|\\.)*"))
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>[-+*/()\[\]{},:=])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|U0010[0-9a-fA-F]{4}|.)"
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\", "'": "'", '"': '"'}


class Token(NamedTuple):
    """A piece of text: "number", "string", "name", "sign" or "end", and where it starts."""

    kind: str
    text: str
    at: int

    def __str__(self) -> str:
        return quoted(self.text) if self.text else "the end of the text"


def quoted(text: str) -> str:
    """`text` for a message: printable, and not too long."""
    text = text if len(text) <= 40 else text[:37] + "..."
    return f"`{text}`" if text.isprintable() else repr(text)


class Source:
    """A text that knows its tokens, the last of which is its end."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, at = text, [], 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                unclosed = text[at] in "'\""
                problem = (
                    "starts a string that does not end"
                    if unclosed
                    else "is not part of the language"
                )
                self.fail(at, f"{quoted(text[at])} {problem}.")
            if match.lastgroup != "space":
                self.tokens.append(Token(str(match.lastgroup), match.group(), at))
            at = match.end()
        self.tokens.append(Token("end", "", len(text)))

    def fail(self, at: int, problem: str, cause: BaseException | None = None) -> NoReturn:
        """Raise `ValueError`: what is wrong, and the line with a caret under the place."""
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
            self.fail(token.at, f"{token} is no number.")
        if value == math.inf:
            self.fail(token.at, f"{token} is too large a number; write `inf` for infinity.")
        return value

    def string(self, token: Token) -> str:
        """The value of a string, with the escapes that Python prints."""
        prefix, _, body = token.text[:-1].partition(token.text[-1])
        if prefix in ("r", "R"):
            return body
        if prefix:
            self.fail(token.at, f"strings have no prefix `{prefix}` but `r`.")

        def escaped(match: re.Match[str]) -> str:
            code = match.group(1)
            if len(code) == 1 and code not in _ESCAPED:
                self.fail(token.at + 1 + match.start(), f"`\\{code}` means nothing; write r'...'.")
            return _ESCAPED[code] if len(code) == 1 else chr(int(code[1:], 16))

        return _ESCAPE.sub(escaped, body)
