"""Pairs: loaded by name, checked before weights are read, refused in one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from tokenizers import processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from crosspatch.errors import UsageError
from crosspatch.models.chat import PromptFormat, stop_tokens
from crosspatch.models.compatibility import check_tokenizers
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import pick_device
from crosspatch.models.saving import save_model
from crosspatch.models.tiny import tiny_config, tiny_model, tiny_tokenizer
from crosspatch.models.weights import fingerprint
from pairs import child_of
from tokenizers_for_tests import CHATML, PHI, tokenizer


def saved(folder, *, tokenizer=None, **changes):
    config = tiny_config("qwen3")
    for key, value in changes.items():
        setattr(config, key, value)
    if "num_hidden_layers" in changes:
        config.layer_types = ["full_attention"] * changes["num_hidden_layers"]
    model = AutoModelForCausalLM.from_config(config)
    save_model(model, tokenizer or tiny_tokenizer(), folder)
    return str(folder)


def no_weights(*args, **kwargs):
    raise AssertionError("weights were read")


def test_a_pair_of_folders(tmp_path):
    a = saved(tmp_path / "a")
    b = saved(tmp_path / "b")
    pair = ModelPair.load(a, b, layers=[0, 3])
    assert pair.n_layers == 4
    assert pair.target_and_source("corrupt") == (pair.clean, pair.corrupted)
    assert pair.target_and_source("repair") == (pair.corrupted, pair.clean)
    assert fingerprint(pair.clean) != fingerprint(pair.corrupted)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 5}, "4 blocks, the corrupted one 5"),
        ({"hidden_size": 96}, "48 activations wide, the corrupted one 96"),
        ({"vocab_size": 640}, "512 tokens of vocabulary, the corrupted one 640"),
    ],
)
def test_models_of_different_shape_are_refused_before_weights_are_read(tmp_path, monkeypatch, change, words):
    a, b = saved(tmp_path / "a"), saved(tmp_path / "b", **change)
    monkeypatch.setattr(Checkpoint, "model", no_weights)
    with pytest.raises(UsageError, match=words):
        ModelPair.load(a, b)


def other_tokenizer(change):
    made = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    change(made)
    from tokenizers import Tokenizer

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(made)),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


def test_different_tokenizers_are_refused_before_weights_are_read(tmp_path, monkeypatch):
    def swap(made):
        vocabulary = made["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]

    a, b = saved(tmp_path / "a"), saved(tmp_path / "b", tokenizer=other_tokenizer(swap))
    monkeypatch.setattr(Checkpoint, "model", no_weights)
    with pytest.raises(UsageError, match="2 tokens differ"):
        ModelPair.load(a, b)


def test_one_vocabulary_cut_differently_is_refused():
    same = other_tokenizer(lambda made: None)
    check_tokenizers(tiny_tokenizer(), same)
    same.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_end|> $A", special_tokens=[("<|im_end|>", same.eos_token_id)]
    )
    with pytest.raises(UsageError, match="tokenize text differently"):
        check_tokenizers(tiny_tokenizer(), same)


def test_a_model_that_does_not_attend_is_refused(tmp_path, monkeypatch):
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=512, hidden_size=16, num_hidden_layers=2, state_size=4)
    model = MambaForCausalLM(config)
    with pytest.raises(UsageError, match="mamba has no attention heads"):
        ModelPair.of(model, model, tiny_tokenizer())
    model.save_pretrained(tmp_path / "mamba")
    tiny_tokenizer().save_pretrained(tmp_path / "mamba")
    monkeypatch.setattr(Checkpoint, "model", no_weights)
    with pytest.raises(UsageError, match="mamba has no attention heads"):
        ModelPair.load(str(tmp_path / "mamba"), str(tmp_path / "mamba"))


def test_a_layer_out_of_range_is_refused_before_weights_are_read(monkeypatch):
    monkeypatch.setattr(Checkpoint, "model", no_weights)
    with pytest.raises(UsageError, match="layer 4 is out of range: the model has 4 blocks, 0 to 3"):
        ModelPair.load("random:qwen3", "random:qwen3", layers=[0, 4])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random:mamba", "random: and one of gpt2"),
        ("wheel:other", "expected wheel:smollm2"),
        ("./no/such/folder", "no model folder"),
        ("a/b/c", "no model folder"),
        ("owner/model@", "no model folder or file owner/model@"),
        ("no-such/model", "is no folder, and as a hub id it could not be read"),
    ],
)
def test_a_name_that_means_nothing(name, words):
    with pytest.raises(UsageError, match=words) as error:
        Checkpoint.named(name).config()
    assert "\n" not in str(error.value)


def test_a_folder_or_file_without_a_model(tmp_path):
    with pytest.raises(UsageError, match="holds neither"):
        Checkpoint.named(str(tmp_path))
    (tmp_path / "x.bin").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        Checkpoint.named(str(tmp_path / "x.bin"))


def broken(tmp_path, name):
    """A folder with a model whose files have been spoilt in one way."""
    folder = Path(saved(tmp_path / "model"))
    match name:
        case "truncated weights":
            weights = folder / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:1000])
        case "no weights":
            (folder / "model.safetensors").unlink()
        case "pickled weights":
            (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        case "config is no JSON":
            (folder / "config.json").write_text("{")
        case "adapter is no JSON":
            (folder / "model.safetensors").unlink()
            (folder / "adapter_config.json").write_text("{")
        case "adapter without weights":
            (folder / "model.safetensors").unlink()
            settings = {"peft_type": "LORA", "base_model_name_or_path": "random:qwen3", "target_modules": ["q_proj"]}
            (folder / "adapter_config.json").write_text(json.dumps(settings))
        case "gguf":
            folder = tmp_path / "model.gguf"
            folder.write_bytes(b"GGUF" + bytes(4))
    return str(folder)


@pytest.mark.parametrize(
    "name",
    [
        "truncated weights",
        "no weights",
        "pickled weights",
        "config is no JSON",
        "adapter is no JSON",
        "adapter without weights",
        "gguf",
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_one_line(tmp_path, name):
    path = broken(tmp_path, name)
    with pytest.raises(UsageError, match=r"could not be read|are pickled") as error:
        ModelPair.load("random:qwen3", path)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def test_a_link_to_nothing(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="which no longer exists"):
        Checkpoint.named("random:qwen3").place(tmp_path / "link")


def test_a_device_that_is_not_there():
    assert pick_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="device nonsense cannot be used"):
        pick_device("nonsense")


def test_a_fingerprint_is_of_the_weights(qwen3_pair):
    model = qwen3_pair.clean
    assert fingerprint(model) == fingerprint(tiny_model("qwen3", seed=0))
    assert fingerprint(model) != fingerprint(tiny_model("qwen3", seed=1))
    assert fingerprint(model) != fingerprint(child_of(model, scale=1e-4))


def test_a_question_becomes_a_user_turn():
    prompts = PromptFormat(tiny_tokenizer())
    assert prompts.text("2x = 4") == "<|im_start|>user\n2x = 4<|im_end|>\n<|im_start|>assistant\n"
    assert PromptFormat(tiny_tokenizer(), system="Be kind").text("a").startswith("<|im_start|>system\nBe kind")
    assert PromptFormat(tiny_tokenizer(), raw=True).text("2x = 4") == "2x = 4"
    assert prompts.tokenizer.decode(prompts.encode("2x = 4")) == prompts.text("2x = 4")


@pytest.mark.parametrize("raw", [True, False])
def test_an_empty_prompt_is_refused(raw):
    with pytest.raises(UsageError, match="prompt is empty"):
        PromptFormat(tiny_tokenizer(), raw=raw).encode(" \n")


def test_an_answer_ends_where_the_template_ends_a_turn(qwen3_pair):
    prompts = qwen3_pair.prompts
    ids = prompts.encode_completion("x = 2")
    assert prompts.tokenizer.decode(ids) == "x = 2<|im_end|>"
    assert prompts.decode(ids) == "x = 2"
    assert stop_tokens([qwen3_pair.clean], prompts) == {prompts.tokenizer.eos_token_id}


def test_every_condition_stops_at_the_same_tokens(qwen3_pair):
    child = child_of(qwen3_pair.clean)
    child.generation_config.eos_token_id = [7, 9]
    pair = ModelPair(qwen3_pair.clean, child, qwen3_pair.prompts)
    assert pair.stop_tokens == {7, 9, qwen3_pair.prompts.end_of_turn}


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(UsageError, match="half of a surrogate pair"):
        PromptFormat(tiny_tokenizer()).encode("a\ud83d")
    assert PromptFormat(tiny_tokenizer()).encode("a\U0001f642")


def test_a_template_that_refuses_the_prompt():
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}a"
    assert PromptFormat(tokenizer).text("x") == "a"
    with pytest.raises(UsageError, match=r"no system; change models\.system"):
        PromptFormat(tokenizer, system="b").text("x")


def test_a_text_longer_than_the_model_reads_is_refused(qwen3_pair):
    room = 2048 - len(qwen3_pair.encode("a"))
    qwen3_pair.encode("a", room)
    with pytest.raises(UsageError, match="more than the 2048 positions"):
        qwen3_pair.encode("a", room + 1)


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
