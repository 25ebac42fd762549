"""The drawing of a transformation: every number that acts, the arrays of its state, and its cost."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from shares import share

import gradtx
from gradtx import (
    adam,
    adamw,
    by_path,
    by_rank,
    chain,
    masked,
    muon,
    partition,
    scale,
    sgd,
    summarize,
)

each = pytest.mark.parametrize("row", zoo.ROWS, ids=str)


def of_share(test):
    """A test that takes steps or allocates states, on a share of the rows."""
    rows = share(zoo.ROWS, test.__name__, 4)
    return pytest.mark.parametrize("row", rows, ids=str)(test)


def nbytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


@of_share
def test_the_sizes_shown_are_those_of_the_state(row):
    tx, params = row.make(), zoo.tree(shapes=zoo.SMALL)
    summary, state = summarize(tx, params), tx.init(params)
    assert summary.state_bytes == summary.rows[0].state_bytes == nbytes(state)
    assert sum(entry.bytes for entry in summary.arrays) == nbytes(state)
    assert summary.parameters == 9
    assert f"{summary.state_bytes / 9:.3g} bytes per parameter" in str(summary)
    assert [row.text for row in summary.rows] == [row.text for row in summarize(tx).rows]
    assert summarize(tx).state_bytes is None and summarize(tx).arrays == ()
    assert max(map(len, str(summary).splitlines())) <= 96


@each
def test_every_class_and_every_number_is_in_the_tree(row):
    tx = row.make()
    drawn = "".join(x.text.replace("│", " ") for x in summarize(tx).rows)
    below = [tx]
    for part in below:
        below.extend(part.children)
        assert type(part).__name__ in drawn
        for name in part._data:
            value = getattr(part, name)
            if isinstance(value, float):
                assert f"{name}={value!r}" in drawn


@of_share
def test_the_names_of_the_arrays_are_those_that_get_takes(row):
    tx, params = row.make(), zoo.tree(shapes=zoo.SMALL)
    state = tx.init(params)
    for entry in summarize(tx, params).arrays:
        if entry.name != "(all)" and not entry.name.split(".")[-1].isdigit():
            found = gradtx.get(state, entry.name)
            assert nbytes(found) == entry.bytes
            dtypes = {str(x.dtype) for x in jax.tree.leaves(found)}
            assert dtypes == set(entry.dtype.split(", "))


def test_a_recipe_stands_above_what_it_expands_to():
    tx = chain(sgd(0.1, momentum=0.9), masked(scale(2.0), by_rank(2)), optax.sign_sgd(0.1))
    assert (
        repr(summarize(tx))
        == """\
chain
├── sgd(learning_rate=0.1, momentum=0.9)
│   └── chain
│       ├── scale_by_momentum(decay=0.9, form='heavy_ball')
│       └── scale_by_learning_rate(learning_rate=0.1)
├── masked(mask=by_rank(2))
│   └── scale(step_size=2.0)
└── foreign(chain)"""
    )


def test_defaults_are_shown_and_what_acts_where_a_field_holds_none():
    text = str(summarize(adamw(1e-3)))
    assert "adamw(learning_rate=0.001, b1=0.9, b2=0.999, eps=1e-08, weight_decay=0.0001)" in text
    assert "second_moment(decay=0.999, initial=0.0)" in text
    assert "steps=5" in str(summarize(muon(0.1)))
    assert "steps=3" in str(summarize(muon(0.1, steps=3)))
    assert "mu_dtype='bfloat16'" in str(summarize(adam(0.1, mu_dtype="bfloat16")))


def test_the_table_lists_the_state_by_name():
    params = {"w": jax.ShapeDtypeStruct((100, 10), jnp.bfloat16)}
    arrays = summarize(adamw(0.1, mu_dtype="bfloat16"), params).arrays
    assert [(a.name, a.dtype, a.bytes, a.bytes_per_parameter) for a in arrays] == [
        ("0.count", "int32", 4, None),
        ("0.mu", "bfloat16", 2000, 2.0),
        ("0.nu", "float32", 4000, 4.0),
        ("2.step", "int32", 4, None),
        ("2.last_learning_rate", "float32", 4, None),
    ]
    names = [a.name for a in summarize(muon(0.1), {"w": jnp.ones((4, 8)), "b": jnp.ones(8)}).arrays]
    assert {"muon.0.0.mu", "adamw.0.mu", "adamw.0.nu"} <= set(names)
    # A single array: the counters are not taken for arrays of the parameter.
    alone = {a.name: a.bytes_per_parameter for a in summarize(adam(0.1), jnp.ones(5)).arrays}
    assert alone["0.mu"] == 4 and alone["0.count"] is None
    foreign = {a.name: a.bytes for a in summarize(optax.adam(0.1), params).arrays}
    assert foreign == {"0.count": 4, "0.mu": 2000, "0.nu": 2000}


def test_a_group_counts_the_leaves_that_reach_it():
    params = {"w": jnp.ones((4, 8)), "b": jnp.ones(8)}
    tx = partition({"a": adam(0.1), "b": sgd(0.1, momentum=0.9)}, by_path({"w": "a"}, "b"))
    _, *rows = summarize(tx, params).rows
    sizes = {row.text[4:].split("(")[0]: row.state_bytes for row in rows if row.text[0] in "├└"}
    assert sizes == {"a: adam": 2 * 32 * 4 + 12, "b: sgd": 8 * 4 + 8}
    inside = summarize(masked(sgd(0.1, momentum=0.9), by_rank(2)), params).rows
    assert [row.state_bytes for row in inside] == [136, 136, 136, 128, 8]


def test_the_links_of_a_chain_add_up_to_it():
    params = zoo.tree(shapes=zoo.SMALL)
    rows = summarize(adamw(0.1), params).rows
    links = [row.state_bytes for row in rows if re.match("    [├└]", row.text)]
    assert len(links) == 3 and sum(links) == rows[1].state_bytes == rows[0].state_bytes


def test_nothing_is_allocated_and_other_leaves_do_not_count():
    params = {
        "w": jax.ShapeDtypeStruct((10**6, 10**6), jnp.bfloat16),
        "n": 3,
        "f": jnp.tanh,
        "x": 1.0,
    }
    summary = summarize(adam(0.1), params)
    assert summary.parameters == 10**12 + 1 and summary.state_bytes == 8 * (10**12 + 1) + 12
    assert str(summary).splitlines()[0].endswith(" 8.0 TB")
    assert "1,000,000,000,001 parameters, 8 bytes per parameter" in str(summary)


def test_sizes_are_read_in_units_of_a_thousand():
    last = lambda n: str(summarize(sgd(0.1, momentum=0.9), jnp.ones(n))).splitlines()[-1]
    assert last(0) == "8 B of state for 0 parameters"
    assert last(247).startswith("996 B ") and last(248).startswith("1.0 kB ")
    assert last(250_000).startswith("1.0 MB ")


def test_a_line_that_is_too_long_is_wrapped_and_a_long_rule_is_cut():
    long = by_path({f"layer_{i}?": "a" for i in range(50)}, "a")
    rows = summarize(partition({"a": sgd(0.1)}, long)).rows
    assert len(rows[0].text) < 84 and rows[0].text.endswith("…)") and len(rows) == 5
    tx = chain(muon(jnp.linspace(0.1, 1.0, 16), weight_decay=jnp.ones(16), ns_dtype="bfloat16"))
    text = str(summarize(tx))
    assert max(map(len, text.splitlines())) <= 84 and "dtype='bfloat16'" in text
    text = str(summarize(gradtx.psgd_kron(0.1)))  # a probability with five arguments
    assert max(map(len, text.splitlines())) <= 84
    assert "exponential_decay(1.0, 1," in text and "transition_begin=500," in text


def test_a_sweep_shows_its_first_and_its_last_value():
    rates = jnp.logspace(-4, 0, 16)
    assert "learning_rate=[0.0001 ... 1] (16 values)" in str(summarize(sgd(rates)))
    assert "learning_rate=[0.1, 0.2, 0.3]" in str(summarize(sgd(np.array([0.1, 0.2, 0.3]))))
    assert "(6 values, shape 2x3)" in str(summarize(sgd(np.ones((2, 3)))))
    assert "learning_rate=0.5)" in str(summarize(sgd(jnp.bfloat16(0.5))))
    seen = []
    jax.jit(lambda tx: seen.append(str(summarize(tx))))(sgd(0.1))
    assert "learning_rate=float32[]" in seen[0]


@pytest.mark.parametrize(
    ("rate", "remark"),
    [
        (0.1, ""),
        (0.0, ""),
        (lambda step: 0.1 / (1 + step), ""),
        (np.array([0.1, -0.1]), "ascends where the rate is negative"),
        (lambda step: -0.1 / (1 + step), "ascends since the rate is negative"),
        (lambda step: 0.1 - 0.001 * step, "ascends where the rate is negative"),
    ],
)
def test_a_negative_rate_is_said_to_ascend(rate, remark):
    text = str(summarize(sgd(rate)))
    assert (remark in text) if remark else ("ascend" not in text)


def test_a_schedule_is_drawn_as_a_small_curve():
    text = str(summarize(sgd(lambda step: jnp.exp(-step / 300))))
    curve = text[text.index("# ") + 2 :]
    assert len(curve) == 24 and curve[0] == "█" and curve[-1] == "▁"
    assert sorted(curve, reverse=True) == list(curve)

    def broken(step):
        raise RuntimeError

    assert "learning_rate=broken" in str(summarize(sgd(broken)))


# --- Shardings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_the_shardings_shown_are_those_of_the_state(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    params = {
        "w": jax.device_put(jnp.ones((16, 4)), rows),
        "b": jax.device_put(jnp.ones(4), everywhere),
    }
    tx = adam(0.1)
    summary = summarize(tx, params)
    mu = next(a for a in summary.arrays if a.name == "0.mu")
    assert set(mu.sharding.split("; ")) == {"P('data')", "replicated"}
    state = gradtx.get(tx.init(params), "mu")
    assert mu.bytes == nbytes(state)
    local = lambda x: x.addressable_shards[0].data.nbytes
    assert mu.bytes_per_device == sum(map(local, jax.tree.leaves(state)))
    assert "per device" in str(summary) and "sharding" in summary._repr_html_()
    assert "sharding" not in str(summarize(tx, {"w": jnp.ones((16, 4))}))


# --- The compiled step ----------------------------------------------------------------------------


def test_the_cost_is_that_of_the_compiled_update():
    params = {"w": jax.ShapeDtypeStruct((64, 32), jnp.float32)}
    tx = adamw(0.1)
    cost = summarize(tx, params, compiled=True).compiled
    state = jax.eval_shape(tx.init, params)
    program = jax.jit(tx.update, donate_argnums=(0, 1)).lower(params, state, params).compile()
    assert cost.exact and cost.platform == jax.default_backend()
    assert cost.flops == program.cost_analysis()["flops"]
    assert cost.bytes_moved == program.cost_analysis()["bytes accessed"]
    # At least the gradient, the parameter and two moments are read, and three arrays are written.
    assert cost.bytes_moved >= 7 * 64 * 32 * 4
    assert f"compiled for {cost.platform}: " in str(summarize(tx, params, compiled=True))
    with pytest.raises(ValueError, match="needs the parameters"):
        summarize(tx, compiled=True)


def test_many_parameters_cost_what_their_kinds_cost():
    shapes = {f"w{i}": jax.ShapeDtypeStruct((16, 8), jnp.float32) for i in range(70)}
    shapes["b"] = jax.ShapeDtypeStruct((8,), jnp.float32)
    tx = chain(adam(0.1), masked(scale(2.0), by_rank(2)))
    many = summarize(tx, shapes, compiled=True).compiled
    one = summarize(tx, {"w": shapes["w0"]}, compiled=True).compiled
    vector = summarize(tx, {"b": shapes["b"]}, compiled=True).compiled
    assert not many.exact and one.exact and "about" in str(many)
    assert many.flops == pytest.approx(70 * one.flops + vector.flops, rel=1e-6)
    assert many.bytes_moved == pytest.approx(70 * one.bytes_moved + vector.bytes_moved, rel=1e-6)


def test_extra_arguments_of_update_are_compiled_with_it():
    params = {"attention": {"query": {"kernel": jax.ShapeDtypeStruct((8, 4), jnp.float32)}}}
    logits = {"attention": jax.ShapeDtypeStruct((2,), jnp.float32)}
    tx = gradtx.qk_clip(100.0)
    assert summarize(tx, params, compiled=True, max_logits=logits).compiled.flops > 0


# --- HTML -----------------------------------------------------------------------------------------


def test_tables_in_html_hold_what_the_text_says_and_are_escaped():
    params = {"<b>w</b>": jnp.ones((4, 8))}
    summary = summarize(partition({"<i>": adam(0.1)}, lambda path, leaf: "<i>"), params)
    html = summary._repr_html_()
    assert "&lt;i&gt;: adam(learning_rate=0.1" in html and "<i>" not in html
    for entry in summary.arrays:
        assert entry.name.replace("<", "&lt;").replace(">", "&gt;") in html
    assert html.count("<table") == html.count("</table>") == 2
    assert "<table" in summarize(adam(0.1))._repr_html_()
