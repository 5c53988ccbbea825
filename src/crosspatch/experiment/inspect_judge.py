"""A judge that Inspect AI reaches: `inspect:PROVIDER/NAME`, with Inspect's providers, keys and retries.

Inspect reads keys and addresses itself. A provider's error message may hold them, so it is not shown.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from crosspatch.errors import CrosspatchError, UsageError

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from crosspatch.grading.rating import Judge

PREFIX = "inspect:"
# These providers load a model as soon as it is named: before the check, and again for every batch.
_LOADED_HERE = ("hf", "nnterp", "sglang", "transformer_lens")
# Inspect's default is to retry without end; six retries take some minutes.
_RETRIES = 6
# Batches are smaller. Inspect keeps the limit of a process's first request, so it must not depend on a batch.
_CONNECTIONS = 1_000


def check_inspect_judge(name: str) -> None:
    """Raise UsageError for a judge that lacks Inspect AI, its provider's package or its key. Sends no prompt."""
    provider = name.removeprefix(PREFIX).split("/")[0]
    if provider in _LOADED_HERE:
        raise UsageError(
            f"got judge.model={name}: {provider} loads weights here; name the checkpoint itself, without {PREFIX}, "
            "or a server that has it"
        )
    try:
        import inspect_ai  # noqa: F401
    except ImportError:
        raise UsageError(
            f"judge.model={name} needs the package inspect_ai, which is not installed: "
            'pip install "crosspatch[inspect]"'
        ) from None

    async def open_and_close() -> None:
        async with _model(name):
            pass

    try:
        asyncio.run(open_and_close())
    except Exception as error:
        # Each provider has its own errors for a missing package or key.
        raise UsageError(f"judge.model={name} cannot be used: {_message(error)}") from None


def inspect_judge(name: str) -> Judge:
    """A judge that sends all prompts of a batch at once to a model through Inspect AI; nothing is cached.

    It raises CrosspatchError where the model does not answer after some retries.
    """

    async def replies(asked: list[str]) -> list[str]:
        from inspect_ai.model import GenerateConfig

        # A client works only in the event loop in which it was made.
        async with _model(name) as model:
            config = GenerateConfig(temperature=0, max_retries=_RETRIES, max_connections=_CONNECTIONS)
            outputs = await asyncio.gather(*(model.generate(prompt, config=config, cache=False) for prompt in asked))
        # A reply may hold half of a surrogate pair, which cannot be written to a table.
        return [output.completion.encode("utf-8", "replace").decode("utf-8") for output in outputs]

    def judge(asked: list[str]) -> list[str]:
        try:
            return asyncio.run(replies(asked))
        except Exception as error:
            status = getattr(error, "status_code", None)
            kind = type(error).__name__ + (f", status {status}" if isinstance(status, int) else "")
            raise CrosspatchError(
                f"the judge {name} did not answer ({kind}); the ratings so far are kept; run the same command again"
            ) from error

    return judge


def _model(name: str) -> Model:
    from inspect_ai.model import get_model

    return get_model(name.removeprefix(PREFIX), memoize=False)


def _message(error: Exception) -> str:
    """An error of Inspect AI on one line, without markup."""
    from rich.text import Text

    text = Text.from_markup(str(getattr(error, "message", error))).plain.removeprefix("ERROR: ")
    return re.sub(r"(?<![:.])\n+", ": ", text).replace("\n", " ").strip()
