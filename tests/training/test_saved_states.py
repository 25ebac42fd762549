"""States that earlier versions wrote are restored, and their next step is the one that was written.

When the layout of a state changes, the version that changes it converts older states, and `restored`
below calls the function that does so.
"""

import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import saved_states
import zoo
from rounding import roundings

import gradtx

FILES = sorted(saved_states.FOLDER.glob("*.npz"))
CHECKPOINTS = sorted(saved_states.FOLDER.glob("*.zip"))
# An update is a sum and a quotient of a few arrays, of entries of size 1: some tens of roundings. The
# polynomials of Newton-Schulz have slopes of up to 8.3 for small singular values, which three of them
# leave. In all this is far below what one array in another place would change.
TOLERANCE = roundings(64, "float32")
TOLERANCE_OF_MATRICES = roundings(64 * 8.3**3, "float32")
MATRICES = "muon", "scion", "orthogonal", "normuon", "adamuon", "qk_clip"


def restored(target, arrays):
    """The tree of `target` with the arrays that have its paths."""
    paths = saved_states.by_path(jax.tree.map(lambda x: np.zeros(()), target))
    assert paths.keys() == arrays.keys()
    leaves, structure = jax.tree.flatten(target)
    return structure.unflatten(
        [jnp.asarray(arrays[path], x.dtype) for path, x in zip(paths, leaves, strict=True)]
    )


def test_there_is_a_file_of_a_version():
    assert FILES and CHECKPOINTS and max(file.stat().st_size for file in FILES) < 60_000


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_state_that_a_version_wrote_goes_on_with_its_next_step(file):
    first, *entries = saved_states.load(file)
    params = restored(saved_states.PARAMS, first["params"])
    gradient = restored(saved_states.PARAMS, first["gradient"])
    for i, entry in enumerate(entries):
        text = entry["optimizer"]
        tx = gradtx.parse(text, names=zoo.OWN)
        assert repr(tx) == text
        target = jax.eval_shape(tx.init, params)
        state = restored(target, entry["state"])
        gradtx.check_state(state, tx, params, saved=tx)
        if i % 6:  # every state is restored, and a sixth of them takes a step, which costs more
            continue
        with jax.disable_jit():  # many programs would have to be compiled otherwise
            updates, new = tx.update(gradient, state, params)
        assert zoo.types(new) == zoo.types(state), text
        wide = any(name in text for name in MATRICES)
        tolerance = TOLERANCE_OF_MATRICES if wide else TOLERANCE
        for path, got in saved_states.by_path(updates).items():
            want = entry["updates"][path]
            size = max(1e-30, float(np.max(np.abs(want))))
            np.testing.assert_allclose(
                got / size, want / size, rtol=0, atol=tolerance, err_msg=f"{text}, `{path}`"
            )


@pytest.mark.parametrize("file", CHECKPOINTS, ids=lambda file: file.stem)
def test_a_checkpoint_of_orbax_that_a_version_wrote_goes_on_with_its_next_step(file, tmp_path):
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    tx = gradtx.parse((tmp_path / "optimizer.txt").read_text())
    params = saved_states.PARAMS
    target = {"params": params, "gradient": params, "state": tx.init(params), "updates": params}
    with ocp.StandardCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(tmp_path / "arrays").item_metadata["state"]
        gradtx.check_state(metadata, tx, params, saved=tx)
        saved = checkpointer.restore(tmp_path / "arrays", target)
    with jax.disable_jit():
        updates, _ = tx.update(saved["gradient"], saved["state"], saved["params"])
    size = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(saved["updates"]))
    for got, want in zip(*map(jax.tree.leaves, (updates, saved["updates"])), strict=True):
        np.testing.assert_allclose(got / size, want / size, rtol=0, atol=TOLERANCE_OF_MATRICES)


def test_a_file_is_never_written_again(tmp_path):
    path = tmp_path / "version.npz"
    saved_states.save(path, [gradtx.sgd(0.1)])
    with pytest.raises(FileExistsError):
        saved_states.save(path, [gradtx.adam(0.1)])
    _, entry = saved_states.load(path)
    assert entry["optimizer"] == "sgd(0.1)" and int(entry["state"]["1/step"]) == 2
