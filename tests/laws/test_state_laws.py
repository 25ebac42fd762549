"""The laws of states: what a state is made of, and that it is made from shapes alone."""

import jax
import optax
from zoo import SMALL, tree, types


def test_inits_from_shapes_alone(row):
    tx, params = row.make(), tree()
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    want = types(tx.init(params))
    assert types(tx.init(shapes)) == want
    assert types(jax.eval_shape(tx.init, params)) == want


def test_state_maps_over_its_parts_that_are_like_the_parameters(row):
    tx, params = row.make(), tree(shapes=SMALL)
    state = tx.init(params)
    marked = optax.tree.map_params(
        tx,
        lambda x: None if x is None else "like",
        state,
        transform_non_params=lambda x: "shared",
        is_leaf=lambda x: x is None,
    )
    # One leaf stands for all readings of a tap per layer, as in a prefix for `out_shardings`.
    marked = jax.tree.broadcast(marked, state)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for (path, _), kind in zip(leaves, jax.tree.leaves(marked), strict=True):
        assert kind == ("like" if getattr(path[-1], "key", None) in SMALL else "shared")


def test_no_buffer_is_shared(row):
    tx, params = row.make(), tree()
    arrays = [x for x in jax.tree.leaves((params, tx.init(params))) if x.size]
    assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)


def test_state_is_made_of_named_tuples_tuples_and_dicts_of_arrays(row):
    def check(node):
        if isinstance(node, dict):
            list(map(check, node.values()))
        elif isinstance(node, tuple | list):
            assert type(node) in (tuple, list) or hasattr(node, "_fields")
            list(map(check, node))
        else:
            assert node is None or isinstance(node, jax.Array)

    check(row.make().init(tree()))
