"""The trees of parameters on which the benchmarks run, and the two sides of each comparison."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx

Tree = Any
RATE = 1e-3
# The optimizers of which both libraries have the same form, with the options that they need.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adam": {},
    "sgd": {"momentum": 0.9},
    "rmsprop": {},
    "adagrad": {},
    "adadelta": {},
}


def both(name: str, **options: Any) -> list[tuple[Any, Any]]:
    """The optimizer of this name in gradtx and in Optax, each with its `apply_updates`."""
    options = OPTIMIZERS.get(name, {}) | options
    return [(getattr(x, name)(RATE, **options), x.apply_updates) for x in (gradtx, optax)]


def parameters(leaves: int, *shape: int) -> Tree:
    """A tree of normal numbers with this many leaves of one shape."""
    keys = jax.random.split(jax.random.key(0), leaves)
    return {f"leaf{i}": jax.random.normal(key, shape) for i, key in enumerate(keys)}


def gradients(params: Tree) -> Tree:
    """Gradients for these parameters; any numbers of both signs will do."""
    return jax.tree.map(lambda x: jnp.cos(x) / 10, params)


def size(tree: Tree) -> int:
    """How many numbers the arrays of a tree hold."""
    return sum(x.size for x in jax.tree.leaves(tree))


def abstract(tree: Tree) -> Tree:
    """A tree of tuples as a tree of abstract float32 arrays with these shapes."""
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        tree,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def normal(shapes: Tree, seed: int) -> Tree:
    """Arrays of these shapes with normal entries."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return structure.unflatten(
        [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
    )


def hidden_matrices(width: int, layers: int) -> Tree:
    """The hidden matrices of a transformer: four d x d, one d x 4d and one 4d x d per layer."""
    layer: Tree = dict.fromkeys(("query", "key", "value", "out"), (width, width))
    layer |= {"up": (width, 4 * width), "down": (4 * width, width)}
    return abstract({f"layer{i}": layer for i in range(layers)})


def gpt2() -> Tree:
    """The shapes of GPT-2 small: 148 leaves, 124 million parameters."""
    d = 768

    def dense(inputs: int, outputs: int) -> Tree:
        return {"kernel": (inputs, outputs), "bias": (outputs,)}

    norm = {"scale": (d,), "bias": (d,)}
    attention = {"c_attn": dense(d, 3 * d), "c_proj": dense(d, d)}
    mlp = {"c_fc": dense(d, 4 * d), "c_proj": dense(4 * d, d)}
    block = {"ln_1": norm, "attn": attention, "ln_2": norm, "mlp": mlp}
    return abstract(
        {
            "wte": {"embedding": (50257, d)},
            "wpe": {"embedding": (1024, d)},
            "h": {str(i): block for i in range(12)},
            "ln_f": norm,
        }
    )


def llama_70b() -> Tree:
    """The shapes of a transformer with 70 billion parameters, in 723 leaves."""
    wide, narrow, inner = 8192, 1024, 28672
    layer: Tree = {"q": (wide, wide), "k": (wide, narrow), "v": (wide, narrow), "o": (wide, wide)}
    layer |= {"gate": (wide, inner), "up": (wide, inner), "down": (inner, wide)}
    layer = {key: {"kernel": shape} for key, shape in layer.items()}
    layer |= {"norm1": {"scale": (wide,)}, "norm2": {"scale": (wide,)}}
    outer = {"embedding": (128256, wide), "norm": (wide,), "head": {"kernel": (wide, 128256)}}
    return abstract({"layers": [layer] * 80, **outer})
