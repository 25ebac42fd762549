"""How optimizers fail without an error: the same inputs through Optax and through gradtx, as a table.

    python -m examples.silent_failures

The inputs are in cases.py. The page docs/numbers.md shows the table, and tests/reliability says what is
asserted of the answers of gradtx.
"""

import optax

import gradtx

from .cases import CASES


def shown(answer):
    if isinstance(answer, tuple):
        return ", ".join(map(shown, answer))
    if isinstance(answer, float):
        # Digits that another processor might round differently are left out, and so is the sign of zero.
        digits = 0 if answer > 999 else 3 if abs(answer) > 0.1 else 4
        return f"{round(answer, digits) + 0.0:g}".replace("nan", "NaN")
    return str(answer)


def table():
    rows = [("", "What is asked", "Right", f"Optax {optax.__version__}", "gradtx")]
    rows += [("---",) * 5]
    for name, (answer, question, right) in CASES.items():
        both = [shown(answer(lib)) for lib in (optax, gradtx)]
        rows.append((name.upper().replace("N0", "N"), question, right, *both))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(table(), end="")
