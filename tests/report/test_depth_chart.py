"""The depth profile in one call, of whatever has scores."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from crosspatch.patching.result import PatchResult
from crosspatch.report.interactive import panels_figure
from crosspatch.report.notebook import depth_chart
from crosspatch.report.pictures.panels import Panel
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.storage.summary import Summary
from crosspatch.tables import GENERATIONS, SCORES
from experiment.runs import made_run


def transfers(figure) -> list[float]:
    """The values of the first panel's main line."""
    return [round(value, 3) for value in figure.data[0].y]


def test_it_draws_what_transfers_of_runs_summaries_and_scores(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", prompts=2)
    evenly = [0.0, 0.25, 0.5, 0.75, 1.0]
    for of in (run, Summary.of_run(run), run.read(SCORES), PatchResult(run.read(SCORES), GENERATIONS.frame())):
        assert transfers(depth_chart(of)) == evenly
    titles = {text.text for of in (run, run.read(SCORES)) for text in depth_chart(of).layout.annotations}
    assert {"Related mathematics: 2 prompts with a CTS", "Own prompts: 2 prompts with a CTS"} <= titles


def test_one_way_of_patching_at_a_time(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", prompts=1)
    scores = run.read(SCORES)
    other = scores.with_columns(direction=pl.lit("repair"), cts=pl.lit(0.5), delta_patched=pl.lit(0.0))
    both = pl.concat([scores, other.cast(dict(scores.schema)).filter(pl.col("status") == "ok")])
    with pytest.raises(ValueError, match="choose a mode"):
        depth_chart(both)
    assert transfers(depth_chart(both, mode=PatchMode("resid_post", "repair", "transient"))) == [0.5] * 5
    with pytest.raises(ValueError, match="no single layer was patched as mlp_out"):
        depth_chart(scores, mode=PatchMode("mlp_out", "corrupt", "transient"))
    with pytest.raises(ValueError, match="no scores"):
        depth_chart(scores.head(0))


def test_in_a_notebook_letters_and_lines_read_on_light_and_dark(tmp_path: Path) -> None:
    figure = depth_chart(made_run(tmp_path / "run", prompts=1))
    level = int(figure.layout.font.color[1:3], 16)
    assert 0x60 < level < 0xA0
    assert "rgba" in figure.layout.xaxis.gridcolor
    # The page's own charts are dressed by the page.
    assert panels_figure([Panel("p", ())]).layout.font.color is None
