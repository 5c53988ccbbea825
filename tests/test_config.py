"""Settings: documented, validated, and refused in one line that says what to do."""

import pytest

from crosspatch.config import Experiment, Finetune, Settings
from crosspatch.errors import UsageError
from crosspatch.patching.patches import Patch
from crosspatch.settings_io import load_experiment, make_experiment, settings, shipped_experiments


def test_every_setting_is_shown_with_a_meaning_and_a_default():
    shown = list(settings())
    assert all(len(s.meaning) > 10 and s.default not in ("", "PydanticUndefined") for s in shown)
    keys = set()
    for name, field in Experiment.model_fields.items():
        inner = field.annotation
        is_group = isinstance(inner, type) and issubclass(inner, Settings)
        keys |= {f"{name}.{key}" for key in inner.model_fields} if is_group else {name}
    assert keys == {s.key for s in shown}


def test_shipped_experiments_are_found_by_name_and_have_the_papers_settings():
    for name in ("smollm2", "findings", "paper", "teach", "tiny"):
        assert load_experiment(name) == load_experiment(str(shipped_experiments()[name]))
    paper, small, whole = (load_experiment(name) for name in ("paper", "smollm2", "findings"))
    # The findings are the demo with more questions, patches and controls, and one epoch more.
    more = ("name", "patch", "controls", "generation")
    alike = {name: getattr(small, name) for name in more}
    sizes = {name: getattr(small.data, name) for name in ("related", "unrelated_math", "general")}
    alike["data"] = whole.data.model_copy(update=sizes)
    alike["finetune"] = whole.finetune.model_copy(update={"epochs": small.finetune.epochs})
    assert whole.model_copy(update=alike) == small
    assert all(size < getattr(whole.data, name) for name, size in sizes.items())
    assert whole.patch.layers == "all"
    assert min(whole.patch.related, whole.patch.unrelated_math, whole.patch.general) >= 12
    assert paper.models.clean == "Qwen/Qwen3-4B"
    assert paper.patch.layers == (8, 18, 28, 33, 35)
    assert paper.generation.max_new_tokens == 1024
    assert paper.finetune == Finetune(
        learning_rate=3e-5, epochs=3, batch_size=2, accumulation=2, weight_decay=0.01, warmup=0.1, eval_every=10,
        precision="bf16", recompute=True,
    )  # fmt: skip
    assert (paper.data.train, paper.data.validation, paper.search.epochs) == (50, 10, (3, 12, 20))
    tuning = small.finetune
    assert (tuning.learning_rate, tuning.batch_size * tuning.accumulation) == (3e-5, 4)
    assert (tuning.weight_decay, tuning.warmup, small.data.train, small.data.validation) == (0.01, 0.1, 50, 10)


def test_layers_can_be_given_as_people_write_them():
    for given, meant in (("all", "all"), ("1,3", (1, 3)), (1, (1,)), ([1, 3], (1, 3)), ([3, 1, 3], (1, 3))):
        assert make_experiment({"patch": {"layers": given}}).patch.layers == meant
        assert load_experiment("tiny", [f"patch.layers={given}"]).patch.layers == meant
    changed = load_experiment("tiny", ["finetune.learning_rate=1e-4", "seed=7"])
    assert (changed.finetune.learning_rate, changed.seed) == (1e-4, 7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("finetune.learning_rat=1", "unknown setting finetune.learning_rat; did you mean finetune.learning_rate?"),
        ("patch.screen=3", "setting patch.screen is now called patch.attribution"),
        ("finetune.epochs=0", "finetune.epochs"),
        ("finetune.epochs=many", "got 'many'"),
        ("patch.layers=-1", "got -1; layers count from 0"),
        ("patch.layers=[]", "got no layers"),
        ("patch.layers=a,b", "got 'a,b'"),
        ("patch.direction=sideways", "'corrupt', 'repair' or 'both'"),
        ("patch.heads=-2", "got -2; heads count from 0"),
        ("patch.component=attn_in", "'attn_out'"),
        ("patch.window=0", "patch.window"),
        ("patch.memory_gb=0", "patch.memory_gb"),
        ("patch.related=500", "patch.related is 500"),
        ("patch={prompts: a.jsonl, questions: [b]}", "both name prompts"),
        ("seed", "expected key.sub=value"),
        ("seed.sub=1", "seed is a single setting"),
        ("seed=[1", "not valid YAML"),
        ('patch.questions=["a \\ud83d"]', "half of a surrogate pair"),
        ("models.clean=caf\udce9", "not valid YAML"),
        ("lenses.layers=-1", "input should be greater than or equal to 0, got -1"),
        ("patch.controls=shuffled", "patch.controls has 'shuffled', expected some of self, random"),
        ("search.examples=[9]", "search.examples has 9, but data.train makes only 8"),
        ("finetune.examples=9", "finetune.examples has 9, but data.train makes only 8"),
        ("controls=triplet", "got 'triplet', expected twin, shuffled, mispaired or seed-N"),
        ("controls=[seed-0]", "got 'seed-0'"),
        ("controls=twin; models.corrupted=random:qwen3", "models.corrupted gives one that is trained already"),
        ("models.device_map=auto; models.device=cpu", "models.device is cpu; remove one of them"),
        ("models.device_map=auto; models.corrupted_device=cuda:1", "remove it or models.corrupted_device"),
        ("models.max_memory_gb=3", "is for models.device_map"),
        ("models.quantization=8bit; models.dtype=float32", "set models.dtype=float16, got float32"),
        ("models.quantization=2bit", "quantization"),
        ("models.device_map=random", "device_map"),
        ("controls=twin; data.train_file=x.csv", "the control twin needs generated problems"),
    ],
)
def test_a_wrong_setting_is_one_line(change, words):
    with pytest.raises(UsageError) as error:
        load_experiment("tiny", change.split("; "))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_experiment(tmp_path):
    path = tmp_path / "x.yaml"
    for content, words in ((b"a: [", "not valid YAML"), (b"- 1\n", "contains a list"), (b"\xff\xfe\x00", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=words):
            load_experiment(str(path))
    # An empty file is all defaults, and a missing one names what is shipped.
    path.write_text("")
    assert load_experiment(str(path)) == Experiment()
    with pytest.raises(UsageError, match=r"no experiment file nowhere\.yaml.*findings, paper, smollm2, teach, tiny"):
        load_experiment("nowhere.yaml")


def test_commas_part_patches_but_no_words_of_schedules_or_questions():
    for written, *meant in (
        ("L17.attn_out@tokens:add,subtract", "L17.attn_out@tokens:add,subtract"),
        (
            "L17.attn_out@tokens:a,b,L18.head.3@tokens:b, c,  L2.mlp_out",
            "L17.attn_out@tokens:a,b",
            "L18.head.3@tokens:b, c",
            "L2.mlp_out",
        ),
        ("L1.resid_post,L2.resid_post+L3.resid_post", "L1.resid_post", "L2.resid_post+L3.resid_post"),
        ("[L1.resid_post@tokens:=, L2.resid_post]", "L1.resid_post@tokens:=", "L2.resid_post"),
    ):
        assert make_experiment({}, [f"patch.patches={written}"]).patch.patches == tuple(meant)
        assert all(Patch.parse(name).schedule for name in meant)
    question = "Solve x + y = 3, x - y = 1"
    assert make_experiment({}, [f"patch.questions={question}"]).patch.questions == (question,)
