"""`in_basis`: a transformation that acts in another basis than that of the parameters."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from gradtx._bases.arithmetic import structure_of_state
from gradtx._bases.basis import Basis, check_basis
from gradtx._bases.leaf import basis_leaves
from gradtx._bases.step import Step
from gradtx._bases.traffic import gathering, sends
from gradtx._compose.chain import identity
from gradtx._compose.wrapper import Wrapper
from gradtx._core.branches import choose
from gradtx._core.foreign import AsTransform
from gradtx._core.inside import Leaves
from gradtx._core.latex import Page, Tex, escape, times
from gradtx._core.layouts import add_adviser
from gradtx._core.lowering import Lowering
from gradtx._core.schedule import next_count
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, Structure, flatten
from gradtx._matrices.axes import MatrixRule, hidden_matrices


class InBasisState(NamedTuple):
    """The state of `in_basis`.

    Attributes:
        count: the number of steps.
        basis: the state of the basis, with a tree like the parameters in each of its fields.
        signal: the state of `signal`.
        inner: the state of `inner`, whose arrays are in the basis.
    """

    count: Any
    basis: Any
    signal: Any
    inner: Any


class in_basis(Transform):
    r"""Let a transformation act in another basis, which may learn from the gradients.

    $$ u = B^H f(B\, s(g)) $$

    where $f$ is `inner` and $s$ is `signal`. Every matrix has its own basis $B$. The return is the
    adjoint $B^H$ and not the inverse, because a gradient is a covector. For a rotation the two are
    equal. For a whitening $B = L^{-1/8} \otimes R^{-1/8}$, $B^H B$ is Shampoo; for a projection $B$ to a
    low rank, only the adjoint exists.

    The basis learns from the gradient $g$, also where `signal` is a momentum. Any transformation may
    stand inside. It meets every matrix in the shape and under the path of its leaf. If the basis is a
    rotation, `inner` gets the parameters in the basis. Otherwise parameters have no coordinates there,
    and a transformation that needs them, such as a weight decay, belongs behind `in_basis`.

    Args:
        basis: the change of basis, such as `eigenbasis()`.
        inner: the transformation $f$, of gradtx or of Optax.
        signal: the transformation $s$, of gradtx or of Optax. The default passes the gradient on.
        on_refresh: what happens to the state of `inner` when the basis changes. "carry" takes every
            array into the new basis by its degree in the gradient, as the class of the basis says;
            "keep" leaves all numbers unchanged; "reset" starts `inner` anew.
        axes: the rule that says which axes of a leaf are its matrix.

    The state is `InBasisState(count, basis, signal, inner)`.

    Under `vmap`, a refresh remains a branch that costs nothing on the other steps if the state is made
    inside of the mapped function. If the states come from outside, JAX computes the refresh at every
    step.

    Raises:
        TypeError: if `basis` is not a basis, if `inner` or `signal` is not a transformation, or if
            `on_refresh` is "carry" and the state of `inner` has an array of unknown degree.
        ValueError: if a leaf has fewer than two axes, or if `inner` needs the parameters and the basis
            is not known to be a rotation.

    Source: Vyas et al., 2024, arXiv:2409.11321, for the basis of eigenvectors (SOAP). The classes of the
    bases name their own sources.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.in_basis(gradtx.eigenbasis(), gradtx.clip(1.5))
    >>> w = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> u, state = tx.update(w, tx.init(w))  # the first step teaches the basis alone
    >>> jnp.round(tx.update(w, state)[0], 3)  # the singular values 3 and 1 are clipped
    Array([[1.25, 0.25],
           [0.25, 1.25]], dtype=float32)
    """

    basis: Basis
    inner: AsTransform
    signal: AsTransform = identity()  # pyright: ignore[reportAssignmentType]
    on_refresh: Literal["carry", "keep", "reset"] = "carry"
    axes: MatrixRule = hidden_matrices()
    keeps_zero = True  # if both parts do
    linear = False  # a product with a basis sums products of entries, which must stay finite

    def validate(self) -> None:
        check_basis(self, "basis")

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        add_adviser(low, gathering)
        return super().lower(low, stream)

    def init_tree(self, params: PyTree) -> InBasisState:
        owned, structure = flatten(params)
        leaves = basis_leaves(self.basis, self.axes, owned, structure)
        form = structure_of_state(self.basis)
        states = [None if x is None else form.flatten_up_to(x.init()) for x in leaves]
        columns = [
            structure.unflatten([None if own is None else own[k] for own in states])
            for k in range(form.num_leaves)
        ]
        inside = [None if x is None else x.first(p) for x, p in zip(leaves, owned, strict=True)]
        return InBasisState(
            jnp.zeros((), jnp.int32),
            form.unflatten(columns),
            self.signal.init_tree(params),
            self.inner.program(inside, structure).init(inside),
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, InBasisState]:
        given, structure = flatten(updates)
        owned = None if params is None else structure.flatten_up_to(params)
        step = Step(self, given, owned, structure, state)
        if self.basis.learns_first:
            step.learn(given)

        def act() -> Any:
            signal, new = self.signal.update_tree(updates, state.signal, params, extra)
            out = step.act(structure.flatten_up_to(signal), extra)
            return out[0], new, out[1]

        def rest() -> Any:
            still = [None if x is None else -jnp.zeros_like(x) for x in given]
            return still, state.signal, step.inner

        if self.basis.skips_first:
            out, signal, step.inner = choose(state.count > 0, act, rest)
        else:
            out, signal, step.inner = act()
        if not self.basis.learns_first:
            step.learn(given)
        new = InBasisState(next_count(state.count), step.basis_state(), signal, step.inner)
        return structure.unflatten(out), new

    def given_inside(self, leaves: Leaves, structure: Structure) -> list[tuple[Any, Leaves]]:
        """What the parts are given (`gradtx/_core/inside.py`): smaller matrices are on all devices."""
        bases = basis_leaves(self.basis, self.axes, leaves, structure)
        inside = [
            x and basis and (x if basis.shape_inside == basis.shape else basis.inside())
            for basis, x in zip(bases, leaves, strict=True)
        ]
        return [(self.signal, leaves), (self.inner, inside)]

    def returned(
        self, step: Step, out: list[Any], inside: list[Any], given: list[Any]
    ) -> list[Any]:
        """The updates of all leaves, from what `inner` returned in the basis.

        Args:
            step: the present step.
            out: what `inner` returned.
            inside: what `inner` was given.
            given: the signal.
        """
        return step.back(out, given)

    inner_of = Wrapper.inner_of
    sends = sends

    def tex(self, g: Tex, page: Page) -> Tex:
        words = r"\text{: the change to the basis of a matrix, of the kind }"
        words += rf"\mathrm{{{escape(type(self.basis).__name__)}}}"
        name = "B"
        while page.notes.setdefault(name, words) != words:
            name += "'"
        page.notes.setdefault(r"\cdot^H", r"\text{: the adjoint}")
        inside = page.define("x", lambda _: times(Tex(name), self.signal.tex(g, page)))
        return times(Tex(f"{name}^H"), self.inner.tex(inside, page))
