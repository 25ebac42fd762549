"""The comparison of optimizers: how settings are chosen, what is called significant, and the page."""

import io
import json
import os
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from rich.console import Console

import gradtx
from examples.compare import CompareError, records
from examples.compare.__main__ import main
from examples.compare.agreement import agreement, sentence, significant, with_second_run
from examples.compare.claims import disagreements
from examples.compare.costs import cost
from examples.compare.entrants import ENTRANTS, entrant
from examples.compare.estimate import estimated
from examples.compare.named import from_text
from examples.compare.options import arguments, studies
from examples.compare.page import DOCS, PAGE, TABLES, all_tables, page
from examples.compare.pictures import digest, figures
from examples.compare.problem import Problem, no_data
from examples.compare.problems import PROBLEMS
from examples.compare.provenance import code_of
from examples.compare.ranking import best_group, median_steps, ranked
from examples.compare.settings import Budget, budget, first_settings, further
from examples.compare.statistics import better, capped, first_step_below, near_best, profile
from examples.compare.study import study
from examples.compare.trial import trial
from examples.compare.workers import run_all
from examples.noise import holm

ROOT = Path(__file__).parents[2]

# --- Statistics -----------------------------------------------------------------------------------


def test_no_more_than_one_table_in_twenty_calls_noise_a_difference():
    rng = np.random.default_rng(0)
    tables = [better({str(i): rng.normal(size=20) for i in range(5)}) for _ in range(200)]
    # With probability .05 each, more than 21 of 200 have a chance of 1 in 1,000.
    assert sum(map(bool, tables)) <= 21


def test_a_significant_pair_has_the_lower_mean_first():
    rng = np.random.default_rng(0)
    scores = {"low": rng.normal(size=20), "high": 5 + rng.normal(size=20)}
    assert better(scores) == {("low", "high")}


def results_of(**scores):
    """Results of one problem and of nothing but scores at the end."""
    budgets = {"p": budget(costly=False, quick=False)._asdict()}
    rows = [
        {
            "problem": "p",
            "optimizer": k,
            "scores": x,
            "steps_to": {},
            "tried": [[1, 1, 2.0]],
            "start": 3,
            "rate": 1.0,
            "second": 0.9,
        }
        for k, x in scores.items()
    ]
    return {"problems": {"p": {"targets": []}}, "studies": rows, "budgets": budgets}


def test_what_is_not_told_apart_from_the_lowest_is_near_it():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=20)
    results = results_of(high=3 + noise, low=noise, beside=0.1 + noise[::-1])
    assert best_group(results, "p") == ["low", "beside"]
    assert [row.worse_than for row in ranked(results, "p")] == [0, 0, 2]  # the same differences
    # Level .05: .01 <= .05 / 4, .02 > .05 / 3, so that .022 is kept although it is below .05 / 2.
    assert holm([0.022, 0.01, 0.02, 0.5]) == [False, True, False, False]


def test_a_profile_counts_targets_within_a_factor_of_the_fewest_steps():
    costs = {"a": [10.0, 30.0, np.inf], "b": [20.0, 10.0, np.inf]}
    assert profile(costs, (1, 2, 3)) == {"a": [1 / 3, 1 / 3, 2 / 3], "b": [1 / 3, 2 / 3, 2 / 3]}


def test_a_run_that_diverges_has_the_score_of_its_start():
    assert capped(np.array([2.0, 1.0])) == (1.0, False)
    for curve in ([2.0, 3.0], [2.0, np.nan], [2.0, np.inf, 1.0]):
        assert capped(np.array(curve)) == (2.0, True)


def test_steps_to_a_target_and_their_median():
    assert first_step_below(np.array([3.0, 2.0, 1.0]), [0, 5, 10], 2.0) == 5
    assert first_step_below(np.array([3.0, np.nan]), [0, 5], 2.0) is None
    assert median_steps([5, None, 10]) == 10
    assert median_steps([5, None, None]) == np.inf


def test_near_best_is_a_share_of_the_progress():
    assert near_best([1.0, 1.5, 5.0, 11.0], start=11.0) == 0.5


# --- Settings and studies -------------------------------------------------------------------------


@pytest.mark.parametrize("costly", [False, True])
def test_every_optimizer_has_the_same_budget(costly):
    given = budget(costly, quick=False)
    assert {len(first_settings(x, given)) for x in ENTRANTS.values()} == {given.settings}
    assert not set(given.choosing) & set(given.fresh)
    assert len(given.choosing) == 3
    assert len(given.fresh) == (5 if costly else 20)


def test_every_recipe_takes_part():
    from benchmarks.recipes import RECIPES

    assert {type(x.tx).__name__ for x in ENTRANTS.values()} == set(RECIPES)
    assert sum(x.costly for x in ENTRANTS.values()) >= 12
    assert sum(x.costly for x in PROBLEMS.values()) == 2


def test_settings_become_the_numbers_of_the_optimizer():
    tx = ENTRANTS["sam"].made(0.5, 0.8, 100)
    assert tx == gradtx.sam(gradtx.sgd(gradtx.linear_schedule(0.5, 0.0, 100), momentum=0.8))
    tx = ENTRANTS["adamc"].made(0.5, 0.8, 100)
    assert tx.max_learning_rate == 0.5


def test_rates_are_extended_beyond_an_edge():
    assert further([1, 2, 4], 4, 2) == [8, 16]
    assert further([1, 2, 4], 1, 1) == [0.5]
    assert further([1, 2, 4], 2, 1) == []


def draw(key, data):
    return {"x": 1 + 0.1 * jax.random.normal(key, (2,))}, jax.random.uniform(key)


def parabola(params, world, key):
    return 0.5 * jnp.sum(jnp.square(params["x"]))


def distance_and_one(params, world):
    value = parabola(params, world, None)
    return value, 100 + value


PARABOLA = Problem(
    "parabola", "A parabola", "A test.", "None.", 25, "half the square", (100.1,), no_data, draw,
    parabola, distance_and_one,
)  # fmt: skip
SMALL = Budget(3, 2.0, 1, (0, 1), (7, 8, 9), 5)


def test_a_study_extends_its_rates_chooses_by_one_score_and_reports_the_other():
    # The rate falls from eta to 0 in 25 steps. The best one is beyond the highest of the first three.
    record = study(PARABOLA, entrant(gradtx.sgd(0.001), second=None), SMALL)
    rates = [row[0] for row in record["tried"]]
    assert rates[:3] == [0.0001, 0.001, 0.01]
    assert record["extended"] > 0
    assert not record["at_edge"]
    assert min(record["tried"], key=lambda row: np.mean(row[2:]))[0] == record["rate"]
    assert record["rate"] == max(rate for rate in rates if rate < 2)
    assert len(record["scores"]) == 3
    assert all(100 <= score < 100.1 for score in record["scores"])
    assert record["steps_to"]["100.1"][0] <= 25
    assert gradtx.parse(record["text"]) == gradtx.sgd(
        gradtx.linear_schedule(record["rate"], 0.0, 25)
    )
    assert json.loads(json.dumps(record)) == record


def test_a_rate_that_diverges_is_a_result():
    record = study(PARABOLA, entrant(gradtx.sgd(1e4), second=None), SMALL._replace(extensions=0))
    assert record["diverged"] == 3
    assert record["at_edge"]
    assert record["scores"] == pytest.approx([record["start"]] * 3, rel=0.01)


def test_a_record_is_taken_for_the_same_study_only(tmp_path):
    one = records.Study(PARABOLA, entrant(gradtx.sgd(0.1)), SMALL)
    records.save(tmp_path, one, {"scores": [1.0]})
    assert records.saved(tmp_path, one) == {"scores": [1.0]}
    assert records.saved(tmp_path, one._replace(budget=SMALL._replace(extensions=0))) is None
    assert records.saved(tmp_path, one._replace(entrant=entrant(gradtx.sgd(0.2)))) is None
    records.save(tmp_path, one, {"error": "It took longer than 1 minutes."})
    assert records.saved(tmp_path, one) is None


# --- Processes ------------------------------------------------------------------------------------


def test_what_ends_a_process_is_a_sentence_and_the_others_go_on():
    tasks = [(int, ("x",)), (os._exit, (3,)), (os.abort, ()), (time.sleep, (60,)), (dict, ())]
    names = [records.Study(PARABOLA, ENTRANTS["sgd"], SMALL)] * len(tasks)
    console = Console(file=io.StringIO())
    found = dict(run_all(names, tasks, 2, 0.05, console))
    assert found[0]["error"].startswith("ValueError: invalid literal")
    assert found[1]["error"] == "Its process ended with status 3."
    assert "signal 6" in found[2]["error"]
    assert found[3]["error"] == "It took longer than 0.05 minutes."
    assert found[4] == {}


def test_a_run_ends_with_tables_and_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["--quick", "--problem", "valley", "--optimizer", "adam(0.3)", "--workers", "1"]
    main(command)
    first = capsys.readouterr().out
    assert "one study for each pair: 1. This takes about" in first
    assert "valley: decimal logarithm" in first
    assert "results: out/compare/quick/results.json" in first
    results = records.read(tmp_path / "out/compare/quick/results.json")
    assert results["studies"][0]["optimizer"] == "adam"
    assert results["costs"]["adam"]["times_adamw"] > 0
    assert "## Rosenbrock's valley" in page(results)
    main(command)
    assert "Nothing is left to run" in capsys.readouterr().out


def test_a_cost_holds_the_times_of_the_optimizer_of_adamw_and_of_a_gradient():
    found = cost(PROBLEMS["digits"], ENTRANTS["sgd"])
    assert found["lowest"] <= found["times_adamw"] <= found["highest"]
    assert min(found[f"{x}microseconds"] for x in ("", "adamw_", "gradient_")) > 0


def test_the_estimate_is_that_of_the_published_run_for_fewer_trainings(published):
    (full,) = studies(arguments(["--problem", "digits", "--optimizer", "soap"]))
    (quick,) = studies(arguments(["--quick", "--problem", "digits", "--optimizer", "soap"]))
    (record,) = (
        x for x in published["studies"] if (x["problem"], x["optimizer"]) == ("digits", "soap")
    )
    assert estimated(full) == pytest.approx(record["seconds"])
    assert estimated(quick) < estimated(full)
    unknown = records.Study(PARABOLA, ENTRANTS["sgd"], SMALL)
    assert estimated(unknown) == 15


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--problem", "digit"], "there is no problem 'digit'. There are: digits, "),
        (["--optimizer", "adamm(1)"], "cannot read the optimizer 'adamm(1)'"),
        (["--optimizer", "scale(2.0)"], "no learning rate that is a positive number"),
        (["--optimizer", "sgd(1.0)", "--optimizer", "sgd(2.0)"], "sgd is named more than once"),
        (
            ["--optimizer", "partition({'a': sgd(1.0), 'b': sgd(2.0)}, by_rank(2))"],
            "2 learning rates",
        ),
        (["--workers", "0"], "--workers must be at least 1, not 0"),
        (["--quick", "--publish"], "--publish needs a whole run"),
        (["--out", "x.csv"], "--out must end in .json"),
    ],
)
def test_a_mistake_is_a_sentence(command, message):
    with pytest.raises(CompareError, match=re.escape(message)):
        studies(arguments(command))


def test_a_name_is_a_line_of_the_table_and_a_text_is_an_optimizer():
    chosen = studies(arguments(["--problem", "text", "--optimizer", "soap(3e-3)"]))
    assert [x.entrant.middle for x in chosen] == [3e-3]
    assert from_text("lookahead(adamw(0.1))").rate == "fast_optimizer.learning_rate"


@pytest.mark.parametrize(
    "text, rate, second, made",
    [
        ("adamw(3e-4, b1=0.95)", 3e-4, (0.8, 0.9, 0.95), "adamw({}, b1=0.8)"),
        ("muon(1e-3, beta=0.95, auxiliary=adamw(1e-4))", 1e-3, (0.8, 0.9, 0.95), None),
        ("prodigy(1.0)", 1.0, ((0.8, 0.999), (0.9, 0.999), (0.97, 0.999)), None),
        ("dog(1.0)", 1.0, (None,), "dog(learning_rate=2.0)"),
        ("chain(clip(1.0), sgd(0.1))", 0.1, (None,), "chain(clip(1.0), sgd({}))"),
        ("sam(adam(0.1))", 0.1, (None,), "sam(adam({}))"),
    ],
)
def test_a_text_is_tuned_as_its_line_of_the_table_around_its_own_numbers(text, rate, second, made):
    entrant = from_text(text)
    assert entrant.middle == rate and entrant.seconds == second
    tx = entrant.made(2 * rate, second[0], 100)
    if made is not None:
        assert repr(tx) == made.format(f"linear_schedule({2 * rate!r}, 0.0, 100)")
    else:
        assert gradtx.parse(text) != tx


# --- The page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return records.read(records.PUBLISHED)


def test_the_pages_are_those_that_the_results_make(published):
    assert (ROOT / PAGE).read_text() == page(published), "run `make compare ARGS=--page`"
    assert (ROOT / TABLES).read_text() == all_tables(published)


def test_every_figure_of_the_page_is_there(published):
    text = (ROOT / PAGE).read_text()
    for name, figure in figures(published):
        assert (ROOT / DOCS / "comparison" / f"{name}.png").exists(), name
        assert f"comparison/{name}.png" in text
        with PIL.Image.open(ROOT / DOCS / "comparison" / f"{name}.png") as image:
            assert image.info["Source"] == digest(published), "run `make compare ARGS=--page`"
        assert figure.get_size_inches()[0] < 5  # legible at the width of a phone
        figure.clear()


def test_the_published_run_is_whole(published):
    assert set(published["problems"]) == set(PROBLEMS)
    for name, problem in PROBLEMS.items():
        ran = {x["optimizer"] for x in published["studies"] if x["problem"] == name}
        due = {x.name for x in ENTRANTS.values() if x.costly or not problem.costly}
        assert ran == due - {x.name for x in ENTRANTS.values() if problem.vectors and x.of_matrices}
    for x in published["studies"]:
        if "text" in x:
            gradtx.parse(x["text"])


def together(first, second):
    """Results with a second run, all of whose seeds are others."""
    second["budgets"]["p"] = budget(costly=False, quick=False, first_seed=100)._asdict()
    return with_second_run(first, second | {"command": "again"}, Console(file=io.StringIO()))


def test_only_what_two_runs_both_say_is_called_significant():
    rng = np.random.default_rng(0)
    low, high = (list(map(float, m + rng.normal(size=20))) for m in (0, 9))
    same = together(results_of(a=low, b=high), results_of(a=low, b=high))
    assert agreement(same, "p")[1:] == ({("a", "b")}, set(), set(), 0)
    assert significant(same, "p") == {("a", "b")}
    turned = together(results_of(a=low, b=high), results_of(a=high, b=low))
    assert agreement(turned, "p")[1:] == (set(), set(), {("a", "b")}, 0)
    less = together(results_of(a=low, b=high), results_of(a=low, b=low))
    assert agreement(less, "p")[1:] == (set(), {("a", "b")}, set(), 0)
    for results in (turned, less):
        assert significant(results, "p") == set()
        assert best_group(results, "p") == ["a", "b"]
        assert [row.better_than for row in ranked(results, "p")] == [0, 0]


def test_an_ordering_that_turned_round_is_said_to_be_of_other_settings():
    rng = np.random.default_rng(0)
    low, high = (list(map(float, m + rng.normal(size=20))) for m in (0, 9))
    second = results_of(a=high, b=low)
    second["studies"][0]["rate"] = 7.0
    found = agreement(together(results_of(a=low, b=high), second), "p")
    assert "1 turned round, and for 1 of these pairs the runs chose other settings" in sentence(
        found
    )


def test_runs_with_the_same_seeds_or_another_budget_are_not_held_against_each_other():
    first, second = (results_of(a=[1.0, 2.0], b=[2.0, 3.0]) for _ in range(2))
    with pytest.raises(CompareError, match="use some of the same seeds on p"):
        with_second_run(first, second, Console(file=io.StringIO()))
    second["budgets"]["p"] = budget(costly=False, quick=True, first_seed=100)._asdict()
    with pytest.raises(CompareError, match="different budgets on p"):
        with_second_run(first, second, Console(file=io.StringIO()))


def test_a_claim_of_a_paper_is_held_against_the_significant_pairs():
    rng = np.random.default_rng(0)
    low, high = (list(map(float, m + rng.normal(size=20))) for m in (0, 9))
    *_, table = disagreements(results_of(lion=high, adamw=low, muon=low))
    assert re.search(r"`lion`, `adamw` \| .*2302\.06675.* \|  \| p \|  \|", table)
    assert re.search(r"`muon`, `adamw` \| .*2502\.16982.* \|  \|  \| p \|", table)
    assert "normuon" not in table  # it did not run


# --- By which code --------------------------------------------------------------------------------


def test_all_settings_and_seeds_of_a_study_run_one_program():
    run = trial(PARABOLA)
    for rate, second in ((0.1, 0.8), (0.3, 0.9)):
        for seed in (0, 1):
            run(ENTRANTS["sgd"].made(rate, second, 25), jax.random.key(seed), None)
    assert run._cache_size() == 1


def test_a_record_is_of_the_code_of_its_problem(tmp_path, monkeypatch):
    assert code_of(PROBLEMS["digits"]) != code_of(PROBLEMS["text"])
    assert code_of(PROBLEMS["valley"]) == code_of(PROBLEMS["plateau"])  # one file
    source = "def draw(key, data):\n    {}return key, data\n"

    def code(text):
        path = tmp_path / f"problem{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        space = {}
        exec(compile(text, path, "exec"), space)
        monkeypatch.setattr("inspect.getsourcefile", lambda f: str(path))
        return code_of(PARABOLA._replace(draw=space["draw"]))

    plain = code(source.format(""))
    assert code(source.format("# A comment.\n    ")) == plain
    assert code(source.format('"""What it is."""\n    ')) == plain
    assert code(source.format("key = key + 1\n    ")) != plain
