"""Rules by the path, by the number of axes and by the shape of a leaf."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradtx._compose.patterns import found, has_pattern, unmatched
from gradtx._compose.rules import Rule
from gradtx._core.authors import described


class by_path(Rule):
    """A rule that gives a leaf the label of the first pattern that is found in the leaf's path.

    Args:
        patterns: a mapping from regular expressions to labels. The expressions are searched, in this
            order, in paths such as `layers/0/attention/kernel`, where upper and lower case are the
            same. With one expression in place of the mapping, the rule says whether it is found.
        otherwise: the label of a leaf in whose path none of the patterns is found.
        whole_names: whether a pattern must match whole parts of the path, from slash to slash. Then
            `layers/1` is found in `layers/1/kernel` and not in `layers/10/kernel`.
        optional: the patterns that may match none of the parameters, or True for all of them.

    Raises:
        TypeError: if `patterns` is neither a mapping nor a string, or if `otherwise` is given together
            with a string.
        ValueError: if a pattern is not a regular expression, or if `optional` is not one of the
            patterns; and by `init`, if a pattern is found in the path of none of the parameters.

    >>> import gradtx
    >>> rule = gradtx.by_path({"embed|head": "adamw", r"bias$": "adamw"}, otherwise="muon")
    >>> rule("layers/0/kernel", None), rule("layers/0/bias", None)
    ('muon', 'adamw')
    >>> gradtx.by_rank(2) & ~gradtx.by_path("embed|head")
    by_rank(2) & ~by_path('embed|head')
    """

    patterns: Mapping[str, Any] | str
    otherwise: Any = None
    whole_names: bool = False
    optional: bool | str | tuple[str, ...] = False

    def validate(self) -> None:
        if not isinstance(self.patterns, Mapping | str):
            raise TypeError(
                "`by_path(patterns=...)` must be a mapping from patterns to labels, or one pattern, "
                f"not {described(self.patterns)}."
            )
        if isinstance(self.patterns, str) and self.otherwise is not None:
            raise TypeError(
                f"`by_path({self.patterns!r}, otherwise=...)` says True or False. To give labels, "
                f"pass a mapping: `by_path({{{self.patterns!r}: label}}, otherwise=...)`."
            )
        known = self._labels()
        for pattern in known:
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise ValueError(
                    f"`by_path(patterns=...)`: {pattern!r} is not a regular expression ({error})."
                ) from None
        for name in self._optional():
            if name not in known:
                raise ValueError(
                    f"`by_path(optional=...)` must be True, or one or several of the patterns "
                    f"{[*known]}, not {name!r}."
                )

    def _labels(self) -> Mapping[str, Any]:
        return {self.patterns: True} if isinstance(self.patterns, str) else self.patterns

    def _optional(self) -> tuple[Any, ...]:
        if isinstance(self.optional, bool):
            return tuple(self._labels()) if self.optional else ()
        return (self.optional,) if isinstance(self.optional, str) else self.optional

    def _key(self) -> Any:
        return tuple(self._labels()), super()._key()  # mappings compare without their order

    @property
    def says_bools(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return isinstance(self.patterns, str) or all(x in (None, 0, 1) for x in self.labels)

    @property
    def labels(self) -> tuple[Any, ...]:
        """The labels that it may give, without None, which stands for no label."""
        if isinstance(self.patterns, str):
            return ()
        known = [*self.patterns.values(), self.otherwise]
        return tuple(label for label in known if label is not None)

    def __call__(self, path: str, leaf: Any) -> Any:
        for pattern, label in self._labels().items():
            if found(pattern, path, self.whole_names):
                return label
        return False if isinstance(self.patterns, str) else self.otherwise

    def check_paths(self, paths: Sequence[str]) -> None:
        needed = [pattern for pattern in self._labels() if pattern not in self._optional()]
        remedy = "pass `optional=True` to `by_path` if it may match nothing"
        for pattern in needed:
            if not has_pattern(pattern, paths, self.whole_names):
                raise unmatched("by_path", pattern, paths, remedy)


class by_rank(Rule):
    """A rule that says whether a leaf has at least `rank` axes.

    `by_rank(2)` is False for biases and for the gains of normalization layers.

    Args:
        rank: the smallest number of axes for which the rule says True; a whole number, 0 or more.

    Raises:
        TypeError: if `rank` is not a whole number, 0 or more.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.by_rank(2)("kernel", jnp.ones((4, 8))), gradtx.by_rank(2)("bias", jnp.ones(8))
    (True, False)
    """

    rank: int

    def validate(self) -> None:
        if not is_count(self.rank, 0):
            raise TypeError(
                f"`by_rank(rank=...)` must be a whole number, 0 or more, not {described(self.rank)}."
            )

    def __call__(self, path: str, leaf: Any) -> bool:
        return len(leaf.shape) >= self.rank


class by_shape(Rule):
    """A rule that says whether a leaf has a certain shape.

    Args:
        shape: the length of each axis; None stands for any length.

    Raises:
        TypeError: if `shape` is not a tuple of whole numbers and None.

    >>> import gradtx, jax.numpy as jnp
    >>> rule = gradtx.by_shape((None, 10))  # matrices with ten outputs
    >>> rule("head/kernel", jnp.ones((4, 10))), rule("head/bias", jnp.ones(10))
    (True, False)
    """

    shape: tuple[int | None, ...]

    def validate(self) -> None:
        if not isinstance(self.shape, tuple) or not all(
            n is None or is_count(n, 0) for n in self.shape
        ):
            raise TypeError(
                "`by_shape(shape=...)` must be a tuple of whole numbers and None, such as (None, 10), "
                f"not {described(self.shape)}."
            )

    def __call__(self, path: str, leaf: Any) -> bool:
        return len(leaf.shape) == len(self.shape) and all(
            want in (None, n) for n, want in zip(leaf.shape, self.shape, strict=True)
        )


def is_count(x: Any, least: int) -> bool:
    """Whether `x` is a whole number that is not smaller than `least`."""
    return isinstance(x, int) and not isinstance(x, bool) and x >= least
