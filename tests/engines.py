"""Run both engines on the same prompts and compare their trajectories, as tables or step by step."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import get_args

import polars as pl
import pytest
import torch

from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.config import Persistence
from crosspatch.models.pair import ModelPair
from crosspatch.patching import engine, reference
from crosspatch.patching.batches import generate
from crosspatch.patching.patches import Patch
from crosspatch.patching.reference import run_reference
from crosspatch.patching.scores import Step
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun, Prompt, Trajectory, Written
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.tables import SCORES

PERSISTENCES = get_args(Persistence)

# Columns that must be equal, and columns that may differ by float32 sums in another order.
WORDS = ["prompt_id", "patch", "step", "position", "token_id", "clean_token_id", "corrupted_token_id"]
DELTAS = ["delta_clean", "delta_corrupted", "delta_patched"]
KLS = ["kl_clean", "kl_patched"]

# Logits and nats: a pass of one position and a pass of many sum in another order.
TOLERANCE = 1e-4
# CTS divides by the difference of two ΔLs: where that is above 0.1, an error of 1e-4 is one of about 1e-3 at most.
CTS_TOLERANCE, LARGE_DENOMINATOR = 1e-3, 0.1


def table(pair: ModelPair, trajectories: Sequence[Trajectory], run: PatchRun, prompt_id: str = "p") -> pl.DataFrame:
    return pl.concat([SCORES.frame(), *(t.frame(prompt_id, run, pair.prompts) for t in trajectories)])


def both(
    pair: ModelPair,
    questions: Sequence[str],
    patches: Sequence[Patch],
    run: PatchRun,
    known: Sequence = (),
    compared: Callable[[int, Patch], bool] = lambda question, patch: True,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All questions by the run's engine in one batch, and by the reference each alone, under the `compared` patches.

    `compared` gets the number of a question and a patch.
    """
    ids = [pair.encode(question) for question in questions]
    written = generate(pair, [Prompt(i, patches, known=k) for i, k in zip_longest(ids, known, fillvalue=())], run)
    fast = [[t for t in one.trajectories if compared(q, t.patch)] for q, one in enumerate(written)]
    texts = {(*i, *t.tokens[:n]) for i, own in zip(ids, fast, strict=True) for t in own for n in range(len(t.tokens))}
    with remembered_passes(patches, texts):
        slow = [run_reference(pair, i, [t.patch for t in own], run) for i, own in zip(ids, fast, strict=True)]
    assert [[t.stop_reason for t in own] for own in fast] == [[t.stop_reason for t in own] for own in slow]
    one, other = (pl.concat(table(pair, t, run, q) for q, t in zip(questions, of, strict=True)) for of in (fast, slow))
    return one, other


@dataclass(frozen=True)
class Gap:
    """The largest differences of two tables of the same steps, and how many steps have a CTS to compare."""

    scored: int
    delta: float
    kl: float
    cts: float

    @property
    def close(self) -> bool:
        return self.delta < TOLERANCE and self.kl < TOLERANCE and self.cts < CTS_TOLERANCE


def gap(fast: pl.DataFrame, slow: pl.DataFrame) -> Gap:
    """Asserts the same rows, tokens and statuses."""
    assert fast.select(WORDS).equals(slow.select(WORDS))
    # At the threshold itself, 1e-4 logits, the status is a matter of rounding.
    differing = fast.filter(fast["status"] != slow["status"])
    assert set(differing["status"]) <= {"ok", "small_denominator"}
    assert ((differing["delta_corrupted"] - differing["delta_clean"]).abs() < 3 * TOLERANCE).all()
    assert (fast["rank_corrupted"] - slow["rank_corrupted"]).abs().max() <= 1

    delta, kl = (max(float((fast[name] - slow[name]).abs().max()) for name in names) for names in (DELTAS, KLS))
    wide = (fast["delta_corrupted"] - fast["delta_clean"]).abs() > LARGE_DENOMINATOR
    cts = (fast["cts"] - slow["cts"]).abs().filter(wide).drop_nulls()
    return Gap(len(cts), delta, kl, float(cts.max() or 0))


@contextmanager
def remembered_passes(patches: Sequence[Patch], texts: Iterable[tuple[int, ...]] = ()) -> Iterator[None]:
    """Within the context the reference runs an unpatched model over a text once, and reads all sites in that pass.

    Of `texts`, all of the same length are rows of one such pass. A model with hooks, such as a patched one, runs as
    always.
    """
    sites = {site for patch in patches for site in patch.sites}
    plain, real_reading = reference._logits, reference.reading
    known: dict = {}
    # The activations of the last pass that the reference reads.
    read: dict = {}

    def reading(model, sites):
        return real_reading(model, sites) if hooks_and_forwards(model) else nullcontext(read)

    def logits(model, tokens, run):
        if hooks_and_forwards(model):
            return plain(model, tokens, run)
        assert not run.float32_unembedding
        text = tuple(tokens[0].tolist())
        if (id(model), text) not in known:
            rows = sorted({text, *(other for other in texts if len(other) == len(text))})
            with real_reading(model, sites) as activations:
                found = plain(model, torch.tensor(rows), run)
            for i, row in enumerate(rows):
                known[id(model), row] = found[[i]], {site: whole[[i]] for site, whole in activations.items()}
        found, activations = known[id(model), text]
        read.update(activations)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "_logits", logits)
        patch.setattr(reference, "reading", reading)
        yield


@contextmanager
def counted() -> Iterator[Counter]:
    """Within the context it counts what the engine does.

    `rounds`, drafted tokens that were `kept` and `rejected`, texts that `parted`, lanes that were `forked`.
    """
    counts: Counter = Counter()
    with pytest.MonkeyPatch.context() as patch:

        def counting(owner, name, counted_in):
            original = getattr(owner, name)

            def call(*arguments):
                result = original(*arguments)
                counts.update(counted_in(result, arguments))
                return result

            patch.setattr(owner, name, call)

        def drafted(_, arguments):
            *_, kept, length = arguments
            return {"kept": kept, "rejected": length - kept}

        counting(engine._Engine, "_round", lambda *_: {"rounds": 1})
        counting(engine.DraftLengths, "note", drafted)
        counting(engine.Rounds, "fork", lambda *_: {"parted": 1})
        counting(KeyValues, "fork", lambda *_: {"forked": 1})
        yield counts


def fitting(run: PatchRun, pair: ModelPair) -> PatchRun:
    """The run, with the engine that the pair's layers need."""
    kinds = set(getattr(pair.clean.config, "layer_types", None) or ())
    return replace(run, engine="any_cache") if kinds & {"linear_attention", "conv"} else run


def exact_scores(pair: ModelPair, given: ForcedText, names: Iterable[str], run: PatchRun) -> list[Trajectory]:
    """The scores along a text of the patches with these names, at the steps of disagreement."""
    patches = [Patch.parse(f"{name}@disagree") for name in names]
    return score_tokens(pair, given.prompt, given.text, patches, run)


def equal_trajectories(one: Sequence[Trajectory], other: Sequence[Trajectory]) -> None:
    """Asserts the same patches, tokens and ends, and numbers within the tolerance."""
    for a, b in zip(one, other, strict=True):
        assert (a.patch, a.tokens, a.stop_reason) == (b.patch, b.tokens, b.stop_reason)
        for x, y in zip(a.steps, b.steps, strict=True):
            equal_steps(x, y)


def equal_steps(one: Step, other: Step) -> None:
    """Asserts the same tokens, and numbers within the tolerance; a rank may turn on rounding."""
    numbers, others = ({**asdict(step), "rank_corrupted": 1} for step in (one, other))
    assert numbers == {
        name: pytest.approx(value, abs=TOLERANCE if isinstance(value, float) else 0) for name, value in others.items()
    }


def equal_written(one: Sequence[Written], other: Sequence[Written]) -> None:
    for a, b in zip(one, other, strict=True):
        equal_trajectories(a.trajectories, b.trajectories)
        assert (a.target, a.source) == (b.target, b.source)


def hooks_and_forwards(*models: torch.nn.Module) -> int:
    """How many hooks, and modules with a `forward` of their own, models have."""
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in m.__dict__)
        for model in models
        for m in model.modules()
    )
