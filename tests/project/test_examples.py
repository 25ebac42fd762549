"""The race runs, small, as a user runs it, and reports the mistakes of its user in a sentence."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose

import gradtx
from examples import codecs

ROOT = Path(__file__).parents[2]


def race(*args, timeout=120):
    """Run the race with these arguments; on one device, since it uses no more."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "examples.race", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=timeout
    )


@pytest.fixture
def blobs():
    """Two classes of points, easily told apart."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    return rng.normal(size=(80, 3)) + 4 * y[:, None], y


def imported(monkeypatch, name):
    """A module of the examples, found from the folder of the clone."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module(f"examples.{name}")


def rows(x, y):
    """Text of a CSV file."""
    return "".join(
        ",".join(f"{v:.4f}" for v in row) + f",{label}\n" for row, label in zip(x, y, strict=True)
    )


def test_the_race_ends_with_a_table_and_a_figure_that_it_names(tmp_path):
    figure, names = tmp_path / "new" / "race.svg", ("sgd(0.3)", "adagrad(0.03)")
    options = [option for name in names for option in ("--optimizer", name)]
    done = race("--steps", 8, "--seeds", 2, "--out", figure, *options)
    assert done.returncode == 0, done.stderr
    assert "standard error of the mean over 2 fresh seeds, on 359 test rows" in " ".join(
        done.stdout.split()
    )
    assert f"figure: {figure}" in done.stdout
    drawn = figure.read_text()
    for name in names:
        assert f"  {name} " in done.stdout
        assert f">{name}<" in drawn, "the legend names every racer"


def test_every_racer_can_be_traced_at_a_rate_of_its_grid(monkeypatch):
    """Compiling them all takes most of a minute, so the test stops before that."""
    training, racers = (imported(monkeypatch, f"race.{x}") for x in ("training", "racers"))
    task = imported(monkeypatch, "race.data").load(None, seed=0)
    rows, held_out = (task.train_x, task.train_y), (task.valid_x, task.valid_y)
    params = training.initial_params(jax.random.key(0), 64, task.classes)
    batches = np.zeros((3, 2, 128), np.int32), np.ones((3, 2), np.float32)
    for name, tx in racers.RACERS.items():
        training.check_trainable(name, tx, task)
        loss, accuracy = jax.eval_shape(training.train, tx, params, rows, held_out, batches)
        assert loss.shape == accuracy.shape == (4,), name


def test_the_rows_of_a_csv_and_of_an_npz_file_give_the_same_race(
    tmp_path, monkeypatch, capsys, blobs
):
    module = imported(monkeypatch, "race.__main__")
    monkeypatch.setattr("examples.race.racers.RACERS", {"sgd [red]": gradtx.sgd(0.1)})
    monkeypatch.setenv("COLUMNS", "120")
    x, y = blobs
    (tmp_path / "mine.csv").write_text("a,b,c,label\n" + rows(x, y))
    np.savez(tmp_path / "mine.npz", x=x, y=y.astype(str))
    shown = []
    for name in ("mine.csv", "mine.npz"):
        out = tmp_path / f"{name}.png"
        options = f"--data {tmp_path / name} --steps 40 --seeds 2 --out {out}"
        module.main(options.split())
        shown.append(capsys.readouterr().out)
        assert f"{name}: 48 rows of 3 inputs, 2 classes, 40 steps" in shown[-1]
        assert float(re.search(r"([\d.]+) ± [\d.]+%", shown[-1])[1]) > 90, "they are far apart"
        assert out.stat().st_size > 10_000
    accuracies = [text.split("sgd [red]")[1].split("µs")[0].split()[:-1] for text in shown]
    assert accuracies[0] == accuracies[1], "the same rows give the same race"


def test_a_rate_that_diverges_is_counted_and_a_grid_that_diverges_is_an_error(
    tmp_path, monkeypatch, capsys, blobs
):
    module = imported(monkeypatch, "race.__main__")
    x, y = blobs
    x = x - 3 * y[:, None]  # closer together, so that a large rate pays for its mistakes
    (tmp_path / "mine.csv").write_text(rows(x, y))
    arguments = "--data", str(tmp_path / "mine.csv"), "--steps", "20", "--seeds", "2", "--out"
    monkeypatch.setattr("examples.race.rules.EXTENSIONS", 0)
    some, none = tmp_path / "some.png", tmp_path / "none.png"
    monkeypatch.setattr("examples.race.racers.RACERS", {"sgd": gradtx.sgd(100.0)})
    module.main([*arguments, str(some)])
    shown = capsys.readouterr().out
    assert 0 < int(re.search(r"(\d+) of 39", shown)[1]) < 39 and some.exists()
    assert (
        "* sgd: the best rate is the lowest of its grid, so a smaller one may be better." in shown
    )
    assert " 1* " in shown, "the rate itself is marked, too"
    monkeypatch.setattr("examples.race.racers.RACERS", {"sgd": gradtx.sgd(1e9)})
    with pytest.raises(SystemExit, match=r"sgd diverged at every learning rate from 1e\+07 to"):
        module.run([*arguments, str(none)])
    assert "39 of 39" in capsys.readouterr().out and not none.exists()


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "too few rows (0)"),
        ("a,b,label\n" + "1,2,u\n" * 40 + "1,u\n", "row 42 has 2 columns where row 2 has 3"),
        ("1,2,u\n" * 40 + "1,?,u\n", "row 41, column 2 is not a number: '?'"),
        ("1,nan,u\n" * 40, "the number in data row 1, column 2 is not finite"),
        ("1,2,u\n" * 40, "the same label in all rows"),
        ("".join(f"1,2,{i / 3}\n" for i in range(40)), "40 different labels in 40 rows"),
        ("1\n" * 20 + "0\n" * 20, "no inputs beside them"),
        (b"\xff\xfe\x00", "not a text file"),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_file_is_named_with_its_place(tmp_path, monkeypatch, text, sentence):
    module = imported(monkeypatch, "race.data")

    path = tmp_path / "mine.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(module.RaceError) as error:
        module.load(str(path), seed=0)
    assert sentence in str(error.value) and "mine.csv" in str(error.value)


@pytest.mark.parametrize(
    "arrays, sentence",
    [
        ({"inputs": np.ones((40, 2))}, "it holds inputs"),
        ({"x": np.ones(40), "y": np.ones(40)}, "`x` must be rows of real numbers"),
        ({"x": np.ones((40, 2)), "y": np.arange(39) % 2}, "40 rows of inputs and 39 labels"),
        ({"x": np.array([[{}]]), "y": np.ones(1)}, "not a readable .npz file"),
        (None, "not a readable .npz file"),
    ],
)
def test_a_bad_archive_is_named_with_what_it_holds(tmp_path, monkeypatch, arrays, sentence):
    module = imported(monkeypatch, "race.data")

    path = tmp_path / "mine.npz"
    path.write_text("no archive") if arrays is None else np.savez(path, **arrays)
    with pytest.raises(module.RaceError) as error:
        module.load(str(path), seed=0)
    assert sentence in str(error.value) and "mine.npz" in str(error.value)


def test_optimizers_are_read_from_the_command_line_and_from_files(tmp_path, monkeypatch):
    racers = imported(monkeypatch, "race.racers")
    momentum, adamw = "sgd(0.1, momentum=0.9)", "adamw(3e-4, b2=0.95)"
    values = {momentum: gradtx.sgd(0.1, momentum=0.9), adamw: gradtx.adamw(3e-4, b2=0.95)}
    toml, yaml, listed = (tmp_path / name for name in ("a.toml", "a.yaml", "b.yml"))
    toml.write_text(f"optimizers = ['{momentum}', '{adamw}']")
    yaml.write_text(f"optimizers:\n  - {momentum}\n  - {adamw}\n")
    listed.write_text(f"- {momentum}\n- {adamw}\n")
    assert racers.chosen([momentum, adamw], None) == values
    for path in (toml, yaml, listed):
        assert racers.chosen([], str(path)) == values
    assert racers.chosen([], None) == racers.RACERS


def test_the_grid_has_the_optimizers_rate_in_its_middle_and_moves_every_rate_inside(monkeypatch):
    racers = imported(monkeypatch, "race.racers")
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(3e-4, weight_decay=0.1))
    assert racers.learning_rate(tx) == 3e-4
    assert racers.RATE_FACTORS[len(racers.RATE_FACTORS) // 2] == 1
    assert imported(monkeypatch, "race.training").with_rate_times(tx, 2.0) == gradtx.replace(
        tx, learning_rate=6e-4
    )
    decays = (
        gradtx.adam(0.1),
        tx,
        gradtx.adamw(0.1, weight_decay=gradtx.linear_schedule(1.0, 0.0, 9)),
    )
    assert [racers.weight_decay(x) for x in decays] == ["0", "0.1", "varies"]


class FakeTrainer:
    """The validation loss is lowest at one rate, and the test loss is lowest at another rate."""

    shape = (1, 1)
    best_rate, seen = 10.0, []

    def __init__(self, task, steps, seed):
        pass

    def params(self, seed):
        return {"w": np.ones(2, np.float32)}

    def run_all(self, jobs, held_out, done):
        from examples.race.training import History

        self.seen.append(([(tx.learning_rate, seed) for tx, seed in jobs], held_out))
        best = self.best_rate if held_out[0] == "valid x" else 0.1
        ends = [abs(np.log(tx.learning_rate / best)) + 0.1 * seed for tx, seed in jobs]
        return [History(np.array([99.0, end]), np.array([0.5, 1.0])) for end in ends]


@pytest.mark.parametrize(
    "best, expected, edge", [(1.0, 1.0, ""), (1e3, 1e3, ""), (1e-9, 1e-5, "lowest")]
)
def test_a_rate_is_chosen_on_validation_rows_an_edge_is_extended_and_fresh_seeds_are_reported(
    monkeypatch, best, expected, edge
):
    rules = imported(monkeypatch, "race.rules")
    monkeypatch.setattr(rules, "Trainer", FakeTrainer)
    monkeypatch.setattr(rules, "seconds_per_step", lambda tx, params: 0.0)
    monkeypatch.setattr(FakeTrainer, "best_rate", best)
    monkeypatch.setattr(FakeTrainer, "seen", [])
    parts = {f"{x}_{y}": f"{x} {y}" for x in ("train", "valid", "test") for y in "xy"}
    task = imported(monkeypatch, "race.data").Task(**parts, name="made up", classes=2)
    run = rules.race("sgd", gradtx.sgd(1.0), task, 1, 0)
    assert_allclose(run.rates[run.best], expected, rtol=1e-6)
    assert run.edge == edge and (np.diff(run.rates) > 0).all()
    *choosing, (reported, rows) = FakeTrainer.seen
    assert rows == ("test x", "test y") and {x for _, x in choosing} == {("valid x", "valid y")}
    seeds = [{seed for _, seed in jobs} for jobs, _ in (*choosing, (reported, rows))]
    assert not seeds[-1] & set().union(*seeds[:-1]), "no seed is used twice"
    assert len(seeds[-1]) == 10 and {rate for rate, _ in reported} == {run.rates[run.best]}


def test_a_rate_with_which_a_seed_diverges_is_worse_than_one_with_which_none_does(monkeypatch):
    rules = imported(monkeypatch, "race.rules")
    losses = np.array([[3.0, 3.0], [2.0, 2.0], [1.0, np.nan], [np.nan, np.nan]])
    assert rules.best_rate(losses) == 1 and rules.edge(losses) == ""
    assert rules.edge(losses[1:]) == "lowest" and rules.edge(losses[:2]) == "highest"
    assert rules.edge(losses[3:]) == ""


def test_differences_are_judged_by_the_test_of_welch_with_the_correction_of_holm(monkeypatch):
    noise = imported(monkeypatch, "noise")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=10), rng.normal(1.0, 3.0, size=8)
    expected = scipy.stats.ttest_ind(a, b, equal_var=False).pvalue
    assert_allclose(noise.welch(a, b), expected, rtol=1e-10)
    ones = np.ones(5)
    assert noise.welch(ones, ones) == 1 and noise.welch(ones, 2 * ones) == 0
    # Holm takes the p-values in order: .02 at a third of .06, .03 at a half of it, and .04 at the whole.
    assert noise.holm([0.02, 0.04, 0.03], 0.06) == [True, True, True]
    assert noise.holm([0.02, 0.04, 0.03], 0.05) == [False, False, False]
    assert noise.holm([0.01, 0.04, 0.03], 0.05) == [True, False, False]
    # Of three samples, one lies far from two that are near each other.
    samples = {"a": rng.normal(size=9), "b": rng.normal(size=9), "c": rng.normal(5.0, 0.5, size=7)}
    assert scipy.stats.ttest_ind(samples["a"], samples["b"], equal_var=False).pvalue > 0.05
    assert noise.told_apart(samples) == {frozenset("ac"), frozenset("bc")}


@pytest.mark.parametrize(
    "argv, sentence",
    [
        (["--data", "mine.txt"], "must be a .csv or a .npz file"),
        (["--out", "race.doc"], "--out must end in .png"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--seeds", "1"], "--seeds must be at least 2"),
        (["--optimizer", "adamx(1e-3)"], "cannot read the optimizer 'adamx(1e-3)'"),
        (["--optimizer", "sgd(-1.0)"], "has no learning rate that is a positive number"),
        (
            ["--optimizer", "chain(qk_clip(), sgd(0.1))"],
            "cannot train this network: `qk_clip` needs",
        ),
        (["--optimizer", "by_rank(2)"], "is not an optimizer"),
        (["--optimizer", "clip(1.0)"], "clip(1.0) has no learning rate that is a positive number"),
        (["--config", "missing.toml"], "cannot read missing.toml: No such file"),
        (["--config", "bad.toml"], "is not valid TOML"),
        (["--config", "bad.yaml"], "is not valid YAML"),
        (["--config", "empty.yaml"], "must hold a list of texts named `optimizers`"),
        (["--config", "a.json"], "must name a .toml or .yaml file"),
    ],
)
def test_an_option_that_cannot_be_used_is_reported_in_a_sentence(
    tmp_path, monkeypatch, argv, sentence
):
    module = imported(monkeypatch, "race.__main__")
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "bad.toml": "a =",
        "bad.yaml": "a: [",
        "empty.yaml": "",
        "a.json": "",
    }.items():
        Path(name).write_text(text)
    with pytest.raises(SystemExit) as stop:
        module.run(argv)
    assert stop.value.code.startswith("race: ") and sentence in stop.value.code


def test_a_mistake_of_the_user_shows_a_sentence_without_traceback_and_exits_with_1(tmp_path):
    done = race("--data", tmp_path / "mine.csv")
    assert done.returncode == 1
    assert done.stderr == f"race: cannot read {tmp_path / 'mine.csv'}: No such file or directory.\n"


# What each script prints, as a pattern. The number is a loss at the end, or says what must be equal.
SCRIPTS = {
    "hosts/accumulate_gradients.py": r"loss is [\d.]+e-0[4-9], (0\.0e\+00|[\d.]+e-0[5-9]) from the",
    "hosts/checkpoint_and_resume.py": "parameters are equal bit for bit: True",
    "hosts/freeze_and_mask.py": r"loss is [\d.]+e-\d+; the embedding is unchanged: True",
    "hosts/config_file.py": r"chain\(clip.*warmup_cosine_.*\n.*loss is [\d.]+e-0\d, .* rate [\d.]+e-06",
    "hosts/fsdp_mesh.py": r"to 0\.0\d\d\.\nA device holds \(8, 128\) of the momentum \(64, 128\)",
    "hosts/with_equinox.py": r"loss fell from 0\.\d+ to 0\.0\d\d\.",
    "hosts/with_flax_linen.py": r"loss fell from 0\.\d+ to 0\.0\d\d, the rate to [\d.]+e-06",
    "hosts/with_flax_nnx.py": r"(?s)muon     matrix 4 -> 32\n.*loss fell from 1\.\d+ to 0\.[0-2]",
    "sweep.py": r"(?s)best: sgd\(0.* 0\.3\d+ .*best: adamw\(0\.0.* 0\.2\d+ .*best: muon\(0\.0",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_to_copy_fits_on_a_screen_runs_and_prints_what_came_of_it(name, capsys):
    script = ROOT / "examples" / name
    assert len(script.read_text().splitlines()) <= 52
    runpy.run_path(str(script), run_name="__main__")
    assert re.search(SCRIPTS[name], capsys.readouterr().out)


def test_every_script_of_a_host_is_run():
    hosts = {f"hosts/{path.name}" for path in (ROOT / "examples" / "hosts").glob("*.py")}
    assert hosts == {name for name in SCRIPTS if name.startswith("hosts/")}


def test_a_run_with_coded_state_follows_the_one_in_float32():
    plain = gradtx.adamw(1e-3)
    coded = gradtx.stored(plain, "bf16+8", min_size=codecs.MIN_SIZE)
    losses = [codecs.digits(tx, 0, 0.0, True)[0] for tx in (plain, coded)]
    assert losses[0][-1] < losses[0][0]
    assert_allclose(losses[1], losses[0], rtol=1e-3)
