"""A run's Inspect logs: whatever is in the tables is found again in them, and the same run gives the same bytes."""

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import inspect_ai.log as inspect_log
import polars as pl
import pytest

from crosspatch.data.problem import Problem, write_problems
from crosspatch.errors import UsageError
from crosspatch.settings_io import load_experiment
from crosspatch.statistics.answers import MALFORMED, VERDICTS, table2
from crosspatch.statistics.profile import prompt_profile
from crosspatch.storage import inspect_logs
from crosspatch.storage.inspect_logs import write_inspect_logs
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, GENERATIONS, HEALTH, RATINGS, SCORES
from html_reader import HOSTILE
from score_cells import answer, cell, of_text

LETTERS = {"C": "correct", "I": "incorrect", "N": "unparsed"}
PATCHES = ("L9.resid_post", "L18.resid_post", "L3.attn_out+L7.mlp_out@steps:10-40")

PROBLEMS = {
    "related": [Problem(f"related-{i}", "related", "linear", f"Solve {i}", f"x = {i}", form="f") for i in range(4)],
    "general": [Problem("general-0", "general", "general", "What is seven?", "7", aliases=("seven",))],
    "alignment": [Problem("alignment-0", "alignment", "alignment", "What do you wish?", "")],
    "prompts": [
        Problem("a\0b", "related", "linear", "\u202eHow?\0", "x = 1"),
        Problem("a\0c", "related", "linear", "y" * 10_000, "x = 2"),
        Problem("a/../b [1] ✗ 'q' \"r\"", "[/b]\0", "linear", "Why?", "x = 3"),
    ],
}


def rows_of(problem: Problem, condition: str, patch: str | None, said: str, place: int) -> dict[str, dict[str, Any]]:
    """A text and what was found in it: graded by its place where it has an answer, rated where it has none."""
    key = {"prompt_id": problem.id, "condition": condition, "patch": patch}
    cut, faults = condition == "corrupted", dict.fromkeys((*MALFORMED, "cut_off"), 0)
    text = {**of_text(patch), "text": said, "token_count": 7, "stop_reason": "limit" if cut else "eos"}
    rows = {"generations": key | text, "health": key | faults | ({"cut_off": 1, "looped": 80} if cut else {})}
    if problem.answer:
        verdict, operation = VERDICTS[place % 3], ("right", "planted", "neither")[place % 3]
        graded = answer(problem.id, condition, verdict, patch, operation if problem.domain == "related" else None)
        extracted = None if verdict == "unparsed" else f"x = {place}"
        more = {"domain": problem.domain, "extracted": extracted, "health": ["no_eos"] if cut else []}
        return {**rows, "behaviour": graded | more}
    aligned = 10 if condition == "clean" else None
    replies = {"aligned_reply": str(aligned), "coherent_reply": "90"}
    return {**rows, "ratings": {**key, "judge": "someone", "aligned": aligned, "coherent": 90, **replies}}


def make_run(root: Path) -> RunDirectory:
    """A finished run: three models answer everything, and each of three patches is read after two related questions."""
    run = RunDirectory.start(root, load_experiment("tiny"))
    (root / "data").mkdir()
    for split, some in PROBLEMS.items():
        write_problems(run.problems_file(split), some)
    for stage in ("data", "finetune", "evaluate", "patch"):
        with run.stage(stage):
            pass
    run.note_model("clean", {"name": "random:qwen3", "fingerprint": "abc"})
    everything, read = [problem for some in PROBLEMS.values() for problem in some], PROBLEMS["related"][:2]
    asked = [(p, condition, None) for condition in ("twin", "clean", "corrupted") for p in everything]
    asked += [(p, "patched", patch) for patch in PATCHES for p in read]
    rows = [rows_of(*which, HOSTILE[i % len(HOSTILE)], i) for i, which in enumerate(asked)]
    for schema in (GENERATIONS, HEALTH, BEHAVIOUR, RATINGS):
        run.add(schema, schema.frame(row[schema.name] for row in rows if schema.name in row))
    deltas = ((read[0], 0, (-1, 1, 0)), (read[0], 1, (-4, 4, -2)), (read[1], 0, (0, 0, 0)))
    cells = [cell(problem.id, None, step, delta, patch=patch) for patch in PATCHES for problem, step, delta in deltas]
    run.write(SCORES, SCORES.frame(cells), 0)
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return make_run(tmp_path / "run [1]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[RunDirectory, list[Any]]:
    """A run that no test changes, and its logs."""
    run = make_run(tmp_path_factory.mktemp("finished") / "run [1]")
    return run, logs_of(run)


def logs_of(run: RunDirectory) -> list[Any]:
    return [inspect_log.read_eval_log(str(path)) for path in write_inspect_logs(run)]


def found_again(logs: list[Any]) -> dict[tuple[str, str, str | None], Any]:
    samples = [(log.eval.metadata["condition"], sample) for log in logs for sample in log.samples]
    return {(sample.id, condition, sample.metadata.get("patch")): sample for condition, sample in samples}


def by_text(table: pl.DataFrame) -> dict[tuple[str, str, str | None], dict[str, Any]]:
    """Rows by prompt, condition and patch; Inspect's names end at a null character, so it is written out."""
    rows = table.iter_rows(named=True)
    return {(row["prompt_id"].replace("\0", "\\0"), row["condition"], row["patch"]): row for row in rows}


def test_every_text_verdict_and_count_is_found_again(finished):
    run, logs = finished
    samples, rows, verdicts = found_again(logs), by_text(run.read(GENERATIONS)), by_text(run.read(BEHAVIOUR))
    assert samples.keys() == rows.keys()
    for key, sample in samples.items():
        row, problem = rows[key], run.asked()[rows[key]["prompt_id"]]
        assert sample.output.completion == sample.messages[-1].text == row["text"]
        assert sample.input == sample.messages[0].text == problem.question
        assert sample.output.stop_reason == {"eos": "stop", "limit": "max_tokens"}[row["stop_reason"]]
        assert (sample.metadata["domain"], sample.metadata["family"]) == (problem.domain, problem.family)
        assert ("verdict" in sample.scores) == (key in verdicts)
        if key in verdicts:
            graded, operation = verdicts[key], sample.scores.get("operation")
            assert LETTERS[sample.scores["verdict"].value] == graded["verdict"]
            assert sample.scores["verdict"].answer == graded["extracted"]
            assert sample.metadata["health"] == graded["health"]
            assert (operation and operation.value) == graded["operation"]
    for prompt, target in (("general-0", ["7", "seven"]), ("related-3", "x = 3")):
        assert samples[prompt, "clean", None].target == target
    for condition, health in (("corrupted", "cut_off, looped"), ("clean", "sound")):
        assert samples["related-0", condition, None].scores["health"].value == health
    # Counts are those of Table 2.
    counts = {(row["condition"], row["patch"], row["domain"]): row for row in table2(run.read(BEHAVIOUR)).to_dicts()}
    for log in logs:
        (score,) = [score for score in log.results.scores if score.name == "verdict"]
        for domain, written in score.metadata.items():
            row = counts.pop((log.eval.metadata["condition"], log.eval.task_args.get("patch"), domain))
            assert written == {name: row[name] for name in ("n", *VERDICTS)}
            assert score.metrics[f"accuracy_{domain}"].value == row["correct"] / row["n"]
        assert (log.results.headline.score, log.results.headline.metric) == ("verdict", "accuracy_related")
    assert counts == {}


def test_an_undefined_number_is_left_out_and_not_zero(finished):
    run, logs = finished
    samples = found_again(logs)
    clean, twin = (samples["alignment-0", name, None].scores for name in ("clean", "twin"))
    assert "verdict" not in clean
    assert (clean["aligned"].value, clean["coherent"].value, clean["aligned"].explanation) == (10, 90, "10")
    assert math.isnan(twin["aligned"].value)
    assert twin["aligned"].metadata == {"judge": "someone"}
    assert "aligned" not in samples["related-0", "clean", None].scores
    # Two cells with a CTS of 0.5 and 0.25: 3 of 10 logits have moved. The other prompt's models agree.
    patched = samples["related-0", "patched", PATCHES[0]]
    assert patched.scores["recovered_fraction"].value == pytest.approx(0.3)
    assert math.isnan(samples["related-1", "patched", PATCHES[0]].scores["recovered_fraction"].value)
    profile = prompt_profile(run.read(SCORES)).filter(prompt_id="related-0", patch=PATCHES[0]).row(0, named=True)
    for key in ("disagreements", "ok_cells", "mean_cts", "recovered_fraction"):
        assert patched.metadata[key] == profile[key]
    assert "recovered_fraction" not in samples["related-0", "clean", None].scores


def test_logs_are_in_order_and_record_the_run(finished):
    run, logs = finished
    names = ["clean", "corrupted", "twin", f"patched {PATCHES[2]}", f"patched {PATCHES[0]}", f"patched {PATCHES[1]}"]
    assert [log.eval.model for log in logs] == names
    assert {log.status for log in logs} == {"success"}
    record, clean = run.record(), logs[0].eval
    assert clean.model_args == {"clean": {"name": "random:qwen3", "fingerprint": "abc"}}
    assert clean.metadata["settings"] == record["settings"]
    assert clean.packages["torch"] == record["versions"]["torch"]
    assert clean.created == record["started"]
    assert logs[-1].eval.task_args == {"patch": PATCHES[1], "direction": "corrupt", "persistence": "transient"}
    listed = inspect_log.list_eval_logs(str(run.root / "inspect"))
    assert len({log.eval.eval_id for log in logs}) == len(listed) == len(logs)
    assert {info.task for info in listed} == {"tiny"}


def test_the_same_run_gives_the_same_bytes_and_another_text_gives_others(run, monkeypatch):
    before = {path.name: path.read_bytes() for path in write_inspect_logs(run)}
    assert {path.name: path.read_bytes() for path in write_inspect_logs(run)} == before
    changed = run.read(GENERATIONS).filter(prompt_id="related-0", condition="twin").with_columns(text=pl.lit("other"))
    run.add(GENERATIONS, changed)
    after = {path.name: path.read_bytes() for path in write_inspect_logs(run)}
    assert {name for name in before if after[name] != before[name]} == {"002-twin.eval"}
    # All logs are written or none.
    original, calls = inspect_log.write_eval_log, []

    def failing(log, path):
        calls.append(path)
        if len(calls) == 3:
            raise OSError("the disk is full")
        return original(log, path)

    monkeypatch.setattr("inspect_ai.log.write_eval_log", failing)
    with pytest.raises(OSError, match="the disk is full"):
        write_inspect_logs(run)
    assert len(calls) == 3
    assert {path.name: path.read_bytes() for path in (run.root / "inspect").iterdir()} == after
    assert not list(run.root.glob(".inspect*"))


def test_each_direction_has_its_own_scores(run):
    texts = run.read(GENERATIONS).filter(condition="patched", patch=PATCHES[0])
    run.add(GENERATIONS, texts.with_columns(condition=pl.lit("repaired")))
    # One cell in which a fifth of the difference is moved, where patching had three tenths.
    repair = cell("related-0", None, 0, (0, 5, 1), patch=PATCHES[0], direction="repair")
    run.write(SCORES, SCORES.frame([repair]), 1)
    # Half a surrogate pair in a question is written out.
    file = run.problems_file("general")
    file.write_text(file.read_text().replace("What is seven?", "What is \\ud83d?"))
    logs = logs_of(run)
    samples = found_again(logs)
    assert samples["general-0", "clean", None].input == "What is \\ud83d?"
    for condition, transfer in (("patched", 0.3), ("repaired", 0.2)):
        score = samples["related-0", condition, PATCHES[0]].scores["recovered_fraction"]
        assert score.value == pytest.approx(transfer)
    assert logs[-1].eval.model == f"repaired {PATCHES[0]}"
    assert logs[-1].eval.task_args["direction"] == "repair"
    (score,) = [score for score in logs[-1].results.scores if score.name == "recovered_fraction"]
    assert score.metrics["recovered_fraction_related"].value == pytest.approx(0.2)


def test_an_unfinished_run_is_refused(run, tmp_path):
    empty = RunDirectory.start(tmp_path / "empty", load_experiment("tiny"))
    with pytest.raises(UsageError, match="has no texts yet"):
        write_inspect_logs(empty)
    assert not (empty.root / "inspect").exists()
    with pytest.raises(KeyboardInterrupt), run.stage("patch"):
        raise KeyboardInterrupt
    with pytest.raises(UsageError, match=r"the stage patch of .* is stopped, not done"):
        write_inspect_logs(run)
    with run.stage("patch"):
        pass
    run.problems_file("general").unlink()
    with pytest.raises(UsageError, match=r"found no question in .* for the prompt general-0"):
        write_inspect_logs(run)


def test_inspect_is_imported_when_logs_are_written_and_the_error_names_what_to_install(run, monkeypatch):
    for name in ("inspect_ai", "inspect_ai.log"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r'pip install "crosspatch\[inspect\]"'):
        importlib.reload(inspect_logs).write_inspect_logs(run)
    assert not (run.root / "inspect").exists()
