"""SPlus, which steps by signs in the eigenbasis of the gradients."""

from typing import Any

import optax

from gradtx._bases.eigenbasis import eigenbasis
from gradtx._bases.in_basis import in_basis
from gradtx._compose.chain import chain
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import scale_by_shape
from gradtx._schedules.averaging import ema_weight
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale, scale_by_learning_rate, scale_by_sign
from gradtx._wrappers.averaged import averaged


class splus(Recipe):
    r"""SPlus steps by the signs of a momentum in the eigenbasis of Shampoo, and averages its iterates.

    $$ u = -\eta\, s\, (Q_L \operatorname{sign}(Q_L^T m\, Q_R)\, Q_R^T + \lambda\, \theta), \qquad
       s = \frac{2}{in + out} $$

    where $m$ is the momentum, and the columns of $Q_L$ and $Q_R$ are the eigenvectors of the averages of
    $g g^T$ and $g^T g$ (`eigenbasis`). All other leaves take the sign of the momentum itself, with a
    constant $s$. Evaluate with `gradtx.eval_params(tx, params, state)`, which is an exponential average
    of the parameters with bias correction.

    Args:
        learning_rate: the learning rate $\eta$, in the code of the authors 0.1; a negative rate
            ascends. This and every other number may be a schedule, or an array under `vmap`, unless its
            entry says that it must be constant.
        b1: the decay of the momentum $m$, in [0, 1).
        b2: the decay of the averages of $g g^T$ and $g^T g$, in [0, 1).
        ema_rate: the decay of the average of the parameters, in [0, 1), a constant.
        weight_decay: the rate of decay $\lambda \ge 0$, which is multiplied by $s$, too.
        precondition_frequency: the number of steps from one basis to the next.
        max_precond_dim: the longest side of a matrix for which an eigenbasis is computed. A longer side
            is left unchanged. None accepts every length.
        other_scale: $s$ for all leaves that are not hidden matrices, unless `auxiliary` is given.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        axes: the rule that says which leaves are hidden matrices, as in `soap`.
        auxiliary: the optimizer of all other leaves. None means signs, as above.

    An entry of the momentum in the basis that is 0 but for rounding takes a full step, too, as where
    gradients were 0 along some directions so far.

    The first step takes signs in the basis of the parameters, and then computes the first basis. The
    second basis follows `precondition_frequency` steps later; in the code of the authors it follows one
    step earlier.

    The state is `AveragedState(count, average, inner)`. The inner state holds one entry per group,
    "muon" and "adamw"; the entry of the matrices holds `InBasisState(count, basis, signal, inner)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if it is a schedule where
            it must be constant, if `axes` is not a rule for matrices, or if `auxiliary` is not a
            transformation.

    Source: Frans et al., 2025, arXiv:2506.07254, algorithm 2; the decay and the scale of other leaves
    from the code of the authors.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.splus(1.0, weight_decay=0.0), jnp.zeros((2, 2))
    >>> g = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> _, state = tx.update(g, tx.init(w), w)  # signs, and then the first basis
    >>> update, _ = tx.update(g * jnp.array([[1.0, -3.0]]), state, w)
    >>> round(float(jnp.sqrt(jnp.mean(update**2))), 4)  # every step has the size 2 / (2 + 2)
    0.5
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    ema_rate: Fixed = 0.999
    weight_decay: Hyper = 1e-2
    precondition_frequency: int = 100
    max_precond_dim: int | None = 10_000
    other_scale: Hyper = 1e-3
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None

    @property
    def group_names(self) -> dict[str, str]:
        """What `routing` calls the two groups."""
        others = "sign" if self.auxiliary is None else type(self.auxiliary).__name__
        return {"muon": "splus", "adamw": others}

    def expand(self) -> Transform:
        every, longest = self.precondition_frequency, self.max_precond_dim
        basis = eigenbasis(self.b2, every, method="eigh", max_size=longest, first="plain")
        m, sign = scale_by_momentum(self.b1), scale_by_sign()
        decay = decoupled_weight_decay(self.weight_decay, mask=self.mask)
        rate = scale_by_learning_rate(self.learning_rate)
        turned = in_basis(basis, sign, m, axes=self.axes)
        matrices = chain(turned, decay, scale_by_shape("symmetric", self.axes), rate)
        others = chain(m, sign, decay, scale(self.other_scale), rate)
        step = partition({"muon": matrices, "adamw": self.auxiliary or others}, self.axes)
        return averaged(step, ema_weight(self.ema_rate))
