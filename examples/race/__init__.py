"""A race of optimizers on real data: `python -m examples.race`, from the folder of the clone.

    racers.py     which optimizers race: the default ones, or those that the user names
    data.py       the digits or the user's rows, split into train, validation and test rows
    network.py    the small network that every optimizer trains, and its loss
    training.py   training with one optimizer, compiled once for all learning rates and seeds
    rules.py      how a rate is chosen, and on which seeds and rows the result is reported
    report.py     the table and the figure
    __main__.py   the command line

Which differences are more than noise is found in `examples/noise.py`, which the comparison uses too.

The idea alone, without the files, errors and figures of a product, stands in `examples/sweep.py`.
"""

from .errors import RaceError as RaceError
from .racers import RACERS as RACERS
