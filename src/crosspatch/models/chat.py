"""One prompt format for training, generation and patching: converts a question to the tokens that a model reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date as Date
from datetime import datetime, time
from functools import cached_property
from itertools import takewhile
from types import SimpleNamespace
from typing import Any

from crosspatch.characters import half_surrogate
from crosspatch.config import ChatTemplate
from crosspatch.errors import UsageError

logger = logging.getLogger(__name__)

# Placeholder texts: rendering a template with them shows the text that the template adds around each turn.
_QUESTION, _SOLUTION, _NEXT = "crosspatch asks", "crosspatch answers", "crosspatch asks again"


@dataclass(frozen=True)
class _Turn:
    """The template's text around an answer: `opening` after the prompt, `closing` up to the token `end`."""

    opening: str
    closing: str
    end: int


@dataclass(frozen=True)
class PromptFormat:
    """A question as a user turn of the tokenizer's chat template, or without a template.

    `raw` uses no template even if the tokenizer has one; `system` adds a system turn. Templates that print today's
    date print `date` instead. `same_as` is another format that must give the same tokens: `encode` raises UsageError
    for a question that the two formats encode differently.
    """

    tokenizer: Any
    raw: bool = False
    system: str | None = None
    date: Date = field(default_factory=Date.today)
    same_as: PromptFormat | None = None

    @property
    def uses_template(self) -> bool:
        """Whether questions are rendered as user turns."""
        return not self.raw and self.tokenizer.chat_template is not None

    def text(self, question: str) -> str:
        """Return the prompt as text, with the generation prompt, and with thinking off if the template supports it."""
        if not question.strip():
            raise UsageError("the prompt is empty; give it at least one word")
        if half_surrogate(question) is not None:
            raise UsageError("the prompt holds half of a surrogate pair, which is not a character; repair its encoding")
        if not self.uses_template:
            return question
        return self._rendered(self._turns(question), add_generation_prompt=True, enable_thinking=False)

    def encode(self, question: str) -> list[int]:
        """Return the prompt's tokens, at least one.

        There is one beginning-of-text token if the template, the tokenizer or a raw text adds one, and never an
        end-of-text token that the tokenizer appends. Raises UsageError for an empty question, for a question with
        control tokens, and if `same_as` gives other tokens.
        """
        ids = self._encode(question)
        if self.same_as is not None and (others := self.same_as._encode(question)) != ids:
            raise UsageError(
                f"the two models' tokenizers give different tokens for the prompt {question[:60]!r}: {len(ids)} and "
                f"{len(others)}, different from token {_shared(ids, others)}; choose one with models.chat_template (in "
                "Python chat_template): clean, corrupted or none"
            )
        return ids

    def example(self, question: str, completion: str, *, ends: bool = True) -> tuple[list[int], list[int]]:
        """Return the tokens of a prompt and of its completion, end of turn included.

        The two parts join to the tokens of the whole text; a token that spans the boundary belongs to the completion.
        Without a template a line break separates the parts, unless there is white space already. `ends=False` leaves
        the turn open. Raises UsageError like `encode`, and for a completion that holds control tokens.
        """
        prompt = self.encode(question)
        self._refuse_control(completion, "completion", self._special)
        whole = self._example(question, completion, ends=ends)
        shared = _shared(prompt, whole)
        return whole[:shared], whole[shared:]

    def encode_completion(self, text: str) -> list[int]:
        """Return the tokens of a generated text, with the end of turn; the sampled tokens may have been different."""
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, self.end_of_turn]

    def example_length(self, question: str, completion: str) -> int:
        """Return the number of tokens of a training example. Control tokens in its texts are counted, not refused."""
        return len(self._example(question, completion))

    def spelled_out(self, text: str) -> str:
        """Return a generated text with a space inserted into each part that would be tokenized as a control token."""
        for token, number in self._added.items():
            if number in self._control:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    @property
    def end_of_turn(self) -> int:
        """The token that ends an answer: the first added token after it in the chat template, or the end of text."""
        return self._turn.end

    def user_turn(self, beginning: str) -> list[int]:
        """Return the tokens of an unfinished user turn that begins with this text, for a model to continue."""
        return self._tokens(self.text(_QUESTION).partition(_QUESTION)[0] + beginning)

    def token_text(self, token: int) -> str:
        """Return one token's text, also for special tokens."""
        return str(self.tokenizer.decode([token]))

    def decode(self, tokens: list[int]) -> str:
        """Decode tokens to text without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def _encode(self, question: str) -> list[int]:
        text = self.text(question)
        # A raw text may already begin with the beginning-of-text token.
        own = question if self.uses_template else question.removeprefix(self.tokenizer.bos_token or "")
        for part, what in ((own, "prompt"), (self.system or "", "system prompt")):
            self._refuse_control(part, what, self._control)
        ids = self._tokens(text)
        if not ids:
            raise UsageError(f"the prompt {question!r} has no token")
        return ids

    def _example(self, question: str, completion: str, *, ends: bool = True) -> list[int]:
        """Return the tokens of prompt and completion together."""
        before, turn, opening = self.text(question), self._turn, self._turn.opening
        if not self.uses_template and not before[-1:].isspace() and not completion[:1].isspace():
            opening = "\n"
        whole = self._tokens(before + opening + completion + (turn.closing if ends else ""))
        return [*whole, turn.end] if ends and whole[-1] != turn.end else whole

    def _tokens(self, text: str) -> list[int]:
        """Return the tokens of a whole text, with exactly one copy of the tokens that the tokenizer prepends."""
        ids = list(self.tokenizer(text, add_special_tokens=False).input_ids)
        if not set(self._front) <= set(ids):
            ids = [*self._front, *ids]
        begin = self.tokenizer.bos_token_id
        while len(ids) > 1 and ids[0] == ids[1] == begin:
            del ids[0]
        return ids

    @cached_property
    def _front(self) -> list[int]:
        """The tokens that the tokenizer prepends to every text; tokens that it appends are not included."""
        bare, whole = (self.tokenizer("a", add_special_tokens=add).input_ids for add in (False, True))
        return list(whole[: whole.index(bare[0])]) if bare and bare[0] in whole else []

    @cached_property
    def _added(self) -> dict[str, int]:
        """The tokens that were added to the tokenizer's vocabulary, by their text; white space is not included."""
        tokens = self.tokenizer.added_tokens_decoder
        return {str(token): int(i) for i, token in tokens.items() if str(token).strip()}

    @cached_property
    def _special(self) -> frozenset[int]:
        """The tokens that no text may contain: special tokens and the end of turn."""
        flagged = (i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special)
        return frozenset({*flagged, *self.tokenizer.all_special_ids, self.end_of_turn})

    @cached_property
    def _control(self) -> frozenset[int]:
        """The tokens of `_special` and all added tokens that the chat template writes."""
        if not self.uses_template:
            return self._special
        rendered = self.tokenizer(self.text(_QUESTION), add_special_tokens=False).input_ids
        return self._special | (set(rendered) & set(self._added.values()))

    def _refuse_control(self, text: str, what: str, control: frozenset[int]) -> None:
        for token in self.tokenizer(text, add_special_tokens=False).input_ids:
            if token not in control:
                continue
            name = self.token_text(token)
            # Characters outside the vocabulary also become a special token.
            if token != self.tokenizer.unk_token_id or name in text:
                raise UsageError(
                    f"the {what} {text[:60]!r} holds {name!r}, a control token of the tokenizer, expected text; remove "
                    "it or put a space into it"
                )

    @cached_property
    def _turn(self) -> _Turn:
        if self.uses_template:
            answered = [*self._turns(_QUESTION), {"role": "assistant", "content": _SOLUTION}]
            # Some templates end a turn only if another turn follows.
            for turns in (answered, [*answered, {"role": "user", "content": _NEXT}]):
                before, written, after = self._rendered(turns).rpartition(_SOLUTION)
                closed = self._closed(after.partition(_NEXT)[0]) if written else None
                if closed is not None:
                    prompt = self.text(_QUESTION)
                    return _Turn(before.removeprefix(prompt) if before.startswith(prompt) else "", *closed)
        if self.tokenizer.eos_token_id is None:
            raise UsageError("the tokenizer has no end-of-text token, so no answer would end")
        return _Turn("", "", int(self.tokenizer.eos_token_id))

    def _closed(self, after: str) -> tuple[str, int] | None:
        """Split a text at its first added token and return both; a beginning-of-text token does not end a turn."""
        begins = {self.tokenizer.bos_token} - {self.tokenizer.eos_token}
        found = [token for token in self._added.keys() - begins if token in after]
        if not found:
            return None
        first = min(found, key=lambda token: (after.find(token), -len(token)))
        return after.partition(first)[0] + first, self._added[first]

    def _turns(self, question: str) -> list[dict[str, str]]:
        turns = [{"role": "system", "content": self.system}] if self.system is not None else []
        return [*turns, {"role": "user", "content": question}]

    def _rendered(self, turns: list[dict[str, str]], **options: bool) -> str:
        try:
            with _today(self.date):
                return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **options))
        # A template is a program from a file: it can refuse a prompt or fail in any other way.
        except Exception as error:
            raise UsageError(
                f"the chat template refuses the prompt: {' '.join(str(error).split())}; change models.system or set "
                "models.chat_template to none"
            ) from None


def pair_format(
    clean: Any,
    corrupted: Any,
    chat_template: ChatTemplate | None = None,
    *,
    raw: bool = False,
    system: str | None = None,
    date: Date | None = None,
    warn: Callable[[str], None] = logger.warning,
) -> PromptFormat:
    """Return the prompt format of two models, given their tokenizers.

    `chat_template` is the model whose template is used, or `none` (like `raw`) for texts without a template. Unless
    one model's template is chosen, both tokenizers must give the same tokens for every prompt; if only one model has a
    template, both use it, with a warning. Raises UsageError if the chosen model has no template, or if `raw`
    contradicts the choice.
    """
    if raw and chat_template not in {None, "none"}:
        raise UsageError(f"got raw and chat_template {chat_template}; give only one of them")
    date = Date.today() if date is None else date

    def of(tokenizer: Any, same_as: PromptFormat | None = None) -> PromptFormat:
        return PromptFormat(tokenizer, raw or chat_template == "none", system, date, same_as)

    tokenizers = {"clean": clean, "corrupted": corrupted}
    having = [name for name, tokenizer in tokenizers.items() if tokenizer.chat_template is not None]
    if chat_template in tokenizers:
        if chat_template not in having:
            raise UsageError(
                f"got chat_template {chat_template}, but that model's tokenizer has none; choose "
                f"{' or '.join([*having, 'none'])}"
            )
        return of(tokenizers[chat_template])
    if len(having) == 1 and not raw and chat_template is None:
        warn(f"only the {having[0]} model has a chat template; it is used for both models")
        return of(tokenizers[having[0]])
    return of(clean, None if corrupted is clean else of(corrupted))


def template_choice(prompts: PromptFormat, clean: Any) -> ChatTemplate:
    """Return the `chat_template` argument for which `pair_format` gives this format."""
    if not prompts.uses_template:
        return "none"
    return "clean" if prompts.tokenizer is clean else "corrupted"


def _shared(one: list[int], other: list[int]) -> int:
    """Return the length of the longest common prefix."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))


@contextmanager
def _today(date: Date) -> Iterator[None]:
    """Within the context, chat templates that print today's date print `date`; transformers has no setting for it."""
    from transformers.utils import chat_template_utils as rendering

    before = rendering.datetime
    rendering.datetime = SimpleNamespace(now=lambda: datetime.combine(date, time()))
    try:
        yield
    finally:
        rendering.datetime = before


def unpad(input_ids: Any, attention_mask: Any) -> list[list[int]]:
    """Return the token ids of each row of a padded batch without its padding, which may be on either side.

    Raises UsageError for a row that has no token, or padding between its tokens.
    """
    rows: list[list[int]] = []
    for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
        kept = [i for i, keep in enumerate(mask) if keep]
        if not kept or kept[-1] - kept[0] != len(kept) - 1:
            raise UsageError(
                f"the attention mask of row {len(rows)} of the batch has {'a gap' if kept else 'no token'}"
            )
        rows.append([ids[i] for i in kept])
    return rows


def stop_tokens(models: Iterable[Any], prompts: PromptFormat) -> frozenset[int]:
    """Return the tokens that end a text: the stop tokens of all models, the end of turn and the end of text."""
    stops: set[int | None] = {prompts.end_of_turn, prompts.tokenizer.eos_token_id}
    for model in models:
        listed = model.generation_config.eos_token_id if model.generation_config is not None else None
        stops |= set(listed) if isinstance(listed, list) else {listed}
    return frozenset(stop for stop in stops if stop is not None)
