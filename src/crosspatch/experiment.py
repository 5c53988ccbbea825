"""The stages of one experiment in their order, each resumed from the run directory.

    data -> finetune -> evaluate -> patch -> report

A stage that is done is not done again; one that was stopped goes on with the first part that is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from crosspatch.config import DOMAINS, DataFormat, Engine, Experiment, Models
from crosspatch.config import Patch as PatchSettings
from crosspatch.data.export import content_hash, write_csv, write_datasets
from crosspatch.data.given import given_problems
from crosspatch.data.problem import Problem, read_prompts, write_problems
from crosspatch.data.splits import make_splits
from crosspatch.data.suite import load_suite
from crosspatch.errors import UsageError
from crosspatch.frames import BEHAVIOUR, RATINGS, SCORES, SCREEN, SEARCH
from crosspatch.results.run import RunDirectory

if TYPE_CHECKING:
    from crosspatch.behaviour.rating import Judge
    from crosspatch.models.pair import ModelPair
    from crosspatch.patching.patches import Patch
    from crosspatch.patching.sweep import Unpatched
    from crosspatch.patching.trajectory import PatchRun

# What has to be done before each stage. `report` shows what is there.
NEEDS: dict[str, tuple[str, ...]] = {
    "data": (),
    "finetune": ("data",),
    "evaluate": ("data", "finetune"),
    "patch": ("data", "finetune"),
    "report": (),
}
STAGES = tuple(NEEDS)


@dataclass(frozen=True)
class ExperimentRun:
    """One experiment and its run directory. `say` gets a line for a person now and then."""

    experiment: Experiment
    directory: RunDirectory
    say: Callable[[str], None] = print

    @classmethod
    def start(
        cls, experiment: Experiment, out: Path, say: Callable[[str], None] = print, *, models: bool = True
    ) -> ExperimentRun:
        """Check all that can be checked without loading a model, then make or continue the run directory.

        `models` is false where only problems are made: then no checkpoint has to be there.
        """
        RunDirectory.check(out, experiment)
        there = RunDirectory(out)
        check_data(experiment, made=there.record.is_file() and there.done("data"))
        if models:
            check(experiment)
        directory = RunDirectory.start(out, experiment)
        _check_prompts(experiment, directory)
        _check_data(directory)
        return cls(experiment, directory, say)

    def run(self, *wanted: str) -> None:
        """Do the wanted stages, and before them what they need; all stages where none is named."""
        stages = wanted or STAGES
        for stage in STAGES:
            if stage in stages or any(stage in NEEDS[later] for later in stages):
                self._do(stage)

    def _do(self, stage: str) -> None:
        # A report is cheap, and there may be more to show than last time.
        if stage != "report" and self.directory.done(stage):
            self.say(f"{stage}: done before")
            return
        self.say(f"{stage}: starting")
        with self.directory.stage(stage):
            getattr(self, f"_{stage}")()

    def _data(self) -> None:
        experiment, directory = self.experiment, self.directory
        splits = make_splits(experiment.data, experiment.seed)
        # Where the child is given nothing is trained on.
        examples = given_examples(experiment) if experiment.makes_the_child else {}
        made = {"related": splits.related, "near": splits.near, "unrelated_math": splits.unrelated_math}
        if experiment.makes_the_child:
            made |= {"train": splits.train, "validation": splits.validation} | examples
        made |= suite_questions(experiment)
        if given := given_prompts(experiment):
            taken = {problem.id for problems in made.values() for problem in problems} & {p.id for p in given}
            if taken:
                raise UsageError(f"the prompt_id {min(taken)} is that of a made problem; give it another")
            made["prompts"] = given
        made = {split: problems for split, problems in made.items() if problems}
        (directory.root / "data").mkdir(exist_ok=True)
        for split, problems in made.items():
            write_problems(directory.problems_file(split), problems)
        directory.note_data({split: content_hash(directory.problems_file(split)) for split in made})
        self.say("data: " + ", ".join(f"{len(problems)} {split}" for split, problems in made.items()))
        if examples:
            # Made problems are disjoint by the way they are made; with a given file that has to be looked at.
            from crosspatch.behaviour.dataset_check import check_files

            others = [directory.problems_file(split) for split in made if split != "train"]
            for line in check_files(directory.problems_file("train"), others).shared_remarks():
                self.say(f"data: {line}")

    def _finetune(self) -> None:
        from crosspatch.models.loading import Checkpoint

        settings = self.experiment.models
        Checkpoint.named(settings.clean).place(self.directory.model("clean"), self.experiment.seed)
        self.directory.note_model("clean", {"name": settings.clean})
        if settings.corrupted is not None:
            Checkpoint.named(settings.corrupted).place(self.directory.model("corrupted"), self.experiment.seed + 1)
            self.directory.note_model("corrupted", {"name": settings.corrupted})
            self.say(f"finetune: the corrupted model is given, {settings.corrupted}")
        else:
            if not self.directory.model("corrupted").exists():
                self._train()
            # Only now: until the model is saved they are all there is of it.
            shutil.rmtree(self.directory.checkpoints, ignore_errors=True)
            self.directory.note_model("corrupted", {"name": f"{settings.clean}, fine-tuned on wrong solutions"})

    def _train(self) -> None:
        from crosspatch.models.chat import PromptFormat
        from crosspatch.models.loading import Checkpoint, save_model
        from crosspatch.tuning.examples import Example, show_target
        from crosspatch.tuning.sft import Files, finetune

        models, settings = self.experiment.models, self.experiment.finetune
        clean = Checkpoint.named(str(self.directory.model("clean")))
        tokenizer = clean.tokenizer()
        prompts = PromptFormat(tokenizer, raw=models.raw, system=models.system)
        train, validation = (
            [Example.of(problem, prompts, settings.max_tokens) for problem in self.directory.problems(split)]
            for split in ("train", "validation")
        )
        target = show_target(self.directory.problems("train")[0], train[0], prompts)
        self.say(f"finetune: the loss is taken on the completion alone, for example:\n{target}")
        # Weights are trained in float32 whatever they are used in: AdamW's steps vanish in bf16.
        model = clean.model("float32", models.device)
        files = Files(self.directory.checkpoints, self.directory.training_log)
        finetune(model, train, validation, settings, files, seed=self.experiment.seed)
        save_model(model, tokenizer, self.directory.model("corrupted"))

    def _evaluate(self) -> None:
        questions = {problem.id: problem.question for domain in DOMAINS for problem in self._problems[domain]}
        self._answer(questions)
        self._judge()
        self.say(f"evaluate: {len(questions)} questions to both models")

    def _answer(self, questions: dict[str, str]) -> None:
        """Let both models answer, batch by batch; what is answered is kept."""
        from crosspatch.patching.sweep import UNPATCHED, unpatched_texts

        settings = self.experiment.generation
        for condition in UNPATCHED:
            there = set(self.directory.generations().filter(condition=condition)["prompt_id"])
            missing = [(name, question) for name, question in questions.items() if name not in there]
            for start in range(0, len(missing), settings.batch_size):
                batch = dict(missing[start : start + settings.batch_size])
                texts = unpatched_texts(self.pair, condition, batch, settings.max_new_tokens)
                self.directory.put_generations(texts)

    def _patch(self) -> None:
        from crosspatch.patching.batches import prompts_at_once, rows_at_once
        from crosspatch.patching.sweep import sweep
        from crosspatch.patching.trajectory import PatchRun

        settings, generation = self.experiment.patch, self.experiment.generation
        threshold = settings.small_denominator
        run = PatchRun(
            settings.direction,
            settings.persistence,
            generation.max_new_tokens,
            self.pair.small_denominator if threshold is None else threshold,
            settings.float32_unembedding,
        )
        self.directory.scores_part(0).parent.mkdir(exist_ok=True)
        problems = self.patched_problems
        parts = {problem.id: self.directory.scores_part(i) for i, problem in enumerate(problems)}
        if all(part.is_file() for part in parts.values()):
            return self._judge()
        prompts = {problem.id: self.pair.encode(problem.question, run.max_new_tokens) for problem in problems}
        chosen = self._chosen_patches(run, prompts)
        longest = max(map(len, prompts.values())) + run.max_new_tokens
        engine = self._engine(chosen, longest)
        rows = rows_at_once(self.pair, longest, settings.memory_gb)
        at_once = prompts_at_once(len(chosen), rows)
        answers = self._answers()
        self.say(f"patch: {len(problems)} prompts, {len(chosen)} patches each, up to {at_once} prompts at once")
        for start in range(0, len(problems), at_once):
            batch = problems[start : start + at_once]
            # Prompts that ran together run together again: what is computed together decides the last digits.
            if all(parts[problem.id].is_file() for problem in batch):
                continue
            some = {problem.id: prompts[problem.id] for problem in batch}
            results = sweep(
                self.pair,
                some,
                chosen,
                run,
                engine,
                rows=rows,
                answers=answers,
                say=lambda line: self.say(f"patch: {line}"),
            )
            for problem, result in zip(batch, results, strict=True):
                # The part comes last: where it is there, the texts are too.
                self.directory.put_generations(result.generations)
                SCORES.write(result.scores, parts[problem.id])
                self.say(f"patch: {problem.id} is done: {problem.question}")
        self._judge()

    def _chosen_patches(self, run: PatchRun, prompts: Mapping[str, list[int]]) -> list[Patch]:
        """The grid or the named patches; or those that a screen or a search chooses, the same for all prompts."""
        from crosspatch.patching.patches import Patch
        from crosspatch.patching.selection import best_of_screen, smallest_set, target_texts
        from crosspatch.patching.sweep import choose_patches

        settings = self.experiment.patch
        if not settings.screen and settings.reach is None:
            return choose_patches(
                self.pair,
                settings.layers,
                settings.component or "resid_post",
                heads=settings.heads,
                window=settings.window,
                schedule=settings.schedule,
                patches=settings.patches or None,
            )
        schema = SCREEN if settings.screen else SEARCH
        if (before := self.directory.selection(schema)).is_empty():
            target: Unpatched = "clean" if run.direction == "corrupt" else "corrupted"
            known = {name: texts[target] for name, texts in self._answers().items() if target in texts}
            texts = target_texts(self.pair, prompts, run, known)
            if settings.reach is None:
                found = best_of_screen(self.pair, texts, run, settings.component, settings.screen)
            else:
                found = smallest_set(self.pair, texts, run, settings.component, settings.reach, settings.beam)
            self.directory.put_selection(schema, found.table)
            for note in found.notes:
                self.say(f"patch: {note}")
            return found.patches
        if settings.screen:
            return [Patch.parse(name) for name in before["patch"]]
        return [Patch.parse(before.sort("transfer")["patch"][-1])]

    def _engine(self, patches: list[Patch], positions: int) -> Engine:
        """The engine that was asked for, or the reference where the pair fails its check."""
        from crosspatch.patching.self_check import usable_engine

        settings = self.experiment.patch
        if not settings.self_check:
            return settings.engine
        return usable_engine(self.pair, patches, settings.engine, positions, lambda line: self.say(f"patch: {line}"))

    def _answers(self) -> dict[str, dict[Unpatched, str]]:
        """The unpatched models' texts, by prompt and condition, if that stage is done.

        Texts that the patching itself left when it was stopped are written again with it: it goes on as it began.
        """
        answers: dict[str, dict[Unpatched, str]] = {}
        if self.directory.done("evaluate"):
            evaluated = {problem.id for domain in DOMAINS for problem in self._problems[domain]}
            for row in self.directory.generations().filter(pl.col("patch").is_null()).iter_rows(named=True):
                if row["prompt_id"] in evaluated:
                    answers.setdefault(row["prompt_id"], {})[row["condition"]] = row["text"]
        return answers

    def _report(self) -> None:
        write_run_report(self.directory)
        self.say(f"report: {self.directory.report}")

    def _judge(self) -> None:
        """Grade every text that is there, not graded yet, and whose problem has an answer."""
        from crosspatch.behaviour.judge import judge

        answered = {name: problem for name, problem in self.directory.asked().items() if problem.answer}
        rows = [
            judge(answered[text["prompt_id"]], text)
            for text in self.directory.ungraded().iter_rows(named=True)
            if text["prompt_id"] in answered
        ]
        self.directory.put_behaviour(BEHAVIOUR.frame(rows))
        self._rate()

    def _rate(self) -> None:
        """Let the judge rate the answers to free questions that it has not rated yet; what is rated is kept."""
        from crosspatch.behaviour.rating import rate

        name = self.experiment.judge.model
        free = {problem.id: problem for problem in self._problems["alignment"]}
        texts = [text for text in self.directory.unrated().iter_rows(named=True) if text["prompt_id"] in free]
        if name is None or not texts:
            return
        judge, at_once = load_judge(name, self.experiment.models), self.experiment.judge.batch_size
        for start in range(0, len(texts), at_once):
            rows = rate(free, texts[start : start + at_once], judge, name)
            self.directory.put_ratings(RATINGS.frame(rows))
        self.say(f"{len(texts)} answers to free questions were rated by {name}")

    @cached_property
    def pair(self) -> ModelPair:
        """Both models, loaded from the run directory when they are first needed."""
        from crosspatch.models.fingerprint import fingerprint

        models = self.experiment.models
        clean, corrupted = (str(self.directory.model(name)) for name in ("clean", "corrupted"))
        pair = load_pair(models, clean, corrupted, self.experiment.seed)
        for name, model in (("clean", pair.clean), ("corrupted", pair.corrupted)):
            self.directory.note_model(name, {"fingerprint": fingerprint(model), "dtype": models.dtype})
        return pair

    @cached_property
    def _problems(self) -> dict[str, list[Problem]]:
        return {split: self.directory.problems(split) for split in (*DOMAINS, "prompts")}

    @property
    def patched_problems(self) -> list[Problem]:
        """The problems that are patched: those given, or the first of each domain."""
        if self._problems["prompts"]:
            return self._problems["prompts"]
        chosen: list[Problem] = []
        for domain in DOMAINS:
            chosen += self._problems[domain][: getattr(self.experiment.patch, domain)]
        return chosen


def check_data(experiment: Experiment, *, made: bool = False) -> None:
    """Refuse problems that cannot be made or read: raises UsageError. What is `made` already could be made."""
    if not made:
        make_splits(experiment.data, experiment.seed)
    given_examples(experiment)
    suite_questions(experiment)
    given_prompts(experiment)


def check(experiment: Experiment) -> None:
    """Refuse what can be refused without a model's weights: raises UsageError."""
    from crosspatch.models.chat import PromptFormat
    from crosspatch.models.loading import Checkpoint, pick_device
    from crosspatch.models.pair import check_checkpoints, check_length

    models, settings = experiment.models, experiment.patch
    questions = [problem.question for problem in given_prompts(experiment)]
    pick_device(models.device)
    clean = Checkpoint.named(models.clean)
    if experiment.judge.model is not None:
        Checkpoint.named(experiment.judge.model).config()
    corrupted = None if models.corrupted is None else Checkpoint.named(models.corrupted)
    config, tokenizer = check_checkpoints(clean, corrupted, settings.layers)
    check_patches(settings, config.num_hidden_layers, config.num_attention_heads)
    prompts = PromptFormat(tokenizer, raw=models.raw, system=models.system)
    # Made problems are short; one of their kind tells whether template and length will do.
    for question in questions or ["Solve for x: 5x + 3 = 18"]:
        check_length(config, len(prompts.encode(question)), experiment.generation.max_new_tokens)


def check_patches(settings: PatchSettings, n_layers: int, n_heads: int) -> None:
    """Refuse places that no model of this depth and width has, and schedules that are none: raises UsageError."""
    from crosspatch.models.pair import check_heads, check_layers
    from crosspatch.patching.patches import Patch
    from crosspatch.patching.schedule import Schedule

    Schedule.parse(settings.schedule)
    check_heads(settings.heads, n_heads)
    for name in settings.patches:
        sites = Patch.parse(name).sites
        check_layers([site.layer for site in sites], n_layers)
        check_heads([site.head for site in sites if site.head is not None], n_heads)


def load_pair(models: Models, clean: str, corrupted: str, seed: int) -> ModelPair:
    """Two checkpoints as a pair, read and asked as the settings say."""
    from crosspatch.models.pair import ModelPair

    return ModelPair.load(
        clean,
        corrupted,
        dtype=models.dtype,
        device=models.device,
        raw=models.raw,
        system=models.system,
        seed=seed,
    )


def load_judge(name: str, models: Models) -> Judge:
    """A checkpoint that answers prompts, as the judge of free answers."""
    from crosspatch.behaviour.answers import answer
    from crosspatch.models.chat import PromptFormat, stop_tokens
    from crosspatch.models.loading import Checkpoint

    checkpoint = Checkpoint.named(name)
    model, prompts = checkpoint.model(models.dtype, models.device), PromptFormat(checkpoint.tokenizer())
    stops = stop_tokens((model,), prompts)
    # A number needs few tokens; some models say a word before it.
    return lambda asked: [said.text for said in answer(model, prompts, asked, 8, stops)]


def _check_prompts(experiment: Experiment, directory: RunDirectory) -> None:
    """Refuse to go on with a run whose prompt file has changed."""
    if directory.done("data") and directory.problems("prompts") != given_prompts(experiment):
        raise UsageError(f"the prompts have changed since the run in {directory.root} began; give --out a new folder")


def _check_data(directory: RunDirectory) -> None:
    """Refuse to go on with a run whose problems have been changed since they were made."""
    for split, before in directory.read().get("data", {}).items():
        path = directory.problems_file(split)
        if not path.is_file() or content_hash(path) != before:
            raise UsageError(f"{path} is not as the run made it; give --out a new folder, or put it back")


def export_data(directory: RunDirectory, wanted: DataFormat) -> Path:
    """The run's problems in another format, beside the JSONL files; gives the folder where they are."""
    splits = {split: directory.problems(split) for split in directory.splits()}
    folder = directory.root / "data"
    if wanted == "datasets":
        write_datasets(folder / "datasets", splits)
        return folder / "datasets"
    for split, problems in splits.items():
        write_csv(folder / f"{split}.csv", problems)
    return folder


def suite_questions(experiment: Experiment) -> dict[str, list[Problem]]:
    """The first questions of the suites that are asked as they are."""
    asked: dict[str, list[Problem]] = {}
    for domain in ("general", "alignment"):
        count, suite = getattr(experiment.data, domain), load_suite(domain)
        if count > len(suite):
            raise UsageError(f"data.{domain} is {count}, but the suite has {len(suite)} questions")
        asked[domain] = suite[:count]
    return asked


def given_examples(experiment: Experiment) -> dict[str, list[Problem]]:
    """The training and validation problems that the experiment names as files."""
    files = {"train": experiment.data.train_file, "validation": experiment.data.validation_file}
    return {split: given_problems(Path(file), split) for split, file in files.items() if file is not None}


def given_prompts(experiment: Experiment) -> list[Problem]:
    """The prompts that the experiment names itself, in a file or as questions; none where it makes its own."""
    settings = experiment.patch
    if settings.prompts is not None:
        return read_prompts(Path(settings.prompts))
    for question in settings.questions:
        if not question.strip():
            raise UsageError("the prompt is empty; give it at least one word")
    return [
        Problem(f"prompt-{i:03d}", domain="prompts", family="prompts", question=question, answer="")
        for i, question in enumerate(settings.questions)
    ]


def write_run_report(directory: RunDirectory) -> None:
    """Make report.html and the figures from what a run directory holds."""
    from crosspatch.report.figures import write_figures
    from crosspatch.report.page import write_report

    record = directory.read()
    problems = directory.asked()
    tables: dict[str, Any] = {
        "scores": directory.scores(),
        "training": directory.training(),
    }
    write_figures(directory.figures, problems=problems, **tables)
    write_report(
        directory.report,
        title=record["settings"]["name"],
        run=record,
        problems=problems,
        generations=directory.generations(),
        behaviour=directory.behaviour(),
        **tables,
    )
