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

    def at(self, index: str) -> "Tex":
        """The same quantity at another step, if it is a symbol that depends on the step."""
        name = self.text.removesuffix("_t")
        return self if name == self.text else Tex(f"{name}_{{{index}}}", self.rank)

    def accented(self, accent: str) -> str:
        """The letter of this symbol with an accent, such as `hat`, for a quantity made from it."""
        letter, prime, primes = self.text.removesuffix("_t").partition("'")
        return rf"\{accent}{{{letter}}}{prime}{primes}"


GRADIENT = Tex("g_t")
THETA = Tex(r"\theta_{t-1}")
BEFORE = Tex("t-1", 0)  # the number of steps before step t, at which schedules are evaluated
_NOTES = {
    GRADIENT: r"\text{: the gradient in step }t = 1, 2, \dots",
    THETA: r"\text{: the parameters before step }t",
}


class Page:
    """An equation with the definitions of its symbols, in the order in which they are needed.

    Attributes:
        lines: for each symbol the rest of the line that defines it, such as `= 0.9\\, m_{t-1} + g_t`.
        zeros: the symbols of the quantities that are 0 before the first step, without their index.
        notes: for each other symbol or function the rest of a line that says in words what it is.
    """

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.zeros: dict[str, None] = {}
        self.notes: dict[str, str] = {}

    def define(
        self, letter: str, definition: Callable[[str], Tex], *, index: str = "_t", sign: str = "="
    ) -> Tex:
        """A symbol with its definition; a letter that has another definition already gets a prime.

        Args:
            letter: the letter of the symbol.
            definition: returns the defining expression, given the letter with its primes.
            index: the index of the symbol; "" for a quantity that does not depend on the step.
            sign: the sign between the symbol and the expression.
        """
        name = letter
        while (
            self.lines.setdefault(name + index, line := f"{sign} {definition(name).text}") != line
        ):
            name += "'"
        return Tex(name + index)

    def symbol(self, x: Tex) -> Tex:
        """A symbol for the expression `x`, so that it can be used several times."""
        return x if x == GRADIENT or x.text in self.lines else self.define("x", lambda _: x)

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
        keep = self.number(decay, r"\beta")
        new = times(self.complement(decay, r"\beta") if weight is None else weight, new)
        zero = isinstance(initial, float) and initial == 0
        first = None if zero else self.number(initial, f"{letter}_0")

        def definition(m: str) -> Tex:
            start = rf",\quad {m}_0 = {first.text}" if first else ""
            return Tex(plus(times(keep, Tex(f"{m}_{{t-1}}")), new).text + start)

        symbol = self.define(letter, definition)
        return self.from_zero(symbol) if zero else symbol

    def from_zero(self, symbol: Tex) -> Tex:
        """`symbol`, for which the page says that it is 0 before the first step."""
        self.zeros[symbol.text.removesuffix("_t")] = None
        return symbol

    def number(self, x: Any, letter: str = "c", at: Tex = BEFORE) -> Tex:
        """A hyperparameter: its digits, or a symbol for a schedule or for the values of a sweep.

        Args:
            x: a number, an array or a schedule.
            letter: the letter of the symbol.
            at: the number of steps at which a schedule is evaluated. It is 0 in the first step, $t = 1$.
        """
        if callable(x):
            value = self.value(x, at)
            return self.define(letter, lambda _: value)
        if np.ndim(x):
            return self.define(letter, lambda _: _values(x), index="", sign=r"\in")
        return number(x)

    def value(self, schedule: Any, at: Tex) -> Tex:
        """A schedule's value after `at` steps; a number is written with its digits."""
        if not callable(schedule):
            return self.number(schedule)
        tex: Any = getattr(schedule, "tex", None)
        if tex is not None:
            return tex(at, self)
        name = show(schedule) if isinstance(schedule, static) else type(schedule).__name__
        words = r"\text{: a function of the number of steps before this one}"
        return self.function(name, words, at)

    def complement(self, decay: Any, letter: str) -> Tex:
        """One minus a decay."""
        if isinstance(decay, float):
            return number(float(f"{1 - decay:.12g}"))
        return plus(Tex("1"), self.number(decay, letter), "-")

    def function(self, name: str, words: str, *args: Tex) -> Tex:
        """A function applied to `args`. `words`, in LaTeX, say what the function is."""
        self.notes.setdefault(rf"\operatorname{{{escape(name)}}}", words)
        return call(name, *args)

    def unknown(self, name: str, *args: Tex) -> Tex:
        """A transformation without an equation of its own, as a function of its updates."""
        words = rf"\text{{: the updates of the class }}\mathrm{{{escape(name)}}}"
        return self.function(name, words, *args)

    def norm(self, x: Tex, index: str, words: str) -> Tex:
        """A norm of `x`. `words` say what is meant by a norm with this index, which may be ""."""
        self.notes.setdefault(rf"\|\cdot\|{index}", words)
        return Tex(rf"\|{x.text}\|{index}")

    def where(self, condition: str) -> Tex:
        """The factor that is 1 where a condition holds, and 0 elsewhere."""
        words = r"\text{: 1 where the condition holds, and 0 elsewhere}"
        self.notes.setdefault(r"[\,\cdot\,]", words)
        return Tex(f"[{condition}]")

    def text(self, left: str, update: Tex) -> str:
        """The whole page as a displayed equation of `left`, with everything that it needs below it."""
        lines = [f"{left} &= {update.text}", *(f"{name} &{x}" for name, x in self.lines.items())]
        used = " ".join(lines)
        if self.zeros:
            lines.append(f"{' = '.join(name + '_0' for name in self.zeros)} &= 0")
        known = {x.text: words for x, words in _NOTES.items() if x.text in used}
        lines += [f"{name} &{words}" for name, words in {**known, **self.notes}.items()]
        return r"$$\begin{aligned}" + r" \\ ".join(lines) + r"\end{aligned}$$"


def escape(text: str) -> str:
    """`text` for upright letters, without the characters that LaTeX would read as markup."""
    return re.sub(r"[^\w .,()=+/:-]", "", text).replace("_", r"\_").replace(" ", r"\ ")


def number(x: Any) -> Tex:
    """The digits of a number."""
    x = float(x)
    if not math.isfinite(x):
        return Tex(r"\mathrm{nan}" if math.isnan(x) else r"\infty" if x > 0 else r"-\infty")
    mantissa, _, exponent = f"{x:.12g}".partition("e")
    if not exponent:
        return Tex(mantissa)
    power = rf"10^{{{int(exponent)}}}"
    return Tex({"1": power, "-1": "-" + power}.get(mantissa, rf"{mantissa} \cdot {power}"), 1)


def _values(x: Any) -> Tex:
    """The values of a sweep as a set: the first, the second and the last, if there are many."""
    flat = [number(f"{v:.6g}").text for v in np.asarray(x, np.float64).reshape(-1)]
    shown = flat if len(flat) <= 5 else [*flat[:2], r"\dots", flat[-1]]
    size = rf"\quad\text{{({len(flat)} values)}}" if len(flat) > 5 else ""
    return Tex(rf"\left\{{{', '.join(shown)}\right\}}{size}")


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
    dot = r" \cdot " if texts[-1][0].isdigit() else r"\, "  # between two numbers
    return Tex(sign + dot.join(texts), max(rank, 1))


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
    """A distinction of cases: expressions, each with the LaTeX that says where it holds."""
    lines = r" \\ ".join(rf"{x.text} & {where}" for x, where in rows)
    return Tex(rf"\begin{{cases}}{lines}\end{{cases}}")


def if_rule(name: str) -> str:
    """The words of a case that holds for the leaves that a rule says True for."""
    return rf"\text{{if }}\mathrm{{{name}}}"


OTHERWISE = r"\text{otherwise}"
