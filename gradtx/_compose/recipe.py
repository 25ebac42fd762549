"""`Recipe`: an optimizer as the composition that it names."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax

from gradtx._compose.names import named_state
from gradtx._compose.rules import as_mask
from gradtx._core.foreign import as_transform
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform


class Recipe(Transform):
    """An optimizer with a definition: fields, and an `expand()` that returns what they stand for.

    Subclasses provide `expand()`. They may name their state: `state()` returns a NamedTuple class whose
    fields are names in the state of the composition, or None, and `renames` maps a name there to one
    here. Counters that always agree are then kept once, and
    `gradtx.expanded_state` gives the state of the composition.

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
        └── scale_by_learning_rate(0.2)
    """

    _hooks = ("expand",)
    renames: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self._hints.get("mask") is Any:
            # Before a tree of bools is frozen like any other mapping.
            object.__setattr__(self, "mask", as_mask(self.mask))  # pyright: ignore
        super().__post_init__()

    def expand(self) -> Transform:
        """The composition that this recipe names."""
        raise TypeError(
            f"`{type(self).__name__}` defines no `expand`. A subclass of `Recipe` provides `expand()`, "
            "which returns a composition."
        )

    def state(self) -> Any:
        """The NamedTuple class that names the state, or None where the composition's stays as it is."""
        return None

    def validate(self) -> None:
        # Its definition knows which values are legal; the message says whose they were.
        try:
            self.children  # noqa: B018 - for what it raises
        except jax.errors.JAXTypeError:
            raise  # a tracer where a static field needs a number: JAX's own message says so
        except (ValueError, TypeError) as error:
            raise type(error)(f"In `{self!r}`: {error}") from None

    @property
    def children(self) -> tuple[Transform, ...]:
        # Kept beside the fields, not among them: neither compared, nor copied, nor pickled.
        if "_definition" not in self.__dict__:
            definition = as_transform(self.expand(), f"{type(self).__name__}.expand()")
            self.__dict__["_definition"] = (definition,)
        return self.__dict__["_definition"]

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        stream, state = low.lower(self.children[0], stream)
        named: Any = self.state
        name = named if isinstance(named, type) else named()
        if name is not None:
            state = named_state(low, name, self.renames, state, type(self).__name__)
        return stream, state

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.children[0].tex(g, page)
