"""`Rule`, the base class of rules that are values, and the operators that combine rules.

A rule is a function of the path of a leaf, such as `layers/0/attention/kernel`, and of the leaf, of
which it may read the shape. It gives each leaf a label for `partition`, or a bool for a mask. Rules that
are values print, compare and pickle with the optimizer. Rules that say True or False combine by `&`, `|`
and `~`, with each other and with functions. `labels.py` applies a rule to the parameters.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from gradtx._core.authors import described
from gradtx._core.static import show
from gradtx._core.values import Value


class Rule(Value):
    """The base class of rules: `rule(path, leaf)` is the label of a leaf, or a bool."""

    says_bools = True

    def __and__(self, other: Any) -> "Rule":
        return _both(self, other)

    def __rand__(self, other: Any) -> "Rule":
        return _both(other, self)

    def __or__(self, other: Any) -> "Rule":
        return _either(self, other)

    def __ror__(self, other: Any) -> "Rule":
        return _either(other, self)

    def __invert__(self) -> "Rule":
        return _not(self)

    def check_paths(self, paths: Sequence[str]) -> None:
        """Refuse parameters with these paths, if one of the rule's patterns matches none of them.

        Args:
            paths: the paths of all parameters.

        Raises:
            ValueError: if a pattern that is not optional matches no path.
        """


class _combination(Rule):
    """Rules joined by an operator. `sign` is the operator, and `binds` how tightly it binds."""

    sign = ""
    binds = 0

    @property
    def rules(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._static)

    def validate(self) -> None:
        for rule in self.rules:
            if isinstance(rule, type) or not callable(rule):
                raise TypeError(
                    f"`{self.sign}` combines rules, and functions of `(path, leaf)`; {described(rule)} "
                    "is neither."
                )
            takes = 2 if isinstance(rule, Rule) else positional(rule)
            if takes != 2 or not getattr(rule, "says_bools", True):
                raise TypeError(
                    f"`{self.sign}` combines rules of `(path, leaf)` that say True or False; "
                    f"`{show(rule)}` does not."
                )

    def check_paths(self, paths: Sequence[str]) -> None:
        for rule in self.rules:
            if isinstance(rule, Rule):
                rule.check_paths(paths)

    def __repr__(self) -> str:
        shown = [
            f"({show(rule)})"
            if isinstance(rule, _combination) and rule.binds < self.binds + right
            else show(rule)
            for right, rule in enumerate(self.rules)
        ]
        return f" {self.sign} ".join(shown)


class _both(_combination):
    left: Any
    right: Any
    sign, binds = "&", 2

    def __call__(self, path: str, leaf: Any) -> bool:
        return bool(self.left(path, leaf)) and bool(self.right(path, leaf))


class _either(_combination):
    left: Any
    right: Any
    sign, binds = "|", 1

    def __call__(self, path: str, leaf: Any) -> bool:
        return bool(self.left(path, leaf)) or bool(self.right(path, leaf))


class _not(_combination):
    rule: Any
    sign, binds = "~", 3

    def __call__(self, path: str, leaf: Any) -> bool:
        return not self.rule(path, leaf)

    def __repr__(self) -> str:
        text = show(self.rule)
        return f"~({text})" if isinstance(self.rule, _both | _either) else f"~{text}"


@functools.lru_cache(maxsize=256)
def positional(rule: Callable[..., Any]) -> int:
    """The number of positional arguments that a function requires."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = inspect.signature(rule).parameters.values()
    return sum(p.kind in kinds and p.default is p.empty for p in named)
