"""`Transform`: a value with `init` and `update`, and what happens at its boundary.

    init(params) -> state
    update(updates, state, params=None, **extra) -> (updates, state)

The two public methods are the boundary. They check that gradients, parameters and state belong
together, put `None` where there is nothing to optimize, and round once, on the way out. Between them
lies the lowered form (`program.py`), made once for each structure of parameters and kept on the value.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import optax

from gradtx._core import boundary
from gradtx._core.dtypes import scalar_dtype
from gradtx._core.latex import Page, Tex, call
from gradtx._core.lowering import Lowering
from gradtx._core.pair import Pair
from gradtx._core.program import Program
from gradtx._core.schedule import at_step
from gradtx._core.terms import Stream
from gradtx._core.trees import PyTree, Structure, flatten
from gradtx._core.values import Hyper, Value, mentions

if TYPE_CHECKING:
    from gradtx._compose.fanout import fanout


class Transform(Value, Pair):
    """A gradient transformation as a value.

    Subclass it for what works on whole trees: declare fields, write `init_tree` and `update_tree`
    (trees hold `None` where there is nothing to do). For what works on one array at a time subclass
    `Elementwise`, on one matrix at a time `Matrixwise`, around another transformation `Wrapper`; for
    an optimizer that is a composition, `Recipe`.

    Subclasses provide `update_tree(updates, state, params, extra) -> (updates, state)`, where `params`
    is None if they were not passed and `extra` holds the keyword arguments of `update`, and, if there
    is a state, `init_tree(params) -> state`. Gradients come bounded to what can be squared, unless the
    class declares `linear = True`. A field annotated `Transform` takes gradtx's transformations and
    Optax's, and nothing else.

    It is an `optax.GradientTransformationExtraArgs`, and `init, update = tx` unpacks it. `a / b`,
    `a * b`, `a + b`, `a - b` compose in parallel, see `fanout`.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> class normalize(gradtx.Transform):
    ...     def update_tree(self, updates, state, params, extra):
    ...         norm = gradtx.global_norm(updates)
    ...         return jax.tree.map(lambda u: u / norm, updates), state
    >>> normalize().update(jnp.array([3.0, 4.0]), ())[0]
    Array([0.6, 0.8], dtype=float32)
    """

    _empty = tuple.__new__
    # The hooks of which a class may override some; what it overrides decides how it is carried out.
    _hooks: ClassVar[tuple[str, ...]] = ("init_tree", "update_tree")
    _transforms: ClassVar[tuple[str, ...]] = ()
    is_foreign: ClassVar[bool] = False
    # How a field that takes transformations takes its value; attached by `foreign.py`.
    _adopt: ClassVar[Callable[..., Any]]
    # Whether it is a wrapper: then it gets what its inner transformation made, and what that was given.
    wraps: ClassVar[bool] = False
    measures: ClassVar[bool] = False
    begins: ClassVar[bool] = False
    # Whether the class takes its schedules' values from the library, rather than ask them itself.
    asks_schedules: ClassVar[bool] = True
    # For each field of the state, its degree in the gradient: 1 for an average, 2 for one of squares.
    degrees: ClassVar[Mapping[str, int]] = {}

    if TYPE_CHECKING:
        linear: ClassVar[bool] = False
    else:

        @property
        def linear(self) -> bool:
            """Whether gradients of any size may come in; of a composition, whether all inside say so."""
            known = self.__dict__.get("_linear")
            if known is None:
                known = bool(self.children)
                for child in self.children:
                    known = known and child.linear
                self.__dict__["_linear"] = known
            return known

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hints = cls._hints
        cls._transforms = tuple(n for n, hint in hints.items() if mentions(hint, Transform))
        boundary.check_class(cls, Transform)

    def __post_init__(self) -> None:
        for name in self._transforms:
            where = f"{type(self).__name__}({name}=...)"
            part = self._adopt(getattr(self, name), self._hints[name], where)
            object.__setattr__(self, name, part)
        super().__post_init__()

    def init(self, params: PyTree) -> Any:  # pyright: ignore
        """The state before the first step: arrays only, shaped and sharded like the parameters."""
        leaves, structure = flatten(params)
        owned = [boundary.as_param(p) for p in leaves]
        return self.program(owned, structure).init(owned)

    def update(  # pyright: ignore
        self, updates: PyTree, state: Any, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Any]:
        """One step: the updates to add to the parameters, and the next state.

        Raises `ValueError` if `params` are needed and not given, or if structure, shape or kind of a
        gradient differ from its parameter's; the message names the leaf's path.
        """
        boundary.check_mapped(self)
        gradients, structure = flatten(updates)
        owners = boundary.owners_of(gradients, structure, updates, params)
        todo, owned = [boundary.as_param(g) for g in gradients], owners
        if params is not None:
            owned = [boundary.as_param(p) for p in owners]
            todo = [None if p is None else g for g, p in zip(todo, owned, strict=True)]
        program = self.program(todo if params is None else owned, structure)
        try:
            out, new = program.update(todo, state, None if params is None else owned, extra)
        except Exception as error:
            if problem := boundary.foreign_state(self, program, state, error):
                raise ValueError(problem) from error
            raise
        rounded = map(boundary.round_update, out, todo, owned, owners)
        return structure.unflatten(list(rounded)), new

    def init_tree(self, params: PyTree) -> Any:
        """The state for a tree of parameters, None where there is nothing to do."""
        leaves, structure = flatten(params)
        if self._overrides("update_tree"):
            return optax.EmptyState()
        return self.program(leaves, structure).init(leaves)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        """One step on a tree of updates, without checks or rounding."""
        leaves, structure = flatten(updates)
        owners = None if params is None else structure.flatten_up_to(params)
        program = self.program(leaves if owners is None else owners, structure)
        out, state = program.update(leaves, state, owners, extra)
        return structure.unflatten(out), state

    # Lowering

    def program(self, leaves: list[Any], structure: Structure) -> Program:
        """The lowered form for parameters of this structure and these shapes, made once."""
        arrays = tuple([None if x is None else (x.shape, x.dtype) for x in leaves])
        key = structure, arrays, scalar_dtype()
        known = self.__dict__.setdefault("_programs", {})
        if key not in known:
            if len(known) >= 8:
                del known[next(iter(known))]
            shapes = [None if k is None else jax.ShapeDtypeStruct(*k) for k in key[1]]
            known[key] = Program(self, shapes, structure)
        return known[key]

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        """The stream after this transformation, and its state in numbers of cells (`program.py`)."""
        if self._overrides("update_tree"):
            return low.whole(self, stream)
        raise TypeError(
            f"`{type(self).__name__}` defines no `update_tree`. A subclass of `Transform` provides "
            "`update_tree(updates, state, params, extra)`; one of `Elementwise` provides `update_leaf`."
        )

    @property
    def children(self) -> tuple["Transform", ...]:
        """The transformations in the fields."""
        if "_children" not in self.__dict__:
            found: list[Transform] = []
            for name in self._transforms:
                value = getattr(self, name)
                if isinstance(value, Transform):
                    found.append(value)
                elif isinstance(value, dict | tuple):
                    several = value.values() if isinstance(value, dict) else value
                    found += [x for x in several if isinstance(x, Transform)]
            self.__dict__["_children"] = tuple(found)
        return self.__dict__["_children"]

    @property
    def whole(self) -> bool:
        """Whether something inside has to see arrays of more than one leaf before it goes on."""
        if "_whole" not in self.__dict__:
            known = self.measures or type(self).update_tree is not Transform.update_tree
            for child in self.children:
                known = known or child.whole
            self.__dict__["_whole"] = known
        return self.__dict__["_whole"]

    @property
    def scheduled(self) -> tuple[str, ...]:
        """The hyperparameters that are schedules."""
        if "_scheduled" not in self.__dict__:
            found: list[str] = []
            for name in self._data if self.asks_schedules else ():
                if name not in self._transforms and callable(getattr(self, name)):
                    found.append(name)
            self.__dict__["_scheduled"] = tuple(found)
        return self.__dict__["_scheduled"]

    def at(self, step: Any) -> Self:
        """The transformation with the values of its own schedules at a step."""
        own = type(self).__name__
        values = {n: at_step(getattr(self, n), step, f"{own}({n}=...)") for n in self.scheduled}
        return self._with(**values)

    @classmethod
    def _overrides(cls, hook: str) -> bool:
        return getattr(cls, hook, None) is not getattr(Transform, hook, None)

    def tex(self, g: Tex, page: Page) -> Tex:
        """The update for the updates `g` as an equation; what has a memory goes to the page.

        By default the transformation is a function of its name.
        """
        return call(type(self).__name__, g)

    # The operators, and their reflections, are attached by `fanout`.

    if TYPE_CHECKING:

        def __truediv__(self, other: "Transform | Hyper") -> "fanout": ...
        def __rtruediv__(self, other: Hyper) -> "fanout": ...
        def __mul__(self, other: "Transform | Hyper") -> "fanout": ...  # pyright: ignore
        def __rmul__(self, other: Hyper) -> "fanout": ...  # pyright: ignore
        def __add__(self, other: "Transform | Hyper") -> "fanout": ...  # pyright: ignore
        def __radd__(self, other: Hyper) -> "fanout": ...
        def __sub__(self, other: "Transform | Hyper") -> "fanout": ...
        def __rsub__(self, other: Hyper) -> "fanout": ...
