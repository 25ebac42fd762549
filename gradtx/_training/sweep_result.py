"""What a sweep found: scores and results, the best optimizer, and whether to extend the grid."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from gradtx._core.static import show
from gradtx._training.edit import replace
from gradtx._training.sweep_table import table


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """The result of `sweep`, which prints as a table.

    `txs` holds the optimizers, and `settings` the values of the swept hyperparameters of each of them.
    `seeds` are the seeds, or None. `scores` is an array with one row per optimizer and one column per
    seed. `results` holds, for each optimizer, what `train` returned, with a first axis for the seeds if
    there are seeds. All arrays are NumPy arrays.
    """

    txs: tuple[Any, ...]
    settings: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...] | None
    scores: np.ndarray
    results: tuple[Any, ...]

    @property
    def diverged(self) -> np.ndarray:
        """Whether a score is infinite or NaN, with the shape of `scores`."""
        return ~np.isfinite(self.scores)

    @property
    def mean(self) -> np.ndarray:
        """The mean score of each optimizer over the seeds that did not diverge; NaN if all did."""
        count = (~self.diverged).sum(axis=1)
        total = np.where(self.diverged, 0.0, self.scores).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    @property
    def standard_error(self) -> np.ndarray:
        """The standard error of each mean; NaN if fewer than two seeds did not diverge."""
        count = (~self.diverged).sum(axis=1)
        squares = np.where(self.diverged, 0.0, self.scores - self.mean[:, None]) ** 2
        variance = squares.sum(axis=1) / np.maximum(count - 1, 1)
        return np.where(count > 1, np.sqrt(variance / np.maximum(count, 1)), np.nan)

    @property
    def order(self) -> np.ndarray:
        """The indices of the optimizers from the best to the worst.

        An optimizer that diverged with fewer seeds comes first, then the one with the lower mean.
        """
        return np.lexsort((np.nan_to_num(self.mean, nan=np.inf), self.diverged.sum(axis=1)))

    @property
    def best(self) -> Any:
        """The best optimizer.

        Raises:
            ValueError: if every optimizer diverged with every seed.
        """
        if self.diverged.all():
            raise ValueError(
                f"All {len(self.txs)} optimizers of the sweep diverged, so none is the best. Sweep "
                "smaller learning rates."
            )
        return self.txs[self.order[0]]

    @property
    def edges(self) -> dict[str, Literal["lowest", "highest"]]:
        """The hyperparameters whose best value is the lowest or the highest of at least three.

        Values beyond this edge may be better. A value that cannot be passed, such as a weight decay of
        zero, does not count.
        """
        found: dict[str, Literal["lowest", "highest"]] = {}
        if self.diverged.all():
            return found
        best = self.settings[self.order[0]]
        for name, value in best.items():
            tried: set[Any] = {setting.get(name) for setting in self.settings}
            if len(tried) < 3 or not all(type(x) in (int, float) for x in tried):
                continue
            if value == min(tried) and not _is_limit(self.best, name, value, -math.inf):
                found[name] = "lowest"
            if value == max(tried) and not _is_limit(self.best, name, value, math.inf):
                found[name] = "highest"
        return found

    def records(self) -> list[dict[str, Any]]:
        """One flat dictionary per training, as `pandas.DataFrame` takes them.

        Each has the optimizer as text, the swept hyperparameters, the seed, the score, and the scalars
        in what `train` returned, if that is a dictionary.
        """
        rows = []
        for i, (tx, setting) in enumerate(zip(self.txs, self.settings, strict=True)):
            for j in range(self.scores.shape[1]):
                row = {"tx": repr(tx)} | {k: _cell(x) for k, x in setting.items()}
                if self.seeds is not None:
                    row["seed"] = self.seeds[j]
                row["score"] = float(self.scores[i, j])
                result = self.results[i]
                for name, x in result.items() if isinstance(result, dict) else ():
                    is_array = isinstance(x, np.ndarray | np.generic)
                    if is_array and np.ndim(x) == (self.seeds is not None):
                        row.setdefault(str(name), np.atleast_1d(x)[j].item())
                rows.append(row)
        return rows

    def __repr__(self) -> str:
        return table(self)


def _cell(x: Any) -> Any:
    return x if isinstance(x, int | float | str | None) else show(x)


def _can_be(tx: Any, name: str, value: float) -> bool:
    """Whether the hyperparameter of an optimizer may have this value."""
    try:
        replace(tx, **{name: value})
    except (TypeError, ValueError):
        return False
    return True


def _is_limit(tx: Any, name: str, value: float, toward: float) -> bool:
    """Whether a hyperparameter that may have this value may have none beyond it."""
    return _can_be(tx, name, value) and not _can_be(tx, name, math.nextafter(value, toward))
