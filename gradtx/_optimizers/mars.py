"""MARS: AdamW, Lion or Muon on gradients of reduced variance."""

from typing import Any, Literal

import optax

from gradtx._compose.by import by_rank
from gradtx._compose.chain import chain
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import orthogonalize_newton_schulz, scale_by_shape
from gradtx._optimizers.convention import descent
from gradtx._transforms.adam import scale_by_adam
from gradtx._transforms.mars_gradient import mars_gradient
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale_by_sign


class mars(Recipe):
    r"""MARS is AdamW, Lion or Muon on gradients to which a multiple of their last change is added.

    $$ u = -\eta\, (f(c)_t + \lambda\, \theta), \qquad
       c_t = \operatorname{clip}\Big(g_t + \gamma\, \frac{b_1}{1 - b_1}\, (g_t - g_{t-1})\Big) $$

    where the norm of every leaf is clipped, and $f$ is one of the following:

    - "adamw": Adam's quotient $\hat m / (\sqrt{\hat v} + \epsilon)$;
    - "lion": the sign of the momentum, as in the authors' code. Lion itself takes the sign of a mixture
      of momentum and gradient; for this, write `chain(mars_gradient(), lion(1e-4))`;
    - "muon": the orthogonalized momentum of hidden matrices, and Adam's quotient for all other leaves.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the momentum, in [0, 1).
        b2: the decay of the average $v$ of the squares $|c|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        gamma: $\gamma \ge 0$.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        variant: $f$: "adamw", "lion" or "muon".
        max_norm: the largest norm of a leaf of $c$. None means no clipping.
        from_zero: whether $g_0 = 0$, as in the authors' code. Otherwise $g_0 = g_1$.
        axes: the rule that says which leaves are hidden matrices, for the variant "muon".
        auxiliary: the optimizer of all leaves with fewer than two axes. The authors' code takes
            `adamw(3e-3, b2=0.95, weight_decay=0.1)`. None means that MARS trains these leaves, too.

    The state is that of `expand()`: `DifferenceState(count, previous)`, the state of $f$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, if `variant` is unknown, or if `update` is
            called without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if `auxiliary` is not
            a transformation.

    Source: Yuan et al., 2024, arXiv:2411.10438, algorithms 2 to 4.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.mars(0.1)
    >>> state = tx.init(jnp.zeros(2))
    >>> jnp.round(tx.update(jnp.array([1e-3, -7.0]), state)[0], 4)  # the first steps have size 0.1
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.95
    b2: Hyper = 0.99
    eps: Hyper = 1e-8
    gamma: Hyper = 0.025
    weight_decay: Hyper = 0.0
    mask: Any = None
    variant: Literal["adamw", "lion", "muon"] = "adamw"
    max_norm: Hyper | None = 1.0
    from_zero: bool = False
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        if self.variant not in ("adamw", "lion", "muon"):
            raise ValueError(f"`variant={self.variant!r}` must be 'adamw', 'lion' or 'muon'.")
        step, m = scale_by_adam(self.b1, self.b2, self.eps), scale_by_momentum(self.b1)
        if self.variant == "lion":
            step = chain(m, scale_by_sign())
        elif self.variant == "muon":
            whiten = orthogonalize_newton_schulz(axes=self.axes)
            shaped = chain(m, whiten, scale_by_shape("original", self.axes))
            step = partition({"muon": shaped, "adamw": step}, self.axes)
        gradient = mars_gradient(self.b1, self.gamma, self.max_norm, self.from_zero)
        whole = descent(self, gradient, step)
        if self.auxiliary is None:
            return whole
        return partition({True: whole, False: self.auxiliary}, by_rank(2))
