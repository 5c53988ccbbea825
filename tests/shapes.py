"""How shapes in annotations are checked in tests: by beartype, in the functions whose annotations have shapes.

jaxtyping's import hook wraps every function, and a test of the engine then takes twice as long. Functions without a
shape are left as they are; their types are mypy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jaxtyping


def check_shapes(*folders: str) -> None:
    """Check the shapes in every module of these folders that is imported from now on."""
    jaxtyped = jaxtyping.jaxtyped

    def where_shapes_are(*, typechecker: Any) -> Callable[[Any], Any]:
        return lambda what: jaxtyped(what, typechecker=typechecker) if _has_shapes(what) else what

    jaxtyping.jaxtyped = where_shapes_are
    jaxtyping.install_import_hook(folders, "beartype.beartype")


def _has_shapes(what: Any) -> bool:
    """Whether a function's or a class's annotations, which are text, have a text in them."""
    return any("'" in str(annotation) for annotation in getattr(what, "__annotations__", {}).values())
