"""The machinery: values and their fields, editing, routing, the boundary, and what errors say."""

import copy
import dataclasses
import operator
import pickle
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from zoo import SMALL, fading, train, tree

import gradtx
from gradtx import (
    Elementwise,
    Hyper,
    Transform,
    Value,
    adam,
    adamw,
    apply_updates,
    axes,
    by_path,
    by_rank,
    chain,
    clip,
    decoupled_weight_decay,
    freeze,
    identity,
    masked,
    partition,
    replace,
    scale,
    scale_by_learning_rate,
    scale_by_momentum,
    sgd,
    stack,
)

PARAMS = tree(shapes=SMALL)
GRADIENT = tree(seed=1, shapes=SMALL)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def updated(tx, g=GRADIENT, params=PARAMS):
    return tx.update(g, tx.init(params), params)[0]


# --- Fields ---------------------------------------------------------------------------------------


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
    value = sample(jnp.asarray([0.5, 2.0]))
    assert value == sample(np.asarray([0.5, 2.0], "f4")) and hash(value) == hash(copy.copy(value))
    for other in ([0.5, 2.5], [[0.5, 2.0]]):
        assert value != sample(jnp.asarray(other))
    assert value != sample(jnp.asarray([0.5, 2.0], jnp.bfloat16)) and value != sample(0.5)
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
def test_what_is_no_hyperparameter_is_refused_by_name(bad):
    with pytest.raises(TypeError, match=r"sample\(rate=...\).*number.*array.*schedule"):
        sample(bad)


@pytest.mark.parametrize("bad", [None, {}, {"a": 0.1}, (), [0.1], sgd(0.1)])
def test_a_field_of_one_number_takes_nothing_that_holds_several_or_none(bad):
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
    "tx",
    [
        sgd(jnp.full(3, 0.1)),
        gradtx.chain(gradtx.clip_by_global_norm(jnp.ones(3)), adam(0.1)),
        gradtx.partition({"a": adam(0.1, b1=jnp.full(3, 0.9))}, lambda *_: "a"),
    ],
)
def test_a_sweep_that_is_not_mapped_over_is_refused(tx):
    g = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"(learning_rate|max_norm|b1)=.*vmap"):
        tx.update(g, tx.init(g))


@pytest.mark.parametrize("tx", [adam(0.1), gradtx.muon(0.1), sgd(0.1, momentum=0.9)], ids=repr)
def test_a_state_of_another_optimizer_is_said_to_be_one(tx):
    for other in (adamw(0.1), optax.adam(0.1), partition({"c": sgd(0.1)}, lambda *_: "c")):
        with pytest.raises(ValueError, match=r"state is not one that `init` of .* makes"):
            tx.update(GRADIENT, other.init(PARAMS), PARAMS)


def test_keys_of_random_numbers_may_stand_in_a_state():
    class KeyState(NamedTuple):
        key: Any

    start = jax.random.key(0)

    class jitter(gradtx.Elementwise):
        def init_leaf(self, param):
            return KeyState(gradtx.shared(start))

        def begin(self, state, measured):
            return KeyState(jax.random.split(state.key)[0]), None

        def update_leaf(self, update, state, param, values):
            return update, state

    tx = chain(jitter(), optax.add_noise(0.1, 0.5, 0), sgd(0.1))
    state = tx.init(PARAMS)
    for step in (tx.update, jax.jit(tx.update)):
        _, new = step(GRADIENT, state, PARAMS)
        assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
        assert not (jax.random.key_data(new[0].key) == jax.random.key_data(state[0].key)).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: gradtx.masked(sgd(0.1), None), r"masked\(mask=None\)"),
        (lambda: gradtx.masked(None, True), r"masked\(inner=\.\.\.\)"),
        (lambda: gradtx.muon(0.1, form="foo"), r"form='foo'"),
        (lambda: gradtx.muon(0.1, axes=gradtx.by_rank(2)), r"axes=by_rank\(2\)"),
        (lambda: gradtx.fanout("subtract", sgd(0.1), 1.0, 2.0), "joins 2 branches"),
        (lambda: gradtx.by_path({"(": "x"}, "y"), "not a regular expression"),
        (lambda: gradtx.by_rank("2"), "whole number"),
        (lambda: adam(0.1, mu_dtype="int32"), r"mu_dtype=...\)`.*not 'int32'"),
        (lambda: chain([sgd(0.1), sgd(0.2)]), r"chain\(\*links\)"),
        (lambda: gradtx.scale_to_rms(axes=None), r"scale_to_rms\(axes=\.\.\.\)"),
        (lambda: setattr(sgd(0.1), "learning_rate", 0.2), r"gradtx\.replace\(tx, learning_rate"),
        (lambda: sgd(0.1)._replace(learning_rate=0.2), r"gradtx\.replace"),
    ],
)
def test_what_can_be_known_when_it_is_made_is_refused_then(make, says):
    with pytest.raises((TypeError, ValueError, AttributeError), match=says):
        make()


def test_a_tracer_in_a_static_field_is_jaxs_own_error():
    with pytest.raises(jax.errors.JAXTypeError):
        jax.jit(lambda n: gradtx.muon(0.1, steps=n).learning_rate)(5)


def test_masks_and_labels_may_be_callable_trees_and_bools_may_be_numbers():
    layer = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    params, mask = eqx.filter(layer, eqx.is_array), jax.tree.map(lambda x: x.ndim > 1, layer)
    g = jax.tree.map(jnp.zeros_like, params)
    for given in (mask, lambda params: jax.tree.map(lambda x: x.ndim > 1, params)):
        tx = adamw(0.1, mask=given)
        updates, _ = tx.update(g, tx.init(params), params)
        assert updates.weight.any() and not updates.bias.any()
    tree = {"a": jnp.ones(2), "b": jnp.ones(2)}
    tx = adamw(0.1, mask={"a": 1, "b": 0})
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, tree), tx.init(tree), tree)
    assert updates["a"].any() and not updates["b"].any()


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_parameters_of_eight_bits_train(dtype):
    params = {"kernel": jnp.ones((2, 3), dtype), "bias": jnp.ones(3, dtype)}
    for tx in (adamw(0.1), gradtx.muon(0.1), gradtx.freeze(), sgd(0.1, momentum=0.9)):
        state = tx.init(params)
        for step in (tx.update, jax.jit(tx.update)):
            updates, new = step(params, state, params)
            assert zoo.types(new) == zoo.types(state)
            assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
        moved = gradtx.apply_updates(params, updates)
        assert {x.dtype for x in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}


def test_the_state_of_a_leaf_may_follow_its_shape():
    class RowState(NamedTuple):
        largest: Any

    class by_rows(gradtx.Elementwise):
        def init_leaf(self, param):
            return RowState(jnp.zeros(param.shape[0]))

        def update_leaf(self, update, state, param):
            largest = jnp.maximum(state.largest, jnp.max(jnp.abs(update), axis=1))
            return update / largest[:, None], RowState(largest)

    g = jnp.array([[1.0, -2.0], [4.0, 1.0]])
    same(by_rows().update(g, by_rows().init(g))[0], g / jnp.array([[2.0], [4.0]]))


def test_an_error_in_one_leaf_says_which():
    tx = adam(1e-3)
    state = tx.init({"a": {"w": jnp.ones(3)}})
    with pytest.raises(TypeError) as caught:
        tx.update({"a": {"w": jnp.ones(2)}}, state)
    assert any("`a/w`, of shape (2,)" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("bad", [0, -1, 1.5, np.float32(2), float("nan"), float("inf")])
def test_numbers_outside_their_limits_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=r"sample\(rate=.*\(0, 1\]"):
        sample(bad)


def test_limits_hold_for_numbers_only():
    assert sample(jnp.asarray(7.0)).rate == 7  # an array has no value to look at under jit
    batch = jax.vmap(lambda x: sample(x))(jnp.arange(3.0))
    assert batch.rate.shape == (3,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adam(-1.0), r"learning_rate=-1.0.*\[0, inf\)"),
        (lambda: adam(0.1, b1=1.5), r"adam\(.*decay=1.5"),
        (lambda: adam(0.1, b2=1.0), r"adam\(.*decay=1.0.*\[0, 1\)"),
        (lambda: adamw(0.1, weight_decay=-0.1), r"weight_decay=-0.1"),
        (lambda: sgd(0.1, momentum=-0.5), r"sgd\(.*decay=-0.5"),
        (lambda: scale_by_momentum(1.0), r"gives every gradient the weight 0"),
        (lambda: scale_by_momentum(form="polyak"), r"form='polyak'.*'ema' or 'heavy_ball'"),
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


def test_nothing_of_a_tuple_leaks():
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


def test_written_for_one_array_is_enough():
    class AverageState(NamedTuple):
        mean: Any

    class follow(Elementwise):
        """Half of the way to the parameter, averaged."""

        decay: Hyper = 0.5
        needs_params = True

        def init_leaf(self, param):
            return AverageState(jnp.zeros_like(param))

        def update_leaf(self, update, state, param):
            mean = self.decay * state.mean + (1 - self.decay) * (param - update)
            return mean, AverageState(mean)

    tx = chain(follow(0.25), scale_by_learning_rate(fading))
    params, state = train(tx, PARAMS, [GRADIENT])
    want = jax.tree.map(lambda p, g: p - 0.5 * 0.75 * (p - g), PARAMS, GRADIENT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, want)
    assert state[0].mean["bias"].shape == (3,)
    scheduled = follow(lambda step: 0.25)
    same(updated(scheduled), updated(follow(0.25)))


def test_a_state_of_another_structure_is_refused_by_name():
    class forgetful(Elementwise):
        def init_leaf(self, param):
            return (param,)

        def update_leaf(self, update, state, param):
            return update, ()

    with pytest.raises(TypeError, match="forgetful"):
        updated(forgetful())


# --- Editing --------------------------------------------------------------------------------------


def test_replace_changes_every_match_and_a_path_narrows():
    tx = chain(clip(1.0), partition({"a": adam(0.1), "b": sgd(0.1)}, by_rank(2)))
    assert replace(tx, learning_rate=0.5) == chain(
        clip(1.0), partition({"a": adam(0.5), "b": sgd(0.5)}, by_rank(2))
    )
    for path in ("a.learning_rate", "adam.learning_rate", "transforms.a.learning_rate"):
        narrowed = replace(tx, **{path: 0.5})
        assert narrowed == chain(clip(1.0), partition({"a": adam(0.5), "b": sgd(0.1)}, by_rank(2)))
    assert replace(tx, max_delta=2.0, b1=0.5).links[0] == clip(2.0)
    assert replace(adam(0.1), learning_rate=fading) == adam(fading)


def test_replace_says_what_there_is_when_nothing_matches():
    with pytest.raises(ValueError, match=r"no field `lr`.*learning_rate"):
        replace(adam(0.1), lr=0.5)
    with pytest.raises(ValueError, match=r"b\.learning_rate"):
        replace(chain(adam(0.1)), **{"b.learning_rate": 0.5})


def test_dataclasses_replace_works_for_compositions():
    tx = chain(clip(1.0), adam(0.1))
    assert dataclasses.replace(tx, links=(sgd(0.1),)) == chain(sgd(0.1))
    assert dataclasses.replace(tx.links[1], b1=0.5) == adam(0.1, b1=0.5)
    assert dataclasses.replace(clip(1.0) / 2.0, combine="multiply") == clip(1.0) * 2.0


def test_stack_makes_arrays_of_the_numbers_that_differ():
    batch = stack([adam(0.1, b1=0.5), adam(0.2, b1=0.5), adam(0.3, b1=0.5)])
    np.testing.assert_allclose(batch.learning_rate, [0.1, 0.2, 0.3])
    assert batch.b1 == 0.5 and batch.b2 == 0.999
    where = axes(batch)
    assert where.learning_rate == 0 and where.b1 is None
    assert axes(batch, learning_rate=0).learning_rate == 0
    with pytest.raises(ValueError, match="differ in numbers only"):
        stack([adam(0.1), sgd(0.1)])
    with pytest.raises(ValueError):
        stack([])
    with pytest.raises(ValueError, match=r"`lr`.*learning_rate"):
        axes(batch, lr=0)


def test_axes_names_what_a_sweep_is_over():
    def final(tx, params):
        return train(tx, params, [GRADIENT])[0]

    tx = replace(chain(clip(1.0), adam(0.1)), learning_rate=jnp.asarray([0.1, 0.2]))
    got = jax.vmap(final, in_axes=(axes(tx, learning_rate=0), None))(tx, PARAMS)
    for i, rate in enumerate((0.1, 0.2)):
        want = final(chain(clip(1.0), adam(jnp.float32(rate))), PARAMS)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6), got, want)


# --- States by name -------------------------------------------------------------------------------


def test_get_finds_by_name_and_a_path_narrows():
    tx = chain(scale_by_momentum(), partition({"a": adam(fading), "b": sgd(0.1)}, by_path({}, "a")))
    _, state = train(tx, PARAMS, [GRADIENT] * 2)
    with pytest.raises(KeyError, match=r"several.*0\.mu.*a"):
        gradtx.get(state, "mu")
    same(gradtx.get(state, "0.mu"), state[0].mu)
    same(gradtx.get(gradtx.set(state, **{"0.mu": GRADIENT}), "a.mu"), gradtx.get(state, "a.mu"))
    same(gradtx.get(gradtx.set(state, **{"0.mu": GRADIENT}), "0.mu"), GRADIENT)
    scheduled = scale(fading).init(PARAMS)._replace(inner={"count": 3})
    assert int(gradtx.get(scheduled, "count")) == 0
    assert float(gradtx.get(state, "a.last_learning_rate")) == 0.25
    with pytest.raises(KeyError, match=r"no entry named `lr`.*last_learning_rate"):
        gradtx.get(state, "lr")


def test_set_writes_every_match_in_its_old_type():
    tx = chain(scale(fading), adam(fading), scale(fading))
    _, state = train(tx, PARAMS, [GRADIENT] * 2)
    new = gradtx.set(state, count=7, step=7, mu=GRADIENT)
    assert zoo.types(new) == zoo.types(state)
    counts = [x for x in jax.tree.leaves(new) if x.dtype == jnp.int32]
    assert len(counts) == 4 and all(int(x) == 7 for x in counts)
    same(gradtx.get(new, "mu"), GRADIENT)
    with pytest.raises(KeyError, match="no entry named"):
        gradtx.set(state, velocity=1)


# --- Routing --------------------------------------------------------------------------------------

MODEL = tree(shapes={"embed": SMALL, "layers": [SMALL, SMALL], "head": {"kernel": (2, 3)}})
MODEL_GRADIENT = tree(
    seed=1, shapes={"embed": SMALL, "layers": [SMALL, SMALL], "head": {"kernel": (2, 3)}}
)
RULES = {
    "rule of paths": by_path({"embed|head": "a", r"bias$": "a"}, otherwise="b"),
    "function of path and leaf": lambda path, leaf: (
        "b" if path.startswith("layers/") and leaf.ndim == 2 else "a"
    ),
    "tree": {
        "embed": {"kernel": "a", "bias": "a"},
        "layers": [{"kernel": "b", "bias": "a"}] * 2,
        "head": {"kernel": "a"},
    },
    "prefix of a tree": {"embed": "a", "layers": [{"kernel": "b", "bias": "a"}] * 2, "head": "a"},
    "function to a tree": lambda params: {
        "embed": "a",
        "layers": [{"kernel": "b", "bias": "a"} for _ in params["layers"]],
        "head": "a",
    },
    "function to a rule": lambda params: by_path({"layers/./kernel": "b"}, otherwise="a"),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_partition_gives_each_leaf_to_what_its_label_names(rule):
    tx = partition({"a": adam(0.1), "b": sgd(0.1, momentum=0.9), "unused": adam(9.0)}, rule)
    state = tx.init(MODEL)
    updates, new = tx.update(MODEL_GRADIENT, state, MODEL)
    everything = {
        "a": updated(adam(0.1), MODEL_GRADIENT, MODEL),
        "b": updated(sgd(0.1, 0.9), MODEL_GRADIENT, MODEL),
    }
    same(updates["embed"], everything["a"]["embed"])
    same(updates["head"], everything["a"]["head"])
    for layer, a, b in zip(
        updates["layers"], everything["a"]["layers"], everything["b"]["layers"], strict=True
    ):
        same(layer, {"kernel": b["kernel"], "bias": a["bias"]})
    # Leaves that a group does not own cost it nothing.
    for group, leaves in (("a", 5), ("b", 2), ("unused", 0)):
        sizes = [x for x in jax.tree.leaves(new.inner_states[group]) if x.ndim]
        assert len(sizes) == leaves * (1 if group == "b" else 2)
    assert zoo.types(new) == zoo.types(state)
    assert len(gradtx.routing(tx, MODEL)) == 7 if hasattr(gradtx, "routing") else True


def test_partition_names_the_leaf_whose_label_is_unknown():
    tx = partition({"a": adam(0.1)}, by_path({"layers/1": "c"}, otherwise="a"))
    with pytest.raises(ValueError, match=r"layers/1/bias.*\(3,\).*'c'.*'a'"):
        tx.init(MODEL)
    with pytest.raises(ValueError, match="labels does not fit"):
        partition({"a": adam(0.1)}, {"embed": "a"}).init(MODEL)
    with pytest.raises(TypeError, match="transforms"):
        partition({"a": 0.1}, "a")


def test_labels_are_decided_from_parameters_also_where_a_gradient_is_missing():
    tx = partition({"a": adam(0.1), "b": sgd(0.1)}, by_rank_label)
    g = MODEL_GRADIENT | {"embed": {"kernel": None, "bias": None}}
    updates, _ = tx.update(g, tx.init(MODEL), MODEL)
    same(updates["embed"], jax.tree.map(lambda p: -0.0 * p, MODEL["embed"]))


def by_rank_label(path, leaf):
    return "a" if leaf.ndim == 2 else "b"


MASKS = {
    "rule": by_rank(2),
    "function of path and leaf": lambda path, leaf: "kernel" in path,
    "tree": {"kernel": True, "bias": False},
    "function to a tree": lambda params: jax.tree.map(lambda p: p.ndim == 2, params),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_come_in_every_form(mask):
    inside = updated(masked(sgd(0.1), mask))
    same(inside, {"kernel": updated(sgd(0.1))["kernel"], "bias": GRADIENT["bias"]})
    frozen = updated(freeze(mask))
    same(frozen["bias"], GRADIENT["bias"])
    still = np.asarray(frozen["kernel"])
    assert np.all((still == 0) & np.signbit(still))
    decayed = updated(decoupled_weight_decay(0.5, mask=mask))
    same(decayed["bias"], GRADIENT["bias"])
    same(decayed["kernel"], GRADIENT["kernel"] + 0.5 * PARAMS["kernel"])


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("recipe", [gradtx.adamw, gradtx.muon, gradtx.sgd])
def test_recipes_take_masks_in_every_form(recipe, mask):
    rule = updated(recipe(0.1, weight_decay=0.5, mask=by_rank(2)))
    same(updated(recipe(0.1, weight_decay=0.5, mask=mask)), rule)
    as_list = recipe(0.1, weight_decay=0.5, mask=[False, True])  # the parameters' order
    params, gradient = jax.tree.leaves(PARAMS), jax.tree.leaves(GRADIENT)
    same(as_list.update(gradient, as_list.init(params), params)[0], jax.tree.leaves(rule))


def test_a_recipe_may_have_a_mask_of_its_own_meaning():
    class padded(gradtx.Recipe):
        mask: tuple[int, ...] = (0, 1)

        def expand(self):
            return scale(float(len(self.mask)))

    assert padded().mask == (0, 1)
    mask = {"kernel": np.True_, "bias": np.False_}
    assert gradtx.parse(repr(adamw(0.1, mask=mask))) == adamw(0.1, mask=mask)


def test_an_error_in_a_step_is_its_own_where_the_state_cannot_be_judged():
    class needs_value(Transform):
        def init_tree(self, params):
            return jax.tree.map(jnp.zeros_like, params)

        def update_tree(self, updates, state, params, extra):
            return extra["value"], state

    tx = needs_value()
    with pytest.raises(KeyError, match="value"):
        tx.update({"w": jnp.ones(2), "b": None}, tx.init({"w": jnp.ones(2), "b": jnp.ones(2)}))


def test_numbers_in_branches_print_all_their_digits():
    for x in (np.float64(1 / 3), np.arange(1500.0) / 7):
        tx = identity() * x
        assert gradtx.parse(repr(tx)) == tx


def test_a_mask_that_says_words_is_refused():
    with pytest.raises(TypeError, match=r"A mask must be .*'kernel' is none of these"):
        masked(sgd(0.1), "kernel")
    with pytest.raises(TypeError, match=r"mask=...\).*True or False"):
        updated(masked(sgd(0.1), by_path({"kernel": "decay"}, otherwise="no")))


def test_what_is_no_mapping_is_refused_by_name():
    with pytest.raises(TypeError, match=r"by_path\(patterns"):
        by_path(["kernel"])
    for bad in (["a"], {"a": sgd(0.1), None: sgd(0.1)}):
        with pytest.raises(TypeError, match=r"partition\(transforms"):
            partition(bad, by_rank(2))


def test_parameters_may_be_called_what_fields_of_states_are():
    params = {"count": jnp.ones(2), "mu": jnp.ones(2)}
    state = gradtx.set(adam(0.1).init(params), count=5, mu=jax.tree.map(lambda x: 7 * x, params))
    assert int(state[0].count) == 5
    same(gradtx.get(state, "mu"), jax.tree.map(lambda x: 7 * x, params))
    same(gradtx.get(state, "nu"), jax.tree.map(jnp.zeros_like, params))
    for value in (3.0, {"count": jnp.ones(2)}, {"count": jnp.ones(3), "mu": jnp.ones(2)}):
        with pytest.raises(ValueError, match=r"`set`.*mu.*(structure|shape)"):
            gradtx.set(state, mu=value)


def test_equal_transformations_stack_to_a_batch_too():
    for batch in (gradtx.stack([sgd(0.1), sgd(0.1)]), gradtx.stack([sgd(0.1)])):
        axes = gradtx.axes(batch)
        out = jax.vmap(lambda tx: updated(tx), in_axes=(axes,))(batch)
        assert out["bias"].shape[0] == batch.learning_rate.shape[0]


def test_axes_map_arrays_alone():
    tx = gradtx.muon(jnp.array([0.1, 0.2]), auxiliary=adamw(1e-3))
    axes = gradtx.axes(tx, learning_rate=0)
    assert jax.vmap(lambda tx: updated(tx), in_axes=(axes,))(tx)["kernel"].shape == (2, 2, 3)


def test_masks_and_rules_are_part_of_the_value():
    for mask in (by_rank(2), {"kernel": True, "bias": False}):
        a, b = masked(adam(0.1), mask), masked(adam(0.1), copy.deepcopy(mask))
        assert a == b and hash(a) == hash(b) and zoo.evaluate(repr(a)) == a
        assert a != masked(adam(0.1), by_rank(1))


def test_masked_keeps_no_state_outside():
    state = masked(adam(0.1), by_rank(2)).init(PARAMS)
    assert [x.shape for x in jax.tree.leaves(state) if x.ndim] == [(2, 3), (2, 3)]


def test_freezing_a_part_leaves_it_bitwise_untouched():
    tx = partition({True: adamw(0.1, weight_decay=0.1), False: freeze()}, by_rank(2))
    params = {"kernel": PARAMS["kernel"], "bias": jnp.asarray([-0.0, np.nan, 2e-38])}
    new, _ = train(tx, params, [GRADIENT] * 2)
    assert new["bias"].tobytes() == params["bias"].tobytes()
    assert np.all(new["kernel"] != params["kernel"])


# --- Updates --------------------------------------------------------------------------------------


def test_apply_updates_adds_in_the_wider_dtype_and_keeps_the_parameters_own():
    for p, u in (("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "bfloat16")):
        params, updates = tree(p, shapes=SMALL), tree(u, seed=1, shapes=SMALL)
        new = apply_updates(params, updates)
        want = jax.tree.map(
            lambda a, b: (a.astype("f4") + b.astype("f4")).astype(a.dtype), params, updates
        )
        same(new, want)
        assert {x.dtype.name for x in jax.tree.leaves(new)} == {p}
    same(
        apply_updates({"a": jnp.asarray(1 + 2j)}, {"a": jnp.asarray(1j)}),
        {"a": jnp.asarray(1 + 3j)},
    )


def test_apply_updates_passes_over_what_has_none():
    params = {"a": PARAMS, "name": "dense", "n": 3, "act": jnp.tanh, "steps": jnp.arange(2)}
    updates = {"a": {"kernel": None, "bias": PARAMS["bias"]}, "name": None, "n": None, "act": None,
               "steps": None}  # fmt: skip
    new = apply_updates(params, updates)
    same(new["a"], {"kernel": PARAMS["kernel"], "bias": 2 * PARAMS["bias"]})
    assert new["act"] is jnp.tanh and new["name"] == "dense" and new["n"] == 3


def test_apply_updates_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*\(3,\)"):
        apply_updates({"a": jnp.ones(3)}, {"a": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match="do not fit"):
        apply_updates(PARAMS, {"kernel": PARAMS["kernel"]})


def test_updates_for_another_state_are_refused_even_without_parameters():
    with jax.numpy_rank_promotion("allow"):
        tx = scale_by_momentum()
        state = tx.init({"a": jnp.ones(3)})
        for shape in ((2, 3), (1,), ()):
            with pytest.raises(ValueError, match="shape"):
                tx.update({"a": jnp.ones(shape)}, state)
        with pytest.raises(ValueError):
            tx.update({"b": jnp.ones(3)}, state)


def test_learning_rate_can_be_a_schedule_and_is_recorded():
    tx = chain(identity(), scale_by_learning_rate(fading))
    state = tx.init(PARAMS)
    assert float(gradtx.get(state, "last_learning_rate")) == 0
    for step in range(3):
        updates, state = tx.update(GRADIENT, state)
        rate = 0.5 / (1 + step)
        assert float(gradtx.get(state, "last_learning_rate")) == pytest.approx(rate)
        jax.tree.map(
            lambda u, g, r=rate: np.testing.assert_allclose(u, -r * g, rtol=1e-6), updates, GRADIENT
        )
