"""The spans stage: wrong solutions read token by token, whose words, signs and numbers are known to be wrong.

Nothing is generated. The text is that of somebody who makes the mistake in the problems that are patched, so at each
of its tokens it is known whether the mistake shows there; all patches are scored along it.
"""

from __future__ import annotations

from collections.abc import Sequence

from crosspatch.data.problem import Span
from crosspatch.experiment.patching import patch_run, possible_engine
from crosspatch.experiment.work import Work
from crosspatch.frames import SPANS


def read_mistakes(work: Work) -> None:
    """Score the patches along the wrong solution of every patched problem that has one, where that is not done."""
    from crosspatch.patching.patches import Patch
    from crosspatch.patching.scoring import score_tokens

    mistaken = {problem.id: problem for problem in work.directory.problems("mistaken")}
    wanted = [
        (i, mistaken[problem.id])
        for i, problem in enumerate(work.patched_problems)
        if problem.id in mistaken and not work.directory.spans_part(i).is_file()
    ]
    if not wanted:
        return
    if work.experiment.patch.persistence == "persistent":
        return work.say("spans: only transient patches can be scored along a given text; none is scored")
    names = work.directory.scores()["patch"].unique(maintain_order=True)
    patches = [Patch.parse(name) for name in names]
    prompts = work.pair.prompts
    texts = [(i, problem, prompts.encode_completion(problem.solution or "")) for i, problem in wanted]
    longest = max(len(work.pair.encode(problem.question)) + len(text) for _, problem, text in texts)
    if possible_engine(work, patches, longest) == "reference":
        return work.say("spans: these models run by the reference engine alone, which cannot; none is scored")
    for i, problem, text in texts:
        kinds = kinds_of_tokens([prompts.decode(text[: end + 1]) for end in range(len(text))], problem.spans)
        rows = []
        for direction in work.experiment.patch.directions:
            run = patch_run(work, direction)
            prompt = work.pair.encode(problem.question, len(text))
            for trajectory in score_tokens(work.pair, prompt, text, patches, run):
                rows += [
                    {"span": kind, "read_token_id": token, **row}
                    for kind, token, row in zip(kinds, text, trajectory.rows(problem.id, run, prompts), strict=True)
                ]
        part = work.directory.spans_part(i)
        part.parent.mkdir(exist_ok=True)
        SPANS.write(SPANS.frame(rows), part)
    work.say(f"spans: {len(texts)} wrong solutions, {len(patches)} patches each")


def kinds_of_tokens(texts: Sequence[str], spans: Sequence[Span]) -> list[str | None]:
    """For each token the kind of the first wrong place that it is part of, None outside of all.

    `texts` are a solution's beginnings, each with one token more than the one before it.
    """
    kinds: list[str | None] = []
    start = 0
    for text in texts:
        # A blank before a word belongs to its token, not to the place.
        inside = (span.kind for span in spans if span.start < len(text) and span.end > start)
        kinds.append(next(inside, None))
        start = max(start, len(text))
    return kinds
