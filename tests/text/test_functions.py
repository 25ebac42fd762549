"""Functions of one name are never confused: `parse(repr(tx), names)` is `tx`, or an error."""

import jax.numpy as jnp
import pytest

import gradtx
from gradtx import adamw, chain, clip, fanout, masked, scale, sgd


def made(value):
    def schedule(step):
        return value + 0.0 * step

    return schedule


A, B, C = made(0.1), made(0.2), made(0.3)


def test_the_second_function_of_a_name_prints_differently():
    tx = adamw(A, weight_decay=B)
    assert repr(tx) == "adamw(schedule, weight_decay=schedule<2>)"
    assert repr(chain(sgd(B), sgd(A), sgd(C), sgd(B))) == (
        "chain(sgd(schedule), sgd(schedule<2>), sgd(schedule<3>), sgd(schedule))"
    )
    # Names are given out anew by every text.
    assert repr(sgd(B)) == "sgd(schedule)" and repr(tx) == repr(adamw(B, weight_decay=A))


@pytest.mark.parametrize("names", [{}, {"schedule": A}, {"schedule": B}, {"schedule_2": B}])
@pytest.mark.parametrize(
    "tx",
    [
        adamw(A, weight_decay=B),
        chain(chain(sgd(A)), masked(scale(B), True)),
        scale(1.0) * A + scale(1.0) * B,
        sgd(gradtx.constant_schedule(1.0) * A + B),
        gradtx.partition({"a": sgd(A), "b": sgd(B)}, {"w": "a"}),
        masked(scale(1.0), gradtx.by_rank(1) & (lambda path, leaf: True)),
    ],
    ids=repr,
)
def test_a_text_with_two_functions_of_one_name_is_refused(tx, names):
    with pytest.raises(ValueError, match=r"also has another meaning|is not a name"):
        gradtx.parse(repr(tx), names)
    with pytest.raises(ValueError, match=r"also has another meaning|is not a name"):
        gradtx.to_config(tx)


def test_the_text_can_be_mended():
    text = repr(adamw(A, weight_decay=B)).replace("schedule<2>", "decay")
    assert gradtx.parse(text, {"schedule": A, "decay": B}) == adamw(A, weight_decay=B)


def test_one_function_that_occurs_twice_keeps_its_name():
    for tx in (adamw(A, weight_decay=A), chain(sgd(A), scale(1.0) / A)):
        assert gradtx.parse(repr(tx), {"schedule": A}) == tx
        assert gradtx.from_config(gradtx.to_config(tx), {"schedule": A}) == tx


def test_a_function_with_the_name_of_a_word_is_not_read_as_the_word():
    for word in ("inf", "nan", "None", "True", "float32"):
        f = made(0.1)
        f.__name__ = word
        assert repr(scale(f)) == f"scale({word}<2>)"
        for names in ({}, {word: f}):
            with pytest.raises(ValueError, match="also has another meaning"):
                gradtx.parse(repr(scale(f)), names)


def test_a_class_with_the_name_of_one_of_the_library_is_not_read_as_that():
    own = type(
        "sgd", (gradtx.Elementwise,), {"__annotations__": {"rate": gradtx.Hyper}, "rate": 1.0}
    )
    assert (
        repr(own()) == "sgd<2>()"
        and repr(chain(sgd(0.1), own(0.5))) == "chain(sgd(0.1), sgd<2>(rate=0.5))"
    )
    for names in ({}, {"sgd": own}):
        with pytest.raises(ValueError, match="also has another meaning"):
            gradtx.parse(repr(own()), names)


def test_functions_without_a_name_are_refused():
    for tx in (sgd(lambda step: 0.1), fanout(lambda a, b: a, scale(1.0), scale(2.0))):
        for names in ({}, {"<lambda>": A}):
            with pytest.raises(ValueError, match="`<lambda>` is not a name"):
                gradtx.parse(repr(tx), names)


def test_a_jitted_function_prints_as_its_name():
    tx = fanout(jnp.maximum, scale(1.0), scale(2.0))
    assert repr(tx) == "fanout(maximum, scale(1.0), scale(2.0))"
    assert gradtx.parse(repr(tx), {"maximum": jnp.maximum}) == tx
    assert gradtx.from_config(gradtx.to_config(tx), {"maximum": jnp.maximum}) == tx


def test_messages_can_show_such_a_value():
    with pytest.raises(ValueError, match="schedule<2>"):
        gradtx.replace(adamw(A, weight_decay=B), nonsense=1.0)
    with pytest.raises(ValueError, match="clip"):
        gradtx.replace(clip(1.0), nonsense=1.0)
