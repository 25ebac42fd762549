r"""Where the Gram form of the Newton-Schulz iteration restarts, and what each form costs.

`iteration.py` defines $X$, $R$ and $Q$. With rounding, the matrix $R$ of the Gram form drifts away
from $X X^H$, until $R$ has negative eigenvalues, which grow. A restart sets $X \leftarrow Q X$ and
computes $R = X X^H$ anew. The steps between two restarts are a segment. In the standard form every
segment has one step.
"""

import itertools
from collections.abc import Sequence

from gradtx._matrices.polar_express import Coefficients

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
    r"""Cut the steps into segments, for the form that is asked for or for the one with fewer `flops`.

    Within a segment, a rounding error of $R$ in the null space of $X$ grows by the factor $\prod a^2$.
    For spectra from flat to lognormal, the largest singular value stayed below 1.1 times its exact value
    where this factor was below `2.4 / eps`. Where the factor was above `2.4 / eps`, the largest singular
    value was 2 times, or $10^4$ times and more, as large as the exact one. Here `eps` is the distance
    from one to the next number in the dtype of the operands, and $m \le n$.

    Segments have at most three steps, since in float32 the errors of three steps are close to those of
    the standard form: 1.2 times as large at 256 x 1024, where four steps have errors 10 times as large.
    Below 192 rows segments have at most two steps, whose errors are at most twice those of the standard
    form, while the errors of three steps are up to 4 times as large. Below 64 rows "auto" takes the
    standard form, because the Gram form does not save time there.
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
            raise ValueError(
                f"`newton_schulz(restart={restart})` must be increasing numbers from 1 to "
                f"{len(coefficients) - 1}."
            )
    gram = tuple(coefficients[i:j] for i, j in itertools.pairwise((0, *cuts, len(coefficients))))
    growth = 0.0
    for part in gram:
        product = 1.0
        for a, _, _ in part:
            product *= a**2
        growth = max(growth, product if len(part) > 1 else 0.0)
    if growth > limit and form != "standard":
        raise ValueError(
            f"`newton_schulz(restart={restart})`: between two restarts rounding errors would grow by a "
            f"factor of {growth:.0f}, and only {limit:.0f} is stable where numbers near one are "
            f"{eps:.1g} apart. Pass more restarts, or leave restart out."
        )
    standard = tuple((triple,) for triple in coefficients)
    both = (standard, gram) if m >= 64 else (standard,)
    choices = {"standard": (standard,), "gram": (gram,), "auto": both}
    return min(choices[form], key=lambda segments: flops(m, n, segments, symmetric))


def flops(m: int, n: int, segments: Segments, symmetric: bool = False) -> int:
    r"""The number of operations in the products of all segments, for an m x n matrix with $m \le n$.

    A multiplication with its addition counts as two operations. With dense products a segment of k
    quintic steps takes $4 m^2 n + 2 m^3$ for k = 1, and $4 m^2 n + (8k - 6) m^3$ for k > 1.
    """
    # With `symmetric`, the lower left block of a Hermitian product is mirrored and not computed.
    half = m // 2 if symmetric else m
    cells = half * m + (m - half) ** 2
    squares = 0
    for segment in segments:
        last = len(segment) - 1
        for step, (_, _, c) in enumerate(segment):
            # The products R R, then Q Z, then both Z R and (Z R) Z.
            squares += (c != 0) + (step > 0) + 2 * (step < last)
    return 2 * len(segments) * (cells * n + m * m * n) + 2 * squares * cells * m
