"""The race runs, small, as a user runs it; what the user can mend is said in a sentence."""

import contextlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradtx

RACE = Path(__file__).parents[2] / "examples" / "race.py"


def race(*args, timeout=120):
    """Run the race with these arguments; on one device, since it uses no more."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "COLUMNS": "100"}
    command = [sys.executable, str(RACE), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=timeout)


@pytest.fixture
def blobs():
    """Two classes of points, easily told apart."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    return rng.normal(size=(80, 3)) + 4 * y[:, None], y


def imported(monkeypatch, name):
    """A module of the examples, as a script beside it would import it."""
    monkeypatch.syspath_prepend(RACE.parent)
    return importlib.import_module(name)


def rows(x, y):
    """Text of a CSV file."""
    return "".join(
        ",".join(f"{v:.4f}" for v in row) + f",{label}\n" for row, label in zip(x, y, strict=True)
    )


def test_the_race_ends_with_a_table_and_a_figure_that_it_names(tmp_path, monkeypatch):
    figure = tmp_path / "new" / "race.svg"
    done = race("--steps", 8, "--out", figure)
    assert done.returncode == 0, done.stderr
    assert f"figure: {figure}" in done.stdout
    drawn = figure.read_text()
    for name in imported(monkeypatch, "race").RACERS:
        assert f"  {name} " in done.stdout
        assert f">{name}<" in drawn, "the legend names every racer"


def test_a_users_rows_are_raced_on_whether_csv_or_npz(tmp_path, monkeypatch, capsys, blobs):
    module = imported(monkeypatch, "race")
    monkeypatch.setattr(module, "RACERS", {"sgd [red]": gradtx.sgd(0.1)})
    x, y = blobs
    (tmp_path / "mine.csv").write_text("a,b,c,label\n" + rows(x, y))
    np.savez(tmp_path / "mine.npz", x=x, y=y.astype(str))
    shown = []
    for name in ("mine.csv", "mine.npz"):
        out = tmp_path / f"{name}.png"
        module.main(["--data", str(tmp_path / name), "--steps", "40", "--out", str(out)])
        shown.append(capsys.readouterr().out)
        assert f"{name}: 48 rows of 3 inputs, 2 classes, 40 steps" in shown[-1]
        assert "100.0%" in shown[-1], "two blobs far apart are told apart"
        assert out.stat().st_size > 10_000
    accuracies = [text.split("sgd [red]")[1].split()[:4] for text in shown]
    assert accuracies[0] == accuracies[1], "the same rows give the same race"


def test_a_rate_that_diverges_is_shown_and_all_that_do_are_an_error(
    tmp_path, monkeypatch, capsys, blobs
):
    module = imported(monkeypatch, "race")
    x, y = blobs
    x = x - 3 * y[:, None]  # closer together, so that a large rate pays for its mistakes
    (tmp_path / "mine.csv").write_text(rows(x, y))
    arguments = "--data", str(tmp_path / "mine.csv"), "--steps", "20", "--out"
    some, none = tmp_path / "some.png", tmp_path / "none.png"
    monkeypatch.setattr(module, "RACERS", {"sgd": gradtx.sgd(100.0)})
    module.main([*arguments, str(some)])
    lost = int(re.search(r"(\d+) of 13", capsys.readouterr().out)[1])
    assert 0 < lost < 13 and some.exists()
    monkeypatch.setattr(module, "RACERS", {"sgd": gradtx.sgd(1e9)})
    with pytest.raises(SystemExit, match=r"sgd diverged at every learning rate from 1e\+07 to"):
        module.run([*arguments, str(none)])
    assert "13 of 13" in capsys.readouterr().out and not none.exists()


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "too few rows (0)"),
        ("a,b,label\n" + "1,2,u\n" * 40 + "1,u\n", "row 42 has 2 columns where row 2 has 3"),
        ("1,2,u\n" * 40 + "1,?,u\n", "row 41, column 2 is not a number: '?'"),
        ("1,nan,u\n" * 40, "no finite number in row 1 of its data, column 2"),
        ("1,2,u\n" * 40, "one label for all rows"),
        ("".join(f"1,2,{i / 3}\n" for i in range(40)), "40 different labels in 40 rows"),
        ("1\n" * 20 + "0\n" * 20, "no inputs beside them"),
        (b"\xff\xfe\x00", "not a text file"),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_file_is_named_with_its_place(tmp_path, monkeypatch, text, sentence):
    module = imported(monkeypatch, "race_data")

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
    module = imported(monkeypatch, "race_data")

    path = tmp_path / "mine.npz"
    path.write_text("no archive") if arrays is None else np.savez(path, **arrays)
    with pytest.raises(module.RaceError) as error:
        module.load(str(path), seed=0)
    assert sentence in str(error.value) and "mine.npz" in str(error.value)


def test_optimizers_from_the_command_line_and_from_files_race_at_their_rate(
    tmp_path, monkeypatch, capsys, blobs
):
    module = imported(monkeypatch, "race")
    raced = {}
    monkeypatch.setattr(module, "race", lambda name, tx, *_: raced.setdefault(name, tx) and None)
    monkeypatch.setattr(module, "print_table", lambda *_: None)
    monkeypatch.setattr(module, "draw", lambda *_: None)

    def asked_for(*argv):
        raced.clear()
        with contextlib.suppress(AttributeError):  # there are no runs to look at
            module.main([*map(str, argv), "--out", str(tmp_path / "race.png")])
        return raced

    momentum, adamw = "sgd(0.1, momentum=0.9)", "adamw(3e-4, b2=0.95)"
    values = {momentum: gradtx.sgd(0.1, momentum=0.9), adamw: gradtx.adamw(3e-4, b2=0.95)}
    toml, yaml, listed = (tmp_path / name for name in ("a.toml", "a.yaml", "b.yml"))
    toml.write_text(f"optimizers = ['{momentum}', '{adamw}']")
    yaml.write_text(f"optimizers:\n  - {momentum}\n  - {adamw}\n")
    listed.write_text(f"- {momentum}\n- {adamw}\n")
    assert asked_for("--optimizer", momentum, "--optimizer", adamw) == values
    for path in (toml, yaml, listed):
        assert asked_for("--config", path) == values
    assert asked_for() == module.RACERS


def test_a_grid_is_centred_on_the_rate_and_moves_every_rate_within(monkeypatch):
    module = imported(monkeypatch, "race_train")
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(3e-4, weight_decay=0.1))
    assert module.learning_rate(tx) == 3e-4
    assert module.FACTORS[len(module.FACTORS) // 2] == 1
    assert module.at_rate(tx, 2.0) == gradtx.replace(tx, learning_rate=6e-4)


@pytest.mark.parametrize(
    "argv, sentence",
    [
        (["--data", "mine.txt"], "must be a .csv or a .npz file"),
        (["--out", "race.doc"], "--out must end in .png"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--optimizer", "adamx(1e-3)"], "cannot read the optimizer 'adamx(1e-3)'"),
        (["--optimizer", "sgd(-1.0)"], "cannot read the optimizer"),
        (
            ["--optimizer", "chain(qk_clip(), sgd(0.1))"],
            "cannot train this network: `qk_clip` needs",
        ),
        (["--optimizer", "by_rank(2)"], "is no optimizer"),
        (["--optimizer", "clip(1.0)"], "clip(1.0) has no positive number as its learning rate"),
        (["--config", "missing.toml"], "cannot read missing.toml: No such file"),
        (["--config", "bad.toml"], "is not valid TOML"),
        (["--config", "bad.yaml"], "is not valid YAML"),
        (["--config", "empty.yaml"], "must hold a list of texts named `optimizers`"),
        (["--config", "a.json"], "must name a .toml or .yaml file"),
    ],
)
def test_what_cannot_be_asked_for_is_a_sentence(tmp_path, monkeypatch, argv, sentence):
    module = imported(monkeypatch, "race")
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


def test_a_complaint_shows_no_traceback_and_exits_with_1(tmp_path):
    done = race("--data", tmp_path / "mine.csv")
    assert done.returncode == 1
    assert done.stderr == f"race: cannot read {tmp_path / 'mine.csv'}: No such file or directory.\n"
