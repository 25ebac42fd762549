"""Muon against AdamW on text, small, as a user runs it; what the user can mend is said in a sentence."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "char_lm.py"


@pytest.fixture
def char_lm(monkeypatch, capsys):
    """Runs the example with these arguments: what it prints."""

    def run(*args):
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr("sys.argv", ["char_lm.py", "--small", *map(str, args)])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_shows_the_routing_and_ends_with_a_table_and_a_figure(char_lm, tmp_path):
    figure = tmp_path / "new" / "losses.png"
    out = char_lm("--out", figure)
    lines = [line.split() for line in out.splitlines()]
    assert ["blocks/0/up/weight", "64x16", "muon", "matrix", "16", "->", "64"] in lines
    assert ["norm/bias", "16", "adamw", "vector"] in lines
    row = re.search(r"│ +0\.03 .*", out)[0]
    losses = [float(number) for number in re.findall(r"\d\.\d{3}", row)]
    # Guessing costs 4.6 nats, knowing how often each character comes 3.1.
    assert len(losses) == 2 and max(losses) < 3.4, row
    assert f"figure: {figure}" in out and figure.read_bytes().startswith(b"\x89PNG")


def test_a_bad_text_is_refused_in_a_sentence(char_lm, tmp_path):
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "short").write_text("ab" * 100)
    sentences = {
        "none": "cannot read .*: No such file or directory",
        "": "cannot read .*: Is a directory",
        "binary": r"is not UTF-8 text \(byte 128\)",
        "short": "has 200 characters, 2 of them distinct. Pass a text of at least 5000",
    }
    for name, sentence in sentences.items():
        # With a string for its code, the program prints it on stderr and returns 1.
        with pytest.raises(SystemExit, match=f"^char_lm: .*{sentence}"):
            char_lm("--data", tmp_path / name)


def test_a_text_of_ones_own_is_read_and_a_run_that_diverges_is_named(char_lm, tmp_path, capsys):
    text = tmp_path / "mine.txt"
    text.write_text("Naïve æsthetes \N{EM DASH} " * 400, encoding="utf-8")
    said = r"^char_lm: AdamW at rate 1e\+30 diverged: the loss is nan after 20 steps\."
    with pytest.raises(SystemExit, match=said):
        char_lm("--data", text, "--rates", "1e30", "--out", tmp_path / "x.png")
    assert "6,120 characters to train on" in capsys.readouterr().out
