"""No text makes `parse` slow or large, and no pattern from a text makes a search slow."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import attacks
import pytest
from hypothesis import example, given, settings, strategies as st

import gradtx
from gradtx._compose.patterns import EMBEDDING, HEAD, VECTOR
from gradtx._text.regex import problem_with

SEEDS = 4


@pytest.fixture(scope="module")
def measured():
    """For every attack: the seconds, the megabytes, the outcome, and the peak of the process."""
    script = Path(__file__).with_name("attacks.py")
    seeds = [str(seed) for seed in range(SEEDS)]
    run = subprocess.run(
        [sys.executable, str(script), *seeds], capture_output=True, text=True, check=True
    )
    rows = {name: row for name, *row in map(json.loads, run.stdout.splitlines())}
    assert len(rows) == len(attacks.ATTACKS) + SEEDS
    return rows


def test_any_text_is_read_or_refused_in_two_seconds(measured):
    assert {name: row for name, row in measured.items() if row[0] > 2} == {}


def test_any_text_is_read_or_refused_in_a_hundred_megabytes(measured):
    assert {name: row for name, row in measured.items() if row[1] > 100} == {}
    # The whole process grew by what the attacks left behind, such as compiled programs and caches.
    resident = [row[3] for row in measured.values()]
    assert resident[-1] - resident[0] < 300


def test_an_attack_that_is_read_is_one_that_does_no_harm(measured):
    read = {name for name, row in measured.items() if row[2] == "read" and "seed" not in name}
    assert read <= {
        "numbers",
        "negative numbers",
        "float8",
        "complex",
        "rows",
        "empty lists",
        "empty dicts",
        "labels",
        "names of labels",
        "boundaries",
        "decimals",
        "integers",
        "trees of sums",
        "joined well",
        "measures",
        "strings",
        "triples",
    }


# --- Configurations -------------------------------------------------------------------------------


def refused(config):
    begin = time.process_time()
    with pytest.raises(ValueError) as caught:
        gradtx.from_config(config)
    assert time.process_time() - begin < 2
    return str(caught.value)


def test_a_configuration_that_contains_itself_many_times_is_refused():
    # YAML writes this in 50 short lines, with anchors.
    config = {"sgd": 1.0}
    for _ in range(45):
        config = [config, config]
    assert "at most" in refused(config)
    labels = True
    for _ in range(45):
        labels = {"a": labels, "b": labels}
    assert "at most" in refused({"freeze": {"mask": labels}})


def test_a_configuration_that_is_too_deep_is_refused():
    config, mask, recursive = {"sgd": 1.0}, True, []
    for _ in range(60):
        config, mask = {"cautious": config}, [mask]
    recursive.append(recursive)
    for wrong in (config, [{"freeze": {"mask": mask}}], recursive):
        assert "more than 50 levels" in refused(wrong)


def test_a_configuration_that_is_too_long_is_refused():
    assert "at most 100000 characters" in refused({"freeze": {"mask": [True] * 200_000}})
    assert "at most 100000 characters" in refused(["sgd(1)" + " " * 1000] * 200)
    assert "at most 1000 calls" in refused([{"sgd": 1.0}] * 2000)
    assert "at most 2000 characters" in refused({"freeze": {"mask": {"by_path": "a" * 2001}}})


def test_patterns_in_a_configuration_are_bounded():
    assert "too long to search" in refused({"freeze": {"by_path": "(a+)+b"}})


# --- Patterns -------------------------------------------------------------------------------------

CLEAR = [
    EMBEDDING,
    HEAD,
    VECTOR,
    *(getattr(gradtx.hidden_matrices(), name) for name in ("query", "output", "outputs_first")),
    "bias$",
    "(?!)",
    "(?-i:Dense)_[0-9]+",
    r"layers/\d+/(attn|mlp)/.*kernel",
    r"^(?:encoder|decoder)/.*(query|key|value)/.*(kernel|bias)$",
    "[^/]+/[a-z]{2,3}(foo)?",
    "(ab){3}x{2}",
    r"[]a]*\.\d\w\s",
    "labels: {} {x}",
]


@pytest.mark.parametrize("pattern", CLEAR)
def test_ordinary_patterns_are_allowed(pattern):
    assert problem_with(pattern) == ""
    assert gradtx.parse(f"by_path({pattern!r})") == gradtx.by_path(pattern)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a+)+b", "several ways"),
        ("(a|a)*b", "several ways"),
        ("(a?){40}", "several ways"),
        ("(?=(a+)+b)c", "several ways"),
        (r"(\w+/)*x", "several ways"),
        ("(a|ab)(c|bcd)(d*)" * 9, "too many ways"),
        ("a?" * 30 + "a" * 30, "too many ways"),
        (".*.*.*.*x", "too many ways"),
        ("(a|a)" * 30, "too many ways"),
        ("((((?:){100}){100}){100}){100}", "too many ways"),
        (r"(a|b)\1", "refers back"),
        ("(?:){1000000}", "100 repetitions"),
        ("[\0-\U0010ffff]", "too wide"),
        (r"[\0-a]", "escape"),
        ("(?i)[a]", "can be followed only by"),
        ("(?x)a+ # )", "can be followed only by"),
        ("(" * 100 + "a+", "20 levels"),
    ],
)
def test_patterns_that_may_take_long_are_refused(pattern, reason):
    assert reason in problem_with(pattern)
    with pytest.raises(ValueError, match="too long to search"):
        gradtx.parse(f"by_path({pattern!r})")


pieces = st.lists(
    st.sampled_from([*"aa/|()*+?.", "(?:", "{2,}", "{9}", "[a/]", r"\w"]), max_size=14
)


@settings(max_examples=300)
@given(pieces.map("".join))
@example("a*a*a*")
def test_a_pattern_that_is_allowed_is_searched_quickly(pattern):
    try:
        compiled = re.compile(pattern)
    except re.error:
        return
    if not problem_with(pattern):
        begin = time.process_time()
        compiled.search("a" * 40 + "!")
        assert time.process_time() - begin < 1
