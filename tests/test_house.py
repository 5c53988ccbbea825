"""The architecture: imports go one way and in no circle, and what needs no torch imports none."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import crosspatch

HOUSE = Path(crosspatch.__file__).parent
# Each imports only from itself and from what stands before it. Modules that all may import come first.
ORDER = (
    *("errors", "files", "characters", "config", "settings_io", "tables", "html_repr"),
    *("data", "grading", "models", "training", "patching", "analysis"),
    *("statistics", "storage", "report", "experiment", "cli"),
)


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    files = sorted(root.rglob("*.py"))
    names = (".".join(path.relative_to(root.parent).with_suffix("").parts) for path in files)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, files, strict=True)}


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules among `modules` that a file imports, inside functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing comes from"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else str(node.module) for name in names}
    return found & modules.keys()


def wrong_ways(modules: dict[str, Path]) -> list[str]:
    """Imports of what stands further down in ORDER."""
    wrong = []
    for name, path in modules.items():
        if name == "crosspatch.__main__":
            continue
        place = ORDER.index(name.split(".")[1]) if "." in name else len(ORDER)
        # `import crosspatch` alone, for its version, is no folder.
        others = [other for other in imports_of(path, modules) if "." in other]
        wrong += [f"{name} imports {other}" for other in others if ORDER.index(other.split(".")[1]) > place]
    return sorted(wrong)


def cycle(modules: dict[str, Path]) -> list[str]:
    """Modules that import one another in a circle; the package itself, which names its parts, is none of them."""
    try:
        TopologicalSorter({n: imports_of(path, modules) - {"crosspatch", n} for n, path in modules.items()}).prepare()
    except CycleError as error:
        return sorted(set(error.args[1]))
    return []


def written(root: Path, **sources: str) -> dict[str, Path]:
    """A package made up of modules, for the rules' negative controls; __ stands for a dot."""
    for name, source in sources.items():
        path = root / "crosspatch" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return modules_of(root / "crosspatch")


# These alone read the names of patches, sites and schedules; everyone else reads the columns of tables.
PARSERS = {"crosspatch.patching.patches", "crosspatch.models.site"}
_TAKEN_APART = re.compile(
    # A method of strings on `patch`, `answer.patch`, `row["patch"]`, `pl.col("patch")`, or a pattern applied to it,
    r"\bpatch(?:'?[)\]]+)?(?: or '')?\)?\.(?:str|r?split|r?partition|remove(?:pre|suf)fix|(?:start|end)swith|find)\b"
    r"|\bre\.\w+\([^()]*\bpatch\b|' in (?:\w+\.)?patch\b"
    # or a pattern of such names: of a layer's number, or of what stands after an @.
    r"|['^(]L\(?(?:\\+d|\[0-9\])|'\(?@[(.]"
)


def names_taken_apart(modules: dict[str, Path]) -> list[str]:
    """Statements that take a patch's name apart, outside of the parsers."""
    found = []
    for name, path in modules.items():
        if name not in PARSERS:
            lines = ast.unparse(ast.parse(path.read_text(encoding="utf-8"))).splitlines()
            found += [f"{name}: {line.strip()}" for line in lines if _TAKEN_APART.search(line)]
    return found


def test_no_names_of_patches_are_taken_apart(tmp_path):
    assert not names_taken_apart(modules_of(HOUSE))
    good = 'f"L{layer}"; text.split("+"); pl.col("text").str.extract("x"); re.search("x", text); patch in names'
    for bad in (
        *('pl.col("patch").str.extract("(.+)$")', 'frame["patch"].str.split(".")', '"+" in patch'),
        *('pl.col("x").str.extract(r"^L(\\d+)")', 're.compile(r"L([0-9]+)\\.head")', 'row["patch"].split("+")'),
        *('patch.partition(".")', 're.findall(PATTERN, answer.patch or "")', 'pl.col("name").str.extract("@(.+)$")'),
    ):
        assert len(names_taken_apart(written(tmp_path, report__a=bad, models__site=bad, data__b=good))) == 1, bad


def test_imports_go_one_way_and_in_no_circle(tmp_path):
    assert {name.split(".")[1] for name in modules_of(HOUSE) if "." in name} - {"__main__"} == set(ORDER)
    assert not wrong_ways(modules_of(HOUSE))
    assert not cycle(modules_of(HOUSE))
    # Imports in functions and under TYPE_CHECKING are noticed.
    bad = written(
        tmp_path,
        data__a="from crosspatch.data import b",
        data__b="if TYPE_CHECKING:\n    from crosspatch.data.c import name\n",
        data__c="def f():\n    from crosspatch.data.a import g\n    from crosspatch.report import page\n",
        data__d="from crosspatch.data import a",
        report__page="import crosspatch.data.a",
    )
    assert wrong_ways(bad) == ["crosspatch.data.c imports crosspatch.report.page"]
    del bad["crosspatch.report.page"]
    assert cycle(bad) == ["crosspatch.data.a", "crosspatch.data.b", "crosspatch.data.c"]


def loaded_by(statement: str) -> list[set[str]]:
    """The top-level packages that a fresh interpreter has loaded each time when a statement calls `note()`."""
    note = "note = lambda: print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    code = f"import sys\n{note}\n{statement}\nnote()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stderr.splitlines()]


def test_problems_statistics_reports_and_help_need_no_torch():
    folders = ("data", "grading", "statistics", "storage", "report")
    modules = [name for name in modules_of(HOUSE) if "." in name and name.split(".")[1] in folders]
    modules += ["crosspatch", *(f"crosspatch.experiment{name}" for name in ("", ".page", ".problems"))]
    without, with_models = loaded_by(f"import {', '.join(modules)}\nnote()\nfrom crosspatch import ModelPair")
    assert {"crosspatch", "polars"} <= without
    assert "torch" not in without
    assert "torch" in with_models
    (loaded,) = loaded_by(
        "sys.argv = ['crosspatch', '--help']\n"
        "from crosspatch.cli import main\n"
        "try: main()\nexcept SystemExit as leave: assert not leave.code"
    )
    assert {"crosspatch", "typer"} <= loaded
    assert not {"torch", "transformers", "polars", "plotly", "matplotlib", "sympy"} & loaded
