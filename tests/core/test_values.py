"""Values and their fields: what is stored, compared and printed, and what is refused."""

import copy
import dataclasses
import operator
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import GRADIENT, PARAMS, fading, same, train

import gradtx
from gradtx import (
    Hyper,
    Transform,
    Value,
    adam,
    adamw,
    chain,
    clip,
    identity,
    replace,
    scale,
    scale_by_momentum,
    second_moment,
    sgd,
)


class sample(Value):
    rate: Hyper
    nested: Value | None = None
    rows: tuple[Hyper, ...] = ()
    flag: bool = False
    some_dtype: str | None = None
    table: Any = None
    limits = {"rate": "(0, 1]"}


def test_the_class_decides_which_fields_are_leaves():
    value = sample(0.5, sample(0.25), (1, 2.0), True, "float32", {"a": 3})
    assert jax.tree.leaves(value) == [0.5, 0.25, 1.0, 2.0]
    paths = [jax.tree_util.keystr(k) for k, _ in jax.tree_util.tree_leaves_with_path(value)]
    assert paths == [".rate", ".nested.rate", ".rows[0]", ".rows[1]"]
    assert jax.tree.structure(value) != jax.tree.structure(dataclasses.replace(value, flag=False))


def test_numbers_are_stored_as_python_floats_and_dtypes_by_name():
    for one in (1, 1.0, np.float32(1), np.int64(1)):
        assert type(sample(one).rate) is float and sample(one) == sample(1.0)
        assert repr(sample(one)) == "sample(1.0)"
    for dtype in (jnp.bfloat16, np.dtype("bfloat16"), "bfloat16"):
        assert sample(1, some_dtype=dtype).some_dtype == "bfloat16"
    assert type(sample(1, flag=np.True_).flag) is bool


def test_arrays_compare_by_shape_dtype_and_bytes():
    value = scale(jnp.asarray([0.5, 2.0]))
    assert value == scale(np.asarray([0.5, 2.0], "f4")) and hash(value) == hash(copy.copy(value))
    for other in ([0.5, 2.5], [[0.5, 2.0]]):
        assert value != scale(jnp.asarray(other))
    assert value != scale(jnp.asarray([0.5, 2.0], jnp.bfloat16)) and value != scale(0.5)
    assert pickle.loads(pickle.dumps(value)) == value


def test_functions_compare_by_identity_and_print_as_their_name():
    assert repr(scale(fading)) == "scale(fading)"
    assert scale(fading) == scale(fading) != scale(lambda step: fading(step))
    assert jax.tree.leaves(scale(fading)) == []


def test_schedules_with_data_of_their_own_are_data():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class line:
        slope: float

        def __call__(self, step):
            return self.slope * step

    assert jax.tree.leaves(scale(line(0.5))) == [0.5]
    steps = jax.jit(lambda tx: train(tx, PARAMS, [GRADIENT] * 2)[0])
    same(steps(sgd(line(0.5))), train(sgd(lambda step: 0.5 * step), PARAMS, [GRADIENT] * 2)[0])
    assert steps._cache_size() == 1 and steps(sgd(line(0.25))) and steps._cache_size() == 1


def test_mappings_in_fields_are_frozen_and_hash():
    value = sample(1, table={"b": 1, "a": [2]})
    assert value == sample(1, table={"a": (2,), "b": 1}) and hash(value) == hash(copy.copy(value))
    with pytest.raises(TypeError, match="cannot change"):
        value.table["a"] = 3
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value


def test_values_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample(1.0).rate = 2.0  # pyright: ignore


@pytest.mark.parametrize("bad", ["0.1", True, np.True_, object(), 1j])
def test_a_value_of_a_wrong_type_is_refused_by_the_name_of_its_field(bad):
    with pytest.raises(TypeError, match=r"sample\(rate=...\).*number.*array.*schedule"):
        sample(bad)


@pytest.mark.parametrize("bad", [None, {}, {"a": 0.1}, (), [0.1], sgd(0.1)])
def test_a_field_of_one_number_refuses_containers_and_none(bad):
    with pytest.raises(TypeError, match=r"sample\(rate=...\).*number.*array.*schedule"):
        sample(bad)
    with pytest.raises(TypeError, match=r"sgd\(learning_rate=...\)"):
        sgd(bad)


def test_only_a_field_that_says_so_may_be_none():
    assert sgd(0.1, momentum=None) == sgd(0.1)
    with pytest.raises(TypeError, match=r"sgd\(momentum=...\)"):
        sgd(0.1, momentum=(0.9,))


def test_sequences_in_static_fields_hash_however_deep():
    value = sample(1, table=((1, [2, 3]), [4]))
    assert value.table == ((1, (2, 3)), (4,)) and hash(value) == hash(copy.copy(value))


def test_an_unknown_argument_is_answered_with_the_known_ones():
    with pytest.raises(
        TypeError, match=r"`adamw\(...\)` has no argument `lr`; its arguments are learning_rate, b1"
    ):
        adamw(lr=0.1)  # pyright: ignore


def test_dtypes_of_averages_are_floating():
    with pytest.raises(TypeError, match=r"floating.*int32"):
        adam(0.1, mu_dtype="int32").init(PARAMS)


def test_arrays_print_all_their_digits():
    for rates in ([0.00012345678, 0.01], np.logspace(-4, 0, 2000), np.array([1 / 3])):
        tx = sgd(jnp.asarray(rates, jnp.float32))
        assert gradtx.parse(repr(tx)) == tx


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: gradtx.masked(sgd(0.1), None), r"masked\(mask=None\)"),
        (lambda: gradtx.masked(None, True), r"masked\(inner=\.\.\.\)"),
        (lambda: gradtx.muon(0.1, form="foo"), r"muon\(form='foo'\)`.*'gram'"),
        (lambda: gradtx.muon(0.1, axes=gradtx.by_rank(2)), r"axes=by_rank\(2\)"),
        (lambda: gradtx.fanout("subtract", sgd(0.1), 1.0, 2.0), "joins 2 branches"),
        (lambda: gradtx.by_path({"(": "x"}, "y"), "not a regular expression"),
        (lambda: gradtx.by_rank("2"), "whole number"),
        (lambda: adam(0.1, mu_dtype="int32"), r"mu_dtype=...\)`.*not 'int32'"),
        (lambda: chain([sgd(0.1), sgd(0.2)]), r"chain\(\*links\)"),
        (lambda: gradtx.equilibrate_rows(axes=None), r"equilibrate_rows\(axes=None\)"),
        (lambda: setattr(sgd(0.1), "learning_rate", 0.2), r"gradtx\.replace\(tx, learning_rate"),
        (lambda: sgd(0.1)._replace(learning_rate=0.2), r"gradtx\.replace"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_value_is_made(make, says):
    with pytest.raises((TypeError, ValueError, AttributeError), match=says):
        make()


@pytest.mark.parametrize("bad", [0, -1, 1.5, np.float32(2), float("nan"), float("inf")])
def test_numbers_outside_their_limits_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=r"sample\(rate=.*\(0, 1\]"):
        sample(bad)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="entries are read where this is free")
@pytest.mark.parametrize("make", [np.float32, np.asarray, jnp.float32])
def test_limits_hold_for_the_entries_of_arrays(make):
    assert adam(0.1, b2=make(0.999)).b2 == make(0.999)
    with pytest.raises(ValueError, match=r"adam\(.*second_moment\(decay=.*must lie in \[0, 1\)\."):
        adam(0.1, b2=make(1.0))
    several = np.asarray if make is np.float32 else lambda x: make(x)
    for entries, place in (([0.9, 0.99, 1.5], "2"), ([[0.9, -0.5]], "0, 1")):
        with pytest.raises(
            ValueError, match=rf"must lie in \[0, 1\), and its entry \[{place}\] is"
        ):
            adam(0.1, b2=several(entries))
    with pytest.raises(ValueError, match=r"adam\(b2=...\)` contains NaN, first at the entry \[1\]"):
        adam(0.1, b2=several([0.5, np.nan]))
    assert adam(0.1, b2=several([0.5, 0.9])).b2.shape == (2,)
    for bad in (make(1.0), several([0.5, 1.0])):
        with pytest.raises(ValueError, match="gives every gradient the weight 0"):
            adam(0.1, b1=bad)
        with pytest.raises(ValueError, match="with decay 1 the moment is a sum"):
            gradtx.bias_correction(scale_by_momentum(bad, form="heavy_ball"))


def test_limits_do_not_hold_for_what_is_not_known():
    batch = jax.vmap(lambda x: second_moment(x))(jnp.arange(3.0))
    assert batch.decay.shape == (3,)
    assert jax.jit(lambda x: second_moment(x).decay)(7.0) == 7
    donated = jnp.float32(0.5)
    donated.delete()
    assert second_moment(donated).decay is donated


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda n: gradtx.muon(0.1, steps=n), r"muon\(steps=...\)"),
        (lambda n: sgd(0.1, momentum=0.9, nesterov=n), r"sgd\(nesterov=...\)"),
    ],
)
def test_a_traced_value_in_a_static_field_is_refused_and_named(make, field):
    with pytest.raises(
        TypeError, match=rf"`{field}` decides how the step is compiled.*static_argnames"
    ):
        jax.jit(lambda n: make(n))(5)


def test_a_recipe_does_not_hide_the_errors_of_jax():
    class branching(gradtx.Recipe):
        rate: gradtx.Hyper = 0.5

        def expand(self):
            return scale(1.0) if self.rate > 0.25 else scale(2.0)

    with pytest.raises(jax.errors.TracerBoolConversionError, match="the function f at"):

        @jax.jit
        def f(rate):
            return branching(rate).rate

        f(0.5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
@pytest.mark.parametrize("field", ["b1", "b2", "eps", "weight_decay"])
def test_a_number_with_limits_needs_the_precision_of_float32(dtype, field):
    message = rf"has the dtype {dtype}.*needs float32 at least.*hyperparam_dtype=jnp.float32"
    with pytest.raises(ValueError, match=message):
        adamw(0.1, **{field: jnp.asarray(0.5, dtype)})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x: adamw(0.1, **{field: x}), jax.ShapeDtypeStruct((), dtype))
    adamw(jnp.asarray(0.5, dtype))  # the learning rate has no limits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adam(0.1, b1=1.5), r"adam\(.*decay=1.5"),
        (lambda: adam(0.1, b2=1.0), r"adam\(.*decay=1.0.*\[0, 1\)"),
        (lambda: adamw(0.1, weight_decay=-0.1), r"weight_decay=-0.1"),
        (lambda: sgd(0.1, momentum=-0.5), r"sgd\(.*decay=-0.5"),
        (lambda: scale_by_momentum(1.0), r"gives every gradient the weight 0"),
        (
            lambda: scale_by_momentum(form="polyak"),
            r"form='polyak'\)` must be 'ema' or 'heavy_ball'",
        ),
        (lambda: clip(-1.0), r"max_delta=-1.0"),
        (lambda: replace(adam(0.1), b1=2.0), r"decay=2.0"),
    ],
)
def test_impossible_hyperparameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_fields_cannot_have_the_names_of_tuple_methods():
    with pytest.raises(TypeError, match=r"broken.*count"):

        class broken(Transform):
            count: int = 0


def test_methods_of_tuples_are_hidden():
    a, b = sgd(0.1), sgd(0.2)
    assert a and a != () and a != (a.init, a.update) and [a, b].index(b) == 1
    for broken in (
        lambda: a < b,
        lambda: operator.add(a, (1,)),
        lambda: a * "x",
        lambda: sorted([a, b]),
    ):
        with pytest.raises(TypeError):
            broken()
    assert isinstance(a * 2, gradtx.fanout) and isinstance(2 * a, gradtx.fanout)
    assert isinstance(np.float64(2) * a, gradtx.fanout)
    assert len({a, b, sgd(0.1)}) == 2


def test_numbers_in_branches_print_all_their_digits():
    for x in (np.float64(1 / 3), np.arange(1500.0) / 7):
        tx = identity() * x
        assert gradtx.parse(repr(tx)) == tx


@pytest.mark.parametrize(
    "name", ["_replace", "_asdict", "_make", "_fields", "_field_defaults", "count", "index"]
)
def test_what_a_named_tuple_has_is_an_attribute_error_with_the_remedy(name):
    for x in (gradtx.sgd(0.1), gradtx.sgd):
        with pytest.raises(AttributeError, match=rf"`sgd` is a value.*has no `{name}`: \S"):
            getattr(x, name)
        assert not hasattr(x, name)
