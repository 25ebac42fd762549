"""`gradtx.from_config`: reading optimizers from mappings, as TOML, YAML and JSON files give them.

What a part of a configuration means depends on the place at which it stands:

    where a value or a number stands         elsewhere (labels, flags, patterns, dtypes)
    number, bool, None    itself             itself
    string                a text for `parse` itself
    list                  a chain            a list
    {name: arguments}     a call             a call if `name` is that of a rule, else a mapping
    {"parse": text}       what `parse` reads in the text, at any place
"""

import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from gradtx._compose.chain import chain
from gradtx._core.authors import described
from gradtx._core.fields import is_value
from gradtx._core.values import Value
from gradtx._text.budget import MOST_LEVELS, Budget
from gradtx._text.grammar import Parser
from gradtx._text.kinds import is_call, is_list, is_mapping, takes_values, union_members
from gradtx._text.tokens import quoted, string_problem
from gradtx._text.vocabulary import SWEEPS, Called, suggestion, vocabulary


def from_config(
    config: Mapping[str, Any] | Sequence[Any] | str, names: Mapping[str, Any] | None = None
) -> Any:
    """The transformation, rule or schedule that a configuration describes.

    A call is a mapping with one key, the name: `{"adamw": {"learning_rate": 1e-3, "b2": 0.95}}`. The
    arguments are a mapping by name, a list by position, or a single argument: `{"clip": 1.0}`. A list of
    calls is a chain. Where a number, a schedule or a transformation stands, a string is a text for
    `parse`, such as `"cosine_decay_schedule(1e-3, 1000)"`. `{"parse": text}` is such a text anywhere.

    `from_config(to_config(tx)) == tx` holds for every `tx` that contains no function written by the
    user, and with `names` for the others.

    Args:
        config: a mapping, a list or a string; for example what `tomllib`, `yaml` or `json` reads, or a
            configuration of Hydra. It is limited like a text of `parse`, with 100,000 characters and
            parts in total.
        names: more names that the configuration may use, and their meanings, as for `parse`.

    Raises:
        ValueError: if a name or an argument is unknown, if a constructor refuses its arguments, or if
            `config` is too large. The message begins with the place, such as `adamw.b3`.

    >>> import gradtx
    >>> rate = {"warmup_cosine_decay_schedule": [0.0, 3e-4, 100, 1000]}
    >>> gradtx.from_config([{"clip_by_global_norm": 1.0}, {"adamw": {"learning_rate": rate}}])
    chain(clip_by_global_norm(1.0), adamw(warmup_cosine_decay_schedule(0.0, 0.0003, 100, 1000)))
    """
    made = _Reader(names).value(config, "", 1)
    if not isinstance(made, Value):
        raise ValueError(
            f"`from_config(config)` needs a mapping with one key, such as {{'sgd': 0.1}}, a list of "
            f"these, or a text, not {quoted(described(made))}."
        )
    return made


class _Reader:
    """What reads the parts of one configuration. Every method gets the place of its part."""

    def __init__(self, names: Mapping[str, Any] | None) -> None:
        self.names, self.budget = vocabulary(names), Budget()

    def value(self, x: Any, place: str, level: int) -> Any:
        """Read what stands where a value or a number stands."""
        self.count(x, place, level)
        if isinstance(x, str):
            return self.text(x, place)
        if is_mapping(x):
            return self.call(x, place, level)
        if is_list(x):
            links = [self.value(y, f"{place}[{i}]", level + 1) for i, y in enumerate(x)]
            return self.made(place, Called(chain), links, {})
        return x

    def static(self, x: Any, place: str, level: int) -> Any:
        """Read what stands where labels, flags, patterns and dtypes stand."""
        self.count(x, place, level)
        if isinstance(x, str):
            if problem := string_problem(x, self.budget):
                self.fail(place, problem)
            return x
        if is_mapping(x):
            if is_call(x, self.names):
                return self.call(x, place, level)
            return {k: self.static(x[k], _inside(place, k), level + 1) for k in self.keys(x, place)}
        if is_list(x):
            return [self.static(y, f"{place}[{i}]", level + 1) for i, y in enumerate(x)]
        return x

    def count(self, x: Any, place: str, level: int) -> None:
        """Count one part; the characters of a text are counted together with the part."""
        if level > MOST_LEVELS:
            self.fail(place, f"the configuration is nested more than {MOST_LEVELS} levels deep.")
        if problem := self.budget.read(1 + (len(x) if isinstance(x, str) else 0)):
            self.fail(place, problem)

    def keys(self, x: Any, place: str) -> list[Any]:
        keys = list(x.keys())
        for key in keys:
            self.count(key, place, 1)
        return keys

    def text(self, x: str, place: str) -> Any:
        try:
            return Parser(x, self.names, self.budget).literal()
        except ValueError as error:
            self.fail(place, str(error), error)

    def call(self, x: Any, place: str, level: int) -> Any:
        keys = self.keys(x, place)
        if len(keys) != 1:
            known = [key for key in keys if isinstance(self.names.get(key), Called)]
            listed = ", ".join(quoted(str(key)) for key in keys[:10])
            self.fail(
                place,
                "a call is a mapping with one key, the name of what is called; this mapping has "
                + (f"the keys {listed}." if keys else "no keys.")
                + (" For a chain, write a list of mappings." if len(known) > 1 else ""),
            )
        name, given = keys[0], x[keys[0]]
        inside = _inside(place, name)
        if name == "parse":
            if not isinstance(given, str):
                self.fail(inside, f"a text is needed, not {described(given)}.")
            self.count(given, inside, level)
            return self.text(given, inside)
        meaning = self.names.get(name) if isinstance(name, str) else None
        if name not in self.names:
            if name in SWEEPS:
                problem = f"{quoted(name)} makes several optimizers, and a configuration holds one."
                self.fail(inside, f"{problem} {SWEEPS[name]}")
            section = is_mapping(given) and not self.names.keys().isdisjoint(
                self.keys(given, place)
            )
            hint = f"; if it is a section, pass `config[{name!r}]`." if section else None
            near = suggestion(str(name), self.names)
            self.fail(inside, f"{quoted(str(name))} is not a name of gradtx{hint or near}")
        if not isinstance(meaning, Called):
            self.fail(inside, f"{quoted(name)} is not called: write it as a string, {name!r}.")
        args, keywords = self.arguments(meaning, given, inside, name, level + 1)
        return self.made(inside, meaning, args, keywords)

    def arguments(
        self, callee: Called, given: Any, place: str, name: str, level: int
    ) -> tuple[list[Any], dict[str, Any]]:
        """Read the arguments of a call: by name, by position, or a single one."""
        if given is None:
            return [], {}
        if is_mapping(given):
            keys = self.keys(given, place)
            nested = len(keys) == 1 and keys[0] not in callee.arguments
            if not (nested and (keys[0] == "parse" or isinstance(self.names.get(keys[0]), Called))):
                return [], {
                    key: self.named(callee, key, given[key], place, name, level) for key in keys
                }
            given = [given]
        positions = [p for p in callee.parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
        args = []
        for i, x in enumerate(given if is_list(given) else [given]):
            where = f"{place}[{i}]" if is_list(given) else place
            rest = positions and positions[-1].kind is positions[-1].VAR_POSITIONAL
            parameter = positions[i] if i < len(positions) else positions[-1] if rest else None
            args.append(self.argument(callee.hint(parameter), x, where, level))
        return args, {}

    def named(self, callee: Called, key: Any, x: Any, place: str, name: str, level: int) -> Any:
        inside = _inside(place, key)
        if key not in callee.arguments:
            near = callee.without(str(key))
            self.fail(inside, f"{quoted(name)} has no argument {quoted(str(key))}{near}")
        return self.argument(callee.hints.get(key), x, inside, level)

    def argument(self, hint: Any, x: Any, place: str, level: int) -> Any:
        """Read an argument with this annotation."""
        if not takes_values(hint):
            return self.static(x, place, level)
        members = union_members(hint)
        maps = [m for m in members if typing.get_origin(m) is Mapping]
        lists = [m for m in members if typing.get_origin(m) in (tuple, Sequence)]
        if maps and is_mapping(x):
            clear = [*x.keys()] == ["parse"] or any(map(is_value, members))
            if not (clear and is_call(x, self.names)):
                return self.mapping(typing.get_args(maps[0]), x, place, level)
        if lists and is_list(x):
            self.count(x, place, level)
            parts = typing.get_args(lists[0])
            if len(parts) != len(x) or Ellipsis in parts or typing.get_origin(lists[0]) is Sequence:
                parts = [parts[0]] * len(x)
            pairs = enumerate(zip(parts, x, strict=True))
            return tuple(
                [self.argument(part, y, f"{place}[{i}]", level + 1) for i, (part, y) in pairs]
            )
        return self.value(x, place, level)

    def mapping(self, kinds: Any, x: Any, place: str, level: int) -> dict[Any, Any]:
        """Read a mapping of values, whose keys and values have these annotations."""
        self.count(x, place, level)
        whole = kinds[0] is int
        return {
            (_as_int(k) if whole else k): self.value(x[k], _inside(place, k), level + 1)
            for k in self.keys(x, place)
        }

    def made(self, place: str, callee: Called, args: list[Any], keywords: dict[str, Any]) -> Any:
        if problem := self.budget.call(callee.price(keywords)):
            self.fail(place, problem)
        try:
            return callee.make(*args, **keywords)
        except Exception as error:
            self.fail(place, str(error) or type(error).__name__, error)

    def fail(self, place: str, problem: str, cause: Exception | None = None) -> NoReturn:
        where = f"`{place}`" if place else "`from_config(config)`"
        raise ValueError(f"{where}: {problem}") from cause


def _inside(place: str, key: Any) -> str:
    text = str(key)[:60]
    return f"{place}.{text}" if place else text


def _as_int(key: Any) -> Any:
    """A number of steps that a format has turned into a string."""
    return int(key) if isinstance(key, str) and key.isdigit() and len(key) < 20 else key
