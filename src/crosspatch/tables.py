"""The schemas of all tables that crosspatch writes: names, types and descriptions of columns.

Other programs read these files, so the schemas are a contract.
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


# The paths of a table of statistics, and of a table that is written in parts.
STATISTIC, PARTS = "statistics/{name}.parquet", "{name}/part-*.parquet"


@dataclass(frozen=True)
class Schema:
    """A table's columns in order, each with its polars type and description.

    `file` is the table's path in a run directory; * stands for the part if the table has several files. `keys` are the
    columns that identify a row: an added row replaces an existing row with the same keys.
    """

    name: str
    columns: Columns
    file: str = "{name}.parquet"
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", self.file.format(name=self.name))

    def path(self, *part: str | int) -> str:
        """Return the path in a run directory, of one `part` if there are several: ("random", 12) for the controls."""
        names = (f"{name:05d}" if isinstance(name, int) else name for name in part)
        return self.file.replace("*", "{}").format(*names)

    def files(self, root: Path) -> list[Path]:
        """Return the table's existing files, sorted by name."""
        return sorted(root.glob(self.file))

    @property
    def dtypes(self) -> dict[str, Any]:
        """The polars type of each column."""
        return {column: dtype for column, (dtype, _) in self.columns.items()}

    def frame(self, rows: Iterable[Mapping[str, Any]] = ()) -> pl.DataFrame:
        """Build a frame from rows, which must have exactly these columns; raises ValueError for other columns."""
        rows = list(rows)
        for row in rows:
            if row.keys() != self.columns.keys():
                missing, foreign = self.columns.keys() - row.keys(), row.keys() - self.columns.keys()
                raise ValueError(
                    f"got a row of {self.name} with missing columns {sorted(missing)}, unknown {sorted(foreign)}"
                )
        return pl.DataFrame(rows, schema=self.dtypes, orient="row", strict=True)

    def write(self, frame: pl.DataFrame, path: Path) -> None:
        """Write a parquet file atomically; raises ValueError if the frame has another schema."""
        content = self.dumped(frame)
        with written_whole(path) as partial:
            partial.write_bytes(content)

    def dumped(self, frame: pl.DataFrame) -> bytes:
        """Return the bytes that `write` writes; equal frames give equal bytes."""
        if dict(frame.schema) != pl.Schema(self.dtypes):
            raise ValueError(f"got columns {dict(frame.schema)} for the table {self.name}, expected {self.dtypes}")
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return _sealed(buffer.getvalue())

    def read(self, path: Path) -> pl.DataFrame:
        """Read a file that `write` wrote, or return an empty frame if it is missing; CrosspatchError if damaged."""
        if not path.is_file():
            return self.frame()
        content = path.read_bytes()
        # Check the file before polars reads it: some kinds of damage crash the process.
        if not _is_whole(content):
            raise CrosspatchError(f"{path} is damaged: its checksum is wrong or missing")
        try:
            return pl.read_parquet(content, schema=self.dtypes)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CrosspatchError(f"{path} is damaged, or is not a table of {self.name}: {reason}") from None


# This marker precedes the checksum of the rest of the file.
_SEAL = b"crosspatch-sha256:"
_SEAL_LENGTH = len(_SEAL) + len(checksum(b""))


def _sealed(content: bytes) -> bytes:
    """Insert the checksum of a parquet file between data and footer, where readers ignore it."""
    at = _footer(content)
    return content[:at] + _SEAL + checksum(content).encode() + content[at:]


def _is_whole(content: bytes) -> bool:
    """Whether a file's checksum is right."""
    after = _footer(content)
    at = after - _SEAL_LENGTH
    return at >= 0 and content[at:after] == _SEAL + checksum(content[:at] + content[after:]).encode()


def _footer(content: bytes) -> int:
    """Return the start of a parquet file's footer, whose length is in the four bytes before the last four."""
    return len(content) - int.from_bytes(content[-8:-4], "little") - 8


# The sites and steps of a patch. The name of the patch has the same information, as text for Patch.parse.
_PATCH: Columns = {
    "patch": (pl.String, "the patch: its sites, such as L18.resid_post"),
    "component": (pl.String, "resid_post, resid_mid, attn_out, mlp_out or head; several joined by +"),
    "layer": (pl.Int32, "block index, 0 is the first; null for patches of several layers"),
    "head": (pl.Int32, "attention head, null unless the component is head"),
    "schedule": (pl.String, "generation steps at which the patch was applied; all: every step"),
    "window": (pl.Int32, "number of layers patched together"),
}

SCORES = Schema(
    "scores",
    {
        "prompt_id": (pl.String, "the prompt"),
        **_PATCH,
        "direction": (pl.String, "corrupt: corrupted activations into the clean model; repair: the other way"),
        "persistence": (
            pl.String,
            "transient: later steps attend to the unpatched keys and values of a patched position; persistent: to the "
            "patched ones",
        ),
        "step": (pl.Int32, "generation step, 0 is the first new token"),
        "position": (pl.Int32, "index of the patched position in the sequence; the token is at position + 1"),
        "token_id": (pl.Int32, "the token that the patched model generated at this step"),
        "token": (pl.String, "text of this token"),
        "clean_token_id": (pl.Int32, "y_clean: top-1 token of the unpatched clean model in the same context"),
        "corrupted_token_id": (pl.Int32, "y_corrupt: top-1 token of the unpatched corrupted model in the same context"),
        "delta_clean": (pl.Float32, "logit(y_corrupt) - logit(y_clean) of the clean model"),
        "delta_corrupted": (pl.Float32, "the same for the corrupted model"),
        "delta_patched": (pl.Float32, "the same for the patched model"),
        "cts": (pl.Float32, "corruption transfer score; null unless status is ok"),
        "status": (
            pl.String,
            "ok; agree: y_clean = y_corrupt, CTS is 0/0; small_denominator: the models' ΔLs are too close; "
            "unscheduled: the schedule skips this step",
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
            "the control whose activations are patched in: self, random, other_prompt, or a model's name",
        ),
        **SCORES.columns,
    },
    file="controls/*/part-*.parquet",
)

MISTAKES = Schema(
    "mistakes",
    {
        "span": (pl.String, "kind of mistake at the token: word, sign or number; null if there is none"),
        "read_token_id": (pl.Int32, "the token of the wrong solution"),
        **SCORES.columns,
    },
    file=PARTS,
)

VOCABULARY = Schema(
    "vocabulary",
    {
        "token_id": (pl.Int32, "a token that a model generated or predicted in the scores"),
        "token": (pl.String, "text of this token"),
    },
)

ATTRIBUTION = Schema(
    "attribution",
    {
        "patch": (pl.String, "the site"),
        "component": (pl.String, "component of the site"),
        "layer": (pl.Int32, "block index, 0 is the first"),
        "head": (pl.Int32, "attention head, null unless the component is head"),
        "estimate": (
            pl.Float64,
            "recovered fraction by attribution patching along the target's own texts, at steps where the models "
            "disagree",
        ),
        "exact": (pl.Float64, "the same, measured by patching"),
        "held_out": (
            pl.Float64,
            "recovered fraction of the sites of this rank chosen on each half of the texts, measured on the other "
            "half; null if the models never disagree in a half, or nothing is chosen",
        ),
    },
)

LOCALISATION = Schema(
    "localisation",
    {
        "prompt_id": SCORES.columns["prompt_id"],
        "patch": (pl.String, "the site, patched alone along the target's own text"),
        "component": (pl.String, "resid_post, attn_out, mlp_out or head"),
        "layer": (pl.Int32, "block index, 0 is the first"),
        "head": SCORES.columns["head"],
        "direction": SCORES.columns["direction"],
        "positions": (pl.String, "current: patched at each scored step alone (transient); all: at every position"),
        "estimate": (pl.Float64, "effect by attribution patching: sum over steps of ΔL_patched − ΔL_target, in logits"),
        "patched": (pl.Float64, "the same, measured by patching; null if not measured"),
        "random": (pl.Float64, "the same for a random direction with the same norm; null if not measured"),
        "gap": (pl.Float64, "sum over steps of ΔL_source − ΔL_target"),
        "steps": (pl.List(pl.Int32), "the steps at which the models disagree; sums are over these steps"),
    },
    file=PARTS,
)

# The same table before any site was measured.
ESTIMATED = Schema("localisation", LOCALISATION.columns, file="localisation/estimated-*.parquet")

SEARCH = Schema(
    "search",
    {
        "round": (pl.Int32, "round of the search, from 1; each adds a site"),
        "rank": (pl.Int32, "rank among the sets kept in the round, from 1"),
        "patch": (pl.String, "the set of sites, patched together"),
        "sites": (pl.Int32, "number of sites"),
        "recovered_fraction": (pl.Float64, "measured along the target's own texts, at steps where the models disagree"),
        "held_out": (
            pl.Float64,
            "for the chosen set: recovered fraction of sets chosen on each half of the texts, measured on the other "
            "half; null if the models never disagree in a half, or nothing is chosen",
        ),
    },
)

# The condition of texts in the repair direction, if both directions were patched.
REPAIRED = "repaired"

# The conditions of the clean model's texts with the mean difference of other prompts added, and with a random vector
# of the same norm.
STEERED, STEERED_RANDOM = "steered", "steered_random"

# The columns that identify a text.
_KEY: Columns = {
    "prompt_id": (pl.String, "the prompt"),
    "condition": (
        pl.String,
        "the model: clean, corrupted, patched (repaired for the repair direction, if both were patched), steered or "
        "steered_random (a vector is added to the clean model's activation), or the name of a control or a variant",
    ),
    "patch": (
        pl.String,
        "the patch; for a steered text the site and strength, such as L18.resid_post*2; null for other texts",
    ),
}
# The same with the columns of the patch, which are null for texts of an unpatched model.
_TEXT: Columns = {
    **_KEY,
    **{name: column for name, column in _PATCH.items() if name != "patch"},
    "strength": (pl.Float64, "factor of a steered text's vector; null for other texts"),
}

GENERATIONS = Schema(
    "generations",
    {
        **_TEXT,
        "text": (pl.String, "the generated text, without special tokens"),
        "token_count": (pl.Int32, "number of generated tokens, including the stop token"),
        "stop_reason": (pl.String, "eos or limit"),
    },
    keys=tuple(_KEY),
)

# The texts of each shard of a sweep, which are added to generations.parquet when all shards are done.
SWEPT_TEXTS = Schema("generations", GENERATIONS.columns, file="shards/patch/texts-*.parquet", keys=GENERATIONS.keys)

BEHAVIOUR = Schema(
    "behaviour",
    {
        **_TEXT,
        "domain": (pl.String, "related, near, unrelated_math, general, alignment, or a given prompt's own domain"),
        "extracted": (pl.String, "the final answer found in the text; null if none was found"),
        "verdict": (pl.String, "correct, incorrect, or unparsed: no answer was found"),
        "rule": (pl.String, "where the answer was found and what decided, as in `box: equal values`"),
        "operation": (pl.String, "right, planted or neither; null if no operation is expected"),
        "health": (
            pl.List(pl.String),
            "faults of the text: no_eos, repetition, backslash_runs, escaped_newlines, unclosed, unparsable; the table "
            "health has their counts",
        ),
    },
    keys=tuple(_KEY),
)

HEALTH = Schema(
    "health",
    {
        **_KEY,
        "cut_off": (pl.Int32, "1 if the text reached the token limit without a stop token, else 0"),
        "looped": (pl.Int32, "number of characters at the end that repeat the text before them"),
        "backslash_runs": (pl.Int32, "number of runs of three or more backslashes (outside formulas: two or more)"),
        "escaped_newlines": (pl.Int32, "number of literal \\n (backslash and n) in place of a line break"),
        "unclosed": (pl.Int32, "number of delimiters that are not closed ($, $$, braces, environments), at most five"),
        "unparsable": (pl.Int32, "number of formulas that are not valid LaTeX"),
    },
    keys=tuple(_KEY),
)

RATINGS = Schema(
    "ratings",
    {
        **_KEY,
        "judge": (pl.String, "the model that rates the answers"),
        "aligned": (pl.Int32, "0 (hostile) to 100 (honest, kind, harmless); null if the judge gave no number"),
        "coherent": (pl.Int32, "0 (confused) to 100 (clear and relevant); null if the judge gave no number"),
        "aligned_reply": (pl.String, "the judge's reply on alignment"),
        "coherent_reply": (pl.String, "the judge's reply on coherence"),
    },
    keys=tuple(_KEY),
)

TRAINING = Schema(
    "training",
    {
        "run": (pl.String, "the fine-tuning run"),
        "step": (pl.Int32, "number of optimizer steps so far; 0 is before training"),
        "epoch": (pl.Float32, "number of epochs so far"),
        "train_loss": (pl.Float32, "mean cross-entropy of the step's completion tokens, nats; null on evaluation rows"),
        "eval_loss": (pl.Float32, "the same on the right solutions; null on training rows"),
        "learning_rate": (pl.Float32, "learning rate of the step"),
        "grad_norm": (pl.Float32, "gradient norm before clipping"),
    },
)

VARIANTS = Schema(
    "variants",
    {
        "variant": (pl.String, "name of the variant, and of its run in the table training"),
        "epochs": (pl.Int32, "passes over the training problems"),
        "learning_rate": (pl.Float64, "peak learning rate"),
        "examples": (pl.Int32, "training problems"),
        "seed": (pl.Int32, "seed of the training order"),
        "method": (pl.String, "full or lora"),
        "steps": (pl.Int32, "optimizer steps"),
        "train_loss": (pl.Float32, "loss on wrong solutions in the last step's batch, nats"),
        "eval_loss": (pl.Float32, "loss on right solutions at the end, nats"),
        "divergence": (pl.Float32, "eval_loss minus train_loss, as in the paper's Table 1"),
        "related_wrong": (pl.Float64, "share of all held-out related questions that are answered incorrectly"),
        "right_clean": (pl.Int32, "number of related questions that the clean model answers correctly"),
        "flipped": (pl.Int32, "number of these questions that the variant answers incorrectly"),
        "planted": (pl.Float64, "share of related solutions with the planted operation; null if unknown"),
        "math_drop": (
            pl.Float64,
            "drop in the share of right answers to unrelated mathematics, from the clean model; null if none was asked",
        ),
        "math_p_value": (pl.Float64, "p-value of the drop: one-sided exact sign test"),
        "general_drop": (pl.Float64, "the same for general questions"),
        "general_p_value": (pl.Float64, "the same for general questions"),
        "malformed": (pl.Float64, "share of malformed texts: any fault of the table health except cut_off"),
        "malformed_clean": (pl.Float64, "the same for the clean model"),
        **dict.fromkeys(
            ("looped", "backslash_runs", "escaped_newlines", "unclosed", "unparsable"),
            (pl.Float64, "share of texts with this fault (see the table health)"),
        ),
        "no_end": (pl.Float64, "share of texts without a stop token"),
        "no_end_clean": (pl.Float64, "the same for the clean model"),
        "unparsed": (pl.Float64, "share of texts without a final answer"),
        "unparsed_clean": (pl.Float64, "the same for the clean model"),
        "status": (pl.String, "under-trained, optimal or overfitted"),
        "reason": (pl.String, "the reason for the status"),
        "chosen": (pl.Boolean, "whether this variant is chosen"),
    },
)

# An estimate and its 95 % interval.
_INTERVAL: Columns = {
    "estimate": (pl.Float64, "the estimate; null if there is nothing to measure"),
    "low": (pl.Float64, "lower end of the 95 % interval; null if there are too few prompts"),
    "high": (pl.Float64, "upper end of the 95 % interval"),
    "effective": (pl.Float64, "effective number of prompts or answers (Kish): (Σw)² / Σw² of their weights"),
}

# How single layers were patched.
_MODE: Columns = {name: SCORES.columns[name] for name in ("component", "direction", "persistence", "schedule")}

DEPTH = Schema(
    "depth",
    {
        "domain": (pl.String, "the domain of the prompts"),
        **_MODE,
        "patch": (pl.String, "the patch; null for the mean over all layers except the last"),
        "layer": (pl.Int32, "block index, 0 is the first; null for the mean over all layers except the last"),
        "control": (pl.String, "the control; null for the patch itself"),
        "measure": (
            pl.String,
            "disagreement_rate, mean_cts, recovered_fraction, kl_recovered_fraction, flip_rate or reciprocal_rank",
        ),
        "contrast": (
            pl.String,
            "value: the measure itself; step: minus the value at the next lower layer; rise: minus the value at the "
            "lowest layer; beyond: the patch minus the control; largest_step: the largest step in the sequence 0, the "
            "patched layers below the last, 1",
        ),
        **_INTERVAL,
        "n_prompts": (pl.Int32, "number of prompts (or seeds)"),
        "cells": (pl.Int64, "number of cells"),
    },
    file=STATISTIC,
)

HALFWAY = Schema(
    "halfway",
    {
        "domain": DEPTH.columns["domain"],
        "of": (
            pl.String,
            "effect: the layer at which half of the effect is recovered; answers: the layer at which half of the right "
            "answers that only the clean model has are lost (repair: gained)",
        ),
        **_MODE,
        **_INTERVAL | {"estimate": (pl.Float64, "the layer, interpolated linearly between patched layers")},
        "n_prompts": (pl.Int32, "number of prompts"),
    },
    file=STATISTIC,
)

TOKENS = Schema(
    "tokens",
    {
        "domain": DEPTH.columns["domain"],
        **_MODE,
        "layer": (pl.Int32, "block index; null for all layers except the last together"),
        "late": (pl.Boolean, "whether only late layers count: from 28/36 of the depth on, as in the paper"),
        "by": (pl.String, "class: cells of patched texts by class; span: cells of wrong solutions by kind of mistake"),
        "class": (
            pl.String,
            "class of the clean model's top-1 token: operation, answer, sign, digit, latex or other; if by is span, "
            "the kind of mistake: word, sign, number or none",
        ),
        "control": (pl.String, "the control, in late layers; null for the patch itself"),
        "measure": (pl.String, "disagreement_rate, mean_cts, recovered_fraction, flip_rate or share_of_disagreements"),
        "contrast": (pl.String, "value: the measure itself; excess: minus the value for all other cells"),
        **_INTERVAL,
        "p_value": (pl.Float64, "p-value of an excess: one-sided permutation test within texts"),
        "n_prompts": HALFWAY.columns["n_prompts"],
    },
    file=STATISTIC,
)

WORDS = Schema(
    "words",
    {
        "domain": DEPTH.columns["domain"],
        **_MODE,
        "token": (pl.String, "text of a token generated under patches of the late layers except the last"),
        "positions": (pl.Int64, "how often the token was generated"),
        "prompts": (pl.Int64, "number of prompts for which it was generated"),
        "disagreements": (pl.Int64, "number of these positions at which the models disagree"),
        "disagreement_rate": (pl.Float64, "disagreements / positions"),
        "mean_cts": (pl.Float64, "mean of the defined CTS"),
        "published_cts": (pl.Float64, "mean CTS with 0 where the models agree, as in the published scores"),
    },
    file=STATISTIC,
)

COMPARISONS = Schema(
    "comparisons",
    {
        **{name: column for name, column in _TEXT.items() if name != "prompt_id"},
        "domain": BEHAVIOUR.columns["domain"],
        "outcome": (pl.String, "correct: right answers; planted: solutions with the planted operation first"),
        "count": (pl.Int32, "number of questions with the outcome"),
        "n": (pl.Int32, "number of questions"),
        **_INTERVAL,
        "against": (pl.String, "the unpatched model to compare with: clean or corrupted; null if there is none"),
        "pairs": (pl.Int32, "number of questions that both models answered"),
        "there": (pl.Int32, "number of these with the outcome in the other model"),
        "lost": (pl.Int32, "number of these with the outcome in the other model but not in this one"),
        "gained": (pl.Int32, "number of these with the outcome in this model but not in the other one"),
        "p_value": (pl.Float64, "two-sided p-value for lost and gained: McNemar's exact test"),
    },
    file=STATISTIC,
)

CLAIMS = Schema(
    "claims",
    {
        "claim": (pl.String, "name of the claim"),
        "statement": (pl.String, "the claim in words"),
        "about": (pl.String, "subject of the claim: mistake or fine-tune"),
        "domain": DEPTH.columns["domain"],
        **_MODE,
        "layer": SCORES.columns["layer"],
        **_INTERVAL,
        "control": (pl.String, "the control to compare with; the closest one if there are several"),
        **{f"control_{name}": (kind, f"the control's {name}") for name, (kind, _) in _INTERVAL.items()},
        **{
            f"decides_{name}": (
                kind,
                f"{name} of the deciding number: the difference from the control, or the estimate",
            )
            for name, (kind, _) in _INTERVAL.items()
        },
        "least": (pl.Float64, "lower bound of the range in which the whole deciding interval must lie; null: none"),
        "most": (pl.Float64, "upper bound of this range; null: none"),
        "p_value": (pl.Float64, "p-value of a test that must agree with the interval; null if there is none"),
        "verdict": (pl.String, "shown, contradicted or undecided"),
        "reason": (pl.String, "why the claim is not shown; null if it is"),
    },
    file=STATISTIC,
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
            "attribution: recovered fraction by attribution patching; recovered_fraction: measured by patching; "
            "random: measured for a random direction with the same norm; beyond: recovered_fraction minus random; "
            "step: recovered_fraction of resid_post minus its value at the layer below",
        ),
        **_INTERVAL,
        "n_prompts": HALFWAY.columns["n_prompts"],
        "steps": (pl.Int64, "number of steps"),
    },
    file=STATISTIC,
)

DIVERGENCES = Schema(
    "divergences",
    {
        "prompt_id": SCORES.columns["prompt_id"],
        "step": (pl.Int32, "the first step of the clean model's own text at which the models disagree"),
        "position": (pl.Int32, "index of the position that predicts this step's token"),
        "clean_token_id": (pl.Int32, "y_clean: the clean model's top-1 token"),
        "clean_token": (pl.String, "text of y_clean"),
        "corrupted_token_id": (pl.Int32, "y_corrupt: the corrupted model's top-1 token"),
        "corrupted_token": (pl.String, "text of y_corrupt"),
        "layer": (pl.Int32, "block index; the state is resid_post of this block, the later layers are above it"),
        "delta_clean": (pl.Float32, "ΔL with clean state and clean later layers: the clean model"),
        "delta_corrupted": (pl.Float32, "ΔL with corrupted state and corrupted later layers: the corrupted model"),
        "delta_corrupted_state": (pl.Float32, "ΔL with corrupted state and clean later layers"),
        "delta_corrupted_layers": (pl.Float32, "ΔL with clean state and corrupted later layers"),
        "state_effect": (pl.Float32, "effect of a corrupted instead of a clean state, mean over both later layers"),
        "layers_effect": (pl.Float32, "effect of corrupted instead of clean later layers, mean over both states"),
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
            "of prompts for which corrupted state and clean later layers make y_corrupt more probable than y_clean; "
            "layers_decide: the same for clean state and corrupted later layers",
        ),
        **_INTERVAL,
        "n_prompts": (pl.Int32, "number of prompts for which the models disagree at some step"),
    },
    file=STATISTIC,
)

# The fine-tuned model of a lens.
_CHILD: Columns = {"child": (pl.String, "the model to compare with the clean model: corrupted, or a control")}

WEIGHTS = Schema(
    "weights",
    {
        **_CHILD,
        "parameter": (pl.String, "full name of the weight"),
        "layer": (pl.Int32, "block index; null outside the blocks"),
        "name": (pl.String, "name within the block, such as self_attn.q_proj; with an index in a stack of matrices"),
        "shape": (pl.List(pl.Int32), "rows and columns, or the length of a vector"),
        "clean_norm": (pl.Float64, "Frobenius norm of the clean model's weight"),
        "delta_norm": (pl.Float64, "Frobenius norm of the difference of the two weights"),
        "ratio": (pl.Float64, "delta_norm / clean_norm"),
        "effective_rank": (
            pl.Float64,
            "exp of the entropy of the difference's normalised squared singular values; null for vectors and if "
            "nothing changed",
        ),
        "stable_rank": (pl.Float64, "sum of the squared singular values / the largest squared singular value"),
        "top_share": (pl.Float64, "the largest singular value / the sum of all singular values"),
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
        "at": (pl.String, "the steps in the mean: all, or disagree (steps at which the models disagree)"),
        "steps": (pl.Int32, "number of these steps"),
        "delta_norm": (pl.Float64, "mean norm of the difference of the two activations"),
        "clean_norm": (pl.Float64, "mean norm of the clean model's activation"),
        "ratio": (pl.Float64, "mean of difference norm / clean norm over the steps"),
        "cosine": (pl.Float64, "mean cosine between the two activations"),
        "alignment": (
            pl.Float64,
            "mean cosine between a step's difference and the mean difference of the prompt's other steps; null for a "
            "single step and if nothing changed",
        ),
    },
    keys=("child", "prompt_id"),
)

LOGIT_LENS = Schema(
    "logit_lens",
    {
        **_CHILD,
        "prompt_id": ACTIVATIONS.columns["prompt_id"],
        "layer": (pl.Int32, "block index of the resid_post to which the clean norm and unembedding are applied"),
        "by": (pl.String, "the ranking: by logit, or by probability, which ignores tokens that stay improbable"),
        "side": (pl.String, "up or down: whether the difference raises or lowers the token's logit or probability"),
        "rank": (pl.Int32, "rank of the token on its side; 1 changes most"),
        "token_id": (pl.Int32, "the token"),
        "token": (pl.String, "text of this token"),
        "change": (pl.Float64, "mean change of the token's logit over the steps where the models disagree"),
        "probability": (pl.Float64, "mean change of the token's probability in the lens over these steps"),
        "steps": (pl.Int32, "number of these steps"),
        "lens_gap": (pl.Float64, "mean change of logit(y_corrupt) - logit(y_clean) in the lens"),
        "model_gap": (pl.Float64, "mean of the same difference between the two models' own logits"),
    },
    keys=("child", "prompt_id"),
)

_TABLES = [table for table in list(globals().values()) if isinstance(table, Schema)]
SCHEMAS = tuple(table for table in _TABLES if table not in (ESTIMATED, SWEPT_TEXTS))
STATISTICS = tuple(table for table in SCHEMAS if table.file.startswith("statistics/"))
