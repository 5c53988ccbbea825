"""Controls: what they patch in, in which cells, and that the patch itself is one of them."""

import pytest
import torch

from crosspatch.analysis import controls
from crosspatch.analysis.controls import ControlReader, PatchedText
from crosspatch.analysis.teacher_forcing import ForcedText, PairReader, text_reader
from crosspatch.patching.batches import generate
from crosspatch.patching.patches import Patch, patch_grid
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun, Prompt
from engines import TOLERANCE, equal_steps, fitting
from pairs import QUESTION, QUESTIONS, architecture_pair, components_of

RUN = PatchRun(max_new_tokens=10)


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt_neox", "qwen3_next"])
def case(request):
    """A pair, the text of a prompt with patches of all components, and another prompt's."""
    pair = architecture_pair(request.param)
    patches = [
        *patch_grid([0, 1, 3], 4, components_of(request.param), heads=[2], n_heads=4),
        Patch.parse("L1.attn_out+L3.mlp_out"),
    ]
    texts = []
    for question in (QUESTION, QUESTIONS[2]):
        ids = pair.encode(question)
        texts.append(
            ForcedText(ids, generate(pair, [Prompt(ids, [], answers=True)], fitting(RUN, pair))[0].target.tokens)
        )
    steps = {patch: [1, 4, 7] if i % 2 else [0, 4, 9] for i, patch in enumerate(patches)}
    return pair, PatchedText(texts[0], steps), texts[1]


def scored(pair, patched, *named, run=RUN, other=None):
    """The scores by control, patch and step of all these controls together."""
    run = fitting(run, pair)
    reader = ControlReader(pair, patched, run, other and PairReader(pair, other, run))
    moves = {str(i): reader.moved(control) for i, control in enumerate(named)}
    return {
        (name, patch.name, step): scores
        for (name, patch), steps in reader.score(moves).items()
        for step, scores in zip(sorted(patched.steps[patch]), steps, strict=True)
    }


def deltas(scores, name="0"):
    return {key[1:]: step.delta_patched for key, step in scores.items() if key[0] == name}


def furthest(one, other):
    return max(abs(one[key] - other[key]) for key in one)


def exact(pair, patched, run=RUN):
    """The patch itself, along the same text."""
    trajectories = score_tokens(pair, patched.given.prompt, patched.given.text, list(patched.steps), fitting(run, pair))
    return {("0", t.patch.name, step): t.steps[step] for t in trajectories for step in patched.steps[t.patch]}


@pytest.mark.parametrize(("direction", "at_once"), [("corrupt", 2048), ("repair", 7)])
def test_the_source_as_a_control_is_the_patch_and_the_target_changes_nothing(case, direction, at_once, monkeypatch):
    pair, patched, _ = case
    run = PatchRun(direction)
    monkeypatch.setattr(controls, "CELLS_AT_ONCE", at_once)
    _, source = pair.target_and_source(direction)
    found, patch = scored(pair, patched, source, run=run), exact(pair, patched, run)
    assert found.keys() == patch.keys()
    for key, step in found.items():
        equal_steps(step, patch[key])
    own = {key[1:]: step.delta_target for key, step in found.items()}
    assert deltas(scored(pair, patched, "self", run=run)) == pytest.approx(own, abs=TOLERANCE)
    # The control: the source does change something.
    assert furthest(deltas(found), own) > 100 * TOLERANCE


def test_another_prompts_difference_and_controls_scored_together(case):
    pair, patched, other = case
    # Where the other prompt is the same prompt, it is the patch.
    same = deltas(scored(pair, patched, "other_prompt", other=patched.given))
    assert same == pytest.approx(deltas(exact(pair, patched)), abs=TOLERANCE)
    each = ("self", "other_prompt", pair.clean)
    together = scored(pair, patched, *each, other=other)
    assert furthest(same, deltas(together, "1")) > 100 * TOLERANCE
    for i, control in enumerate(each):
        alone = deltas(scored(pair, patched, control, other=other))
        assert deltas(together, str(i)) == pytest.approx(alone, abs=TOLERANCE)


def test_a_random_direction_is_as_long_as_the_difference(case):
    pair, patched, _ = case
    run = fitting(RUN, pair)
    reader = ControlReader(pair, patched, run)
    for control, needed in (("random", "generator"), ("other_prompt", "another prompt")):
        with pytest.raises(ValueError, match=needed):
            reader.moved(control)
    moved = reader.moved("random", torch.Generator().manual_seed(0))
    here, there = (
        text_reader(model, patched.given, run).activations(patched.all_steps, patched.sites)
        for model in (pair.clean, pair.corrupted)
    )
    for site in patched.sites:
        pushed, apart = moved[site] - here[site], there[site] - here[site]
        assert pushed.norm(dim=-1).tolist() == pytest.approx(apart.norm(dim=-1).tolist(), rel=1e-3)
        assert not torch.allclose(pushed, apart, atol=1e-4)
