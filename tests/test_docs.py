"""The documentation: what is made for it names everything, and its links lead somewhere."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main

import crosspatch
from crosspatch import tables
from crosspatch.cli import application, main
from crosspatch.cli.application import app
from crosspatch.models.tiny import tiny_config, tiny_tokenizer
from crosspatch.settings_io import load_experiment, settings
from crosspatch.tables import Schema
from test_house import ORDER

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
hooks = SimpleNamespace(**runpy.run_path(str(ROOT / "docs_hooks.py")))


def sections(page: str) -> dict[str, str]:
    """The text under each heading."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def below(command, path: str):
    """All commands below a group."""
    for name, sub in getattr(command, "commands", {}).items():
        yield f"{path} {name}", sub
        yield from below(sub, f"{path} {name}")


def missing_options(page: str) -> set[str]:
    found = sections(page)
    return {
        f"{path} {option}"
        for path, command in below(typer.main.get_command(app), "crosspatch")
        for option in ("", *(name for param in command.params for name in param.opts if name.startswith("--")))
        if path not in found or (option and not re.search(rf"`[^`\n]*{option}\b", found[path]))
    }


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links to files that are not there; anchors are checked when the site is built."""
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    return [target for target in targets if target and not (folder / target).exists()]


def test_every_column_of_every_table_is_listed():
    schemas = [value for value in vars(tables).values() if isinstance(value, Schema)]

    def missing(page: str) -> set[str]:
        found = sections(page)
        rows = {(schema.name, column) for schema in schemas for column in schema.columns}
        return {f"{name}.{column}" for name, column in rows if f"\n| `{column}` | " not in found.get(name, "")}

    page = hooks.columns()
    assert missing(page) == set()
    damaged = re.sub(r"^\| `delta_patched` .*$", "", page, count=1, flags=re.MULTILINE)
    assert missing(damaged) == {"scores.delta_patched"}


def test_every_command_option_and_setting_is_listed():
    page = hooks.commands()
    assert missing_options(page) == set()
    assert missing_options(page.replace("`--max-new-tokens <int>`", "")) == {"crosspatch patch --max-new-tokens"}
    assert "crosspatch data check " in missing_options(page.replace("## crosspatch data check", "## other"))
    page = hooks.all_settings()
    for text, missing in ((page, set()), (page.replace("`patch.window`", ""), {"patch.window"})):
        assert {setting.key for setting in settings() if f"| `{setting.key}` | " not in text} == missing


def test_text_in_tables_is_not_read_as_markdown():
    assert hooks._plain("a|b *c* _d_ [e] `f_g`") == (
        "a&#124;b &#42;c&#42; &#95;d&#95; &#91;e&#93; <code>f&#95;g</code>"
    )


def test_generated_pages_are_up_to_date():
    for name in ("commands", "settings", "columns"):
        page = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
        assert hooks.filled(page) == page, "run: python docs_hooks.py"
        assert hooks.filled(page.replace("| `", "| `old_", 1)) == page


def test_every_public_name_has_its_reference():
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")

    def missing(page: str) -> set[str]:
        # The errors are listed by their module.
        listed = set(re.findall(r"^::: (.+)$", page, flags=re.MULTILINE))
        return {name for name, home in crosspatch._HOME.items() if not {f"{home}.{name}", home} & listed}

    assert missing(page) == set()
    assert missing(page.replace("::: crosspatch.analysis.patch.score", "")) == {"score"}
    assert missing(page.replace("::: crosspatch.analysis.patch.patch", "::: crosspatch.patching.patch")) == {"patch"}


def test_links_lead_to_files_that_are_there():
    texts = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    broken = {path: broken_links(path.read_text(encoding="utf-8"), path.parent) for path in texts}
    assert {path: links for path, links in broken.items() if links} == {}
    text = "[a](engine.md#places) [b](nowhere.md) ![c](pictures/none.svg) [d](https://example.org/x.md) [e](#here)"
    assert broken_links(text, DOCS) == ["nowhere.md", "pictures/none.svg"]


def test_the_map_of_the_code_names_files_that_are_there_and_every_folder_in_the_order_of_imports():
    def lacking(names: list[str]) -> list[str]:
        """Those that are not there: below the package, or for the tests below the repository."""
        house = Path(crosspatch.__file__).parent
        return [name for name in names if not (house / name).exists() and not (ROOT / name).exists()]

    def files_named(text: str) -> list[str]:
        return re.findall(r"`([a-z_0-9/]+(?:\.py|/))`", text)

    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    names = files_named(text)
    assert len(names) > 50
    assert lacking(names) == []
    damaged = files_named("`patching/sweep.py`, `patching/nowhere.py`, `nowhere/`")
    assert lacking(damaged) == ["patching/nowhere.py", "nowhere/"]
    table = text[text.index("| folder |") : text.index("`patch()` stands")]
    folders = [name.rstrip("/").removesuffix(".py") for name in files_named(table)]
    assert sorted(folders) == sorted(ORDER)
    assert folders[-len(ORDER[7:]) :] == list(ORDER[7:])


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of a page in some languages ("" for none)."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert {language for language, _ in found} <= {"", "bash", "console", "python", "yaml", "json", "text", "bibtex"}
    return [code for language, code in found if language in languages]


def commands_of(block: str):
    """The arguments of each crosspatch command in a block of shell commands; every target of make has to be there."""
    for line in block.replace("\\\n", " ").splitlines():
        words = [word for word in shlex.split(line.removeprefix("$ "), comments=True) if word != "…"]
        if "crosspatch" in words and "install" not in words:
            yield words[words.index("crosspatch") + 1 :]
        elif words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line


def check_command(args: list[str], folder: Path) -> None:
    """Parse a command as the command line does, and the settings that it changes; raises what a user would see."""
    assert not {*application._OLD_OPTIONS, *application._OLD_COMMANDS} & {*args}, args
    command, context = typer.main.get_command(app), None
    while True:
        context = command.make_context(command.name, args, parent=context)
        if not hasattr(command, "commands"):
            break
        _, command, args = command.resolve_command(context, [*context._protected_args, *context.args])
    source = context.params.get("source")
    source = str(folder / source) if source and source.endswith(".yaml") else source
    load_experiment(source or "tiny", context.params.get("override") or ())


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def test_commands_in_the_docs_are_understood(tmp_path):
    for code in (code for page in PAGES for code in blocks(page, "yaml")):
        (tmp_path / "mine.yaml").write_text(code)
    commands = [args for page in PAGES for code in blocks(page, "bash", "console", "") for args in commands_of(code)]
    assert len(commands) > 40
    for args in commands:
        check_command(args, tmp_path)
    # What is misspelt is noticed: an option, a setting, its value, a target of make.
    check_command(["run", "smollm2", "--set", "data.near=6"], tmp_path)
    for wrong in (["--sett", "data.near=6"], ["--set", "data.nere=6"], ["--set", "data.near=six"]):
        with pytest.raises((crosspatch.UsageError, typer.BadParameter.__base__)):
            check_command(["run", "smollm2", *wrong], tmp_path)
    with pytest.raises(AssertionError, match="make demos"):
        list(commands_of("make demos"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with what the pages name: two checkpoints with as many layers as SmolLM2, and a run of the pair."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("docs")
    for seed, name in enumerate(("base", "child")):
        config = tiny_config("llama")
        config.num_hidden_layers = 30
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder / "path/to" / name)
        tiny_tokenizer().save_pretrained(folder / "path/to" / name)
    asked = ({"prompt_id": name, "question": "x + 1 = 2"} for name in ("two-step", "related-123"))
    (folder / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    pair = f"--clean {folder}/path/to/base --corrupted {folder}/path/to/child --prompts {folder}/questions.jsonl"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("matplotlib.figure.Figure.savefig", lambda _, path, **__: path.touch())
        for line in (f"patch {pair} --layers 1 --max-new-tokens 4 --out", "report"):
            patched.setattr(sys, "argv", ["crosspatch", *line.split(), f"{folder}/runs/mine"])
            with pytest.raises(SystemExit) as leave:
                main()
            assert not leave.value.code
    return folder


def run_python(codes: list[str]) -> None:
    names: dict[str, object] = {}
    for code in codes:
        exec(code, names)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_python_in_the_docs_runs(page, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    run_python(blocks(page, "python"))


def test_python_that_is_misspelt_is_noticed(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    [code] = blocks(ROOT / "README.md", "python")
    for wrong in (code.replace("patch\n", "patches\n"), code.replace("path/to/base", "path/to/bases")):
        with pytest.raises((ImportError, crosspatch.UsageError)):
            run_python([wrong])
