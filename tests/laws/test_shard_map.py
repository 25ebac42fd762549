"""Inside `jax.shard_map`: every row of the zoo, and norms of trees whose leaves are shards.

The zoo's trees have two kinds of leaves here. Those under `own` vary over the mesh: every device
holds whole leaves of its own, as in an ensemble with one member per device. Those under `same` are
replicated.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax.sharding import NamedSharding, PartitionSpec as P

import gradtx
from gradtx import clip_by_block_rms, clip_by_global_norm, global_norm


def placed(mesh, specs, tree):
    """The tree on the mesh, where `shard_map` on an Explicit mesh asks its arguments to be."""
    return jax.tree.map(lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), tree, specs)


# --- The zoo --------------------------------------------------------------------------------------

BY_HISTORY = ("z_score", "percentile", "average_norm")  # they clip by norms of earlier steps
BY_DISTANCE = ("prodigy", "dadapt", "dog", "scale_by_polyak", "polyak_sgd")
BY_NORM = ("global_norm", "unit_norm", "normalize", "skip", *BY_HISTORY, *BY_DISTANCE)
STEPS = 3
# A matrix of each kind and a vector reach every branch, and compile fast.
SMALL = {"own": zoo.SMALL, "same": {"kernel": zoo.SMALL["kernel"]}}
ALL = {"own": zoo.SHAPES, "same": zoo.SHAPES}


def is_own(path):
    """Whether this is the path of a leaf that differs between devices."""
    keys = [str(getattr(key, "key", "")) for key in path]
    if any("/" in key for key in keys):  # a reading, which depends on all leaves that its name has
        return not any("same" in key for key in keys)
    return "own" in keys


def own_leaves(f, tree, *rest):
    """The tree with `f` of every leaf under `own`."""
    return jax.tree.map_with_path(lambda p, x, *xs: f(x, *xs) if is_own(p) else x, tree, *rest)


def of_device(tree, i=0):
    """The tree of device `i`; inside `shard_map`, that of this device."""
    return own_leaves(lambda x: x[i], tree)


def together(trees):
    """The trees of all devices as one, where leaves under `own` get an axis over the devices."""
    return own_leaves(lambda *xs: np.stack(xs), *trees)


def specs_of(tree):
    """The specs of all devices' tree: of a tree of parameters, of gradients or of states."""
    return jax.tree.map_with_path(lambda path, _: P("d") if is_own(path) else P(), tree)


@functools.cache
def two_devices(small=True):
    """The mesh, parameters and gradients of both devices on it, and the same for each device alone.

    Gradients have a leading axis over the steps.
    """
    shapes = SMALL if small else ALL

    def drawn(device):
        """What a device holds: the seeds of leaves under `own` depend on the device."""
        trees = [
            {
                "own": zoo.tree(seed=100 * device + draw, shapes=shapes["own"]),
                "same": zoo.tree(seed=50 + draw, shapes=shapes["same"]),
            }
            for draw in range(1 + STEPS)
        ]
        return trees[0], jax.tree.map(lambda *xs: np.stack(xs), *trees[1:])

    each = [drawn(0), drawn(1)]
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    both = together(each)
    return mesh, placed(mesh, specs_of(both), both), each


def parts(row, tree):
    """The trees that a row is run on: one, or two for a row whose updates depend on all leaves.

    A replicated leaf that is scaled by a norm over leaves that vary would itself vary from then on.
    """
    by_norm = any(word in row.code for word in BY_NORM)
    return [{k: x} for k, x in tree.items()] if by_norm else [tree]


def init(tx, row, params):
    return [tx.init(part) for part in parts(row, params)]


def train(tx, row, params, states, gradients):
    """Parameters and states after a scan over the steps, and the updates of every step.

    `scan` raises a TypeError unless the carry keeps its structure, shapes, dtypes and varying axes.
    """

    return jax.lax.scan(functools.partial(one_step, tx, row), (params, states), gradients)


def one_step(tx, row, carry, gradients):
    """Parameters and states after one step, and its updates."""
    params, states = carry
    all_updates, new_states = {}, []
    for part, state, updates in zip(parts(row, params), states, parts(row, gradients), strict=True):
        updates, state = tx.update(updates, state, part)
        all_updates |= updates
        new_states.append(state)
    return (gradtx.apply_updates(params, all_updates), new_states), all_updates


def types(tree):
    """Shapes, dtypes, weak types and varying axes of all leaves."""
    # As text, since a type also names its mesh, and constants are on none.
    return jax.tree.map(lambda x: (str(jax.typeof(x)), x.weak_type), tree)


def close(a, b, roundings=8):
    """Whether two trees agree, leaf by leaf, to some roundings of the largest entry."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        assert x.dtype == y.dtype
        eps = float(jnp.finfo(x.dtype).eps) if jnp.issubdtype(x.dtype, jnp.inexact) else 0
        x, y = (np.asarray(z, "float64") for z in (x, y))
        np.testing.assert_allclose(x, y, rtol=0, atol=roundings * eps * np.abs(y).max(initial=0))


@pytest.mark.representatives
def test_trains_on_varying_and_on_replicated_leaves_as_on_one_device(row):
    if any(word in row.code for word in ("skip", *BY_HISTORY, *BY_DISTANCE)):
        # Every device counts its own steps, see `test_skip.py` and `test_clip_by_history.py`, or has a
        # distance or a size of step of its own.
        return
    tx = row.make()
    mesh, (params, gradients), each = two_devices()
    # The state that is handed in was made outside, for each device alone.
    states = together([init(tx, row, own) for own, _ in each])
    specs = tuple(map(specs_of, (params, states, gradients)))

    def inside(*args):
        params, states, gradients = map(of_device, args)
        made = init(tx, row, params)
        # The types are equal, so a scan from either state is the same program.
        assert types(made) == types(states)
        return own_leaves(lambda x: x[None], (made, train(tx, row, params, states, gradients)))

    out_specs = specs[1], (specs[:2], specs[2])
    mapped = jax.jit(jax.shard_map(inside, mesh=mesh, in_specs=specs, out_specs=out_specs))
    made, after = mapped(params, placed(mesh, specs[1], states), gradients)
    close(made, states)

    after = jax.tree.map(np.asarray, after)
    # Alone, the matrices of both kinds form one batch and are rounded differently, and an iteration
    # enlarges the difference.
    iterates = any(name in row.code for name in ("orthogonalize", "muon", "scion"))
    for i in range(2):
        alone = steps(tx, row, *each[i])
        close(of_device(after, i), alone, roundings=100 if iterates else 8)


def steps(tx, row, params, gradients):
    """What `train` returns, from steps one after the other, outside of any program."""
    states, all_updates = init(tx, row, params), []
    for i in range(STEPS):
        g = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), gradients)
        (params, states), updates = one_step(tx, row, (params, states), g)
        all_updates.append(updates)
    return (params, states), jax.tree.map(lambda *xs: jnp.stack(xs), *all_updates)


def trace(f, *args):
    """Trace `f` inside `shard_map`; these trees have a leading axis over the devices."""
    mesh = two_devices()[0]
    over = NamedSharding(mesh, P("d"))
    args = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=over), args)

    def inside(*args):
        f(*jax.tree.map(lambda x: x[0], args))

    jax.eval_shape(jax.shard_map(inside, mesh=mesh, in_specs=P("d"), out_specs=None), *args)


def own_data(small=True):
    """Parameters and gradients of both devices, without the replicated ones."""
    _, (params, gradients), _ = two_devices(small)
    return {"own": params["own"]}, {"own": gradients["own"]}


@pytest.mark.representatives
def test_state_keeps_its_type_for_every_shape(row):
    tx = row.make()
    *_, [(same_params, same_gradients), _] = two_devices(small=False)

    def f(params, gradients):
        params = params | {"same": same_params["same"]}
        gradients = gradients | {"same": same_gradients["same"]}
        train(tx, row, params, init(tx, row, params), gradients)

    trace(f, *own_data(small=False))


@pytest.mark.representatives
def test_state_of_which_every_part_varies_keeps_its_type(row):
    if "zero1" in row.code:
        return  # outside of `shard_map` it looks for its axis, which this mesh does not have
    tx = row.make()
    params, gradients = own_data()
    # A state that `vmap` made for an ensemble: every member has its own counts.
    states = [jax.eval_shape(jax.vmap(tx.init), params)]
    trace(functools.partial(train, tx, row), params, states, gradients)


@pytest.mark.representatives
def test_state_keeps_its_type_where_numbers_differ_between_devices(row):
    def f(params, gradients, factor):
        tx = zoo.nudged(row.make(), factor)
        train(tx, row, params, [tx.init(params)], gradients)

    trace(f, *own_data(), jnp.array([1.0, 0.75]))


class counted(gradtx.Elementwise):
    """What an author may write: constants, a choice, and a scalar that depends on all leaves."""

    def init_leaf(self, param):
        return {"total": jnp.zeros(param.shape), "largest": gradtx.shared(0.0)}

    def measure(self, updates, params, extra):
        return jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in jax.tree.leaves(updates)]))

    def begin(self, state, measured):
        largest = jnp.maximum(state["largest"], measured)
        return state | {"largest": largest}, largest

    def update_leaf(self, update, state, param, largest):
        total = jnp.where(largest > 1e30, jnp.zeros(update.shape), state["total"] + update)
        return total, state | {"total": total}


def test_state_that_an_author_starts_from_constants_keeps_its_type():
    tx, row = counted(), zoo.Row("counted()")
    shapes = {"own": zoo.SMALL}
    params = jax.tree.map(lambda x: jnp.stack([x, x]), zoo.tree(shapes=shapes))
    gradients = jax.tree.map(lambda x: jnp.stack([x] * STEPS, 1), params)
    trace(lambda params, g: train(tx, row, params, [tx.init(params)], g), params, gradients)


# --- Norms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1.0, 1e30, 1e-30])
def test_norm_is_that_of_what_the_device_holds(size):
    mesh = jax.make_mesh((4,), ("d",))
    norm = jax.shard_map(
        lambda x: global_norm(x)[None], mesh=mesh, in_specs=P("d"), out_specs=P("d")
    )
    x = jax.device_put(size * jnp.arange(8.0), NamedSharding(mesh, P("d")))
    want = np.array([1, 3.6055512, 6.4031243, 9.219544])
    np.testing.assert_allclose(np.asarray(jax.jit(norm)(x), "float64") / size, want, rtol=3e-7)


LEAVES = {"rows": ((8, 3), "float32"), "columns": ((2, 8), "float32"), "z": ((4,), "complex64")}
XY = ("x", "y")
# For every layout the axes that are named, and how the leaves lie over the mesh.
LAYOUTS = {
    "sharded": ("d", {"rows": P("d"), "columns": P(None, "d"), "z": P("d")}),
    "a replicated leaf": ("d", {"rows": P("d"), "columns": P(), "z": P("d")}),
    "two axes": (XY, {"rows": P(XY), "columns": P("y", "x"), "z": P(("y", "x"))}),
    "partly replicated leaves": (XY, {"rows": P(XY), "columns": P(None, "y"), "z": P("x")}),
    "replicated over one axis": (XY, {"rows": P("x"), "columns": P(), "z": P("x")}),
}


def norms(tree, limit, axis_name=None):
    """The norm of a tree, and the updates of what clips by a norm."""
    clips = [clip(limit, axis_name=axis_name) for clip in (clip_by_global_norm, clip_by_block_rms)]
    states = [tx.init(tree) for tx in clips]
    updates = [tx.update(tree, state)[0] for tx, state in zip(clips, states, strict=True)]
    return global_norm(tree, axis_name=axis_name), updates


def gradients_of_many_sizes():
    """Trees of gradients, and the size of the largest of the ordinary entries of each."""
    tree = {name: zoo.tree(dtype, shapes=shape) for name, (shape, dtype) in LEAVES.items()}
    for size in (1.0, 1e30, 1e-30):  # the squares of the last two leave the range of float32
        yield jax.tree.map(lambda x, size=size: size * x, tree), size
    # Only one device has the huge entries, or the infinite one.
    yield tree | {"rows": tree["rows"].at[0].multiply(1e30)}, 1.0
    yield tree | {"rows": tree["rows"].at[0, 0].set(jnp.inf)}, 1.0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_norm_over_shards_is_that_of_the_whole(layout):
    names, specs = LAYOUTS[layout]
    mesh = jax.make_mesh((4,), ("d",)) if names == "d" else jax.make_mesh((2, 2), XY)
    over_shards = jax.jit(
        jax.shard_map(
            functools.partial(norms, axis_name=names),
            mesh=mesh,
            in_specs=(specs, P()),
            # The norm is the same everywhere, and so are the updates of a replicated leaf.
            out_specs=(P(), [specs, specs]),
        )
    )
    whole = jax.jit(norms)
    for tree, size in gradients_of_many_sizes():
        for limit in (0.5 * size, 100 * size):
            limit = jnp.float32(limit)
            got, want = over_shards(placed(mesh, specs, tree), limit), whole(tree, limit)
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), got, want)


@pytest.mark.parametrize("map_over", [jax.vmap, jax.pmap], ids=["vmap", "pmap"])
def test_norm_over_a_mapped_axis_is_that_of_the_whole(map_over):
    tree = zoo.tree(shapes={"kernel": (4, 2, 3), "bias": (4, 3)})
    got = jax.jit(map_over(functools.partial(norms, limit=0.5, axis_name="i"), axis_name="i"))(tree)
    norm, updates = jax.jit(norms)(tree, 0.5)
    close(got, (np.full(4, norm), updates))
