r"""Where the Gram form of the Newton-Schulz iteration restarts, and what each form costs.

Rounded, the Gram form's $R$ drifts from $X X^H$ until it has negative eigenvalues, which grow; a
restart ends that with $X \leftarrow Q X$ and a fresh $R$. So a run is a list of segments between
restarts, and the standard form is the run of segments of one step.
"""

import itertools
import math
from collections.abc import Sequence

from gradtx._matrices.polynomials import Coefficients

Segments = tuple[Coefficients, ...]


def plan(
    m: int,
    n: int,
    coefficients: Coefficients,
    form: str = "auto",
    restart: Sequence[int] | None = None,
    *,
    eps: float = 2.0**-23,
    symmetric: bool = False,
) -> Segments:
    r"""Cut the steps into segments: those of the form asked for, or of the one with fewer `flops`.

    Within a segment, a rounding error of $R$ where $X$ is null grows by $\prod a^2$. Over spectra
    from flat to lognormal, singular values kept to 1.1 times their bound while that was below
    `2.4 / eps`, and left it by a factor of 2, or of $10^4$ and more, beyond. Three steps are the
    most that err like the standard form in float32: 1.2 times as much at 256 x 1024, where four err
    10 times as much. Below 192 rows the standard form errs less, and three steps up to 4 times as
    much; two keep within twice. Below 64 rows "auto" takes the standard form: nothing is to be saved.
    """
    limit = 2.4 / eps
    longest = 3 if m >= 192 else 2
    if restart is None:
        cuts, start, growth = [], 0, 1.0
        for step, (a, _, _) in enumerate(coefficients):
            growth *= a**2
            if step - start == longest or (step > start and growth > limit):
                cuts.append(step)
                start, growth = step, a**2
    else:
        cuts = list(restart)
        if cuts != sorted(set(cuts) & set(range(1, len(coefficients)))):
            within = f"increasing numbers from 1 to {len(coefficients) - 1}"
            raise ValueError(f"newton_schulz(restart={restart}): pass {within}.")
    gram = tuple(coefficients[i:j] for i, j in itertools.pairwise((0, *cuts, len(coefficients))))
    growth = max((math.prod(a**2 for a, _, _ in part) for part in gram if len(part) > 1), default=0)
    if growth > limit and form != "standard":
        raise ValueError(
            f"newton_schulz(restart={restart}): rounding errors grow by {growth:.0f} before a "
            f"restart, and with eps={eps:.1g} only {limit:.0f} is stable; leave restart out."
        )
    standard = tuple((triple,) for triple in coefficients)
    both = (standard, gram) if m >= 64 else (standard,)
    choices = {"standard": (standard,), "gram": (gram,), "auto": both}
    return min(choices[form], key=lambda segments: flops(m, n, segments, symmetric))


def flops(m: int, n: int, segments: Segments, symmetric: bool = False) -> int:
    r"""Operations in the products of a run on an m x n matrix, $m \le n$, two to a multiply-add.

    With dense products a segment of k quintic steps takes $4 m^2 n + 2 m^3$ for k = 1 and
    $4 m^2 n + (8k - 6) m^3$ beyond.
    """
    # Of a symmetric product, the upper rows and the lower right block are computed.
    half = m // 2 if symmetric else m
    cells = half * m + (m - half) ** 2
    squares = 0
    for segment in segments:
        last = len(segment) - 1
        for step, (_, _, c) in enumerate(segment):
            squares += (c != 0) + (step > 0) + 2 * (step < last)  # R R; Q Z; Z R, (Z R) Z
    return 2 * len(segments) * (cells * n + m * m * n) + 2 * squares * cells * m
