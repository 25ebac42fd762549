"""`Codec`, the base class of the forms in which `stored` keeps the arrays of a state."""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gradtx._core.values import Value


class Codec(Value):
    """A form in which `stored` keeps the large float32 arrays of a state between two steps.

    Subclasses provide `encode`, from an array to a code, and `decode`, from the code back to an array
    of the same shape. A code is an array, or a NamedTuple, a tuple or a dictionary of arrays. `decode`
    must give a finite array for every code of a finite array.

    A codec that is too coarse for parameters declares `holds_parameters = False`. Then `stored` refuses
    a transformation that keeps parameters in its state.

    >>> import gradtx, jax.numpy as jnp
    >>> class half(gradtx.Codec):
    ...     def encode(self, x, seed):
    ...         return jnp.clip(x, -65504, 65504).astype(jnp.float16)
    ...
    ...     def decode(self, code):
    ...         return code.astype(jnp.float32)
    >>> tx = gradtx.stored(gradtx.scale_by_momentum(), half())
    >>> tx.init(jnp.zeros((64, 64))).inner.mu.code.dtype
    dtype('float16')
    """

    holds_parameters: ClassVar[bool] = True

    def encode(self, x: jax.Array, seed: jax.Array) -> Any:
        """The code of an array: an array, or a NamedTuple, a tuple or a dictionary of arrays.

        Args:
            x: a float32 array.
            seed: a uint32 scalar that differs between steps and between arrays, for a codec that rounds
                at random.
        """
        raise self._undefined("encode(x, seed)")

    def decode(self, code: Any) -> jax.Array:
        """The float32 array that a code stands for.

        Args:
            code: what `encode` returned.
        """
        raise self._undefined("decode(code)")

    def _undefined(self, method: str) -> TypeError:
        return TypeError(
            f"`{type(self).__name__}` does not define `{method}`. A subclass of `Codec` provides "
            "`encode(x, seed)`, which returns a code, and `decode(code)`, which returns the array."
        )


def check_codec(codec: Codec, x: Any) -> None:
    """Check that `decode` returns an array like the one that `encode` was given.

    Raises:
        TypeError: if the array has another shape or another dtype.
    """
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    code = jax.eval_shape(lambda x, seed: codec.encode(x, seed), x, seed)
    found = jax.eval_shape(lambda code: codec.decode(code), code)
    if getattr(found, "shape", None) != x.shape or found.dtype != x.dtype:
        raise TypeError(
            f"`decode` of `{type(codec).__name__}` must return an array of the shape and the dtype that "
            f"`encode` was given, which are {x.shape} and {x.dtype}. It returned {found}."
        )


def code_structure(codec: Codec) -> Any:
    """The structure of a code, which does not depend on the shape of the array."""
    return _code_structure(jax.tree.structure(codec))


@functools.lru_cache(maxsize=64)
def _code_structure(key: Any) -> Any:
    codec = key.unflatten([1.0] * key.num_leaves)
    x, seed = jax.ShapeDtypeStruct((8,), jnp.float32), jax.ShapeDtypeStruct((), jnp.uint32)
    return jax.tree.structure(jax.eval_shape(lambda x, seed: codec.encode(x, seed), x, seed))
