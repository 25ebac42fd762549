"""Random compositions of all public transformations, as the code that makes them."""

import random

import jax.numpy as jnp
import zoo

# What is not drawn: classes of a user, what needs an argument of the loss, and functions of a user.
LEAVES = [
    row
    for row in zoo.ROWS
    if not any(word in row.code for word in (*zoo.OWN, "plateau", "qk_clip", "noise_scale"))
]
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


def composed(seed):
    """The row of one composition. Only a row of the zoo says that it is bounded."""
    draw = random.Random(seed)
    if seed < len(LEAVES):
        return LEAVES[seed]
    inner = [row for row in LEAVES if not any(word in row.code for word in OUTERMOST)]
    row = draw.choice(inner)
    code, needs = row.code, row.needs_params
    for _ in range(draw.randrange(1, 4)):
        if draw.random() < 0.6:
            code = draw.choice(AROUND).format(_in_parentheses(code))
        else:
            # The difference of two equal branches is nothing but roundings.
            other = draw.choice([row for row in inner if row.code != code])
            pair = [code, other.code]
            draw.shuffle(pair)
            code = draw.choice(BETWEEN).format(*map(_in_parentheses, pair))
            needs = needs or other.needs_params
    return zoo.Row(code, at_zero=None, bounded=False, needs_params=needs)


SEEN = {"a": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "gain": jnp.ones(())}}


def refused(row):
    """Whether the library refuses a composition, when it is made or when it sees parameters.

    Parameters to evaluate with are computed from the updates, which nothing around them may change.
    """
    try:
        row.make().init(SEEN)
    except ValueError:
        return True
    except TypeError as error:
        return "computes the parameters to evaluate with" in str(error) or not _is_made(row)
    return False


def _is_made(row):
    try:
        row.make()
    except TypeError:
        return False
    return True


def _in_parentheses(code):
    return f"({code})" if any(sign in code for sign in (" + ", " - ", " / ", " * ")) else code
