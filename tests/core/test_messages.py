"""What a user reads after an ordinary mistake: a forgotten argument, None, a generator, a wrong order.

A message names what the user has written and says what to write instead. It shows no method that the
user has never heard of, no address in memory and no text of JAX about its own functions.
"""

import inspect
import re

import jax
import jax.numpy as jnp
import optax
import pytest
from public import PUBLIC

import gradtx
from gradtx import (
    adam,
    adamw,
    by_path,
    by_rank,
    chain,
    fanout,
    identity,
    masked,
    muon,
    partition,
    sgd,
)

PARAMS = {"w": jnp.ones((4, 2)), "b": jnp.ones(2)}
ADAM = adam(0.1)
STATE = ADAM.init(PARAMS)
ORTHOGONALIZE = gradtx.orthogonalize_newton_schulz
NESTEROV = sgd(0.1, 0.9, nesterov=True)
CLASSES = {
    name: x
    for name, x in PUBLIC.items()
    if inspect.isclass(x) and x.__name__ == name and x is not gradtx.Value
}
# Words of Python and of JAX that explain nothing to a caller.
INTERNALS = (
    r"__\w+__|object has no attribute|positional argument|abstract array| at 0x|Expected tuple"
)


def generator():
    return (x for x in [jnp.ones(2)])


def message(call):
    """The message of the error that `call` raises, which shows no internals."""
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        call()
    text = str(caught.value)
    assert not re.search(INTERNALS, text), text
    return text


# --- Constructors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_a_missing_argument_of_a_constructor_is_named(name):
    make = CLASSES[name]
    parameters = inspect.signature(make).parameters.values()
    required = [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    if not required:
        return
    text = message(make)
    assert text.startswith(f"`{name}(...)` needs `{required[0]}`")
    assert f"write `{name}({required[0]}" in text


# Their keyword arguments are the names of the hyperparameters.
TAKE_ANY_NAME = {"grid", "samples"}


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - TAKE_ANY_NAME))
def test_an_unknown_argument_of_a_constructor_is_named(name):
    text = message(lambda: CLASSES[name](nonsense=1))
    assert text.startswith(f"`{name}(...)` ") and re.search("`nonsense`|takes no arguments", text)


def test_the_arguments_of_a_constructor_are_listed():
    assert message(adam) == "`adam(...)` needs `learning_rate`: write `adam(learning_rate, ...)`."
    assert message(masked) == "`masked(...)` needs `inner` and `mask`: write `masked(inner, mask)`."
    assert message(fanout) == "`fanout(...)` needs `combine`: write `fanout(combine, ...)`."
    assert message(lambda: by_rank(2, 3)) == (
        "`by_rank(...)` takes at most 1 argument by position, and got 2; its argument is rank."
    )
    assert message(lambda: identity(3)) == "`identity(...)` takes no arguments."
    assert message(lambda: sgd(0.1, learning_rate=0.2)).startswith(
        "`sgd(...)` got `learning_rate` twice"
    )
    assert "has no argument `lr`; its arguments are learning_rate" in message(lambda: muon(lr=1))


def test_a_type_error_inside_a_constructor_keeps_its_own_message():
    class picky(gradtx.Value):
        size: int

        def validate(self):
            raise TypeError("too picky")

    assert message(lambda: picky(3)) == "too picky"
    assert message(picky) == "`picky(...)` needs `size`: write `picky(size)`."


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: gradtx.scale(generator()),
            r"scale\(step_size=...\)` must be a number.*`generator`",
        ),
        (lambda: adam(0.1, mu_dtype="int33"), r"adam\(mu_dtype=...\)`.*'float32', not 'int33'"),
        (lambda: muon(0.1, steps=2.5), r"muon\(steps=2.5\)` must be a whole number or None"),
        (lambda: ORTHOGONALIZE(generator()), "coefficients=`generator` must be a triple"),
        (
            lambda: gradtx.polar_express(None),
            r"polar_express\(steps=None\)` must be a whole number",
        ),
        (lambda: gradtx.newton_schulz(None), "needs an array, not None"),
        (lambda: gradtx.newton_schulz(generator()), "needs an array, not `generator`"),
        (lambda: gradtx.hidden_matrices(None), r"embedding=None\)` must be a string"),
        (lambda: gradtx.foreign(None), "must be an `optax.GradientTransformation`, not None"),
        (lambda: gradtx.accumulator(None), "needs an array, not None"),
        (lambda: gradtx.shared(None), "must be a number"),
        (lambda: chain(None), "must be a gradient transformation of gradtx or of Optax, not None"),
        (
            lambda: chain(optax.MultiSteps(sgd(0.1), 2)),
            r"`MultiSteps`, whose method `gradient_transformation\(\)` makes one",
        ),
        (
            lambda: chain(sgd(0.1) for _ in range(2)),
            r"write `chain\(a, b\)`, or `chain\(\*links\)`",
        ),
        (lambda: chain(adam), r"`adam` itself; call it, `adam\(...\)`"),
        (lambda: identity() / None, "A branch must be a transformation.*not None"),
        (lambda: by_rank(generator()), "must be a whole number, not `generator`"),
        (
            lambda: by_path(generator()),
            "must be a mapping from strings to values or a string, not `generator`",
        ),
        (
            lambda: partition({"a": sgd(0.1)}, None),
            r"partition\(param_labels=None\)` must be a rule",
        ),
        (
            lambda: partition({"a": sgd(0.1)}, generator()),
            r"`param_labels` must be a rule.*`generator`",
        ),
    ],
)
def test_none_and_generators_are_refused_by_name(call, said):
    assert re.search(said, message(call))


@pytest.mark.parametrize(
    "make", [gradtx.freeze, lambda m: adamw(0.1, mask=m), lambda m: masked(sgd(0.1), m)]
)
def test_a_mask_of_the_wrong_kind_is_refused_before_the_first_step(make):
    for mask in (generator(), 3, "kernel", object(), ["w"]):
        said = message(lambda mask=mask: make(mask))
        assert re.match(r"`mask` must be.*(none of these|not `generator`)", said)
    assert "`by_rank` itself; call it" in message(lambda: make(by_rank))
    assert "`<lambda>(a, b, c)` takes neither" in message(lambda: make(lambda a, b, c: True))
    for mask in (True, 1, {"w": 1, "b": False}, by_rank(2), lambda path, leaf: True):
        make(mask).init(PARAMS)
    make(lambda params: True).init(PARAMS)
    assert "the function returned None" in message(
        lambda: make(lambda params: None).update(PARAMS, make(by_rank(2)).init(PARAMS), PARAMS)
    )


# --- Steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ADAM.init(), r"`init\(...\)` of `adam` needs `params`: write `init\(params\)`"),
        (lambda: ADAM.update(PARAMS), r"needs `state`: write `update\(updates, state, params\)`"),
        (
            lambda: ADAM.update(PARAMS, None),
            "state for `update` of `adam.*` is missing: it is None",
        ),
        (lambda: ADAM.update(PARAMS, PARAMS), "second argument .* is a tree like the gradients"),
        (
            lambda: ADAM.update(PARAMS, PARAMS, STATE),
            r"One of them is a state.*\(updates, state, params",
        ),
        (
            lambda: ADAM.update(STATE, PARAMS, PARAMS),
            r"One of them is a state.*\(updates, state, params",
        ),
        (lambda: ADAM.update(None, STATE, PARAMS), "one of them is a single leaf"),
        (lambda: ADAM.init(generator()), r"`generator` was passed.*`list\(...\)`"),
        (lambda: ADAM.init(PARAMS.values()), r"`dict_values` was passed.*`list\(...\)`"),
        (lambda: ADAM.update(generator(), STATE), r"`generator` was passed.*`list\(...\)`"),
        (lambda: ADAM.update(PARAMS, generator()), r"`generator` was passed|is missing"),
        (lambda: ADAM.update(PARAMS, STATE, generator()), r"`generator` was passed"),
        (
            lambda: stepped(lambda step, rate: 0.1),
            r"must take one argument, the step; `<lambda>` takes `\(step, r",
        ),
        (
            lambda: stepped(lambda: 0.1),
            r"must take one argument, the step; `<lambda>` takes `\(\)`",
        ),
        (
            lambda: stepped(lambda step: None),
            "must return one real number for a step; it returned None",
        ),
    ],
)
def test_a_step_with_arguments_that_do_not_fit_says_which(call, said):
    assert re.search(said, message(call))


def stepped(schedule):
    tx = sgd(schedule)
    return tx.update(PARAMS, tx.init(PARAMS))


def test_a_type_error_inside_a_schedule_keeps_its_own_message():
    def broken(step):
        return step + None

    with pytest.raises(TypeError, match="NoneType"):
        stepped(broken)


def test_what_has_no_leaves_is_still_a_tree():
    state = ADAM.init({})
    assert ADAM.update({}, state)[0] == {}
    assert ADAM.init(None)[0].mu is None
    assert identity().update(PARAMS, None)[0] is not None


# --- Functions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: gradtx.stack(None),
            r"`stack\(txs\)` needs a list of gradtx transformations, not None",
        ),
        (lambda: gradtx.stack(sgd(0.1)), r"needs a list of gradtx transformations, not sgd\(0.1\)"),
        (lambda: gradtx.stack(["a"]), "needs a list of gradtx transformations, not 'a'"),
        (lambda: gradtx.stack([]), "at least one transformation"),
        (lambda: gradtx.axes(generator()), "of gradtx, not `generator`"),
        (lambda: gradtx.replace(generator(), b=1), "of gradtx, not `generator`"),
        (lambda: gradtx.axes(None), "needs a transformation, rule or schedule of gradtx, not None"),
        (
            lambda: gradtx.replace(None),
            "needs a transformation, rule or schedule of gradtx, not None",
        ),
        (lambda: gradtx.replace(optax.sgd(0.1), b=1), "of gradtx, not `GradientTransformation"),
        (
            lambda: gradtx.replace(identity(), b=1),
            r"`identity\(\)` has no field `b`; it has no fields",
        ),
        (lambda: gradtx.get(None, "mu"), "no entry named `mu`, since it has no named entries"),
        (lambda: gradtx.get(ADAM, "mu"), "no named entries at all"),
        (lambda: gradtx.get(STATE, None), "must be a string, not None"),
        (lambda: gradtx.set(STATE, mu=None), "new value of `0.mu` must have the structure"),
        (lambda: gradtx.apply_updates(PARAMS, None), "these are a `NoneType` and a `dict`"),
        (lambda: gradtx.apply_updates(PARAMS, STATE), "these are a `tuple` and a `dict`"),
        (lambda: gradtx.apply_updates(generator(), PARAMS), "`generator` was passed"),
        (lambda: gradtx.global_norm(generator()), "`generator` was passed"),
        (lambda: gradtx.global_norm({"a": max}), "the leaf at `a` is `max` itself"),
        (
            lambda: gradtx.summarize(None),
            r"`summarize\(tx=...\)` must be .* transformation .*not None",
        ),
        (lambda: gradtx.summarize(ADAM, generator()), "`generator` was passed"),
        (lambda: gradtx.routing(None, PARAMS), r"`routing\(tx=...\)` must be .*not None"),
        (
            lambda: gradtx.eval_params(None, PARAMS, STATE),
            r"`eval_params\(tx=...\)` must be .*not None",
        ),
        (
            lambda: gradtx.eval_params(NESTEROV, PARAMS, None),
            r"`eval_params\(state=...\)` must be a state",
        ),
        (
            lambda: gradtx.from_optax(None, STATE, PARAMS),
            "a transformation of gradtx, such as .*not None",
        ),
        (lambda: gradtx.from_optax(ADAM, STATE), "`from_optax` needs the parameters"),
        (
            lambda: gradtx.from_version_0_1(None, STATE, PARAMS),
            "a transformation of gradtx, .*not None",
        ),
        (
            lambda: gradtx.expanded_state(chain(), STATE, PARAMS),
            r"must be a recipe, .*not chain\(\)",
        ),
        (lambda: gradtx.expanded_state(ADAM, None, PARAMS), "must be a state of `adam"),
        (lambda: gradtx.recipe_state(None, STATE, PARAMS), "must be a recipe, .*not None"),
        (lambda: gradtx.parse(None), "needs a string, not None"),
        (lambda: gradtx.parse("adam()"), r"`adam\(...\)` needs `learning_rate`"),
    ],
)
def test_a_function_refuses_a_wrong_argument_by_name(call, said):
    assert re.search(said, message(call))


def test_stack_takes_whatever_yields_transformations():
    batch = gradtx.stack(sgd(rate) for rate in (0.1, 0.2))
    assert batch == gradtx.stack([sgd(0.1), sgd(0.2)]) == gradtx.stack((sgd(0.1), sgd(0.2)))


def test_showing_takes_optax_transformations_too():
    assert "foreign(" in repr(gradtx.summarize(optax.adam(0.1), PARAMS))
    assert gradtx.routing(optax.adam(0.1), PARAMS)[0].label == "foreign"


def test_the_traceback_of_a_correct_call_is_not_hidden():
    def loss(rate):
        return jnp.sum(sgd(rate).update(PARAMS, sgd(rate).init(PARAMS))[0]["b"])

    assert float(jax.grad(loss)(0.5)) == -2.0
