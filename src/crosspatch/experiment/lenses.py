"""The lenses stage: what a fine-tune changed, measured by methods other than patching.

Weights and activations of every child are compared with the clean model's, along the clean model's own answers, so
that all children read the same text. Then the clean model answers with the corrupted model's mean difference added:
the mean over other prompts of the domain, where the models disagree. A mean that includes the prompt's own difference
would carry its answer; a mean over training problems would show what was memorised.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from crosspatch.analysis.activation_delta import activation_rows, read_together
from crosspatch.analysis.logit_lens import lens_rows
from crosspatch.analysis.steering import Steering, mean_without, random_like, steered_answers
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.data.problem import Problem
from crosspatch.experiment.answering import answer_missing, judge_texts, write_answers
from crosspatch.experiment.run_context import RunContext
from crosspatch.models.generation import Answer
from crosspatch.models.site import Site
from crosspatch.models.weight_delta import weight_delta
from crosspatch.tables import ACTIVATIONS, GENERATIONS, LOGIT_LENS, STEERED, STEERED_RANDOM, WEIGHTS

# The vector to add for each prompt, by the condition of the texts.
Vectors = Mapping[str, Mapping[str, Float[Tensor, " D"]]]

logger = logging.getLogger(__name__)

# Tokens that the logit lens keeps of each layer: the most raised and the most lowered.
_TOKENS = 10


def measure_lenses(context: RunContext) -> None:
    """Compare every child with the clean model, and steer the clean model; finished parts are not computed again."""
    problems, directory = _problems(context), context.directory
    for child in ("corrupted", *context.experiment.controls):
        weights = child not in directory.read(WEIGHTS)["child"]
        read = set(directory.read(ACTIVATIONS).filter(child=child)["prompt_id"])
        unread = {name: problem for name, problem in problems.items() if name not in read}
        if weights or unread:
            _compare(context, child, weights, unread)
    _steer(context, problems)
    judge_texts(context)


def _problems(context: RunContext) -> dict[str, Problem]:
    """The problems along whose answers models are compared: the patched ones and the first related ones."""
    related = context.problems["related"][: context.experiment.lenses.related]
    return {problem.id: problem for problem in (*context.patched_problems, *related)}


def _texts(context: RunContext, problems: Mapping[str, Problem]) -> dict[str, ForcedText]:
    """Each problem with the clean model's answer to it; missing answers are written first."""
    pair, questions = context.pair, {name: problem.question for name, problem in problems.items()}
    answer_missing(context, questions, "clean", pair)
    answers = context.directory.read(GENERATIONS).filter(condition="clean").select("prompt_id", "text")
    texts = dict(answers.iter_rows())
    return {
        name: ForcedText(pair.encode(question), pair.prompts.encode_completion(texts[name]))
        for name, question in questions.items()
    }


def _compare(context: RunContext, child: str, weights: bool, problems: Mapping[str, Problem]) -> None:
    """One child's weights, if `weights`, and its activations and logit lens along answers."""
    pair, directory = context.pair, context.directory
    model = pair.corrupted if child == "corrupted" else context.model(child)
    if weights:
        directory.add(WEIGHTS, weight_delta(pair.clean, model, child))
    sites = [
        Site(layer, component, head)
        for layer in range(pair.n_layers)
        for component in dict.fromkeys(("resid_post", *context.experiment.lenses.component))
        for head in (range(pair.n_heads) if component == "head" else (None,))
    ]
    for name, text in _texts(context, problems).items():
        which = {"child": child, "prompt_id": name}
        reading = read_together(pair.clean, model, text, sites)
        lens = lens_rows(pair.clean, pair.prompts, reading, _TOKENS)
        directory.add(LOGIT_LENS, LOGIT_LENS.frame({**which, **row} for row in lens))
        # The activations are written last: if they are there, so is the lens.
        directory.add(ACTIVATIONS, ACTIVATIONS.frame({**which, **row} for row in activation_rows(reading)))
    logger.info(f"lenses: {child} is compared with the clean model, {len(problems)} answers read")


def _steer(context: RunContext, problems: Mapping[str, Problem]) -> None:
    """Let the clean model answer with the mean difference added, and with a random vector of the same norm."""
    settings, depth = context.experiment.lenses, context.pair.n_layers
    chosen = context.problems["prompts"] or context.problems["related"][: context.experiment.patch.related]
    asked = {problem.id: problem for problem in chosen}
    layers = (depth // 4, depth // 2, 3 * depth // 4) if settings.layers is None else settings.layers
    steerings = [Steering(layer, strength) for layer in dict.fromkeys(layers) for strength in settings.strengths]
    there = set(context.directory.read(GENERATIONS).select("condition", "patch", "prompt_id").iter_rows())
    missing = [
        (condition, steering, names)
        for steering in steerings
        for condition in (STEERED, STEERED_RANDOM)
        if (names := [name for name in asked if (condition, steering.name, name) not in there])
    ]
    if not missing:
        return
    deltas = _deltas(context, layers, problems)
    vectors = {layer: _vectors(context, layer, asked, of_layer) for layer, of_layer in deltas.items()}
    lacking = [name for name in asked if not any(name in by[STEERED] for by in vectors.values())]
    if lacking:
        logger.warning(
            f"lenses: no other prompt has a difference to steer with for {', '.join(lacking)}; raise lenses.related"
        )
    for condition, steering, names in missing:
        known = vectors[steering.layer][condition]
        _answer_steered(context, condition, steering, {name: asked[name] for name in names if name in known}, known)
    logger.info(
        f"lenses: {len(asked) - len(lacking)} prompts answered with {len(steerings)} steering vectors, and as many "
        "random ones"
    )


def _deltas(
    context: RunContext, layers: tuple[int, ...], problems: Mapping[str, Problem]
) -> dict[int, dict[str, Float[Tensor, "_ D"]]]:
    """The differences at each layer along each problem's answer, at the steps where the models disagree."""
    pair, sites = context.pair, {layer: Site(layer) for layer in layers}
    found: dict[int, dict[str, Tensor]] = {layer: {} for layer in layers}
    for name, text in _texts(context, problems).items():
        reading = read_together(pair.clean, pair.corrupted, text, list(sites.values()))
        for layer, site in sites.items():
            found[layer][name] = reading.delta(site)[reading.disagree]
    return found


def _vectors(
    context: RunContext, layer: int, asked: Mapping[str, Problem], deltas: Mapping[str, Float[Tensor, "_ D"]]
) -> Vectors:
    """The vectors for each prompt at one layer; none for a prompt without another one in its domain."""
    domains = {name: problem.domain for name, problem in _problems(context).items()}
    found: dict[str, dict[str, Tensor]] = {STEERED: {}, STEERED_RANDOM: {}}
    for i, (name, problem) in enumerate(asked.items()):
        vector = mean_without({o: steps for o, steps in deltas.items() if domains[o] == problem.domain}, name)
        if vector is not None:
            # The same random direction for all strengths, also if only some of them are missing.
            generator = torch.Generator().manual_seed((context.experiment.seed * 1009 + layer) * 1_000_003 + i)
            found[STEERED][name], found[STEERED_RANDOM][name] = vector, random_like(vector, generator)
    return found


def _answer_steered(
    context: RunContext,
    condition: str,
    steering: Steering,
    asked: Mapping[str, Problem],
    vectors: Mapping[str, Float[Tensor, " D"]],
) -> None:
    """Let the steered clean model answer, batch by batch; each batch is written when it is done."""
    pair, limit = context.pair, context.experiment.generation.max_new_tokens

    def answers(names: list[str]) -> list[Answer]:
        encoded = [pair.encode(asked[name].question, limit) for name in names]
        added = torch.stack([vectors[name] for name in names])
        return steered_answers(pair.clean, pair.prompts, encoded, added, steering, limit, pair.stop_tokens)

    write_answers(context, list(asked), answers, condition, steering.columns)
