"""`scale_by_path`: updates multiplied by factors that the paths of the leaves decide."""

from collections.abc import Mapping

from gradtx._compose.by import by_path
from gradtx._compose.chain import chain
from gradtx._compose.partition import masked
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.scale import scale


class scale_by_path(Recipe):
    r"""The update of a leaf is multiplied by the factor of every pattern that is found in its path.

    $$ u = g \prod_{p \text{ found}} c_p $$

    Last in a chain it multiplies learning rates: `chain(adamw(1e-3), scale_by_path({"embed": 0.1}))`.
    The decoupled weight decay is multiplied with them.

    Args:
        factors: a mapping from patterns to factors $c_p$, which may be numbers, arrays or schedules. The
            patterns are regular expressions, as in `by_path`.
        whole_names: whether a pattern must match whole parts of the path, as in `by_path`.
        optional: whether patterns may be found in the path of no parameter.

    The state holds the counters of the schedules.

    Raises:
        TypeError: if `factors` is not a mapping, or if a factor is not a number, an array or a schedule.
        ValueError: if a pattern is not a regular expression; and by `init`, if a pattern is found in the
            path of none of the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.scale_by_path({"embed": 0.1}), {"embed": jnp.ones(1), "w": jnp.ones(1)}
    >>> tx.update(params, tx.init(params))[0]
    {'embed': Array([0.1], dtype=float32), 'w': Array([1.], dtype=float32)}
    """

    factors: Mapping[str, Hyper]
    whole_names: bool = False
    optional: bool = False

    def expand(self) -> Transform:
        if not isinstance(self.factors, Mapping):
            raise TypeError("`factors` must be a mapping from patterns to factors.")
        return chain(
            *(
                masked(
                    scale(factor),
                    by_path(pattern, whole_names=self.whole_names, optional=self.optional),
                )
                for pattern, factor in sorted(self.factors.items())
            )
        )
