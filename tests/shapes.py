"""Shapes in annotations are checked in tests: by beartype, in the functions whose annotations have shapes.

jaxtyping's import hook wraps every function, and a test of the engine then takes twice as long. Functions without a
shape stay as they are; mypy checks their types. Slow tests and tests of other parts run without the checks, which
would take a third of their time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping


def make_checkable(*folders: str) -> None:
    """Make shapes checkable in every module of these folders that is imported from now on."""
    jaxtyped = jaxtyping.jaxtyped

    def where_shapes_are(*, typechecker: Any) -> Callable[[Any], Any]:
        def decorate(what: Any) -> Any:
            # Annotations are text; those with shapes have a text in them.
            shapes = any("'" in str(annotation) for annotation in getattr(what, "__annotations__", {}).values())
            return jaxtyped(what, typechecker=typechecker) if shapes else what

        return decorate

    jaxtyping.jaxtyped = where_shapes_are
    jaxtyping.install_import_hook(folders, "beartype.beartype")
    jaxtyping.config.update("jaxtyping_disable", True)


@contextmanager
def checked_shapes() -> Iterator[None]:
    """Within the context shapes are checked."""
    jaxtyping.config.update("jaxtyping_disable", False)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", True)
