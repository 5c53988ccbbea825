"""The stages that measure a trained pair: controls, mistakes, localise and lenses, and that they resume."""

from itertools import product
from pathlib import Path

import polars as pl
import pytest
import torch

from crosspatch import load_experiment, run_experiment, tables
from crosspatch.data.problem import Span
from crosspatch.experiment import ExperimentRun, lenses, localising
from crosspatch.experiment.forced_texts import ControlsStage, MistakesStage, kinds_of_tokens
from crosspatch.experiment.run_context import RunContext
from crosspatch.statistics.localisation import site_effects, top_sites
from crosspatch.storage.run import RunDirectory
from sweeps import copy_of

SMALL = ["data.train=4", "data.related=3", "data.unrelated_math=1", "data.general=1", "data.style=terse"]
SMALL += ["patch.layers=1,3", "lenses.layers=1,3", "lenses.related=3", "lenses.component=resid_post,head"]
SMALL += ["localise.top=2", "generation.max_new_tokens=8"]
BOTH = ["controls=twin", "patch.direction=both"]
MEASURED = {
    "controls": [tables.CONTROLS],
    "mistakes": [tables.MISTAKES],
    "localise": [tables.LOCALISATION, tables.DIVERGENCES],
    "lenses": [tables.WEIGHTS, tables.ACTIVATIONS, tables.LOGIT_LENS],
}
CELL = ["prompt_id", "direction", "patch", "step"]


def run_of(out: Path, *settings: str, stages=tuple(MEASURED)) -> RunDirectory:
    return run_experiment(load_experiment("tiny", [*SMALL, *settings]), out, *stages)


def context_of(run: Path) -> RunContext:
    return ExperimentRun.start(load_experiment("tiny", [*SMALL, *BOTH]), run).context


@pytest.fixture(scope="module")
def patched(made_once) -> Path:
    """A run as far as its patches."""
    return made_once("patched", lambda out: run_of(out, *BOTH, stages=("evaluate", "patch")))


@pytest.fixture(scope="module")
def finished(patched, made_once) -> RunDirectory:
    return RunDirectory(made_once("measured", lambda out: run_of(copy_of(patched, out), *BOTH)))


@pytest.fixture
def given(patched) -> list[str]:
    """Settings that give the trained pair to another run."""
    return [f"models.{name}={patched / 'models' / name}" for name in ("clean", "corrupted")]


@pytest.mark.parametrize(
    ("stage", "owner", "method", "stop", "calls_in_all"),
    [
        # Each shard once, and two directions of each prompt; the interrupted one twice.
        ("controls", ControlsStage, "score", 2, 4 + 1),
        ("mistakes", MistakesStage, "score", 1, 2 + 1),
        ("localise", localising, "measure_sites", 4, 2 * 5 + 2),
        ("lenses", RunDirectory, "add", 4, None),
        ("lenses", RunDirectory, "add", 28, None),
    ],
)
def test_a_stopped_stage_resumes_and_gives_the_same(
    patched, finished, tmp_path, monkeypatch, stage, owner, method, stop, calls_in_all
):
    run, original, calls = copy_of(patched, tmp_path / "run"), getattr(owner, method), []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(owner, method, stopping)
    with pytest.raises(KeyboardInterrupt):
        run_of(run, *BOTH, stages=(stage,))
    resumed = run_of(run, *BOTH, stages=(stage,))
    assert calls_in_all in (len(calls), None)
    if stage == "lenses":
        assert calls[stop - 1][1].name == {4: "logit_lens", 28: "generations"}[stop]
    # A third time nothing is measured.
    if stage == "localise":
        localising.localise(context_of(run))
        assert len(calls) == calls_in_all
    for schema in MEASURED[stage]:
        assert resumed.read(schema).equals(finished.read(schema))
    key = ("prompt_id", "condition", "patch")
    if stage == "lenses":
        assert resumed.read(tables.GENERATIONS).sort(key).equals(finished.read(tables.GENERATIONS).sort(key))
        # A third time nothing is compared.
        for name in ("_compare", "_answer_steered", "_deltas"):
            monkeypatch.setattr(lenses, name, lambda *_: pytest.fail("was there"))
        lenses.measure_lenses(context_of(run))


def test_every_control_is_measured_in_the_cells_that_have_a_score(finished):
    for schema in (schema for schemas in MEASURED.values() for schema in schemas):
        assert dict(finished.read(schema).schema) == pl.Schema(schema.dtypes)
    scores, controls = finished.read(tables.SCORES), finished.read(tables.CONTROLS)
    ok = scores.filter(status="ok").select(CELL).sort(CELL)
    assert ok["direction"].unique().sort().to_list() == ["corrupt", "repair"]
    for name in ("self", "random", "twin"):
        assert controls.filter(control=name).select(CELL).sort(CELL).equals(ok), name
    # The other domains have one prompt each, and so no other one.
    related = ok.filter(pl.col("prompt_id").str.starts_with("related"))
    assert controls.filter(control="other_prompt").select(CELL).sort(CELL).equals(related)
    # Contexts and denominators are the patch's.
    both = controls.join(scores, on=CELL, suffix="_own")
    assert both.height == controls.height
    for name in ("clean_token_id", "corrupted_token_id", "position"):
        assert both[name].equals(both[f"{name}_own"], check_names=False), name
    for name in ("delta_clean", "delta_corrupted"):
        assert (both[name] - both[f"{name}_own"]).abs().max() < 1e-4, name
    assert (both["delta_patched"] - both["delta_patched_own"]).abs().max() > 0.1
    # A model patched into itself recovers nothing in either direction.
    own = both.filter(control="self")
    ends = own.select(pl.when(pl.col("direction") == "corrupt").then("delta_clean").otherwise("delta_corrupted"))
    assert (own["delta_patched"] - ends.to_series()).abs().max() < 1e-4


def test_kinds_of_tokens_by_hand():
    text = "x + 2 = 5\nAdd 2"
    texts, spans = [text[:end] for end in (3, 5, 10, 12, 13, 15, 15)], (Span("word", 10, 13), Span("number", 14, 15))
    assert kinds_of_tokens(texts, spans) == [None, None, None, "word", "word", "number", None]
    assert kinds_of_tokens(texts, ()) == [None] * 7


def test_every_related_problem_is_scored_along_its_wrong_solution(finished):
    mistakes = finished.read(tables.MISTAKES)
    related, mistaken = ({p.id: p for p in finished.problems(split)} for split in ("related", "mistaken"))
    assert list(mistaken) == list(related)
    for right, wrong in zip(related.values(), mistaken.values(), strict=True):
        assert (wrong.question, wrong.answer) == (right.question, right.answer)
        assert wrong.reached != right.reached
        assert wrong.spans != right.spans == ()
    # They are not asked: the right ones are.
    assert finished.asked()["related-000"].solution == related["related-000"].solution
    asked = product(("related-000", "related-001"), ("corrupt", "repair"), ("L1.resid_post", "L3.resid_post"))
    assert set(mistakes.select("prompt_id", "direction", "patch").rows()) == set(asked)
    tokenizer = context_of(finished.root).prompts.tokenizer
    for (prompt_id, *_), rows in mistakes.group_by("prompt_id", "direction", "patch", maintain_order=True):
        problem = mistaken[prompt_id]
        assert tokenizer.decode(rows["read_token_id"].to_list(), skip_special_tokens=True) == problem.solution
        # The texts of the wrong tokens make up the wrong spans, and little more.
        wrong = "".join(tokenizer.decode(token).strip() for token in rows.drop_nulls("span")["read_token_id"])
        said = "".join(problem.solution[span.start : span.end] for span in problem.spans)
        assert said.replace(" ", "") in wrong
        assert len(wrong) <= len(said) + 4


def test_every_prompt_of_every_domain_is_localised_in_both_directions(finished):
    found, divergences = finished.read(tables.LOCALISATION), finished.read(tables.DIVERGENCES)
    domains = {problem.id: problem.domain for problem in finished.asked().values()}
    assert set(domains.values()) == {"related", "unrelated_math", "general"}
    assert set(found["prompt_id"]) == set(domains)
    assert found.group_by("direction", "positions").len()["len"].n_unique() == 1
    both = set(product(("corrupt", "repair"), ("current", "all")))
    assert set(found.select("direction", "positions").rows()) == both
    # The same heads are measured after all prompts of a domain: two for each of the positions, by all prompts and by
    # each half of them; some of them are the same.
    measured = found.filter(pl.col("patched").is_not_null(), component="head", direction="corrupt")
    parts = measured.partition_by("prompt_id", as_dict=True)
    chosen = {prompt: set(part["patch"]) for (prompt,), part in parts.items()}
    for prompt, heads in chosen.items():
        assert 2 <= len(heads) <= (6 if domains[prompt] == "related" else 4)
        assert all(heads == others for other, others in chosen.items() if domains[other] == domains[prompt])
    # The statistics read these tables.
    table = site_effects(found, domains)
    assert set(table["domain"]) == set(domains.values())
    last = table.filter(patch="L3.resid_post", measure="recovered_fraction")["estimate"]
    assert last.to_list() == pytest.approx([1] * 12, abs=0.2)
    best = [site.component for site in top_sites(found, domains, "related")]
    assert best == ["resid_post", "attn_out", "mlp_out", "head"]
    assert divergences.group_by("prompt_id").len()["len"].unique().to_list() == [4]
    # The first divergence is the first of the steps, along the clean model's text, at which sites are measured.
    steps = found.filter(direction="corrupt", patch="L0.attn_out", positions="current")
    first = dict(steps.select("prompt_id", pl.col("steps").list.first()).iter_rows())
    assert dict(divergences.select("prompt_id", "step").unique().iter_rows()) == first


def test_every_child_is_compared_along_the_same_answers_and_steers(finished):
    weights, activations, lens = (finished.read(schema) for schema in MEASURED["lenses"])
    for table in (weights, activations, lens):
        assert set(table["child"]) == {"corrupted", "twin"}
    of_corrupted, of_twin = (activations.filter(child=child, at="all") for child in ("corrupted", "twin"))
    for own in (of_corrupted, of_twin):
        read = own["prompt_id"].unique(maintain_order=True).to_list()
        assert read == ["related-000", "related-001", "unrelated-math-000", "general-000", "related-002"]
        assert own.filter(component="resid_post").height == 5 * 4
        assert own.filter(component="head").height == 5 * 4 * 4
    # Both models read one text.
    assert of_corrupted["steps"].equals(of_twin["steps"])
    # The children differ.
    assert not weights.filter(child="corrupted")["delta_norm"].equals(weights.filter(child="twin")["delta_norm"])
    disagreeing = activations.filter(at="disagree")
    assert set(lens.select("child", "prompt_id").rows()) == set(disagreeing.select("child", "prompt_id").rows())
    # Texts are called by direction and steering, and graded.
    texts, graded = finished.read(tables.GENERATIONS), finished.read(tables.BEHAVIOUR)
    counts = dict.fromkeys(("clean", "corrupted", "twin"), 5)
    counts |= dict.fromkeys(("patched", "repaired", tables.STEERED, tables.STEERED_RANDOM), 8)
    for table in (texts, graded):
        assert dict(table.group_by("condition").len().iter_rows()) == counts
    of = {name: texts.filter(condition=name).sort("patch", "prompt_id") for name in counts}
    assert not of["patched"]["text"].equals(of["repaired"]["text"])
    for name in (tables.STEERED, tables.STEERED_RANDOM):
        assert set(of[name]["patch"]) == {f"L{layer}.resid_post*{strength}" for layer in (1, 3) for strength in (1, 2)}
        assert set(of[name]["prompt_id"]) == {"related-000", "related-001"}
    assert not of[tables.STEERED]["text"].equals(of[tables.STEERED_RANDOM]["text"])


def test_a_prompt_is_steered_by_the_deltas_of_the_others_of_its_domain_alone(finished):
    context = context_of(finished.root)
    problems = lenses._problems(context)
    asked = {name: problems[name] for name in ("related-000", "related-001")}
    deltas = lenses._deltas(context, (1,), problems)[1]
    assert deltas.keys() == problems.keys()
    vectors = lenses._vectors(context, 1, asked, deltas)
    steered, drawn = vectors[tables.STEERED], vectors[tables.STEERED_RANDOM]
    for name in asked:
        assert float(drawn[name].norm()) == pytest.approx(float(steered[name].norm()), rel=1e-5)
        assert float(torch.cosine_similarity(drawn[name], steered[name], dim=0)) < 0.6
    for name, problem in problems.items():
        changed = lenses._vectors(context, 1, asked, {**deltas, name: torch.randn(5, 48)})[tables.STEERED]
        same = {key: torch.equal(changed[key], steered[key]) for key in asked}
        assert same == {key: key == name or problem.domain != "related" for key in asked}


def test_one_direction_and_one_control_alone(finished, given, tmp_path):
    alone = run_of(tmp_path / "run", *given, "patch.direction=repair", "patch.controls=random", stages=("controls",))
    assert set(alone.read(tables.CONTROLS)["control"]) == {"random"}
    # Both directions are what each is alone.
    scores, of_both = alone.read(tables.SCORES), finished.read(tables.SCORES).filter(direction="repair")
    keys = [*CELL, "token_id", "clean_token_id", "corrupted_token_id"]
    assert scores.select(keys).equals(of_both.select(keys))
    assert (scores["delta_patched"] - of_both["delta_patched"]).abs().max() < 1e-4
    # Where only one direction is patched its texts are simply patched.
    assert "repaired" not in alone.read(tables.GENERATIONS)["condition"]


def test_given_prompts_are_localised_and_steered(given, tmp_path):
    more = ["patch.questions=[Solve 2x = 6, Solve x + 1 = 4, Solve 5x = 10]", "lenses.strengths=1", "lenses.layers=2"]
    run = run_of(tmp_path / "run", *given, *more, "lenses.related=0", stages=("localise", "lenses"))
    assert run.read(tables.LOCALISATION)["prompt_id"].n_unique() == 3
    assert run.read(tables.GENERATIONS).filter(condition=tables.STEERED)["patch"].to_list() == ["L2.resid_post*1"] * 3


def test_what_cannot_be_measured_is_logged_and_left_out(given, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lenses, "steered_answers", lambda *_: pytest.fail("nothing is to be steered"))
    less = ["patch.related=1", "lenses.related=0", "patch.persistence=persistent", "patch.engine=reference"]
    alone = run_of(tmp_path / "alone", *given, *less, "generation.max_new_tokens=2")
    for schema in (tables.CONTROLS, tables.MISTAKES, tables.LOCALISATION):
        assert alone.read(schema).is_empty()
    for words in (
        "controls: only transient patches",
        "mistakes: only transient patches",
        "reference engine; sites are not localised",
    ):
        assert words in caplog.text
    assert alone.read(tables.ACTIVATIONS)["prompt_id"].n_unique() == 3
    assert "no other prompt has a difference to steer with for related-000" in caplog.text
    none = run_of(tmp_path / "none", *given, "lenses.strengths=[]", stages=("lenses",))
    assert set(none.read(tables.GENERATIONS)["condition"]) == {"clean"}
    for run in (alone, none):
        assert not set(run.read(tables.GENERATIONS)["condition"]) & {tables.STEERED, tables.STEERED_RANDOM}


def test_without_a_chat_template_a_separator_comes_before_each_solution(tmp_path, log):
    experiment = load_experiment("tiny", [*SMALL, "models.chat_template=none", "generation.max_new_tokens=2"])
    run = ExperimentRun.start(experiment, tmp_path / "run")
    run.run("mistakes")
    first = run.directory.problems("train")[0]
    assert any(line.endswith(f"\n\n{first.solution}<|im_end|>") for line in log.messages if "for example" in line)
    assert run.directory.read(tables.TRAINING).filter(pl.col("train_loss").is_not_null()).height
    prompts, mistaken = run.context.prompts, {problem.id: problem for problem in run.directory.problems("mistaken")}
    texts = run.directory.read(tables.MISTAKES).filter(layer=1).sort("step").partition_by("prompt_id", as_dict=True)
    assert texts
    for (prompt_id,), rows in texts.items():
        problem, tokens, told = mistaken[prompt_id], rows["read_token_id"].to_list(), rows["span"].to_list()
        assert prompts.decode(tokens) == f"\n{problem.solution}"
        # The solution's first character comes second, so its spans start one character later.
        moved = [Span(span.kind, span.start + 1, span.end + 1) for span in problem.spans]
        assert told == kinds_of_tokens([prompts.decode(tokens[: end + 1]) for end in range(len(tokens))], moved)
        assert any(told)
