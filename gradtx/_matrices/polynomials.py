r"""Odd polynomials that move singular values to one.

Applied to a matrix $X = U S V^T$, the polynomial $p(x) = a x + b x^3 + c x^5$ acts on the singular
values alone: $a X + b (X X^T) X + c (X X^T)^2 X = U p(S) V^T$. The coefficients are a sequence of
triples `(a, b, c)`, one for each step. The presets of the Polar Express family solve a minimax problem,
so their coefficients are computed. The coefficients that were tuned by hand are tables.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from gradtx._core.authors import described
from gradtx._matrices.polar_express import MOST_STEPS, Coefficients, Triple, evaluate, polar_express

# What an argument `coefficients` takes: the name of a preset, one triple, or several. A field must not
# be annotated with `float`, so the run-time form is `Any`.
if TYPE_CHECKING:
    Polynomials: TypeAlias = (
        Literal[
            "polar_express",
            "speedrun",
            "cans",
            "jordan",
            "standard",
            "dion",
            "modula",
            "cubic",
            "deepseek",
            "classical",
        ]
        | Sequence[float]
        | Sequence[Sequence[float]]
        | np.ndarray
        | jax.Array
    )
else:
    Polynomials = Any


class Preset(NamedTuple):
    """Coefficients with a name and a source.

    `table` is a single triple, which is repeated for any number of steps, a sequence of triples, which
    has a fixed number of steps, or a function that returns the triples for a number of steps.
    """

    name: str
    table: Triple | Coefficients | Callable[[int], Coefficients]
    source: str


_JORDAN = (3.4445, -4.7750, 2.0315)

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("polar_express", polar_express, "Amsel et al., 2025, arXiv:2505.16932"),
        Preset(
            "speedrun",
            functools.partial(polar_express, cushion=0.02, safety=0.02),
            "modded-nanogpt, 2025; used by Dion, Ahn et al., 2025, arXiv:2504.05295",
        ),
        Preset(
            "cans",
            functools.partial(polar_express, cushion=0.0, safety=0.0),
            "Grishina et al., 2025, in NVIDIA's Emerging-Optimizers, to four decimals there",
        ),
        Preset("jordan", _JORDAN, "Jordan et al., Muon, 2024; Optax's 'standard'"),
        Preset("standard", _JORDAN, "Optax's name for 'jordan'"),
        Preset(
            "dion",
            (
                (4.0848, -6.8946, 2.9270),
                (3.9505, -6.3029, 2.6377),
                (3.7418, -5.5913, 2.3037),
                (2.8769, -3.1427, 1.2046),
                (2.8366, -3.0525, 1.2012),
            ),
            "You, modded-nanogpt, 2025; Optax's 'dion', NVIDIA's 'quintic'",
        ),
        # The composition of these six never exceeds one on [0, 1].
        Preset(
            "modula",
            (
                (3955 / 1024, -8306 / 1024, 5008 / 1024),
                (3735 / 1024, -6681 / 1024, 3463 / 1024),
                (3799 / 1024, -6499 / 1024, 3211 / 1024),
                (4019 / 1024, -6385 / 1024, 2906 / 1024),
                (2677 / 1024, -3029 / 1024, 1162 / 1024),
                (2172 / 1024, -1833 / 1024, 682 / 1024),
            ),
            "You, in modula (Bernstein et al.), 2025",
        ),
        Preset(
            "cubic",
            (
                (3.3656576, -3.3420992, 0.0),
                (2.5744352, -1.4957376, 0.0),
                (2.5368962, -1.4312570, 0.0),
                (2.4418906, -1.2764040, 0.0),
                (2.2230472, -0.9630650, 0.0),
            ),
            "Cubic five-step set, 2026, arXiv:2606.00371",
        ),
        Preset("deepseek", 8 * (_JORDAN,) + 2 * ((2.0, -1.5, 0.5),), "DeepSeek-V4, 2026"),
        Preset("classical", (15 / 8, -10 / 8, 3 / 8), "Kovarik, 1970; Bjorck and Bowie, 1971"),
    )
}


def resolve_coefficients(
    coefficients: Polynomials = "polar_express", steps: int | None = None
) -> Coefficients:
    """Return the triples for the arguments `coefficients` and `steps` of `newton_schulz`.

    Args:
        coefficients: the name of a preset, one triple `(a, b, c)`, or a sequence of triples. Both may be
            arrays, of shape `(3,)` or `(steps, 3)`.
        steps: how often one triple is repeated, or how many triples are computed. None means 5. A table
            has a fixed number of steps, and `steps` must be None or equal to it.

    Returns:
        A tuple of triples of Python floats, which is hashable.

    Raises:
        ValueError: if the name is unknown, if the shape is neither `(3,)` nor `(n, 3)`, if a number is
            not finite, or if `steps` differs from the length of a table.
        TypeError: if `steps` is not a whole number.
    """
    if steps is not None and not hasattr(type(steps), "__index__"):
        raise TypeError(f"steps={described(steps)} must be a whole number.")
    if steps is not None and not 1 <= operator.index(steps) <= MOST_STEPS:
        raise ValueError(f"steps={steps} must lie in [1, {MOST_STEPS}].")
    name, table = "the given coefficients", None if callable(coefficients) else coefficients
    if isinstance(coefficients, str):
        if coefficients not in PRESETS:
            raise ValueError(
                f"coefficients={coefficients!r} is not a preset. Pass one of "
                f"{', '.join(PRESETS)}, or triples (a, b, c)."
            )
        name, table = f"coefficients={coefficients!r}", PRESETS[coefficients].table
    if callable(table):
        return table(5 if steps is None else operator.index(steps))
    try:
        rows: np.ndarray = np.asarray(table, np.float64)
    except jax.errors.JAXTypeError:
        raise  # a tracer: the message of JAX says what to do
    except (TypeError, ValueError, OverflowError):
        rows = np.empty(0)  # not a table of numbers
    if rows.ndim == 1 and rows.size:
        rows = np.tile(rows, (5 if steps is None else operator.index(steps), 1))
    if rows.ndim != 2 or rows.shape[1] != 3 or not len(rows) or not np.isfinite(rows).all():
        raise ValueError(
            f"coefficients={described(coefficients)} must be a triple (a, b, c) of finite numbers, a "
            f"sequence of triples, or one of the presets {', '.join(PRESETS)}."
        )
    if steps not in (None, len(rows)):
        raise ValueError(
            f"steps={steps}, but {name} are a table of {len(rows)} steps. Leave steps out, or pass one "
            "triple or a preset that takes any number of steps."
        )
    return tuple(map(tuple, rows.tolist()))


def compose(coefficients: Coefficients, x: Any) -> Any:
    """Apply the steps one after another to singular values `x`.

    `x` is a number or an array of any shape, of NumPy or JAX, and so is the result.
    """
    return functools.reduce(lambda value, triple: evaluate(triple, value), coefficients, x)
