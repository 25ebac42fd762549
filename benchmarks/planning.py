"""Plan a step of Muon for transformers on meshes of up to 512 devices, none of which this machine needs.

python -m benchmarks.planning               plan what benchmarks/planning.json does not hold yet
python -m benchmarks.planning --again       plan everything again
python -m benchmarks.planning --only 8B/64  plan these cases
python -m benchmarks.planning --page        only write the table into docs/planning.md

The table is written after each run. Every case is compiled in a process of its own (`gradtx.plan`).
"""

import argparse
import datetime
import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import gradtx
from benchmarks.models import RATE

HERE = Path(__file__).parent
FOUND, PAGE = HERE / "planning.json", HERE.parent / "docs" / "planning.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
LIMIT = 600  # seconds that a case may take to compile
# Width, width of keys and values, width inside the feed-forward block, and the number of layers.
MODELS = {
    "1B": (2048, 512, 8192, 16),
    "8B": (4096, 1024, 14336, 32),
    "70B": (8192, 1024, 28672, 80),
}
VOCABULARY = 128256
TOKENS = 8192  # that a device trains on in one step, for comparison
# FSDP over at most 64 devices. More devices hold replicas, whose mesh axis comes first.
MESHES = {8: {"data": 8}, 64: {"data": 64}, 512: {"replica": 8, "data": 64}}
OPTIMIZERS = ("gradtx.muon", "optax.contrib.muon", "gradtx.adamw")
# Numbers of the order of an H100: products with operands of 19 bits (TF32), memory, and one network card
# of 400 Gbit/s per device.
HARDWARE = {"flops": 495e12, "memory_bandwidth": 3.35e12, "link_bandwidth": 50e9}


def shapes(model: str) -> dict[str, Any]:
    """The shapes of a transformer with stacked layers."""
    d, narrow, inner, n = MODELS[model]
    layers = {"q": (n, d, d), "k": (n, d, narrow), "v": (n, d, narrow), "o": (n, d, d)}
    layers |= {"gate": (n, d, inner), "up": (n, d, inner), "down": (n, inner, d)}
    layers |= {"norm1": (n, d), "norm2": (n, d)}
    return {"layers": layers, "embedding": (VOCABULARY, d), "norm": (d,), "head": (d, VOCABULARY)}


def sharded(model: str, devices: int) -> Any:
    """The parameters in float32, with their last axes sharded."""
    sizes = MESHES[devices]
    mesh = AbstractMesh((*sizes.values(),), (*sizes,), axis_types=(AxisType.Auto,) * len(sizes))

    def leaf(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        spec = PartitionSpec(*(None,) * (len(shape) - 1), "data")
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(leaf, shapes(model), is_leaf=lambda x: isinstance(x, tuple))


def optimizer(name: str, params: Any) -> Any:
    """The optimizer of this name, which for Muon updates the matrices of the layers."""
    if name == "gradtx.adamw":
        return gradtx.adamw(RATE)
    if name == "gradtx.muon":
        return gradtx.muon(RATE)
    stack = optax.contrib.MuonDimensionNumbers(1, 2)
    numbers = jax.tree.map(lambda x: stack if x.ndim == 3 else None, params)
    return optax.contrib.muon(
        RATE, consistent_rms=0.2, muon_weight_dimension_numbers=lambda params: numbers
    )


def planned(model: str, devices: int, name: str) -> dict[str, Any]:
    """The numbers of one case, or the reason why there are none."""
    params = sharded(model, devices)
    try:
        found = gradtx.plan(optimizer(name, params), params, timeout=LIMIT, **HARDWARE)
    except (TimeoutError, RuntimeError, ValueError) as error:
        return {"failed": f"{type(error).__name__}: {error}"[:400]}
    print(found, flush=True)
    size = sum(x.size for x in jax.tree.leaves(params))
    large = sum(x.runs for x in found.traffic if x.bytes > 2**20)
    return {
        "numbers": size,
        "parameters": found.parameter_bytes,
        "compile_seconds": round(found.compile_seconds, 1),
        "operations": found.operations,
        "large_operations": large,
        "sent": found.sent_bytes,
        "flops": found.flops,
        "state": found.state_bytes,
        "temporaries": found.temporary_bytes,
        "seconds": [found.product_seconds, found.memory_seconds, found.network_seconds],
    }


def table(found: dict[str, Any]) -> str:
    """The results in Markdown, with date and versions above them."""
    about, results = found["about"], found["cases"]
    versions = ", ".join(f"{name} {about[name]}" for name in ("jax", "optax", "gradtx"))
    heads = ("model", "devices", "optimizer", "to compile", "operations", "sent", "products")
    heads += ("state", "temporaries", "at least", "of which products, memory, network")
    lines = [f"Compiled on {about['date']} with {versions}.", ""]
    lines += [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for key, case in results.items():
        model, devices, name = key.split("/")
        cells = [model, devices, f"`{name}`"]
        if "failed" in case:
            cells += [case["failed"].split(":")[0], *[""] * 7]
        else:
            times = [x or 0.0 for x in case["seconds"]]
            cells += [
                f"{case['compile_seconds']:.0f} s",
                f"{case['operations']:,}",
                f"{case['sent'] / 1e9:,.2f} GB",
                f"{case['flops'] / 1e12:,.1f} TFLOP",
                f"{case['state'] / 1e9:,.2f} GB",
                f"{case['temporaries'] / 1e9:,.2f} GB",
                f"{1e3 * max(times):,.0f} ms",
                ", ".join(f"{1e3 * x:,.0f}" for x in times) + " ms",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def overhead(found: dict[str, Any]) -> str:
    """In Markdown, what Muon adds to forward and backward pass, and what padding adds to Muon."""
    cases = found["cases"]
    heads = ("model", "devices", "forward and backward", "Muon", "per cent", "equal shares")
    heads += ("sent", "sent at least")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for model in MODELS:
        matrices = sum(math.prod(x) for x in shapes(model)["layers"].values() if len(x) == 3)
        # All numbers of layers are multiples of 8.
        whole = 8 * cases[f"{model}/8/gradtx.muon"]["flops"]
        for devices, mesh in MESHES.items():
            case = cases[f"{model}/{devices}/gradtx.muon"]
            training = 6 * case["numbers"] * TOKENS
            there_and_back = 2 * 4 * matrices * (mesh["data"] - 1) / mesh["data"] ** 2
            cells = [
                model,
                str(devices),
                f"{training / 1e12:,.0f} TFLOP",
                f"{case['flops'] / 1e12:,.1f} TFLOP",
                f"{100 * case['flops'] / training:.1f}",
                f"{whole / devices / 1e12:,.1f} TFLOP",
                f"{case['sent'] / 1e9:,.2f} GB",
                f"{there_and_back / 1e9:,.2f} GB",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(found: dict[str, Any]) -> None:
    """Replace the tables in the page."""
    tables = iter((table(found), overhead(found)))
    between = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
    PAGE.write_text(between.sub(lambda _: f"{BEGIN}\n\n{next(tables)}\n\n{END}", PAGE.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", default=[""], help="cases, or the beginnings of some")
    parser.add_argument("--again", action="store_true", help="plan what is known, too")
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    results = json.loads(FOUND.read_text())["cases"] if FOUND.exists() else {}
    cases = [f"{m}/{n}/{name}" for m in MODELS for n in MESHES for name in OPTIMIZERS]
    for key in [] if options.page else cases:
        chosen = any(key.startswith(start) for start in options.only)
        if chosen and (options.again or key not in results):
            model, devices, name = key.split("/")
            print(f"{model}, {devices} devices, {name}", flush=True)
            results[key] = planned(model, int(devices), name)
            results = {key: results[key] for key in cases if key in results}
            versions = {x.__name__: x.__version__ for x in (jax, optax, gradtx)}
            about = versions | {"date": datetime.date.today().isoformat()}
            FOUND.write_text(json.dumps({"about": about, "cases": results}, indent=1) + "\n")
    write_page(json.loads(FOUND.read_text()))


if __name__ == "__main__":
    main()
