"""Checks before anything runs: whether the settings fit the models, and whether trainings can run.

Every check raises UsageError.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from crosspatch.config import Experiment
from crosspatch.config import Patch as PatchSettings
from crosspatch.errors import UsageError
from crosspatch.experiment.inspect_judge import PREFIX, check_inspect_judge
from crosspatch.experiment.problems import given_prompts


def check(experiment: Experiment) -> None:
    """Refuse models, patches and prompts that do not fit together; reads no weights."""
    from crosspatch.models.chat import pair_format
    from crosspatch.models.compatibility import check_checkpoints, check_length
    from crosspatch.models.loading import Checkpoint
    from crosspatch.models.placement import pick_device

    models, settings = experiment.models, experiment.patch
    questions = [problem.question for problem in given_prompts(experiment)]
    pick_device(models.device)
    clean = Checkpoint.named(models.clean)
    corrupted = None if models.corrupted is None else Checkpoint.named(models.corrupted)
    config, ours, theirs = check_checkpoints(clean, corrupted, settings.layers)
    check_patches(settings, config)
    prompts = pair_format(ours, theirs, models.chat_template, system=models.system, warn=lambda line: None)
    # Made problems are short: one of them shows whether the template and the length are usable.
    for question in questions or ["Solve for x: 5x + 3 = 18"]:
        check_length(config, len(prompts.encode(question)), experiment.generation.max_new_tokens)


def check_lenses(experiment: Experiment) -> None:
    """Refuse to steer at layers that the model does not have."""
    from crosspatch.models.compatibility import numbered
    from crosspatch.models.loading import Checkpoint

    config = Checkpoint.named(experiment.models.clean).config().get_text_config(decoder=True)
    numbered("layer", experiment.lenses.layers or (), config.num_hidden_layers)


def check_patches(settings: PatchSettings, config: Any) -> None:
    """Refuse layers and heads that a model of this (text) configuration does not have, and malformed schedules."""
    from crosspatch.models.blocks import head_count
    from crosspatch.models.compatibility import numbered
    from crosspatch.patching.patches import Patch, Schedule

    Schedule.parse(settings.schedule)
    sites = [site for name in settings.patches for site in Patch.parse(name).sites]
    for layers in (settings.layers, [site.layer for site in sites]):
        numbered("layer", layers, config.num_hidden_layers)
    for heads in (settings.heads, [site.head for site in sites if site.head is not None]):
        numbered("head", heads, head_count(config))


def check_judge(experiment: Experiment) -> None:
    """Refuse a judge that does not exist or cannot be reached."""
    from crosspatch.models.loading import Checkpoint

    name = experiment.judge.model
    if name is not None and name.startswith(PREFIX):
        check_inspect_judge(name)
    elif name is not None:
        Checkpoint.named(name).config()


def check_finetuning(experiment: Experiment) -> None:
    """`check_training`, if there is a child to train."""
    if experiment.makes_the_child:
        check_training(experiment)


def check_training(experiment: Experiment) -> None:
    """Refuse a training that needs a missing package, or that would run on another device than models.device."""
    settings, device = experiment.finetune, experiment.models.device
    needed: dict[str, str] = {f"finetune.report_to={name}": name for name in settings.report_to}
    if settings.optimizer == "adamw_8bit":
        needed["finetune.optimizer=adamw_8bit"] = "bitsandbytes"
    for setting, package in needed.items():
        if find_spec(package) is None:
            raise UsageError(f"{setting} needs the package {package}, which is not installed: pip install {package}")
    if device.startswith("cuda:") and device != "cuda:0":
        raise UsageError(
            f"got models.device={device}, expected cuda: models are trained on the first GPU that is visible; set "
            f"CUDA_VISIBLE_DEVICES={device.removeprefix('cuda:')} before the command to choose it"
        )


def check_search(experiment: Experiment) -> None:
    """Refuse a search whose variants could not be compared."""
    if not experiment.makes_the_child:
        raise UsageError("search trains the corrupted model, but models.corrupted names one; remove that setting")
    if not experiment.data.related:
        raise UsageError("search compares variants by their answers to related questions, but data.related is 0")


def check_teaching(experiment: Experiment) -> None:
    """Refuse to evaluate a taught model on questions that it may have been taught."""
    if not experiment.data.held_out_from_teaching:
        raise UsageError(
            "teach needs data.held_out_from_teaching: true, so that no held-out question can be among the lessons"
        )
