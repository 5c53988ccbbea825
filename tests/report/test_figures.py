"""The figures on disk, what stands in them, and how text is fitted."""

import re
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from crosspatch.data.problem import Problem
from crosspatch.report.interactive import panels_figure as plotly_figure
from crosspatch.report.pictures.heatmap import Heatmap
from crosspatch.report.pictures.panels import DIFFERENCE, HELD_OUT, TRAINED, search_panels, training_panels
from crosspatch.report.print import style
from crosspatch.report.print.figures import slug, write_figures
from crosspatch.report.print.heatmap import heatmap_figure, labelled_steps, paper_heatmap_figure
from crosspatch.report.print.panels import panels_figure
from crosspatch.report.print.style import COLUMN, PAGE, TEXT
from crosspatch.tables import SCORES, TRAINING
from html_reader import HOSTILE

from .conftest import CELLS, CURVES, HOSTILE_QUESTION, HOSTILE_RUN, PROBLEMS, SCORED, losses, score


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def every_form(*figures: str) -> list[str]:
    return [f"{name}-{size}.{ending}" for name in figures for size in ("column", "page") for ending in ("png", "pdf")]


def test_each_figure_is_png_and_pdf_for_a_column_and_a_page(tmp_path):
    before = dict(mpl.rcParams)
    paths = write_figures(tmp_path / "figures", problems=PROBLEMS, scores=SCORED, training=CURVES)
    assert names(paths) == every_form("training", "depth-profile", "heatmap-001-p", "paper-figure-3")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names(paths))
    assert dict(mpl.rcParams) == before
    for path in paths:
        data, inches = path.read_bytes(), 3.3 if "-column" in path.name else 6.9
        if path.suffix == ".png":
            assert data[:4] == b"\x89PNG"
            assert int.from_bytes(data[16:20], "big") == round(300 * inches)
        else:
            assert data[:4] == b"%PDF"
            box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", data)
            assert box is not None
            assert float(box[1]) == pytest.approx(72 * inches)
            # TrueType, and no image but that of the colour scale.
            assert b"/FontFile2" in data
            assert b"/Type3" not in data
            assert data.count(b"/Subtype /Image") == ("heatmap" in path.name or "paper" in path.name)


def test_hostile_text_is_saved_without_a_warning_and_not_in_names(tmp_path):
    """Runs in legends, the domain and the question in titles; a glyph that the font lacks would be a warning."""
    curves = pl.concat([losses([(1, 1.0), (2, 0.5)], name) for name in HOSTILE if name.strip()])
    paths = write_figures(tmp_path, problems=HOSTILE_RUN["problems"], scores=HOSTILE_RUN["scores"], training=curves)
    made = [re.sub("heatmap-001-.*?-(?=column|page)", "heatmap-", name) for name in names(paths)]
    assert made == every_form("training", "depth-profile", "heatmap")
    assert all(re.fullmatch(r"[a-z0-9-]+\.(png|pdf)", path.name) for path in paths)


@pytest.mark.usefixtures("unpainted")
def test_each_mode_has_its_own_figures_and_names_that_would_be_the_same_are_numbered(tmp_path):
    def figures(*cells: dict) -> list[str]:
        found = names(write_figures(tmp_path, problems=PROBLEMS, scores=SCORES.frame(cells), training=None))
        assert len(found) == len(set(found))
        return found

    persistent, scheduled = {"persistence": "persistent"}, {"patch": "L0.resid_post@every:2"}
    found = figures(CELLS[0], score(0, 0, 0.5, **persistent), score(0, 0, 0.5, **scheduled))
    assert len(found) == 4 * (2 * 3 + 1)
    assert "heatmap-001-p-resid-post-corrupt-transient-page.png" in found
    assert "heatmap-001-p-resid-post-corrupt-transient-every-2-page.png" in found
    assert "depth-profile-resid-post-corrupt-persistent-column.pdf" in found
    found = figures(*(score(0, 0, 0.5, patch=f"L0.resid_post@tokens:{token}") for token in ("+", "-", "*")))
    assert len(found) == 4 * 2 * 3
    assert "depth-profile-resid-post-corrupt-transient-tokens-3-page.png" in found
    slugs = {"related-003": "related-003", "../../etc/passwd": "etc-passwd", "日本": "prompt", "É" * 99: "e" * 40}
    assert {text: slug(text) for text in slugs} == slugs


@pytest.mark.usefixtures("unpainted")
def test_what_an_earlier_report_made_is_removed_and_nothing_else(tmp_path):
    earlier = ["search.png", "heatmap-002-q.pdf", "depth-profile-resid-post-repair-transient.png", "accuracy-page.pdf"]
    earlier += ["heads-related-corrupt-text-column.png", "paper-figure-2-page.png", "heatmap-001-p.png", "training.pdf"]
    foreign = ["mine.png", "heatmap.png", "heatmap-final.pdf", "training.svg", "heads-up.png", "my-search.png"]
    foreign += ["depth-profile-mine.png", "paper-figure-6-page.png"]
    for name in (*earlier, *foreign):
        (tmp_path / name).write_text("x")
    (tmp_path / "accuracy.png").mkdir()
    searched = CURVES.with_columns(run=pl.lit("variant-epochs-3"))
    both = pl.concat([SCORED, SCORED.with_columns(direction=pl.lit("repair"))])
    paths = write_figures(tmp_path, problems=PROBLEMS, scores=both, training=pl.concat([CURVES, searched]))
    assert len(paths) == 4 * (1 + 2 + 2 * 2 + 1)
    assert {path.name for path in tmp_path.iterdir()} == {*names(paths), *foreign, "accuracy.png"}
    # All that is made is known again.
    for scores_of_none, training_of_none in ((None, None), (SCORES.frame(), TRAINING.frame())):
        assert write_figures(tmp_path, problems={}, scores=scores_of_none, training=training_of_none) == []
    assert {path.name for path in tmp_path.iterdir()} == {*foreign, "accuracy.png"}
    with pytest.raises(ValueError, match="'p'"):
        write_figures(tmp_path, problems={}, scores=SCORED, training=None)


@pytest.mark.usefixtures("unpainted")
def test_the_papers_figures_are_the_first_prompt_of_each_domain(tmp_path):
    domains = {"g": "general", "u": "unrelated_math", "r": "related", "s": "related", "n": "near"}
    problems = {name: Problem(name, domain, "f", name, "1") for name, domain in domains.items()}
    frame = SCORES.frame(score(0, 0, 0.5, prompt_id=name) for name in domains)

    def of_the_paper(scores: pl.DataFrame, **mode: str) -> list[str]:
        rows = scores.with_columns(**{key: pl.lit(value) for key, value in mode.items()})
        found = names(write_figures(tmp_path, problems=problems, scores=rows, training=None))
        return [name for name in found if "paper" in name]

    assert of_the_paper(frame) == every_form("paper-figure-3", "paper-figure-4", "paper-figure-5")
    # Another way of patching is none of the paper's.
    related = frame.filter(prompt_id="r")
    for other in ({"direction": "repair"}, {"persistence": "persistent"}, {"component": "mlp_out"}):
        assert of_the_paper(related, **other) == []


@pytest.mark.parametrize("size", style.SIZES)
def test_the_papers_heatmap_counts_as_published(size):
    figure = paper_heatmap_figure(Heatmap.of(SCORED, question="What is x?"), size)
    said = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert 'Corruption Transfer Per Step, Prompt: "What is x?"' in said
    assert "in 3 of the 9 cells both models predict the same token" in said
    # The cell that is too small for us has a score there: the models differ by 2 logits in it.
    assert "3 values lie outside 0 to 1 (from −2.50 to 4.00), drawn in the colour of the nearer end." in said
    [cells] = figure.axes[0].collections
    assert cells.get_array().tolist() == [[0, 0.125, None, None], [0, 0.5, -0.5, None], [1, 4, -2.5, 0]]
    assert cells.get_clim() == (0.0, 1.0)


def many_steps() -> Heatmap:
    """96 steps of which every third, and three in a row, disagree."""
    disagree = {*range(0, 96, 3), 50, 51, 52}
    cells = [score(0, step, 0.5 if step in disagree else None, token="W" * 12) for step in range(96)]
    return Heatmap.of(SCORES.frame(cells), question="long " * 100)


@pytest.mark.parametrize("which", ["small", "hostile", "many"])
@pytest.mark.parametrize("size", style.SIZES)
@pytest.mark.parametrize("draw", [heatmap_figure, paper_heatmap_figure])
def test_text_is_of_its_size_within_the_figure_and_apart(which, size, draw):
    heatmap = {
        "small": lambda: Heatmap.of(SCORED),
        "hostile": lambda: Heatmap.of(HOSTILE_RUN["scores"], question=HOSTILE_QUESTION),
        "many": many_steps,
    }[which]()
    figure = draw(heatmap, size)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert {text.get_fontsize() for text in texts} <= {style.TITLE, TEXT, style.SMALL, style.TOKEN}
    page = figure.bbox.padded(2)
    for text in texts:
        box = text.get_window_extent(renderer)
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    labels = figure.axes[0].get_xticklabels()
    boxes = [text.get_window_extent(renderer) for text in labels]
    assert boxes
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    if which == "hostile":
        # Nothing is read as mathematics.
        assert "$\\frac{1}{$" in [label.get_text() for label in labels]
        assert not any(label.get_parse_math() for label in labels)


def test_curves_are_of_numbers_and_their_axis_is_logarithmic_only_where_it_must_be():
    # A loss of exactly 0 has no place on a logarithmic axis.
    assert not training_panels(losses([(1, 1.0), (2, 0.01), (3, 0.0)]))[0].log
    for low, kind in ((0.01, "log"), (0.5, "linear")):
        panels = training_panels(losses([(1, 1.0), (2, low), (2, None, 0.5)]))
        axes = panels_figure(panels).axes
        assert [(each.get_yscale(), each.get_xlabel(), each.get_ylabel()) for each in axes] == [
            (kind, "optimizer step", "nats a token"),
            ("linear", "optimizer step", "nats a token"),
        ]
        layout = plotly_figure(panels).layout
        assert (layout.yaxis.type or "linear", layout.yaxis2.type) == (kind, None)
    # What is no number is left out.
    curves, difference = training_panels(losses([(1, 1.0), (2, float("nan")), (2, None, 0.5)]))
    points = [(line.name, line.x, line.values) for line in curves.lines]
    assert points == [(TRAINED, (1,), (1.0,)), (HELD_OUT, (2,), (0.5,))]
    assert (difference.title, difference.lines) == (DIFFERENCE, ())
    assert training_panels(losses([(1, float("nan"))])) == []


def test_each_run_has_its_colour_and_is_named_once():
    """Corrupted and twin must not be taken for each other; and a twin is trained on right solutions."""
    runs = ["corrupted", "shuffled", "twin"]
    curves = pl.concat([losses([(1, 1.0), (2, 0.5), (2, None, 0.5)], run) for run in runs])
    figure = panels_figure(training_panels(curves))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [f"{run}: {what}" for run in runs for what in (TRAINED, HELD_OUT)]
    drawn = [str(line.get_color()) for axes in figure.axes for line in axes.lines if line.get_label() in labels]
    assert [drawn[i] == drawn[i + 1] for i in (0, 2, 4)] == [True] * 3
    assert len(set(drawn)) == 3
    traces = plotly_figure(training_panels(curves)).data
    assert len({(trace.name.partition(":")[0], trace.line.color) for trace in traces}) == 3
    assert len({trace.line.color for trace in traces}) == 3


def test_a_search_is_two_panels_beside_one_another_on_a_page_and_below_in_a_column():
    runs = ["variant-epochs-20", "variant-epochs-3", "corrupted", "variant-epochs-12"]
    curves = pl.concat([losses([(1, 1.0), (2, 0.5), (2, None, 0.5), (3, None, 0.6)], run) for run in runs])
    for size in style.SIZES:
        figure = panels_figure(search_panels(curves), size)
        figure.draw_without_rendering()
        trained, evaluated = (axes.get_position() for axes in figure.axes)
        assert (trained.x1 < evaluated.x0) == (size == PAGE)
        assert (trained.y0 > evaluated.y1) == (size == COLUMN)
        # Variants are in the order of their numbers.
        named = [text.get_text() for text in figure.legends[0].get_texts()]
        assert named == ["corrupted", "epochs-3", "epochs-12", "epochs-20"]
        assert [len(axes.lines) for axes in figure.axes] == [4, 4]
    only_evaluated = losses([(1, None, 0.5), (2, None, 0.6)], "variant-a")
    trained, _ = (figure := panels_figure(search_panels(only_evaluated))).axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a"]
    assert trained.texts[0].get_text() == "no loss was logged"


def test_text_is_broken_and_cut_and_tokens_are_labelled_where_there_is_room():
    assert labelled_steps([0, 1, 2, 9], [2, 1, 9, 7], pitch=0.05) == [2, 9]
    figure = heatmap_figure(many_steps(), COLUMN)
    label = figure.axes[0].get_xlabel().replace("\n", " ")
    assert "some tokens where the models disagree, of the text of layer 0" in label
    assert 5 < len(figure.axes[0].get_xticks()) < 34
    lines = style.wrapped("a few words and " + "W" * 200, TEXT, 2.0).split("\n")
    assert all(style.text_width(line, TEXT) <= 2.0 for line in lines)
    assert "".join(lines).replace(" ", "") == "afewwordsand" + "W" * 200
    short = style.wrapped("W " * 500, TEXT, 2.0, most=2).split("\n")
    assert len(short) == 2
    assert short[1].endswith("…")
    assert style.wrapped("as it is", TEXT, 2.0, most=1) == "as it is"
    # Missing glyphs are boxes.
    assert style.drawable("x 日🗾\n−é") == "x ▯▯\n−é"
    labels = {" t": "␣t", "": "(empty)", "x" * 13: "x" * 12 + "…", "\x00\x01": "⟨U+0000⟩…", "日": "▯"}
    assert {token: style.token_label(token) for token in labels} == labels
