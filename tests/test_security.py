"""No file and no name makes crosspatch write elsewhere, leak secrets, reach a shell or use up memory."""

import json
import re
from pathlib import Path

import pytest

import crosspatch
from crosspatch.data.problem import Problem, read_problems, write_problems
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.patching.patches import Patch
from crosspatch.settings_io import load_experiment, make_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import SCORES

SOURCE = Path(crosspatch.__file__).parent
# Names that would lead out of a folder, or that no file can have.
HOSTILE = [
    *("../../escaped", "/tmp/escaped-by-crosspatch", "a\0b", "x" * 5000, "..", ".", "CON", "a/b\\c", "~/escaped"),
    "$(touch x)",
]
SECRETS = {
    "HF_TOKEN": "hf_canaryAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "OPENAI_API_KEY": "sk-canaryBBBBBBBBBBBBBBBBBBBBBBBB",
    "WANDB_API_KEY": "canaryCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC",
    "MY_OWN_SETTING": "canaryDDDDDDDD",
}


def outside(folder: Path, run: Path) -> set[Path]:
    """The files in a folder that are not of the run in it."""
    return {path for path in folder.rglob("*") if not path.is_dir() and not path.is_relative_to(run)}


def leaked(folder: Path) -> set[str]:
    """The variables whose values are in any file."""
    texts = [path.read_bytes() for path in folder.rglob("*") if not path.is_dir()]
    return {name for name, value in SECRETS.items() if any(value.encode() in text for text in texts)}


@pytest.mark.usefixtures("unpainted")
def test_a_whole_run_writes_into_its_folder_only_and_no_secret(tmp_path, cli, monkeypatch):
    """Ids and domains of its prompts are paths, its title is a path and a script, its environment has secrets."""
    for variable, secret in SECRETS.items():
        monkeypatch.setenv(variable, secret)
    prompts, log, root = tmp_path / "in" / "prompts.jsonl", tmp_path / "log", tmp_path / "out" / "run"
    prompts.parent.mkdir()
    named = ("prompt_id", "domain", "family")
    lines = [dict.fromkeys(named, name) | {"question": f"Solve 2x = {i}"} for i, name in enumerate(HOSTILE)]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    small = ["data.train=4", "data.related=1", "data.unrelated_math=1", "data.general=1", "finetune.epochs=2"]
    small += ["generation.max_new_tokens=4", "patch.layers=1", "patch.quick_check=false"]
    given = [f"patch.prompts={prompts}", 'name="../../<script>alert(1)</script>"']
    ended = cli("run", "tiny", *(f"--set={setting}" for setting in small + given), "--out", root, code=0)
    run = RunDirectory.existing(root)
    assert set(run.read(SCORES)["prompt_id"]) == set(HOSTILE)
    assert outside(tmp_path, root) == {prompts}
    assert not Path("/tmp/escaped-by-crosspatch").exists()
    assert not (Path.home() / "escaped").exists()
    assert "<script>alert(1)" not in run.report.read_text()
    # Nor is a secret written where a stage fails, which leaves its error in the record.
    failed = cli("run", "tiny", "--set", "models.clean=somebody/model", "--out", tmp_path / "failed", code=2)
    assert "somebody/model" in failed.err
    log.write_text("".join([*ended[1:], *failed[1:]]))
    assert not leaked(tmp_path)
    # A file that is written outside is seen, and a secret in it.
    (tmp_path / "escaped").write_text(f"x{SECRETS['MY_OWN_SETTING']}x")
    assert tmp_path / "escaped" in outside(tmp_path, root)
    assert leaked(tmp_path) == {"MY_OWN_SETTING"}


def test_names_in_a_dataset_name_no_file(tmp_path):
    fields = ("question", "solution", "answer", "id", "domain")
    rows = [dict.fromkeys(fields, name) for name in HOSTILE if "\0" not in name]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [f"data.train_file={data}", "data.related=1", "patch.related=1", "generation.max_new_tokens=4"]
    run = ExperimentRun.start(load_experiment("tiny", settings), tmp_path / "out" / "run")
    run.run("data")
    assert outside(tmp_path, run.directory.root) == {data}
    # Ids are read as they were written, whatever they look like.
    problems = [Problem(name, "prompts", "prompts", "q", "") for name in HOSTILE]
    write_problems(tmp_path / "problems.jsonl", problems)
    assert read_problems(tmp_path / "problems.jsonl") == problems


@pytest.mark.parametrize(
    "key", ["controls", "patch.controls", "patch.patches", "patch.component", "data.forms", "data.style"]
)
def test_names_in_an_experiment_are_known_ones(key):
    group, _, leaf = key.rpartition(".")
    for name in HOSTILE:
        tree = {group: {leaf: [name]}} if group else {leaf: [name]}
        with pytest.raises(UsageError) as error:
            [Patch.parse(named) for named in make_experiment(tree).patch.patches]
        assert "\n" not in str(error.value)


def test_no_text_becomes_code():
    """Ruff's rules keep other shells, interpreters and unpicklers out of the source (pyproject.toml)."""
    trusting = re.compile(r"\b(?:trust_remote_code|shell)\W+(?!False)\w|(?<![\w.])(?:compile|__import__)\(")
    for line in ("f(name, trust_remote_code=settings.trust)", "run(x, shell=bool(y))", "compile(x)", "__import__(x)"):
        assert trusting.search(line)
    files = list(SOURCE.rglob("*.py"))
    assert len(files) > 100
    assert not [path for path in files if trusting.search(path.read_text(encoding="utf-8"))]


# Nine lines that mean a billion values.
ALIASES = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
BOMB = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *ALIASES])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 10,000 values with its aliases written out"),
        ("seed: &s [*s]", r"more than 10,000 values|not valid YAML"),
        ("x" * 1_000_001, "expected settings of 1,000,000 at most"),
        ("[" * 5000, "nested too deeply"),
        ("seed: " + "9" * 5000, "not valid YAML"),
        ("seed: 2001-99-99", "not valid YAML"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
        ("? [a]\n: 1", "not valid YAML"),
    ],
    ids=["bomb", "circle", "long", "deep", "digits", "date", "python", "key"],
)
def test_experiments_that_are_none(tmp_path, text, words):
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as error:
        load_experiment(str(path))
    # Aliases themselves may be used.
    path.write_text("seed: &s 3\nfinetune: {seed: *s}")
    assert load_experiment(str(path)).finetune.seed == 3
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    with pytest.raises(CrosspatchError):
        make_experiment({}, [f"seed={text}" if ":" not in text else f"models={text}"])
