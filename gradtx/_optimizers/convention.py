"""Conventions: where libraries and papers agree on a name and differ in its defaults.

A convention is a row of defaults, and no more: `adam(1e-3, convention="keras")` is
`adam(1e-3, eps=1e-7, eps_hat=True, decoupled=True)`, equals it and prints as it. So nothing about a
recipe depends on a word that is not in its fields.
"""

import functools
import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar
from typing import Any, ClassVar

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.freeze import freeze
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale, scale_by_learning_rate


class Conventional(Recipe):
    """A recipe whose defaults can be those of another library or of the paper.

    `convention` is "optax" (the defaults in the signature) or a key of the class's `conventions`; it
    fills in what is not given. Raises `ValueError` for another word, or if nothing is left to fill in.
    """

    _: KW_ONLY
    convention: InitVar[str] = "optax"
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        plain = cls.__init__
        signature = inspect.signature(plain)

        @functools.wraps(plain)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                given = signature.bind_partial(self, *args, **kwargs)
            except TypeError as error:
                takes = ", ".join(list(signature.parameters)[1:])
                raise TypeError(f"`{cls.__name__}(...)` {error}; it takes {takes}.") from None
            convention = given.arguments.get("convention", "optax")
            if convention not in (known := {"optax": {}, **cls.conventions}):
                raise ValueError(
                    f"`{cls.__name__}(convention={convention!r})` must be one of {sorted(known)}."
                )
            # What `dataclasses.replace` does: there a convention would be without effect.
            if convention != "optax" and len(given.arguments) == len(signature.parameters):
                raise ValueError(
                    f"`{cls.__name__}(convention={convention!r})` fills in what is not given, and "
                    "everything is. To change the convention of an optimizer, build it anew."
                )
            for name, value in known[convention].items():
                given.arguments.setdefault(name, value)
            plain(*given.args, **given.kwargs)

        cls.__init__ = __init__

    def __post_init__(self, convention: str = "optax") -> None:
        super().__post_init__()


def with_decay(recipe: Any, *links: Transform) -> Transform:
    """The links, and the recipe's weight decay where `decoupled` says: L2 before, or beside them.

    Decoupled decay is times the learning rate and stays out of every average.
    """
    if recipe.weight_decay is None:
        return chain(*links)
    decay = decoupled_weight_decay(recipe.weight_decay, mask=recipe.mask)
    if not recipe.decoupled:
        return chain(decay, *links)
    return chain(*links) + chain(freeze(), decay, scale_by_learning_rate(recipe.learning_rate))


def with_decay_between(recipe: Any, step: Transform) -> Transform:
    """`step`, the learning rate and the schedule, with the decay at the place that `decay_mode` says.

    What stands after the decay multiplies it.
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


def rate_and_heavy_ball(recipe: Any, accumulator_dtype: Any = None) -> list[Transform]:
    """The learning rate and the recipe's momentum, if any: outside of it, or inside."""
    rate = scale_by_learning_rate(recipe.learning_rate)
    if recipe.momentum is None:  # Optax has something in this place too
        return [rate, identity()] if recipe.lr_inside else [identity(), rate]
    heavy_ball = scale_by_momentum(
        recipe.momentum,
        form="heavy_ball",
        nesterov=recipe.nesterov,
        accumulator_dtype=accumulator_dtype,
    )
    return [rate, heavy_ball] if recipe.lr_inside else [heavy_ball, rate]
