"""`Transform`: a value with `init` and `update`, and what happens at its boundary.

    init(params) -> state
    update(updates, state, params=None, **extra) -> (updates, state)

The two public methods are the boundary between the caller and the library. They check that gradients,
parameters and state belong together, put None in place of every leaf that is not optimized, and round
the updates once, before they are returned. Inside this boundary a `Program` does the work: the
transformation lowered for one structure of parameters. The transformation caches its programs.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import optax

from gradtx._core import boundary
from gradtx._core.class_checks import check_class
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.pair import Pair
from gradtx._core.program import Program, known_program
from gradtx._core.schedule import at_step
from gradtx._core.terms import Stream
from gradtx._core.traits import traits_of
from gradtx._core.trees import PyTree, Structure, flatten
from gradtx._core.values import Value, mentions
from gradtx._core.wrong_call import wrong_call


class Transform(Value, Pair):
    """A gradient transformation as a value.

    Derive from `Transform` for an update that needs all arrays together, from `Elementwise` for one
    array at a time, from `Matrixwise` for one matrix at a time, from `Wrapper` for a transformation
    around another one, and from `Recipe` to give a composition a name.

    Subclasses provide `update_tree(updates, state, params, extra) -> (updates, state)` and, if there is
    a state, `init_tree(params) -> state`. Trees hold None in place of every leaf that is not updated.
    Entries of gradients that are too large to be squared are clipped before `update_tree` gets them. A
    class that never squares a gradient declares `linear = True`, and its gradients are not clipped.

    A field annotated `Transform` takes a transformation of gradtx or of Optax, and nothing else.
    A `Transform` is an `optax.GradientTransformationExtraArgs`, so `init, update = tx` unpacks it.
    `a / b`, `a * b`, `a + b` and `a - b` compose transformations in parallel, see `fanout`.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> class normalize(gradtx.Transform):
    ...     def update_tree(self, updates, state, params, extra):
    ...         norm = gradtx.global_norm(updates)
    ...         return jax.tree.map(lambda u: u / norm, updates), state
    >>> normalize().update(jnp.array([3.0, 4.0]), ())[0]
    Array([0.6, 0.8], dtype=float32)
    """

    _empty = tuple.__new__  # a `Pair` is a tuple without entries
    # The methods that a subclass may override; which of them it overrides decides how it is lowered.
    _hooks: ClassVar[tuple[str, ...]] = ("init_tree", "update_tree")
    _transforms: ClassVar[tuple[str, ...]] = ()  # the names of the fields that take transformations
    is_foreign: ClassVar[bool] = False
    keeps_zero: ClassVar[bool] = False  # whether zero updates stay zero, for `routing`
    keeps_updates: ClassVar[bool] = False  # whether the updates pass unchanged
    ignores_updates: ClassVar[bool] = False  # whether the new updates do not depend on them
    # A number that no entry of the updates is less than, if one is known.
    least: ClassVar[float | None] = None
    wide_updates: ClassVar[bool] = False  # whether `update` returns float32 at least
    # Checks and converts the content of a field that takes transformations; set by `foreign.py`.
    _adopt: ClassVar[Callable[..., Any]]
    wraps: ClassVar[bool] = False  # whether the class derives from `Wrapper`
    _calls: ClassVar[bool] = False  # whether the class overrides `update_tree`
    _gathers: ClassVar[bool] = False  # whether it needs the arrays of several leaves at once
    _evaluates: ClassVar[bool] = False  # whether it keeps parameters of its own to evaluate with
    measures: ClassVar[bool] = False  # whether the class overrides `measure`, see `Unit`
    begins: ClassVar[bool] = False  # whether the class overrides `begin`
    asks_schedules: ClassVar[bool] = True  # whether the library, not the class, evaluates schedules
    # The degree of each field of the state in the gradient: 1 for an average, 2 for a mean square.
    degrees: ClassVar[Mapping[str, int]] = {}

    if TYPE_CHECKING:
        linear: ClassVar[bool] = False
    else:

        @functools.cached_property
        def linear(self) -> bool:
            """Whether gradients of any size are taken without clipping. A composition asks its parts."""
            known = bool(self.children)
            for child in self.children:
                known = known and child.linear
            return known

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hints = cls._hints
        cls._transforms = tuple(n for n, hint in hints.items() if mentions(hint, Transform))
        cls._calls = cls.update_tree is not Transform.update_tree
        cls._evaluates = hasattr(cls, "eval_tree")
        check_class(cls, Transform)

    def __post_init__(self) -> None:
        for name in self._transforms:
            where = f"{type(self).__name__}({name}=...)"
            part = self._adopt(getattr(self, name), self._hints[name], where)
            object.__setattr__(self, name, part)
        super().__post_init__()

    def init(self, params: PyTree) -> Any:  # pyright: ignore
        """The state before the first step: a tree of arrays, sharded like their parameters.

        Args:
            params: the tree of parameters: arrays, or `jax.ShapeDtypeStruct`s.
        """
        leaves, structure = flatten(params)
        owned = [boundary.as_param(p) for p in leaves]
        return self.program(owned, structure).init(owned)

    def update(  # pyright: ignore
        self, updates: PyTree, state: Any, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Any]:
        """The updates of one step, which are to be added to the parameters, and the next state.

        Args:
            updates: the tree of gradients, with the structure and the shapes of the parameters.
            state: the state that `init` or the last `update` returned.
            params: the tree of parameters. It may be None if no transformation needs it.
            extra: more keyword arguments for transformations that use them, such as a loss.

        Raises:
            ValueError: if parameters are needed and were not passed, or if gradients and parameters
                differ in structure, shape or kind; the message names the path of the leaf.
        """
        boundary.check_mapped(self)
        gradients, structure = flatten(updates)
        owners = boundary.owners_of(gradients, structure, updates, params)
        todo, owned = [boundary.as_param(g) for g in gradients], owners
        if params is not None:
            owned = [boundary.as_param(p) for p in owners]
            todo = [None if p is None else g for g, p in zip(todo, owned, strict=True)]
        program = self.program(todo if params is None else owned, structure)
        extra = boundary.of_all_params(extra, owners, structure)
        try:
            out, new = program.update(todo, state, None if params is None else owned, extra)
        except Exception as error:
            if problem := wrong_call(self, program, state, params, error):
                raise ValueError(problem) from error
            raise
        return structure.unflatten(map(boundary.rounding_of(self), out, todo, owned, owners)), new

    def init_tree(self, params: PyTree) -> Any:
        """The state before the first step, for a class that has this transformation in a field.

        Args:
            params: the tree of parameters, with None in place of every leaf that is not optimized.
        """
        leaves, structure = flatten(params)
        if self._overrides("update_tree"):
            return optax.EmptyState()
        return self.program(leaves, structure).init(leaves)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        """One step, with neither the checks nor the rounding of `update`.

        Args:
            updates: the tree of gradients in float32 at least, None where a leaf is not updated.
            state: the state that `init_tree` or the last `update_tree` returned.
            params: the tree of parameters in float32 at least, or None if they were not passed.
            extra: the further keyword arguments that the caller passed to `update`.
        """
        leaves, structure = flatten(updates)
        owners = None if params is None else structure.flatten_up_to(params)
        program = self.program(leaves if owners is None else owners, structure)
        out, state = program.update(leaves, state, owners, extra)
        return structure.unflatten(out), state

    # Lowering

    def program(self, leaves: list[Any], structure: Structure) -> Program:
        """The transformation lowered for parameters of this structure and these shapes and dtypes."""
        return known_program(self, leaves, structure)

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        """The stream after this transformation, and the transformation's state with places for arrays.

        `lowering.py` describes streams, and `places.py` the places.
        """
        if self._overrides("update_tree"):
            return low.whole(self, stream)
        raise TypeError(
            f"`{type(self).__name__}` does not define `update_tree`. A subclass of `Transform` provides "
            "`update_tree(updates, state, params, extra)`; a subclass of `Elementwise` provides "
            "`update_leaf(update, state, param)`."
        )

    # What follows is asked of a value more than once. A cached answer lies in `__dict__`, where Python
    # finds it without a call.

    @functools.cached_property
    def children(self) -> tuple["Transform", ...]:
        """The transformations that the fields of this one hold."""
        found: list[Transform] = []
        for name in self._transforms:
            value = getattr(self, name)
            if isinstance(value, Transform):
                found.append(value)
            elif isinstance(value, dict | tuple):
                several = value.values() if isinstance(value, dict) else value
                found += [x for x in several if isinstance(x, Transform)]
        return tuple(found)

    traits = functools.cached_property(traits_of)

    @functools.cached_property
    def scheduled(self) -> tuple[str, ...]:
        """The names of the hyperparameters that are schedules."""
        found: list[str] = []
        for name in self._data if self.asks_schedules else ():
            if name not in self._transforms and callable(getattr(self, name)):
                found.append(name)
        return tuple(found)

    def at(self, step: Any) -> Self:
        """The transformation with each of its own schedules replaced by its value at a step."""
        own = type(self).__name__
        values = {n: at_step(getattr(self, n), step, f"{own}({n}=...)") for n in self.scheduled}
        return self._with(**values)

    @classmethod
    def _overrides(cls, hook: str) -> bool:
        return getattr(cls, hook, None) is not getattr(Transform, hook, None)

    def tex(self, g: Tex, page: Page) -> Tex:
        """The update in LaTeX, as an expression of the incoming updates `g`.

        `page` collects the definitions of its symbols. The default applies the class's name to `g`.
        """
        return page.unknown(type(self).__name__, g)
