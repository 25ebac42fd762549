"""The steps of recipes compile ahead of time for a TPU, on a machine without one.

`pip install gradtx[tpu-aot]` installs TPU's compiler, which needs no TPU. A process of its own compiles,
since the compiler reads its settings from the environment when it is loaded, and locks a file.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.recipes import RECIPES

ROOT = Path(__file__).parents[2]
# The collectives of a step at most. The one kernel is gathered, and the layers of the stack stay where
# they are. AdaMuon adds two sums. All other recipes have to compile.
NEEDED = dict.fromkeys(("sgd", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "amsgrad"), 0)
NEEDED |= {"nadam": 0, "nadamw": 0, "muon": 1, "scion": 1, "normuon": 1, "adamuon": 3}

COMPILE = """
import sys

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

import gradtx
from benchmarks.hlo import collectives
from benchmarks.recipes import RATE, RECIPES, extra_arguments, linear_loss

topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
mesh = topologies.make_mesh(topology, (8,), ("data",))
SHAPES = {"kernel": ((64, 128), P("data")), "stack": ((8, 32, 64), P("data")), "bias": ((128,), P())}

def arrays(dtype):
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for name, (shape, spec) in SHAPES.items()
    }

for name in RECIPES:
    tx = RECIPES[name](gradtx.cosine_decay_schedule(RATE, 100))
    params = arrays("bfloat16")
    def step(g, state, params):
        narrow = jax.tree.map(lambda g, p: g.astype(p.dtype), g, params)
        extra = extra_arguments(linear_loss(narrow), params)
        updates, state = tx.update(g, state, params, **extra)
        return gradtx.apply_updates(params, updates), state
    shardings = gradtx.state_shardings(tx, params)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params), shardings,
    )
    compiled = jax.jit(step, donate_argnums=(1, 2)).lower(arrays("float32"), state, params).compile()
    # In a decomposition a loop runs until it has converged, so its collectives cannot be counted.
    counted = name in sys.argv[1:]
    print(name, sum(x.runs for x in collectives(compiled.as_text())) if counted else 0, flush=True)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu, TPU's compiler, is not installed: pip install 'gradtx[tpu-aot]'",
)
def test_every_recipes_step_compiles_ahead_of_time_for_eight_tpus():
    # The compiler asks a server of the cloud where it runs, unless it is told.
    known = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "XLA_FLAGS": ""}
    known["TPU_ACCELERATOR_TYPE"] = "v5litepod-8"
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, *NEEDED],
        cwd=ROOT,
        env=os.environ | known,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = {name: int(n) for name, n in map(str.split, done.stdout.splitlines())}
    assert found.keys() == RECIPES.keys()
    assert not {name: n for name, n in found.items() if n > NEEDED.get(name, 0)}
