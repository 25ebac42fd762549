"""States of optimizers in files that every later version must restore.

    python tests/saved_states.py NAME      # before a release: writes tests/fixtures/states/NAME.npz

A file is never written again: it shows what a version wrote. It holds, for the rows of the zoo that
are recipes or wrappers, the text of the optimizer, the arrays of its state after two steps by their
paths, and the updates of the third step. It also holds the parameters and the third gradient.

NAME.zip beside it is a checkpoint of Orbax of one optimizer, in a folder, with the optimizer as text.
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

import gradtx

FOLDER = Path(__file__).parent / "fixtures" / "states"
SHAPES = {"kernel": (2, 3), "bias": (3,)}
PARAMS, *GRADIENTS = (zoo.tree(seed=i, shapes=SHAPES) for i in range(4))


def optimizers():
    """The rows of the zoo that are recipes or wrappers, without those with a class of a user."""
    wrappers = gradtx.Recipe, gradtx.Wrapper, gradtx.partition, gradtx.masked, gradtx.every
    wrappers += gradtx.tunable, gradtx.named_chain, gradtx.tap, gradtx.observe
    functions = "fading", "longest", "halved"
    users = [name for name in zoo.OWN if name not in functions]
    made = [row.make() for row in zoo.ROWS if not any(f"{name}(" in row.code for name in users)]
    kept = [tx for tx in made if jax.tree.leaves(jax.eval_shape(tx.init, PARAMS))]
    return [tx for tx in kept if isinstance(tx, wrappers)]


def by_path(tree):
    """The arrays of a tree by their paths."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def filled(target, arrays):
    """The tree of `target` with the arrays that have its paths."""
    paths = by_path(jax.tree.map(lambda x: np.zeros(()), target))
    leaves, structure = jax.tree.flatten(target)
    return structure.unflatten(
        [jnp.asarray(arrays[path], x.dtype) for path, x in zip(paths, leaves, strict=True)]
    )


def written(tx):
    """What a file holds of one optimizer: its state after two steps, and the updates of the third."""
    state = tx.init(PARAMS)
    for g in GRADIENTS[:2]:
        _, state = tx.update(g, state, PARAMS)
    updates, _ = tx.update(GRADIENTS[2], state, PARAMS)
    return {"state": by_path(state), "updates": by_path(updates)}


def save(path, txs):
    """Write one file. All arrays stand in one buffer, since a header for each would be longer than it.

    Raises:
        FileExistsError: if there is such a file.
    """
    entries = [{"params": by_path(PARAMS), "gradient": by_path(GRADIENTS[2])}]
    entries += [{"optimizer": repr(tx), **written(tx)} for tx in txs]
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
    found = optimizers()
    with (
        jax.disable_jit()
    ):  # which is faster here, since few operations have not been compiled before
        save(file, found)
    rate = gradtx.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 10)
    save_checkpoint(file.with_suffix(".zip"), gradtx.tunable(gradtx.averaged(gradtx.muon(rate))))
    print(f"{len(found)} states, {file.stat().st_size} bytes")
