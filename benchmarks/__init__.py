"""Benchmarks of gradtx: `python -m benchmarks`, see README.md.

    registry.py          what a benchmark is: one function, its goal, and the reason for the goal
    suite/               the benchmarks, one file per concept
    measure.py           time as interleaved ratios with intervals
    programs.py, hlo.py  compiled programs, and what they contain
    models.py            the trees on which the benchmarks run
    runner.py            every benchmark in a process of its own
    results.py           JSON: the numbers, and when, where and of which version they are
    tables.py            tables from JSON, and two files of JSON side by side

`python -m benchmarks.compare_numbers` is a tool of its own: it compares the numbers that gradtx computes
with those of an earlier version.
"""
