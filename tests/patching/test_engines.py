"""The cached engine gives what the published algorithm gives, however its work is split and whatever it drafts."""

from dataclasses import replace
from functools import cache
from typing import get_args

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from crosspatch.analysis.patch import patch
from crosspatch.config import Direction, Engine
from crosspatch.errors import UsageError
from crosspatch.patching import engine
from crosspatch.patching.engine import run_cached
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.reference import run_reference
from crosspatch.patching.trajectory import PatchRun, Prompt
from engines import PERSISTENCES, both, counted, equal_trajectories, equal_written, gap
from pairs import QUESTION, QUESTIONS, architecture_pair

ALL = patch_grid("all", 4)


@pytest.mark.parametrize("persistence", PERSISTENCES)
@pytest.mark.parametrize("direction", get_args(Direction))
def test_engine_is_reference_with_the_chat_template(pair, direction, persistence):
    fast, slow = both(pair, [QUESTION], ALL, PatchRun(direction, persistence, 12))
    found = gap(fast, slow)
    assert found.close
    # The controls: cells were scored, and patches write different texts.
    assert found.scored > 10
    assert fast.group_by("patch").agg("token_id")["token_id"].n_unique() > 1


@pytest.mark.parametrize("persistence", PERSISTENCES)
def test_trajectories_end_at_the_stop_token_or_the_limit(monkeypatch, persistence):
    """Also where the stop token stands inside a longer draft; the limit counts tokens."""
    pair = architecture_pair("qwen3")
    run = PatchRun(persistence=persistence, max_new_tokens=12)
    ids = pair.encode(QUESTION)
    free = run_cached(pair, [Prompt(ids, ALL)], run)[0].trajectories
    known = [t.tokens for t in free]
    for limit in (1, 2):
        short = run_cached(pair, [Prompt(ids, ALL, known=known)], replace(run, max_new_tokens=limit))[0].trajectories
        assert [t.tokens for t in short] == [tokens[:limit] for tokens in known]
        assert {t.stop_reason for t in short} == {"limit"}
    # A token that some trajectory writes after its first step, now the end of text.
    stop = known[0][4]
    monkeypatch.setattr(type(pair), "stop_tokens", frozenset({stop}))
    with counted() as counts:
        fast = run_cached(pair, [Prompt(ids, ALL, known=known, answers=True)], run)[0]
    assert counts["rejected"] > 0
    equal_trajectories(fast.trajectories, run_reference(pair, ids, ALL, run))
    ended = [t for t in fast.trajectories if t.stop_reason == "eos"]
    assert ended
    for trajectory in ended:
        assert trajectory.tokens.index(stop) == len(trajectory.tokens) - 1
        assert not trajectory.text(pair.prompts).endswith(pair.prompts.token_text(stop))
    assert sum(len(t.tokens) for t in fast.trajectories) < sum(map(len, known))


@budget(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_prompt_any_layers(qwen3_pair, data):
    question = data.draw(st.text(min_size=1, max_size=40).filter(str.strip))
    layers = data.draw(st.sets(st.integers(0, 3), min_size=1))
    mode = data.draw(st.sampled_from(get_args(Direction))), data.draw(st.sampled_from(PERSISTENCES))
    fast, slow = both(qwen3_pair, [question], patch_grid(layers, 4), PatchRun(*mode, 3))
    assert gap(fast, slow).close


def texts_of(written):
    return [*(t.tokens for t in written.trajectories), written.target.tokens, written.source.tokens]


def written(name, run, known=()):
    pair = architecture_pair(name)
    return run_cached(pair, [Prompt(pair.encode(QUESTION), ALL, known=known, answers=True)], run)


@pytest.mark.parametrize("persistence", PERSISTENCES)
def test_known_texts_save_rounds_and_change_nothing(persistence):
    run = PatchRun(persistence=persistence, max_new_tokens=24)
    with counted() as without:
        plain = written("qwen3", run)
    with counted() as drafted:
        helped = written("qwen3", run, texts_of(plain[0]))
    equal_written(plain, helped)
    assert drafted["rounds"] < without["rounds"] / 2
    assert drafted["kept"] > without["kept"]


written_once = cache(written)
# Which text, how many of its first tokens, and any tokens after them: also more than the limit.
GUESS = st.tuples(st.integers(0, 5), st.integers(0, 8), st.lists(st.integers(0, 511), max_size=12))


@budget(max_examples=20)
@given(persistence=st.sampled_from(PERSISTENCES), guesses=st.lists(GUESS, max_size=3), differing=st.booleans())
def test_no_draft_changes_anything(persistence, guesses, differing):
    """Nor that the rows are generated beside the unpatched texts, as where the models differ often."""
    run = PatchRun(persistence=persistence, max_new_tokens=8)
    plain = written_once("gpt2", run)
    known = [texts_of(plain[0])[which][:length] + rest for which, length, rest in guesses]
    with pytest.MonkeyPatch.context() as patch, counted():
        patch.setattr(engine, "PROBE", 2)
        patch.setattr(engine, "MOST_DIFFERENT", -1 if differing else 1)
        equal_written(plain, written("gpt2", run, known))


def test_only_what_is_asked_for_is_written():
    pair = architecture_pair("qwen3")
    ids, run = pair.encode(QUESTION), PatchRun(max_new_tokens=6)
    prompts = [Prompt(ids, ALL), Prompt(ids, ALL, answers=True), Prompt(ids, [], answers=True), Prompt(ids, [])]
    silent, asked, alone, nothing = run_cached(pair, prompts, run)
    assert (silent.target.tokens, silent.source.tokens) == ([], [])
    assert (alone.target, alone.source) == (asked.target, asked.source)
    assert alone.target.tokens
    equal_trajectories(silent.trajectories, asked.trajectories)
    assert (nothing.trajectories, nothing.target.tokens, nothing.source.tokens) == ([], [], [])
    assert run_cached(pair, [], run) == []


SEVERAL = [
    "L1.resid_post+L2.resid_post",
    "L0.attn_out+L0.mlp_out",
    "L0.head.1+L2.head.1+L2.head.2",
    "L1.mlp_out+L2.head.3+L3.resid_mid",
    "L0.resid_mid+L3.resid_post",
    "L2.attn_out+L2.head.2+L2.mlp_out+L2.resid_mid+L2.resid_post",
]


@pytest.mark.parametrize("persistence", PERSISTENCES)
def test_several_sites_at_once(persistence):
    pair = architecture_pair("gemma3")
    together = [Patch.parse(name) for name in SEVERAL]
    assert [patch.name for patch in together] == SEVERAL
    windows = patch_grid("all", 4, ("attn_out",), window=3)
    assert [w.name for w in windows] == ["L0.attn_out+L1.attn_out+L2.attn_out", "L1.attn_out+L2.attn_out+L3.attn_out"]
    # Beside patches of their first sites, which join the pass elsewhere.
    alone = [Patch(patch.sites[:1]) for patch in together]
    fast, slow = both(pair, QUESTIONS[:2], [*together, *windows, *alone], PatchRun("corrupt", persistence, 3))
    assert gap(fast, slow).close
    for pair_of in zip(together, alone, strict=True):
        several, one = (fast.filter(patch=patch.name, step=0)["kl_patched"] for patch in pair_of)
        assert (several - one).abs().max() > 1e-4


@pytest.mark.parametrize("persistence", PERSISTENCES)
def test_patch_gives_the_same_by_either_engine(persistence):
    pair, prompts = architecture_pair("llama"), dict(zip("ab", QUESTIONS, strict=False))
    options = {"component": ["resid_post", "head"], "heads": [0], "persistence": persistence, "direction": "both"}
    fast, own, slow = (
        patch(pair, prompts, layers=[3, 1], engine=engine, max_new_tokens=4, **options) for engine in get_args(Engine)
    )
    assert gap(fast.scores, slow.scores).close
    assert gap(own.scores, slow.scores).close
    assert own.generations.equals(slow.generations)
    assert fast.scores.group_by("prompt_id", "layer", "component", "direction").len().height == 16
    # The unpatched models' texts, too, which the reference engine generates plainly.
    assert fast.generations.equals(slow.generations)
    assert set(fast.generations["condition"]) == {"clean", "corrupted", "patched", "repaired"}
    assert fast.text("clean", "b") != fast.text("clean", "a") != fast.text("corrupted", "a")
    with pytest.raises(UsageError, match="nothing was generated under L2"):
        fast.text("L2.resid_post")


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ("", {}, "empty"),
        ([], {}, "got no prompt"),
        ("a", {"layers": []}, "got no patch"),
        ("a", {"component": "head", "heads": [4]}, "4 heads, 0 to 3"),
        ("a", {"patches": ["L9.resid_post"]}, "layers of Qwen3ForCausalLM are 0 to 3"),
        ("a", {"patches": ["resid_post"]}, "got site"),
        ("a", {"schedule": "sometimes"}, "got the schedule"),
        ("a", {"patches": ["L1.attn_out"], "schedule": "every:2"}, "append it to each name"),
        ("a", {"max_new_tokens": 4000}, "positions"),
        ("a", {"controls": ["twin"]}, "pass models in children"),
        ("a", {"children": {"self": None}}, "which is a control's name"),
        ("a", {"controls": ["self"], "persistence": "persistent"}, "for transient patches"),
        ("a", {"attribution": 3, "target_fraction": 0.5}, "give either attribution"),
        ("a", {"attribution": 3, "patches": ["L1.resid_post"]}, "remove patches"),
        ("a", {"target_fraction": 0.5, "layers": [1]}, "remove patches"),
        ("a", {"attribution": -1}, "got attribution -1"),
        ("a", {"target_fraction": 0.5, "direction": "both"}, "of one direction"),
        ("a", {"target_fraction": 0.5, "persistence": "persistent"}, "transient patches"),
    ],
)
def test_wrong_use_is_refused_before_anything_runs(qwen3_pair, monkeypatch, prompts, options, words):
    for name in ("patching.sweep.run_in_batches", "patching.sweep.run_reference", "analysis.patch.usable_engine"):
        monkeypatch.setattr(f"crosspatch.{name}", lambda *_, **__: pytest.fail("something ran"))
    with pytest.raises(UsageError, match=words) as refused:
        patch(qwen3_pair, prompts, **options)
    assert "\n" not in str(refused.value)
