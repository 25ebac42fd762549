"""Transformations as equations, as a notebook shows them.

`tex(tx, g, page)` is the update that `tx` makes of the updates `g`, for each class in a line or two. A
chain hands one link's expression to the next, a quotient makes a fraction of two; what has a memory
is a letter, and its recurrence goes to the page.
"""

import functools
from typing import Any

from gradtx._compose.chain import chain, identity
from gradtx._compose.fanout import constant, fanout
from gradtx._compose.partition import freeze, masked, partition
from gradtx._compose.recipe import Recipe
from gradtx._core.elementwise import Wrapper
from gradtx._core.latex import (
    Page,
    Tex,
    call,
    cases,
    number,
    over,
    plain,
    plus,
    rest,
    said,
    sqrt,
    square,
    times,
)
from gradtx._core.static import show
from gradtx._core.transform import Transform
from gradtx._matrices.orthogonalize import orthogonalize_newton_schulz, scale_by_shape
from gradtx._transforms.adaptive import centered_second_moment, scale_by_adadelta, sum_of_squares
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.clip import clip, clip_by_global_norm
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import root, running_max, scale_by_momentum, second_moment
from gradtx._transforms.scale import scale, scale_by_learning_rate, scale_by_sign


def equations(tx: Transform) -> str | None:
    """`tx` as a display equation, with the definitions of its letters below.

    None for a value in which JAX has put something else where a number was.
    """
    page = Page()
    try:
        update = tex(tx, Tex("g_t"), page)
    except (TypeError, ValueError):
        return None
    lines = [f"u_t &= {update.text}", *(f"{name} &= {x}" for name, x in page.lines.items())]
    return r"$$\begin{aligned}" + r" \\ ".join(lines) + r"\end{aligned}$$"


@functools.singledispatch
def tex(tx: Any, g: Tex, page: Page) -> Tex:
    """The update of `tx` for the updates `g`: by default a function of its name."""
    inner = getattr(tx, "inner", None)
    return call(type(tx).__name__, tex(inner, g, page) if isinstance(inner, Transform) else g)


# Compositions


@tex.register
def _(tx: Recipe, g: Tex, page: Page) -> Tex:
    return tex(tx.expand(), g, page)


@tex.register
def _(tx: chain, g: Tex, page: Page) -> Tex:
    return functools.reduce(lambda x, link: tex(link, x, page), tx.links, g)


@tex.register
def _(tx: fanout, g: Tex, page: Page) -> Tex:
    branches = [tex(part, g, page) for part in tx.parts]
    match tx.combine, branches:
        case "add", _:
            return functools.reduce(plus, branches)
        case "multiply", _:
            return functools.reduce(times, sorted(branches, key=lambda x: not x.text[0].isdigit()))
        case "subtract", [a, b]:
            return plus(a, b, "-")
        case "divide", [a, b]:
            return over(a, b)
        case _:
            return call(show(tx.combine), *branches)


@tex.register
def _(tx: partition, g: Tex, page: Page) -> Tex:
    g = page.symbol(g)
    return cases(*((tex(part, g, page), plain(str(k))) for k, part in tx.transforms.items()))


@tex.register
def _(tx: masked, g: Tex, page: Page) -> Tex:
    g = page.symbol(g)
    return cases((tex(tx.inner, g, page), said(tx.mask)), (g, "otherwise"))


@tex.register
def _(tx: freeze, g: Tex, page: Page) -> Tex:
    return Tex("0") if tx.mask is None else cases((Tex("0"), said(tx.mask)), (g, "otherwise"))


# Without memory


@tex.register
def _(tx: identity, g: Tex, page: Page) -> Tex:
    return g


@tex.register
def _(tx: constant, g: Tex, page: Page) -> Tex:
    return number(tx.value)


@tex.register
def _(tx: scale, g: Tex, page: Page) -> Tex:
    return times(number(tx.step_size), g)


@tex.register
def _(tx: scale_by_learning_rate, g: Tex, page: Page) -> Tex:
    step = times(number(tx.learning_rate), g)
    return times(Tex("-1"), step) if tx.flip_sign else step


@tex.register
def _(tx: scale_by_sign, g: Tex, page: Page) -> Tex:
    return call("sign", g)


@tex.register
def _(tx: scale_by_shape, g: Tex, page: Page) -> Tex:
    return times(Tex(rf"s_{{\mathrm{{{plain(tx.mode)}}}}}"), g)


@tex.register
def _(tx: orthogonalize_newton_schulz, g: Tex, page: Page) -> Tex:
    return call("NS", g)


@tex.register
def _(tx: clip, g: Tex, page: Page) -> Tex:
    return call("clip", g, Tex(rf"\pm {number(tx.max_delta).text}"))


@tex.register
def _(tx: clip_by_global_norm, g: Tex, page: Page) -> Tex:
    g = page.symbol(g)
    return times(Tex(rf"\min\left(1, {number(tx.max_norm).text} / \|{g.text}\|\right)"), g)


@tex.register
def _(tx: decoupled_weight_decay, g: Tex, page: Page) -> Tex:
    decay = times(number(tx.weight_decay), Tex(r"\theta"))
    if isinstance(tx.weight_decay, float) and tx.weight_decay == 0:
        return g
    if tx.mask is not None:
        decay = times(decay, Tex(rf"[\mathrm{{{said(tx.mask)}}}]"))
    if tx.cautious:
        g = page.symbol(g)
        decay = times(decay, Tex(rf"[{g.text}\, \theta \geq 0]"))
    return plus(g, decay)


@tex.register
def _(tx: root, g: Tex, page: Page) -> Tex:
    return sqrt(tex(tx.inner, g, page))


# With memory


@tex.register
def _(tx: scale_by_momentum, g: Tex, page: Page) -> Tex:
    weight = rest(tx.decay) if tx.form == "ema" else Tex("1")
    m = page.average("m", tx.decay, g, weight=weight)
    ahead = plus(times(number(tx.decay), m), times(weight, g))
    return page.define("n", lambda _: ahead) if tx.nesterov else m


@tex.register
def _(tx: second_moment, g: Tex, page: Page) -> Tex:
    return page.average("v", tx.decay, square(g), initial=tx.initial)


@tex.register
def _(tx: centered_second_moment, g: Tex, page: Page) -> Tex:
    v = page.average("v", tx.decay, square(g), initial=tx.initial)
    m = page.average("m", tx.decay, g)
    return page.define("s", lambda _: plus(v, square(m), "-"))


@tex.register
def _(tx: sum_of_squares, g: Tex, page: Page) -> Tex:
    return page.average("G", 1.0, square(g), weight=Tex("1"), initial=tx.initial)


@tex.register
def _(tx: scale_by_adadelta, g: Tex, page: Page) -> Tex:
    def update(x: str) -> Tex:
        return times(over(sqrt(plus(Tex(f"{x}_{{t-1}}"), eps)), sqrt(plus(v, eps))), g)

    def average(x: str) -> Tex:
        old = times(number(tx.rho), Tex(f"{x}_{{t-1}}"))
        return plus(old, times(rest(tx.rho), square(update(x))))

    eps, v = number(tx.eps), page.average("v", tx.rho, square(g))
    return update(page.define("x", average).text.removesuffix("_t"))


@tex.register
def _(tx: running_max, g: Tex, page: Page) -> Tex:
    x = page.symbol(tex(tx.inner, g, page)).text
    letter = rf"\bar{{{x.removesuffix('_t')}}}"
    return page.define(letter, lambda m: Tex(rf"\max\left({m}_{{t-1}}, {x}\right)"))


@tex.register
def _(tx: bias_correction, g: Tex, page: Page) -> Tex:
    moment: Any = tx.inner
    while isinstance(moment, Wrapper):
        moment = moment.inner
    m, b = page.symbol(tex(tx.inner, g, page)), number(moment.decay)
    ahead = getattr(moment, "nesterov", False)
    if callable(moment.decay):
        kept = Tex(rf"\prod_{{s<t}} {number(moment.decay, 's').text}")
        kept = times(b, kept) if ahead else kept
    else:
        kept = Tex(rf"{b.within(2)}^{{{'t+1' if ahead else 't'}}}")
    new = times(rest(moment.decay), m) if getattr(moment, "form", "ema") == "heavy_ball" else m
    letter = rf"\hat{{{m.text.removesuffix('_t')}}}"
    return page.define(letter, lambda _: over(new, plus(Tex("1"), kept, "-")))
