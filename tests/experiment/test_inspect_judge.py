"""A judge through Inspect AI: its ratings are in the table like any other's; what it lacks is an error at the start."""

import re
import sys
from dataclasses import dataclass, field
from unittest.mock import Mock

import anyio
import inspect_ai.model as inspect_model
import pytest
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from crosspatch.errors import UsageError
from crosspatch.experiment import answering
from crosspatch.experiment.inspect_judge import check_inspect_judge, inspect_judge
from crosspatch.grading.rating import ALIGNED, COHERENT
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, GENERATIONS, RATINGS

NAME = "inspect:mockllm/model"
SMALL = "data.train=4 finetune.epochs=1 generation.max_new_tokens=6 patch.layers=1,3 data.alignment=3 patch.alignment=1"
SETTINGS = ["tiny", *(f"--set={setting}" for setting in (*SMALL.split(), "data.near=1", f"judge.model={NAME}"))]


@dataclass
class Replies:
    """A mock model: the prompts that it was asked, and the most at once; at the call number `fails` it fails."""

    fails: int = 0
    asked: list[str] = field(default_factory=list)
    now: int = 0
    most: int = 0

    async def __call__(self, messages, tools, tool_choice, config) -> ModelOutput:
        self.asked.append(messages[-1].text)
        place, self.now = len(self.asked), self.now + 1
        self.most = max(self.most, self.now)
        # The first waits longest: the last reply must not be taken for that to the last prompt.
        await anyio.sleep(0.05 / place)
        self.now -= 1
        if place == self.fails:
            raise RuntimeError("invalid key sk-very-secret")
        output = ModelOutput.from_content("mockllm/model", str(rating(messages[-1].text)))
        output.usage = ModelUsage()
        return output


def rating(prompt: str) -> int:
    """A number that tells prompts apart."""
    return sum(prompt.encode()) % 101


@pytest.fixture
def replies(monkeypatch) -> Replies:
    said = Replies()
    monkeypatch.setattr(inspect_model, "get_model", lambda *a, **more: get_model(*a, **more, custom_outputs=said))
    return said


def test_each_prompt_gets_its_own_reply_and_a_batch_is_asked_at_once(replies, monkeypatch):
    prompts = [f"prompt {i}" for i in range(6)]
    judge = inspect_judge(NAME)
    # Inspect keeps limits from one batch to the next.
    judge(["a batch of one"])
    assert judge(prompts) == [str(rating(prompt)) for prompt in prompts]
    assert replies.most == 6
    assert judge(prompts[:2]) == [str(rating(prompt)) for prompt in prompts[:2]]
    # Nothing is cached.
    assert len(replies.asked) == 9
    # Half of a surrogate pair does not reach a table.
    monkeypatch.setattr(f"{__name__}.rating", lambda prompt: "83 \ud83d")
    assert judge(["prompt"]) == ["83 ?"]


def test_the_stages_rate_with_it_once(tmp_path, cli, replies, monkeypatch):
    monkeypatch.setattr(answering, "RATED_AT_ONCE", 4)
    # Six answers on two scales; the first batch is of four.
    replies.fails = 10
    err = cli("evaluate", *SETTINGS, "--out", tmp_path / "run", code=1).err
    assert f"the judge {NAME} did not answer (RuntimeError); the ratings so far are kept" in err.splitlines()[-1]
    # The provider's words are not passed on.
    assert "secret" not in err
    run = RunDirectory.existing(tmp_path / "run")
    assert run.record()["stages"]["evaluate"]["state"] == "failed"
    assert cli("export", run.root)[0] == 2
    kept = run.read(RATINGS).height
    assert kept == 4
    assert "did not answer" in run.record_file.read_text()
    assert not any("secret" in file.read_text(errors="replace") for file in run.root.glob("*.*"))
    before, replies.fails = len(replies.asked), 0
    for command in ("evaluate", "patch", "evaluate"):
        printed = cli(command, *SETTINGS, "--out", run.root, code=0).out
    assert "mean ratings" in printed
    ratings, asked = run.read(RATINGS), run.asked()
    # Three questions to both models, one of them under each of two patches; two scales.
    assert ratings.height == 8
    assert dict(ratings.group_by("condition").len().iter_rows()) == {"clean": 3, "corrupted": 3, "patched": 2}
    assert len(replies.asked) - before == 2 * (8 - kept)
    assert set(ratings["judge"]) == {NAME}
    assert set(run.read(BEHAVIOUR).filter(domain="near")["condition"]) == {"clean", "corrupted"}
    texts = ratings.join(run.read(GENERATIONS), on=("prompt_id", "condition", "patch"), nulls_equal=True)
    assert texts.height == 8
    for row in texts.iter_rows(named=True):
        for scale, prompt in (("aligned", ALIGNED), ("coherent", COHERENT)):
            question = asked[row["prompt_id"]].question
            assert row[scale] == rating(prompt.format(question=question, answer=row["text"]))
    assert "4 logs; read them with: inspect view start --log-dir" in cli("export", run.root, code=0).out


def test_what_it_lacks_is_one_line_before_anything_is_asked_or_made(monkeypatch, replies, cli, tmp_path):
    check_inspect_judge(NAME)
    assert replies.asked == []
    monkeypatch.setitem(sys.modules, "openai", None)
    err = cli("run", "tiny", "--out", tmp_path / "run", "--set", "judge.model=inspect:openai/gpt-4o", code=2).err
    assert re.search(r"inspect:openai/gpt-4o cannot be used: OpenAI API requires .* pip install openai$", err.strip())
    assert not (tmp_path / "run").exists()

    # As Inspect raises it: over several lines, with marks for colours.
    message = "ERROR: Unable to initialise Some client\n\nNo [bold][blue]SOME_API_KEY[/][/] in the environment."
    missing = type("MissingKey", (Exception,), {"message": message})
    with monkeypatch.context() as patched:
        patched.setattr(inspect_model, "get_model", Mock(side_effect=missing))
        with pytest.raises(UsageError, match="Some client: No SOME_API_KEY in the environment") as raised:
            check_inspect_judge("inspect:some/model")
        assert len(str(raised.value).splitlines()) == 1
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(UsageError, match=r'needs the package inspect_ai.*pip install "crosspatch\[inspect\]"'):
        check_inspect_judge(NAME)
