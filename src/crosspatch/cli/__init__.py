"""The command line: one subcommand a stage; each parses, calls and prints.

Nothing heavy is imported at the top, so that `crosspatch --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from typing import Any

# Before torch is imported: spinning threads make a busy machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import typer

from crosspatch.cli import datasets, pairs, runs, stages  # they put their commands into the application
from crosspatch.cli.application import app
from crosspatch.errors import CrosspatchError

__all__ = ["app", "datasets", "main", "pairs", "runs", "stages"]

# The error of click for an unknown option or command. Typer has its own copy of click, so it is taken from Typer.
_WRONG_USE: Any = typer.BadParameter.__base__
_INTERRUPTED = 130


def main() -> None:
    """Run the command line; errors meant for the user become one line and their exit code."""
    # PEFT reads an attribute that transformers has renamed: nothing that a user could change.
    warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)
    # SIGTERM, with which a cluster ends a job, ends a command as Ctrl-C does: finished work is kept.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            _fail("stopped; the same command resumes", code)
        sys.exit(code)
    except CrosspatchError as error:
        _fail(str(error), error.exit_code)
    except _WRONG_USE as error:
        _fail(error.format_message(), 2)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)


def _fail(message: str, code: int) -> None:
    print(f"crosspatch: {message}", file=sys.stderr)
    sys.exit(code)
