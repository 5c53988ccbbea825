"""How a question becomes the tokens that a model reads: the one prompt format of training, answering, patching."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crosspatch.characters import half_surrogate
from crosspatch.errors import UsageError


@dataclass(frozen=True)
class PromptFormat:
    """A question as a user turn of the tokenizer's chat template, or as it stands.

    `raw` reads the text as it is even where there is a template; `system` adds a system turn.
    """

    tokenizer: Any
    raw: bool = False
    system: str | None = None

    @property
    def uses_template(self) -> bool:
        """Whether questions become user turns."""
        return not self.raw and self.tokenizer.chat_template is not None

    def text(self, question: str) -> str:
        """The prompt as text, with the generation prompt added and thinking off where the template knows it."""
        if not question.strip():
            raise UsageError("the prompt is empty; give it at least one word")
        if half_surrogate(question) is not None:
            raise UsageError("the prompt holds half of a surrogate pair, which is no character; repair its encoding")
        if not self.uses_template:
            return question
        turns = [{"role": "system", "content": self.system}] if self.system is not None else []
        turns.append({"role": "user", "content": question})
        return self._rendered(turns, add_generation_prompt=True, enable_thinking=False)

    def _rendered(self, turns: list[dict[str, str]], **options: bool) -> str:
        from jinja2 import TemplateError

        # A template is a program out of a file: beside refusing it can go wrong as any other.
        wrong = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **options))
        except wrong as error:
            raise UsageError(
                f"the chat template refuses the prompt: {' '.join(str(error).split())}; change models.system or set "
                "models.raw"
            ) from None

    def encode(self, question: str) -> list[int]:
        """The prompt's tokens; at least one. Raises UsageError for an empty question."""
        # A template writes its own special tokens; plain text gets the tokenizer's (a beginning of text, say).
        ids = self.tokenizer(self.text(question), add_special_tokens=not self.uses_template).input_ids
        if not ids:
            raise UsageError(f"the prompt {question!r} has no token")
        return list(ids)

    def encode_completion(self, completion: str) -> list[int]:
        """A completion's tokens with the token that ends the turn: what a model is trained to say."""
        ids = self.tokenizer(completion, add_special_tokens=False).input_ids
        return [*ids, self.end_of_turn]

    def example_length(self, question: str, completion: str) -> int:
        """How many tokens a training example has, prompt and completion."""
        return len(self.encode(question)) + len(self.encode_completion(completion))

    @property
    def end_of_turn(self) -> int:
        """The token that closes an answer: the first one after it in the chat template, or the end of text."""
        if self.uses_template:
            mark = "crosspatch"
            turns = [{"role": "user", "content": mark}, {"role": "assistant", "content": mark}]
            rendered = self._rendered(turns)
            after = self.tokenizer(rendered.rpartition(mark)[2], add_special_tokens=False).input_ids
            if after and after[0] in self.tokenizer.all_special_ids:
                return int(after[0])
        if self.tokenizer.eos_token_id is None:
            raise UsageError("the tokenizer has no end-of-text token, so no answer could ever end")
        return int(self.tokenizer.eos_token_id)

    def token_text(self, token: int) -> str:
        """One token's text, special or not."""
        return str(self.tokenizer.decode([token]))

    def decode(self, tokens: list[int]) -> str:
        """Text without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def unpad(input_ids: Any, attention_mask: Any) -> list[list[int]]:
    """The token ids of each row of a padded batch, padded on whichever side: what the mask keeps.

    Raises UsageError for a row with no token, or with a gap, which padding does not leave.
    """
    rows: list[list[int]] = []
    for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
        kept = [i for i, keep in enumerate(mask) if keep]
        if not kept or kept[-1] - kept[0] != len(kept) - 1:
            raise UsageError(f"row {len(rows)} of the batch has {'a gap' if kept else 'no token'} under its mask")
        rows.append([ids[i] for i in kept])
    return rows


def stop_tokens(models: Iterable[Any], prompts: PromptFormat) -> frozenset[int]:
    """The tokens that end a text of any of the models: those that each lists, and the template's end of turn."""
    stops: set[int | None] = {prompts.end_of_turn}
    for model in models:
        listed = model.generation_config.eos_token_id if model.generation_config is not None else None
        stops |= set(listed) if isinstance(listed, list) else {listed}
    return frozenset(stop for stop in stops if stop is not None)
