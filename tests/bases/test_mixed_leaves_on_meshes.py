"""Leaves of several kinds that meet in one group of a mesh: other counts, layouts, degrees and parts."""

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from gradtx import MatrixAxes, in_basis

ADAM = gradtx.scale_by_adam(0.8, 0.9)
FITTED = gradtx.fitted_whitening(0.1)
SQUARES = {"a": (16, 16), "b": (16, 16)}
COUNTS = {"a": (16, 16), "b": (2, 16, 16), "c": (3, 16, 16)}


class last_two(gradtx.Value):
    """The last two axes are the matrix, with the given parts fused along its outputs."""

    blocks: int | tuple[int, ...] = 1

    def axes(self, path, leaf):
        n = len(leaf.shape)
        return MatrixAxes((n - 2,), (n - 1,), self.blocks)


def on(basis, inner: gradtx.Transform = ADAM, blocks: int | tuple[int, ...] = 1):
    return in_basis(basis, inner, axes=last_two(blocks))


TWO_DEGREES = gradtx.partition(
    {"a": gradtx.scale_by_momentum(0.8), "other": ADAM},
    gradtx.by_path({"^a$": "a"}, otherwise="other"),
)
LINE, GRID = ((8,), ("x",)), ((4, 2), ("x", "y"))
CELLS = {
    "stacks of several counts, with random numbers": (
        lambda: on(FITTED),
        COUNTS,
        dict.fromkeys(COUNTS, P()),
        LINE,
    ),
    "states of several degrees": (
        lambda: on(gradtx.eigenbasis(0.8, every=2), TWO_DEGREES),
        COUNTS,
        dict.fromkeys(COUNTS, P()),
        LINE,
    ),
    "a basis that learns nothing": (
        lambda: on(gradtx.fixed_basis()),
        SQUARES,
        {"a": P(), "b": P("x")},
        LINE,
    ),
    "several layouts": (
        lambda: on(gradtx.whitening(every=2, eps=1e-2)),
        SQUARES,
        {"a": P(), "b": P("x")},
        LINE,
    ),
    "unequal parts": (
        lambda: on(FITTED, blocks=(4, 1, 1)),
        {"a": (8, 48), "b": (2, 8, 48), "c": (8, 8, 48)},
        {"a": P(None, "x"), "b": P(None, "x"), "c": P("x")},
        LINE,
    ),
    "a state that begins anew": (
        lambda: in_basis(gradtx.whitening(every=2, eps=1e-2), ADAM, on_refresh="reset"),
        SQUARES,
        dict.fromkeys(SQUARES, P("x")),
        LINE,
    ),
    "numbers that are set between steps": (
        lambda: gradtx.tunable(in_basis(gradtx.whitening(every=2, eps=1e-2), ADAM)),
        SQUARES,
        dict.fromkeys(SQUARES, P("x")),
        LINE,
    ),
    "two axes of layers": (lambda: on(FITTED), {"a": (4, 2, 16, 16)}, {"a": P("x", "y")}, GRID),
}


# Outside of `jit`, an Auto mesh says how arrays are sharded, and the same exchanges are written out.
RUNS = [(cell, True, kind) for cell in CELLS for kind in ("Explicit", "Auto")]
RUNS += [(cell, False, "Auto") for cell in ("unequal parts", "two axes of layers")]


@pytest.mark.filterwarnings("ignore:On a mesh with axes of the type Auto, the compiler gathers")
@pytest.mark.parametrize(("cell", "compiled", "kind"), RUNS)
def test_leaves_of_several_kinds_keep_numbers_and_shardings(cell, compiled, kind):
    make, shapes, specs, (sizes, names) = CELLS[cell]
    tx, rng = make(), np.random.default_rng(0)
    params = {key: jnp.asarray(rng.normal(size=s), "float32") for key, s in shapes.items()}
    gs = [
        {key: jnp.asarray(rng.normal(size=s), "float32") for key, s in shapes.items()}
        for _ in range(2)
    ]
    mesh = jax.make_mesh(sizes, names, axis_types=(AxisType[kind],) * len(sizes))
    shardings = {key: NamedSharding(mesh, spec) for key, spec in specs.items()}
    placed = jax.device_put(params, shardings)
    of_state = gradtx.state_shardings(tx, placed)
    want, got = tx.init(params), jax.device_put(tx.init(params), of_state)
    step = jax.jit(tx.update)
    # JAX 0.12 has no way to ask a compiled step on an Auto mesh for a sharding that is not known.
    stays = kind == "Explicit" or not compiled or find_spec("jax.experimental.shard_alike")
    for g in gs:
        want_u, want = step(g, want, params)
        there = jax.device_put(g, shardings)
        u, got = (step if compiled else tx.update)(there, got, placed)
        for key, x in u.items():
            # Sums in another order differ by roundings, which roots and eigenvectors enlarge. Where an
            # exchange mixes up its matrices, results differ by whole entries.
            atol = 1e-4 * float(jnp.max(jnp.abs(want_u[key])))
            np.testing.assert_allclose(x, want_u[key], rtol=0, atol=atol)
            assert not stays or x.sharding.is_equivalent_to(shardings[key], x.ndim), key
        got = got if stays else jax.device_put(got, of_state)
        for x, s in zip(*map(jax.tree.leaves, (got, of_state)), strict=True):
            assert x.sharding.is_equivalent_to(s, x.ndim), (x.shape, x.sharding.spec, s.spec)
