"""The table of problems, one line each. A new problem is a line here and a file beside this one."""

from ..problem import Problem
from .digits import DIGITS
from .matrices import FACTORS, ILL_CONDITIONED, NOISY
from .mnist import MNIST
from .rare_features import RARE_FEATURES
from .surfaces import HEAVY_TAILS, PLATEAU, VALLEY
from .text import TEXT

PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        DIGITS,
        RARE_FEATURES,
        ILL_CONDITIONED,
        NOISY,
        HEAVY_TAILS,
        FACTORS,
        PLATEAU,
        VALLEY,
        MNIST,
        TEXT,
    )
}
