"""How shapes in annotations are checked in tests: by beartype, in the functions whose annotations have shapes.

jaxtyping's import hook wraps every function, and a test of the engine then takes twice as long. Functions without a
shape are left as they are; their types are mypy's. And a check is made once for a signature: engines define functions
inside others in every pass, and making the check of one takes longer than it runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype

_made: dict[tuple[str, str, str], Callable[..., Any]] = {}


def check_shapes(*folders: str) -> None:
    """Check the shapes in every module of these folders that is imported from now on."""
    jaxtyped = jaxtyping.jaxtyped

    def where_shapes_are(*, typechecker: Any) -> Callable[[Any], Any]:
        return lambda what: jaxtyped(what, typechecker=typechecker) if _has_shapes(what) else what

    jaxtyping.jaxtyped = where_shapes_are
    jaxtyping.install_import_hook(folders, "shapes.checked")


def _has_shapes(what: Any) -> bool:
    """Whether a function's or a class's annotations, which are text, have a text in them."""
    return any("'" in str(annotation) for annotation in getattr(what, "__annotations__", {}).values())


def checked(signature: Callable[..., Any]) -> Callable[..., Any]:
    """A function that checks its arguments: what jaxtyping hands over has a function's signature and does nothing."""
    key = signature.__module__, signature.__qualname__, str(inspect.signature(signature))
    if key not in _made:
        _made[key] = beartype(signature)
    return _made[key]
