"""Pieces of equations, in LaTeX that MathJax, KaTeX and matplotlib read alike."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradtx._core.static import show, static


class Tex(NamedTuple):
    """An expression, and how tightly it binds: 0 is a sum, 1 a product, 2 a symbol."""

    text: str
    rank: int = 2

    def within(self, rank: int) -> str:
        """The text for where only what binds at least so tightly may stand."""
        return self.text if self.rank >= rank else rf"\left({self.text}\right)"


class Page:
    """What the letters of an equation stand for, in the order in which they are needed."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}

    def define(self, letter: str, definition: Callable[[str], Tex]) -> Tex:
        """The symbol for what `definition` makes of its letter, which is primed if it is taken."""
        name = letter
        while self.lines.setdefault(f"{name}_t", text := definition(name).text) != text:
            name += "'"
        return Tex(f"{name}_t")

    def symbol(self, x: Tex) -> Tex:
        """A symbol for `x`, to stand in several places."""
        return x if x.text == "g_t" or x.text in self.lines else self.define("x", lambda _: x)

    def average(
        self, letter: str, decay: Any, new: Tex, *, weight: Tex | None = None, initial: Any = 0.0
    ) -> Tex:
        """The symbol for a running average of `new`, or with a weight for a sum that decays."""
        new = times(complement(decay) if weight is None else weight, new)

        def definition(m: str) -> Tex:
            zero = isinstance(initial, float) and initial == 0
            start = "" if zero else rf",\quad {m}_0 = {number(initial).text}"
            return Tex(plus(times(number(decay), Tex(f"{m}_{{t-1}}")), new).text + start)

        return self.define(letter, definition)


def escape(text: str) -> str:
    """`text` as upright letters, without what is markup there."""
    return re.sub(r"[^\w .,()=+/:-]", "", text).replace("_", r"\_").replace(" ", r"\ ")


def number(x: Any, step: str = "t-1") -> Tex:
    """A hyperparameter: its digits, or a schedule's value. At the first step a schedule sees 0."""
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
    """The sum, or with another sign the difference."""
    if b.text == "0" or (a.text == "0" and sign == "+"):
        return a if b.text == "0" else b
    text = b.within(1) if sign == "-" else b.text
    if text.startswith("-"):
        sign, text = {"+": "-", "-": "+"}[sign], text[1:]
    return Tex(f"{a.text} {sign} {text}", 0)


def times(a: Tex, b: Tex) -> Tex:
    """The product."""
    texts = [a.within(1), b.within(1)]
    sign = "-" if sum(x.startswith("-") for x in texts) == 1 else ""
    texts = [x for x in (x.removeprefix("-") for x in texts) if x != "1"] or ["1"]
    rank = 1 if sign or len(texts) > 1 else min(a.rank, b.rank)
    return Tex(sign + r"\, ".join(texts), max(rank, 1))


def fraction(a: Tex, b: Tex) -> Tex:
    """The quotient."""
    return Tex(rf"\frac{{{a.text}}}{{{b.text}}}")


def square(x: Tex) -> Tex:
    """The square of the absolute value."""
    return Tex(rf"\left|{x.text}\right|^2")


def sqrt(x: Tex) -> Tex:
    """The square root."""
    return Tex(rf"\sqrt{{{x.text}}}")


def call(name: str, *args: Tex) -> Tex:
    """A function of its arguments."""
    return Tex(rf"\operatorname{{{escape(name)}}}\left({', '.join(x.text for x in args)}\right)")


def cases(*rows: tuple[Tex, str]) -> Tex:
    """Expressions and, as upright letters, where they hold."""
    lines = r" \\ ".join(rf"{x.text} & \mathrm{{{where}}}" for x, where in rows)
    return Tex(rf"\begin{{cases}}{lines}\end{{cases}}")
