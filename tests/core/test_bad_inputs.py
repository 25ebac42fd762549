"""Bad inputs by kind: each is a `TypeError` or `ValueError` that names the argument, and no other error.

The first table is made from the annotations of all public classes. Every argument gets the wrong values
of its kind, and everything that can be known is refused when the value is made. The second table has the
calls that a signature does not describe: trees, states, names, sweeps and texts.
"""

import inspect
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import schedule_zoo
import zoo
from zoo import GRADIENT, PARAMS

import gradtx
from gradtx import adam, by_rank, chain, constant_schedule, masked, norm, partition, sgd
from gradtx._core.fields import Fixed, Hyper, mentions
from gradtx._core.values import Value


def no_step():
    """A function that does not take the step."""


class Unknown:
    """An object of a class that means nothing to the library."""

    def __repr__(self):
        return "an unknown object"


NUMBERS = {
    "text": "0.1",
    "flag": True,
    "complex": 1j,
    "nan": float("nan"),
    "huge": 10**400,
    "object": Unknown(),
    "list": [0.1],
    "mapping": {"a": 0.1},
    "class": adam,
    "function": no_step,
    "measure": norm(),
    "rule": by_rank(2),
    "transformation": sgd(0.1),
    "array of text": np.array(["a"]),
    "array of objects": np.array([None]),
    "complex array": np.array(1j),
    "traced complex array": jnp.asarray(1j),
    "array of flags": jnp.asarray(True),
    "array with nan": jnp.asarray([0.5, np.nan]),
}
WRONG = {
    "number": NUMBERS,
    "numbers": {"text": "0.1", "number": 0.1, "object": Unknown(), "transformation": sgd(0.1)},
    "flag": {"text": "false", "one": 1, "none": None, "list": [], "object": Unknown()},
    "word": {"other word": "nonsense", "number": 3.5, "list": ["ema"], "array": jnp.ones(2)},
    "count": {
        "fraction": 2.5,
        "text": "2",
        "flag": True,
        "list": [1],
        "object": Unknown(),
        "more than 32 bits": 2**40,
    },
    "text": {"number": 3, "bytes": b"a", "list": ["a"], "object": Unknown()},
    "dtype": {"integers": "int32", "number": 3, "no dtype": "float33", "array": jnp.ones(2)},
    "axis": {"number": 0, "flag": True, "list of numbers": [1], "object": Unknown()},
    "transformation": {"text": "sgd", "number": 3, "class": adam, "rule": by_rank(2)},
    "mask": {"text": "kernel", "number": 3, "class": adam, "function": no_step, "measure": norm()},
    "matrix rule": {
        "number": 3,
        "text": "kernel",
        "function": no_step,
        "class": gradtx.hidden_matrices,
        "rule": by_rank(2),
        "optimizer with a field of this name": gradtx.muon(0.1),
        "transformation of Optax": optax.sgd(0.1),
    },
    "basis": {"number": 3, "none": None, "class": gradtx.eigenbasis, "transformation": sgd(0.1)},
}
# Rows for what is neither a transformation nor a schedule, or not in the zoo by itself.
MORE = [
    "by_rank(2)",
    "by_shape((None, 3))",
    "by_fan_in(4)",
    "blocked(whitening())",
    "transformer_blocks()",
    "matrix_blocks()",
    "laid_out(hidden_matrices(), {})",
    "by_path('a')",
    "decay_mask()",
    "hidden_matrices()",
    "norm()",
    "update_rms()",
    "update_ratio()",
    "gradient_cosine()",
    "clipped_fraction()",
    "nonfinite_count()",
    "orthogonality_error()",
    "gradient_noise_scale()",
    "ema_weight()",
    "mean_weight()",
    "polynomial_weight()",
    "power_weight()",
    "qk_clip()",
    "reduce_on_plateau()",
]


def instances():
    """One value of every public class that the zoos make, by the name of its class."""
    found = {}

    def walk(x):
        if isinstance(x, Value):
            if getattr(gradtx, type(x).__name__, None) is type(x):
                found.setdefault(type(x).__name__, x)
            x = [getattr(x, name) for name in x._data + x._static]
        elif isinstance(x, dict):
            x = list(x.values())
        if isinstance(x, list | tuple):
            list(map(walk, x))

    for code in [*map(str, zoo.ROWS), *schedule_zoo.ROWS, *MORE]:
        walk(zoo.evaluate(code))
    return found


def kind_of(owner, name):
    """The kind of a field, by its annotation, or None if the table has no wrong values for it."""
    hint = owner._hints[name]
    members = typing.get_args(hint) if typing.get_origin(hint) is not typing.Literal else (hint,)
    members = [m for m in members or (hint,) if m is not type(None)]
    if name.endswith("dtype"):
        return "dtype"
    if hint in (Hyper, Fixed) or members[0] in (Hyper, Fixed):
        return "numbers" if typing.get_origin(hint) is tuple else "number"
    if name == "axis_name" and not mentions(hint, dict):
        return "axis" if "Mapping" not in str(hint) else None
    if name == "mask":
        return "mask"
    if hint is gradtx.Transform:
        return "transformation"
    if members[0] is gradtx.Basis:
        return "basis"
    if getattr(members[0], "__name__", "") in ("MatrixRule", "BlockRule"):
        return "matrix rule"
    if len(members) == 1 and typing.get_origin(members[0]) is typing.Literal:
        return "word"
    return {bool: "flag", int: "count", str: "text"}.get(members[0]) if len(members) == 1 else None


def cases():
    """The class, the arguments of a right call, and the argument that is to be wrong, with its kind."""
    for name, value in sorted(instances().items()):
        cls = type(value)
        parameters = inspect.signature(cls).parameters.values()
        named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        named += [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        fields = {n: getattr(value, n) for n in named if n in cls._hints}
        for field in fields:
            if kind := kind_of(cls, field):
                yield name, fields, field, kind


CASES = list(cases())
# Words that explain nothing to a caller.
INTERNALS = (
    r"__\w+__|object has no attribute|positional argument|not supported between| at 0x|Tracer"
    "|not iterable|unhashable|not callable|truth value|jitted|data type|array type"
    "|pytree structure error:"
)


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_argument_is_refused_by_name_when_the_value_is_made(kind):
    silent, unclear = [], []
    for name, fields, field, of in CASES:
        if of != kind:
            continue
        for label, wrong in WRONG[kind].items():
            cls = getattr(gradtx, name)
            if isinstance(wrong, jax.Array) and jax.default_backend() != "cpu":
                continue  # its entries are read only where this is free
            if wrong is None and "None" in str(cls._hints[field]):
                continue
            case = f"{name}({field}={label})"
            try:
                made = cls(**fields | {field: wrong})
            except (TypeError, ValueError) as error:
                if field not in str(error) or re.search(INTERNALS, str(error)):
                    unclear.append(f"{case}: {error}")
            else:
                silent.append(f"{case}: {made}")
    assert (silent, unclear) == ([], [])


def test_the_table_has_the_kinds_and_the_number_of_cases():
    count = sum(len(WRONG[kind]) for *_, kind in CASES)
    assert {kind for *_, kind in CASES} == WRONG.keys() and count >= 1000


ADAM = adam(0.1)
STATE = ADAM.init(PARAMS)
# A right call of every public function that has a flag, a word, a count, a tree, a state or a function.
FUNCTIONS = {
    "accumulator": {"param": jnp.ones(2), "dtype": None},
    "apply_updates": {"rounding": "nearest"},
    "check": {"state": STATE},
    "check_state": {"state": STATE, "tx": ADAM, "params": PARAMS},
    "eval_params": {"tx": ADAM, "params": PARAMS, "state": STATE, "dtype": None},
    "expanded_state": {"tx": ADAM, "state": STATE, "params": PARAMS},
    "from_optax": {"tx": ADAM, "state": optax.adam(0.1).init(PARAMS), "params": PARAMS},
    "incremental_update": {"new_tensors": PARAMS, "old_tensors": PARAMS, "step_size": 0.1},
    "inject_hyperparams": {"inner_factory": adam, "static_args": (), "hyperparam_dtype": None},
    "locate_nonfinite": {"tx": ADAM, "updates": GRADIENT, "state": STATE, "params": PARAMS},
    "make_nnx_step": {"loss": len, "has_aux": False, "extra_args": None, "donate": True},
    "make_step": {"loss": len, "has_aux": False, "extra_args": None, "donate": True},
    "migrate": {"state": STATE, "tx": ADAM, "params": PARAMS, "report": None, "names": None},
    "newton_schulz": {
        "x": jnp.ones((2, 3)),
        "steps": None,
        "form": "auto",
        "norm": "frobenius",
        "dtype": None,
        "precision": None,
        "restart": None,
        "symmetric": None,
        "batching": "auto",
    },
    "parse": {"text": "adam(0.1)"},
    "place": {"tx": ADAM, "params": PARAMS, "param_shardings": None},
    "plan": {"tx": ADAM, "params": PARAMS, "topology": None, "timeout": 1.0, "flops": None},
    "plot": {"what": constant_schedule(1.0), "steps": None, "log": None},
    "polar_express": {"steps": 5, "lower": 0.1, "cushion": 0.1, "safety": 0.1},
    "readings": {"state": STATE},
    "reset": {"state": STATE, "tx": ADAM, "params": PARAMS},
    "routing": {"tx": ADAM, "params": PARAMS},
    "state_shardings": {"tx": ADAM, "params": PARAMS, "param_shardings": None},
    "summarize": {"tx": ADAM, "params": PARAMS, "compiled": False},
    "sweep": {
        "train": lambda tx: 0.0,
        "txs": [ADAM],
        "seeds": None,
        "score": None,
        "chunk": None,
        "memory": None,
        "devices": None,
        "progress": False,
    },
}
NO_TREE = {"text": "kernel", "number": 3, "class": adam, "function": no_step, "object": Unknown()}
WRONG_ARGUMENTS = {
    "params": NO_TREE,
    "state": NO_TREE,
    "tx": WRONG["transformation"],
    "param_shardings": {"text": "x", "list": [], "mapping": {}, "array": jnp.ones(2)},
    "loss": {"none": None, "number": 3, "text": "loss"},
    "report": {"number": 3, "text": "x", "list": []},
    "score": {"number": 3, "list": [], "other name": "loss"},
    "devices": {"number": 3, "text": "cpu", "function": no_step, "class": adam, "list": ["cpu"]},
    "seeds": {"function": no_step, "numbers": [0.5], "text": "1", "class": adam},
    "step_size": {"text": "0.1", "flag": True, "list": [0.1], "function": no_step},
    "static_args": {"number": 3, "function": no_step, "class": adam},
    "restart": {"number": 3, "text": "1", "function": no_step},
    "precision": {"number": 3, "text": "int7", "list": []},
    "rounding": WRONG["word"] | {"function": no_step},
}
FLOATS = {"text": "0.1", "flag": True, "list": [0.1], "nan": float("nan"), "function": no_step}
ARGUMENTS = [
    (name, argument)
    for name, given in FUNCTIONS.items()
    for argument in given
    if argument
    not in (
        "param",
        "x",
        "txs",
        "updates",
        "progress",
        "what",
        "inner_factory",
        "train",
        "old_tensors",
        "new_tensors",
    )
]


def wrong_arguments(function, argument):
    """The wrong values for an argument of a public function, by its name or its annotation."""
    if argument in WRONG_ARGUMENTS:
        return WRONG_ARGUMENTS[argument]
    if argument.endswith("dtype"):
        return WRONG["dtype"]
    hint = typing.get_type_hints(function)[argument]
    members = typing.get_args(hint) if typing.get_origin(hint) is not typing.Literal else (hint,)
    first = (members or (hint,))[0]
    kinds = {bool: "flag", int: "count", str: "text"}
    if first is float:
        return FLOATS
    return WRONG[kinds.get(first, "word" if typing.get_origin(first) is typing.Literal else "flag")]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_a_wrong_argument_of_a_function_is_refused_by_name(name, argument):
    function = getattr(gradtx, name)
    silent, unclear = [], []
    for label, value in wrong_arguments(function, argument).items():
        default = inspect.signature(function).parameters.get(argument)
        if value is None and default is not None and default.default is None:
            continue
        given = [PARAMS, GRADIENT] if name == "apply_updates" else []
        try:
            made = function(*given, **FUNCTIONS[name] | {argument: value})
        except (TypeError, ValueError) as error:
            if argument not in str(error) or re.search(INTERNALS, str(error)):
                unclear.append(f"{label}: {error}")
        else:
            silent.append(f"{label}: {made}")
    assert (silent, unclear) == ([], [])


TUNED = gradtx.tunable(adam(0.1))
OTHER = {"kernel": PARAMS["kernel"]}
STEP = adam(0.1).update


def wrong(shape_or_leaf, name="bias"):
    """The gradients with another leaf in the place of one of them."""
    leaf = jnp.ones(shape_or_leaf) if isinstance(shape_or_leaf, tuple) else shape_or_leaf
    return {**GRADIENT, name: leaf}


CALLS = {
    # Trees
    "a missing leaf": (lambda: STEP(OTHER, STATE, PARAMS), "differ in structure, first at `bias`"),
    "an extra leaf": (
        lambda: STEP({**GRADIENT, "b": jnp.ones(1)}, STATE, PARAMS),
        "first at `b`",
    ),
    "another shape": (lambda: STEP(wrong((2,)), STATE, PARAMS), "gradient at `bias` has shape"),
    "no axes": (lambda: STEP(wrong(()), STATE, PARAMS), "gradient at `bias` has shape"),
    "one axis more": (lambda: STEP(wrong((1, 3)), STATE, PARAMS), "gradient at `bias` has shape"),
    "a shape with zero": (lambda: STEP(wrong((0,)), STATE, PARAMS), "gradient at `bias` has shape"),
    "integers": (
        lambda: STEP(wrong(jnp.ones(3, int)), STATE, PARAMS),
        "gradient at `bias` is int32",
    ),
    "bools": (lambda: STEP(wrong(jnp.ones(3, bool)), STATE, PARAMS), "gradient at `bias` is bool"),
    "complex numbers": (
        lambda: STEP(wrong(jnp.ones(3, complex)), STATE, PARAMS),
        "gradient at `bias` is complex64",
    ),
    "a number": (lambda: STEP(wrong(1.0), STATE, PARAMS), "gradient at `bias` has shape"),
    "another shape, no parameters": (
        lambda: STEP(wrong((2,)), STATE),
        r"mu/bias` has shape \(3,\) instead of \(2,\)",
    ),
    "integers, no parameters": (
        lambda: sgd(0.1).update(wrong(jnp.ones(3, int)), sgd(0.1).init(PARAMS)),
        "gradient at `bias` is int32",
    ),
    "a list for a dictionary": (
        lambda: STEP(list(GRADIENT.values()), STATE, PARAMS),
        "differ in structure",
    ),
    # States
    "a state of another optimizer": (
        lambda: STEP(GRADIENT, sgd(0.1, 0.9).init(PARAMS), PARAMS),
        "state is not one",
    ),
    "a state of other parameters": (
        lambda: STEP(GRADIENT, adam(0.1).init(OTHER), PARAMS),
        "state is not one",
    ),
    "a number for a state": (lambda: STEP(GRADIENT, 3, PARAMS), "state for `update` .* is missing"),
    "state and parameters swapped": (
        lambda: STEP(GRADIENT, PARAMS, STATE),
        "One of them is a state",
    ),
    "no parameters where needed": (
        lambda: gradtx.adamw(0.1).update(GRADIENT, gradtx.adamw(0.1).init(PARAMS)),
        "needs the parameters",
    ),
    # Compositions
    "a class in a chain": (lambda: chain(sgd, adam), "`sgd` itself; call it"),
    "a function in a chain": (lambda: chain(no_step), "`no_step` itself; call it"),
    "a list in a chain": (lambda: chain([sgd(0.1)]), r"chain\(\*links\)"),
    "not a list of links": (lambda: chain(links=3), r"chain\(links=...\)` must be a list"),
    "names without links": (
        lambda: gradtx.named_chain(names=("a",)),
        r"named_chain\(names=..., links=...\)` got 1 names and 0 links",
    ),
    "not a list of branches": (
        lambda: gradtx.fanout("add", branches=3),
        r"fanout\(branches=...\)` must be a list",
    ),
    "a schedule that combines": (
        lambda: gradtx.fanout(constant_schedule(1.0), sgd(0.1), sgd(0.2)),
        r"fanout\(combine=...\)` must be a function",
    ),
    "a schedule as a rule": (lambda: constant_schedule(1) & by_rank(1), "`&` combines rules"),
    "a rule with a schedule": (lambda: by_rank(1) | constant_schedule(1), "`|` combines rules"),
    "a schedule as labels": (
        lambda: partition({"a": sgd(0.1)}, constant_schedule(1)),
        "`param_labels` must be a rule",
    ),
    "a transformation as labels": (
        lambda: partition({"a": sgd(0.1)}, sgd(0.1)),
        "`param_labels` must be a rule",
    ),
    "an unknown label": (
        lambda: partition({"a": sgd(0.1)}, lambda path, leaf: "b").init(PARAMS),
        "leaf `bias` .* label 'b', which is not one",
    ),
    "labels of two types": (
        lambda: partition({"a": sgd(0.1), 1: sgd(0.2)}, by_rank(1)),
        r"partition\(transforms=...\)` must be a mapping",
    ),
    "an array as a mask": (
        lambda: masked(sgd(0.1), {"bias": jnp.ones(3)}),
        "`mask` must be a rule",
    ),
    "a state as a mask": (lambda: masked(sgd(0.1), STATE), "`mask` must be a rule"),
    "a pattern that is not one": (lambda: gradtx.by_path("("), r"by_path\(patterns=...\)`"),
    "a pattern of nothing": (
        lambda: gradtx.freeze(gradtx.by_path("xyz")).init(PARAMS),
        "pattern 'xyz' of `by_path` is found in the path of none",
    ),
    "a mesh axis that is not bound": (
        lambda: gradtx.clip_by_global_norm(1.0, axis_name="x").update(GRADIENT, ()),
        "`axis_name` .* 'x', which does not exist",
    ),
    "a function of fewer arrays than branches": (
        lambda: gradtx.fanout(no_step, sgd(0.1), sgd(0.2)),
        r"as many arrays as there are branches, and there are 2; `no_step` takes `\(\)`",
    ),
    "a number for the axes of a matrix": (
        lambda: gradtx.MatrixAxes(0, 1),
        r"MatrixAxes\(inputs=...\)` must be a tuple of whole numbers",
    ),
    "no block": (
        lambda: gradtx.MatrixAxes((0,), (1,), 0),
        r"MatrixAxes\(blocks=...\)` must be a number of matrices, 1 or more",
    ),
    "rounds that never end": (lambda: gradtx.aurora(0.1, rounds=10**6), "between 1 and 100"),
    "steps that never end": (
        lambda: gradtx.scale_to_operator_norm(steps=10**6),
        "between 1 and 29",
    ),
    "a precision that is not one": (
        lambda: gradtx.scale_to_operator_norm(precision="int7"),
        r"matrix_norm\(precision=...\)` must be a precision",
    ),
    "a matrix of no size": (
        lambda: gradtx.scale_by_full_matrix_adagrad(max_size=0),
        r"max_size=0\)` must be 1 or more",
    ),
    "a tap without a measure": (lambda: gradtx.tap("a", ()), r"tap\(measure=...\)` is empty"),
    "a mapping of mesh axes": (
        lambda: gradtx.clip_by_global_norm(1.0, axis_name={0: "x"}),
        r"axis_name=...\)` must be the name of a mesh axis",
    ),
    "a number for a mesh axis": (lambda: gradtx.zero1(sgd(0.1), 3), r"zero1\(axis=3\)` must be"),
    "a mesh axis that a norm does not find": (
        lambda: gradtx.global_norm(GRADIENT, "x"),
        r"global_norm\(axis_name='x'\)` must be the name of a mesh axis",
    ),
    "initial values of another shape": (
        lambda: gradtx.second_moment(initial=jnp.ones(2)).init(PARAMS),
        r"array of shape \(2,\) cannot be the initial value",
    ),
    "a mapping for a schedule": (
        lambda: gradtx.from_first({"a": 0.1}),
        r"from_first\(decay=...\)` must be a number",
    ),
    "a text for parameters": (
        lambda: gradtx.apply_updates("w", 0.1),
        "`apply_updates` needs trees of arrays, and a leaf is 'w'",
    ),
    "a text for a number in a state": (
        lambda: gradtx.set(STATE, count="3"),
        "new value of `0.count` must be a number or an array, not '3'",
    ),
    # Schedules, names, sweeps
    "schedules that do not join": (
        lambda: gradtx.join_schedules([1.0, norm()], [3]),
        "entries of `join_schedules`",
    ),
    "a schedule as a boundary": (
        lambda: gradtx.join_schedules([1.0, 2.0], [constant_schedule(1)]),
        r"join_schedules\(boundaries=...\)|cannot be a schedule",
    ),
    "no list of cycles": (
        lambda: gradtx.sgdr_schedule(3),
        r"sgdr_schedule\(cosine_kwargs=...\)` must be a list",
    ),
    "a field that does not exist": (
        lambda: gradtx.replace(adam(0.1), momentum=0.9),
        "has no field `momentum`",
    ),
    "a replacement out of range": (lambda: gradtx.replace(adam(0.1), b2=2.0), "must lie in"),
    "a grid of nothing": (lambda: gradtx.grid(learning_rate=[0.1]), r"`grid\(...\)` needs `tx`"),
    "samples of nothing": (lambda: gradtx.samples(adam), r"`samples\(...\)` needs `n`"),
    "a text of nothing": (lambda: gradtx.parse("adamm(0.1)"), "adam"),
    "a flag in a text": (lambda: gradtx.parse("adam(0.1, nesterov='no')"), "nesterov='no'"),
    "a configuration of nothing": (lambda: gradtx.from_config({"adamm": 0.1}), "`adamm`"),
    "a flag in a configuration": (
        lambda: gradtx.from_config({"adam": {"learning_rate": 0.1, "nesterov": "no"}}),
        "nesterov='no'",
    ),
    "a dtype in a configuration": (
        lambda: gradtx.from_config({"adam": {"learning_rate": 0.1, "mu_dtype": "int8"}}),
        "mu_dtype",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_refused_and_says_what_is_wrong(name):
    call, said = CALLS[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        jax.eval_shape(lambda: call() and None)
    assert re.search(said, str(caught.value), re.DOTALL), str(caught.value)
