"""What a compiled program computes and sends, counted from its text.

`gradtx.plan` counts in the same way. The file that counts is that of this clone, and not of the gradtx
that is measured, which may be older (`--source`).
"""

import importlib.util
import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_FILE = Path(__file__).parents[1] / "gradtx" / "_show" / "program_text.py"


def _loaded() -> ModuleType:
    """The module in this file, under a name of its own."""
    spec = importlib.util.spec_from_file_location("benchmarks.program_text", _FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


_counting = _loaded()
Collective, Products = _counting.Collective, _counting.Products
collectives, products = _counting.collectives, _counting.products

_LOWERED = re.compile(
    r'"stablehlo\.(all_to_all|all_gather)".* replica_groups = (.*)'
    r" : \(tensor<([\dx]+)x[a-z]+(\d+)>\) -> tensor<([\dx]+)x[a-z]+(\d+)>"
)


def lowered_collectives(text: str) -> list[Any]:
    """The exchanges and gathers in the StableHLO text of a lowered program, which XLA did not see yet.

    XLA:CPU computes and sends float32 in place of bfloat16. Only before XLA does a program show in which
    dtype matrices travel on other devices.
    """
    found = []
    sizes = {
        name: int(n) for name, n in re.findall(r'"(\w+)"=(\d+)', text)
    }  # of the axes of the mesh
    for kind, groups, *of_arrays in _LOWERED.findall(text):
        arrays = zip(of_arrays[::2], of_arrays[1::2], strict=True)
        size = max(math.prod(map(int, n.split("x"))) * int(bits) // 8 for n, bits in arrays)
        # JAX lists the devices of a group, or from version 0.12 on names the axes of the mesh.
        listed = re.search(r"tensor<\d+x(\d+)xi64>", groups)
        names = re.findall(r'name = "(\w+)"', groups)
        devices = int(listed[1]) if listed else math.prod(sizes[name] for name in names)
        found.append(Collective(kind.replace("_", "-"), size, devices, 1))
    return found
