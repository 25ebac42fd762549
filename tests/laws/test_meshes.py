"""Every row of the zoo on meshes of eight devices, in seven layouts and with both kinds of axes.

A step gives the numbers of one device, the state keeps the shardings that `gradtx.state_shardings` says,
and the updates leave with the shardings of the parameters. Elementwise optimizers emit no collective.

`make meshes` runs the whole product of rows, layouts and kinds. `ROWS=all` runs as many rows as it takes
to have every class once, except for recipes, which hold no arithmetic, each in one cell of the product.
Otherwise half of these rows run, and with `ROWS=few` an eighth. The code of a row decides on its cell
and on whether it runs, so a new row changes nothing for others.
"""

import functools
import os
import re
import zlib
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx

WHOLE = bool(os.environ.get("MESHES"))  # the whole product
STEPS = 2
SHAPES = {"kernel": (8, 16), "bias": (16,), "stack": (8, 4, 8)}
LINE, GRID = ((8,), ("data",)), ((4, 2), ("data", "model"))


def first(shape):
    return P("data")


def last(shape):
    return P(*[None] * (len(shape) - 1), "data")


def tensor_parallel(shape):
    return P(*[None] * (len(shape) - 1), "model")


def both(shape):
    return P(*[None] * (len(shape) - 2), "data", "model") if len(shape) > 1 else first(shape)


def layers(shape):
    return P("data") if len(shape) == 3 else P()


# The mesh, and the spec of a leaf of a given shape.
LAYOUTS = {
    "replicated": (LINE, lambda shape: P()),
    "first axis": (LINE, first),
    "last axis": (LINE, last),
    "tensor-parallel": (GRID, tensor_parallel),
    "two axes": (GRID, both),
    "sharded and replicated": (GRID, first),
    "layer axis": (LINE, layers),
}
CELLS = [(layout, kind) for kind in ("Auto", "Explicit") for layout in LAYOUTS]


def classes(tx):
    """The classes of a transformation and of those inside it, without recipes."""
    own = set() if isinstance(tx, gradtx.Recipe) else {type(tx)}
    return own.union(*map(classes, tx.children))


def every_class_once():
    """Rows that together hold every class; those with many classes come first."""
    found, rows = set(), []
    for row in sorted(zoo.REPRESENTATIVES, key=lambda row: -len(classes(row.make()))):
        # Of optimizers for matrices, which take long to compile, the parts have rows of their own.
        new = set() if "muon" in row.code else classes(row.make()) - found
        if new:
            found |= new
            rows.append(row)
    return rows


# One of how many rows runs.
PART = {"all": 1, "few": 8}.get(os.environ.get("ROWS", ""), 2)


def cells_of(row):
    """The cells of the product in which a row runs."""
    code = zlib.crc32(row.code.encode())
    return [CELLS[code % len(CELLS)]] if code // len(CELLS) % PART == 0 else []


PAIRS = (
    [(row, cell) for row in zoo.REPRESENTATIVES for cell in CELLS]
    if WHOLE
    else [(row, cell) for row in every_class_once() for cell in cells_of(row)]
)
# On axes of the type Auto, `zero1` gathers along the axis that it splits, also over other mesh axes.
PAIRS = [
    (row, (layout, kind))
    for row, (layout, kind) in PAIRS
    if "zero1" not in row.code or kind == "Explicit" or layout == "replicated"
]


def of_pairs(pairs):
    names = [f"{row}-{', '.join(cell)}" for row, cell in pairs]
    return pytest.mark.parametrize(("row", "cell"), pairs, ids=names)


def roundings_of(row):
    """By how many roundings of the largest entry a row may differ on a mesh."""
    if "scale_in_basis" in row.code:
        return 2000  # a channel that is nearly 0 in a basis of one direction is scaled up
    # An eigenvector moves by more roundings than a product has, if another eigenvalue is near.
    return 200 if any(x in row.code for x in (*ITERATES, "in_basis")) else 16


@functools.cache
def mesh_of(layout, kind):
    sizes, names = LAYOUTS[layout][0]
    return jax.make_mesh(sizes, names, axis_types=(AxisType[kind],) * len(sizes))


def shardings_of(layout, kind):
    mesh, spec = mesh_of(layout, kind), LAYOUTS[layout][1]
    return {name: NamedSharding(mesh, spec(shape)) for name, shape in SHAPES.items()}


PARAMS = zoo.tree(shapes=SHAPES)
GRADIENTS = [zoo.tree(seed=1 + i, shapes=SHAPES) for i in range(STEPS)]


def step(tx, g, state, params):
    return tx.update(g, state, params)


jitted = jax.jit(step, static_argnums=0)


@functools.lru_cache(maxsize=1)
def alone(row):
    """The optimizer, the first state, and the updates and the state of every step on one device."""
    tx = row.make()
    state = start = tx.init(PARAMS)
    steps = []
    for g in GRADIENTS:
        updates, state = jitted(tx, g, state, PARAMS)
        steps.append((updates, state))
    return tx, start, steps


def like_params(state, shardings):
    """The arrays of a state that have the shape of a parameter, and their shardings."""
    shapes = {*SHAPES.values()}
    pairs = zip(*map(jax.tree.leaves, (state, shardings)), strict=True)
    return tuple(zip(*[(x, s) for x, s in pairs if x.shape in shapes], strict=True)) or ((), ())


def lie_as(tree, shardings):
    """Assert that every array of a tree has its sharding."""
    assert jax.tree.structure(tree) == jax.tree.structure(shardings)
    for (path, x), s in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(shardings), strict=True
    ):
        where = jax.tree_util.keystr(path)
        assert x.sharding.is_equivalent_to(s, x.ndim), f"{where}: {x.sharding.spec}, not {s.spec}"


def close(got, want, roundings):
    """Assert that two trees agree, leaf by leaf, to some roundings of the largest entry."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert x.dtype == y.dtype
        eps = float(jnp.finfo(x.dtype).eps) if jnp.issubdtype(x.dtype, jnp.inexact) else 0
        x, y = (np.asarray(z, "float64") for z in (x, y))
        np.testing.assert_allclose(x, y, rtol=0, atol=roundings * eps * np.abs(y).max(initial=0))


# An asynchronous operation counts once, by its start. On a CPU some of them return tuples.
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)


def collectives(program):
    """The collectives of a compiled program: pairs of the kind and the type of the result."""
    text = re.sub(r"/\*.*?\*/", "", program.as_text())
    return [(kind, of) for of, kind in COLLECTIVE.findall(text)]


ITERATES = ("orthogonalize", "muon", "scion")
# On Auto axes, XLA chooses where results of an exchange of matrices and the new state lie if JAX cannot
# ask for the sharding of another array, as JAX 0.12.
EXCHANGES = (*ITERATES, "neuron", "operator_norm", "matrix_norm(64)", "in_basis")
CHOSEN = () if find_spec("jax.experimental.shard_alike") else tuple(LAYOUTS)
# What needs whole matrices or whole leaves, or cuts a leaf into blocks that are not shards.
WHOLES = (
    *ITERATES,
    "matrix",
    "scale_to_rms",
    "equilibrate",
    "neuron",
    "keep_norm",
    "orthogonality",
)
WHOLES += ("stored", "compensated", "in_basis", "low_rank", "operator_norm")
# Of a leaf, or of each of its rows or columns, a number crosses the mesh.
WHOLES += (
    "factored",
    "blockwise",
    "axis_sums",
    "hyperball",
    "radial",
    "update_ratio",
    "weight_norm",
    "adafactor",
    "came",
    "sm3",
    "mini",
    "muown",
    "adamh",
)
# What has to know the sum of something over a leaf or over the whole tree.
SUMS = (
    "norm",
    "block_second_moment",
    "adaptive_grad",
    "skip",
    "tap",
    "observe",
    "cautious",
    "clip_by",
    "int8",
    "centralize",
    "orthogonal_to_params",
    "scale_by_dadapt",
    "scale_by_dog",
    "scale_by_prodigy",
    "zero_nans",
)
SCALARS = re.compile(r"\(?(?:\w+\[1?\](?:\{0?\})?(?:, )?)+\)?")


# What these optimizers say about such layouts is tested in `tests/matrices/test_layouts.py`.
quiet = pytest.mark.filterwarnings(
    "ignore:.*(with the layers sharded|gathers .* whole):UserWarning"
)


@quiet
@of_pairs(PAIRS)
def test_a_step_on_a_mesh_is_that_of_one_device(row, cell):
    tx, start, want = alone(row)
    shardings = shardings_of(*cell)
    params = jax.device_put(PARAMS, shardings)
    of_state = gradtx.state_shardings(tx, params)
    state = jax.device_put(start, of_state)
    roundings = roundings_of(row)
    is_chosen = cell[1] == "Auto" and cell[0] in CHOSEN and any(x in row.code for x in EXCHANGES)
    program = None
    with jax.set_mesh(mesh_of(*cell)):
        for g, (want_updates, want_state) in zip(GRADIENTS, want, strict=True):
            g = jax.device_put(g, shardings)
            if is_chosen:
                state = jax.device_put(state, of_state)
            if program is None:
                program = jitted.lower(tx, g, state, params).compile()
            updates, state = program(g, state, params)
            if not is_chosen:
                lie_as(updates, shardings)
                lie_as(state, of_state)
            close((updates, state), (want_updates, want_state), roundings)
    found = collectives(program)
    if any(x in row.code for x in WHOLES):
        return
    if "zero1" in row.code:
        assert {kind for kind, _ in found} <= {"all-gather"}
    elif any(x in row.code for x in SUMS):
        # One number per leaf at most crosses the mesh, except where neurons extend over devices.
        neurons = "adaptive_grad" in row.code or "centralize" in row.code
        assert all(kind == "all-reduce" and (neurons or SCALARS.fullmatch(x)) for kind, x in found)
    else:
        assert not found


# Compiling every operation by itself takes longest.
@quiet
@of_pairs(PAIRS if WHOLE else PAIRS[::12])
def test_an_eager_step_on_a_mesh_is_that_of_one_device(row, cell):
    tx, _, want = alone(row)
    shardings = shardings_of(*cell)
    params = jax.device_put(PARAMS, shardings)
    of_state = gradtx.state_shardings(tx, params)
    roundings = roundings_of(row)
    with jax.set_mesh(mesh_of(*cell)):
        state = tx.init(params)
        updates, state = tx.update(jax.device_put(GRADIENTS[0], shardings), state, params)
    close((updates, state), want[0], roundings)
    lie_as(updates, shardings)
    lie_as(*like_params(state, of_state))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize(("layout", "reductions"), [("first axis", 1), ("two axes", 2)])
def test_a_norm_of_the_tree_is_one_reduction_for_each_way_of_sharding(layout, reductions, kind):
    tx = gradtx.clip_by_global_norm(0.5)
    g = jax.device_put(GRADIENTS[0], shardings_of(layout, kind))
    text = jitted.lower(tx, g, tx.init(g), None).compile().as_text()
    # The branch for sums that overflow, which is not run, has a maximum and a sum of its own.
    (entry,) = re.findall(r"^ENTRY .*?^}", text, re.DOTALL | re.MULTILINE)
    assert [kind for _, kind in COLLECTIVE.findall(entry)] == ["all-reduce"] * reductions
    assert len(COLLECTIVE.findall(text)) == 3 * reductions
