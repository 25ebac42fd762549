"""What Optax and PyTorch call otherwise: every name and argument of theirs is accepted or explained."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

MISSING = [x for x in vars(optax) if not x.startswith("_") and not hasattr(gradtx, x)]


def message(name):
    with pytest.raises(AttributeError) as caught:
        getattr(gradtx, name)
    return str(caught.value)


@pytest.mark.parametrize("name", MISSING)
def test_the_error_for_a_name_of_optax_says_what_to_write(name):
    """Every name of Optax or gradtx in the message exists, and the message does not repeat itself."""
    text = message(name)
    said, _, remedy = text.partition(": ")
    assert said == f"gradtx has no `{name}`" and remedy.endswith(".")
    for library, x in re.findall(r"`(optax|gradtx)\.([A-Za-z_]\w*)", remedy):
        assert hasattr({"optax": optax, "gradtx": gradtx}[library], x)


@pytest.mark.parametrize(
    "name, kind",
    [
        ("huber_loss", "it stays Optax's"),
        ("ScaleByBeliefState", "Optax's own class"),
        ("apply_every", "a link of `gradtx.chain`"),
        ("conditionally_mask", "can be wrapped around"),
        ("transforms", "one namespace"),
        ("momo", "`optax.contrib.momo` works as a link"),
    ],
)
def test_each_kind_of_name_has_its_own_remedy(name, kind):
    assert kind in message(name)


def test_what_the_remedies_promise_works():
    """A transformation of Optax is a link, and a wrapper of Optax takes a transformation of gradtx."""
    params = {"w": jnp.ones(2)}
    for tx in (
        gradtx.chain(optax.apply_every(2), gradtx.sgd(0.1)),
        optax.apply_if_finite(gradtx.adam(0.1), 3),
    ):
        with jax.numpy_dtype_promotion("standard"):  # Optax needs it
            updates, _ = tx.update(params, tx.init(params), params)
        assert np.isfinite(updates["w"]).all()


@pytest.mark.parametrize("name, meant", [("AdamW", "adamw"), ("SGD", "sgd"), ("by_pth", "by_path")])
def test_a_misspelled_name_is_corrected(name, meant):
    assert f"Did you mean `gradtx.{meant}`?" in message(name)


def test_a_name_that_nobody_knows_gets_no_suggestion():
    assert message("frobnicate") == "gradtx has no `frobnicate`."
    assert not hasattr(gradtx, "__wrapped__")


def test_clipping_has_a_name_of_pytorch():
    assert message("clip_grad_norm_") == (
        "gradtx has no `clip_grad_norm_`: write `gradtx.clip_by_global_norm`."
    )


COMMON = [
    (module, name)
    for module in (optax, optax.contrib)
    for name in vars(module)
    if inspect.isroutine(getattr(module, name)) and isinstance(getattr(gradtx, name, None), type)
]


@pytest.mark.parametrize("module, name", COMMON, ids=lambda x: getattr(x, "__name__", x))
def test_every_argument_of_optax_is_accepted_or_explained(module, name):
    ours = getattr(gradtx, name)
    own = inspect.signature(ours).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in own.values()):
        return
    for argument in inspect.signature(getattr(module, name)).parameters:
        if argument in own:
            continue
        assert argument in ours.instead, f"`gradtx.{name}` has no answer to `{argument}=`"
        with pytest.raises(TypeError, match=re.escape(ours.instead[argument])):
            ours(**{argument: None})


def test_the_function_of_optax_that_corrects_a_bias_is_named():
    with pytest.raises(TypeError, match=r"three arguments is `optax\.tree\.bias_correction`"):
        gradtx.bias_correction(jnp.ones(2), 0.9, 1)  # pyright: ignore
