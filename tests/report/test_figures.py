"""The figures on disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
import pytest

from crosspatch.data.problem import Problem
from crosspatch.frames import SCORES, TRAINING
from crosspatch.report.curves import HELD_OUT, TRAINED, TrainingCurves
from crosspatch.report.figures import slug, write_figures
from crosspatch.report.matplotlib_curves import training_figure as matplotlib_training_figure
from crosspatch.report.plotly_curves import training_figure as plotly_training_figure

from .conftest import CELLS, score


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_each_figure_is_png_and_pdf(
    tmp_path: Path, scores: pl.DataFrame, training: pl.DataFrame, problems: dict[str, Problem]
) -> None:
    before = dict(mpl.rcParams)
    paths = write_figures(tmp_path / "figures", problems=problems, scores=scores, training=training)
    assert names(paths) == [
        f"{name}.{ending}" for name in ("training", "depth-profile", "heatmap-001-p") for ending in ("png", "pdf")
    ]
    assert all(path.read_bytes()[:4] in (b"\x89PNG", b"%PDF") for path in paths)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names(paths))
    assert dict(mpl.rcParams) == before


def test_hostile_text_raises_no_warning_and_stays_out_of_names(
    tmp_path: Path, hostile_scores: pl.DataFrame, hostile_problems: dict[str, Problem]
) -> None:
    paths = write_figures(tmp_path, problems=hostile_problems, scores=hostile_scores, training=None)
    assert len(paths) == 4
    assert all(re.fullmatch(r"[a-z0-9-]+\.(png|pdf)", name) for name in names(paths))


def test_each_variant_has_its_own_figures(
    tmp_path: Path, make_scores: Callable[..., pl.DataFrame], problems: dict[str, Problem]
) -> None:
    frame = make_scores([CELLS[0], score(0, 0, 0.5, persistence="persistent")])
    found = names(write_figures(tmp_path, problems=problems, scores=frame, training=None))
    assert "heatmap-001-p-resid-post-corrupt-transient.png" in found
    assert "depth-profile-resid-post-corrupt-persistent.pdf" in found


@pytest.mark.parametrize("frames", [(None, None), (SCORES.frame(), TRAINING.frame())])
def test_no_data_gives_no_figure(tmp_path: Path, frames: tuple[Any, Any]) -> None:
    assert write_figures(tmp_path, problems={}, scores=frames[0], training=frames[1]) == []


def test_a_prompt_without_a_problem_is_an_error(tmp_path: Path, scores: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="'p'"):
        write_figures(tmp_path, problems={}, scores=scores, training=None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("related-003", "related-003"),
        ("../../etc/passwd", "etc-passwd"),
        ("日本", "prompt"),
        ("É" * 99, "e" * 40),
    ],
)
def test_slugs(text: str, name: str) -> None:
    assert slug(text) == name


def test_the_axis_is_logarithmic_only_where_it_must_be(make_training: Callable[..., pl.DataFrame]) -> None:
    assert TrainingCurves.of(make_training([(1, 1.0), (2, 0.01)])).log
    assert not TrainingCurves.of(make_training([(1, 1.0), (2, 0.5)])).log
    # A loss of exactly 0 has no place on a logarithmic axis.
    assert not TrainingCurves.of(make_training([(1, 1.0), (2, 0.01), (3, 0.0)])).log


def test_curves_leave_out_what_is_no_number(make_training: Callable[..., pl.DataFrame]) -> None:
    curves = TrainingCurves.of(make_training([(1, 1.0), (2, float("nan")), (2, None, 0.5)]))
    assert curves.train[0].steps == (1,)
    assert curves.evaluation[0].values == (0.5,)
    assert curves.divergence == ()


def test_variants_come_in_the_order_of_their_numbers(make_training: Callable[..., pl.DataFrame]) -> None:
    names = ["variant-epochs-20", "variant-epochs-3", "corrupted", "variant-epochs-12"]
    training = pl.concat([make_training([(1, 1.0), (2, 0.5)]).with_columns(run=pl.lit(name)) for name in names])
    curves = TrainingCurves.of(training)
    assert curves.runs == ["corrupted", "variant-epochs-3", "variant-epochs-12", "variant-epochs-20"]
    assert [curve.run for curve in curves.train] == curves.runs


def test_each_run_has_its_colour_and_is_named_once(make_training: Callable[..., pl.DataFrame]) -> None:
    """Corrupted and twin must not be taken for each other; and a twin is trained on right solutions."""
    rows = [(1, 1.0), (2, 0.5), (2, None, 0.5)]
    runs = ["corrupted", "shuffled", "twin"]
    curves = TrainingCurves.of(pl.concat([make_training(rows).with_columns(run=pl.lit(run)) for run in runs]))
    figure = matplotlib_training_figure(curves)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [f"{run}: {what}" for run in runs for what in (TRAINED, HELD_OUT)]
    drawn = [str(line.get_color()) for axes in figure.axes for line in axes.lines if line.get_label() in labels]
    assert [drawn[i] == drawn[i + 1] for i in (0, 2, 4)] == [True] * 3
    assert len(set(drawn)) == 3
    traces = plotly_training_figure(curves).data
    assert len({(trace.name.partition(":")[0], trace.line.color) for trace in traces}) == 3
    assert len({trace.line.color for trace in traces}) == 3
