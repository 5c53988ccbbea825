"""Patching over prompts: `patch` for the Python API, and `sweep`, which each experiment runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, TypeVar, get_args

import polars as pl

from crosspatch.config import Component, Direction, Directions, Engine, Persistence
from crosspatch.errors import UsageError
from crosspatch.models.anatomy import check_sites
from crosspatch.models.blocks import text_config
from crosspatch.models.chat import unpad
from crosspatch.models.compatibility import Layers, numbered
from crosspatch.models.generation import answer, continue_prompts
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device
from crosspatch.models.watching import check_streams
from crosspatch.patching.batches import rows_at_once, run_in_batches
from crosspatch.patching.engine import Prompt, Written
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.reference import run_reference
from crosspatch.patching.result import PatchResult, token_texts
from crosspatch.patching.schedule import Schedule
from crosspatch.patching.self_check import usable_engine
from crosspatch.patching.trajectory import OwnText, PatchRun
from crosspatch.tables import GENERATIONS, REPAIRED, SCORES

Unpatched = Literal["clean", "corrupted"]
T = TypeVar("T")
UNPATCHED: tuple[Unpatched, ...] = get_args(Unpatched)


def patch(
    pair: ModelPair,
    prompts: str | Iterable[str] | Mapping[str, Any],
    *,
    layers: Layers = "all",
    component: Component | Sequence[Component] = "resid_post",
    heads: Layers = "all",
    window: int = 1,
    schedule: str = "all",
    patches: Iterable[Patch | str] | None = None,
    direction: Directions = "corrupt",
    persistence: Persistence = "transient",
    max_new_tokens: int = 256,
    small_denominator: float | None = None,
    engine: Engine = "cached",
    memory_gb: float | None = None,
    float32_unembedding: bool = False,
    self_check: bool = True,
    say: Callable[[str], None] = print,
) -> PatchResult:
    """Patch each place of a grid alone while text is generated after each prompt, and score every step.

    `prompts` is a question, several, or a mapping from prompt_id to question; without ids they are called
    prompt-000 and so on. A tokenizer's padded batch (input_ids, attention_mask) is read as it is.

    The grid is made of `layers`, `component` (one or several), `heads` and `window` (layers patched together). Layers
    and heads are "all", a number or several; negative ones count from the end. `patches` names patches instead, such as
    `L17.attn_out+L18.head.3`. `schedule` says at which steps they are applied. `direction` both does one after the
    other; the texts of the repair direction are then called `repaired`. `small_denominator` is in logits; None follows
    the models' precision. `memory_gb` bounds what keys and values of the rows that run at once may take; None is half
    of what is free. Raises UsageError for a place that the models do not have or an empty prompt, before anything runs.
    """
    encoded = _encoded(pair, prompts, max_new_tokens)
    chosen = choose_patches(pair, layers, component, heads=heads, window=window, schedule=schedule, patches=patches)
    runs = patch_runs(pair, direction, persistence, max_new_tokens, small_denominator, float32_unembedding)
    pair.eval()
    longest = max(map(len, encoded.values())) + max_new_tokens
    if self_check:
        engine = usable_engine(pair, chosen, engine, longest, say)
    rows = rows_at_once(text_config(pair.clean), pair.clean.dtype, input_device(pair.clean), longest, memory_gb)
    swept: list[list[PatchResult]] = []
    known: dict[str, dict[Unpatched, str]] = {}
    for run in runs:
        first = not swept
        done = list(sweep(pair, encoded, chosen, run, engine, rows=rows, answers=known, unpatched=first, say=say))
        if first:
            known = {name: unpatched_of(result) for name, result in zip(encoded, done, strict=True)}
        else:
            done = [replace(result, generations=called_repaired(result.generations)) for result in done]
        swept.append(done)
    results = list(chain.from_iterable(zip(*swept, strict=True)))
    scores = pl.concat(result.scores for result in results)
    return PatchResult(scores, pl.concat(r.generations for r in results), token_texts(scores, pair.prompts))


def unpatched_of(result: PatchResult) -> dict[Unpatched, str]:
    """The unpatched models' own texts in a result of one prompt."""
    return dict(result.generations.filter(pl.col("patch").is_null()).select("condition", "text").iter_rows())


def patch_runs(
    pair: ModelPair,
    direction: Directions,
    persistence: Persistence = "transient",
    max_new_tokens: int = 1024,
    small_denominator: float | None = None,
    float32_unembedding: bool = False,
) -> list[PatchRun]:
    """How trajectories are made, a run for each direction; without `small_denominator` (logits) the pair's own.

    Raises UsageError for a direction or persistence that is none.
    """
    for got, known in ((direction, Directions), (persistence, Persistence)):
        if got not in get_args(known):
            raise UsageError(f"got {got!r}, expected one of {', '.join(get_args(known))}")
    threshold = pair.small_denominator if small_denominator is None else small_denominator
    directions: tuple[Direction, ...] = get_args(Direction) if direction == "both" else (direction,)
    return [PatchRun(one, persistence, max_new_tokens, threshold, float32_unembedding) for one in directions]


def called_repaired(texts: pl.DataFrame) -> pl.DataFrame:
    """Texts of the repair direction beside those of the other one: patched ones are called repaired."""
    patched = pl.col("condition") == "patched"
    return texts.with_columns(pl.when(patched).then(pl.lit(REPAIRED)).otherwise("condition").alias("condition"))


def choose_patches(
    pair: ModelPair,
    layers: Layers = "all",
    component: Component | Sequence[Component] = "resid_post",
    *,
    heads: Layers = "all",
    window: int = 1,
    schedule: str = "all",
    patches: Iterable[Patch | str] | None = None,
) -> list[Patch]:
    """The patches of a grid, or those named, checked against the pair; raises UsageError where it lacks a place."""
    config = text_config(pair.clean)
    chosen = listed_patches(config, layers, component, heads=heads, window=window, schedule=schedule, patches=patches)
    check_places(pair, chosen)
    return chosen


def listed_patches(
    config: Any,
    layers: Layers = "all",
    component: Component | Sequence[Component] = "resid_post",
    *,
    heads: Layers = "all",
    window: int = 1,
    schedule: str = "all",
    patches: Iterable[Patch | str] | None = None,
) -> list[Patch]:
    """The patches of a grid on models of a (text) configuration, or those named.

    Whether their blocks have these components is `check_places`'. Raises UsageError.
    """
    if patches is not None:
        if schedule != "all":
            raise UsageError(
                f"a schedule is for grids, got {schedule!r}; a patch by name carries its own: L18.attn_out@{schedule}"
            )
        chosen = [Patch.parse(named) if isinstance(named, str) else named for named in patches]
    else:
        n_layers, n_heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        components = (component,) if isinstance(component, str) else tuple(component)
        chosen = patch_grid(
            numbered("layer", layers, n_layers),
            n_layers,
            components,
            heads=numbered("head", heads, n_heads),
            n_heads=n_heads,
            window=window,
            schedule=Schedule.parse(schedule),
        )
    if not chosen:
        raise UsageError("there is no patch to make; choose at least one layer, component and head")
    return chosen


def check_places(pair: ModelPair, patches: Iterable[Patch]) -> None:
    """Raises UsageError for a patch at a place that one of the two models does not have, or cannot be patched at."""
    sites = {site for patch in patches for site in patch.sites}
    for model in (pair.clean, pair.corrupted):
        check_streams(model)
        check_sites(model, sites)


def sweep(
    pair: ModelPair,
    prompts: Mapping[str, Sequence[int]],
    patches: Sequence[Patch],
    run: PatchRun,
    engine: Engine,
    *,
    rows: int,
    answers: Mapping[str, Mapping[Unpatched, str]] | None = None,
    unpatched: bool = True,
    say: Callable[[str], None] = print,
) -> Iterator[PatchResult]:
    """Each prompt (token ids by prompt_id) under all patches, in order, as it is done.

    At most `rows` rows run at once. The texts are the patched ones and, if `unpatched` are wanted, the unpatched
    models' answers where `answers` does not have them already.
    """
    known = {name: dict((answers or {}).get(name, {})) for name in prompts}
    if engine == "reference":
        done: Iterator[Written] = (_reference(pair, list(ids), patches, run) for ids in prompts.values())
    else:
        jobs = [
            Prompt(
                list(ids),
                patches,
                known=[pair.prompts.encode_completion(text) for text in known[name].values()],
                answers=unpatched and len(known[name]) < len(UNPATCHED),
            )
            for name, ids in prompts.items()
        ]
        done = run_in_batches(pair, jobs, run, rows, say)
    for prompt_id, written in zip(prompts, done, strict=True):
        wanted = set(UNPATCHED) - known[prompt_id].keys() if unpatched else set()
        yield _result(pair, prompt_id, written, run, wanted)


def _result(pair: ModelPair, prompt_id: str, written: Written, run: PatchRun, wanted: set[Unpatched]) -> PatchResult:
    rows = [row for trajectory in written.trajectories for row in trajectory.rows(prompt_id, run, pair.prompts)]
    clean, corrupted = (
        (written.target, written.source) if run.direction == "corrupt" else (written.source, written.target)
    )
    texts = [
        _text_row(prompt_id, condition, None, own.text(pair.prompts), len(own.tokens), own.stop_reason)
        for condition, own in (("clean", clean), ("corrupted", corrupted))
        if condition in wanted
    ]
    texts += [
        _text_row(prompt_id, "patched", t.patch, t.text(pair.prompts), len(t.tokens), t.stop_reason)
        for t in written.trajectories
    ]
    return PatchResult(SCORES.frame(rows), GENERATIONS.frame(texts))


def _reference(pair: ModelPair, prompt: list[int], patches: Sequence[Patch], run: PatchRun) -> Written:
    """What the cached engine gives, by the published algorithm and plain generation."""
    target, source = (
        OwnText(given.tokens, given.stop_reason)
        for model in pair.oriented(run.direction)
        for given in continue_prompts(model, pair.prompts, [prompt], run.max_new_tokens, pair.stop_tokens)
    )
    return Written(run_reference(pair, prompt, list(patches), run), target, source)


def unpatched_texts(
    pair: ModelPair, condition: Unpatched, questions: dict[str, str], max_new_tokens: int
) -> pl.DataFrame:
    """The clean or the corrupted model's own answers to questions by prompt_id, in one batch."""
    for question in questions.values():
        pair.encode(question, max_new_tokens)
    model = pair.clean if condition == "clean" else pair.corrupted
    answers = answer(model, pair.prompts, list(questions.values()), max_new_tokens, pair.stop_tokens)
    return GENERATIONS.frame(
        _text_row(prompt_id, condition, None, given.text, given.token_count, given.stop_reason)
        for prompt_id, given in zip(questions, answers, strict=True)
    )


def _encoded(
    pair: ModelPair, prompts: str | Iterable[str] | Mapping[str, Any], max_new_tokens: int
) -> dict[str, list[int]]:
    """Token ids by prompt_id. Raises UsageError where there is no prompt, or one is empty or too long."""
    if isinstance(prompts, Mapping) and "input_ids" in prompts:
        encoded = name_prompts(unpad(prompts["input_ids"], prompts["attention_mask"]))
        for ids in encoded.values():
            pair.check_length(len(ids), max_new_tokens)
        return encoded
    questions = (
        dict(prompts)
        if isinstance(prompts, Mapping)
        else name_prompts([prompts] if isinstance(prompts, str) else prompts)
    )
    if not questions:
        raise UsageError("got no prompt, expected at least one")
    return {name: pair.encode(question, max_new_tokens) for name, question in questions.items()}


def name_prompts(prompts: Iterable[T]) -> dict[str, T]:
    """Prompts by the ids that they get where they have none: prompt-000 and so on."""
    return {f"prompt-{i:03d}": prompt for i, prompt in enumerate(prompts)}


def _text_row(
    prompt_id: str, condition: str, patch: Patch | None, text: str, token_count: int, stop_reason: str
) -> dict[str, Any]:
    return {
        **dict.fromkeys(GENERATIONS.columns),
        "prompt_id": prompt_id,
        "condition": condition,
        **({} if patch is None else patch.columns),
        "text": text,
        "token_count": token_count,
        "stop_reason": stop_reason,
    }
