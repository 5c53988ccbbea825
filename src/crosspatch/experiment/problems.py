"""The data stage: problems that are generated, read from files, or taken from suites."""

from __future__ import annotations

import logging
from pathlib import Path

from crosspatch.config import DataFormat, Experiment
from crosspatch.data.export import write_csv, write_datasets
from crosspatch.data.problem import Problem, given_problems, read_prompts, write_problems
from crosspatch.data.splits import make_splits, mispaired
from crosspatch.data.suite import load_suite
from crosspatch.errors import UsageError
from crosspatch.experiment.run_context import RunContext
from crosspatch.files import checksum
from crosspatch.storage.run import RunDirectory

logger = logging.getLogger(__name__)


def make_problems(context: RunContext) -> None:
    """Write data/*.jsonl and record their hashes."""
    experiment, directory = context.experiment, context.directory
    made = all_problems(experiment)
    (directory.root / "data").mkdir(exist_ok=True)
    for split, problems in made.items():
        write_problems(directory.problems_file(split), problems)
    directory.note_data({split: checksum(directory.problems_file(split).read_bytes()) for split in made})
    logger.info("data: " + ", ".join(f"{len(problems)} {split}" for split, problems in made.items()))
    if experiment.makes_the_child and (experiment.data.train_file or experiment.data.validation_file):
        # Made problems are disjoint by construction; given files may share questions with them.
        from crosspatch.grading.dataset_check import check_files

        others = [directory.problems_file(split) for split in made if split not in ("train", "mistaken")]
        for line in check_files(directory.problems_file("train"), others).shared_remarks():
            logger.info(f"data: {line}")


def all_problems(experiment: Experiment) -> dict[str, list[Problem]]:
    """All problems of an experiment by split, generated or given. Raises UsageError."""
    controls, data = experiment.controls, experiment.data
    splits = make_splits(data, experiment.seed, shuffled="shuffled" in controls)
    made = {name: getattr(splits, name) for name in ("related", "mistaken", "near", "unrelated_math")}
    if experiment.makes_the_child:
        made |= {"train": splits.train, "validation": splits.validation} | given_examples(experiment)
        made |= {name: getattr(splits, name) for name in ("twin", "shuffled") if name in controls}
        if "mispaired" in controls:
            made["mispaired"] = mispaired(splits.twin, experiment.seed)
    for domain, count in (("general", data.general), ("alignment", data.alignment)):
        suite = load_suite(domain)
        if count > len(suite):
            raise UsageError(f"data.{domain} is {count}, but the suite has {len(suite)} questions")
        made[domain] = suite[:count]
    made["prompts"] = given_prompts(experiment)
    taken = {problem.id for split, problems in made.items() if split != "prompts" for problem in problems}
    if twice := taken & {problem.id for problem in made["prompts"]}:
        raise UsageError(f"the prompt_id {min(twice)} is also the id of a generated problem; choose another one")
    return {split: problems for split, problems in made.items() if problems}


def export_data(directory: RunDirectory, wanted: DataFormat) -> Path:
    """Write the run's problems in another format next to the JSONL files; returns the folder."""
    splits = {split: directory.problems(split) for split in directory.splits()}
    folder = directory.root / "data"
    if wanted == "datasets":
        write_datasets(folder / "datasets", splits)
        return folder / "datasets"
    for split, problems in splits.items():
        write_csv(folder / f"{split}.csv", problems)
    return folder


def given_examples(experiment: Experiment) -> dict[str, list[Problem]]:
    """The training and validation problems from the experiment's files.

    Raises UsageError if the settings ask for more examples than there are.
    """
    files = {"train": experiment.data.train_file, "validation": experiment.data.validation_file}
    given = {split: given_problems(Path(file), split) for split, file in files.items() if file is not None}
    for key, count in experiment.examples_wanted.items():
        if "train" in given and count > len(given["train"]):
            raise UsageError(
                f"{key} has {count}, but {experiment.data.train_file} has only {len(given['train'])} problems"
            )
    return given


def given_prompts(experiment: Experiment) -> list[Problem]:
    """The prompts that the settings give, in a file or as questions."""
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


def keep_prompts(experiment: Experiment, directory: RunDirectory) -> None:
    """Write the given prompts into the run; raises UsageError if they have changed since the run began."""
    given, path = given_prompts(experiment), directory.problems_file("prompts")
    if given and not directory.record()["stages"]:
        path.parent.mkdir(exist_ok=True)
        write_problems(path, given)
    elif directory.problems("prompts") != given:
        raise UsageError(f"the prompts have changed since the run in {directory.root} began; give --out a new folder")
