"""When the hyperparameters of an un-jitted optimizer become arguments of its compiled step.

The first few times that a loop changes a number (a learning rate, a decay, a schedule that is built
anew), the step is compiled again with the new number as a constant. If the loop goes on changing it, the
step is compiled once more, with the numbers as arguments; see `numbers.py`. So a loop compiles a bounded
number of times.
"""

from typing import Any

from gradtx._core.passes import Pass
from gradtx._core.stages import Begin

# For each program that was run un-jitted, identified by everything but its numbers: the numbers that it
# was compiled for. None for a program whose numbers must stay constants, since a class branches on them.
_compiled_for: dict[Any, list[Any] | None] = {}
_MOST_PROGRAMS, _MOST_NUMBERS = 256, 3


def changes_often(stages: list[Any]) -> bool:
    """Whether the same program was already compiled for `_MOST_NUMBERS` other sets of numbers."""
    structure, numbers = _keys(stages)
    known = _compiled_for.setdefault(structure, [])
    if known is None or numbers in known:
        return False
    if len(known) >= _MOST_NUMBERS:
        return True
    known.append(numbers)
    if len(_compiled_for) > _MOST_PROGRAMS:
        del _compiled_for[next(iter(_compiled_for))]
    return False


def keep_constant(stages: list[Any]) -> None:
    """Note that the numbers of this program must stay constants."""
    _compiled_for[_keys(stages)[0]] = None


def _keys(stages: list[Any]) -> tuple[Any, Any]:
    """A key of the program without its numbers and schedules, and a key of these."""
    structure, numbers = [], []
    for stage in stages:
        structure.append(type(stage))
        if isinstance(stage, Begin):
            for key, _, scheduled, _ in stage.work:
                structure.append(scheduled)
                numbers.append(key)
        elif isinstance(stage, Pass):
            for group in stage.groups:
                if group.program is not None:
                    program, own = group.program.parametrized
                    structure.append(program)
                    numbers.append(own)
    return tuple(structure), tuple(numbers)
