"""Strictness by default; warnings are errors too, by `filterwarnings` in pyproject.toml.

JAX reads its settings from the environment once, so they stand here before its first import. As
environment variables they also reach the processes that a test starts.
"""

import os

# Eight devices, so that every test may build a mesh. A caller who names a count keeps it.
_flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} --xla_force_host_platform_device_count=8".strip()
# The laws are about numbers, not about a device: `JAX_PLATFORMS=cuda pytest` asks for another.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Assigned, not defaulted: no caller's shell may loosen these. A silent promotion is how a
# bfloat16 moment or a broadcast bias slips through.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jax
from hypothesis import HealthCheck, settings

# Fails if a plugin imported JAX earlier and the lines above came too late.
assert jax.config.jax_numpy_dtype_promotion == "strict"

# An example often compiles a new program: there is no deadline, a slow first one is no defect,
# and twenty find what a wrong equation shows. Under CI the examples are always the same, so that
# a change never fails for what the one before it drew.
settings.register_profile(
    "gradtx",
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("gradtx")
