"""`by_fan_in`, a rule by the number of inputs of a matrix."""

from typing import Any

from gradtx._compose.by import is_count
from gradtx._compose.patterns import VECTOR, found
from gradtx._compose.rules import Rule
from gradtx._core.authors import described
from gradtx._matrices.axes import MatrixRule, hidden_matrices


class by_fan_in(Rule):
    """A rule that says whether a leaf is a matrix with so many inputs.

    Leaves with fewer than two axes, norms and biases are not matrices.

    Args:
        at_least: the smallest number of inputs for which the rule says True.
        at_most: the largest number of inputs for which the rule says True. None means no limit.
        axes: the rule that says which axes of a leaf are its inputs.

    Raises:
        TypeError: if `at_least` or `at_most` is not a whole number, or `axes` is not a rule for
            matrices.

    >>> import gradtx, jax.numpy as jnp
    >>> rule = gradtx.by_fan_in(1024)
    >>> rule("up/kernel", jnp.ones((2048, 4))), rule("up/bias", jnp.ones(2048))
    (True, False)
    """

    at_least: int
    at_most: int | None = None
    axes: MatrixRule = hidden_matrices()

    def validate(self) -> None:
        for name in ("at_least", "at_most"):
            value = getattr(self, name)
            if not is_count(value, 0) and not (name == "at_most" and value is None):
                raise TypeError(
                    f"`by_fan_in({name}=...)` must be a whole number, 0 or more, not {described(value)}."
                )

    def __call__(self, path: str, leaf: Any) -> bool:
        if len(leaf.shape) < 2 or found(VECTOR, path):
            return False
        inputs, _ = self.axes.axes(path, leaf).size(leaf.shape)
        return self.at_least <= inputs and (self.at_most is None or inputs <= self.at_most)
