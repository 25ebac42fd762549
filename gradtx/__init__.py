"""gradtx: composable gradient transformations for JAX.

Every transformation, optimizer, rule and schedule is a value: a frozen dataclass that is a pytree. It
prints as the code that makes it, and it can be compared, edited, swept and passed through `jax.jit`.

The public names stand in `__init__.pyi`, under the headings of the API documentation. The module of a
name is imported when the name is first used, so that a program waits only for what it uses.
"""

import importlib
import pkgutil
import re
from typing import Any

# These attach methods: the operators of transformations, and what notebooks display, the equation of a
# transformation and the curve of a schedule.
from gradtx._compose import fanout as _fanout  # noqa: F401
from gradtx._show import drawn as _drawn, equations as _equations  # noqa: F401
from gradtx._text.elsewhere import missing

__version__ = "0.2.0.dev0"

_FACE = (pkgutil.get_data(__name__, "__init__.pyi") or b"").decode()
_IMPORT = re.compile(r"^from ([\w.]+) import [(\s]*\w+ as (\w+)", re.MULTILINE)
_MODULES = {name: module for module, name in _IMPORT.findall(_FACE)}
__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        return missing(name)
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # Python asks this function only once for each name
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
