"""States of optimizers in files that every later version must restore.

    python tests/saved_states.py NAME      # before a release, and for a new class that has a state

This writes tests/fixtures/states/NAME.npz, with all states that no other file there has yet. A file is
never written again: it shows what a version wrote. It holds, for the rows of the zoo that have a state,
and for the rows below, the text of the optimizer, the arrays of its state after two steps by their
paths, and the updates of the third step. It also holds the parameters and the third gradient.

The first file has a checkpoint of Orbax of one optimizer beside it, 0.2.0-dev.zip: a folder, with the
optimizer as text. `save_checkpoint` has written it.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import zoo

FOLDER = Path(__file__).parent / "fixtures" / "states"
SHAPES = {"kernel": (2, 3), "bias": (3,)}
PARAMS, *GRADIENTS = (zoo.tree(seed=i, shapes=SHAPES) for i in range(4))
# What some optimizers ask for beside the gradient: the loss |params|^2 / 2, its gradient, and the norms
# of the gradients of two small batches.
EXTRA = {"value": 0.5, "grad_fn": lambda params: params, "micro_batch_norms": (2.0, 3.0)}
# What the zoo does not have. A remainder or a copy is kept only of parameters in a narrow dtype.
MORE = {
    "chain(sgd(0.1), reduce_on_plateau(0.5, patience=1))": "float32",
    "mup(adam(0.1), {'bias': (3,), 'kernel': (1, 3)})": "float32",
    "tap('noise', gradient_noise_scale())": "float32",
    "master_weights(adam(0.1))": "bfloat16",
    "compensated(sgd(0.1, momentum=0.9))": "bfloat16",
    "compensated(sgd(0.1, momentum=0.9), 'int8')": "bfloat16",
    "stored(adamw(0.1), 'int8', min_size=4)": "float32",
    "stored(adamw(0.1), 'bf16+8', min_size=4)": "float32",
    "stored(muon(0.1), 'bf16_stochastic', min_size=4)": "float32",
}


def cases():
    """Optimizers that have a state, and the dtypes of their parameters, without a user's classes."""
    users = [name for name, x in zoo.OWN.items() if isinstance(x, type)]
    made = [(zoo.without_loss(row), "float32") for row in zoo.ROWS]
    made += [(zoo.evaluate(code), dtype) for code, dtype in MORE.items()]
    own = [(tx, dtype) for tx, dtype in made if not any(f"{name}(" in repr(tx) for name in users)]
    return [(tx, dtype) for tx, dtype in own if types(initial(tx, dtype))]


def cast(tree, dtype):
    """A tree of float32 arrays in another dtype."""
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def initial(tx, dtype):
    """The shapes and dtypes of the first state by their paths, as `ShapeDtypeStruct`."""
    tree = jax.eval_shape(tx.init, cast(PARAMS, dtype))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): x
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def types(arrays):
    """The dtype and the shape of every array by its path."""
    return {path: (str(x.dtype), tuple(x.shape)) for path, x in arrays.items()}


def missing():
    """The cases that no file has, with all arrays of the same dtypes and shapes at the same paths."""
    held = [
        (entry["optimizer"], entry.get("dtype", "float32"), types(entry["state"]))
        for file in sorted(FOLDER.glob("*.npz"))
        for entry in load(file)[1:]
    ]
    return [
        (tx, dtype)
        for tx, dtype in cases()
        if (repr(tx), dtype, types(initial(tx, dtype))) not in held
    ]


def by_path(tree):
    """The arrays of a tree by their paths."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def written(tx, dtype="float32"):
    """What a file holds of one optimizer: its state after two steps, and the updates of the third."""
    params, *gradients = (cast(x, dtype) for x in (PARAMS, *GRADIENTS))
    state = tx.init(params)
    for g in gradients[:2]:
        _, state = tx.update(g, state, params, **EXTRA)
    updates, _ = tx.update(gradients[2], state, params, **EXTRA)
    narrow = {} if dtype == "float32" else {"dtype": dtype}
    return {"optimizer": repr(tx), **narrow, "state": by_path(state), "updates": by_path(updates)}


def save(path, cases):
    """Write one file. All arrays stand in one buffer, since a header for each would be longer than it.

    Raises:
        FileExistsError: if there is such a file.
    """
    entries = [{"params": by_path(PARAMS), "gradient": by_path(GRADIENTS[2])}]
    entries += [written(tx, dtype) for tx, dtype in cases]
    buffer = bytearray()
    for entry in entries:
        for arrays in entry.values():
            for name, x in arrays.items() if isinstance(arrays, dict) else ():
                arrays[name] = [str(x.dtype), list(x.shape), len(buffer)]
                buffer += x.tobytes()
    with open(path, "xb") as file:
        index = np.frombuffer(json.dumps(entries).encode(), np.uint8)
        np.savez_compressed(file, index=index, buffer=np.frombuffer(bytes(buffer), np.uint8))


def save_checkpoint(path, tx):
    """Write a checkpoint of Orbax, with the same arrays for one optimizer, as one zip file.

    Raises:
        FileExistsError: if there is such a file.
    """
    state = tx.init(PARAMS)
    for g in GRADIENTS[:2]:
        _, state = tx.update(g, state, PARAMS)
    updates, _ = tx.update(GRADIENTS[2], state, PARAMS)
    arrays = {"params": PARAMS, "gradient": GRADIENTS[2], "state": state, "updates": updates}
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(folder) / "arrays", arrays)
        checkpointer.wait_until_finished()
        (Path(folder) / "optimizer.txt").write_text(repr(tx))
        with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as file:
            for one in sorted(Path(folder).rglob("*")):
                if one.name != "commit_success.txt":  # it names the temporary folder
                    file.write(one, one.relative_to(folder))


def load(path):
    """What `save` wrote: a list of dictionaries, with the arrays by their paths."""
    with np.load(path) as file:
        entries, buffer = json.loads(file["index"].tobytes()), file["buffer"].tobytes()

    def array(dtype, shape, at):
        count = int(np.prod(shape, dtype=int))
        return np.frombuffer(buffer, jnp.dtype(dtype), count, at).reshape(shape)

    for entry in entries:
        for arrays in entry.values():
            for name, place in arrays.items() if isinstance(arrays, dict) else ():
                arrays[name] = array(*place)
    return entries


if __name__ == "__main__":
    file = FOLDER / f"{sys.argv[1]}.npz"
    found = missing()
    if not found:
        sys.exit("All states have been written.")
    with jax.disable_jit():  # which is faster here: few operations have not been compiled before
        save(file, found)
    print(f"{len(found)} states, {file.stat().st_size} bytes")
