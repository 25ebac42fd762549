"""A transformation whose state is kept in fewer bits between two steps."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.iterates import evaluates
from gradtx._compose.wrapper import Wrapper
from gradtx._core.authors import described
from gradtx._core.carry import carried
from gradtx._core.codec_bfloat16 import bfloat16_plus_8, bfloat16_stochastic
from gradtx._core.codec_int8 import blockwise_int8
from gradtx._core.codecs import Codec, check_codec
from gradtx._core.latex import Page, Tex
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._wrappers.coded import Encoder, decoded, hidden_constants
from gradtx._wrappers.master_weights import master_weights

CODECS = {
    "int8": blockwise_int8(),
    "bf16+8": bfloat16_plus_8(),
    "bf16_stochastic": bfloat16_stochastic(),
}

# The annotation of a field that takes a codec or its name, and holds a codec.
if TYPE_CHECKING:

    class AsCodec:
        def __get__(self, instance: Any, owner: Any = None) -> Codec: ...
        def __set__(
            self, instance: Any, value: Codec | Literal["int8", "bf16+8", "bf16_stochastic"]
        ) -> None: ...
else:
    AsCodec = Codec


class StoredState(NamedTuple):
    """The state of `stored`.

    Attributes:
        encodings: how often the state was encoded, for codecs that round at random.
        inner: the state of the inner transformation. In it `Coded(plain, code)` stands for every part
            that has one array per parameter.
    """

    encodings: Any
    inner: Any


class stored(Wrapper):
    r"""Keep the state of a transformation in fewer bits, and compute with it in float32.

    $$ (u_t, s_t) = f\big(g_t, \mathrm{decode}(c_{t-1})\big), \qquad c_t = \mathrm{encode}(s_t) $$

    Here $f$ is `inner`, with its state $s$. Every step decodes the code $c$, takes the step, and encodes
    the new state. The updates are computed from the new state before it is encoded. `inner` may be any
    transformation: `stored(adamw(1e-3), "int8")` keeps Adam's two averages in one byte per entry each.

    Only float32 arrays with at least `min_size` entries are coded. Smaller arrays, scalars, integers,
    keys, and arrays of other dtypes are kept unchanged. A leaf without a gradient keeps its code.
    Parameters do not belong into a coarse code: write `master_weights(stored(adamw(1e-3), "int8"))`.

    Args:
        inner: the transformation, of gradtx or of Optax.
        codec: a `Codec`, or one of these names. "int8" is `blockwise_int8()` with 1.02 bytes per entry,
            "bf16+8" is `bfloat16_plus_8()` with 3 bytes and a relative error of $2^{-16}$, and
            "bf16_stochastic" is `bfloat16_stochastic()` with 2 bytes.
        min_size: the number of entries from which on an array is coded, 1 or more. Inside `shard_map`
            this is the size of the shard.

    The state is `StoredState(encodings, inner)`. In the state of `inner`, every tree with one array per
    parameter is `Coded(plain, code)`, where `plain` has the arrays that are not coded. `inner_of(state)`
    returns `inner` and its state with decoded arrays.

    Raises:
        TypeError: if `inner` is not a transformation; if `codec` is neither a `Codec` nor a name, or
            does not decode what it encodes; or if `inner` keeps parameters and the codec is too coarse
            for them.
        ValueError: if `codec` is an unknown name, or if `min_size` is less than 1.

    Sources: Dettmers et al., 2021, arXiv:2110.02861; 2026, arXiv:2602.23349.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.stored(gradtx.adamw(1e-3), "int8")
    >>> state = tx.init({"w": jnp.zeros((256, 256)), "b": jnp.zeros(256)})
    >>> state.inner[0].mu.code.codes["w"].dtype, state.inner[0].mu.plain["b"].dtype
    (dtype('uint8'), dtype('float32'))
    """

    codec: AsCodec
    min_size: int = 4096
    linear = True
    keeps_updates = True

    def __post_init__(self) -> None:
        codec: Any = self.codec
        if isinstance(codec, str):
            if codec not in CODECS:
                known = ", ".join(map(repr, CODECS))
                raise ValueError(f"`stored(codec={codec!r})` must be a `Codec` or one of {known}.")
            object.__setattr__(self, "codec", CODECS[codec])
        elif not isinstance(codec, Codec):
            raise TypeError(
                f"`stored(codec=...)` must be a `Codec` or its name, such as 'int8', not "
                f"{described(codec)}."
            )
        super().__post_init__()

    def validate(self) -> None:
        if self.min_size < 1:
            raise ValueError(
                f"`stored(min_size={self.min_size})` must be a whole number of entries, 1 or more."
            )
        if not self.codec.holds_parameters and (part := _with_parameters(self.inner)):
            raise TypeError(
                f"`stored(codec={self.codec!r})` is too coarse for the parameters that "
                f"`{type(part).__name__}` keeps in its state. Put `stored` inside: "
                f"`{type(part).__name__}(stored(...))`; or choose the codec 'bf16+8'."
            )

    def init_tree(self, params: PyTree) -> StoredState:
        leaves, structure = flatten(params)
        program = self.inner.program(leaves, structure)
        check_codec(self.codec, jax.ShapeDtypeStruct((3, max(self.min_size, 5)), jnp.float32))
        # A buffer of its own, since no two arrays of a state share one.
        encodings = jnp.zeros((), jnp.int32)
        encoder = Encoder(self.codec, self.min_size, encodings)
        # The compiler would encode the zeros of a new state itself, which takes it minutes.
        inner = hidden_constants(program.init(leaves))
        return StoredState(encodings, encoder.first(inner, program.state, structure))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, StoredState]:
        inner = decoded(self.codec, state.inner)
        out, new = self.inner.update_tree(updates, inner, params, extra)
        last = state.encodings == jnp.iinfo(jnp.int32).max
        encodings = jnp.where(last, 0, state.encodings + 1)  # the sequence of seeds begins again
        encoder = Encoder(self.codec, self.min_size, encodings)
        updated = [x is not None for x in flatten(updates)[0]]
        return out, StoredState(encodings, encoder.next(new, state.inner, updated))

    def carry_tree(self, state: Any, leaves: Any, structure: Any, carry: Any) -> StoredState:
        """The state in a new basis (`gradtx/_core/carry.py`)."""
        inner = carried(self.inner, decoded(self.codec, state.inner), leaves, structure, carry)
        encoder = Encoder(self.codec, self.min_size, state.encodings)
        kept = encoder.next(inner, state.inner, [True] * len(leaves))
        return state._replace(inner=kept)

    def inner_of(self, state: Any) -> tuple[Transform, Any]:
        """The inner transformation, and its state with decoded arrays.

        Args:
            state: a state of this transformation.
        """
        return self.inner, decoded(self.codec, state.inner)

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


def _with_parameters(tx: Transform) -> Transform | None:
    """The first transformation in `tx` that keeps parameters in its state, or None."""
    if isinstance(tx, master_weights) or evaluates(tx):
        return tx
    return next(filter(None, map(_with_parameters, tx.children)), None)
