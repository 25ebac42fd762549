"""`reset`: one group of the state, or one entry, is as `init` makes it, and all others are kept."""

import jax
import jax.numpy as jnp
import pytest
import zoo
from zoo import same, types

import gradtx
from gradtx import adamw, by_path, partition, reset, sgd

PARAMS, GRADIENT = zoo.PARAMS, zoo.GRADIENT
TX = partition({"kernel": adamw(0.1), "rest": sgd(0.1, 0.9)}, by_path({"kernel": "kernel"}, "rest"))


def after(tx, steps=3):
    state = tx.init(PARAMS)
    for _ in range(steps):
        _, state = tx.update(GRADIENT, state, PARAMS)
    return state


def test_a_group_is_reset_alone_though_a_parameter_has_its_name():
    old = after(TX)
    new = reset(old, TX, PARAMS, "kernel")
    assert types(new) == types(old)
    same(new.inner_states["kernel"], TX.init(PARAMS).inner_states["kernel"])
    same(new.inner_states["rest"], old.inner_states["rest"])
    # The group then goes on as in a run that begins.
    first = TX.update(GRADIENT, TX.init(PARAMS), PARAMS)[0]
    again = TX.update(GRADIENT, new, PARAMS)[0]
    same(again["kernel"], first["kernel"])
    same(again["bias"], TX.update(GRADIENT, old, PARAMS)[0]["bias"])


def test_one_entry_of_a_group_is_reset_alone():
    old = after(TX)
    new = reset(old, TX, PARAMS, "kernel.mu", "kernel.count")
    group = new.inner_states["kernel"].inner_state
    assert int(group[0].count) == 0 and not group[0].mu["kernel"].any()
    same(group[0].nu, old.inner_states["kernel"].inner_state[0].nu)
    assert int(group[2].step) == 3, "the schedule goes on"
    same(new.inner_states["rest"], old.inner_states["rest"])


def test_without_names_everything_is_reset_and_a_compiled_step_may_do_it():
    same(reset(after(TX), TX, PARAMS), TX.init(PARAMS))
    some = jax.jit(lambda state: reset(state, TX, PARAMS, "rest"))(after(TX))
    same(some, reset(after(TX), TX, PARAMS, "rest"))


def test_labels_that_are_not_strings_are_named_by_their_text():
    tx = partition({True: adamw(0.1), False: adamw(0.1)}, by_path("kernel"))
    new = reset(after(tx), tx, PARAMS, True)
    assert [int(x.inner_state[0].count) for x in new.inner_states.values()] == [3, 0]


def test_what_cannot_be_reset_is_named():
    with pytest.raises(KeyError, match=r"no entry named `head`; it has .*kernel"):
        reset(after(TX), TX, PARAMS, "head")
    with pytest.raises(ValueError, match=r"0/trace/bias` is not expected"):
        reset(sgd(0.1, 0.9).init(PARAMS), TX, PARAMS, "rest")
    with pytest.raises(TypeError, match=r"reset\(tx=...\)"):
        reset(TX, after(TX), jnp.ones(1))  # pyright: ignore
    assert gradtx.get(after(TX), "rest.step") == 3
