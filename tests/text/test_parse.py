"""`gradtx.parse`: what prints is read back, and nothing else is, whatever the text."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from hypothesis import example, given, settings, strategies as st
from public import PUBLIC

import gradtx
from gradtx import adam, adamw, by_path, chain, partition, root, scale, second_moment, sgd


def problem(text, **kwargs):
    """The message of the refusal of `text`, without the picture, and the column its caret is in."""
    with pytest.raises(ValueError) as caught:
        gradtx.parse(text, **kwargs)
    message, _, picture = str(caught.value).rpartition("\n    ")
    message, _, line = message.rpartition("\n    ")
    assert set(picture) <= {" ", "^"} and picture.endswith("^")
    assert f"column {len(picture)}" in message or len(line) >= 70
    return message, picture.index("^")


# --- What it reads --------------------------------------------------------------------------------


@pytest.mark.parametrize("row", zoo.ROWS, ids=str)
def test_what_a_value_prints_is_read_back_as_it(row):
    assert gradtx.parse(repr(row.make()), zoo.OWN) == row.make()
    assert gradtx.parse(row.code, zoo.OWN) == row.make()


@pytest.mark.parametrize(
    "value",
    [
        chain(),
        by_path({r"embed|\d'\"\n\x01é\U0001f600": "a", "b": None}, True),
        partition(
            {"a": sgd(0.1), "b": scale(-2.5)}, {"layers": [{"w": "a"}, ("b", "a")], "head": "b"}
        ),
        adam(1e-3, mu_dtype="bfloat16"),
        adamw(0.1, eps=1e-300, mask={"w": True, "b": False}),
        scale(jnp.array([0.1, 1.5e-7, 3.0], jnp.float32)) * 2.0 - root(second_moment()) / 0.5,
        gradtx.constant(np.array([0.1, np.inf])) + float("inf"),
        sgd(jnp.float32(0.1)),
        gradtx.hidden_matrices(blocks={"qkv": 3}),
        gradtx.orthogonalize_newton_schulz(((3.0, -4.0, 2.0),), steps=1),
        1.0 - (2 / (gradtx.identity() + 1.0) - scale(3.0)) * (scale(1.0) * scale(2.0)),
    ],
    ids=repr,
)
def test_every_kind_of_field_is_read_back(value):
    assert gradtx.parse(repr(value)) == value


def test_literals_are_those_of_python():
    for text in ["-1", "+1", "--1.5", ".5", "1.", "1e-3", "1_000.5E+2", "(2)", "-inf", "1 - 3/4*2"]:
        want = gradtx.constant(eval(text, {"inf": float("inf")}))
        assert gradtx.parse(f"constant({text})") == want
    for text in [r"'a\'b'", r'"\x41é\t\\"', r"r'\d+$'", "''", "()", "('a',)", "['a', ['b', []]]"]:
        want = by_path({}, eval(text) if "[" not in text else ("a", ("b", ())))
        assert gradtx.parse(f"by_path({{}}, {text})") == want


def test_text_may_span_lines_and_have_comments():
    text = """
        chain(              # the order matters
            sgd(0.1,
                momentum=0.9,),
            scale('#' and 2) if 0 else 0
        )""".replace("scale('#' and 2) if 0 else 0", "masked(scale(2), by_path({'#': True})),")
    assert gradtx.parse(text) == chain(
        sgd(0.1, momentum=0.9), gradtx.masked(scale(2.0), by_path({"#": True}))
    )


def test_arithmetic_and_methods_of_schedules_are_those_of_python():
    names = PUBLIC | {"fading": zoo.fading}
    for text in [
        "2 * cosine_decay_schedule(1.0, 100) + 1e-5",
        "linear_schedule(0.0, 1.0, 10).shift(5).min(0.5)",
        "-constant_schedule(1).max(2) - -3 * constant_schedule(2)",
        "(1 - constant_schedule(1)).shift(steps=-2) / (fading + constant_schedule(1)) / 2",
        "1 / constant_schedule(1).min(other=fading)",
    ]:
        schedule = eval(text, names)
        assert gradtx.parse(text, {"fading": zoo.fading}) == schedule
        assert gradtx.parse(f"sgd({text})", {"fading": zoo.fading}) == sgd(schedule)
        assert gradtx.parse(repr(schedule), {"fading": zoo.fading}) == schedule


def test_a_schedule_beside_a_transformation_is_a_constant_branch():
    text = "scale(2.0) * (cosine_decay_schedule(1.0, 100) + 0.5) * fading"
    names = {"fading": zoo.fading}
    tx = scale(2.0) * (gradtx.cosine_decay_schedule(1.0, 100) + 0.5) * zoo.fading
    assert gradtx.parse(text, names) == gradtx.parse(repr(tx), names) == tx


def test_further_names_are_classes_to_call_or_objects_as_they_are():
    class halve(gradtx.Elementwise):
        power: gradtx.Hyper = 1.0

    text = "chain(halve(power=2), sgd(fading))"
    names = {"halve": halve, "fading": zoo.fading}
    assert gradtx.parse(text, names) == chain(halve(2.0), sgd(zoo.fading))
    assert "`fading` is not a name" in problem("sgd(fading)")[0]
    message, at = problem("sgd(fading(3))", names=names)
    assert "`(` cannot stand here" in message and at == 10


def test_every_public_class_of_values_can_be_read():
    for name, x in PUBLIC.items():
        # Base classes begin with a capital, `foreign` holds functions, and a sweep is not one value.
        if (
            inspect.isclass(x)
            and issubclass(x, gradtx.Value)
            and name.islower()
            and name not in ("foreign", "grid", "samples")
        ):
            assert "must be called" in problem(name)[0]


# --- What it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("sgd(0.1).__class__", 8, "`.`"),
        ("gradtx.sgd(0.1)", 0, "without the prefix `gradtx.`"),
        ("__import__('os')", 0, "`__import__` is not a name"),
        ("chain(admw(1e-3))", 6, "did you mean `adamw`?"),
        ("adamw(1e-3, weight_deacy=0)", 12, "did you mean `weight_decay`?"),
        ("by_rank(lr=0)", 8, "its arguments are rank"),
        ("adamw(1, b3=0)", 9, "did you mean `b2`?"),
        ("nadam(1, nesterov=True)", 9, "leave it out, since"),
        ("constant_schedule(1).shfit(3)", 21, "did you mean `shift`?"),
        ("constant_schedule(1).shift", 21, "must be called"),
        ("constant_schedule(1).shift(count=3)", 27, "its arguments are steps"),
        ("constant_schedule(1).horizon", 21, "is not a method of schedules"),
        ("constant_schedule(1).__class__", 21, "is not a method of schedules"),
        ("constant_schedule(1).min('a')", 21, "must be a number"),
        ("constant_schedule(1) * 'a'", 21, "transformations, schedules and numbers"),
        ("constant_schedule(1) & by_rank(1)", 21, "only between rules"),
        ("~constant_schedule(1)", 0, "only before a rule"),
        ("+constant_schedule(1)", 0, "only before a number or a schedule"),
        ("sgd(schedule<2>)", 4, "also has another meaning in this text"),
        ("sgd(<lambda>)", 4, "`<lambda>` is not a name"),
        ("adam(1, b1=0.9, b1=0.8)", 16, "`b1` is given twice"),
        ("adam(b1=0.9, 1)", 13, "a positional argument follows"),
        ("lambda: 1", 0, "`lambda` is not a name"),
        ("[sgd(1) for x in 'ab']", 8, "`for` cannot stand here"),
        ("sgd(*[1])", 4, "`*` cannot stand here"),
        ("sgd(**{})", 4, "`*` cannot stand here"),
        ("sgd(f'{1}')", 4, "not `f`"),
        ("sgd(b'1')", 4, "not `b`"),
        ("sgd(x:=1)", 4, "`x` is not a name"),
        ("sgd(1)[0]", 6, "`[` cannot stand here"),
        ("sgd(1)(2)", 6, "`(` cannot stand here"),
        ("scale(2**9999999)", 8, "`*` cannot stand here"),
        ("scale(9" + "9" * 5000 + ")", 6, "is not a number"),
        ("scale(1e999)", 6, "too large"),
        ("scale(1j)", 0, "must be a number, an array or a schedule"),
        ("scale(0x10)", 7, "`x10` cannot stand here"),
        ("by_path({}, 'a' * 3)", 16, "only between transformations, schedules and numbers"),
        ("scale(True + 1)", 11, "only between transformations, schedules and numbers"),
        ("by_rank(2) * 2", 11, "only between transformations, schedules and numbers"),
        ("sgd(1) / 'a'", 7, "only between transformations, schedules and numbers"),
        ("-sgd(1)", 0, "can stand only before a number or a schedule"),
        ("scale(1 / 0)", 8, "division by zero"),
        ("sgd(1); sgd(2)", 6, "`;`"),
        ("sgd(1) sgd(2)", 7, "`sgd` cannot stand here"),
        ("sgd(1 2)", 6, "`2` cannot stand here"),
        ("sgd(1", 5, "the end of the text cannot stand here"),
        ("sgd(1))", 6, "`)` cannot stand here"),
        ("", 0, "the end of the text"),
        ("sgd", 0, "must be called"),
        ("None", 0, "not a transformation"),
        ("sgd('abc", 4, "string that does not end"),
        (r"by_path({}, '\d')", 13, r"`\d` is not an escape"),
        (r"by_path({}, '\U00110000')", 13, r"`\U` is not an escape"),
        ("by_path({[]: 1})", 9, "a key must be"),
        ("by_path({'a': 1, 'a': 2})", 17, "is given twice"),
        ("by_path({1})", 10, "`}` cannot stand here"),
        ("sgd(\0)", 4, "'\\x00' cannot occur"),
        ("sgd('\0')", 4, "string that does not end"),
        ("foreign(sgd(1))", 0, "`foreign` is not a name"),
        ("grid(sgd(1), momentum=(0.5, 0.9))", 0, "makes several optimizers, and a text holds one"),
        ("chain(samples(sgd, 3))", 6, "call `gradtx.samples` in Python"),
        ("Transform()", 0, "`Transform` is not a name"),
        ("chain(sgd(1), 3)", 0, "must be a gradient transformation"),
        ("chain(clip(-1.0))", 6, "must lie in [0, inf)"),
        ("chain(sgd())", 6, "needs `learning_rate`: write `sgd(learning_rate, ...)`"),
        (
            "adam(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)",
            0,
            "takes at most 12 arguments by position, and got 15",
        ),
        ("scale(" + "9" * 400 + ")", 0, "too large"),
        ("scale(Array([[1], [2, 3]]))", 6, "`Array`"),
        ("polar_express(1000000000)", 0, "must lie in [1, 100]"),
        ("orthogonalize_newton_schulz(steps=1000000000)", 0, "must lie in [1, 100]"),
    ],
)
def test_a_refusal_points_at_the_place_and_says_what_is_wrong(text, column, said):
    message, at = problem(text)
    assert said in message and (at, f"column {column + 1}:" in message) == (column, True)


def test_the_caret_stands_under_its_place_on_later_and_on_long_lines():
    with pytest.raises(ValueError) as caught:
        gradtx.parse("chain(\n  sgd(0.1),\n\tsgdd(1),\n)")
    assert str(caught.value) == (
        "line 3, column 2: `sgdd` is not a name of gradtx; did you mean `sgd`?\n     sgdd(1),\n     ^"
    )
    with pytest.raises(ValueError) as caught:
        gradtx.parse("chain(" + "sgd(0.1), " * 100 + "sgdd(1), " + "sgd(0.1), " * 100 + ")")
    *_, line, caret = str(caught.value).split("\n")
    assert len(line) < 120 and line[caret.index("^") :].startswith("sgdd(1), sgd")


def test_the_message_shows_no_control_characters():
    message, _ = problem("'\x1b[31m' sgd\x1b(1)")
    assert "\x1b" not in message


@pytest.mark.parametrize("text", [3, None, b"sgd(1)", ["sgd(1)"], sgd(1.0)])
def test_what_is_not_text_is_refused(text):
    with pytest.raises(ValueError, match="needs a string, not"):
        gradtx.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            opening * 10_000
            for opening in ("(", "[", "{", "-", "+", "{'a':", "chain(", "sgd(", "(0,")
        ),
        "sgd(1)" + " + sgd(1)" * 5_000,
        "scale(" + "1" + "*1" * 30_000 + ")",
        "(" * 49 + "sgd(1)" + " + sgd(1))" * 49 + " + sgd(1) + sgd(1)",
        "root(" * 51 + "second_moment()" + ")" * 51,
    ],
    ids=lambda text: text[:10],
)
def test_expressions_do_not_lie_too_deep_in_each_other(text):
    assert "more than 50 levels deep" in problem(text)[0]


def test_what_is_just_deep_enough_is_a_working_value():
    text = "chain(" * 48 + "sgd(1)" + ")" * 48
    tx = gradtx.parse(text)
    assert gradtx.parse(repr(tx)) == tx and hash(tx) == hash(gradtx.parse(text))
    tx.update({"w": jnp.ones(3)}, tx.init({"w": jnp.ones(3)}))


def test_text_may_not_be_too_long():
    assert gradtx.parse("sgd(1)" + " " * 99_994) == sgd(1.0)
    with pytest.raises(ValueError, match="at most 100000 characters"):
        gradtx.parse("sgd(1)" + " " * 99_995)


# --- Whatever it is given -------------------------------------------------------------------------

FIELDS = [
    "learning_rate=",
    "b1=",
    "mask=",
    "links=",
    "accumulator_dtype=",
    "combine=",
    "steps=",
    "axes=",
]
PIECES = [
    *PUBLIC,
    *FIELDS,
    *"()[]{},:=+-*/.'\"#\\\n\0 ",
    "(",
    ")",
    ",",
    "0.1",
    "2",
    "1e9",
    "'a'",
    "None",
]
PIECES += [
    "inf",
    "nan",
    "True",
    "Array",
    "array",
    "float32",
    "lambda",
    "**",
    ":=",
    "r'",
    "\\x",
    "é",
    "1" * 5000,
]

literals = st.recursive(
    st.sampled_from(
        ["0.1", "2", "-1", "inf", "nan", "None", "True", "'a'", "''", "0", "1e300", "float16"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda xs: f"[{', '.join(xs)}]"),
        st.lists(inner, max_size=3).map(lambda xs: f"({' + '.join(xs)})"),
        st.lists(inner, max_size=2).map(
            lambda xs: "{" + ", ".join(f"{i}: {x}" for i, x in enumerate(xs)) + "}"
        ),
        st.tuples(st.sampled_from([*PUBLIC, "Array", "array"]), st.lists(inner, max_size=3)).map(
            lambda call: f"{call[0]}({', '.join(call[1])})"
        ),
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=20).map("".join), literals))
@example("scale(1)(")
@example("sgd(a")
@example("(((" + "'\\")
def test_any_text_is_read_or_refused_with_a_place(text):
    try:
        value = gradtx.parse(text)
    except ValueError as error:
        assert "line " in str(error) and str(error).endswith("^")
    else:
        assert isinstance(value, gradtx.Value) and isinstance(repr(value), str)


@settings(max_examples=100)
@given(st.data())
def test_one_wrong_character_in_a_valid_text_is_read_or_refused(data):
    text = data.draw(st.sampled_from([row.code for row in zoo.ROWS]))
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.characters()) + text[at + data.draw(st.integers(0, 3)) :]
    try:
        assert isinstance(gradtx.parse(text), gradtx.Value)
    except ValueError as error:
        assert str(error).endswith("^")
