"""Conventions: the defaults of other libraries and of papers for an optimizer of the same name.

A convention is a set of defaults and nothing else. `adam(1e-3, convention="keras")` is equal to
`adam(1e-3, eps=1e-7, eps_hat=True, decoupled=True)` and prints like it. The name of the convention is
not stored, so that the fields of a recipe say everything about it.
"""

import functools
import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar
from typing import Any, ClassVar, Literal

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.arguments import misfit
from gradtx._core.authors import described
from gradtx._core.transform import Transform
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.freeze import freeze
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale, scale_by_learning_rate


class Conventional(Recipe):
    """A recipe that can take its defaults from another library or from the paper.

    Subclasses provide `conventions`, which maps the name of a convention to its defaults, as far as
    they differ from the signature.

    Args:
        convention: "optax" for the defaults in the signature, or a key of `conventions`. Its defaults
            fill in the arguments that are not given.

    Raises:
        ValueError: if `convention` is unknown, or if all arguments are given, so that it would have no
            effect.
    """

    _: KW_ONLY
    convention: InitVar[Literal["optax", "torch", "keras", "paper"]] = "optax"
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        plain = cls.__init__
        signature = inspect.signature(plain)

        @functools.wraps(plain)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                given = signature.bind_partial(self, *args, **kwargs)
            except TypeError:
                raise TypeError(misfit(cls, plain, args, kwargs)) from None
            convention = given.arguments.get("convention", "optax")
            known = {"optax": {}, **cls.conventions}
            if not isinstance(convention, str) or convention not in known:
                raise ValueError(
                    f"`{cls.__name__}(convention={described(convention)})` must be one of "
                    f"{sorted(known)}."
                )
            # `dataclasses.replace` passes all arguments, and a convention would be without effect there.
            if convention != "optax" and len(given.arguments) == len(signature.parameters):
                raise ValueError(
                    f"`{cls.__name__}(convention={convention!r})` fills in the arguments that are not "
                    "given, and all of them are given. To change the convention of an optimizer, make a "
                    "new one with the convention."
                )
            for name, value in known[convention].items():
                given.arguments.setdefault(name, value)
            plain(*given.args, **given.kwargs)

        cls.__init__ = __init__

    def __post_init__(self, convention: str = "optax") -> None:
        super().__post_init__()


def with_decay(recipe: Any, *links: Transform) -> Transform:
    """The links as a chain, with the weight decay of `recipe` at the place that `decoupled` says.

    An L2 penalty comes before the links. A decoupled decay is multiplied by the learning rate and added
    to the output of the links, so that it stays out of every average.
    """
    if recipe.weight_decay is None:
        return chain(*links)
    decay = decoupled_weight_decay(recipe.weight_decay, mask=recipe.mask)
    if not recipe.decoupled:
        return chain(decay, *links)
    return chain(*links) + chain(freeze(), decay, scale_by_learning_rate(recipe.learning_rate))


def with_decay_between(recipe: Any, step: Transform) -> Transform:
    """`step`, the learning rate and the schedule, with the decay at the place that `decay_mode` says.

    The factors that follow the decay in the chain multiply it.
    """
    decay = decoupled_weight_decay(recipe.weight_decay, mask=recipe.mask)
    modes = ("lr", "schedule", "absolute")
    if recipe.decay_mode not in modes:
        raise ValueError(f"`decay_mode={recipe.decay_mode!r}` must be one of {modes}.")
    if recipe.decay_mode == "lr" and recipe.schedule is None:
        return chain(step, decay, scale_by_learning_rate(recipe.learning_rate))
    schedule = identity() if recipe.schedule is None else scale(recipe.schedule)
    links = [scale_by_learning_rate(recipe.learning_rate, flip_sign=False), schedule]
    links.insert(modes.index(recipe.decay_mode), decay)
    return chain(step, *links, scale(-1.0))


def descent(recipe: Any, *links: Transform) -> Transform:
    """The links, the decoupled weight decay and the learning rate of `recipe`, as in AdamW."""
    decay = decoupled_weight_decay(recipe.weight_decay, mask=recipe.mask)
    return chain(*links, decay, scale_by_learning_rate(recipe.learning_rate))


def rate_and_heavy_ball(recipe: Any, accumulator_dtype: Any = None) -> list[Transform]:
    """The learning rate and the momentum of `recipe`, if any, in the order that `lr_inside` says."""
    rate = scale_by_learning_rate(recipe.learning_rate)
    # Optax keeps a place for the momentum in the state, also where there is no momentum.
    if recipe.momentum is None:
        return [rate, identity()] if recipe.lr_inside else [identity(), rate]
    heavy_ball = scale_by_momentum(
        recipe.momentum,
        form="heavy_ball",
        nesterov=recipe.nesterov,
        accumulator_dtype=accumulator_dtype,
    )
    return [rate, heavy_ball] if recipe.lr_inside else [heavy_ball, rate]
