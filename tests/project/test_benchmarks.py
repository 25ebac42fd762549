"""The benchmarks are well formed, their files can be compared, and the committed table is up to date."""

import copy
import re
from pathlib import Path

import pytest

from benchmarks import __main__ as command, results, runner, tables
from benchmarks.measure import median_interval, ratio
from benchmarks.registry import BENCHMARKS, Goal, Number, at_least, at_most, benchmark

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "benchmarks").rglob("*.py"))
ABOUT = dict.fromkeys(("jax", "jaxlib", "optax", "numpy", "gradtx", "python"), "1.0")
ABOUT |= {"date": "2026-01-01 00:00 UTC", "commit": "0123456789abcdef", "dirty": False}
ABOUT |= {"processor": "one", "cores": 2, "device": "cpu cpu", "clock": "perf_counter"}
ABOUT |= {"quick": False, "load_before": 0.1}


PARITY = at_most(1.05)


def file_of(*numbers, goal=PARITY):
    """Results with one benchmark that measured these numbers."""
    one = next(iter(BENCHMARKS.values()))
    entry = {"name": "steps", "group": "g", "what": "Time", "against": "Optax", "because": "So."}
    entry["numbers"] = [
        runner.number_entry(one, number) | {"goal": list(goal), "reached": goal.reached(number)}
        for number in numbers
    ]
    return {"about": dict(ABOUT), "benchmarks": [entry]}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_says_what_it_measures_against_whom_and_why_its_goal_is_the_goal(name):
    one = BENCHMARKS[name]
    assert one.what[0].isupper() and not one.what.endswith(".") and len(one.what) < 90
    assert one.against and re.fullmatch(r"[a-z]+", one.group)
    assert len(one.because) > 30 and one.because.rstrip().endswith(".")
    goals = one.goal.values() if isinstance(one.goal, dict) else [one.goal]
    assert all(goal is None or isinstance(goal, Goal) for goal in goals)
    assert isinstance(one.skip(), str)


def test_benchmarks_and_examples_use_public_names_only_and_their_files_are_short():
    for path in [*FILES, *(ROOT / "examples").rglob("*.py")]:
        text = path.read_text()
        assert not re.search(r"\bgradtx\._[a-z]|from gradtx import _", text), path
        assert path.name == "char_lm.py" or len(text.splitlines()) <= 250, path


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr("benchmarks.registry.BENCHMARKS", {})
    register = benchmark(group="g", against="x", goal=None, because="It is so.")

    def twice(quick):
        """Something"""

    register(twice)
    with pytest.raises(ValueError, match="two benchmarks with the name 'twice'"):
        register(twice)


def test_a_goal_is_unclear_where_it_lies_within_the_interval():
    inside, below, above = ((0.9, 1.1), (0.7, 0.8), (1.2, 1.3))
    answers = {at_most(1): ("unclear", "yes", "no"), at_least(1): ("unclear", "no", "yes")}
    for goal, expected in answers.items():
        for (low, high), answer in zip((inside, below, above), expected, strict=True):
            assert goal.reached(Number("", (low + high) / 2, "ratio", low, high)) == answer
    assert at_most(3).reached(Number("", 3, "calls")) == "yes"


def test_the_interval_of_a_ratio_holds_its_median_and_shrinks_with_the_rounds():
    widths = []
    for rounds in (10, 1000):
        ours = [1 + (i * 7919 % 100) / 100 for i in range(rounds)]
        number = ratio("case", ours, [1.0] * rounds)
        assert number.low <= number.value <= number.high
        assert number.details["optax"] == (1.0, "s")
        widths.append(number.high - number.low)
    assert widths[1] < widths[0] / 3
    assert median_interval([2.0]) == (2.0, 2.0, 2.0)


def test_a_benchmark_runs_and_its_file_holds_numbers_versions_and_machine(tmp_path, capsys):
    path = tmp_path / "new" / "numbers.json"
    command.main(["--quick", "--only", "calls_of_adamw", "--json", str(path)])
    found = results.read(path)
    (entry,) = found["benchmarks"]
    (number,) = entry["numbers"]
    assert number["value"] > 100 and number["unit"] == "calls" and "failed" not in entry
    assert ABOUT.keys() < found["about"].keys()
    # A copy of the sources without git has no commit, and its file says so.
    assert re.fullmatch(r"[0-9a-f]{40}|folder unknown", found["about"]["commit"])
    printed = capsys.readouterr().out
    assert f"{number['value']:,.0f}" in printed and str(path) in printed.replace("\n", "")
    results.save(found, path)
    assert results.read(path) == found


@pytest.mark.parametrize(
    "old, new, mark",
    [
        (Number("a", 1.0, "ratio", 0.9, 1.1), Number("a", 1.3, "ratio", 1.2, 1.4), "worse"),
        (Number("a", 1.0, "ratio", 0.9, 1.1), Number("a", 1.2, "ratio", 1.0, 1.4), ""),
        (Number("a", 1.0, "ratio", 0.9, 1.1), Number("a", 0.7, "ratio", 0.6, 0.8), "better"),
        (Number("a", 578, "calls"), Number("a", 579, "calls"), "worse"),
        (Number("a", 578, "calls"), Number("a", 578, "calls"), ""),
    ],
)
def test_a_comparison_marks_what_became_worse_beyond_the_interval(old, new, mark):
    assert tables.verdict(*(file_of(x)["benchmarks"][0]["numbers"][0] for x in (old, new))) == mark
    opposite = {"worse": "better", "better": "worse", "": ""}[mark]
    both = (file_of(x, goal=at_least(1))["benchmarks"][0]["numbers"][0] for x in (old, new))
    assert tables.verdict(*both) == opposite


def test_two_files_are_compared_without_measuring_and_a_regression_is_exit_status_1(
    tmp_path, capsys
):
    old = file_of(Number("kept", 1.0, "ratio", 0.9, 1.1), Number("gone", 1, "ratio"))
    new = file_of(Number("kept", 1.5, "ratio", 1.4, 1.6), Number("added", 2, "ratio"))
    new["about"]["processor"] = "another"
    paths = [str(tmp_path / name) for name in ("old.json", "new.json")]
    for path, content in zip(paths, (old, new), strict=True):
        results.save(content, Path(path))
    command.main(["--compare", paths[0], paths[0]])
    with pytest.raises(SystemExit, match="1 numbers became worse"):
        command.main(["--compare", *paths])
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("1.000 (0.900 to 1.100) 1.500 (1.400 to 1.600) 1.500 worse", "gone", "new"):
        assert text in printed
    assert "differ in processor (one, another): compare ratios, not seconds" in printed


@pytest.mark.parametrize(
    "argv, sentence",
    [
        (["--only", "speed"], "'speed' is neither a group nor a benchmark"),
        (["--only", "muon_on_gpu"], "'muon_on_gpu' is not for a cpu; set JAX_PLATFORMS=cuda"),
        (["--source", "no-commit"], "no-commit is neither a folder nor a commit"),
        (["--source", "."], r"the folder \. does not hold gradtx"),
        (["--table", "missing.json"], "cannot read missing.json: No such file"),
        (["--table", "text.json"], "text.json is not valid JSON"),
        (["--table", "other.json"], "other.json does not hold results"),
    ],
)
def test_a_mistake_on_the_command_line_is_reported_in_a_sentence(
    tmp_path, monkeypatch, argv, sentence
):
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text("no")
    Path("other.json").write_text("[]")
    with pytest.raises(SystemExit, match=f"^benchmarks: {sentence}"):
        command.main(argv)


def test_rows_that_are_measured_again_replace_the_old_ones_and_the_headline_says_so():
    old, new = file_of(Number("a", 1.0, "ratio")), file_of(Number("a", 2.0, "ratio"))
    other = copy.deepcopy(old["benchmarks"][0]) | {"name": "other"}
    old["benchmarks"].append(other)
    new["about"]["commit"] = "fedcba9876543210"
    both = results.merged(results.merged(old, new), new)
    assert both["benchmarks"] == [new["benchmarks"][0], other]
    headline = tables.headline(both)
    assert "at commit 0123456789" in headline and headline.count("fedcba9876: `steps`.") == 1


@pytest.mark.parametrize("device", tables.MARKS)
def test_the_table_on_the_page_is_made_from_the_committed_file(device):
    page = (ROOT / "benchmarks" / "README.md").read_text()
    begin, end = tables.MARKS[device]
    committed = page[page.index(begin) + len(begin) : page.index(end)].strip()
    published = results.read(command.PUBLISHED[device])
    assert committed == tables.markdown(published).strip()
    measured = {x["name"] for x in published["benchmarks"]}
    expected = {x.name for x in BENCHMARKS.values() if x.device == device}
    assert measured == expected, "measure again: make bench ARGS=--publish"


def test_the_how_to_states_the_sizes_of_the_states_in_a_basis():
    page = " ".join((ROOT / "docs" / "how_to.md").read_text().split())
    named = {name for _, name in re.findall(r"(\d\.\d) \(`(\w+)`\)", page)}
    assert named == {"soap", "shampoo", "psgd_kron", "galore"}
    for number in BENCHMARKS["basis_state"].function(True):
        if number.case in named:
            assert f"{number.value:.1f} (`{number.case}`)" in page


def test_the_page_is_renewed_between_its_marks(tmp_path):
    page, content = tmp_path / "page.md", file_of(Number("a", 1.0, "ratio", 0.9, 1.1))
    begin, end = tables.MARKS["gpu"]
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    tables.update_page(page, content, "gpu")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| Time | a | Optax | at most 1.05 | 1.000 (0.900 to 1.100) | unclear |  |" in text
    failed = copy.deepcopy(content)
    failed["benchmarks"][0] |= {"numbers": [], "failed": "MemoryError"}
    assert "failed |  | MemoryError" in tables.markdown(failed)


def test_the_benchmarks_are_listed_with_their_goals(capsys):
    command.main(["--list"])
    printed = capsys.readouterr().out
    assert all(f"{name} (" in printed for name in BENCHMARKS)
