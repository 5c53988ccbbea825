"""The any-cache engine, for models whose past is more than keys and values, or that compute attention by themselves.

Rows are forks of the model's own Hugging Face cache. Each model keeps one cache with a row for each context, a text
that some patches have generated so far. Before each token the target's cache is forked: it gets a further row for each
patch, and after the pass only the contexts' rows are kept. A persistent patch keeps its own row instead. There are no
drafts, and prompts run together only if they are equally long, since padding would change recurrent states.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache

from crosspatch.models.blocks import cache_argument, decoder, text_config
from crosspatch.models.hooks import Edit, editing, reading, replacing
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from crosspatch.patching.scores import Contexts, ScoreLog, score_cells
from crosspatch.patching.trajectory import OwnText, PatchRun, Prompt, Trajectory, Written

Indices = NDArray[np.int64]


class Past:
    """A model with its own cache of B texts of equal length; the cache is of the kind that `generate` would use.

    A pass may change the cache's tensors in place, so copies have to be made before it, with `fork` or `select`.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, input_device(model)
        self._base, self._argument, self._rows = decoder(model), cache_argument(decoder(model)), 0
        # Some models make a cache of another kind in their first pass.
        fitting = model._supports_default_dynamic_cache()
        self._cache = DynamicCache(config=text_config(model)) if fitting else None

    def read(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Read the next tokens of every text; return the last hidden states."""
        output = self._base(input_ids=ids.to(self.device), use_cache=True, **{self._argument: self._cache})
        self._cache, self._rows = output.get(self._argument, self._cache), len(ids)
        return output[0]

    def select(self, rows: Indices) -> None:
        """Replace the texts by copies of some of them, each as often as it is listed."""
        count, at = self._rows, torch.from_numpy(rows)

        def selected(tensor: Tensor) -> Tensor:
            is_batch = tensor.dim() > 1 and len(tensor) == count
            return tensor.index_select(0, at.to(tensor.device)) if is_batch else tensor

        # `reorder_cache` would miss what some models keep beside the layers of their cache.
        self._cache, self._rows = _mapped(self._cache, selected), len(rows)

    @property
    def nbytes(self) -> int:
        """The size of the cache."""
        sizes = [0]

        def measured(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        _mapped(self._cache, measured)
        return sum(sizes)

    def fork(self, rows: Indices) -> Past:
        """Return another cache of the model, with copies of some texts."""
        forked = copy.copy(self)
        forked._cache = copy.deepcopy(self._cache)
        forked.select(rows)
        return forked


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to all tensors of a cache, of any class; objects and dictionaries are changed."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, function) for item in value)
    inside = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    for key, item in inside.items():
        if isinstance(item, Tensor | list | tuple | dict):
            inside[key] = _mapped(item, function)
    return value


def in_rows(edit: Edit) -> Edit:
    """Return an edit of a batch [B, 1, W] that takes its rows for the positions of one sequence."""

    def of_batch(activation: Tensor) -> Tensor | None:
        edited = edit(activation.transpose(0, 1))
        return None if edited is None else edited.transpose(0, 1)

    return of_batch


@torch.inference_mode()
def run_any_cache(
    pair: ModelPair, prompts: Sequence[Prompt], run: PatchRun, text: Sequence[int] | None = None
) -> list[Written]:
    """Generate from each prompt under each of its patches separately; trajectories equal the reference engine's.

    If a `text` (token ids) is given, every patch is scored along it, and nothing is generated.
    """
    lengths = np.array([len(prompt.ids) for prompt in prompts])
    written: dict[int, Written] = {}
    for length in np.unique(lengths):
        alike = np.flatnonzero(lengths == length).tolist()
        written |= zip(alike, _Lockstep(pair, [prompts[p] for p in alike], run, text).written(), strict=True)
    return [written[p] for p in range(len(prompts))]


class _Lockstep:
    """The texts of prompts of equal length, token by token.

    Rows are numbered patches of prompts; `of` has the context of each of N rows.
    """

    def __init__(
        self, pair: ModelPair, prompts: Sequence[Prompt], run: PatchRun, text: Sequence[int] | None = None
    ) -> None:
        self._pair, self._prompts, self._run, self._text = pair, prompts, run, text
        self._target, self._source = (Past(model) for model in pair.target_and_source(run.direction))
        self._persistent, self._log = run.persistence == "persistent", ScoreLog()
        self._rows = [Trajectory(patch, len(prompt.ids)) for prompt in prompts for patch in prompt.patches]
        self._patched = {
            site: np.array([site in row.patch.sites for row in self._rows])
            for site in {site for row in self._rows for site in row.patch.sites}
        }
        # The edits of the target's current pass. The hooks stay, as registering them for each token takes time.
        self._edits: dict[Site, Edit] = {}

    def written(self) -> list[Written]:
        """Return the results by prompt."""
        own = [(OwnText(), OwnText()) for _ in self._prompts]
        asked = [p for p, prompt in enumerate(self._prompts) if prompt.answers]
        rows = [p for p, prompt in enumerate(self._prompts) for _ in prompt.patches]
        of = np.array([*rows, *asked, *asked], dtype=np.int64)
        texts = [own[p][0] for p in asked] + [own[p][1] for p in asked]
        edits = {site: partial(self._edited, site) for site in self._patched}
        with reading(self._source.model, self._patched) as self._read, editing(self._target.model, edits):
            self._generate(of, texts)
        for row, steps in zip(self._rows, self._log.split(len(self._rows)), strict=True):
            row.steps = steps
        done = iter(self._rows)
        parts = zip(self._prompts, own, strict=True)
        return [Written(list(islice(done, len(prompt.patches))), *texts) for prompt, texts in parts]

    def _generate(self, of: Indices, own: Sequence[OwnText]) -> None:
        """Generate token by token. `of` has the contexts of all rows, and of the unpatched models' `own` texts.

        The target's own texts come first, then the source's.
        """
        ids = torch.tensor([prompt.ids for prompt in self._prompts])
        if ids.shape[1] > 1:
            for past in (self._target, self._source):
                past.read(ids[:, :-1])
        live, last = np.arange(len(of)), ids[:, -1].numpy()
        if self._persistent:
            self._target.select(np.concatenate([np.arange(len(last)), of[: len(self._rows)]]))
        writers = [*self._rows, *own]
        limit = self._run.max_new_tokens if self._text is None else len(self._text)
        for step in tqdm(range(limit), desc=f"{len(writers)} texts", unit="token", leave=False):
            kinds = np.searchsorted(live, [len(self._rows), len(self._rows) + len(own) // 2])
            (rows, _, _), (of_rows, *of_own) = np.split(live, kinds), np.split(of, kinds)
            by_row, *by_context = self._step(step, last, rows, of_rows)
            tokens = np.concatenate([by_row, *(top[some] for top, some in zip(by_context, of_own, strict=True))])
            for number, token in zip(live[len(rows) :], tokens[len(rows) :].tolist(), strict=True):
                own[number - len(self._rows)].tokens.append(token)
            ended = np.isin(tokens, list(self._pair.stop_tokens))
            if self._text is not None:
                tokens[:], ended[:] = self._text[step], False
            for number in live[ended]:
                writers[number].stop_reason = "eos"
            kept = np.flatnonzero(~ended)
            if not len(kept) or step == limit - 1:
                break
            forks = len(last) + kept[kept < len(rows)] if self._persistent else kept[:0]
            # Rows of a context with the same token stay together.
            (chosen, last), parted = np.unique(np.stack([of[kept], tokens[kept]]), axis=1, return_inverse=True)
            self._source.select(chosen)
            self._target.select(np.concatenate([chosen, forks]))
            live, of = live[kept], parted.reshape(-1)

    def _step(self, step: int, last: Indices, rows: Indices, of: Indices) -> tuple[Indices, Indices, Indices]:
        """Read each context's last token; return the rows' tokens, and the target's and the source's by context."""
        ids, contexts = torch.from_numpy(last)[:, None], np.arange(len(last))
        of_source = self._source.read(ids)[:, -1]
        # The target may be the same model, whose pass overwrites what was read.
        activations = dict(self._read)
        applied = self._applied(step, ids, of_source, rows, of)
        # A transient patch that is not applied has the logits of its context.
        cells = np.arange(len(rows)) if self._persistent else np.flatnonzero(applied)
        at = np.concatenate([contexts, of[cells]])
        if not self._persistent:
            self._target.select(at)
        for site, patched in self._patched.items():
            moved = np.flatnonzero(patched[rows[cells]] & applied[cells])
            if len(moved):
                there, read = (torch.from_numpy(places) for places in (len(last) + moved, of[cells[moved]]))
                self._edits[site] = in_rows(replacing(there, activations[site][:, 0], read))
        hidden = self._target.read(ids[at])[:, -1]
        self._edits = {}
        # A row that was not computed has the hidden state of its context.
        place = of.copy()
        place[cells] = len(last) + np.arange(len(cells))
        return self._scored(hidden, of_source, rows, of, place, applied)

    def _applied(self, step: int, ids: Tensor, of_source: Tensor, rows: Indices, of: Indices) -> NDArray[np.bool_]:
        """Return where the schedules apply the patches; some depend on both models' top-1 tokens."""
        schedules = [self._rows[row].patch.schedule for row in rows]
        if not any(schedule.looks for schedule in schedules):
            return np.array([schedule.may(step) for schedule in schedules], dtype=bool)
        of_target = self._target.fork(np.arange(len(ids))).read(ids)[:, -1]
        top = [
            self._logits(past, hidden).argmax(-1).tolist()
            for past, hidden in ((self._target, of_target), (self._source, of_source))
        ]
        text_of = self._pair.prompts.token_text
        applies = [s.applies(step, top[0][c], top[1][c], text_of) for s, c in zip(schedules, of, strict=True)]
        return np.array(applies, dtype=bool)

    def _scored(
        self,
        hidden: Float[Tensor, "B D"],
        of_source: Float[Tensor, "C D"],
        rows: Indices,
        of: Indices,
        place: Indices,
        applied: NDArray[np.bool_],
    ) -> tuple[Indices, Indices, Indices]:
        """Score the rows; `place` has the hidden state of each, and `of` its context."""
        tops = []

        def contexts(some: slice) -> Contexts:
            of_target, read = self._logits(self._target, hidden[some]), self._logits(self._source, of_source[some])
            found = Contexts.of(of_target, read.to(of_target.device), self._run.direction)
            tops.append(torch.stack([found.predictions.y_target, found.predictions.y_source]))
            return found

        at = of.argsort(kind="stable")
        bounds = np.searchsorted(of[at], np.arange(len(of_source) + 1))
        found = score_cells(
            bounds, contexts, lambda some: self._logits(self._target, hidden[place[at[some]]]), applied[at]
        )
        self._log.add(rows[at], found)
        tokens = np.empty(len(rows), dtype=np.int64)
        tokens[at] = found[:, 0].long().numpy(force=True)
        by_target, by_source = torch.cat(tops, dim=1).numpy(force=True)
        return tokens, by_target, by_source

    def _logits(self, past: Past, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        return unembed(past.model, hidden, float32=self._run.float32_unembedding)

    def _edited(self, site: Site, activation: Float[Tensor, "B T W"]) -> Float[Tensor, "B T W"] | None:
        return self._edits[site](activation) if site in self._edits else None


@torch.inference_mode()
def forks_at_once(model: Any, keys_and_values: int, positions: int) -> int:
    """Return how many rows of `positions` tokens fit into `keys_and_values` bytes, at least one.

    If all texts differ, a row has two texts in the target's cache and one in the source's. Their size is measured.
    """
    past, sizes = Past(model), []
    for _ in range(2):
        past.read(torch.zeros(1, 8, dtype=torch.long))
        sizes.append(past.nbytes)
    row = sizes[0] + (sizes[1] - sizes[0]) * max(0, positions - 8) // 8
    return max(1, keys_and_values // (3 * row))
