"""Paths of schedules in LaTeX, for the method `tex` of schedules.

The method `tex(n, page)` of a schedule returns its value after `n` steps as an expression of `n`.
"""

from typing import Any

from gradtx._core.latex import OTHERWISE, Page, Tex, cases, fraction, number, plus, sqrt, times

_ONE = Tex("1")


def after(n: Tex, steps: Any, page: Page) -> Tex:
    """The steps that have passed since the step `steps`, where `n` steps have passed altogether."""
    if isinstance(steps, float) and steps == 0:
        return n
    if n.text == "t-1" and isinstance(steps, float):
        return plus(Tex("t"), number(steps + 1), "-")
    return plus(n, page.number(steps), "-")


def next_step(n: Tex) -> Tex:
    """One more than `n`."""
    return Tex("t") if n.text == "t-1" else plus(n, _ONE)


def before(n: Tex, steps: Any, page: Page) -> str:
    """The condition of a case that holds until the step `steps`."""
    return rf"\text{{if }}{n.text} < {page.number(steps).text}"


def power(x: Tex, exponent: Any, page: Page) -> Tex:
    """`x` raised to a power."""
    if isinstance(exponent, float) and exponent == 1:
        return x
    base = rf"\left({x.text}\right)"
    return Tex(rf"{base}^{{{page.number(exponent).text}}}", 2)


def leg(
    page: Page, n: Tex, begin: Any, end: Any, first: Any, last: Any, shape: str, exponent: Any = 1.0
) -> Tex:
    """The expression of one leg, see `paths.leg`; `shape` is a name in `paths.SHAPES`."""
    length = number(end - begin) if _known(begin, end) else _difference(end, begin, page)
    share = fraction(after(n, begin, page), length)
    if shape == "linear" and isinstance(exponent, float) and exponent == 1:
        return plus(page.number(first), times(_difference(last, first, page), share))
    rest = {
        "linear": plus(_ONE, share, "-"),
        "cosine": fraction(plus(_ONE, Tex(rf"\cos\left(\pi\, {share.text}\right)")), Tex("2")),
        "1-sqrt": plus(_ONE, sqrt(share), "-"),
    }[shape]
    weight = power(rest, exponent, page)
    return plus(page.number(last), times(_difference(first, last, page), weight))


def path(page: Page, n: Tex, first: Any, *legs: tuple[Any, ...]) -> Tex:
    """A distinction of cases with one row per leg, see `paths.path`.

    Args:
        page: the page that defines symbols.
        n: the number of steps.
        first: the value at step 0.
        legs: for each leg the step at which it ends, the value at this step, the name of the shape, and
            maybe an exponent.
    """
    rows, begin, value = [], 0.0, first
    for end, last, *shape in legs:
        if not (_known(begin, end) and end <= begin):
            constant = _known(value, last) and value == last
            here = page.number(value) if constant else leg(page, n, begin, end, value, last, *shape)
            rows.append((here, before(n, end, page)))
        begin, value = end, last
    return cases(*rows, (page.number(value), OTHERWISE)) if rows else page.number(value)


def _known(*xs: Any) -> bool:
    return all(isinstance(x, int | float) for x in xs)


def _difference(a: Any, b: Any, page: Page) -> Tex:
    if _known(a, b):
        return number(float(f"{a - b:.12g}"))
    return plus(page.number(a), page.number(b), "-")
