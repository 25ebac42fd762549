"""Pages of equations: what is defined on them, whether they can be typeset, and how to compute them."""

import functools
import re

import numpy as np
from matplotlib.mathtext import MathTextParser


def page(value):
    """The lines of the page of a value: what stands left and right of `&`."""
    text = value._repr_latex_()
    assert text.startswith(r"$$\begin{aligned}") and text.endswith(r"\end{aligned}$$")
    text = text.removeprefix(r"$$\begin{aligned}").removesuffix(r"\end{aligned}$$")
    # The rows of cases are not lines of the page.
    depth, pieces = 0, []
    for piece in re.split(r"(\\begin{cases}|\\end{cases}| \\\\ | & )", text):
        depth += (piece == r"\begin{cases}") - (piece == r"\end{cases}")
        pieces.append({r" \\ ": r" \or ", " & ": r" \quad "}.get(piece, piece) if depth else piece)
    text = "".join(pieces)
    return [tuple(line.split(" &")) for line in text.split(r" \\ ")]


def lines(value):
    """The equations of the page: a left side for each right side."""
    found = {left: right[2:] for left, right in page(value) if right.startswith("= ")}
    return {left: right for left, right in found.items() if not left.endswith("_0")}


WORDS_OF_LATEX = """frac sqrt left right cdot begin end quad dots min max prod leq geq infty in or text
    mathrm operatorname pi cos exp log lfloor rfloor"""
STRUCTURE = {"\\" + word for word in WORDS_OF_LATEX.split()}
SYMBOL = re.compile(
    r"(\\(?:hat|bar){(?:[^{}]|{[^{}]*})*}|\\[A-Za-z]+|[A-Za-z])('*)(_{\\mathrm{\w+}})?"
)
STANDARD = {"sign"}  # functions that have this name everywhere


def symbols(latex):
    """The letters, functions and other notations that occur in a piece of LaTeX."""
    functions = set(re.findall(r"\\operatorname{(.*?)}", latex)) - STANDARD
    found = {rf"\operatorname{{{name}}}" for name in functions}
    found |= {
        rf"\|\cdot\|{index}"
        for index in re.findall(r"\\\|(?!\\cdot|,|[^|]*\\\|)(_\w|_{.*?}}|)", latex)
    }
    found |= {r"[\,\cdot\,]"} if re.search(r"(?<!\\left)\[(?!\\,\\cdot)", latex) else set()
    found |= {r"\cdot^H"} if "^H" in latex else set()
    latex = re.sub(r"\\operatorname{.*?}|\\text{[^{}]*}|(?<!_{)\\mathrm{[^{}]*}|\^H", " ", latex)
    latex = re.sub(r"\\\|_(\w|{.*?}})|_\w\b|_{[^\\{}]*}|{cases}", " ", latex)
    for base, primes, index in SYMBOL.findall(latex):
        if base not in STRUCTURE and base not in ("t", "s"):
            found.add(base + primes + index)
    return found


def undefined(value):
    """The symbols on the page of a value that nothing on the page defines."""
    rows = page(value)
    known = set()
    for left, _ in rows:
        for name in left.split(" = "):
            plain = re.sub(r"_(\w|{t-1})$", "", name)
            known |= {name, plain, plain.split("(")[0]}
    used = set()
    for left, right in rows:
        used |= symbols(right) | (symbols(left) if right.startswith("= ") else set())
    return used - known


PARSER = MathTextParser("path")


@functools.cache  # many pages have lines in common
def check_line(left, right):
    """Assert that brackets match, and that matplotlib can typeset the line."""
    for name in ("{}", "()"):
        visible = right.replace(r"\{", "").replace(r"\}", "")
        depth = np.cumsum([(c == name[0]) - (c == name[1]) for c in visible])
        assert depth[-1] == 0 and min(depth) >= 0
    assert right.count(r"\left") == right.count(r"\right") and "^t^" not in right
    # Matplotlib knows no cases: their rows one after the other are as good a test.
    flat = re.sub(r"\\(begin|end){cases}", " ", right).replace(r"\or", ",")
    PARSER.parse(f"${left} {flat}$")


def check_latex(value):
    """Hold every line of the page against `check_line`."""
    for left, right in page(value):
        check_line(left, right)


def python(latex):
    """An equation's side as an expression in Python."""
    for pattern, new in [
        (r"\\prod_\{s \\leq (t(?:\+1)?)\} (\\\w+'*)_\{s\}", r"product('\2', \1)"),
        (r"(\\[a-z]+'*)_\{t\+1\}", r"at('\1', t+1)"),
        (r"_\{t-1\}", "_old"),
        (r"\\(hat|bar)\{([^{}]*)\}", r"\1\2"),
        (r"(?<=\w)'(?=[_'])", "p"),
        (r"\\left\|(((?!\\right).)*)\\right\|(?!\^2)", r"abs(\1)"),
        (r"\\left\|", "square("),
        (r"\\right\|\^2", ")"),
        (r"\\(left|right)(?=[()])", ""),
        (r"\\\|(.*?)\\\|(_\{\\mathrm\{(?:n|leaf)\}\})?", r"norm(\1)"),
        (r"\\,|\\cdot", "*"),
        (r"\[([^\[\]]*)\]", r"(1.0 * (\1))"),
        (r"\\operatorname\{(\w*)\}", r"\1"),
        (r"\\operatorname", "unknown"),
    ]:
        for _ in range(3):
            latex = re.sub(pattern, new, latex)
    latex = re.sub(r"\\left\\lfloor(.*?)\\right\\rfloor", r"floor(\1)", latex)
    while True:
        inner = re.sub(PARTS, innermost, re.sub(CASES, _choice, latex))
        if inner == latex:
            return re.sub(r"\\(?=[a-z])", "", latex)
        latex = inner


PARTS = r"\\frac\{([^{}]*)\}\{([^{}]*)\}|\\sqrt\{([^{}]*)\}|\^\{([^{}]*)\}"
CASES = r"\\begin\{cases\}((?:(?!\\begin|\\frac|\\sqrt|\^).)*?)\\end\{cases\}"


def _choice(match):
    """A distinction of cases as a conditional expression."""
    *rows, (value, _) = [row.split(r"\quad \text") for row in match[1].split(r"\or")]
    chosen = f"({value})"
    for value, condition in reversed(rows):
        condition = condition.removeprefix("{if }").replace(" = ", " == ")
        chosen = f"(({value}) if {condition} else {chosen})"
    return chosen


def innermost(match):
    above, below, radicand, power = match.groups()
    if power is not None:
        return f"**({power})"
    return f"sqrt({radicand})" if above is None else f"divide({above}, {below})"


def divide(a, b):
    return np.where(b == 0, 0.0, a / np.where(b == 0, 1.0, b))
