"""Small tokenizers that differ in what real ones differ in: who adds which control tokens, and how texts are cut."""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Solve for x: 2x = 18. Subtract 3 from both sides: x = 9, so x is 9. user system assistant",
    "What is the answer? Today Date: move add multiply divide by and the of to\n\n",
] * 4
CONTROL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|end|>"]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Llama 2's: no generation prompt, a space before and after the answer, and both text tokens written by the template.
INST = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token }}[INST] {{ message['content'] }} "
    "[/INST]{% else %} {{ message['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
# Phi 3's: turns end with a token that is not the end of text.
PHI = CHATML.replace("<|im_end|>", "<|end|>")
DATED = "Today Date: {{ strftime_now('%d %b %Y') }}\n" + CHATML


def tokenizer(
    template: str | None = CHATML,
    *,
    metaspace: bool = False,
    plain: tuple[str, ...] = (),
    before: str | None = None,
    after: str | None = None,
    **named: Any,
) -> Any:
    """A BPE tokenizer on bytes, or on words behind ▁ as Llama's.

    `plain` are control tokens that are added without being flagged as special; `before` and `after` are those that the
    tokenizer puts round every text.
    """
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if metaspace:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        bpe.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = sorted({char for text in TEXTS for char in text} | set("▁:=+-0123456789[]/|<>"))
    else:
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL if t not in plain])
    bpe.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    if before or after:
        bpe.post_processor = processors.TemplateProcessing(
            single=" ".join(filter(None, (before, "$A", after))),
            special_tokens=[(token, bpe.token_to_id(token)) for token in CONTROL],
        )
    usual = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "chat_template": template}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **{**usual, **named})
