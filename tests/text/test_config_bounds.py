"""No configuration makes `from_config` slow or large: at most 2 seconds of CPU time and 100 MB.

The largest of these takes .7 seconds and 4 MB, and the first one 1 second, in which it builds the
vocabulary. What YAML writes with anchors is a Python object that contains the same part many times, so
these objects stand here as Python builds them.
"""

import time
import tracemalloc

import pytest

import gradtx


def nested(depth, inside, wrap):
    for _ in range(depth):
        inside = wrap(inside)
    return inside


def ten_times(x):
    return [x] * 10


def by_ten_names(x):
    return {str(i): x for i in range(10)}


SGD = {"sgd": 1.0}
CONFIGS = {
    # Depth
    "lists": nested(5000, SGD, lambda x: [x]),
    "masks": {"freeze": {"mask": nested(5000, True, lambda x: {"a": x})}},
    "wrappers": nested(5000, SGD, lambda x: {"cautious": x}),
    "coefficients": {"muon": [1.0, 0.9, 0.0, True, nested(5000, [1.0], lambda x: [x])]},
    "brackets": "(" * 99_999,
    "signs": {"sgd": "-" * 99_999},
    # A part that occurs many times
    "repeated calls": nested(40, SGD, ten_times),
    "repeated labels": {"freeze": {"mask": nested(30, True, by_ten_names)}},
    "repeated numbers": {
        "muon": {"learning_rate": 1.0, "coefficients": nested(30, 1.0, ten_times)}
    },
    "repeated in pairs": nested(30, [SGD, SGD], lambda x: [x[1], [x[0], x[1]]]),
    "repeated texts": [{"sgd": "cosine_decay_schedule(1, 2)"}] * 3000,
    # Length
    "labels": {"freeze": {"mask": {f"a{i}": True for i in range(40_000)}}},
    "a name": [{"a" * 99_000: 1.0}],
    "an argument": {"sgd": {"a" * 99_000: 1.0}},
    "digits": {"sgd": "9" * 99_000},
    "a number": {"sgd": 10**4000},
    "operators": {"sgd": "+".join(["constant_schedule(1)"] * 4000)},
    "schedules": {"sgd": {"join_schedules": [[1.0] * 40_000, [1] * 39_999]}},
    "groups": {"partition": [{f"g{i}": {"muon": 1.0} for i in range(5000)}, {"by_rank": 2}]},
    "patterns": {"freeze": {"by_path": {"patterns": {f"[a]{i}": True for i in range(5000)}}}},
    "names": {"tunable": {"inner": SGD, "names": ["a"] * 45_000}},
    "axes": {"freeze": {"by_shape": [[3] * 90_000]}},
}


def read(config):
    """Read a configuration, or let it be refused in a few words."""
    try:
        gradtx.from_config(config)
    except ValueError as error:
        assert len(str(error)) < 5000


@pytest.mark.parametrize("name", CONFIGS)
def test_any_configuration_is_read_or_refused_in_two_seconds_and_a_hundred_megabytes(name):
    begin = time.process_time()
    read(CONFIGS[name])
    seconds = time.process_time() - begin
    tracemalloc.start()  # it makes everything several times slower, so it sees a run of its own
    try:
        read(CONFIGS[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"{seconds:.2f} s, {peak / 1e6:.1f} MB")
    assert seconds < 2
    assert peak < 100e6
