"""When the numbers of an un-jitted optimizer become arguments of its compiled step.

A program is compiled for its first few numbers as they are, so that they are constants. A loop that
goes on changing them (a rate, a decay, a schedule built anew) gets one more program, which takes the
numbers as arguments; see `numbers.py`. So it compiles a bounded number of times.
"""

from typing import Any

from gradtx._core.passes import Pass
from gradtx._core.stages import Begin

# Programs that were run un-jitted, by all but their numbers: the numbers that they were compiled for.
# None for a program whose class asks for its numbers, so that they must be constants.
_compiled_for: dict[Any, list[Any] | None] = {}
_MOST_PROGRAMS, _MOST_NUMBERS = 256, 3


def changes_often(stages: list[Any]) -> bool:
    """Whether the same program was compiled for several other numbers already."""
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
    """Note that the numbers of such a program must be constants."""
    _compiled_for[_keys(stages)[0]] = None


def _keys(stages: list[Any]) -> tuple[Any, Any]:
    """What tells programs apart but for their numbers and schedules, and these numbers and schedules."""
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
                    program, own = group.program.freed
                    structure.append(program)
                    numbers.append(own)
    return tuple(structure), tuple(numbers)
