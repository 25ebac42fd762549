"""`Recipe`, the base class of optimizers that are compositions with a name and fields."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax

from gradtx._compose.labels import as_mask
from gradtx._compose.names import named_state
from gradtx._core.foreign import as_transform
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform


class Recipe(Transform):
    """An optimizer that is defined by a composition of transformations.

    Subclasses declare fields and provide `expand()`, which returns the composition.

    By default the state is the nested state of the composition. A subclass may instead provide
    `state`: a NamedTuple class, or a method that returns one, whose fields have the names of the arrays
    in the composition's state. `renames` maps a name there to the name to use instead. Counters of the
    same name always agree, so they are stored once. `gradtx.expanded_state` returns the nested state.

    Entries of gradients that are too large to be squared are clipped where a part of the composition
    squares them. A subclass that declares `linear = False` has them clipped before the first part.

    >>> import gradtx
    >>> class signsgd(gradtx.Recipe):
    ...     learning_rate: gradtx.Hyper = 0.1
    ...
    ...     def expand(self):
    ...         rate = gradtx.scale_by_learning_rate(self.learning_rate)
    ...         return gradtx.chain(gradtx.scale_by_sign(), rate)
    >>> gradtx.summarize(signsgd(0.2))
    signsgd(learning_rate=0.2)
    └── chain
        ├── scale_by_sign
        └── scale_by_learning_rate(learning_rate=0.2)
    """

    _hooks = ("expand",)
    renames: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self._hints.get("mask") is Any:
            # This comes first, because a mask that is a dictionary would be frozen like a mapping.
            object.__setattr__(self, "mask", as_mask(self.mask))  # pyright: ignore
        super().__post_init__()

    def expand(self) -> Transform:
        """The composition that this recipe names."""
        raise TypeError(
            f"`{type(self).__name__}` does not define `expand`. A subclass of `Recipe` provides "
            "`expand()`, which returns a composition."
        )

    if TYPE_CHECKING:  # a subclass defines a method, or assigns its NamedTuple class

        def state(*args: Any, **kwargs: Any) -> Any: ...  # pyright: ignore[reportSelfClsParameterName]

    else:

        def state(self) -> Any:
            """The NamedTuple class of the state, or None to keep the nested state of the composition."""
            return None

    def validate(self) -> None:
        # The transformations in the definition check the values; the message adds the recipe's name.
        try:
            self.children  # noqa: B018 - for what it raises
        except jax.errors.JAXTypeError:
            raise  # there is a tracer where a number must be known, which JAX's message explains
        except (ValueError, TypeError) as error:
            shown = repr(self)
            shown = f"{type(self).__name__}(...)" if " at 0x" in shown else shown
            raise type(error)(f"In `{shown}`: {error}") from None

    @functools.cached_property
    def children(self) -> tuple[Transform, ...]:
        # The definition is cached outside the fields, so that it is not compared, copied or pickled.
        return (as_transform(self.expand(), f"{type(self).__name__}.expand()"),)

    @property
    def least(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.children[0].least

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        recipes = low.once("recipes", list)  # those around a place, see `once`
        recipes.append(object())
        stream = low.bounded(stream) if type(self).linear is False else stream
        stream, state = low.lower(self.children[0], stream)
        recipes.pop()
        named: Any = self.state
        name = named if isinstance(named, type) else named()
        if name is not None:
            state = named_state(low, name, self.renames, state, type(self).__name__)
        return stream, state

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.children[0].tex(g, page)
