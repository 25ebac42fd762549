"""A `state_dict` of an optimizer of PyTorch as nodes of a state, for `migrate`."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import scalar_dtype
from gradtx._core.static import show
from gradtx._training.nodes import Nodes, centered

_SCALARS = ("step", "mu_product")  # what PyTorch keeps for each parameter, and gradtx once for all


def is_torch_state(state: Any) -> bool:
    """Whether `state` is a `state_dict` of an optimizer of PyTorch."""
    return isinstance(state, dict) and {"state", "param_groups"} <= state.keys()


def torch_nodes(
    state: dict[str, Any], shapes: dict[str, tuple[int, ...]], names: Sequence[str | None] | None
) -> Nodes:
    """The nodes of a `state_dict`: for each group of parameters, those of its optimizer.

    Args:
        state: the `state_dict`, with arrays of NumPy or JAX, or with tensors in the memory of the host.
        shapes: the shapes of the parameters, by their paths.
        names: the paths of the parameters in PyTorch's order, with None for a parameter that does not
            exist here; or None for the order of `shapes`.

    Raises:
        ValueError: if the numbers of parameters or the shapes differ, or if a name is not a path.
    """
    groups = state["param_groups"]
    order = [i for group in groups for i in group["params"]]
    names = [*shapes] if names is None else [*names]
    if len(names) != len(order) or any(x is not None and x not in shapes for x in names):
        unknown = [x for x in names if x is not None and x not in shapes]
        problem = (
            f"{show(unknown[0])} is not the path of a parameter; the paths are {[*shapes]}"
            if unknown
            else f"the `state_dict` has {len(order)} parameters, and {len(names)} were named"
        )
        raise ValueError(
            f"`migrate(names=...)`: {problem}. Pass the paths of the parameters in the order of "
            "`model.named_parameters()`, with None for a parameter that does not exist here."
        )
    name_of = dict(zip(order, names, strict=True))
    arrays = {
        int(i): {key: x for key, x in own.items() if x is not None}
        for i, own in state["state"].items()
    }
    _check_shapes(arrays, name_of, shapes)
    found = Nodes({}, [], [], {}, from_torch=True)
    for number, group in enumerate(groups):
        _add_group(found, str(number), group, arrays, name_of)
    return found


def _check_shapes(arrays: Any, name_of: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    lines = []
    for i, own in arrays.items():
        name = name_of.get(i)
        for key, x in own.items():
            shape = np.shape(x)
            if name is None or key in _SCALARS or shape == shapes[name]:
                continue
            turned = ", which is transposed" if shape[::-1] == shapes[name] else ""
            lines.append(
                f"\n  - `{key}` of parameter {i} has shape {shape}{turned}; `{name}` has {shapes[name]}"
            )
            break
    if lines:
        raise ValueError(
            "`migrate`: the arrays of PyTorch do not have the shapes of the parameters:"
            f"{''.join(lines)}\n"
            "If the order is different, pass `names`. `torch.nn.Linear` keeps its weight as [out, in], "
            "and most libraries for JAX as [in, out]: transpose such arrays, and the square ones among "
            "them, before you call `migrate`."
        )


def _add_group(found: Nodes, label: str, group: Any, arrays: Any, name_of: Any) -> None:
    """Add the nodes of one group of parameters.

    Raises:
        ValueError: if the parameters of the group have taken different numbers of steps.
    """

    def add(node: str, field: str, param: str | None, x: Any, name: str) -> None:
        found.nodes.setdefault((label, node), {})[field, param] = len(found.leaves)
        found.leaves.append(x)
        found.names.append(name)

    is_muon = "ns_steps" in group  # its momentum is an average, and that of SGD is a sum
    scalars: dict[str, Any] = {}
    for i in group["params"]:
        own, param = arrays.get(i, {}), name_of[i]
        if param is None:
            continue
        for key in own.keys() & {*_SCALARS}:
            first = scalars.setdefault(key, (own[key], f"state/{i}/{key}"))
            if key == "step" and float(first[0]) != float(own[key]):
                raise ValueError(
                    f"`migrate`: parameter {i} (`{param}`) has taken {float(own[key]):g} steps, and "
                    f"another one of its group {float(first[0]):g}. gradtx counts the steps of a group "
                    "once: give these parameters a group of their own in `param_groups`, and a label of "
                    "their own in `partition`."
                )
        for node, key, field in _fields(own, is_muon):
            x = own[key]
            if node == "centered" and field == "nu":
                x = centered(own["grad_avg"], x).nu
                found.kinds[label, node] = "CenteredMomentState"
            add(node, field, param, x, f"state/{i}/{key}")
    if "step" in scalars:
        step, name = scalars["step"]
        step = jnp.asarray(float(step)).astype(jnp.int32)
        add("steps", "count", None, step, name)
        if (label, "adam") in found.nodes:
            add("adam", "count", None, step, name)
    if "mu_product" in scalars:
        product, name = scalars["mu_product"]
        log = np.log(max(float(product), 1e-300))  # the product may underflow
        add("adam", "log_kept", None, jnp.asarray([log, 0.0], scalar_dtype()), name)


def _fields(own: dict[str, Any], is_muon: bool) -> list[tuple[str, str, str]]:
    """For each array of a parameter: its node, its name in PyTorch, and its name in gradtx."""
    found = []
    if "exp_avg" in own:
        names = {"exp_avg": "mu", "exp_avg_sq": "nu", "max_exp_avg_sq": "nu_max"}
        found += [("adam", key, field) for key, field in names.items()]
    elif "acc_delta" in own:
        found += [("adadelta", "square_avg", "e_g"), ("adadelta", "acc_delta", "e_x")]
    elif "grad_avg" in own:
        found += [("centered", "grad_avg", "mu"), ("centered", "square_avg", "nu")]
    else:
        found += [("rmsprop", "square_avg", "nu"), ("adagrad", "sum", "sum_of_squares")]
    found.append(("momentum", "momentum_buffer", "mu" if is_muon else "trace"))
    return [x for x in found if x[1] in own]
