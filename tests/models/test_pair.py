"""Pairs: loaded by name, checked before weights are read, refused in one line, shown in notebooks."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters import saved_base
from architectures import tiny_architecture
from crosspatch.errors import UsageError
from crosspatch.models.compatibility import check_configs, check_tokenizers
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.weights import fingerprint
from crosspatch.patching.sweep import choose_patches
from html_reader import HALF, HOSTILE, Reader, tame
from pairs import child_of, raw_pair
from tokenizers_for_tests import CHATML, PHI, tokenizer


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"num_hidden_layers": 5}, {}, "4 blocks, the corrupted one 5"),
        ({"hidden_size": 96}, {}, "48 activations wide, the corrupted one 96"),
        ({"vocab_size": 640}, {}, "512 tokens of vocabulary, the corrupted one 640"),
        ({"tokenizer": tokenizer(CHATML)}, {}, "tokens differ"),
        ({}, {"layers": [0, 4]}, "layer 4 is out of range: the model has 4 blocks, 0 to 3"),
    ],
)
def test_what_does_not_match_is_refused_before_weights_are_read(tmp_path, monkeypatch, change, options, words):
    monkeypatch.setattr(Checkpoint, "model", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(UsageError, match=words):
        ModelPair.load("random:qwen3", saved_base(tmp_path / "other", **change), **options)


def test_a_model_without_attention_has_no_heads_and_one_without_blocks_is_refused():
    model = tiny_architecture("mamba")
    pair = raw_pair(model, child_of(model))
    assert (pair.n_layers, pair.n_heads) == (4, 0)
    assert "no heads a block" in pair._repr_html_()
    assert [patch.name for patch in choose_patches(pair, layers=[1])] == ["L1.resid_post"]
    with pytest.raises(UsageError, match="got no patch"):
        choose_patches(pair, component="head")
    with pytest.raises(UsageError, match=r"no L1\.attn_out: in block 1 \(MambaBlock\)"):
        choose_patches(pair, component="attn_out", layers=[1])
    with pytest.raises(UsageError, match="the configuration of gpt2 has no num_hidden_layers"):
        check_configs(SimpleNamespace(model_type="gpt2"), model.config)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random:mamba", "random: and one of gpt2"),
        ("wheel:other", "expected wheel:smollm2"),
        ("./no/such/folder", "no model folder"),
        ("a/b/c", "no model folder"),
        ("owner/model@", "no model folder or file owner/model@"),
        ("no-such/model", "is no folder, and as a hub id it could not be read"),
        (".", "has neither"),
        ("x.bin", "is a file"),
        ("x.gguf", "is a gguf that could not be read"),
    ],
)
def test_names_that_are_no_checkpoints(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    for file in ("x.bin", "x.gguf"):
        Path(file).write_bytes(b"GGUF" + bytes(4))
    with pytest.raises(UsageError, match=words) as error:
        Checkpoint.named(name).config()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "length"),
    [("model.safetensors", 1000), ("model.safetensors", None), ("config.json", 1), ("adapter_config.json", 1)],
)
def test_a_checkpoint_that_is_cut_off_is_one_line(base, adapter, file, length):
    path = (adapter if "adapter" in file else base) / file
    if length is None:
        path.unlink()
    else:
        os.truncate(path, length)
    with pytest.raises(UsageError, match="could not be read") as error:
        ModelPair.load("random:qwen3", str(path.parent))
    assert str(path.parent) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_link_to_nothing_and_one_vocabulary_cut_differently(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="which no longer exists"):
        Checkpoint.named("random:qwen3").place(tmp_path / "link")
    check_tokenizers(tokenizer(CHATML), tokenizer(None))
    with pytest.raises(UsageError, match="tokenize text differently"):
        check_tokenizers(tokenizer(CHATML), tokenizer(CHATML, before="<|end|>"))
    exchanged = (SimpleNamespace(get_vocab=lambda v=v: v) for v in ({"a": 0, "b": 1, "c": 2}, {"a": 1, "b": 0, "c": 2}))
    with pytest.raises(UsageError, match=": 2 tokens differ"):
        check_tokenizers(*exchanged)


def test_texts_of_either_model_stop_at_the_same_tokens_and_are_no_longer_than_it_reads(qwen3_pair):
    same = ModelPair.of(qwen3_pair.clean, qwen3_pair.corrupted, qwen3_pair.prompts.tokenizer)
    assert same == qwen3_pair
    assert same.encode("hi") == qwen3_pair.encode("hi")
    assert qwen3_pair.stop_tokens == {qwen3_pair.prompts.tokenizer.eos_token_id}
    child = child_of(qwen3_pair.clean)
    child.generation_config.eos_token_id = [7, 9]
    pair = ModelPair(qwen3_pair.clean, child, qwen3_pair.prompts)
    assert pair.stop_tokens == {7, 9, qwen3_pair.prompts.end_of_turn}
    room = 2048 - len(qwen3_pair.encode("a"))
    qwen3_pair.encode("a", room)
    with pytest.raises(UsageError, match="more than the 2048 positions"):
        qwen3_pair.encode("a", room + 1)


def test_a_pair_of_a_base_without_a_template_and_its_child(tmp_path, caplog):
    base = saved_base(tmp_path / "base", tokenizer=tokenizer(None))
    child = saved_base(tmp_path / "child", seed=1, tokenizer=tokenizer(PHI))
    pair = ModelPair.load(base, child, device="cpu", layers=[0, 3])
    assert pair.n_layers == 4
    # Nothing half-written is left beside them.
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert pair.target_and_source("corrupt") == (pair.clean, pair.corrupted)
    assert pair.target_and_source("repair") == (pair.corrupted, pair.clean)
    assert fingerprint(pair.clean) != fingerprint(pair.corrupted)
    assert "only the corrupted model has a chat template" in caplog.text
    assert pair.prompts.text("a").startswith("<|im_start|>user")
    assert {pair.prompts.token_text(token) for token in pair.stop_tokens} >= {"<|end|>", "</s>"}
    # In memory, where two tokenizers are given.
    models, phi = (pair.clean, pair.corrupted), tokenizer(PHI)
    of = ModelPair.of(*models, tokenizer(None), corrupted_tokenizer=phi, chat_template="none")
    assert of.prompts.text("a") == "a"
    with pytest.raises(UsageError, match="different tokens"):
        ModelPair.of(*models, tokenizer(CHATML), corrupted_tokenizer=phi).encode("a")


def test_what_a_notebook_and_a_terminal_show(qwen3_pair):
    pair = ModelPair.load("random:llama", "random:llama")
    text = Reader(pair._repr_html_()).text
    shape = "4 layers (0 to 3), 4 heads a block, 2 of keys and values, width 48"
    for part in ("random:llama", shape, "512 tokens", "float32", *map(fingerprint, (pair.clean, pair.corrupted))):
        assert part in text
    assert "the same weights" not in text
    itself = ModelPair.of(qwen3_pair.clean, qwen3_pair.clean, qwen3_pair.prompts.tokenizer, raw=True)
    text = Reader(itself._repr_html_()).text
    for part in ("the same weights: nothing can be recovered", "a model in memory", "as it stands"):
        assert part in text
    assert repr(qwen3_pair) == "ModelPair(origins=None)"
    # Nothing in a name acts.
    for name in (*HOSTILE, HALF):
        assert tame(ModelPair(pair.clean, pair.corrupted, pair.prompts, (name, name))._repr_html_())
