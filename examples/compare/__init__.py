"""A comparison of optimizers in which all have the same budget: `python -m examples.compare`.

    problem.py      what a problem is; `problems/` holds the problems, and one table of them
    entrants.py     which optimizers take part: one line each; named.py, those of the command line
    settings.py     the learning rates and the second number that are tried, and how they are extended
    trial.py        one training run, as a function of the optimizer and a seed
    study.py        one optimizer on one problem: choose on a few seeds, report on fresh ones
    workers.py      all studies side by side, within limits of time, so that a stopped run goes on
    records.py      what is written: JSON with versions, processor, seeds and the text of each optimizer;
                    provenance.py says by which code it was made
    statistics.py   which optimizer is better than which, and performance profiles
    agreement.py    what two runs with other seeds both say: only that is called significant
    costs.py        the time of the optimizer alone, and of a gradient
    pictures.py     the figures, and page.py the page in the documentation, with its parts in claims.py
                    (what papers say), costs_page.py and method.py (how it was made), from the JSON alone
    options.py      the command line, and __main__.py what it does

An optimizer is one line of a table, and a problem is a file and a line. The command line takes both:
`make compare ARGS='--optimizer "soap(3e-3)" --problem digits'`.
"""

from .errors import CompareError as CompareError
