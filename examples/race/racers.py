"""Which optimizers race, and at which learning rates."""

import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np

import gradtx

from .errors import RaceError
from .training import is_rate

# One line per optimizer. Its learning rate is the middle of its grid.
RACERS = {
    "sgd": gradtx.sgd(0.3),
    "momentum": gradtx.sgd(0.03, momentum=0.9),
    "nesterov": gradtx.sgd(0.03, momentum=0.9, nesterov=True),
    "adagrad": gradtx.adagrad(0.03),
    "rmsprop": gradtx.rmsprop(0.003),
    "adadelta": gradtx.adadelta(1.0),
    "adam": gradtx.adam(0.003),
    "adamw": gradtx.adamw(0.01, weight_decay=1.0),
    "muon": gradtx.muon(0.02, weight_decay=1.0),
}
# The grid: three rates per decade, over two decades to either side of the middle.
RATE_FACTORS = 10.0 ** np.linspace(-2, 2, 13)


def chosen(texts: list[str], config: str | None) -> dict[str, gradtx.Transform]:
    """The optimizers that the texts and the file `config` name; `RACERS` if they name none."""
    texts = texts + (_read_config(config) if config else [])
    racers = {text: _parse(text) for text in texts} or RACERS
    for tx in racers.values():
        learning_rate(tx)  # An optimizer without a rate is refused before anything runs.
    return racers


def learning_rate(tx: Any) -> float:
    """The learning rate in `tx`, the first one if `tx` has several.

    Raises:
        RaceError: if the rate is not a positive number.
    """
    rates = [x for path, x in jax.tree_util.tree_leaves_with_path(tx) if is_rate(path)]
    if not rates or not isinstance(rates[0], float) or not rates[0] > 0:
        raise RaceError(
            f"{tx} has no learning rate that is a positive number, so its grid has no middle."
        )
    return rates[0]


def weight_decay(tx: Any) -> str:
    """The weight decay of `tx`, the first one if `tx` has several, as the table shows it."""
    for path, x in jax.tree_util.tree_leaves_with_path(tx):
        names = [getattr(entry, "name", None) for entry in path]
        if "weight_decay" in names:
            return f"{x:.2g}" if names[-1] == "weight_decay" and np.ndim(x) == 0 else "varies"
    return "0"


def _parse(text: str) -> gradtx.Transform:
    try:
        tx = gradtx.parse(text)
    except ValueError as error:
        raise RaceError(f"cannot read the optimizer {text!r}: {error}") from None
    if not isinstance(tx, gradtx.Transform):
        raise RaceError(f"{text!r} is not an optimizer.")
    return tx


def _read_config(path: str) -> list[str]:
    """The list `optimizers` of a TOML or YAML file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "the file is not text in UTF-8"
        raise RaceError(f"cannot read {path}: {reason}.") from None
    content = _decode(path, text)
    texts = content.get("optimizers") if isinstance(content, dict) else content
    if not isinstance(texts, list) or not texts or not all(isinstance(x, str) for x in texts):
        raise RaceError(
            f"{path} must hold a list of texts named `optimizers`, such as "
            'optimizers = ["adamw(3e-4, b2=0.95)", "sgd(0.1)"].'
        )
    return texts


def _decode(path: str, text: str) -> Any:
    if path.endswith(".toml"):
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RaceError(f"{path} is not valid TOML: {error}.") from None
    if path.endswith((".yaml", ".yml")):
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RaceError(f"{path} is not valid YAML: {error}.") from None
    raise RaceError(f"--config must name a .toml or .yaml file, not {path!r}.")
