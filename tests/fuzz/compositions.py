"""Random compositions of all public transformations, as the code that makes them."""

import functools
import random
import re

import zoo

# What needs arguments of the loss, which `examine.EXTRA` holds.
WITH_EXTRA = [
    zoo.Row("polyak_sgd(0.5)", bounded=False),
    zoo.Row("chain(sgd(0.1), reduce_on_plateau(0.5, patience=1))"),
    zoo.Row("sam(sgd(0.1))", needs_params=True),
    zoo.Row("asam(adam(0.1))", needs_params=True),
    zoo.Row("sophia(0.1, update_interval=2)", at_zero=None, needs_params=True),
]
# Classes of a user are not drawn, and neither is what needs measurements of a model's layers.
USERS = [name for name, x in zoo.OWN.items() if isinstance(x, type)]
LEAVES = [
    row for row in zoo.ROWS if not any(f"{name}(" in row.code for name in (*USERS, "qk_clip"))
] + WITH_EXTRA
# Each makes one transformation of another one. All of them keep a zero update where it is zero.
AROUND = [
    "chain({}, scale(0.5))",
    "chain(clip_by_global_norm(1.0), {})",
    "chain(clip(0.5), {})",
    "chain({}, clip_by_block_rms(1.0))",
    "masked({}, by_rank(2))",
    "partition({{True: {}, False: sgd(0.1)}}, by_rank(2))",
    "cautious({})",
    "accumulate({}, 2)",
    "every(2, {})",
    "skip_nonfinite({})",
    "tap('x', norm(per='leaf')) / 1.0 * 0.0 + {}",
    "observe({}, norm())",
    "tunable({})",
    "{} * 0.5",
    "layerwise({}, 0.5, stacked='')",
    "scale_by_path({{'kernel': 0.5}}, optional=True) * 0.0 + {}",
]
BETWEEN = ["chain({}, {})", "{} + {}", "{} - {}", "partition({{True: {}, False: {}}}, by_rank(2))"]
# These refuse what stands before or behind them.
OUTERMOST = ["averaged(", "master_weights(", "dynamic_loss_scale("]


@functools.cache
def order(turn):
    """The rows in the order of one turn, in which each of them comes once."""
    return random.Random(turn).sample(LEAVES, len(LEAVES))


def composed(number, kinds):
    """The row of one composition, and the kind of dtypes that it is tried on.

    Every row comes once in each turn of `len(LEAVES)` numbers. In one of four turns it comes alone, and
    in the others together with more rows. Its dtypes change from turn to turn. Only a row of the zoo
    says that it is bounded.
    """
    turn, place = divmod(number, len(LEAVES))
    draw, row = random.Random(number), order(turn)[place]
    index = LEAVES.index(row)
    kind = kinds[(index + turn) % len(kinds)]
    alone = (index // len(kinds) + turn) % 4 == 0
    if alone or any(word in row.code for word in OUTERMOST):
        return row, kind
    inner = [other for other in LEAVES if not any(word in other.code for word in OUTERMOST)]
    code, needs = row.code, row.needs_params
    for _ in range(draw.randrange(1, 4)):
        if draw.random() < 0.6:
            code = draw.choice(AROUND).format(_in_parentheses(code))
        else:
            # The difference of two equal branches is nothing but roundings.
            other = draw.choice([other for other in inner if other.code != code])
            pair = [code, other.code]
            draw.shuffle(pair)
            code = draw.choice(BETWEEN).format(*map(_in_parentheses, pair))
            needs = needs or other.needs_params
    return zoo.Row(code, at_zero=None, bounded=False, needs_params=needs), kind


def names(code):
    """The public names in the code of a composition."""
    return set(re.findall(r"\w+", code)) & set(zoo.NAMES) - set(zoo.OWN)


def refusal(row, params):
    """The sentence with which the library refuses a composition, or None.

    It refuses when a composition is made, or when it sees the parameters. Parameters to evaluate with
    are computed from the updates, which nothing around them may change.
    """
    try:
        row.make().init(params)
    except ValueError as error:
        return str(error)
    except TypeError as error:
        if "computes the parameters to evaluate with" in str(error) or not _is_made(row):
            return str(error)
    return None


def _is_made(row):
    try:
        row.make()
    except TypeError:
        return False
    return True


def _in_parentheses(code):
    return f"({code})" if any(sign in code for sign in (" + ", " - ", " / ", " * ")) else code
