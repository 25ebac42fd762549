"""`Transform`: a value with `init` and `update`, and what happens at its boundary.

    init(params) -> state
    update(updates, state, params=None, **extra) -> (updates, state)

The two public methods are the boundary. They check that gradients, parameters and state belong
together, put `None` where there is nothing to optimize, and round once, on the way out. What a
transformation does stands in `init_tree` and `update_tree`; compositions call those, so that nothing
is checked or rounded twice.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradtx._tree import PyTree, Structure, flatten, is_inexact, paths, result_dtype
from gradtx._value import Hyper, Value

if TYPE_CHECKING:
    from gradtx._fanout import fanout


class Transform(Value, optax.GradientTransformationExtraArgs):
    """A gradient transformation as a value.

    Subclass it for what works on whole trees: declare fields, write `init_tree` and `update_tree`
    (trees hold `None` where there is nothing to do; arithmetic is float32 at least). For what works on
    one array at a time, subclass `Elementwise`; for an optimizer that is a composition, `Recipe`.

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

    # Whether the parameters must be passed to `update`.
    needs_params: ClassVar[bool] = False
    # Whether it is written for one array (`init_leaf`, `update_leaf`), so that one pass serves many.
    elementwise: ClassVar[bool] = False
    # Whether `look` reads the whole tree, so that the updates must be there before the pass starts.
    looks: ClassVar[bool] = False
    # Whether it squares what it gets (and calls `squarable` on it first): then the branches beside it
    # in a `fanout` get what is bounded alike.
    squares: ClassVar[bool] = False

    # NumPy scalars leave `2.0 * tx` to us.
    __array_ufunc__ = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return tuple.__new__(cls)  # an empty tuple: the fields live in the instance's dictionary

    def init(self, params: PyTree) -> Any:  # pyright: ignore
        """The state before the first step: arrays only, shaped and sharded like the parameters."""
        leaves, structure = flatten(params)
        return self.working().init_tree(structure.unflatten([_as_param(p) for p in leaves]))

    def update(  # pyright: ignore
        self, updates: PyTree, state: Any, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Any]:
        """One step: the updates to add to the parameters, and the next state.

        Raises `ValueError` if `params` are needed and not given, or if structure, shape or kind of a
        gradient differ from its parameter's; the message names the leaf's path.
        """
        if params is None and self.needs_params:
            raise ValueError(
                f"`{self}` needs the parameters: call `update(updates, state, params)`."
            )
        gradients, structure = flatten(updates)
        owners = (
            [None] * len(gradients) if params is None else _matching(params, updates, structure)
        )
        for i, (g, p) in enumerate(zip(gradients, owners, strict=True)):
            if problem := _mismatch(g, p):
                raise ValueError(f"The gradient at `{paths(updates)[i] or '.'}` {problem}.")
        todo, owned = [_as_param(g) for g in gradients], owners
        if params is not None:
            owned = [_as_param(p) for p in owners]
            todo = [None if p is None else g for g, p in zip(todo, owned, strict=True)]
            params = structure.unflatten(owned)
        out, state = self.working().update_tree(structure.unflatten(todo), state, params, extra)
        rounded = map(_leave, structure.flatten_up_to(out), todo, owned, owners)
        return structure.unflatten(list(rounded)), state

    def init_tree(self, params: PyTree) -> Any:
        """The state for a tree of parameters. The default has none."""
        return ()

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        """One step on a tree of updates, without checks or rounding."""
        raise TypeError(f"`{type(self).__name__}` defines no `update_tree`.")

    def working(self) -> Any:
        """The transformation that does the work: a recipe's definition, a schedule's wrapper.

        Overridden where there are transformations inside, whose `working()` is called.
        """
        from gradtx._elementwise import scheduled, scheduled_fields  # they are transformations

        return scheduled(self) if scheduled_fields(self) else self

    def _repr_latex_(self) -> str | None:
        """The update as an equation, with the letters explained below it: what a notebook shows."""
        from gradtx._latex import equations  # written in terms of every transformation

        return equations(self)

    # The operators, and their reflections: a tuple would concatenate and repeat.

    def __truediv__(self, other: "Transform | Hyper") -> "fanout":
        return _fan("divide", self, other)

    def __rtruediv__(self, other: Hyper) -> "fanout":
        return _fan("divide", other, self)

    def __mul__(self, other: "Transform | Hyper") -> "fanout":  # pyright: ignore
        return _fan("multiply", self, other)

    def __rmul__(self, other: Hyper) -> "fanout":  # pyright: ignore
        return _fan("multiply", other, self)

    def __add__(self, other: "Transform | Hyper") -> "fanout":  # pyright: ignore
        return _fan("add", self, other)

    def __radd__(self, other: Hyper) -> "fanout":
        return _fan("add", other, self)

    def __sub__(self, other: "Transform | Hyper") -> "fanout":
        return _fan("subtract", self, other)

    def __rsub__(self, other: Hyper) -> "fanout":
        return _fan("subtract", other, self)

    # The pair (init, update), which is what Optax and its hosts unpack.

    def __iter__(self):  # pyright: ignore
        return iter((self.init, self.update))

    def __getitem__(self, index: Any) -> Any:
        return (self.init, self.update)[index]

    def __len__(self) -> int:
        return 2

    def __contains__(self, item: object) -> bool:
        return item in (self.init, self.update)

    def _unordered(self, other: object) -> Any:
        return NotImplemented

    __lt__ = __le__ = __gt__ = __ge__ = _unordered  # pyright: ignore


def _fan(combine: str, *branches: Any) -> "fanout":
    from gradtx._fanout import fanout  # composition is written in terms of Transform

    return fanout(combine, *branches)


def _as_param(x: Any) -> Any:
    """`x` as something to optimize: a strongly typed array, or None."""
    if not is_inexact(x):
        return None
    if isinstance(x, jax.Array | jax.ShapeDtypeStruct) and not x.weak_type:
        return x
    if isinstance(x, jax.Array):
        return jax.lax.convert_element_type(x, x.dtype)
    dtype = jax.dtypes.canonicalize_dtype(getattr(x, "dtype", type(x)))
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, dtype)
    return jnp.asarray(x, dtype)


def _matching(params: PyTree, updates: PyTree, structure: Structure) -> list[Any]:
    owners, wanted = flatten(params)
    if wanted == structure:
        return owners
    have, want = set(paths(updates)), set(paths(params))
    difference = sorted(have ^ want)
    where = f"first at `{difference[0]}`" if difference else "in the types of their containers"
    raise ValueError(
        f"Gradients and parameters differ in structure, {where}: the gradients are {structure}, the "
        f"parameters {wanted}. Take the gradient with respect to the parameters that you pass."
    )


def _mismatch(g: Any, p: Any) -> str:
    """What is wrong with gradient `g` for parameter `p`, or an empty string."""
    dtype = getattr(g, "dtype", None)
    if dtype is not None and g.shape == getattr(p, "shape", None) and dtype == p.dtype:
        return ""  # the common case, before the slower questions
    if p is None or g is None or not is_inexact(p) or dtype == jax.dtypes.float0:
        return ""
    if np.shape(g) != np.shape(p):
        return f"has shape {np.shape(g)}, its parameter {np.shape(p)}"
    if not is_inexact(g):
        return f"is {getattr(g, 'dtype', type(g).__name__)}, its parameter a real or complex number"
    if jnp.iscomplexobj(p) != jnp.iscomplexobj(g):
        return f"is {jnp.result_type(g)}, its parameter {jnp.result_type(p)}"
    return ""


def _leave(u: Any, gradient: Any, param: Any, p: Any) -> Any:
    """Update `u` as it leaves for a gradient and a parameter, which was `p` as it came in."""
    if u is not None:
        dtype = result_dtype(gradient, param)
        return u if u.dtype == dtype else jax.lax.convert_element_type(u, dtype)
    dtype = getattr(p, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        return None
    # Nothing to do here. Adding -0.0 leaves every number, also -0.0, as it was.
    return jnp.full_like(p, -0.0 if is_inexact(p) else 0)
