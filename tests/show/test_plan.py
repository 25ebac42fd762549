"""`plan`: what a step costs on a mesh that this machine need not have."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec as P

import gradtx
from gradtx import plan
from gradtx._show import plan_job
from gradtx._show.plan import mesh_axes_of
from gradtx._show.plan_result import StepPlan, Traffic
from gradtx._show.program_text import collectives, first_group, products

# The first group of eight devices in a mesh of 2 x 4, in every form in which XLA writes groups.
GROUPS = {
    "replica_groups={{0,4},{1,5},{2,6},{3,7}}, dimensions={0}": (0, 4),
    "replica_groups=[2,4]<=[8], dimensions={0}": (0, 1, 2, 3),
    "replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}": (0, 4),
    "replica_groups=mesh['x'=2,'y'=4] {'y'}": (0, 1, 2, 3),
    "replica_groups=mesh['x'=2,'y'=4] {'x'}": (0, 4),
    "replica_groups=mesh['x'=8] {'x':(1)2}": (0, 4),
    "replica_groups=mesh['x'=8] {'x':(2)4}": (0, 1, 2, 3),
    "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}": (0, 1, 2, 3),
    "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}": (0, 4),
    "replica_groups=mesh['a'=4,'b'=2], device_ids=(0,4,1,5,2,6,3,7) {'b'}": (0, 4),
    "source_target_pairs={{0,0},{1,5},{5,1}}, channel_id=1": (1, 5),
    "source_target_pairs={{0,0},{1,1}}, channel_id=1": (0,),
}


@pytest.mark.parametrize("text", GROUPS)
def test_the_devices_of_a_group_are_read_in_every_form(text):
    assert first_group(text) == GROUPS[text]


def test_the_axes_of_a_group_are_those_along_which_its_devices_differ():
    mesh = {"x": 2, "y": 2, "z": 4}
    assert mesh_axes_of((0, 4), mesh) == ("y",)
    assert mesh_axes_of((0, 1, 2, 3), mesh) == ("z",)
    assert mesh_axes_of((0, 1, 8, 9), mesh) == ("x", "z")


# A loop of three rounds with a product of 2 x 4 x 8 in each, and a choice between two exchanges.
PROGRAM = """
%body (p: (s32[], f32[2,8])) -> (s32[], f32[2,8]) {
  %a = f32[2,4]{1,0} constant({...})
  %b = f32[4,8]{1,0} constant({...})
  ROOT %d = f32[2,8]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%small (p: f32[2,8]) -> f32[2,8] {
  ROOT %s = f32[2,8]{1,0} all-reduce(%p), replica_groups=[2,4]<=[8], to_apply=%add
}

%large (p: f32[2,8]) -> f32[2,8] {
  %g = f32[16,8]{1,0} all-gather(%p), replica_groups=[1,8]<=[8], dimensions={0}
  ROOT %r = f32[2,8]{1,0} slice(%g)
}

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %s = f32[] add(%x, %y)
}

ENTRY %main (p: f32[2,8]) -> f32[2,8] {
  %w = (s32[], f32[2,8]) while(%t), body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %one = f32[1,8]{1,0} all-gather(%p), replica_groups=[8,1]<=[8], dimensions={0}
  ROOT %c = f32[2,8]{1,0} conditional(%i, %p, %p), branch_computations={%small, %large}
}
"""


def test_loops_are_multiplied_and_the_most_expensive_branch_counts():
    assert products(PROGRAM) == (1, 3 * 2 * 2 * 4 * 8)
    (found,) = collectives(PROGRAM)
    assert found == ("all-gather", 4 * 16 * 8, 8, 1, (*range(8),))
    assert found.sent == 4 * 16 * 8 * 7 / 8
    with pytest.raises(ValueError, match="a loop of unknown length"):
        products(PROGRAM.replace("known_trip_count", "unknown"))


CHAINED = """
%f (p: f32[8,128]) -> f32[64,128] {
  ROOT %g = f32[64,128] all-gather(%p), channel_id=2, replica_groups=[1,8]<=[8], \
frontend_attributes={chain_id="0"}
}

ENTRY %main (p: f32[8,128]) -> f32[64,128] {
  %g = f32[64,128] all-gather(%p), channel_id=3, replica_groups=[1,8]<=[8]
  %a = f32[64,128] fusion(%p), calls=%f
  ROOT %b = f32[64,128] fusion(%p), calls=%f
}
"""


def test_an_operation_that_a_tpu_runs_beside_several_fusions_counts_once():
    assert [x.runs for x in collectives(CHAINED)] == [1, 1]


MESH = AbstractMesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def sharded(shape, *spec, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(MESH, P(*spec)))


PARAMS = {
    "kernels": sharded((8, 16, 32), "data", None, "model"),
    "bias": sharded((32,), "model"),
    "name": "of the layer",
}


def test_a_plan_counts_what_every_device_does():
    tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.muon(0.1, steps=1))
    rates = {"flops": 1e9, "memory_bandwidth": 1e8, "link_bandwidth": {"data": 1e6, "model": 1e7}}
    found = plan(tx, PARAMS, **rates)
    assert (found.name, found.mesh, found.platform) == ("chain", {"data": 2, "model": 4}, "cpu")
    parameters = 4 * (8 * 16 * 32 // 8 + 32 // 4)
    assert found.parameter_bytes == parameters
    # The momentum of every number, a second moment of the bias, and counts.
    assert 0 <= found.state_bytes - parameters - 4 * (32 // 4) <= 64
    # A device orthogonalizes one matrix of 8. Its shards come in one exchange, and leave in another.
    assert found.flops == 4 * 16 * 16 * 32 + 2 * 16**3
    large = [x for x in found.traffic if x.bytes > 100]
    size = 4 * 8 * 16 * 32 // 8
    assert large == [("all-to-all", ("model",), 4, 2, size, 2 * size * 3 / 4)]
    rest = [x for x in found.traffic if x not in large]  # sums for the norm of all gradients
    assert rest and {x.kind for x in rest} == {"all-reduce"} and max(x.bytes for x in rest) <= 8
    assert all(x.devices == found.mesh[x.axes[0]] for x in found.traffic)
    assert found.sent_bytes == sum(x.sent for x in found.traffic)
    assert found.product_seconds == found.flops / 1e9
    assert found.memory_seconds == (3 * parameters + 2 * found.state_bytes) / 1e8
    slow = [x.sent / (1e6 if "data" in x.axes else 1e7) for x in found.traffic]
    assert found.network_seconds == sum(slow)
    assert found.roofline_seconds == max(found[-3:])


def test_an_optimizer_of_optax_is_planned_too_without_knowing_bandwidths():
    tx = optax.chain(optax.scale(0.5), optax.sgd(0.1, momentum=0.9))
    found = plan(tx, {"w": jax.ShapeDtypeStruct((8, 4), jnp.bfloat16)})
    assert found.name == "chain"
    assert (found.mesh, found.parameter_bytes, found.state_bytes) == ({"device": 1}, 64, 64)
    assert (found.flops, found.traffic, found.roofline_seconds) == (0, (), None)


FOUND = StepPlan(
    "muon",
    {"data": 64},
    "cpu",
    15.83,
    250_000_000,
    550_000_000,
    0,
    1_721_766_144,
    8_024_072_650_752,
    (
        Traffic("all-to-all", ("data",), 64, 2, 16_777_216, 2 * 16_515_072.0),
        Traffic("all-to-all", ("data",), 64, 4, 234_881_024, 4 * 231_211_008.0),
    ),
    0.0081,
    None,
    0.0000221,
)


def test_state_on_the_host_is_counted_apart():
    params = {"w": sharded((128, 1024), "data", "model")}  # a part of 64 kB is large enough
    found = plan(gradtx.offloaded(gradtx.sgd(0.1, momentum=0.9)), params)
    size = 4 * 128 * 1024 // 8
    assert (found.host_bytes, found.parameter_bytes) == (size, size)
    assert found.state_bytes <= 16 and "state on the host  65.5 kB" in repr(found)


def test_a_plan_prints_as_tables():
    assert (
        repr(FOUND)
        == """\
muon on a mesh with the axes (data: 64), compiled for cpu in 15.8 s of CPU time
parameters       250.0 MB
state            550.0 MB
temporaries      1.7 GB
matrix products  8.0 TFLOP
sent             957.9 MB in 6 operations

operation   mesh axes  devices  runs      size      sent
all-to-all  data            64     4  234.9 MB  924.8 MB
all-to-all  data            64     2   16.8 MB   33.0 MB

at least 8.1 ms: products 8.1 ms, network 22.1 µs"""
    )
    html = FOUND._repr_html_()
    assert html.count("<tr>") == 3 + 6 and "8.1 ms" in html
    quiet = FOUND._replace(traffic=(), flops=None, product_seconds=None, network_seconds=None)
    assert repr(quiet).endswith(
        "matrix products  not counted\nsent             0 B in 0 operations"
    )


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        ({"w": sharded((6,), "model")}, {}, "the parameter at `w` has the shape .6,., which its"),
        (
            {"w": sharded((8,)), "b": jax.ShapeDtypeStruct((8,), jnp.float32)},
            {},
            "the parameter at `b` has the sharding None",
        ),
        (PARAMS, {"link_bandwidth": {"data": 1.0}}, "no entry for the mesh axis 'model'"),
        (PARAMS, {"timeout": 1e-4}, "did not compile within this many seconds"),
    ],
)
def test_what_cannot_be_planned_is_refused(params, options, message):
    with pytest.raises((TypeError, ValueError, TimeoutError), match=message):
        plan(gradtx.sgd(0.1), params, **options)


def test_the_error_of_the_process_that_compiles_is_told(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text("raise ValueError('no such topology')")
    monkeypatch.setattr(plan_job, "CHILD", child)
    with pytest.raises(RuntimeError, match="the step failed: ValueError: no such topology"):
        plan(gradtx.sgd(0.1), {"w": sharded((8,), "model")})
