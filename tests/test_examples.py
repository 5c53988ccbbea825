"""The notebooks in examples/ run from top to bottom, and show what they say they show."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

EXAMPLES = Path(__file__).parent.parent / "examples"


def executed(name: str, *replaced: tuple[str, str]) -> tuple[list[str], str, list[Any]]:
    """Texts, HTML and plots that a notebook shows with some of its source replaced; what a cell raises is raised."""
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for before, after in replaced:
        [cell] = [cell for cell in code if before in cell.source]
        cell.source = cell.source.replace(before, after)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in code for output in cell.outputs]
    printed = [output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"]
    forms = ("text/plain", "text/html", "application/vnd.plotly.v1+json")
    shown, cards, plots = ([out.data[form] for out in outputs if form in out.get("data", {})] for form in forms)
    return printed + shown, " ".join(cards), plots


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_is_committed_has_no_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.cells[0].source.startswith("# ")


def test_a_notebook_that_raises_is_noticed() -> None:
    with pytest.raises(CellExecutionError, match="no attribute 'no_such_name'"):
        executed("patch_your_own_pair", ("import copy", "import crosspatch\ncrosspatch.no_such_name"))


def test_patch_your_own_pair() -> None:
    texts, cards, _ = executed("patch_your_own_pair")
    [profile] = [text for text in texts if "mean_cts" in text and "PatchResult" not in text]
    assert re.search(r"┆ recovered_fraction +│", profile)
    transfer = {patch: float(value) for patch, value in re.findall(r"(L\d\.resid_post) .*┆ (\S+) +│", profile)}
    # By the way it was made: nothing below the changed block, everything after the last.
    assert max(abs(transfer[f"L{layer}.resid_post"]) for layer in (0, 1)) < 1e-3
    assert transfer["L2.resid_post"] > 0.5
    assert transfer["L3.resid_post"] == pytest.approx(1, abs=1e-3)
    assert "A pair of models" in cards
    assert cards.count("Result of patching") == 3
    assert cards.count("<iframe") == 1
    assert "Heatmap of two-step" in cards


def test_find_the_planted_head() -> None:
    texts, cards, _ = executed("find_the_planted_head")
    [answer] = [text for text in texts if "first when patched" in text]
    assert re.findall(r"L\d+\.head\.\d+", answer) == ["L1.head.2"] * 3
    assert "Top head: L1 head 2" in cards
    assert cards.count('<iframe title="Recovered fraction of each head alone') == 1


@pytest.mark.slow
def test_reproduce_the_paper() -> None:
    # Every stage, with layers enough for a depth, texts long enough for an operation, and figures without pixels.
    no_pixels = "import matplotlib.figure\nmatplotlib.figure.Figure.savefig = lambda _, path, **__: path.touch()"
    texts, cards, plots = executed(
        "reproduce_the_paper",
        ("SMALL = {", f"{no_pixels}\nSMALL = {{"),
        ("SMALL = {", 'SMALL = {\n    "patch.layers": [0, 18, 29],'),
        ('"data.train": 16', '"data.train": 4,\n    "finetune.batch_size": 2'),
        ('"finetune.learning_rate": 1e-4', '"finetune.learning_rate": 2e-4'),
        ('"generation.max_new_tokens": 48', '"generation.max_new_tokens": 24'),
        ('"data.unrelated_math": 2', '"data.unrelated_math": 1'),
        ('"patch.related": 2', '"patch.related": 1'),
        ('"data.general": 1', '"data.general": 0'),
    )
    # The corrupted model does the planted operation where the clean one does the right one.
    [graded] = [text for text in texts if "verdict" in text and "condition" in text]
    rows = [line for line in graded.splitlines() if "related" in line and "unrelated" not in line]
    assert any("corrupted" in row and "planted" in row for row in rows)
    assert not any("clean" in row and "planted" in row for row in rows)
    assert "report.html" in "\n".join(texts)
    assert "Claims: " in cards
    assert "an interval needs 5 effective prompts" in cards
    assert cards.count("<iframe") == 1
    assert len(plots) == 1
