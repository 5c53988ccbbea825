"""A pair on other devices against the same pair on the CPU: all that crosspatch measures, number by number.

    PYTHONPATH=src python benchmarks/devices.py       # -v: every comparison, and where something broke
    PYTHONPATH=src python benchmarks/devices.py sweep # times a sweep of a pair with Qwen3-4B's shape instead

Needs a CUDA GPU, no hub and no package beyond crosspatch's own: models are random, in float32, with TF32 off. Prints a
table of the largest differences and exits with 1 where one is beyond its tolerance. With two GPUs or more models are
spread over them as well; where bitsandbytes is there, quantised models are loaded.

`sweep` needs 20 GB of GPU memory. Its models are random too, in bfloat16. Without a GPU it runs on a tiny pair, which
only shows that the script works.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
import transformers
from accelerate import cpu_offload, dispatch_model

from crosspatch.analysis.activation_delta import activation_rows, read_together
from crosspatch.analysis.first_divergence import first_divergence
from crosspatch.analysis.localisation import localise
from crosspatch.analysis.logit_lens import lens_rows
from crosspatch.analysis.patch import patch
from crosspatch.analysis.steering import Steering, steered_answers
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.config import COMPONENTS
from crosspatch.errors import CrosspatchError
from crosspatch.models.blocks import name_of_blocks
from crosspatch.models.chat import PromptFormat
from crosspatch.models.generation import answer
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import device_names
from crosspatch.models.saving import save_model
from crosspatch.models.site import Site
from crosspatch.models.tiny import tiny_config, tiny_tokenizer
from crosspatch.models.weight_delta import weight_delta
from crosspatch.models.weights import fingerprint
from crosspatch.patching.patches import Schedule, patch_grid
from crosspatch.patching.quick_check import quick_check
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from measure import EndlessPair, counted_rounds, generate_both, sweep

QUESTIONS = ["Solve for x: 5x + 3 = 18", "What is the capital of France? Say it slowly."]
TEXT = tuple(range(60, 84))
# Tokens that a sweep generates.
GENERATED = 8
# Logits, and shares of the gap: what sums in another order may differ by, in float32 on models of this size.
TOLERANCE = 1e-3
# The same in quantised models, whose engine is compared with the published algorithm on the same device.
QUANTISED = {"8bit": 1.0, "4bit": 0.1}
DELTAS = ("delta_clean", "delta_corrupted", "delta_patched")
# How much the child's weights differ in a timed sweep, in standard deviations of each matrix.
CHANGE = 0.03

Observed = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    pair: str
    what: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether it is within its tolerance; no number is not."""
        return self.difference <= self.tolerance


def observed(pair: ModelPair, *, weights: bool = True) -> Observed:
    """What is measured of a pair, as numbers by name; tokens among them."""
    run, found = PatchRun(), {}
    given = ForcedText(pair.encode(QUESTIONS[0]), TEXT)
    patches = patch_grid("all", pair.n_layers, COMPONENTS, n_heads=pair.n_heads)
    for direction in ("corrupt", "repair"):
        scores = score_tokens(pair, given.prompt, given.text, patches, PatchRun(direction))
        found[f"scores along a text, {direction}"] = _numbers(x for t in scores for s in t.steps for x in s.deltas)
    watched = patch_grid("all", pair.n_layers, ("resid_post",), schedule=Schedule(disagree=True))
    scores = score_tokens(pair, given.prompt, given.text, watched, run)
    found["scores at disagreement"] = _numbers(x for t in scores for s in t.steps for x in s.deltas)
    for persistence in ("transient", "persistent"):
        for direction in ("corrupt", "repair"):
            # The engine is looked at below.
            options = {"persistence": persistence, "direction": direction, "quick_check": False}
            made = patch(pair, QUESTIONS, max_new_tokens=GENERATED, **options).scores
            found[f"sweep, {persistence}, {direction}: tokens"] = _numbers(made["token_id"])
            found[f"sweep, {persistence}, {direction}"] = _numbers(v for name in DELTAS for v in made[name])
    slow = patch(pair, QUESTIONS[0], component=COMPONENTS, layers=[1], heads=[0], max_new_tokens=3, engine="reference")
    found["reference engine"] = _numbers(v for name in DELTAS for v in slow.scores[name])
    places = localise(pair, {"p": given}, run, top=2).sort("positions", "patch")
    # Which heads are measured is a matter of ranks; compared are the blocks and their parts.
    whole = places.filter(places["component"] != "head")
    found["attribution patching, whole text, random control"] = _numbers(
        v for name in ("estimate", "patched", "random") for v in whole[name]
    )
    parted = first_divergence(pair, "p", given)
    found["first divergence"] = _numbers(v for name in ("state_effect", "layers_effect") for v in parted[name])
    sites = [Site(layer) for layer in range(pair.n_layers)] + [Site(1, "attn_out"), Site(1, "head", 0)]
    reading = read_together(pair.clean, pair.corrupted, given, sites)
    found["activations"] = _numbers(v for row in activation_rows(reading) for v in (row["delta_norm"], row["cosine"]))
    found["logit lens"] = _numbers(row["lens_gap"] for row in lens_rows(pair.clean, pair.prompts, reading, 3))
    plain = answer(pair.corrupted, pair.prompts, QUESTIONS, 12, pair.stop_tokens)
    vectors = torch.stack([reading.delta(Site(1))[0]] * 2)
    encoded = [pair.encode(question) for question in QUESTIONS]
    steered = steered_answers(pair.clean, pair.prompts, encoded, vectors, Steering(1, 1.0), 8, pair.stop_tokens)
    found["answers: tokens"] = _numbers(token for said in (*plain, *steered) for token in said.tokens)
    if weights:
        rows = weight_delta(pair.clean, pair.corrupted, "corrupted").sort("parameter", "name")
        found["weight deltas"] = _numbers(v for name in ("clean_norm", "delta_norm") for v in rows[name])
        prints = (fingerprint(model) for model in (pair.clean, pair.corrupted))
        found["fingerprints"] = _numbers(int(digits[:8], 16) for digits in prints)
    wrong = quick_check(pair, patches)
    if wrong is not None:
        raise CrosspatchError(f"the engine's own check: {wrong}")
    return found


def compared(name: str, now: Observed, before: Observed, tolerance: float = TOLERANCE) -> Iterator[Row]:
    """The largest differences, one line for each kind; tokens and fingerprints have to be the same."""
    for what, numbers in now.items():
        exact = what.endswith("tokens") or what == "fingerprints"
        same = numbers.shape == before[what].shape
        gap = float((numbers - before[what]).abs().max()) if same else float("inf")
        yield Row(name, what, gap, 0.0 if exact else tolerance)


def placed(clean: str, corrupted: str) -> dict[str, Callable[[], ModelPair]]:
    """The same pair in other places, by what they are."""

    def loaded(**options: Any) -> Callable[[], ModelPair]:
        return lambda: ModelPair.load(clean, corrupted, **options)

    def changed(change: Callable[[Any], Any]) -> Callable[[], ModelPair]:
        def make() -> ModelPair:
            pair = ModelPair.load(clean, corrupted, device="cpu", share_base=False)
            return ModelPair.of(change(pair.clean), change(pair.corrupted), pair.prompts.tokenizer)

        return make

    if not torch.cuda.is_available():
        # Nothing else can be tried: weights that are brought in when they are used, onto the CPU itself.
        return {"weights brought in when used": changed(_until_used("cpu"))}
    small = _bytes(clean) * 0.6 / 1e9
    places = {
        "on cuda": loaded(device="cuda"),
        "blocks in turn on cuda and cpu": changed(_in_turn([0, "cpu"])),
        "device_map, 0.6 of a model on each GPU": loaded(device_map="sequential", max_memory_gb=small),
        "clean on cuda, corrupted on cpu": loaded(device="cuda", corrupted_device="cpu"),
        "clean on cpu, corrupted on cuda": loaded(device="cpu", corrupted_device="cuda"),
        "weights brought in when used": changed(_until_used("cuda:0")),
        "device_map auto": loaded(device_map="auto"),
    }
    if torch.cuda.device_count() > 1:
        places |= {
            "clean on cuda:0, corrupted on cuda:1": loaded(device="cuda:0", corrupted_device="cuda:1"),
            "blocks in turn on all GPUs": changed(_in_turn(list(range(torch.cuda.device_count())))),
        }
    return places


def table(folder: Path) -> Iterator[Row]:
    """Every comparison on this machine."""
    for architecture, most in (("qwen3", None), ("gpt2", 3)):
        clean, child, adapter = _saved(folder, architecture)
        before = observed(ModelPair.load(clean, child, device="cpu"))
        for name, load in list(placed(clean, child).items())[:most]:
            yield from _tried(f"{architecture}, {name}", load, before)
        merged = observed(ModelPair.load(clean, adapter, device="cpu", share_base=False))
        load = partial(ModelPair.load, clean, adapter, device=_device())
        yield from _tried(f"{architecture}, adapter on the base's own weights", load, merged)
    if torch.cuda.is_available():
        yield from _memory(folder)
    if importlib.util.find_spec("bitsandbytes") is not None:
        yield from _quantised(*_saved(folder, "qwen3", wide=128))


def _tried(name: str, load: Callable[[], ModelPair], before: Observed) -> Iterator[Row]:
    """One pair against what was before."""
    with _broken(name) as rows:
        pair = load()
        places = " and ".join(dict.fromkeys(device_names(model) for model in (pair.clean, pair.corrupted)))
        rows.extend(compared(f"{name} ({places})", observed(pair), before))
    yield from rows


@contextmanager
def _broken(name: str) -> Iterator[list[Row]]:
    """What breaks becomes a line of the table, and the others are still tried."""
    rows: list[Row] = []
    try:
        yield rows
    except Exception as error:
        if "-v" in sys.argv:
            traceback.print_exc()
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        rows.append(Row(name, said, float("nan"), 0.0))


def _memory(folder: Path) -> Iterator[Row]:
    """What the weights of a pair take of the GPU, with the base kept once and merged: about half."""
    clean, _, adapter = _saved(folder, "llama", wide=1024)
    taken = {}
    for name, share in (("once", True), ("twice", False)):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        pair = ModelPair.load(clean, adapter, device="cuda", share_base=share)
        score_tokens(pair, pair.encode(QUESTIONS[0]), TEXT, patch_grid("all", pair.n_layers), PatchRun())
        taken[name] = (torch.cuda.max_memory_allocated() - before) / 1e6
        del pair
    what = f"peak of a pair, base kept once {taken['once']:,.0f} MB, twice {taken['twice']:,.0f} MB: their ratio"
    yield Row("llama: adapter, cuda", what, taken["once"] / taken["twice"], 0.7)


def _quantised(clean: str, child: str, adapter: str) -> Iterator[Row]:
    """Pairs of quantised models: the engine against the published algorithm, and an adapter kept beside the weights."""
    for quantization, (kind, corrupted) in product(("8bit", "4bit"), (("child", child), ("adapter", adapter))):
        name = f"qwen3, {quantization} with {kind}, {_device()}"
        with _broken(name) as rows:
            dtype = "float16" if quantization == "8bit" else "float32"
            pair = ModelPair.load(clean, corrupted, dtype=dtype, device=_device(), quantization=quantization)
            options = {"layers": [0, 2], "max_new_tokens": 4, "quick_check": False}
            fast, slow = (
                patch(pair, QUESTIONS[0], engine=engine, **options).scores for engine in ("cached", "reference")
            )
            same = ["patch", "step", "token_id", "clean_token_id", "corrupted_token_id"]
            both = fast.join(slow, on=same, suffix="_slow")
            gap = max(float((both[name] - both[f"{name}_slow"]).abs().max()) for name in DELTAS)
            rows.append(
                Row(name, f"engine and reference, {both.height} of {fast.height} steps", gap, QUANTISED[quantization])
            )
            said = quick_check(pair, patch_grid("all", pair.n_layers))
            rows.append(Row(name, f"the engine's own check {said or 'passes'}", float(said is not None), 0.0))
            same = fingerprint(pair.clean) == fingerprint(pair.corrupted)
            rows.append(Row(name, "fingerprints that are the same", float(same), 0.0))
        yield from rows


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _in_turn(devices: list[int | str]) -> Callable[[Any], Any]:
    """Spread a model by hand, so that neighbours stand on different devices, each computing where it is."""

    def change(model: Any) -> Any:
        blocks = name_of_blocks(model)
        parts = [f"{blocks}.{i}" for i in range(len(model.get_submodule(blocks)))]
        around = [
            name
            for name, module in model.named_modules()
            if name and not name.startswith(blocks) and not any(module.children())
        ]
        places = {name: devices[i % len(devices)] for i, name in enumerate([*around, *parts])}
        # With the CPU as the main device what is on it stays there, and is not brought to a GPU.
        main = "cpu" if "cpu" in devices else devices[0]
        skip = model._skip_keys_device_placement
        return dispatch_model(model, places, main_device=main, skip_keys=list(skip) if skip else None)

    return change


def _until_used(device: str) -> Callable[[Any], Any]:
    return lambda model: cpu_offload(model, execution_device=torch.device(device))


def _saved(folder: Path, architecture: str, wide: int = 96) -> tuple[str, str, str]:
    """The folders of a random base, a child whose every weight has moved a little, and an adapter of the base."""
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    names = [folder / f"{architecture}-{wide}-{what}" for what in ("base", "child", "adapter")]
    if names[-1].is_dir():
        return tuple(map(str, names))  # type: ignore[return-value]
    config = tiny_config(architecture)
    if architecture == "gpt2":
        config.n_embd = wide
    else:
        config.hidden_size, config.intermediate_size, config.head_dim = wide, 2 * wide, wide // 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config.initializer_range = 0.2 * (48 / wide) ** 0.5
        base = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    child = copy.deepcopy(base)
    turned = any(isinstance(module, Conv1D) for module in base.modules())
    settings = LoraConfig(r=4, target_modules="all-linear", fan_in_fan_out=turned, task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(base), settings)
    with torch.no_grad():
        for weight in child.parameters():
            weight.add_(0.3 * weight.abs().mean() * torch.randn(weight.shape, generator=generator))
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    save_model(base, tiny_tokenizer(), names[0])
    save_model(child, tiny_tokenizer(), names[1])
    adapted.peft_config["default"].base_model_name_or_path = str(names[0])
    adapted.save_pretrained(names[2], save_embedding_layers=False)
    return tuple(map(str, names))  # type: ignore[return-value]


def _bytes(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))


def _numbers(values: Any) -> torch.Tensor:
    return torch.tensor([float("nan") if value is None else float(value) for value in values]).nan_to_num(nan=-1e6)


def _machine() -> str:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    versions = f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{', '.join(gpus) or 'no GPU'}; {versions}"


def timed_sweep(length: int = 128, repeats: int = 3) -> None:
    """Print the times of sweeps of all layers, of one layer, and of 8 prompts, over those of `generate`."""
    config = transformers.Qwen3Config(
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        tie_word_embeddings=True,
    )
    if not torch.cuda.is_available():
        config, length = tiny_config("qwen3"), 24
    with torch.random.fork_rng(), torch.device(_device()):
        torch.manual_seed(0)
        clean = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    child = copy.deepcopy(clean)
    generator = torch.Generator(_device()).manual_seed(1)
    with torch.no_grad():
        for weight in child.parameters():
            noise = torch.randn(weight.shape, generator=generator, device=weight.device, dtype=weight.dtype)
            weight.add_(CHANGE * weight.float().std().nan_to_num().to(weight.dtype) * noise)
    pair = EndlessPair(clean, child, PromptFormat(tiny_tokenizer(), raw=True))
    prompts = [pair.encode(f"{QUESTIONS[0]}, and once more for {number}.") for number in range(8)]
    layers = range(pair.n_layers)
    print("| sweep | models disagree | texts | rounds | seconds | over `generate` of both texts |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, some, patched in (
        (f"{len(layers)} layers", prompts[:1], layers),
        ("one layer", prompts[:1], [pair.n_layers // 2]),
        (f"{len(layers)} layers, {len(prompts)} prompts", prompts, layers),
    ):
        runs = []
        # The first sweep of a shape also chooses the GPU's kernels.
        for _ in range(1 + repeats):
            both = sum(generate_both(pair, prompt, length).seconds for prompt in some)
            with counted_rounds() as rounds:
                done = sweep(pair, some, patched, length)
            runs.append((done.seconds / both, done.seconds))
        ratio, seconds = sorted(runs[1:])[repeats // 2]
        differ = sum(int(t.steps.disagree.sum()) for t in done.trajectories)
        share = differ / sum(len(t.steps) for t in done.trajectories)
        print(
            f"| {name}, {length} tokens | {share:.0%} | {done.texts} | {len(rounds)} | {seconds:.1f} | {ratio:.2f} |",
            flush=True,
        )


def main() -> int:
    """Print the table; 1 where something is beyond its tolerance."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    transformers.utils.logging.disable_progress_bar()
    print(_machine(), flush=True)
    if "sweep" in sys.argv:
        timed_sweep()
        return 0
    print("| pair | compared | largest difference | at most |\n| --- | --- | --- | --- |")
    count, beyond = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for pair, some in groupby(table(Path(folder)), lambda row: row.pair):
            rows = list(some)
            bad = [row for row in rows if not row.holds]
            worst = max(rows, key=lambda row: row.difference)
            for row in rows if "-v" in sys.argv else bad or [worst]:
                what = row.what if row is not worst or "-v" in sys.argv else f"{len(rows)} kinds, worst: {row.what}"
                mark = "" if row.holds else " **too much**"
                print(f"| {pair} | {what} | {row.difference:.2g}{mark} | {row.tolerance:g} |", flush=True)
            count, beyond = count + len(rows), beyond + len(bad)
    print(f"{count} comparisons, {beyond} beyond their tolerance")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
