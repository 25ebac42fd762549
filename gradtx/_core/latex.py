"""Expressions in LaTeX, within the subset that MathJax, KaTeX and matplotlib all understand."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradtx._core.static import show, static


class Tex(NamedTuple):
    """An expression in LaTeX, and how tightly it binds: 0 for a sum, 1 for a product, 2 for a symbol."""

    text: str
    rank: int = 2

    def within(self, rank: int) -> str:
        """The text, in parentheses if the expression binds less tightly than `rank`."""
        return self.text if self.rank >= rank else rf"\left({self.text}\right)"


class Page:
    """The definitions of the symbols in an equation, in the order in which they are needed."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}

    def define(self, letter: str, definition: Callable[[str], Tex]) -> Tex:
        """A symbol with its definition; a letter that has another definition already gets a prime.

        Args:
            letter: the letter of the symbol.
            definition: returns the defining expression, given the letter with its primes.
        """
        name = letter
        while self.lines.setdefault(f"{name}_t", text := definition(name).text) != text:
            name += "'"
        return Tex(f"{name}_t")

    def symbol(self, x: Tex) -> Tex:
        """A symbol for the expression `x`, so that it can be used several times."""
        return x if x.text == "g_t" or x.text in self.lines else self.define("x", lambda _: x)

    def average(
        self, letter: str, decay: Any, new: Tex, *, weight: Tex | None = None, initial: Any = 0.0
    ) -> Tex:
        """A symbol for a running average.

        Args:
            letter: the letter of the symbol.
            decay: the decay of the average.
            new: the expression that is averaged.
            weight: the factor of `new`; None means one minus the decay.
            initial: the value of the average before the first step.
        """
        new = times(complement(decay) if weight is None else weight, new)

        def definition(m: str) -> Tex:
            zero = isinstance(initial, float) and initial == 0
            start = "" if zero else rf",\quad {m}_0 = {number(initial).text}"
            return Tex(plus(times(number(decay), Tex(f"{m}_{{t-1}}")), new).text + start)

        return self.define(letter, definition)


def escape(text: str) -> str:
    """`text` for upright letters, without the characters that LaTeX would read as markup."""
    return re.sub(r"[^\w .,()=+/:-]", "", text).replace("_", r"\_").replace(" ", r"\ ")


def number(x: Any, step: str = "t-1") -> Tex:
    """A hyperparameter: its digits, or a schedule as a function of `step`.

    A schedule is evaluated at 0 in the first step, which is $t = 1$, hence at $t - 1$.
    """
    if callable(x):
        name = show(x) if isinstance(x, static) else type(x).__name__
        return Tex(rf"\operatorname{{{escape(name)}}}({step})")
    if np.ndim(x):
        return Tex(r"\mathrm{array}")
    x = float(x)
    if not math.isfinite(x):
        return Tex(r"\mathrm{nan}" if math.isnan(x) else r"\infty" if x > 0 else r"-\infty")
    mantissa, _, exponent = f"{x:.12g}".partition("e")
    if not exponent:
        return Tex(mantissa)
    power = rf"10^{{{int(exponent)}}}"
    return Tex({"1": power, "-1": "-" + power}.get(mantissa, rf"{mantissa} \cdot {power}"), 1)


def complement(decay: Any) -> Tex:
    """One minus a decay."""
    if isinstance(decay, float):
        return number(float(f"{1 - decay:.12g}"))
    return plus(Tex("1"), number(decay), "-")


def plus(a: Tex, b: Tex, sign: str = "+") -> Tex:
    """The sum `a + b`, or the difference `a - b` for the sign `-`."""
    if b.text == "0" or (a.text == "0" and sign == "+"):
        return a if b.text == "0" else b
    text = b.within(1) if sign == "-" else b.text
    if text.startswith("-"):
        sign, text = {"+": "-", "-": "+"}[sign], text[1:]
    return Tex(f"{a.text} {sign} {text}", 0)


def times(a: Tex, b: Tex) -> Tex:
    """The product `a * b`."""
    texts = [a.within(1), b.within(1)]
    sign = "-" if sum(x.startswith("-") for x in texts) == 1 else ""
    texts = [x for x in (x.removeprefix("-") for x in texts) if x != "1"] or ["1"]
    rank = 1 if sign or len(texts) > 1 else min(a.rank, b.rank)
    return Tex(sign + r"\, ".join(texts), max(rank, 1))


def fraction(a: Tex, b: Tex) -> Tex:
    """The quotient `a / b`."""
    return Tex(rf"\frac{{{a.text}}}{{{b.text}}}")


def square(x: Tex) -> Tex:
    """The square of the absolute value of `x`."""
    return Tex(rf"\left|{x.text}\right|^2")


def sqrt(x: Tex) -> Tex:
    """The square root of `x`."""
    return Tex(rf"\sqrt{{{x.text}}}")


def call(name: str, *args: Tex) -> Tex:
    """The function called `name`, applied to `args`."""
    return Tex(rf"\operatorname{{{escape(name)}}}\left({', '.join(x.text for x in args)}\right)")


def cases(*rows: tuple[Tex, str]) -> Tex:
    """A distinction of cases: expressions, each with a text that says where it holds."""
    lines = r" \\ ".join(rf"{x.text} & \mathrm{{{where}}}" for x, where in rows)
    return Tex(rf"\begin{{cases}}{lines}\end{{cases}}")
