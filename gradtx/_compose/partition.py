"""Spatial composition: every leaf goes to the transformation that its label names."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.rules import as_rule, label_leaves, mask_leaves
from gradtx._core.elementwise import Elementwise
from gradtx._core.foreign import as_transform
from gradtx._core.static import frozendict
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten, paths


class PartitionState(NamedTuple):
    """The state of every group, by label; leaves that a group does not own are None in it."""

    inner_states: Any


class partition(Transform):
    """Different transformations for different leaves.

    `partition({"muon": muon(2e-3), "adamw": adamw(3e-4)}, by_path({"embed|bias": "adamw"}, "muon"))`.

    Args:
        transforms: by label.
        param_labels: a rule `(path, leaf) -> label`, a tree of labels (or a prefix of one), or a
            function from the parameters to such a tree. It decides from names and shapes alone.

    A leaf whose label names no transformation is a `ValueError` with its path; a label without leaves
    is not. Leaves that a group does not own cost it no state. Raises `TypeError` for `transforms` that
    are no mapping from labels of one type.

    >>> import gradtx, jax.numpy as jnp
    >>> rule = gradtx.by_path({"bias": "slow"}, otherwise="fast")
    >>> tx = gradtx.partition({"fast": gradtx.sgd(1.0), "slow": gradtx.sgd(0.1)}, rule)
    >>> params = {"bias": jnp.ones(1), "kernel": jnp.ones(1)}
    >>> tx.update(params, tx.init(params))[0]
    {'bias': Array([-0.1], dtype=float32), 'kernel': Array([-1.], dtype=float32)}
    """

    transforms: Mapping[str, Transform]
    param_labels: Any

    def __post_init__(self) -> None:
        given = self.transforms
        if not isinstance(given, Mapping) or len({type(label) for label in given}) > 1:
            raise TypeError(
                "`partition(transforms=...)` must map labels, all of one type, to transformations; "
                f"it is {given!r}."
            )
        groups = {k: as_transform(tx, "partition(transforms)") for k, tx in self.transforms.items()}
        object.__setattr__(self, "transforms", frozendict(groups))
        object.__setattr__(self, "param_labels", as_rule(self.param_labels))
        super().__post_init__()

    @property
    def needs_params(self) -> bool:  # pyright: ignore
        return any(tx.needs_params for tx in self.transforms.values())

    def labels(self, params: PyTree) -> list[Any]:
        """The label of every leaf, in order; None where there is nothing to optimize."""
        labels = label_leaves(self.param_labels, params, "partition(param_labels=...)")
        for i, (leaf, label) in enumerate(zip(flatten(params)[0], labels, strict=True)):
            if leaf is not None and label not in self.transforms:
                raise ValueError(
                    f"`partition`: the leaf `{paths(params)[i]}` of shape {leaf.shape} has the label "
                    f"{label!r}, which names none of the transformations {sorted(self.transforms)}."
                )
        return labels

    def init_tree(self, params: PyTree) -> PartitionState:
        labels = self.labels(params)
        return PartitionState(
            {k: tx.init_tree(only(params, labels, k)) for k, tx in self.transforms.items()}
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        # Rules see the parameters, as at init, also where this step has no gradient.
        labels = self.labels(updates if params is None else params)
        out, states = flatten(updates)[0], {}
        for label, tx in self.transforms.items():
            own = None if params is None else only(params, labels, label)
            gradients = only(updates, labels, label)
            mine, states[label] = tx.update_tree(gradients, state.inner_states[label], own, extra)
            out = [
                m if at == label else u
                for u, m, at in zip(out, flatten(mine)[0], labels, strict=True)
            ]
        return flatten(updates)[1].unflatten(out), PartitionState(states)


def only(tree: PyTree, labels: list[Any], label: Any) -> PyTree:
    """`tree` with None for every leaf that has another label."""
    leaves, structure = flatten(tree)
    return structure.unflatten(
        [x if at == label else None for x, at in zip(leaves, labels, strict=True)]
    )


class MaskedState(NamedTuple):
    """The state of the inner transformation; leaves outside the mask are None in it."""

    inner_state: Any


class masked(Transform):
    """A transformation for some leaves; outside the mask updates pass through, as in Optax.

    To hold the rest still instead, put `freeze()` there: `partition` with two labels.

    Args:
        inner: the transformation.
        mask: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the tree to one.

    Raises `TypeError` if `inner` is no transformation, `ValueError` for a mask that does not fit.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.masked(gradtx.scale(2.0), gradtx.by_path({"kernel": True}, otherwise=False))
    >>> params = {"bias": jnp.ones(1), "kernel": jnp.ones(1)}
    >>> tx.update(params, tx.init(params))[0]
    {'bias': Array([1.], dtype=float32), 'kernel': Array([2.], dtype=float32)}
    """

    inner: Transform
    mask: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", as_transform(self.inner, "masked(inner)"))
        object.__setattr__(self, "mask", as_rule(self.mask))
        super().__post_init__()

    @property
    def needs_params(self) -> bool:  # pyright: ignore
        return self.inner.needs_params

    def init_tree(self, params: PyTree) -> MaskedState:
        inside = mask_leaves(self.mask, params, "masked")
        return MaskedState(self.inner.init_tree(only(params, inside, True)))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        inside = mask_leaves(self.mask, updates if params is None else params, "masked")
        own = None if params is None else only(params, inside, True)
        mine, inner = self.inner.update_tree(
            only(updates, inside, True), state.inner_state, own, extra
        )
        leaves, structure = flatten(updates)
        out = [m if at else u for u, m, at in zip(leaves, flatten(mine)[0], inside, strict=True)]
        return structure.unflatten(out), MaskedState(inner)


class freeze(Elementwise):
    """Leaves that stay as they are: $u = -0$, which leaves every number bitwise untouched, no state.

    Args:
        mask: which leaves to freeze, as in `masked`; the others pass through. By default all.

    Raises `ValueError` for a mask that does not fit, `TypeError` for one that says words.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.freeze().update(jnp.ones(2), ())[0]
    Array([-0., -0.], dtype=float32)
    """

    mask: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", as_rule(self.mask))
        super().__post_init__()

    def marks(self, params: PyTree) -> list[Any] | None:
        return None if self.mask is None else mask_leaves(self.mask, params, "freeze")

    def marked(self, mark: Any) -> Elementwise:
        return self._with(mask=None if mark else False)

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return (update if self.mask is False else jnp.asarray(-0.0, update.dtype)), state
