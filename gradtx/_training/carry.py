"""`migrate`: a run goes on with another optimizer, which takes over what it knows of the old state."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.authors import described
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.random_bits import bits_of_keys
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, is_inexact, leaf_items, paths, unboxed
from gradtx._training.matching import Matching
from gradtx._training.nodes import nodes_of
from gradtx._training.torch_state import is_torch_state, torch_nodes


class Migration(NamedTuple):
    """What `migrate` did, as paths in the states. It prints as a list of what was not carried over.

    Args:
        carried: pairs of paths: of an array in the new state, and of this array in the old one.
        started: arrays of the new state that start as `init` makes them.
        left: arrays of the old state that the new state does not have.
        notes: sentences about counters that differ, and about arrays that mean something else.
    """

    carried: tuple[tuple[str, str], ...]
    started: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        lines = [f"{len(self.carried)} arrays are carried over."]
        for title, names in (
            ("start as `init` makes them", self.started),
            ("of the old state are not used", self.left),
        ):
            lines += [f"{len(names)} arrays {title}:", *(f"  {x}" for x in names)] if names else []
        return "\n".join([*lines, *self.notes])


def migrate(
    state: PyTree,
    tx: Transform,
    params: PyTree,
    report: Callable[[Migration], Any] | None = None,
    names: Sequence[str | None] | None = None,
) -> Any:
    """The state with which `tx` continues a run that another optimizer began.

    `state = migrate(state, new_tx, params)` is for a change in the middle of a run: a layer is no longer
    frozen, a schedule takes the place of a number, a link joins the chain, `adam` becomes `adamw`.

    An array is carried over if the old state has an array of this name and shape, for the same
    parameter, in a node with the same fields. So Adam's `mu` and `nu` are carried over together or not
    at all. Where several nodes fit, labels decide, and then the order. All other arrays start as `init`
    makes them.

    A counter that all parameters share, such as Adam's `count`, goes with the arrays beside it, and
    starts at 0 if all of these start. Where only some start, the counter is too large for them, and the
    first steps of their parameters are too large: by a factor of 3 under Adam. So give parameters that
    join the run a label of their own in `partition`. The step of the learning rate always continues.

    From a state of Optax, the step of the learning rate is the count of Optax's schedule, or another
    counter of the state. Where the two libraries keep different things under one name, they are
    converted.

    From PyTorch, `state` is the `state_dict` of an optimizer, whose arrays have the shapes of `params`.
    `torch.nn.Linear` keeps its weight as [out, in]: if it is [in, out] in `params`, transpose its arrays
    first, also those that are square. Make `tx` with `convention="torch"`. Adam, AdamW, AMSGrad, NAdam,
    SGD, RMSProp, Adagrad, Adadelta and Muon are known. PyTorch's SGD and Muon do not count steps, so the
    step of their learning rate starts at 0.

    Names and shapes decide, and not the settings of the optimizers: nothing is converted between two
    settings under which one name has two meanings, such as `max_of_raw` of `amsgrad` and `lr_inside`.

    Args:
        state: the state of the old optimizer, of gradtx or of Optax; or what has it as `opt_state`, such
            as `nnx.Optimizer` and `TrainState` of Flax; or a `state_dict` of an optimizer of PyTorch.
        tx: the new optimizer.
        params: the parameters.
        report: a function that is called with the `Migration`, which lists what was carried over and
            what was not, such as `print`.
        names: for a `state_dict` of PyTorch alone: the paths of the parameters in the order of
            `model.named_parameters()`, such as `layers/0/kernel`, with None for a parameter that is not
            in `params`. None means that the order is that of the leaves of `params`.

    Raises:
        ValueError: if no array of the old state is carried over, or if the arrays of PyTorch do not have
            the shapes of the parameters.
        TypeError: if `tx` is not a transformation, or if `names` is passed for another state.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"w": jnp.ones(2)}
    >>> state = gradtx.adam(1e-3).init(params)
    >>> tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-3))
    >>> state = gradtx.migrate(state, tx, params, report=print)
    5 arrays are carried over.
    """
    check_arguments(migrate, locals())
    as_transform(tx, "migrate(tx=...)")
    state, params = unboxed(getattr(state, "opt_state", state)), unboxed(params)
    known = set(paths(params))
    fresh = tx.init(params)
    new = nodes_of(fresh, known)
    if is_torch_state(state):
        shapes = {path: x.shape for path, x in leaf_items(params) if is_inexact(x)}
        old = torch_nodes(state, shapes, names)
    elif names is not None:
        raise TypeError(
            "`migrate(names=...)` is for a `state_dict` of PyTorch, with the entries `state` and "
            f"`param_groups`; this state is {described(state)}."
        )
    else:
        old = nodes_of(bits_of_keys(state), known)
    matching = Matching(new, old)
    source = matching.source
    if old.leaves and not source:
        raise ValueError(
            f"`migrate`: the state of `{tx}` has no array in common with the state that was passed, "
            f"{described(state)}. Start with `tx.init(params)`, or pass the state of the old optimizer."
        )
    leaves = [*new.leaves]
    used: set[int] = set()
    for i, j in source.items():
        # An array with two places would be donated twice, so its second place gets a copy.
        leaves[i] = jnp.array(old.leaves[j], leaves[i].dtype, copy=j in used)
        used.add(j)
    if report is not None:
        report(
            Migration(
                tuple((new.names[i], old.names[j]) for i, j in source.items()),
                tuple(name for i, name in enumerate(new.names) if i not in source),
                tuple(name for j, name in enumerate(old.names) if j not in used),
                tuple(matching.notes),
            )
        )
    return jax.tree.unflatten(jax.tree.structure(fresh), leaves)
