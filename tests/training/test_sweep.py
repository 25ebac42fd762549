"""Sweeps: what a sweep computes is what each optimizer computes by itself."""

import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from public import PUBLIC

import gradtx
from gradtx import adamw, grid, log_uniform, samples, sgd, sweep, uniform
from gradtx._training import progress
from gradtx._training.runner import _free_bytes

TARGET = jnp.arange(1.0, 5.0)
RATES = [float(f"{x:.3g}") for x in np.logspace(-3, 0, 16)]


def descend(tx, w, target, steps=5):
    """The loss |w - target|^2 after some steps."""

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(2 * (w - target), state, w)
        return (gradtx.apply_updates(w, updates), state), None

    (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=steps)
    return jnp.sum((w - target) ** 2)


def train(tx, target):
    return descend(tx, jnp.zeros(4), target)


def train_with_key(tx, target, key):
    return descend(tx, jax.random.normal(key, (4,)), target)


def alone(tx, *args, **kwargs):
    function = train_with_key if kwargs else train
    return np.asarray(jax.jit(function)(tx, *args, **kwargs))


@pytest.fixture
def compiled(monkeypatch):
    """The programs that were compiled ahead of their calls, which is how a sweep compiles."""
    programs = []
    compile_ = jax.stages.Lowered.compile

    def counted(self, *args, **kwargs):
        programs.append(compile_(self, *args, **kwargs))
        return programs[-1]

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    return programs


def test_16_rates_and_4_seeds_compile_once_and_equal_single_trainings_bit_for_bit(compiled):
    traces = []

    def counted(tx, target, key):
        traces.append(tx)
        return train_with_key(tx, target, key)

    txs = grid(adamw, learning_rate=RATES)
    result = sweep(counted, txs, TARGET, seeds=4)
    assert len(traces) == len(compiled) == 1
    assert result.scores.shape == (16, 4) and result.seeds == (0, 1, 2, 3)
    for i in (0, 7, 15):
        for seed in (0, 3):
            expected = alone(txs[i], TARGET, key=jax.random.key(seed))
            assert result.scores[i, seed] == expected
    means = result.scores.mean(axis=1)
    np.testing.assert_allclose(result.mean, means, rtol=1e-12)
    np.testing.assert_allclose(
        result.standard_error, result.scores.std(axis=1, ddof=1) / 2, rtol=1e-12
    )
    assert result.best == txs[int(means.argmin())]


@pytest.mark.parametrize("devices", [None, 3, 8])
@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_members_side_by_side_equal_single_trainings_whatever_is_filled_up(
    compiled, chunk, devices
):
    """Seven members fill no call of 2, 4, 3 or 8 exactly, so that some calls are filled up."""
    txs = grid(sgd(0.1, momentum=0.5), learning_rate=RATES[:7])
    given = devices and jax.devices()[:devices]
    result = sweep(train, txs, TARGET, chunk=chunk, devices=given)
    assert len(compiled) == 1 and len(result.scores) == len(result.results) == 7
    expected = [alone(tx, TARGET) for tx in txs]
    # Five steps of a few roundings each; a sum of four squares.
    np.testing.assert_allclose(result.scores[:, 0], expected, rtol=40 * 2**-24)
    assert [float(x) for x in result.results] == result.scores[:, 0].tolist()


def test_seeds_of_one_optimizer_are_members_and_args_without_arrays_are_constants(compiled):
    def steps_as_argument(tx, target, steps, key):
        return descend(tx, jax.random.normal(key, (4,)), target["a"], steps)

    for chunk in (None, 3):
        result = sweep(
            steps_as_argument, [adamw(0.1)], {"a": TARGET}, 5, seeds=[7, 3, 5], chunk=chunk
        )
        expected = [alone(adamw(0.1), TARGET, key=jax.random.key(seed)) for seed in (7, 3, 5)]
        np.testing.assert_allclose(result.scores[0], expected, rtol=40 * 2**-24)
    assert len(compiled) == 2


def test_what_is_not_a_number_makes_a_group_with_its_own_program(compiled):
    txs = [sgd(0.1), adamw(0.1), sgd(0.2), sgd(0.1, momentum=0.9), adamw(0.1, nesterov=True)]
    result = sweep(train, [*txs, optax.sgd(0.1)], TARGET)
    assert len(compiled) == 5
    assert result.scores[:5, 0].tolist() == [alone(tx, TARGET) for tx in txs]
    np.testing.assert_allclose(result.scores[5], result.scores[0], rtol=40 * 2**-24)
    assert result.settings[1] == {"optimizer": adamw(0.1)}


@pytest.mark.parametrize("tx", [gradtx.muon(0.1), gradtx.adam(0.1, b1=jnp.asarray(0.8))])
def test_matrices_and_arrays_as_numbers_are_swept_on_several_devices(tx):
    def train(tx):
        return descend(tx, {"w": jnp.ones((4, 3))}["w"], jnp.zeros((4, 3)))

    txs = grid(tx, learning_rate=[0.1, 0.2, 0.3])
    found = sweep(train, txs, chunk=2, devices=jax.devices()[:2])
    expected = [float(jax.jit(train)(tx)) for tx in txs]
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=200 * 2**-24)


def test_as_many_members_train_at_the_same_time_as_fit_into_the_memory(compiled):
    def wide(tx):
        return descend(tx, jnp.zeros(1000), jnp.ones(1000))

    txs = grid(adamw, learning_rate=RATES)
    whole = sweep(wide, txs, memory=1e9)
    assert len(compiled) == 1
    (program,) = compiled

    def needed(program):
        used = program.memory_analysis()
        return used.temp_size_in_bytes + used.argument_size_in_bytes + used.output_size_in_bytes

    budget = 0.4 * needed(program)
    part = sweep(wide, txs, memory=budget)
    assert needed(compiled[-1]) <= budget
    assert needed(compiled[-1]) > 0.15 * needed(program), "more than a few at the same time"
    np.testing.assert_allclose(part.scores, whole.scores, rtol=40 * 2**-24)
    assert needed(compiled[-2]) > budget, "the search stops at the first program that fits"


def test_the_free_memory_of_a_device_limits_a_sweep_if_the_device_says_how_much_there_is():
    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    assert _free_bytes(Device({"bytes_limit": 1000, "bytes_in_use": 400})) == 480
    assert _free_bytes(Device({"bytes_limit": 1000})) == 800
    assert _free_bytes(Device(None)) == _free_bytes(Device({})) == np.inf


def test_an_optimizer_that_diverges_is_a_result(capsys):
    txs = grid(sgd, learning_rate=[0.1, 1e30, 0.4])
    result = sweep(train, txs, TARGET)
    assert result.diverged[:, 0].tolist() == [False, True, False]
    assert result.best == sgd(0.4) and result.order.tolist() == [2, 0, 1]
    *_, diverged, best = str(result).splitlines()[:5]
    assert diverged.endswith("yes") and best.endswith("best")

    lost = sweep(train, grid(sgd, learning_rate=[1e30, 1e31]), TARGET)
    assert "All optimizers diverged." in str(lost) and lost.edges == {}
    with pytest.raises(ValueError, match="All 2 optimizers of the sweep diverged"):
        lost.best  # noqa: B018
    assert capsys.readouterr() == ("", "")


def test_an_optimizer_that_diverges_with_some_seeds_ranks_after_those_that_never_do():
    def unlucky(tx, key):
        start = jnp.where(jax.random.bits(key) == jax.random.bits(jax.random.key(1)), jnp.nan, 0.0)
        return tx.learning_rate + jnp.where(tx.learning_rate == 1.0, start, 0.0)

    result = sweep(unlucky, grid(sgd, learning_rate=[1.0, 2.0]), seeds=3)
    assert result.diverged.tolist() == [[False, True, False], [False] * 3]
    assert result.best == sgd(2.0)
    assert result.mean.tolist() == [1.0, 2.0] and result.standard_error.tolist() == [0.0, 0.0]
    assert "1 of 3" in str(result)


def parabola(**minimum):
    """A training whose score is smallest at these hyperparameters."""
    return lambda tx: sum((getattr(tx, name) - x) ** 2 for name, x in minimum.items())


def test_a_best_value_at_the_edge_is_named_unless_nothing_lies_beyond_it():
    txs = grid(adamw, learning_rate=[0.1, 0.2, 0.3], weight_decay=[0.0, 0.5, 1.0], b2=[0.9, 0.99])
    low = sweep(parabola(learning_rate=0.0, weight_decay=0.0, b2=0.9), txs)
    assert low.edges == {"learning_rate": "lowest"}, "a decay of 0 is the limit, and two are few"
    assert "The best `learning_rate` is the lowest that was tried" in str(low)
    high = sweep(parabola(learning_rate=0.2, weight_decay=7.0, b2=0.9), txs)
    assert high.edges == {"weight_decay": "highest"}
    assert "extend the sweep to larger values" in str(high)


def test_a_list_or_a_stack_shows_the_numbers_in_which_its_optimizers_differ():
    pairs = [adamw(0.1, b2=0.9), adamw(0.2, b2=0.9), adamw(0.1, b2=0.99)]
    expected = [{"learning_rate": tx.learning_rate, "b2": tx.b2} for tx in pairs]
    assert list(sweep(train, pairs, TARGET).settings) == expected
    stacked = sweep(train, gradtx.stack(pairs), TARGET)
    assert stacked.txs == tuple(pairs) and list(stacked.settings) == expected
    swept = sweep(train, sgd(jnp.asarray([0.1, 0.2])), TARGET)
    assert swept.txs == (sgd(0.1), sgd(0.2))
    scaled = [jax.tree.map(lambda x, i=i: x * np.float64(i), sgd(0.1)) for i in (1, 2, 3)]
    assert sweep(train, scaled, TARGET).edges == {"learning_rate": "highest"}
    both = [gradtx.chain(sgd(x), sgd(x)) for x in (0.1, 0.2)]
    names = [*sweep(train, both, TARGET).settings[0]]
    assert names == ["links[0].learning_rate", "links[1].learning_rate"]
    assert sweep(train, sgd(0.1), TARGET).settings == ({},)


def test_a_pytree_is_returned_unchanged_and_the_score_is_taken_from_it():
    def detailed(tx, target, key):
        loss = train_with_key(tx, target, key)
        return {
            "loss": loss,
            "curve": jnp.stack([loss, -loss]),
            "key": key,
            "step": 5,
            "f": jnp.tanh,
        }

    txs = grid(sgd, learning_rate=[0.1, 0.2])
    by_name = sweep(detailed, txs, TARGET, seeds=3, score="loss")
    by_function = sweep(detailed, txs, TARGET, seeds=3, score=lambda result: result["curve"][1])
    assert (by_name.scores == -by_function.scores).all()
    for result in (by_name, sweep(detailed, txs, TARGET, seeds=3, score="loss", chunk=4)):
        first = result.results[0]
        assert first["curve"].shape == (3, 2) and isinstance(first["curve"], np.ndarray)
        assert (first["loss"] == result.scores[0]).all() and first["f"] is jnp.tanh
        assert jax.random.key_data(first["key"])[:, 1].tolist() == [0, 1, 2]
    records = by_name.records()
    assert len(records) == 6 and records[4] == {
        "tx": "sgd(0.2)",
        "learning_rate": 0.2,
        "seed": 1,
        "score": float(by_name.scores[1, 1]),
        "loss": float(by_name.scores[1, 1]),
        "step": 5,
    }


def test_a_long_table_shows_the_best_rows():
    txs = grid(sgd, learning_rate=np.linspace(0.01, 1, 40).round(3))
    lines = str(sweep(parabola(learning_rate=0.3), txs)).splitlines()
    assert len(lines) == 2 + 32 + 1 and lines[2].endswith("best")
    assert lines[-1] == "These are the 32 best of 40 optimizers."


def test_a_long_sweep_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    txs = grid(sgd, learning_rate=[0.1, 0.2, 0.3])
    sweep(train, txs, TARGET)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch("sweep: 1 of 3 trainings\nsweep: 2 of 3 trainings, [0-9]+ s left\n", err)
    sweep(train, txs, TARGET, progress=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    sweep(train, txs, TARGET)
    assert "sweep" in capsys.readouterr().err


VALUES = [
    grid(adamw, learning_rate=jnp.logspace(-3, 0, 4), b2=(0.9, 0.95)),
    grid(gradtx.chain(gradtx.clip(1.0), adamw(0.1)), {"adamw.learning_rate": [0.1, 0.2]}),
    grid(adamw(gradtx.inverse_time(0.1)), decay_rate=[0.1, 0.2], nesterov=[False, True]),
    grid(gradtx.muon(0.1), steps=[3, 5], mu_dtype=[jnp.bfloat16, None]),
    samples(adamw(0.1), 4, learning_rate=log_uniform(1e-4, 1.0), b2=uniform(0.9, 0.99), seed=3),
    samples(sgd, 3, {"learning_rate": [0.1, 0.2, 0.3]}),
]


def test_stack_takes_a_batch():
    txs = grid(sgd, learning_rate=[0.1, 0.2])
    assert gradtx.stack(txs) == gradtx.stack([sgd(0.1), sgd(0.2)])


@pytest.mark.parametrize("txs", VALUES, ids=repr)
def test_a_batch_is_a_value_and_a_sequence(txs):
    assert eval(repr(txs), dict(PUBLIC)) == txs == pickle.loads(pickle.dumps(txs))
    assert hash(eval(repr(txs), dict(PUBLIC))) == hash(txs)
    assert len(txs) == len(list(txs)) == len(txs.settings) and txs[1] == list(txs)[1]
    assert all(isinstance(tx, gradtx.Transform) for tx in txs)


def test_a_grid_has_all_combinations_and_the_last_hyperparameter_changes_first():
    rates, decays = [0.1, 0.2], [0.9, 0.95, 0.99]
    assert list(grid(adamw, learning_rate=np.float32(rates), b2=decays)) == [
        adamw(rate, b2=b2) for rate in rates for b2 in decays
    ]
    made = grid(lambda rate: gradtx.chain(gradtx.clip(1.0), sgd(rate)), rate=rates)
    assert list(made) == [gradtx.chain(gradtx.clip(1.0), sgd(rate)) for rate in rates]
    inside = grid(adamw(gradtx.inverse_time(0.1)), {"learning_rate.decay_rate": [0.2, 0.3]})
    assert inside[1] == adamw(gradtx.inverse_time(0.3))
    torch = grid(adamw, learning_rate=rates, convention=["torch"])
    assert list(torch) == [adamw(rate, convention="torch") for rate in rates]
    assert grid(sgd, learning_rate=[1, 2]) != grid(sgd, learning_rate=[2, 1])


def test_samples_are_spread_evenly_over_every_distribution():
    n = 8
    txs = samples(
        adamw, n, learning_rate=log_uniform(1e-4, 1.0), b1=uniform(0.5, 0.9), b2=[0.9, 0.99]
    )
    rates = sorted(np.log10(x["learning_rate"]) for x in txs.settings)
    for i, rate in enumerate(rates):
        # One in each part of equal probability, up to the rounding to four digits.
        assert -4 + 4 * i / n - 1e-3 <= rate <= -4 + 4 * (i + 1) / n + 1e-3
    decays = sorted((x["b1"] - 0.5) / 0.4 * n for x in txs.settings)
    assert [int(x) for x in decays] == list(range(n))
    assert [x["b2"] for x in txs.settings].count(0.9) == n // 2
    again = samples(
        adamw, n, learning_rate=log_uniform(1e-4, 1.0), b1=uniform(0.5, 0.9), b2=[0.9, 0.99], seed=1
    )
    assert again.settings != txs.settings


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: grid(adamw), "needs at least one hyperparameter"),
        (lambda: grid(adamw, learning_rate=0.1), "a list or an array with one axis, not 0.1"),
        (lambda: grid(adamw, learning_rate=[]), "needs at least one value"),
        (lambda: grid(adamw(0.1), lr=[0.1]), "has no field `lr`"),
        (lambda: grid(adamw, [0.1, 0.2]), "takes a mapping from names to values by position"),
        (lambda: grid(adamw(0.1), b2=[0.9, 1.5]), r"must lie in \[0, 1\)"),
        (lambda: samples(adamw, 0, learning_rate=[0.1]), "must be a positive integer"),
        (lambda: samples(adamw, 2, learning_rate=0.1), "must be a list or an array"),
        (lambda: uniform(1.0, 0.0), "needs `low` < `high`"),
        (lambda: log_uniform(0.0, 1.0), r"must lie in \(0, inf\)"),
        (lambda: sweep(train, []), "at least one optimizer"),
        (lambda: sweep(train, [3], TARGET), "a list of optimizers, not 3"),
        (lambda: sweep(train, adamw, TARGET), "a list of optimizers, not `adamw` itself"),
        (lambda: sweep(3, [sgd(0.1)]), "needs a function to train with, not 3"),
        (lambda: sweep(train, [sgd(0.1)]), r"`sweep` calls `train\(tx\)`"),
        (lambda: sweep(train, [sgd(0.1)], TARGET, seeds=2), r"calls `train\(tx, ..., key=key\)`"),
        (lambda: sweep(train_with_key, [sgd(0.1)], TARGET), "Pass `seeds=1` to give it a key"),
        (lambda: sweep(train, [sgd(0.1)], TARGET, seeds=0), "must be at least one seed"),
        (lambda: sweep(train, [sgd(0.1)], TARGET, chunk=0), "must be a positive integer"),
        (
            lambda: sweep(lambda tx: jnp.ones(3), [sgd(0.1)]),
            r"float32 and shape \(3,\)\. Say which",
        ),
        (lambda: sweep(lambda tx: {"a": 1.0}, [sgd(0.1)]), "a value of the type `dict`"),
        (
            lambda: sweep(train, adamw(jnp.ones(2), b1=jnp.full(3, 0.5)), TARGET),
            r"different lengths, \[2, 3\]",
        ),
        (
            lambda: jax.jit(lambda x: sweep(train, [sgd(0.1)], x))(TARGET),
            "cannot be a part of a function that is compiled",
        ),
    ],
)
def test_a_mistake_is_a_sentence(call, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        call()


def test_an_error_inside_the_training_names_the_optimizer():
    def fails(tx):
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data") as error:
        sweep(fails, [sgd(0.1)])
    note = "This happened when `sweep` compiled the training with sgd(0.1)."
    assert error.value.__notes__[-1] == note
