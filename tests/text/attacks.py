"""Texts that try to make `parse` slow or large. As a script, it measures each of them and prints JSON.

python tests/text/attacks.py
"""

import itertools
import json
import random
import resource
import sys
import time
import tracemalloc

LENGTH = 100_000


def filled(begin, piece, end=""):
    """`begin`, as many copies of `piece` as fit into a text, and `end`.

    `piece` may contain `#`, for which the number of the copy is written.
    """
    parts, room = [begin], LENGTH - len(begin) - len(end)
    for i in itertools.count():
        part = piece.replace("#", str(i)) if "#" in piece else piece
        room -= len(part)
        if room < 0:
            return "".join([*parts, end])
        parts.append(part)


def nested(opening, inside, closing, depth):
    return opening * depth + inside + closing * depth


ATTACKS = {
    # Depth
    "parentheses": "(" * LENGTH,
    "closed parentheses": nested("(", "1", ")", LENGTH // 2 - 1),
    "lists": "[" * LENGTH,
    "dicts": filled("", "{1:"),
    "signs": "-" * LENGTH,
    "tildes": "~" * LENGTH,
    "calls": filled("", "chain("),
    "methods": filled("constant_schedule(1)", ".min(1)"),
    "sums": filled("sgd(1)", "+sgd(1)"),
    "schedules": filled("constant_schedule(1)", "+1"),
    "rules": filled("by_rank(1)", "&by_rank(1)"),
    "trees of sums": nested("(", "sgd(1)", "+sgd(1))", 48),
    # Length
    "links": filled("chain(", "sgd(1),", ")"),
    "expensive links": filled("chain(", "muon(1),", ")"),
    "deep chain of expensive links": nested("chain(", filled("", "muon(1),")[:90_000], ")", 48),
    "recipes in wrappers": filled("chain(", "tunable(adamw(1)),", ")"),
    "nested wrappers": filled("chain(", nested("cautious(", "muon(1)", ")", 40) + ",", ")"),
    "observers": filled("chain(", nested("observe(", "adamw(1)", ")", 40) + ",", ")"),
    "deep observer": nested("observe(", filled("chain(", "sgd(1),", ")")[:99_000] + ")", ")", 30),
    "numbers": filled("scale(array([", "1,", "]))"),
    "negative numbers": filled("scale(array([", "-1,", "]))"),
    "float8": filled("scale(Array([", "1,", "], dtype=float8_e4m3fn))"),
    "complex": filled("scale(Array([", "complex(1,1),", "]))"),
    "rows": filled("scale(array([", "[1],", "]))"),
    "ragged": filled("scale(array([", "[1],", "[1, 2]]))"),
    "empty lists": filled("by_path({}, [", "[],", "])"),
    "empty dicts": filled("by_path({}, [", "{},", "])"),
    "labels": filled("masked(sgd(1), {", "#: 1,", "})"),
    "names of labels": filled("masked(sgd(1), {", "'#': True,", "})"),
    "equal keys": filled("masked(sgd(1), {", "1: 1,", "})"),
    "nan keys": filled("masked(sgd(1), {", "nan: 1,", "})"),
    "labels of a partition": filled("partition({", "'#': sgd(1),", "}, by_rank(2))"),
    "groups of a partition": filled("partition({", "'#': muon(1),", "}, by_rank(2))"),
    "small arrays": filled("chain(", "scale(Array(#)),", ")"),
    "weak arrays": filled("chain(", "scale(Array([#], dtype=float32, weak_type=True)),", ")"),
    "weak arrays of many shapes": "chain("
    + ",".join(f"scale(Array([{'1,' * n}], dtype=float32, weak_type=True))" for n in range(1, 250))
    + ")",
    "boundaries": filled("piecewise_constant_schedule(1, {", "#: 1,", "})"),
    "joined": filled("join_schedules([", "1,", "], [1])"),
    "joined well": filled("join_schedules([", "1,", "1], [")[:50_000]
    + "1], ["
    + "1," * 24_000
    + "])",
    "taps": filled("chain(", "tap('#'),", ")"),
    "measures": filled("tap('a', (", "norm(),", "))"),
    "arguments": filled("chain(", "1,", ")"),
    "keywords": filled("adamw(1,", "b1=1,", ")"),
    "unknown": filled("adamw(1,", "c#=1,", ")"),
    "links with names": filled("named_chain(", "('#', sgd(1)),", ")"),
    # Numbers
    "digits": "9" * LENGTH,
    "long numbers": filled("scale(", "9" * 4000 + "*", "1)"),
    "long quotients": filled("scale(", "9" * 4000 + "/", "1)"),
    "decimals": "scale(0." + "1" * (LENGTH - 20) + ")",
    "underscores": "scale(1" + "_" * (LENGTH - 20) + ")",
    "exponents": "scale(1e" + "9" * (LENGTH - 20) + ")",
    "integers": f"by_rank({'9' * 4000})",
    "a huge array": "scale(array([1, 1], dtype='U500000000'))",
    "a huge shape": "scale(array([], shape=(0, 2147483647, 2147483647)))",
    "a wrong shape": "scale(array([1], shape=(1000000000,)))",
    "a void": "scale(array([1], dtype='V500000000'))",
    "strings in an array": filled("scale(array(['" + "a" * 1999 + "',", "'',", "]))"),
    "steps": "polar_express(1000)",
    "many steps": filled("chain(", "muon(1,steps=#),", ")"),
    "polynomials": filled("chain(", "orthogonalize_newton_schulz(polar_express(99,1e-2#)),", ")"),
    "presets": "chain("
    + ",".join(f"muon(1,{name!r},{n})" for n in range(1, 100) for name in ("polar_express", "cans"))
    + ")",
    "triples": filled("muon(1, coefficients=(", "(1,1,1),", "))"),
    # Strings, patterns and other text
    "a string": "by_path({}, '" + "a" * (LENGTH - 20) + "')",
    "escapes": "by_path({}, '" + "\\n" * (LENGTH // 2 - 20) + "')",
    "an open string": "'" + "a" * (LENGTH - 1),
    "an open string of escapes": "'" + "\\a" * (LENGTH // 2 - 1),
    "quotes": "'" * LENGTH,
    "strings": filled("by_path({}, [", "'',", "])"),
    "prefixes": "r" * LENGTH,
    "name": "a" * LENGTH,
    "names": filled("", "a "),
    "spaces": " " * LENGTH,
    "lines": "\n" * LENGTH,
    "comments": filled("", "#\n"),
    "comment": "#" * LENGTH,
    "brackets": "<" * LENGTH,
    "placeholders": "<a" * (LENGTH // 2),
    "a placeholder": "<" + "a" * (LENGTH - 2) + ">",
    "control characters": "\x01" * LENGTH,
    "wide letters": "\U0001f600" * LENGTH,
    "a late mistake": filled("chain(", "clip(1),", "clipp(1))"),
    "long lines and mistakes": filled("chain(", "clip(1),\n", "\x01"),
    "a pattern": "by_path('" + "(" * 900 + "a+" + ")+" * 900 + "')",
    "an exponential pattern": "by_path('(a+)+b')",
    "a polynomial pattern": "by_path('" + "a*" * 900 + "b')",
    "optional letters": "by_path('" + "a?" * 900 + "')",
    "sets": filled("chain(", "freeze(by_path('" + "[a-z]" * 390 + "')),", ")"),
    "wide sets": filled("chain(", "freeze(by_path('(?i:[\0-\U0010ffff])')),", ")").replace(
        "\0", "!"
    ),
    "alternatives": filled("by_path('a", "|a#", "')"),
    "patterns": filled("by_path({", "'[a]#': 1,", "})"),
    "optional patterns": filled("by_path({}, optional=(", "'#',", "))"),
    "repeated groups": "by_path('" + nested("(?:", "", "){100}", 18) + "')",
}


def drawn(seed):
    """A random text of names, signs, numbers and pieces of the attacks above."""
    draw = random.Random(seed)
    texts = list(ATTACKS.values())
    text = draw.choice(texts)
    for _ in range(draw.randrange(1, 6)):
        other, at = draw.choice(texts), draw.randrange(len(text) + 1)
        begin = draw.randrange(len(other) + 1)
        text = text[:at] + other[begin : begin + draw.choice([5, 50, 5_000, LENGTH])] + text[at:]
    return text[:LENGTH]


# The texts that need the most memory. To measure it takes three times as long as to read the text.
LARGE = {"empty dicts", "escapes", "triples", "groups of a partition"}


def measured(call, text, large):
    """The seconds of CPU time and the megabytes that reading a text takes, and what became of it."""
    begin = time.process_time()
    result = outcome(call, text)
    seconds = time.process_time() - begin
    if not large:
        return seconds, 0, result
    tracemalloc.start()
    try:
        outcome(call, text)
        return seconds, tracemalloc.get_traced_memory()[1] / 1e6, result
    finally:
        tracemalloc.stop()


def outcome(call, text):
    try:
        call(text)
    except ValueError as error:
        return str(error)[:100]
    return "read"


def main():
    import gradtx

    gradtx.parse("muon(1)")  # what the first call loads and caches
    texts = ATTACKS | {f"seed {seed}": drawn(seed) for seed in map(int, sys.argv[1:])}
    for name, text in texts.items():
        assert len(text) <= LENGTH, name
        result = measured(gradtx.parse, text, name in LARGE)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps([name, *result, resident]))


if __name__ == "__main__":
    main()
