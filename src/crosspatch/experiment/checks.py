"""What is refused before anything is made: settings that do not fit the models, and folders of other runs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from crosspatch.config import Experiment
from crosspatch.config import Patch as PatchSettings
from crosspatch.errors import UsageError
from crosspatch.experiment.inspect_judge import PREFIX, check_inspect_judge
from crosspatch.experiment.problems import all_problems, given_examples, given_prompts
from crosspatch.experiment.run_context import prompt_format
from crosspatch.files import checksum
from crosspatch.storage.run import RunDirectory


def check_data(experiment: Experiment, *, made: bool = False) -> None:
    """Refuse problems that cannot be made or read: raises UsageError. What is `made` already could be made."""
    if made:
        given_examples(experiment)
    else:
        all_problems(experiment)


def check(experiment: Experiment) -> None:
    """Refuse what can be refused without a model's weights: raises UsageError."""
    from crosspatch.models.compatibility import check_checkpoints, check_length
    from crosspatch.models.loading import Checkpoint
    from crosspatch.models.placement import pick_device

    models, settings = experiment.models, experiment.patch
    questions = [problem.question for problem in given_prompts(experiment)]
    pick_device(models.device)
    clean = Checkpoint.named(models.clean)
    corrupted = None if models.corrupted is None else Checkpoint.named(models.corrupted)
    config, *tokenizers = check_checkpoints(clean, corrupted, settings.layers)
    check_patches(settings, config.num_hidden_layers, config.num_attention_heads)
    prompts = prompt_format(models, *tokenizers)
    # Made problems are short; one of their kind tells whether template and length will do.
    for question in questions or ["Solve for x: 5x + 3 = 18"]:
        check_length(config, len(prompts.encode(question)), experiment.generation.max_new_tokens)


def check_judge(experiment: Experiment) -> None:
    """Refuse a judge that is not there or cannot be reached: raises UsageError."""
    from crosspatch.models.loading import Checkpoint

    name = experiment.judge.model
    if name is None:
        return
    if name.startswith(PREFIX):
        check_inspect_judge(name)
    else:
        Checkpoint.named(name).config()


def check_training(experiment: Experiment, key: Literal["finetune", "teach"]) -> None:
    """Refuse a training that would stop for want of a package, or run on another device: raises UsageError."""
    if key == "finetune" and not experiment.makes_the_child:
        return
    settings, device = experiment.finetune, experiment.models.device
    wanted: dict[str, str] = {f"finetune.report_to={name}": name for name in settings.report_to}
    if settings.optimizer == "adamw_8bit":
        wanted["finetune.optimizer=adamw_8bit"] = "bitsandbytes"
    for setting, package in wanted.items():
        if find_spec(package) is None:
            raise UsageError(f"{setting} needs the package {package}, which is not installed: pip install {package}")
    if device.startswith("cuda:") and device != "cuda:0":
        raise UsageError(
            f"got models.device={device}, expected cuda where a model is trained: that is the first GPU that is "
            f"visible; CUDA_VISIBLE_DEVICES={device.removeprefix('cuda:')} before the command chooses it"
        )


def check_patches(settings: PatchSettings, n_layers: int, n_heads: int) -> None:
    """Refuse places that no model of this depth and width has, and schedules that are none: raises UsageError."""
    from crosspatch.models.compatibility import numbered
    from crosspatch.patching.patches import Patch, Schedule

    Schedule.parse(settings.schedule)
    numbered("head", settings.heads, n_heads)
    for name in settings.patches:
        sites = Patch.parse(name).sites
        numbered("layer", [site.layer for site in sites], n_layers)
        numbered("head", [site.head for site in sites if site.head is not None], n_heads)


def check_search(experiment: Experiment) -> None:
    """Refuse a search that could not be judged: raises UsageError."""
    if not experiment.makes_the_child:
        raise UsageError("search trains the corrupted model, and models.corrupted gives one; leave that out")
    if not experiment.data.related:
        raise UsageError("search judges variants by their answers to related questions, and data.related is 0")


def check_teaching(experiment: Experiment) -> None:
    """Refuse to measure a taught model on what it was taught: raises UsageError."""
    if not experiment.data.held_out_from_teaching:
        raise UsageError(
            "teach needs data.held_out_from_teaching: true, so that no held-out question can be among the lessons"
        )


def check_lenses(experiment: Experiment) -> None:
    """Refuse to steer at layers that the model does not have: raises UsageError."""
    from crosspatch.models.compatibility import numbered
    from crosspatch.models.loading import Checkpoint

    config = Checkpoint.named(experiment.models.clean).config().get_text_config(decoder=True)
    numbered("layer", experiment.lenses.layers or (), config.num_hidden_layers)


def check_files(directory: RunDirectory) -> None:
    """Refuse to go on with a run whose problems have been changed since they were made."""
    for split, before in directory.record().get("data", {}).items():
        path = directory.problems_file(split)
        if not path.is_file() or checksum(path.read_bytes()) != before:
            raise UsageError(f"{path} is not as the run made it; give --out a new folder, or put it back")
