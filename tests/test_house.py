"""The house rules: imports go one way, and what needs no torch imports none."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import crosspatch

HOUSE = Path(crosspatch.__file__).parent
ROOMS = ("data", "models", "behaviour", "tuning", "patching", "results", "report")
FOR_ALL = {"card", "characters", "config", "errors", "files", "frames"}
OVER_ALL = {"experiment", "cli"}


def imports_of(path: Path) -> set[str]:
    """The modules and names of crosspatch that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing comes from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("crosspatch.") for name in found if name.startswith("crosspatch.")}


def allowed(room: str) -> set[str]:
    return FOR_ALL | set(ROOMS[: ROOMS.index(room) + 1])


def foreign_imports(room: str, path: Path) -> set[str]:
    # `import crosspatch` alone, for its version, is no room.
    rooms = {name.split(".")[0] for name in imports_of(path)} - {"__version__"}
    return rooms - allowed(room)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_itself_and_from_the_left(room):
    files = list((HOUSE / room).rglob("*.py"))
    assert files
    for path in files:
        assert not foreign_imports(room, path), path


def test_the_rule_notices_an_import_from_the_right(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from crosspatch.report import page\n")
    assert foreign_imports("models", bad) == {"report"}
    assert not foreign_imports("report", bad)


def test_what_all_may_import_imports_no_room():
    for name in FOR_ALL:
        assert {m.split(".")[0] for m in imports_of(HOUSE / f"{name}.py")} <= FOR_ALL, name


def test_there_is_no_room_that_the_rule_does_not_know():
    folders = {p.name for p in HOUSE.iterdir() if p.is_dir() and list(p.glob("*.py"))}
    modules = {p.stem for p in HOUSE.glob("*.py")} - {"__init__", "__main__"}
    assert folders == {*ROOMS, *OVER_ALL}
    assert modules == FOR_ALL


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def modules_in(room: str) -> list[str]:
    files = sorted((HOUSE / room).rglob("*.py"))
    names = [".".join(path.relative_to(HOUSE.parent).with_suffix("").parts) for path in files]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("room", ["data", "results", "report"])
def test_no_torch_in(room):
    assert "torch" not in loaded_by("import " + ", ".join(modules_in(room)))


def test_torch_would_be_noticed():
    assert "torch" in loaded_by("import crosspatch.models.blocks")


def test_help_imports_neither_torch_nor_transformers():
    loaded = loaded_by(
        "import sys; sys.argv = ['crosspatch', '--help']\n"
        "from crosspatch.cli import main\n"
        "try: main()\nexcept SystemExit as leave: assert not leave.code"
    )
    assert {"crosspatch", "typer"} <= loaded
    assert not {"torch", "transformers", "polars", "plotly", "matplotlib", "sympy"} & loaded


def test_the_package_imports_no_torch_until_it_is_asked():
    assert "torch" not in loaded_by("import crosspatch")
    assert "torch" in loaded_by("from crosspatch import ModelPair")
