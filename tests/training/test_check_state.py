"""`check_state`: what differs between a saved run and the one that is to go on with it."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import zoo

import gradtx
from gradtx import adam, adamw, chain, check_state, clip, clip_by_global_norm, partition, sgd

PARAMS = zoo.PARAMS
SCHEDULE = gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 3, 10)
LABELS = {"kernel": "a", "bias": "b"}


def said(state, tx, params=PARAMS, saved=None):
    with pytest.raises(ValueError) as caught:
        check_state(state, tx, params, saved)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("tx", [adamw(0.1), gradtx.muon(SCHEDULE), sgd(0.1)], ids=zoo.named)
def test_a_state_of_the_optimizer_passes_in_every_form(tx):
    state = tx.init(PARAMS)
    shapes = jax.eval_shape(lambda: PARAMS)
    for given in (state, jax.eval_shape(tx.init, PARAMS), jax.tree.map(np.asarray, state)):
        for params in (PARAMS, shapes):
            check_state(given, tx, params, saved=gradtx.parse(repr(tx)))


def test_every_array_that_differs_is_listed_with_its_path_shape_and_dtype():
    old = PARAMS | {"kernel": jnp.ones((3, 3)), "gone": jnp.ones(2)}
    state = adam(0.1, mu_dtype="bfloat16").init(old)
    lines = said(state, adam(0.1), PARAMS | {"new": jnp.ones(())})
    assert sorted(lines[1:-1]) == [
        "  - `0/mu/bias` has dtype bfloat16 instead of float32",
        "  - `0/mu/gone` is not expected (bfloat16[2])",
        "  - `0/mu/kernel` is bfloat16[3, 3] instead of float32[2, 3]",
        "  - `0/mu/new` is missing (float32[])",
        "  - `0/nu/gone` is not expected (float32[2])",
        "  - `0/nu/kernel` has shape (3, 3) instead of (2, 3)",
        "  - `0/nu/new` is missing (float32[])",
    ]
    assert "`gradtx.migrate(state, tx, params)`" in lines[-1]


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (adamw(0.1), adamw(0.2, b2=0.99), ["`adamw.learning_rate` is 0.2 and was 0.1",
                                           "`adamw.b2` is 0.99 and was 0.999"]),
        (adamw(0.1), adamw(SCHEDULE), [f"`adamw.learning_rate` is {SCHEDULE} and was 0.1"]),
        (adamw(SCHEDULE), adamw(gradtx.replace(SCHEDULE, decay_steps=20)),
         ["`adamw.learning_rate.decay_steps` is 20.0 and was 10.0"]),
        (sgd(0.1), sgd(0.1, nesterov=True, momentum=0.9), ["`sgd.momentum` is 0.9 and was None",
                                                           "`sgd.nesterov` is True and was False"]),
        (sgd(0.1), adam(0.1), ["the optimizer is adam(0.1) and was sgd(0.1)"]),
        (chain(clip_by_global_norm(1.0), adamw(0.1)), chain(clip_by_global_norm(0.5), adamw(0.1)),
         ["`chain.links[0].max_norm` is 0.5 and was 1.0"]),
        (chain(clip(1.0), adamw(0.1)), chain(adamw(0.2)),
         ["`chain.links[0]` is missing and was clip(1.0)",
          "`chain.links[0].learning_rate` is 0.2 and was 0.1"]),
        (chain(clip(1.0), adamw(0.1)), chain(clip(1.0), gradtx.scale(2.0), adamw(0.1)),
         ["`chain.links[1]` is new: scale(2.0)"]),
        (partition({"a": sgd(0.1), "b": sgd(0.1)}, LABELS),
         partition({"a": sgd(0.3), "b": sgd(0.1)}, LABELS),
         ["`partition.transforms['a'].learning_rate` is 0.3 and was 0.1"]),
        (sgd(jnp.float32(0.1)), sgd(jnp.float32(0.5)),
         ["`sgd.learning_rate` is {}) and was {})".format(
             *(repr(sgd(jnp.float32(x)))[4:-2] for x in (0.5, 0.1)))]),
    ],
    ids=zoo.named,
)  # fmt: skip
def test_every_change_of_the_optimizer_is_listed(old, new, changes):
    lines = said(old.init(PARAMS), new, saved=old)
    assert [line.removeprefix("  - ") for line in lines if line.startswith("  - ")][
        -len(changes) :
    ] == changes
    check_state(new.init(PARAMS), new, PARAMS, saved=gradtx.parse(repr(new)))


def test_a_checkpoint_is_checked_before_it_is_restored(tmp_path):
    """The metadata of a checkpoint is enough. A restored state without a target is named as such."""
    state = adamw(0.1).init(PARAMS)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        metadata = checkpointer.metadata(tmp_path / "state").item_metadata.tree
        check_state(metadata, adamw(0.1), PARAMS)
        assert "  - `1/step` is missing (int32[])" in said(metadata, adam(0.1))
        restored = checkpointer.restore(tmp_path / "state")
    (line,) = said(restored, adamw(0.1))
    assert "in other containers" in line and "`jax.eval_shape(tx.init, params)`" in line


def test_wrong_arguments_are_named():
    state = adamw(0.1).init(PARAMS)
    with pytest.raises(TypeError, match=r"`gradtx.parse\(...\)` of this text"):
        check_state(state, adamw(0.1), PARAMS, saved="adamw(0.1)")  # pyright: ignore
    with pytest.raises(TypeError, match=r"check_state\(tx=...\)"):
        check_state(adamw(0.1), state, PARAMS)  # pyright: ignore
