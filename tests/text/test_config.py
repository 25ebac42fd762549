"""`from_config` and `to_config`: a configuration is read back as the value, and a mistake is placed."""

import collections
import json
import tomllib
import types

import numpy as np
import pytest
import schedule_zoo
import yaml
import zoo

import gradtx
from gradtx import (
    adamw,
    by_path,
    by_rank,
    chain,
    clip,
    clip_by_global_norm,
    masked,
    muon,
    partition,
    sgd,
)


def toml(x):
    """A value of TOML. Inline tables may nest as deep as the configuration."""
    if isinstance(x, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(y)}" for k, y in x.items()) + "}"
    if isinstance(x, list):
        return "[" + ", ".join(map(toml, x)) + "]"
    return json.dumps(x)  # strings, numbers and bools are written alike


FORMATS = {
    "none": lambda x: x,
    "json": lambda x: json.loads(json.dumps(x, allow_nan=False)),
    "yaml": lambda x: yaml.safe_load(yaml.safe_dump(x, sort_keys=False)),
    "toml": lambda x: tomllib.loads(f"config = {toml(x)}")["config"],
}


def check(value, names):
    config = gradtx.to_config(value)
    for read in FORMATS.values():
        assert gradtx.from_config(read(config), names) == value


@pytest.mark.parametrize("row", zoo.ROWS, ids=str)
def test_every_value_is_read_back_from_every_format(row):
    check(row.make(), zoo.OWN)


@pytest.mark.parametrize("code", schedule_zoo.ROWS)
def test_every_schedule_is_read_back_from_every_format(code):
    check(schedule_zoo.make(code), {})


LABELS = [
    {"layers": [{"w": "a"}, ("b", "a")], "head": "b"},
    {"w": "a"},
    {"by_rank": "a"},
    {"parse": "a"},
]


@pytest.mark.parametrize(
    "value",
    [
        chain(),
        chain(chain(), chain(sgd(0.1))),
        masked(chain(clip(1.0), sgd(0.1)), {"scale": True, "bias": False}),
        masked(sgd(0.1), {"scale": True}),
        gradtx.freeze({"kernel": True}),
        *(partition({"a": sgd(0.1), "b": chain()}, labels) for labels in LABELS),
        partition({"parse": sgd(0.1)}, by_path({"": "parse"})),
        partition({"adamw": sgd(0.1)}, {"x": "adamw"}),
        partition({1: sgd(0.1)}, {"x": 1}),
        by_path({"a": None, "b": 1.5, "c": True}, optional=("a", "b")),
        by_path("bias$"),
        gradtx.by_shape((None, 10)),
        by_rank(2) & ~by_path("embed") | by_rank(3),
        by_path({"a": gradtx.MatrixAxes((0,), (1, 2))}),
        muon(0.1, axes=gradtx.hidden_matrices(blocks={"qkv": 3}, exclude=".")),
        gradtx.orthogonalize_newton_schulz(((3.0, -4.0, 2.0),), steps=1),
        gradtx.rms() / gradtx.rms() + float("inf"),
        sgd(np.array([0.1, 0.2])),
        sgd(gradtx.constant_schedule(0.1) * 2 + 1e-5),
        gradtx.averaged(adamw(0.1)),
    ],
    ids=repr,
)
def test_every_kind_of_field_is_read_back(value):
    check(value, {})


def test_what_a_user_guesses_is_read():
    tx = chain(
        clip_by_global_norm(1.0), adamw(gradtx.warmup_cosine_decay_schedule(0.0, 3e-4, 10, 100))
    )
    by_name = {"init_value": 0.0, "peak_value": 3e-4, "warmup_steps": 10, "decay_steps": 100}
    for rate in (
        {"warmup_cosine_decay_schedule": by_name},
        {"warmup_cosine_decay_schedule": [0.0, 3e-4, 10, 100]},
        "warmup_cosine_decay_schedule(0.0, 3e-4, 10, 100)",
        gradtx.warmup_cosine_decay_schedule(0.0, 3e-4, 10, 100),
    ):
        for clipping in (
            {"clip_by_global_norm": 1.0},
            "clip_by_global_norm(1.0)",
            {"parse": "clip_by_global_norm(1)"},
        ):
            for adam in ({"adamw": {"learning_rate": rate}}, {"adamw": rate}):
                assert gradtx.from_config([clipping, adam]) == tx
                assert gradtx.from_config({"chain": [clipping, adam]}) == tx
    for text in ("1e-3", 1e-3, "0.001"):  # YAML reads `1e-3` as a string
        assert gradtx.from_config({"adamw": {"learning_rate": text}}) == adamw(1e-3)
    assert gradtx.from_config({"adadelta": None}) == gradtx.from_config({"adadelta": {}})
    assert gradtx.from_config({"adamw": {"learning_rate": 0.1, "mask": None}}) == adamw(0.1)
    assert gradtx.from_config({"cautious": {"sgd": 0.1}}) == gradtx.cautious(sgd(0.1))
    pairs = [["a", {"clip": 1.0}], ["b", "sgd(0.1)"]]
    assert gradtx.from_config({"named_chain": pairs}) == gradtx.named_chain(
        ("a", clip(1.0)), ("b", sgd(0.1))
    )


def test_any_mapping_is_read():
    class ConfigDict:
        """A mapping as `ml_collections` has it, which does not derive from `Mapping`."""

        def __init__(self, **fields):
            self.fields = fields

        def keys(self):
            return self.fields.keys()

        def __getitem__(self, key):
            return self.fields[key]

    for kind in (dict, collections.OrderedDict, collections.UserDict, ConfigDict):
        config = kind(adamw=kind(learning_rate=0.1, mask=kind(by_rank=2)))
        assert gradtx.from_config(config) == adamw(0.1, mask=by_rank(2))
    read_only = types.MappingProxyType({"sgd": collections.UserList([0.1])})
    assert gradtx.from_config(read_only) == sgd(0.1)


def test_a_users_classes_and_functions_are_given_by_names():
    class halve(gradtx.Elementwise):
        power: gradtx.Hyper = 1.0
        mode: str = "plain"

    names = {"halve": halve, "fading": zoo.fading}
    config = [
        {"halve": {"power": "fading", "mode": "adamw"}},
        {"halve": 2},
        {"sgd": "2 * constant_schedule(1)"},
    ]
    tx = chain(halve(zoo.fading, "adamw"), halve(2.0), sgd(2 * gradtx.constant_schedule(1.0)))
    assert gradtx.from_config(config, names) == tx
    assert gradtx.from_config(gradtx.to_config(tx), names) == tx
    with pytest.raises(ValueError, match=r"`\[0\]\.halve`: `halve` is not a name of gradtx"):
        gradtx.from_config(config)


def test_none_and_infinities_do_not_occur_in_what_is_written():
    def parts(x):
        inside = x.values() if isinstance(x, dict) else x if isinstance(x, list) else ()
        return [x, *(part for y in inside for part in parts(y))]

    for row in zoo.ROWS:
        for part in parts(gradtx.to_config(row.make())):
            assert type(part) in (dict, list, str, int, float, bool)
            assert not isinstance(part, float) or np.isfinite(part)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"adamw": {"learning_rate": 0.1, "b3": 0.9}},
            "`adamw.b3`: `adamw` has no argument `b3`; did you mean `b2`?",
        ),
        (
            {"grid": ["sgd", {"learning_rate": [0.1]}]},
            "`grid`: `grid` makes several optimizers, and a configuration holds one. Write one "
            "optimizer, and call `gradtx.grid` in Python.",
        ),
        (
            [{"clip": 1}, {"admw": 0.1}],
            "`[1].admw`: `admw` is not a name of gradtx; did you mean `adamw`?",
        ),
        ([{"clip": -1.0}], "`[0].clip`: `clip(max_delta=-1.0)` must lie in [0, inf)"),
        (
            {"sgd": {"learning_rate": {"cosine_decay_schedule": [0.1]}}},
            "`sgd.learning_rate.cosine_decay_schedule`: `cosine_decay_schedule(...)` needs",
        ),
        (
            {"sgd": {"learning_rate": "cosin(1)"}},
            "`sgd.learning_rate`: line 1, column 1: `cosin` is not a name",
        ),
        (
            {
                "partition": {
                    "transforms": {"a": {"sgd": {"lr": 1}}},
                    "param_labels": {"by_rank": 2},
                }
            },
            "`partition.transforms.a.sgd.lr`: `sgd` has no argument `lr`",
        ),
        (
            {"masked": [{"sgd": 1}, {"by_path": "(a+)+"}]},
            "`masked[1].by_path`: `(a+)+` may take too long",
        ),
        (
            {"optimizer": {"adamw": 0.1}},
            "name of gradtx; if it is a section, pass `config['optimizer']`.",
        ),
        (
            {"clip": 1, "adamw": 0.1},
            "this mapping has the keys `clip`, `adamw`. For a chain, write a list of mappings.",
        ),
        ({}, "this mapping has no keys"),
        ([{}], "`[0]`: a call is a mapping with one key"),
        ({"sgd": "{'a': 1}"}, "`sgd`: `sgd(learning_rate=...)` must be a number"),
        ({"parse": 3}, "`parse`: a text is needed, not 3."),
        ({"inf": 3}, "`inf`: `inf` is not called: write it as a string, 'inf'."),
        ({1: 2}, "`1`: `1` is not a name"),
        (3, "needs a mapping with one key"),
        (None, "needs a mapping with one key"),
        ("3", "needs a mapping with one key"),
        ("adamw", "`adamw` must be called"),
        ([1], "`chain(...)` must be a gradient transformation"),
        (b"sgd(1)", "needs a mapping with one key"),
    ],
)
def test_a_mistake_is_found_at_its_place(config, message):
    with pytest.raises(ValueError) as caught:
        gradtx.from_config(config)
    assert message in str(caught.value)


def test_what_a_text_cannot_name_is_not_written():
    import optax

    with pytest.raises(ValueError, match=r"`chain\[0\].*of Optax cannot be written"):
        gradtx.to_config(chain(optax.sgd(0.1)))
    with pytest.raises(ValueError, match=r"`adamw\.learning_rate`, which prints as '<lambda>'"):
        gradtx.to_config(adamw(lambda step: 0.1))
    with pytest.raises(TypeError, match="needs a value of gradtx"):
        gradtx.to_config({"sgd": 0.1})
