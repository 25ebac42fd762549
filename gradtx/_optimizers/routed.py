"""How recipes for hidden matrices treat all other leaves."""

from typing import Any

from gradtx._compose.chain import chain
from gradtx._compose.partition import partition
from gradtx._core.transform import Transform
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.scale import scale_by_learning_rate


def group_names(recipe: Any) -> dict[str, str]:
    """What `routing` calls the two groups of a recipe."""
    others = "adamw" if recipe.auxiliary is None else type(recipe.auxiliary).__name__
    return {"muon": type(recipe).__name__, "adamw": others}


def routed(recipe: Any, step: Transform, others: Transform) -> Transform:
    """`step`, the decay and the rate for hidden matrices, and another optimizer for all other leaves.

    Args:
        recipe: a recipe with the fields `learning_rate`, `weight_decay`, `mask`, `axes` and `auxiliary`.
        step: the transformation of the hidden matrices.
        others: the optimizer of all other leaves, unless `recipe.auxiliary` is another one.
    """
    matrices = chain(
        step,
        decoupled_weight_decay(recipe.weight_decay, mask=recipe.mask),
        scale_by_learning_rate(recipe.learning_rate),
    )
    return partition({"muon": matrices, "adamw": recipe.auxiliary or others}, recipe.axes)
