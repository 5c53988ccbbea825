"""One text as a sample of an Inspect log: the question, the answer, and a score for each thing that is said of it.

Knows no metric over several texts.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from crosspatch.statistics.answers import MALFORMED
from crosspatch.storage.inspect_logs.texts import Row, Text

if TYPE_CHECKING:
    from inspect_ai.log import EvalSample
    from inspect_ai.scorer import Score

# What may be said of a text, in the order in which it is shown.
SCORED = ("verdict", "operation", "health", "aligned", "coherent", "recovered_fraction")
# Inspect's letters for the verdicts.
VERDICTS = {"correct": "C", "incorrect": "I", "unparsed": "N"}
_STOPS = {"eos": "stop", "limit": "max_tokens"}
FAULTS = ("cut_off", *MALFORMED)
# What of a prompt's profile goes into the metadata of a patched text.
PROFILE = (
    "positions",
    "disagreements",
    "ok_cells",
    "small_denominators",
    "outside_unit",
    "mean_cts",
    "recovered_fraction",
)


def to_sample(text: Text, model: str, system: str | None, ids: tuple[str, ...]) -> EvalSample:
    """The sample of one text. `model` is the model's name; from `ids` and the prompt come all ids of the sample."""
    from inspect_ai.log import EvalSample
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageUser,
        ModelOutput,
    )

    row, problem = text.row, text.problem
    question = written(problem.question)
    ids = (*ids, row["condition"], row["patch"] or "", row["prompt_id"])
    answer = ChatMessageAssistant(id=stable_id(*ids, "assistant"), content=row["text"], source="generate", model=model)
    messages: list[ChatMessage] = [ChatMessageUser(id=stable_id(*ids, "user"), content=question, source="input")]
    if system:
        messages.insert(0, ChatMessageSystem(id=stable_id(*ids, "system"), content=system, source="input"))
    golds = [written(gold) for gold in (problem.answer, *problem.aliases)]
    return EvalSample(
        id=sample_id(row["prompt_id"]),
        epoch=1,
        uuid=stable_id(*ids),
        input=question,
        target=golds if len(golds) > 1 else golds[0],
        messages=[*messages, answer],
        output=ModelOutput(
            model=model,
            choices=[ChatCompletionChoice(message=answer, stop_reason=_STOPS.get(row["stop_reason"], "unknown"))],
            completion=row["text"],
        ),
        scores=_scores(text),
        metadata=_metadata(text),
    )


def _scores(text: Text) -> dict[str, Score]:
    """A score for each thing that is said of a text; what is not said of it has none."""
    from inspect_ai.scorer import Score

    scores: dict[str, Score] = {}
    if (said := text.behaviour) is not None:
        reason = "invalid_response_format" if said["verdict"] == "unparsed" else None
        scores["verdict"] = Score(value=VERDICTS[said["verdict"]], answer=said["extracted"], reason=reason)
        if said["operation"] is not None:
            scores["operation"] = Score(value=said["operation"])
    if (health := text.health) is not None:
        faults = {fault: health[fault] for fault in FAULTS if health[fault]}
        scores["health"] = Score(value=", ".join(faults) or "sound", metadata=faults or None)
    if (ratings := text.ratings) is not None:
        for scale in ("aligned", "coherent"):
            scores[scale] = _number(ratings[scale], "grader_failed", ratings[f"{scale}_reply"], ratings["judge"])
    if (profile := text.profile) is not None:
        scores["recovered_fraction"] = _number(profile["recovered_fraction"], "no_ok_cell")
    return scores


def _number(value: float | None, reason: str, reply: str | None = None, judge: str | None = None) -> Score:
    """A number as a score; one that is undefined is left out of every metric."""
    from inspect_ai.scorer import Score

    metadata = None if judge is None else {"judge": judge}
    if value is None:
        return Score.unscored(reason=reason, explanation=reply, metadata=metadata)
    return Score(value=value, explanation=reply, metadata=metadata)


def _metadata(text: Text) -> dict[str, Any]:
    problem, row = text.problem, text.row
    found: Row = {"domain": written(problem.domain), "family": written(problem.family)}
    if problem.form:
        found["form"] = problem.form
    found |= {key: row[key] for key in ("condition", "patch", "token_count", "stop_reason") if row[key] is not None}
    if text.behaviour is not None:
        found["health"] = text.behaviour["health"]
    if text.profile is not None:
        found |= {key: text.profile[key] for key in PROFILE}
    return found


def sample_id(prompt_id: str) -> str:
    """The prompt_id, without null characters: Inspect names a file after it, and names end there."""
    return prompt_id.replace("\0", "\\0")


def stable_id(*parts: str) -> str:
    """22 characters, as Inspect's own ids have them, that are the same for the same parts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:22]


def written(text: str) -> str:
    r"""The text as UTF-8 can hold it: half a surrogate pair, which JSON may bring, becomes \udXXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
