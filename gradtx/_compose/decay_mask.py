"""`decay_mask`, the rule that says which parameters weight decay applies to."""

from typing import Any

from gradtx._compose.patterns import EMBEDDING, VECTOR, found
from gradtx._compose.rules import Rule


class decay_mask(Rule):
    """This rule says that weights decay, and that norms and biases do not.

    Leaves with fewer than two axes do not decay. Neither does a leaf whose name is that of a norm, gain
    or bias, whatever its number of axes: the biases of attention heads, or the gains of stacked layers.
    The names are those of Flax, Equinox, Haiku and torch. Leave out further leaves by a pattern:
    `decay_mask() & ~by_path("A_log")`.

    Args:
        embeddings: whether embeddings decay. They are told by their names.

    >>> import gradtx, jax.numpy as jnp
    >>> rule = gradtx.decay_mask()
    >>> (
    ...     rule("attention/query/kernel", jnp.ones((8, 2, 4))),
    ...     rule("attention/query/bias", jnp.ones((2, 4))),
    ... )
    (True, False)
    >>> gradtx.adamw(1e-3, mask=gradtx.decay_mask(embeddings=False))
    adamw(0.001, mask=decay_mask(embeddings=False))
    """

    embeddings: bool = True

    def __call__(self, path: str, leaf: Any) -> bool:
        return self.why(path, leaf)[0]

    def why(self, path: str, leaf: Any) -> tuple[bool, str]:
        """Whether a leaf decays, and the reason in words.

        Args:
            path: the path of the leaf, such as `layers/0/attention/kernel`.
            leaf: an array, or whatever else has a shape.
        """
        if len(leaf.shape) < 2:
            return False, ("scalar" if not leaf.shape else "vector")
        if found(VECTOR, path):
            return False, "norm, gain or bias, by its name"
        if not self.embeddings and found(EMBEDDING, path):
            return False, "embedding, by its name"
        return True, "weight"
