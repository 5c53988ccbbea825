"""The notebooks in examples/ run from top to bottom, and show what they say they show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def read(name: str) -> Any:
    return nbformat.read(EXAMPLES / name, as_version=4)


def executed(notebook: Any) -> list[Any]:
    """The outputs of all cells; raises CellExecutionError where a cell raises."""
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def shown(outputs: list[Any], of: str) -> list[Any]:
    """The outputs that have a form, in that form."""
    return [output.data[of] for output in outputs if of in output.get("data", {})]


def texts(outputs: list[Any]) -> list[str]:
    """What cells printed and showed, output by output."""
    printed = [output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"]
    return printed + shown(outputs, "text/plain")


def column(table: str, name: str) -> dict[str, str]:
    """A column of a polars table as it was shown, by its first column."""
    rows = [[cell.strip() for cell in re.split("[│┆]", line)[1:-1]] for line in table.splitlines() if "┆" in line]
    return {row[0]: row[rows[0].index(name)] for row in rows[3:]}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_has_no_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.cells[0].source.startswith("# ")


def test_patch_your_own_pair() -> None:
    done = executed(read("patch_your_own_pair.ipynb"))
    [profile] = [text for text in texts(done) if "mean_cts" in text and "PatchResult" not in text]
    transfer = {patch: float(value) for patch, value in column(profile, "recovered_fraction").items()}
    # By the way it was made: nothing below the changed block, everything after the last.
    assert max(abs(transfer[f"L{layer}.resid_post"]) for layer in (0, 1)) < 1e-3
    assert transfer["L2.resid_post"] > 0.5
    assert transfer["L3.resid_post"] == pytest.approx(1, abs=1e-3)
    cards = " ".join(shown(done, "text/html"))
    assert "A pair of models" in cards
    assert cards.count("Result of patching") == 3
    assert cards.count("<iframe") == 1
    assert "Heatmap of two-step" in cards


def test_find_the_planted_head() -> None:
    done = executed(read("find_the_planted_head.ipynb"))
    [answer] = [text for text in texts(done) if "first when patched" in text]
    assert set(re.findall(r"L\d+\.head\.\d+", answer)) == {"L1.head.2"}
    assert len(re.findall(r"L\d+\.head\.\d+", answer)) == 3
    cards = " ".join(shown(done, "text/html"))
    assert "Top head: L1 head 2" in cards
    assert cards.count('<iframe title="Recovered fraction of each head alone') == 1


@pytest.mark.slow
def test_reproduce_the_paper() -> None:
    notebook = read("reproduce_the_paper.ipynb")
    # Every stage, with layers enough for a depth, texts long enough for an operation, and figures without pixels.
    [sizes] = [cell for cell in notebook.cells if "SMALL = {" in cell.source]
    sizes.source += "\nimport matplotlib.figure\nmatplotlib.figure.Figure.savefig = lambda _, path, **__: path.touch()"
    for before, after in (
        ("SMALL = {", 'SMALL = {\n    "patch.layers": [0, 18, 29],'),
        ('"data.train": 16', '"data.train": 8'),
        ('"finetune.learning_rate": 1e-4', '"finetune.learning_rate": 2e-4'),
        ('"generation.max_new_tokens": 48', '"generation.max_new_tokens": 32'),
        ('"data.unrelated_math": 2', '"data.unrelated_math": 1'),
        ('"data.general": 1', '"data.general": 0'),
    ):
        assert before in sizes.source
        sizes.source = sizes.source.replace(before, after)
    done = executed(notebook)
    said = "\n".join(texts(done))
    # The corrupted model does the planted operation where the clean one does the right one.
    [graded] = [text for text in texts(done) if "verdict" in text and "condition" in text]
    rows = [line for line in graded.splitlines() if "related" in line and "unrelated" not in line]
    assert any("corrupted" in row and "planted" in row for row in rows)
    assert not any("clean" in row and "planted" in row for row in rows)
    assert "report.html" in said
    cards = " ".join(shown(done, "text/html"))
    assert "Claims: " in cards
    assert "an interval needs 5 effective prompts" in cards
    assert cards.count("<iframe") == 1
    assert len(shown(done, "application/vnd.plotly.v1+json")) == 1
