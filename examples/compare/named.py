"""The optimizer that a user names on the command line, as an entrant."""

import dataclasses

import gradtx

from .entrants import ENTRANTS, Entrant, numbers_at
from .errors import CompareError


def from_text(text: str) -> Entrant:
    """The entrant that a user names, such as `soap(3e-3)`, with its learning rate as the middle.

    An optimizer of the table is tuned as its line says. Of the values of its second number, the one that
    lies nearest to the user's gives way to it. Anything else, such as a chain, has no second number.

    Raises:
        CompareError: if the text does not name an optimizer, or the optimizer has no learning rate that
            is a positive number, or several.
    """
    try:
        tx = gradtx.parse(text)
    except ValueError as error:
        raise CompareError(f"cannot read the optimizer {text!r}: {error}") from None
    if not isinstance(tx, gradtx.Transform):
        raise CompareError(f"{text!r} is not an optimizer.")
    line = ENTRANTS.get(type(tx).__name__)
    if line is None:
        line = Entrant(tx)
    rates = {x for x in numbers_at(tx, line.rate) if x > 0}
    if not rates:
        raise CompareError(
            f"{text!r} has no learning rate that is a positive number, so there is no middle of the "
            "rates to try. Write, for example, 'adamw(1e-3)'."
        )
    if len(rates) > 1:
        raise CompareError(
            f"{text!r} has {len(rates)} learning rates ({', '.join(map(str, sorted(rates)))}), and the "
            "comparison tunes one. Give all of its optimizers the same rate."
        )
    given = dataclasses.replace(line, tx=tx, costly=True)
    if line.second in (None, "betas"):
        return given
    own = numbers_at(tx, line.second)
    if not own:
        return dataclasses.replace(given, second=None)
    values = sorted(line.seconds, key=lambda value: abs(value - own[0]))
    values = tuple(sorted((own[0], *values[1:])))
    return dataclasses.replace(given, values=values)
