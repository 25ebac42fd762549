"""Spatial composition: `partition` and `masked`, which treat different leaves differently."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optax

from gradtx._compose.by import by_path
from gradtx._compose.labels import as_mask, as_rule, label_leaves, mask_leaves, rule_name
from gradtx._core.authors import described
from gradtx._core.foreign import AsTransform, Inside
from gradtx._core.latex import OTHERWISE, Page, Tex, cases, escape, if_rule
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform

# Like `AsTransform`, for the mapping of a partition.
if TYPE_CHECKING:

    class _AsTransforms:
        def __get__(self, instance: Any, owner: Any = None) -> Mapping[Any, Inside]: ...
        def __set__(
            self, instance: Any, value: Mapping[Any, optax.GradientTransformation]
        ) -> None: ...
else:
    _AsTransforms = Mapping[str, Inside]


class partition(Transform):
    """Apply to every leaf the transformation that the leaf's label names.

    `partition({"muon": muon(2e-3), "adamw": adamw(3e-4)}, by_path({"embed|bias": "adamw"}, "muon"))`.

    Args:
        transforms: a mapping from labels, all of one type, to transformations.
        param_labels: a rule `(path, leaf) -> label`, a tree of labels, which may be a prefix of the
            parameters' tree, or a function from the parameters to such a tree. A label may depend on
            the path and the shape of a leaf, but not on its entries.

    The state is `optax.transforms.PartitionState`. It holds the state of each transformation for the
    leaves with its label alone. A label may be without leaves.

    Raises:
        ValueError: if a label of `by_path` is not in `transforms`; and by `init`, if the label of a leaf
            is not in `transforms`, with the path of the leaf, or if the tree of labels does not fit the
            parameters.
        TypeError: if `transforms` is not a mapping, if its labels differ in type, or if it holds
            something that is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> rule = gradtx.by_path({"bias": "slow"}, otherwise="fast")
    >>> tx = gradtx.partition({"fast": gradtx.sgd(1.0), "slow": gradtx.sgd(0.1)}, rule)
    >>> params = {"bias": jnp.ones(1), "kernel": jnp.ones(1)}
    >>> tx.update(params, tx.init(params))[0]
    {'bias': Array([-0.1], dtype=float32), 'kernel': Array([-1.], dtype=float32)}
    """

    transforms: _AsTransforms
    param_labels: Any
    instead = {
        "mask_compatible_extra_args": "leave it out, since extra arguments are handed on unchanged"
    }

    def __post_init__(self) -> None:
        given = self.transforms
        if not isinstance(given, Mapping) or len({type(label) for label in given}) > 1:
            raise TypeError(
                "`partition(transforms=...)` must be a mapping from labels, all of one type, to "
                f"transformations, not {described(given)}."
            )
        if self.param_labels is None:
            raise TypeError(
                "`partition(param_labels=None)` must be a rule, a tree of labels, or a function that "
                "returns such a tree."
            )
        rule = as_rule(self.param_labels)
        for label in rule.labels if isinstance(rule, by_path) else ():
            if label not in given:
                raise ValueError(
                    f"`partition`: the label {label!r} of `{rule}` is not one of the labels of "
                    f"`transforms`, {[*given]}."
                )
        object.__setattr__(self, "param_labels", rule)
        super().__post_init__()

    def labels(self, low: Lowering, stream: Stream) -> list[Any]:
        """The label of every leaf, in order; a leaf of the stream must have one of `transforms`."""
        labels = low.once(
            ("labels", self.param_labels),
            lambda: label_leaves(self.param_labels, low, "partition(param_labels=...)"),
        )
        for i, (term, label) in enumerate(zip(stream, labels, strict=True)):
            if term is not None and label not in self.transforms:
                raise ValueError(
                    f"`partition`: the leaf `{low.paths[i]}` of shape {low.leaves[i].shape} has the "
                    f"label {label!r}, which is not one of the labels of `transforms`, "
                    f"{sorted(self.transforms)}."
                )
        return labels

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        labels, out, states = self.labels(low, stream), list(stream), {}
        for label, tx in self.transforms.items():
            inside = [at == label for at in labels]
            new, state = low.lower(tx, select(stream, inside))
            out = [n if own else u for n, own, u in zip(new, inside, out, strict=True)]
            states[label] = optax.MaskedState(state)
        return out, optax.transforms.PartitionState(states)

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        rows = []
        for label, tx in self.transforms.items():
            where = rf"\text{{for leaves labeled }}\mathrm{{{escape(str(label))}}}"
            rows.append((tx.tex(g, page), where))
        return cases(*rows)


multi_transform = partition  # Optax's older name


def select(stream: Stream, inside: list[bool]) -> Stream:
    """The stream restricted to the leaves with True in `inside`; all others become None."""
    return [term if own else None for term, own in zip(stream, inside, strict=True)]


class masked(Transform):
    """Apply a transformation to some leaves, and return the gradients of all others unchanged.

    To freeze the other parameters instead, use a `partition` with `freeze()` for the second label.

    Args:
        inner: the transformation.
        mask: which leaves `inner` is applied to: a rule `(path, leaf) -> bool`, a tree of bools, which
            may be a prefix of the parameters' tree, or a function from the parameters to such a tree.

    The state is `optax.MaskedState`, which holds the state of `inner` for the leaves inside the mask.

    Raises:
        ValueError: if the tree of bools does not fit the parameters.
        TypeError: if `inner` is not a transformation, or if the mask says something other than True or
            False.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.masked(gradtx.scale(2.0), gradtx.by_path({"kernel": True}, otherwise=False))
    >>> params = {"bias": jnp.ones(1), "kernel": jnp.ones(1)}
    >>> tx.update(params, tx.init(params))[0]
    {'bias': Array([1.], dtype=float32), 'kernel': Array([2.], dtype=float32)}
    """

    inner: AsTransform
    mask: Any
    instead = {
        "mask_compatible_extra_args": "leave it out, since extra arguments are handed on unchanged"
    }

    def __post_init__(self) -> None:
        if self.mask is None:
            raise TypeError(
                "`masked(mask=None)` must be a rule, a tree of bools, or a function that returns one."
            )
        object.__setattr__(self, "mask", as_mask(self.mask))
        super().__post_init__()

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        inside = low.once(("mask", self.mask), lambda: mask_leaves(self.mask, low, "masked"))
        new, state = low.lower(self.inner, select(stream, inside))
        out = [n if own else u for n, own, u in zip(new, inside, stream, strict=True)]
        return out, optax.MaskedState(state)

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        return cases((self.inner.tex(g, page), if_rule(rule_name(self.mask))), (g, OTHERWISE))
