"""States that earlier versions wrote are restored, and their next step is the one that was written.

When the layout of a state changes, the version that changes it converts older states, and `restored`
below calls the function that does so.
"""

import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import saved_states
import zoo
from rounding import roundings
from shares import share

import gradtx
from benchmarks.recipes import RECIPES

FILES = sorted(saved_states.FOLDER.glob("*.npz"))
CHECKPOINTS = sorted(saved_states.FOLDER.glob("*.zip"))
# An update is a sum and a quotient of a few arrays, of entries of size 1: some tens of roundings. The
# polynomials of Newton-Schulz have slopes of up to 8.3 for small singular values, which three of them
# leave. In all this is far below what one array in another place would change.
TOLERANCE = roundings(64, "float32")
TOLERANCE_OF_MATRICES = roundings(64 * 8.3**3, "float32")
# Eigenvectors are as sensitive. The copies that `master_weights` rounds to bfloat16 are at least 0.02 of
# a unit away from the middle between two numbers.
MATRICES = "muon", "scion", "orthogonal", "polargrad", "namo", "aurora", "muown", "mars", "dion"
BASES = "basis", "soap", "shampoo", "splus", "galore", "apollo", "psgd"


def restored(target, arrays):
    """The tree of `target` with the arrays that have its paths."""
    paths = saved_states.by_path(jax.tree.map(lambda x: np.zeros(()), target))
    assert paths.keys() == arrays.keys()
    leaves, structure = jax.tree.flatten(target)
    return structure.unflatten(
        [jnp.asarray(arrays[path], x.dtype) for path, x in zip(paths, leaves, strict=True)]
    )


def test_there_is_a_file_of_a_version_and_all_files_are_small():
    assert FILES and CHECKPOINTS and sum(file.stat().st_size for file in FILES) < 60_000


def test_every_public_class_that_is_in_a_state_is_in_the_file_of_a_version():
    """A new class gets a file of its own by `python tests/saved_states.py NAME`."""

    def classes(texts):
        """The public names in the texts, and with `(...)` those at the beginning of a text."""
        names = {name for text in texts for name in re.findall(r"\w+", text)}
        return names & set(gradtx.__all__) | {text.partition("(")[0] + "(...)" for text in texts}

    held = [entry["optimizer"] for file in FILES for entry in saved_states.load(file)[1:]]
    cases = [repr(tx) for tx, _ in saved_states.cases()]
    assert sorted(classes(cases) - classes(held)) == []
    assert sorted({f"{name}(...)" for name in RECIPES} - classes(held)) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_state_that_a_version_wrote_goes_on_with_its_next_step(file):
    first, *entries = saved_states.load(file)
    # Every state is restored, and a sixth of them takes a step, which costs more.
    stepping = share([entry["optimizer"] for entry in entries], "saved state", 6)
    for entry in entries:
        text, dtype = entry["optimizer"], entry.get("dtype", "float32")
        params, gradient = (
            saved_states.cast(restored(saved_states.PARAMS, first[name]), dtype)
            for name in ("params", "gradient")
        )
        tx = gradtx.parse(text, names=zoo.OWN)
        assert repr(tx) == text
        target = jax.eval_shape(tx.init, params)
        state = restored(target, entry["state"])
        gradtx.check_state(state, tx, params, saved=tx)
        if text not in stepping:
            continue
        with jax.disable_jit():  # many programs would have to be compiled otherwise
            updates, new = tx.update(gradient, state, params, **saved_states.EXTRA)
        assert zoo.types(new) == zoo.types(state), text
        wide = any(name in text for name in MATRICES + BASES)
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
    saved_states.save(path, [(gradtx.sgd(0.1), "float32")])
    with pytest.raises(FileExistsError):
        saved_states.save(path, [(gradtx.adam(0.1), "float32")])
    _, entry = saved_states.load(path)
    assert entry["optimizer"] == "sgd(0.1)" and int(entry["state"]["1/step"]) == 2
