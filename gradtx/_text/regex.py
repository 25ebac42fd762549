"""Whether a regular expression from a text is searched in bounded time.

Python searches by trying all ways in which a pattern can match, one after the other. For `(a+)+b` their
number doubles with each letter. This module reads a pattern and bounds the number of ways, and a pattern
with too many ways is refused. The rules are:

- what is repeated must itself match in one way only, so it contains no `*`, `+`, `?` or `|`;
- the ways of parts in sequence are multiplied, and those of alternatives are added;
- an unbounded repetition counts as many ways as a path has letters, for which `_LENGTH` stands.

Three repetitions in sequence, such as `.*attention.*(query|key).*`, are within the limit.
"""

import re
from typing import NamedTuple

_LENGTH = 100
_MOST_WAYS = 5_000_000
_MOST_STEPS = 100_000
_MOST_REPETITIONS = 100
_MOST_LEVELS = 20
_WIDEST_RANGE = 256
_SPECIAL = re.compile(r"[*+?{|\[]")
_COUNT = re.compile(r"\{(?=[\d,])(\d*)(,?)(\d*)\}")
_GROUP = re.compile(r"\?(?::|=|!|<=|<!|>|P<\w+>|-?[ims]+:)")


class Cost(NamedTuple):
    """The number of ways in which a part of a pattern can match, and the number of steps of one way."""

    ways: int
    steps: int


class _Refused(Exception):
    pass


def problem_with(pattern: str) -> str:
    """Why a pattern may take too long, or an empty string.

    A pattern that is not a regular expression has no problem here: it is refused where it is used.

    Args:
        pattern: the regular expression. Any other string is fine, too.
    """
    if not _SPECIAL.search(pattern):
        return ""
    try:
        cost = _Reader(pattern).whole()
    except _Refused as refused:
        return str(refused)
    if cost.ways > _MOST_WAYS or cost.steps > _MOST_STEPS:
        return "it can match in too many ways; use at most three of `*` and `+` in sequence"
    return ""


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.text, self.at, self.ranges = pattern, 0, 0

    def whole(self) -> Cost:
        cost = self.alternatives(0)
        while self.at < len(self.text):  # a parenthesis that was not opened
            self.at += 1
            cost = _then(cost, self.alternatives(0))
        return cost

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def alternatives(self, level: int) -> Cost:
        if level > _MOST_LEVELS:
            raise _Refused(f"its groups are nested more than {_MOST_LEVELS} levels deep")
        cost = self.sequence(level)
        while self.peek() == "|":
            self.at += 1
            other = self.sequence(level)
            cost = Cost(_capped(cost.ways + other.ways), _capped(cost.steps + other.steps))
        return cost

    def sequence(self, level: int) -> Cost:
        cost = Cost(1, 1)
        while self.peek() not in ("", "|", ")"):
            cost = _then(cost, self.repeated(self.atom(level)))
        return cost

    def atom(self, level: int) -> Cost:
        sign = self.peek()
        self.at += 1
        if sign == "\\":
            escaped = self.peek()
            self.at += 1
            if escaped.isdigit() and escaped != "0":
                raise _Refused("it refers back to a group")
        elif sign == "[":
            self.set()
        elif sign == "(":
            if self.peek() == "?" and not self.take(_GROUP):
                raise _Refused(
                    "`(?` can be followed only by `:`, `=`, `!`, `<=`, `<!`, `P<name>` or `i:`"
                )
            cost = self.alternatives(level + 1)
            self.at += self.peek() == ")"
            return cost
        return Cost(1, 1)

    def set(self) -> None:
        """Read a set such as `[^/]` up to its end."""
        self.at += self.peek() == "^"
        first = True
        while self.peek() and (first or self.peek() != "]"):
            first = False
            low = self.letter()
            if self.peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self.letter()
                if len(low) == 1 == len(high) and ord(high) - ord(low) >= _WIDEST_RANGE:
                    raise _Refused("a range of letters in it is too wide")
                if len(low) > 1 or len(high) > 1:
                    raise _Refused("a range in it begins or ends with an escape")
                self.ranges += 1
        self.at += 1

    def letter(self) -> str:
        """The next letter of a set; an escape such as `\\d` has two."""
        length = 2 if self.peek() == "\\" else 1
        self.at += length
        return self.text[self.at - length : self.at]

    def repeated(self, body: Cost) -> Cost:
        """The cost of a part together with the quantifiers that follow it."""
        sign, low, high = self.peek(), 0, _LENGTH
        if sign and sign in "*+?":
            self.at += 1
            low, high = int(sign == "+"), 1 if sign == "?" else _LENGTH
        elif sign == "{" and (count := self.take(_COUNT)):
            given = [int(x) for x in (count[1] or "0", count[3] or "0")]
            if max(given) > _MOST_REPETITIONS:
                raise _Refused(f"it asks for more than {_MOST_REPETITIONS} repetitions")
            low = given[0]
            high = low if not count[2] else given[1] if count[3] else _LENGTH
        else:
            return body
        if self.peek() and self.peek() in "?+":  # as few as possible, or without going back
            self.at += 1
        if high > 1 and body.ways > 1:
            raise _Refused(
                "what is repeated in it can match in several ways; repeat only a fixed sequence of "
                "letters and sets, such as `[ab]*` instead of `(a|b)*`"
            )
        if high <= 1:
            return Cost(body.ways + 1, body.steps)
        return Cost(max(high - low, 0) + 1, _capped(body.steps * high))


def _then(first: Cost, second: Cost) -> Cost:
    return Cost(_capped(first.ways * second.ways), _capped(first.steps + second.steps))


def _capped(x: int) -> int:
    return min(x, 10 * _MOST_WAYS)
