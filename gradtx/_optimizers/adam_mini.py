"""Adam-mini, which is Adam with one second moment for each block of parameters."""

from typing import Any

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.blocks import BlockRule, transformer_blocks
from gradtx._matrices.blockwise import blockwise_second_moment
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale_by_learning_rate


class adam_mini(Recipe):
    r"""Adam-mini is AdamW with one second moment per block of parameters, such as an attention head.

    $$ u = -\eta\, (\hat m / (\sqrt{\hat v_B} + \epsilon) + \lambda\, \theta) $$

    where $v_B$ is the average of the mean square of the gradient over a block $B$
    (`blockwise_second_moment`). The state is about half as large as that of AdamW.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`. The rate of AdamW can be used unchanged.
        b1: the decay of the average $m$ of the gradients, in [0, 1).
        b2: the decay of $v_B$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        blocks: the rule that says what the blocks are. If the heads of queries and keys lie along one
            axis, pass `transformer_blocks(heads=...)`.

    In the authors' code, an array has a single second moment unless it belongs to the queries, the keys,
    the embeddings or the output head. Here every output has a second moment of its own, as in the paper.

    The state holds the momentum, and one number for each block.

    Raises:
        ValueError: if a number lies outside its interval, if the blocks do not fit a leaf, or if
            `update` is called without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if `blocks` is not a
            rule for blocks.

    Source: Zhang et al., 2024, arXiv:2406.16793, algorithm 1.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> params = {"up": {"kernel": jnp.zeros((64, 256))}, "bias": jnp.zeros(256)}
    >>> state = gradtx.adam_mini(1e-3).init(params)
    >>> jax.tree.map(jnp.shape, gradtx.get(state, "nu"))
    {'bias': (1,), 'up': {'kernel': (1, 256)}}
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    weight_decay: Hyper = 0.0
    mask: Any = None
    blocks: BlockRule = transformer_blocks()
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        m = bias_correction(scale_by_momentum(self.b1))
        v = bias_correction(blockwise_second_moment(self.b2, self.blocks))
        return chain(
            m / (root(v) + self.eps),
            decoupled_weight_decay(self.weight_decay, self.mask),
            scale_by_learning_rate(self.learning_rate),
        )
