"""PSGD Kron: a momentum that is whitened by fitted triangular factors.

All other leaves (vectors, embeddings, heads) go to an auxiliary optimizer, by default AdamW.
"""

from typing import Any

import optax

from gradtx._bases.fitted import fitted_whitening
from gradtx._bases.in_basis import in_basis
from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.routed import group_names, routed
from gradtx._schedules.exponential import exponential_decay
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.block_norms import clip_by_block_rms
from gradtx._transforms.clip import clip
from gradtx._transforms.moments import scale_by_momentum

# max(0.03, min(1, exp(-0.001 (t - 500))))
ANNEALED = exponential_decay(1.0, 1, 0.999000499833375, 500, end_value=0.03)


class psgd_kron(Recipe):
    r"""PSGD whitens the momentum of hidden matrices by a Kronecker product of triangular factors.

    $$ u = -\eta\, (\mathrm{clip}(Q_L^T Q_L\, \hat m\, Q_R^T Q_R) + \lambda\, \theta) $$

    where $m$ is an average of the gradients, and $Q_L$ and $Q_R$ are fitted to the momentum
    (`fitted_whitening`). The clipping shrinks every leaf whose root mean square exceeds `clip`. The size
    of the gradients drops out. A learning rate of Adam, or half of it, is a good start.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the average $m$, in [0, 1).
        weight_decay: the rate of decay $\lambda \ge 0$.
        preconditioner_update_probability: the probability that the factors are fitted at a step, in [0,
            1]. The default is 1 for 500 steps, and then falls to 0.03 within about 3500 steps.
        preconditioner_lr: the step size of the fit, in (0, 1).
        max_size_triangular: the longest side with a triangular factor; a longer side has a diagonal one.
            None accepts every length.
        preconditioner_init_scale: the first preconditioner is the square of this number, times the
            identity. It must be constant.
        clip: the largest root mean square of a leaf, more than 0.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        axes: the rule that says which leaves are hidden matrices, and which of their axes are inputs and
            outputs (`hidden_matrices`).
        auxiliary: the optimizer of all other leaves. None means `adamw` with the same learning rate,
            weight decay and mask.

    The random numbers are hashes of the step, so that no key is needed. The authors balance the sizes of
    the two factors in a hundredth of the steps; here this is done in every fit, and changes no update.
    Newer code of the authors fits symmetric factors by products alone; here the factors are triangular,
    and a fit solves triangular systems.

    The state holds one entry per group, "muon" and "adamw". That of the matrices has
    `InBasisState(count, basis, signal, inner)`, where `basis` is `FittedWhiteningState(left, right)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Sources: Li, 2015, arXiv:1512.04202; Pooladzandi & Li, 2024, arXiv:2402.04553.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.psgd_kron(1e-3), jnp.zeros((4, 4))
    >>> update, _ = tx.update(jnp.full((4, 4), 1e6), tx.init(w), w)
    >>> bool(jnp.max(jnp.abs(update)) < 0.002)  # the size of the gradient drops out
    True
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    weight_decay: Hyper = 0.0
    preconditioner_update_probability: Hyper = ANNEALED
    preconditioner_lr: Hyper = 0.1
    max_size_triangular: int | None = 8192
    preconditioner_init_scale: Hyper = 1.0
    clip: Hyper = 1.1
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names)

    def expand(self) -> Transform:
        basis = fitted_whitening(
            self.preconditioner_lr,
            self.preconditioner_update_probability,
            self.max_size_triangular,
            self.preconditioner_init_scale,
        )
        step = chain(
            clip(1e30),  # the largest numbers, divided by the gain of a momentum, are infinite
            bias_correction(scale_by_momentum(self.b1)),
            in_basis(basis, identity(), axes=self.axes),
            clip_by_block_rms(self.clip),
        )
        others = adamw(self.learning_rate, weight_decay=self.weight_decay, mask=self.mask)
        return routed(self, step, others)
