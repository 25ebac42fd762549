"""The data of the race: the digits or a user's file, and messages about files that cannot be used."""

import csv
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from .errors import RaceError

FEWEST_ROWS = 30
MOST_HELD_OUT = 1000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Task:
    """Rows to train on, to choose the rate by, and to report; inputs have mean 0 and variance 1."""

    train_x: jax.Array
    train_y: jax.Array
    valid_x: jax.Array
    valid_y: jax.Array
    test_x: jax.Array
    test_y: jax.Array
    name: str = dataclasses.field(metadata={"static": True})
    classes: int = dataclasses.field(metadata={"static": True})


def load(path: str | None, seed: int) -> Task:
    """The digits, or the rows of a `.csv` or `.npz`, split at random into 60, 20 and 20 %."""
    if path is None:
        from sklearn.datasets import load_digits

        name, (x, labels) = "digits", load_digits(return_X_y=True)
    else:
        name, (x, labels) = Path(path).name, _read(Path(path))
    _check(name, x, labels)
    kinds, y = np.unique(labels, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(x))
    held_out = min(len(x) // 5, MOST_HELD_OUT)
    test, valid, train = np.split(order, [held_out, 2 * held_out])
    mean, spread = x[train].mean(axis=0), x[train].std(axis=0)
    x = (x - mean) / np.where(spread > 0, spread, 1)
    arrays = [
        jnp.asarray(part[rows], dtype)
        for rows in (train, valid, test)
        for part, dtype in ((x, jnp.float32), (y, jnp.int32))
    ]
    return Task(*arrays, name=name, classes=len(kinds))


def _check(name: str, x: np.ndarray, labels: np.ndarray) -> None:
    if len(x) != len(labels):
        raise RaceError(f"{name} has {len(x)} rows of inputs and {len(labels)} labels.")
    if len(x) < FEWEST_ROWS:
        raise RaceError(
            f"{name} has too few rows ({len(x)}); the race needs at least {FEWEST_ROWS}."
        )
    if not x.shape[1]:
        raise RaceError(f"{name} has labels, but no inputs beside them.")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, column = bad[0] + 1
        raise RaceError(f"{name}: the number in data row {row}, column {column} is not finite.")
    kinds = len(np.unique(labels))
    if kinds < 2:
        raise RaceError(f"{name} has the same label in all rows, so there is nothing to learn.")
    if kinds > len(x) // 2:
        raise RaceError(
            f"{name} has {kinds} different labels in {len(x)} rows. The race learns classes, "
            "so the label column must hold few values."
        )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    readers = {".csv": _read_csv, ".npz": _read_npz}
    if path.suffix not in readers:
        raise RaceError(f"{path} must be a .csv or a .npz file.")
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise RaceError(f"cannot read {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise RaceError(f"{path} is not a text file in UTF-8.") from None


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        text = file.read()
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(text.splitlines(), delimiter=separator)
    rows = [(i, row) for i, row in enumerate(reader, start=1) if row]
    if rows and not any(map(_is_number, rows[0][1][:-1])):
        del rows[0]  # names of columns
    for i, row in rows:
        if len(row) != len(rows[0][1]):
            raise RaceError(
                f"{path}, row {i} has {len(row)} columns where row {rows[0][0]} has "
                f"{len(rows[0][1])}."
            )
        for j, cell in enumerate(row[:-1], start=1):
            if not _is_number(cell):
                raise RaceError(f"{path}, row {i}, column {j} is not a number: {cell!r}.")
    width = len(rows[0][1]) - 1 if rows else 0
    x = np.array([row[:-1] for _, row in rows], np.float64).reshape(len(rows), width)
    return x, np.array([row[-1].strip() for _, row in rows])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name.lower(): file[name] for name in file.files}
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own for a damaged file
        raise RaceError(f"{path} is not a readable .npz file: {error}") from None
    if not {"x", "y"} <= set(arrays):
        raise RaceError(
            f"{path} must hold the arrays `x` (rows of inputs) and `y` (labels); "
            f"it holds {', '.join(sorted(arrays)) or 'none'}."
        )
    x, y = arrays["x"], arrays["y"]
    if x.ndim < 2 or y.ndim != 1 or x.dtype.kind not in "biuf":
        raise RaceError(
            f"{path}: `x` must be rows of real numbers and `y` one label each, "
            f"not {x.dtype}{list(x.shape)} and {y.dtype}{list(y.shape)}."
        )
    return x.reshape(len(x), -1).astype(np.float64), y
