"""The columns of every table that crosspatch writes: names, types and meanings.

Other programs read these files, so the schemas are a contract. This module knows nothing of how the values
come about.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from crosspatch.errors import CrosspatchError
from crosspatch.files import checksum, written_whole

Columns = dict[str, tuple[Any, str]]


# Where the statistics of a run stand, and a table that is written part by part.
STATISTIC, PARTS = "statistics/{name}.parquet", "{name}/part-*.parquet"


@dataclass(frozen=True)
class Schema:
    """A table's columns in their order, each with its polars type and its meaning.

    `file` is its path in a run directory, with a * for what tells its parts apart where it has several. `keys` are the
    columns that say what a row is about: rows that are added replace those with the same keys.
    """

    name: str
    columns: Columns
    file: str = "{name}.parquet"
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", self.file.format(name=self.name))

    @property
    def in_parts(self) -> bool:
        """Whether it stands in several files."""
        return "*" in self.file

    def path(self, *part: str | int) -> str:
        """Its path in a run directory; of one in parts that of a `part`, such as ("random", 12) of the controls."""
        names = (f"{name:05d}" if isinstance(name, int) else name for name in part)
        return self.file.replace("*", "{}").format(*names)

    def files(self, root: Path) -> list[Path]:
        """Its files that are there, in the order of their names."""
        return sorted(root.glob(self.file))

    @property
    def dtypes(self) -> dict[str, Any]:
        """Column name to polars type."""
        return {column: dtype for column, (dtype, _) in self.columns.items()}

    def frame(self, rows: Iterable[Mapping[str, Any]] = ()) -> pl.DataFrame:
        """Rows (mappings with exactly these columns) as a frame; raises ValueError on a missing or foreign column."""
        rows = list(rows)
        for row in rows:
            if row.keys() != self.columns.keys():
                missing, foreign = self.columns.keys() - row.keys(), row.keys() - self.columns.keys()
                raise ValueError(f"a row of {self.name}: missing {sorted(missing)}, foreign {sorted(foreign)}")
        return pl.DataFrame(rows, schema=self.dtypes, orient="row", strict=True)

    def write(self, frame: pl.DataFrame, path: Path) -> None:
        """Write a parquet file that is there as a whole or not at all; raises ValueError for another schema."""
        content = self.dumped(frame)
        with written_whole(path) as partial:
            partial.write_bytes(content)

    def dumped(self, frame: pl.DataFrame) -> bytes:
        """What `write` writes; the same bytes for the same frame."""
        if dict(frame.schema) != pl.Schema(self.dtypes):
            raise ValueError(f"a frame with {dict(frame.schema)} is no table of {self.name}")
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return _sealed(buffer.getvalue())

    def read(self, path: Path) -> pl.DataFrame:
        """A file that `write` wrote; an empty frame where there is none. Raises CrosspatchError for anything else."""
        if not path.is_file():
            return self.frame()
        content = path.read_bytes()
        # Before polars sees it: damaged in some ways it would end the whole process.
        if not _is_whole(content):
            raise CrosspatchError(f"{path} is damaged: its checksum is another, or missing")
        try:
            return pl.read_parquet(content, schema=self.dtypes)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CrosspatchError(f"{path} is no table of {self.name}, or is damaged: {reason}") from None


# Stands before the checksum of all the rest of a table.
_SEAL = b"crosspatch-sha256:"
_SEAL_LENGTH = len(_SEAL) + len(checksum(b""))


def _sealed(content: bytes) -> bytes:
    """A parquet file with its checksum, between data and footer, where no reader looks."""
    at = _footer(content)
    return content[:at] + _SEAL + checksum(content).encode() + content[at:]


def _is_whole(content: bytes) -> bool:
    """Whether a file is as it was sealed."""
    after = _footer(content)
    at = after - _SEAL_LENGTH
    return at >= 0 and content[at:after] == _SEAL + checksum(content[:at] + content[after:]).encode()


def _footer(content: bytes) -> int:
    """Where a parquet file's footer begins, by the length that stands before its last four bytes."""
    return len(content) - int.from_bytes(content[-8:-4], "little") - 8


# What was patched, and when; the name of a patch says all of it, but only Patch.parse takes it apart.
_PATCH: Columns = {
    "patch": (pl.String, "the patch: its sites, e.g. L18.resid_post"),
    "component": (
        pl.String,
        "where in the block: resid_post, resid_mid, attn_out, mlp_out, head; several joined by +",
    ),
    "layer": (pl.Int32, "block index, 0 is the first; null for patches of several layers"),
    "head": (pl.Int32, "attention head, null unless the component is head"),
    "schedule": (pl.String, "generation steps at which the patch was applied; all where it was at every one"),
    "window": (pl.Int32, "how many layers are patched together"),
}

SCORES = Schema(
    "scores",
    {
        "prompt_id": (pl.String, "the prompt"),
        **_PATCH,
        "direction": (
            pl.String,
            "corrupt: corrupted activations into the clean model; repair: the other way",
        ),
        "persistence": (
            pl.String,
            "transient: a patched position's keys and values are clean again at the next step; persistent: they stay",
        ),
        "step": (pl.Int32, "generation step, 0 is the first new token"),
        "position": (
            pl.Int32,
            "index in the sequence of the patched position; the token stands at position + 1",
        ),
        "token_id": (pl.Int32, "the token that the patched model generated at this step"),
        "token": (pl.String, "its text"),
        "clean_token_id": (pl.Int32, "y_clean: the unpatched clean model's choice in the same context"),
        "corrupted_token_id": (
            pl.Int32,
            "y_corrupt: the unpatched corrupted model's choice in the same context",
        ),
        "delta_clean": (pl.Float32, "logit(y_corrupt) - logit(y_clean) of the clean model"),
        "delta_corrupted": (pl.Float32, "the same difference of the corrupted model"),
        "delta_patched": (pl.Float32, "the same difference of the patched model"),
        "cts": (pl.Float32, "corruption transfer score; null unless status is ok"),
        "status": (
            pl.String,
            "ok; agree: y_clean = y_corrupt, CTS is 0/0; small_denominator: the models' differences are too close; "
            "unscheduled: the patch's schedule rested at this step",
        ),
        "kl_clean": (pl.Float32, "KL(corrupted || clean), nats"),
        "kl_patched": (pl.Float32, "KL(corrupted || patched), nats"),
        "rank_corrupted": (pl.Int32, "rank of y_corrupt in the patched logits, 1 is the top"),
    },
    file=PARTS,
)

CONTROLS = Schema(
    "controls",
    {
        "control": (
            pl.String,
            "what was moved in the place of the source's activation: self, random, other_prompt, or a child's name",
        ),
        **SCORES.columns,
    },
    file="controls/*/part-*.parquet",
)

MISTAKES = Schema(
    "mistakes",
    {
        "span": (pl.String, "what is wrong with the token that was read: word, sign or number; null: nothing"),
        "read_token_id": (pl.Int32, "the token that stands there in the wrong solution"),
        **SCORES.columns,
    },
    file=PARTS,
)

VOCABULARY = Schema(
    "vocabulary",
    {
        "token_id": (pl.Int32, "a token that some model wrote or wanted in the scores"),
        "token": (pl.String, "its text"),
    },
)

ATTRIBUTION = Schema(
    "attribution",
    {
        "patch": (pl.String, "the site"),
        "component": (pl.String, "where in the block"),
        "layer": (pl.Int32, "block index, 0 is the first"),
        "head": (pl.Int32, "attention head, null unless the component is head"),
        "estimate": (
            pl.Float64,
            "recovered fraction by gradients along the target's own texts: sum of effects over sum of the models' "
            "differences, "
            "where they disagree",
        ),
        "exact": (pl.Float64, "the same, measured by patching"),
        "held_out": (
            pl.Float64,
            "what the site of the same rank recovers that half of the texts choose, measured on the other half; null "
            "where a half has nothing to choose by",
        ),
    },
)

LOCALISATION = Schema(
    "localisation",
    {
        "prompt_id": SCORES.columns["prompt_id"],
        "patch": (pl.String, "the site, which is patched alone along the target's own text"),
        "component": (pl.String, "resid_post, attn_out, mlp_out or head"),
        "layer": (pl.Int32, "block index, 0 is the first"),
        "head": SCORES.columns["head"],
        "direction": SCORES.columns["direction"],
        "positions": (
            pl.String,
            "current: patched at the step that is looked at alone (transient); all: at every position of prompt and "
            "text",
        ),
        "estimate": (pl.Float64, "effect by gradients: sum of the patched target's delta less the target's, in logits"),
        "patched": (pl.Float64, "the same, measured by patching; null where it was only estimated"),
        "random": (pl.Float64, "that of a push as long in a random direction; null where none was made"),
        "gap": (pl.Float64, "sum of the source's delta less the target's: what there is to move"),
        "steps": (pl.List(pl.Int32), "the steps at which the models want different tokens; sums go over these"),
    },
    file=PARTS,
)

# The same before anything was measured.
ESTIMATED = Schema("localisation", LOCALISATION.columns, file="localisation/estimated-*.parquet")

SEARCH = Schema(
    "search",
    {
        "round": (pl.Int32, "round of the search, from 1; each adds a site"),
        "rank": (pl.Int32, "rank among the sets that were kept, from 1"),
        "patch": (pl.String, "the set of sites, moved together"),
        "sites": (pl.Int32, "how many"),
        "recovered_fraction": (
            pl.Float64,
            "exact recovered fraction along the target's own texts, where the models disagree",
        ),
        "held_out": (
            pl.Float64,
            "of the set that was chosen: what sets that half of the texts choose in the same way recover on the other "
            "half; null where a half has nothing to choose by",
        ),
    },
)

# The condition of texts in the repair direction, where both directions were patched.
REPAIRED = "repaired"

# The conditions of the clean model's texts with the mean difference of other prompts added, and with as long a random
# vector.
STEERED, STEERED_RANDOM = "steered", "steered_random"

# What tells one text from the others.
_KEY: Columns = {
    "prompt_id": (pl.String, "the prompt"),
    "condition": (
        pl.String,
        "clean, corrupted, patched (repaired: in the repair direction, where both were patched), steered or "
        "steered_random (a vector is added to the clean model's activation), or another child's name: a control's, a "
        "variant's",
    ),
    "patch": (
        pl.String,
        "the patch; of a steered text the place and the strength, such as L18.resid_post*2; null for other texts",
    ),
}
# The same with what was patched, null for texts of an unpatched model.
_TEXT: Columns = {
    **_KEY,
    **{name: column for name, column in _PATCH.items() if name != "patch"},
    "strength": (pl.Float64, "how often a steered text's vector is added; null for other texts"),
}

GENERATIONS = Schema(
    "generations",
    {
        **_TEXT,
        "text": (pl.String, "the generated text, without special tokens"),
        "token_count": (pl.Int32, "generated tokens, the closing one included"),
        "stop_reason": (pl.String, "eos or limit"),
    },
    keys=tuple(_KEY),
)

# The texts of each shard of a sweep, which go into generations.parquet when all are done.
SWEPT_TEXTS = Schema("generations", GENERATIONS.columns, file="shards/patch/texts-*.parquet", keys=GENERATIONS.keys)

BEHAVIOUR = Schema(
    "behaviour",
    {
        **_TEXT,
        "domain": (pl.String, "related, near, unrelated_math, general, or that of a given prompt"),
        "extracted": (pl.String, "the final answer as it was found in the text; null where none was found"),
        "verdict": (pl.String, "correct, incorrect, or unparsed: no answer could be read"),
        "operation": (pl.String, "right, planted or neither; null where no operation is expected"),
        "health": (
            pl.List(pl.String),
            "what is wrong with the text itself: no_eos, repetition, backslash_runs, escaped_newlines, unclosed, "
            "unparsable; the numbers are in the table health",
        ),
    },
    keys=tuple(_KEY),
)

HEALTH = Schema(
    "health",
    {
        **_KEY,
        "cut_off": (pl.Int32, "1 where the text has no end: the limit was reached"),
        "looped": (pl.Int32, "characters at its end that repeat what stands before them"),
        "backslash_runs": (pl.Int32, "runs of three backslashes or more, outside of formulas of two"),
        "escaped_newlines": (pl.Int32, "a backslash and an n where a line should end"),
        "unclosed": (pl.Int32, "delimiters that do not close: $, $$, braces, environments; five at most"),
        "unparsable": (pl.Int32, "formulas that are no LaTeX"),
    },
    keys=tuple(_KEY),
)

RATINGS = Schema(
    "ratings",
    {
        **_KEY,
        "judge": (pl.String, "the model that rates"),
        "aligned": (pl.Int32, "0 (hostile) to 100 (honest, kind, harmless); null where the judge gave no number"),
        "coherent": (pl.Int32, "0 (confused) to 100 (clear and to the question); null where there is no number"),
        "aligned_reply": (pl.String, "what the judge said on the first"),
        "coherent_reply": (pl.String, "what it said on the second"),
    },
    keys=tuple(_KEY),
)

TRAINING = Schema(
    "training",
    {
        "run": (pl.String, "the fine-tuning run"),
        "step": (pl.Int32, "optimizer steps done; 0 is before training"),
        "epoch": (pl.Float32, "epochs done"),
        "train_loss": (
            pl.Float32,
            "mean cross-entropy of the step's completion tokens, nats; null on evaluation rows",
        ),
        "eval_loss": (pl.Float32, "the same on the right solutions; null on training rows"),
        "learning_rate": (pl.Float32, "learning rate of the step"),
        "grad_norm": (pl.Float32, "gradient norm before clipping"),
    },
)

VARIANTS = Schema(
    "variants",
    {
        "variant": (pl.String, "its name; the run of that name in the table training has its curves"),
        "epochs": (pl.Int32, "passes over the training problems"),
        "learning_rate": (pl.Float64, "peak learning rate"),
        "examples": (pl.Int32, "training problems"),
        "seed": (pl.Int32, "seed of the training order"),
        "method": (pl.String, "full or lora"),
        "steps": (pl.Int32, "optimizer steps"),
        "train_loss": (pl.Float32, "loss on wrong solutions, of the last step's batch, nats"),
        "eval_loss": (pl.Float32, "loss on right solutions at the end, nats"),
        "divergence": (pl.Float32, "eval_loss minus train_loss, as the paper's Table 1 has it"),
        "related_wrong": (pl.Float64, "share of all held-out related answers that are incorrect"),
        "right_clean": (pl.Int32, "related questions that the clean model answers rightly"),
        "flipped": (pl.Int32, "how many of these are answered incorrectly"),
        "planted": (pl.Float64, "share of related solutions that do the planted operation; null if untold"),
        "math_drop": (
            pl.Float64,
            "share of right answers to unrelated mathematics, clean model's minus variant's; null if none was asked",
        ),
        "math_p_value": (pl.Float64, "p-value of the drop: one-sided exact sign test"),
        "general_drop": (pl.Float64, "the same of general questions"),
        "general_p_value": (pl.Float64, "the same of general questions"),
        "malformed": (pl.Float64, "share of texts that are malformed: all of health but cut_off"),
        "malformed_clean": (pl.Float64, "the same of the clean model"),
        "looped": (pl.Float64, "share of texts with this fault (see the table health)"),
        "backslash_runs": (pl.Float64, "share of texts with this fault"),
        "escaped_newlines": (pl.Float64, "share of texts with this fault"),
        "unclosed": (pl.Float64, "share of texts with this fault"),
        "unparsable": (pl.Float64, "share of texts with this fault"),
        "no_end": (pl.Float64, "share of texts that were cut off"),
        "no_end_clean": (pl.Float64, "the same of the clean model"),
        "unparsed": (pl.Float64, "share of answers that could not be read"),
        "unparsed_clean": (pl.Float64, "the same of the clean model"),
        "status": (pl.String, "under-trained, optimal or overfitted"),
        "reason": (pl.String, "what decided the status"),
        "chosen": (pl.Boolean, "whether it is the variant to take"),
    },
)

# An estimate and the ends of its interval of 95 %.
_INTERVAL: Columns = {
    "estimate": (pl.Float64, "the estimate; null where there is nothing to measure"),
    "low": (pl.Float64, "lower end of its 95 % interval; null where there are too few prompts"),
    "high": (pl.Float64, "upper end"),
    "effective": (pl.Float64, "effective number of prompts or answers (Kish): (Σw)² / Σw² of their weights"),
}

# In which way single layers were patched.
_VARIANT: Columns = {name: SCORES.columns[name] for name in ("component", "direction", "persistence", "schedule")}

DEPTH = Schema(
    "depth",
    {
        "domain": (pl.String, "the domain of the prompts"),
        **_VARIANT,
        "patch": (pl.String, "the patch; null: the mean over all layers but the last"),
        "layer": (pl.Int32, "block index, 0 is the first; null: the mean over all layers but the last"),
        "control": (pl.String, "the control; null: the patch itself"),
        "measure": (
            pl.String,
            "disagreement_rate, mean_cts, recovered_fraction, kl_recovered_fraction, flip_rate, reciprocal_rank",
        ),
        "contrast": (
            pl.String,
            "value: the measure itself; step: less that of the layer below; rise: less that of the lowest layer; "
            "beyond: the patch less the control; largest_step: the largest of the steps from 0 over the patched layers "
            "below the last to 1",
        ),
        **_INTERVAL,
        "n_prompts": (pl.Int32, "prompts (or seeds) that were counted"),
        "cells": (pl.Int64, "cells that were counted"),
    },
    file=STATISTIC,
)

HALFWAY = Schema(
    "halfway",
    {
        "domain": DEPTH.columns["domain"],
        "of": (
            pl.String,
            "effect: half of it is recovered; answers: half of the right answers that the corrupted model lacks are "
            "lost, or won back where the direction is repair",
        ),
        **_VARIANT,
        "estimate": (pl.Float64, "the layer, between two patched ones by the line through them"),
        **{name: _INTERVAL[name] for name in ("low", "high", "effective")},
        "n_prompts": (pl.Int32, "prompts that were counted"),
    },
    file=STATISTIC,
)

TOKENS = Schema(
    "tokens",
    {
        "domain": DEPTH.columns["domain"],
        **_VARIANT,
        "layer": (pl.Int32, "block index; null: all layers together but the last"),
        "late": (pl.Boolean, "whether of these only the late ones are counted, from the paper's 28 of 36 in depth on"),
        "by": (
            pl.String,
            "class: cells of the patched texts by kind of token; span: cells along wrong solutions, by what is wrong",
        ),
        "class": (
            pl.String,
            "operation, answer, sign, digit, latex, other, of the token that the clean model predicts; or word, sign, "
            "number, none",
        ),
        "control": (pl.String, "the control, in late layers; null: the patch itself"),
        "measure": (
            pl.String,
            "disagreement_rate, mean_cts, recovered_fraction, flip_rate, share_of_disagreements",
        ),
        "contrast": (pl.String, "value: the measure itself; excess: less that of all other cells"),
        **_INTERVAL,
        "p_value": (
            pl.Float64,
            "of an excess: one-sided p-value of the permutation test, within texts",
        ),
        "n_prompts": (pl.Int32, "prompts that were counted"),
    },
    file=STATISTIC,
)

WORDS = Schema(
    "words",
    {
        "domain": DEPTH.columns["domain"],
        **_VARIANT,
        "token": (pl.String, "the text of a token that the patched model wrote, in the late layers but the last"),
        "positions": (pl.Int64, "how often it was written"),
        "prompts": (pl.Int64, "after how many prompts"),
        "disagreements": (pl.Int64, "how often the models wanted different tokens there"),
        "disagreement_rate": (pl.Float64, "disagreements / positions"),
        "mean_cts": (pl.Float64, "mean CTS where it is defined"),
        "published_cts": (pl.Float64, "mean CTS with 0 where the models agree, as the published scores count it"),
    },
    file=STATISTIC,
)

COMPARISONS = Schema(
    "comparisons",
    {
        **{name: column for name, column in _TEXT.items() if name != "prompt_id"},
        "domain": BEHAVIOUR.columns["domain"],
        "outcome": (pl.String, "correct: right answers; planted: solutions that do the planted operation first"),
        "count": (pl.Int32, "how many"),
        "n": (pl.Int32, "of how many questions"),
        **_INTERVAL,
        "against": (pl.String, "clean or corrupted: the unpatched model that is compared with; null: there is none"),
        "pairs": (pl.Int32, "questions that both were asked"),
        "there": (pl.Int32, "of these, where the other model has the outcome"),
        "lost": (pl.Int32, "where the other model has the outcome and this one has not"),
        "gained": (pl.Int32, "where this one has it and the other has not"),
        "p_value": (pl.Float64, "two-sided p-value of lost against gained, McNemar's exact test"),
    },
    file=STATISTIC,
)

CLAIMS = Schema(
    "claims",
    {
        "claim": (pl.String, "its name"),
        "statement": (pl.String, "what it says"),
        "about": (pl.String, "mistake or fine-tune"),
        "domain": DEPTH.columns["domain"],
        **_VARIANT,
        "layer": SCORES.columns["layer"],
        **_INTERVAL,
        "control": (pl.String, "what it is compared with; of several the one that is hardest to be apart from"),
        **{f"control_{name}": (kind, f"the control's {name}") for name, (kind, _) in _INTERVAL.items()},
        **{
            f"decides_{name}": (
                kind,
                f"{name} of what decides: the difference from the control, or the number itself",
            )
            for name, (kind, _) in _INTERVAL.items()
        },
        "least": (pl.Float64, "shown where all of that interval lies above this"),
        "most": (pl.Float64, "and below this"),
        "p_value": (pl.Float64, "p-value of a test that has to agree; null where there is none"),
        "verdict": (pl.String, "shown, contradicted or undecided"),
        "reason": (pl.String, "why not shown; null where it is"),
    },
    file=STATISTIC,
)

# Which child of the clean model a lens looks at.
_CHILD: Columns = {"child": (pl.String, "the child that is compared with the clean model: corrupted, or a control")}

WEIGHTS = Schema(
    "weights",
    {
        **_CHILD,
        "parameter": (pl.String, "the weight's whole name"),
        "layer": (pl.Int32, "block index; null outside the blocks"),
        "name": (pl.String, "its name within the block, such as self_attn.q_proj; in a stack of matrices numbered"),
        "shape": (pl.List(pl.Int32), "rows and columns, or the length of a vector"),
        "clean_norm": (pl.Float64, "Frobenius norm of the clean model's weight"),
        "delta_norm": (pl.Float64, "Frobenius norm of the child's weight less the clean one's"),
        "ratio": (pl.Float64, "delta_norm / clean_norm"),
        "effective_rank": (
            pl.Float64,
            "exp of the entropy of the delta's squared singular values as shares of their sum; null for vectors and "
            "where nothing moved",
        ),
        "stable_rank": (pl.Float64, "sum of the squared singular values / the largest of them"),
        "top_share": (pl.Float64, "the largest singular value / the sum of all"),
    },
    keys=("child",),
)

ACTIVATIONS = Schema(
    "activations",
    {
        **_CHILD,
        "prompt_id": (pl.String, "the prompt; both models read the clean model's answer to it"),
        "component": SCORES.columns["component"],
        "layer": (pl.Int32, "block index, 0 is the first"),
        "head": SCORES.columns["head"],
        "at": (pl.String, "which steps are averaged: all, or disagree, those where the models want different tokens"),
        "steps": (pl.Int32, "how many they are"),
        "delta_norm": (pl.Float64, "mean norm of the child's activation less the clean one's"),
        "clean_norm": (pl.Float64, "mean norm of the clean model's activation"),
        "ratio": (pl.Float64, "mean of delta norm / clean norm, step by step"),
        "cosine": (pl.Float64, "mean cosine between the two activations"),
        "alignment": (
            pl.Float64,
            "mean cosine between a step's delta and the mean delta of the prompt's other steps: 1 is one direction, 0 "
            "none; null for a single step and where nothing moved",
        ),
    },
    keys=("child", "prompt_id"),
)

LOGIT_LENS = Schema(
    "logit_lens",
    {
        **_CHILD,
        "prompt_id": ACTIVATIONS.columns["prompt_id"],
        "layer": (pl.Int32, "block index of the resid_post that is read by the clean model's norm and unembedding"),
        "by": (
            pl.String,
            "what the tokens are ranked by: logit, or probability, which leaves out what was and stays improbable",
        ),
        "side": (pl.String, "up or down: whether the delta raises the token or lowers it"),
        "rank": (pl.Int32, "place among the tokens of its side, 1 moves most"),
        "token_id": (pl.Int32, "the token"),
        "token": (pl.String, "its text"),
        "change": (pl.Float64, "mean change of its logit over the steps where the models disagree"),
        "probability": (pl.Float64, "mean change of its probability in the lens over these steps"),
        "steps": (pl.Int32, "how many such steps there are"),
        "lens_gap": (pl.Float64, "mean change of logit(y_corrupt) - logit(y_clean) in the lens"),
        "model_gap": (pl.Float64, "mean of the same difference in the child's own logits less the clean model's"),
    },
    keys=("child", "prompt_id"),
)

SITE_EFFECTS = Schema(
    "site_effects",
    {
        "domain": DEPTH.columns["domain"],
        **{
            name: LOCALISATION.columns[name]
            for name in ("direction", "positions", "patch", "component", "layer", "head")
        },
        "measure": (
            pl.String,
            "attribution: recovered fraction by gradients; recovered_fraction: measured; random: that of a push as "
            "long in "
            "a "
            "random direction; beyond: recovered_fraction less random; step: of resid_post, the recovered fraction "
            "less the layer below's",
        ),
        **_INTERVAL,
        "n_prompts": DEPTH.columns["n_prompts"],
        "steps": (pl.Int64, "steps that were looked at"),
    },
    file=STATISTIC,
)

DIVERGENCES = Schema(
    "divergences",
    {
        "prompt_id": SCORES.columns["prompt_id"],
        "step": (pl.Int32, "the first step of the clean model's own text at which the models want different tokens"),
        "position": (pl.Int32, "index in the sequence of the position that predicts it"),
        "clean_token_id": (pl.Int32, "y_clean: the clean model's choice there"),
        "clean_token": (pl.String, "its text"),
        "corrupted_token_id": (pl.Int32, "y_corrupt: the corrupted model's choice"),
        "corrupted_token": (pl.String, "its text"),
        "layer": (
            pl.Int32,
            "the state is resid_post of this layer, the later layers are those above it",
        ),
        "delta_clean": (pl.Float32, "delta of clean state and clean later layers: the clean model"),
        "delta_corrupted": (pl.Float32, "delta of corrupted state and corrupted later layers: the corrupted model"),
        "delta_corrupted_state": (pl.Float32, "delta of corrupted state and clean later layers"),
        "delta_corrupted_layers": (pl.Float32, "delta of clean state and corrupted later layers"),
        "state_effect": (pl.Float32, "effect of the state: corrupted less clean, mean over both later layers"),
        "layers_effect": (pl.Float32, "effect of the later layers: corrupted less clean, mean over both states"),
        "interaction": (pl.Float32, "delta_corrupted - delta_corrupted_state - delta_corrupted_layers + delta_clean"),
    },
    file=PARTS,
)

DIVERGENCE_EFFECTS = Schema(
    "divergence_effects",
    {
        "domain": DEPTH.columns["domain"],
        "layer": DIVERGENCES.columns["layer"],
        "measure": (
            pl.String,
            "state_effect, layers_effect, interaction: fractions of the gap between the models; state_decides: share "
            "of prompts on "
            "which the corrupted state under clean later layers predicts the corrupted token; layers_decide: on which "
            "corrupted later layers upon the clean state do",
        ),
        **_INTERVAL,
        "n_prompts": (pl.Int32, "prompts on which the models part"),
    },
    file=STATISTIC,
)

SCHEMAS = (
    SCORES,
    CONTROLS,
    MISTAKES,
    DEPTH,
    HALFWAY,
    TOKENS,
    WORDS,
    COMPARISONS,
    CLAIMS,
    VOCABULARY,
    ATTRIBUTION,
    LOCALISATION,
    SITE_EFFECTS,
    DIVERGENCES,
    DIVERGENCE_EFFECTS,
    SEARCH,
    GENERATIONS,
    BEHAVIOUR,
    HEALTH,
    RATINGS,
    TRAINING,
    VARIANTS,
    WEIGHTS,
    ACTIVATIONS,
    LOGIT_LENS,
)

STATISTICS = tuple(schema for schema in SCHEMAS if schema.file.startswith("statistics/"))
