"""Every recipe once, with settings in which all of its state is in use."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import gradtx

RATE = 1e-3

Make = Callable[[Any], gradtx.Transform]  # makes an optimizer from its learning rate

# Recipes whose defaults leave out a part of the state, or whose first argument is not a learning rate.
SETTINGS: dict[str, Make] = {
    "sgd": lambda rate: gradtx.sgd(rate, momentum=0.9),
    "rmsprop": lambda rate: gradtx.rmsprop(rate, momentum=0.9),
    "adamc": lambda rate: gradtx.adamc(rate, max_learning_rate=RATE),
    "rprop": lambda rate: gradtx.rprop(RATE),
    "lookahead": lambda rate: gradtx.lookahead(gradtx.adamw(rate)),
    "sam": lambda rate: gradtx.sam(gradtx.sgd(rate, momentum=0.9)),
    "asam": lambda rate: gradtx.asam(gradtx.sgd(rate, momentum=0.9)),
    # They multiply a learning rate that they find themselves.
    "prodigy": lambda rate: gradtx.prodigy(rate / RATE),
    "dadapt_adamw": lambda rate: gradtx.dadapt_adamw(rate / RATE),
    "dog": lambda rate: gradtx.dog(rate / RATE),
    "soda": lambda rate: gradtx.soda(gradtx.adamw(rate, weight_decay=0.0)),
}


def every_recipe() -> dict[str, Make]:
    """The recipes that are optimizers, in alphabetical order."""
    public = {name: getattr(gradtx, name) for name in gradtx.__all__}
    return {
        name: SETTINGS.get(name, x)
        for name, x in public.items()
        if inspect.isclass(x)
        and x.__module__.split(".")[1:2] == ["_optimizers"]
        and not name.startswith("scale_by_")
    }


RECIPES = every_recipe()


def extra_arguments(loss: Callable[[Any], jax.Array], params: Any) -> dict[str, Any]:
    """What some recipes need besides the gradient: the loss as a number and as functions.

    Args:
        loss: the loss as a function of the parameters.
        params: the parameters.
    """
    return {"value": loss(params), "grad_fn": jax.grad(loss), "obj_fn": loss}


def linear_loss(gradient: Any) -> Callable[[Any], jax.Array]:
    """The loss that has this gradient everywhere."""
    return lambda params: sum(
        jnp.sum(g * p) for g, p in zip(*map(jax.tree.leaves, (gradient, params)), strict=True)
    )
