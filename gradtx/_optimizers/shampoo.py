"""Shampoo: gradients whitened by roots of their Gram matrices, with steps as long as those of another.

All other leaves (vectors, embeddings, heads) go to an auxiliary optimizer, by default AdamW.
"""

from typing import Any, Literal

import optax

from gradtx._bases.blocked import blocked
from gradtx._bases.in_basis import in_basis
from gradtx._bases.sides import Side
from gradtx._bases.whitening import whitening
from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.graft import graft
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.routed import group_names, routed
from gradtx._transforms.adam import scale_by_adam
from gradtx._transforms.adaptive import scale_by_adagrad, scale_by_rms
from gradtx._transforms.moments import scale_by_momentum


class shampoo(Recipe):
    r"""Shampoo multiplies the momentum of a matrix by inverse roots of the Gram matrices of gradients.

    $$ u = -\eta\, \Big(\|a\|\, \frac{d}{\|d\|} + \lambda\, \theta\Big), \qquad
       d = (L + \epsilon I)^{-p}\, m\, (R + \epsilon I)^{-p} $$

    where $L$ and $R$ are averages or sums of $g g^T$ and $g^T g$, $m$ is an average of the gradients,
    and $a$ is the step of another optimizer, from which the length is taken (grafting).

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the momentum $m$, in [0, 1). With 0, $m$ is the gradient.
        b2: the decay of $L$ and $R$, in [0, 1], and of the squares in $a$. 1 means sums, as in the first
            paper; the squares of "adam" and "rmsprop" then have the decay 0.999.
        eps: $\epsilon \ge 0$.
        grafting: whose length the step has: that of "adam", "rmsprop", "adagrad" or "sgd"; or "none"
            for the length of $d$.
        grafting_eps: the number that the optimizer in `grafting` adds to its root, 0 or more.
        weight_decay: the rate of decay $\lambda \ge 0$.
        precondition_frequency: the number of steps from one pair of roots to the next.
        power: $p > 0$. None means 1/4, and 1/2 for a single side.
        side: which sides are whitened: "both", or one of them for one-sided Shampoo: the "shorter" or
            the "longer" one, the "inputs" or the "outputs".
        block_size: the size of the blocks that large matrices are cut into, each of which has matrices
            $L$ and $R$ of its own. None means no blocks.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        axes: the rule that says which leaves are hidden matrices, and which of their axes are inputs and
            outputs (`hidden_matrices`).
        auxiliary: the optimizer of all other leaves. None means `adamw` with the same learning rate,
            weight decay and mask.

    Known codes differ in four points. The momentum comes before the preconditioner, as in the
    distributed Shampoo of Meta, and not after it. $L$ and $R$ have no bias correction, which a grafted
    step does not see. $\epsilon$ is not relative to the largest eigenvalue. Roots are computed by
    eigendecompositions.

    The state holds one entry per group, "muon" and "adamw". That of the matrices has
    `InBasisState(count, basis, signal, inner)`, where `basis` is `WhiteningState(left, right, root_left,
    root_right)`, and the state of the grafted optimizer.

    Raises:
        ValueError: if a number lies outside its interval, if a word is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Sources: Gupta, Koren & Singer, 2018, arXiv:1802.09568; Anil et al., 2020, arXiv:2002.09018; Shi et
    al., 2023, arXiv:2309.06497.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.shampoo(0.1, grafting="none", b2=1.0), jnp.zeros((2, 2))
    >>> update, _ = tx.update(jnp.array([[3.0, 0.0], [0.0, -4.0]]), tx.init(w), w)
    >>> jnp.round(update, 3)  # 0.1 times the polar factor of the first momentum, 0.1 g
    Array([[-0.01, -0.  ],
           [-0.  ,  0.01]], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-12
    grafting: Literal["adam", "rmsprop", "adagrad", "sgd", "none"] = "adam"
    grafting_eps: Hyper = 1e-8
    weight_decay: Hyper = 0.0
    precondition_frequency: int = 10
    power: Hyper | None = None
    side: Side = "both"
    block_size: int | None = 1024
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names)

    def expand(self) -> Transform:
        basis = whitening(
            self.b2, self.precondition_frequency, self.power, self.eps, side=self.side
        )
        basis = basis if self.block_size is None else blocked(basis, self.block_size)
        step = in_basis(basis, identity(), scale_by_momentum(self.b1), axes=self.axes)
        if self.grafting != "none":
            step = graft(self._grafted(), step, self.axes)
        others = adamw(self.learning_rate, weight_decay=self.weight_decay, mask=self.mask)
        return routed(self, step, others)

    def _grafted(self) -> Transform:
        sums = isinstance(self.b2, float) and self.b2 == 1
        b2 = 0.999 if sums else self.b2
        return {
            "adam": lambda: scale_by_adam(self.b1, b2, self.grafting_eps),
            "rmsprop": lambda: scale_by_rms(b2, self.grafting_eps, eps_in_sqrt=False),
            "adagrad": lambda: scale_by_adagrad(0.0, self.grafting_eps, eps_in_sqrt=False),
            "sgd": identity,
        }[self.grafting]()
