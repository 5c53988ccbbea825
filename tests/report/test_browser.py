"""The page in a real browser: nothing is said on the console, nothing is fetched, every control does what it says."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import expect

from crosspatch.data.problem import Problem
from crosspatch.html_repr import HtmlRepr, Table
from crosspatch.patching.result import PatchResult
from crosspatch.report.comparison import ComparedRun, render_comparison
from crosspatch.report.notebook import head_map, heatmap
from crosspatch.report.page import write_report
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, CLAIMS, GENERATIONS, SCORES, SITE_EFFECTS

from .browser import launched, opened
from .conftest import CELLS, HOSTILE, generation, score

RUN = {"name": "demo", "settings": {"patch": {"layers": [0, 6]}}}


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


def place(layer, head, estimate, measure="attribution"):
    row = dict.fromkeys(SITE_EFFECTS.columns)
    return row | {
        "domain": "related",
        "patch": f"L{layer}.head.{head}",
        "component": "head",
        "layer": layer,
        "head": head,
        "direction": "corrupt",
        "positions": "all",
        "measure": measure,
        "estimate": estimate,
    }


@pytest.fixture(scope="module")
def full_page(tmp_path_factory, generations, behaviour, training) -> Path:
    """Two prompts, two directions, two kinds of components, heads, and texts with formulas."""
    problems = {
        "p": Problem("p", "related", "linear", "Solve for x: $8x = 41$", "41/8"),
        "q": Problem("q", "general", "geography", "Which sea?", ""),
    }
    repair = [score(6, step, 0.25, direction="repair") for step in range(2)]
    heads = [
        score(6, step, 0.5, head=2, component="head", patch="L6.head.2", token=token, token_id=500 + step)
        for step, token in enumerate(["so $x", "^2", "$ is", " 41"])
    ]
    other = [score(6, step, prompt_id="q", token=" sea") for step in range(3)]
    scores = SCORES.frame([*CELLS, *repair, *heads, *other])
    texts = pl.concat([generations, GENERATIONS.frame([generation("twin", r"Divide: \(\frac{41}{8}\)")])])
    domains = {name: problem.domain for name, problem in problems.items()}
    summary = Summary.of(domains, scores=scores, behaviour=behaviour)
    site_effects = SITE_EFFECTS.frame(
        [place(0, 0, 0.02), place(0, 1, -0.04), place(6, 0, 0.3, "recovered_fraction"), place(6, 1, 0.01)]
    )
    object.__setattr__(summary, "site_effects", site_effects)
    return write_report(
        tmp_path_factory.mktemp("page") / "report.html",
        title="Demo",
        run=RUN,
        problems=problems,
        scores=scores,
        generations=texts,
        behaviour=behaviour,
        training=training,
        summary=summary,
        texts={900: " 900", 100: " t0"},
    )


@pytest.fixture
def page(browser, full_page):
    with opened(browser, full_page) as found:
        yield found
        assert found.wrong == []


def test_it_opens_at_a_cell_and_tells_everything_of_it(page):
    assert page.page.title() == "Demo · crosspatch"
    said = page.text("cell")
    # The strongest of the highest layer but one: step 2 of layer 6 is its only CTS.
    assert "layer 6, step 2" in said
    for words in ("t2", "900", "CTS−0.5", "clean −1, corrupted 1, patched −2", "clean 0.25, patched – nats"):
        assert words in said
    assert page.text("row") == "layer 6"
    assert "5 of 9 cells have a CTS; in 3 both models predict the same token; in 1 they differ by" in page.text("notes")
    assert "2 CTS values lie beyond the colour range of ±1.5 (from −2.50 to 4.00), marked" in page.text("notes")


def test_the_colours_are_those_of_the_statuses(page):
    grounds = [
        page.look(*cell)[0]
        for cell in (("L6.resid_post", 0), ("L6.resid_post", 1), ("L29.resid_post", 0), ("L29.resid_post", 2))
    ]
    agree, small, warm, cold = grounds
    assert agree.startswith("rgb(211, 215, 221)")
    assert "repeating-linear-gradient" in small
    red, _, blue = map(int, re.findall(r"\d+", warm)[:3])
    assert red > blue + 60
    red, _, blue = map(int, re.findall(r"\d+", cold)[:3])
    assert blue > red + 60
    marks = [page.cell("L29.resid_post", step).inner_text() for step in range(4)]
    assert marks == ["", "▲", "▼", ""]
    # Where a text has ended there is no cell.
    assert page.cell("L0.resid_post", 3).count() == 0


def test_a_cell_under_the_pointer_is_described(page):
    tip = page.page.locator(".tip").first
    assert not tip.is_visible()
    page.cell("L29.resid_post", 1).hover()
    assert tip.is_visible()
    for words in (
        "layer 29, step 1",
        "generated ␣t1",
        "clean predicts ␣t1",
        "corrupted predicts ␣900",
        "CTS 4",
        "rank of corrupted's token 1",
    ):
        assert words in tip.inner_text()
    page.page.mouse.move(5, 5)
    assert not tip.is_visible()


def test_cells_are_made_when_they_come_into_sight(tmp_path, browser, problems):
    """A picture of many steps and rows holds those in sight; each of them can be reached."""
    scores = SCORES.frame(score(0, step, 0.5) for step in range(600))
    tall = SCORES.frame(
        score(layer, 0, 0.5, head=head, component="head", patch=f"L{layer}.head.{head}", prompt_id="p")
        for layer in range(30)
        for head in range(12)
    )
    path = write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=pl.concat([scores, tall]))
    with opened(browser, path) as page:
        cells = page.page.locator("#explorer .cells s")
        assert 0 < cells.count() < 300
        page.page.locator("#explorer .grid").focus()
        page.page.keyboard.press("End")
        page.settled()
        assert "layer 0, step 599" in page.text("cell")
        assert page.page.locator("#explorer .cells .here").bounding_box() is not None
        assert page.cell("L0.resid_post", 599).count() == 1
        assert page.cell("L0.resid_post", 0).count() == 1
        page.choose("component", "head")
        assert 0 < cells.count() < 360
        page.page.locator("#explorer .keys-of-colour").scroll_into_view_if_needed()
        page.settled()
        assert page.page.locator('#explorer .cells [data-at="0,0"]').count() == 1
        assert page.wrong == []


def test_small_numbers_are_written_with_their_power(page):
    told = [
        page.page.evaluate(f"shown({number})")
        for number in ("0.00000704", "-0.00012345", "0.0123", "-2.5", "0", "12345")
    ]
    assert told == ["7.04e−6", "−1.23e−4", "0.0123", "−2.5", "0", "12,345"]


def test_a_click_shows_the_text_of_that_layer(page):
    page.cell("L29.resid_post", 0).click()
    page.settled()
    assert page.text("row") == "layer 29"
    assert "t0 t1 t2 t3" in page.text("patched")
    tokens = page.page.locator('[data-part="patched"] .token')
    assert tokens.count() == 4
    assert "rgb" in (tokens.nth(0).get_attribute("style") or "")
    assert tokens.nth(3).get_attribute("style") is None
    assert "chosen" in tokens.nth(0).get_attribute("class")
    # It never was the clean text: the mark stands before its first token. The corrupted one parts after a word.
    assert page.page.locator('[data-part="patched"] .parting').count() == 1
    assert page.page.locator('[data-part="corrupted"] .shared').inner_text() == "Divide "
    tokens.nth(2).click()
    page.settled()
    assert "layer 29, step 2" in page.text("cell")


def test_the_keys_walk_over_the_picture(page):
    page.page.locator("#explorer .grid").focus()
    walked = []
    for key in ("ArrowUp", "Home", "n", "n", "p", "End", "ArrowDown", "ArrowDown", "PageUp", "ArrowRight"):
        page.page.keyboard.press(key)
        page.settled()
        walked.append(re.search(r"layer (\d+), step (\d+)", page.text("cell")).groups())
    # Layer 0's text ends at step 1, so walking down from step 2 of layer 6 arrives there.
    assert walked == [
        ("29", "2"), ("29", "0"), ("29", "1"), ("29", "2"), ("29", "1"), ("29", "3"),
        ("6", "2"), ("0", "1"), ("29", "1"), ("29", "2"),
    ]  # fmt: skip


def test_everything_can_be_reached_with_the_tab_key(page):
    reached = set()
    for _ in range(60):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.dataset.part ?? document.activeElement.className"))
    for control in ("prompt", "before", "after", "component", "direction", "class", "csv", "link", "grid", "formulas"):
        assert control in reached


def test_variants_are_chosen_and_the_cell_is_kept(page):
    assert page.page.locator('[data-part="persistence"]').is_disabled()
    page.choose("direction", "repair")
    assert "The clean model's activations moved into the corrupted model" in page.page.locator("#explorer").inner_text()
    assert page.text("row") == "layer 6"
    page.choose("component", "head")
    assert page.text("row") == "layer 6.2"
    # Heads were moved in one direction only.
    assert page.page.input_value('[data-part="direction"]') == "corrupt"


def test_prompts_are_turned(page):
    page.page.click('[data-part="after"]')
    page.settled()
    assert page.text("question") == "Which sea?"
    assert "None of the 3 cells has a CTS" in page.text("notes")
    page.page.click('[data-part="after"]')
    page.settled()
    assert "8x = 41" in page.text("question")
    page.choose("prompt", "1")
    page.page.click('[data-part="before"]')
    page.settled()
    assert "right answer 41/8" in page.text("facts")


def test_classes_of_tokens_are_told_apart(page):
    before = page.look("L29.resid_post", 0)
    page.choose("class", "operation")
    ground, opacity = page.look("L29.resid_post", 0)
    assert (ground, float(opacity) < 0.2) == (before[0], True)
    page.choose("class", "digit")
    # The clean model predicts " t0", which holds a digit, and nothing that is known at step 2.
    assert page.look("L29.resid_post", 0) == before
    assert float(page.look("L6.resid_post", 2)[1]) < 0.2


def saved(page, click):
    with page.page.expect_download() as waiting:
        click()
    text = waiting.value.path().read_text(encoding="utf-8-sig")
    return waiting.value.suggested_filename, list(csv.reader(io.StringIO(text)))


def test_what_is_shown_is_downloaded(page):
    name, rows = saved(page, lambda: page.page.click('[data-part="csv"]'))
    assert name == "p-resid-post-corrupt-transient-all.csv"
    assert rows[0][:5] == ["patch", "layer", "step", "position", "token"]
    assert len(rows) == 1 + len(CELLS)
    assert rows[7][:5] == ["L29.resid_post", "29", "1", "11", '" t1"']
    assert rows[7][rows[0].index("CTS")] == "4"
    page.choose("class", "digit")
    _, rows = saved(page, lambda: page.page.click('[data-part="csv"]'))
    # The cells in which the clean model predicts " t0".
    assert len(rows) == 4
    assert {row[rows[0].index("class")] for row in rows[1:]} == {"digit"}


def test_the_picture_as_a_table(page):
    page.page.click('[data-view="table"]')
    page.settled()
    assert not page.page.locator("#explorer .grid").is_visible()
    cells = page.page.locator('[data-part="cells"] tbody tr')
    assert cells.count() == len(CELLS)
    assert cells.nth(6).locator("td").nth(9).inner_text() == "4"
    assert page.page.locator('[data-part="layers"] tbody tr').count() == 3
    page.page.click('[data-view="picture"]')
    page.settled()
    assert page.page.locator("#explorer .grid").is_visible()


def test_an_address_leads_back_to_the_cell(page, browser):
    page.cell("L29.resid_post", 2).click()
    page.choose("class", "digit")
    address = page.page.evaluate("location.hash")
    assert page.page.locator('[data-part="link"]').get_attribute("href") == address
    assert "patch=L29.resid_post&step=2" in address
    path = page.page.url.split("#")[0].removeprefix("file://")
    with opened(browser, Path(path), address) as again:
        assert "layer 29, step 2" in again.text("cell")
        assert again.page.input_value('[data-part="class"]') == "digit"
        again.page.evaluate("location.hash = '#prompt=q&step=1&patch=L6.resid_post'")
        again.page.wait_for_selector("#explorer-root[data-shown=q]")
        again.settled()
        assert "layer 6, step 1" in again.text("cell")
        again.page.evaluate("location.hash = '#prompt=nowhere'")
        again.settled()
        assert "names a prompt that this report does not hold" in again.text("said")
        again.page.evaluate("location.hash = '#prompt=q&patch=L6.resid_post&step=77'")
        again.settled()
        assert "names a cell that is not there" in again.text("said")
        again.page.click('[data-part="after"]')
        again.settled()
        assert again.text("said") == ""
        assert again.wrong == []


def test_formulas_are_drawn_and_can_be_as_they_were_written(page):
    page.choose("component", "head")
    patched = page.page.locator('[data-part="patched"]')
    assert patched.locator("math msup").count() == 1
    # The formula took its tokens along; what stands around it is whole.
    words = patched.locator("bdi").text_content()
    assert words == "so x2 is 41"
    page.page.uncheck('[data-part="formulas"]')
    page.settled()
    assert patched.locator("math").count() == 0
    assert patched.locator("bdi").inner_text() == "so $x^2$ is 41"


def test_a_formula_has_the_colour_and_the_cell_of_its_strongest_token(tmp_path, browser, problems):
    words = zip(["so ", "$", "x", "^", "2", "$"], [None, None, 0.3, None, -0.9, None], strict=True)
    cells = [score(3, step, cts, token=token, token_id=700 + step) for step, (token, cts) in enumerate(words)]
    path = write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=SCORES.frame(cells))
    with opened(browser, path, "#prompt=p&patch=L3.resid_post&step=2") as page:
        formula = page.page.locator('[data-part="patched"] .formula')
        assert formula.get_attribute("title") == "CTS −0.9"
        # The chosen cell is one of its tokens, though not the strongest.
        assert "chosen" in formula.get_attribute("class")
        formula.click()
        page.settled()
        assert "layer 3, step 4" in page.text("cell")


def test_the_clean_text_parts_nowhere_from_itself(tmp_path, browser, problems):
    cells = [score(3, step, 0.5, token=token, token_id=step) for step, token in enumerate(["same", " text", "<end>"])]
    texts = [generation("clean", "same text"), generation("patched", "same text", "L3.resid_post")]
    options = {"problems": problems, "scores": SCORES.frame(cells), "generations": GENERATIONS.frame(texts)}
    with opened(browser, write_report(tmp_path / "r.html", title="t", run=RUN, **options)) as page:
        assert page.text("patched").endswith("same text<end>")
        assert page.page.locator('[data-part="patched"] .parting').count() == 0


def test_a_prompt_without_the_wanted_variant_does_not_change_the_wish(tmp_path, browser, problems):
    problems = {**problems, "q": Problem("q", "related", "f", "Another?", "1")}
    both = [score(3, 0, 0.5, direction=direction) for direction in ("corrupt", "repair")]
    scores = SCORES.frame([*both, score(3, 0, 0.5, direction="repair", prompt_id="q")])
    path = write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=scores)
    with opened(browser, path) as page:
        directions = []
        for prompt in ("0", "1", "0"):
            page.choose("prompt", prompt)
            directions.append(page.page.input_value('[data-part="direction"]'))
        assert directions == ["corrupt", "repair", "corrupt"]


def test_rested_steps_are_no_cells_where_the_models_differ(tmp_path, browser, problems):
    rested = [score(3, step, status="unscheduled") for step in (1, 2)]
    scores = SCORES.frame([score(3, 0, 0.1), *rested, score(3, 3, 0.9)])
    path = write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=scores)
    with opened(browser, path, "#prompt=p&patch=L3.resid_post&step=0") as page:
        page.page.locator("#explorer .grid").focus()
        page.page.keyboard.press("n")
        page.settled()
        assert "layer 3, step 3" in page.text("cell")


def test_a_page_that_loads_itself_anew_keeps_the_cell(tmp_path, browser, problems):
    scores = SCORES.frame([score(layer, step, 0.5) for layer in range(3) for step in range(3)])
    path = write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=scores, refresh=60)
    with opened(browser, path, clock=True) as page:
        page.page.evaluate("explorer.grid.go(2, 0)")
        page.settled()
        with page.page.expect_navigation():
            page.page.clock.fast_forward(60_000)
        page.page.wait_for_selector("#explorer-root[data-shown]")
        page.settled()
        assert "layer 2, step 0" in page.text("cell")


def test_the_texts_of_others_are_there(page):
    page.page.click("text=Other texts of this prompt")
    assert "twin" in page.page.locator('[data-part="other"]').inner_text()
    assert page.page.locator('[data-part="another"] mfrac').count() == 1


def test_the_heads_are_drawn_and_told(page):
    heads = page.page.locator("#heads")
    heads.scroll_into_view_if_needed()
    heads.locator(".grid").focus()
    page.page.keyboard.press("ArrowUp")
    page.settled()
    assert "layer 6, head 0, recovered fraction 0.3, measured" in heads.locator('[data-part="said"]').inner_text()
    assert "1 of 4 heads are measured" in heads.locator('[data-part="notes"]').inner_text()
    heads.locator("summary").click()
    assert heads.locator("tbody tr").count() == 4


def test_charts_that_nobody_came_near_are_drawn_for_whoever_prints(page):
    charts = page.page.locator(".chart").count()
    assert charts == 4
    expect(page.page.locator(".chart[data-drawn]")).to_have_count(charts, timeout=30_000)
    assert page.page.evaluate("scrollY") == 0


def test_charts_on_paper_are_as_wide_as_paper(page):
    expect(page.page.locator(".chart[data-drawn]")).to_have_count(4, timeout=30_000)
    widths = "[...document.querySelectorAll('.chart .main-svg')].map((chart) => chart.getBoundingClientRect().width)"
    assert max(page.page.evaluate(widths)) > 700
    page.page.emulate_media(media="print")
    page.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert 600 < max(page.page.evaluate(widths)) <= 641
    assert page.page.evaluate("getComputedStyle(document.body).printColorAdjust") == "exact"


def test_charts_are_drawn_and_have_tables(page):
    for name, lines in (("training-curves", 3), ("depth-0", 3), ("accuracy", 1)):
        chart = page.page.locator(f"#{name}")
        chart.scroll_into_view_if_needed()
        page.page.wait_for_selector(f"#{name}[data-drawn]")
        assert chart.locator(".scatterlayer .trace").count() >= lines
        fold = page.page.locator(f'details[data-table="{name}"]')
        fold.locator("summary").click()
        fold.locator("tbody tr").first.wait_for()
        file, rows = saved(page, fold.locator(".csv").click)
        assert file.endswith(".csv")
        assert len(rows) > 2


def test_tables_that_were_written_can_be_downloaded(page):
    name, rows = saved(page, page.page.locator("#answers .csv").first.click)
    assert name == "table-2.csv"
    assert rows[0][0] == "model"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, full_page, scheme):
    options = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme, "is_mobile": True, "has_touch": True}
    with opened(browser, full_page, **options) as phone:
        assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
        ground = phone.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(20, 23, 27)") == (scheme == "dark")
        phone.cell("L29.resid_post", 0).tap()
        phone.settled()
        assert "layer 29, step 0" in phone.text("cell")
        assert not phone.page.locator(".tip").first.is_visible()
        assert phone.wrong == []


def test_changing_to_dark_redraws(page):
    light = page.look("L6.resid_post", 0)
    page.page.emulate_media(color_scheme="dark")
    assert page.look("L6.resid_post", 0) != light


def test_an_old_browser_is_told(tmp_path, browser, problems, generations):
    path = write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, generations=generations)
    path.write_text(path.read_text().replace("<head>", "<head><script>delete window.DecompressionStream</script>"))
    with opened(browser, path, ready=False) as page:
        assert "This browser cannot unpack" in page.page.locator("main").inner_text()


# ---- what models may write


def test_hostile_output_is_text(tmp_path, browser, hostile_problems, hostile_generations):
    wild = [
        *HOSTILE,
        '"><img src=x onerror="window.ran = 1">',
        "<svg onload=alert(1)>",
        "javascript:alert(1)",
        "🗾",
        "=1+1",
    ]
    cells = [score(4, step, 0.5, token_id=step, token=text, prompt_id=HOSTILE[0]) for step, text in enumerate(wild)]
    name = '"><img src=x onerror="window.ran = 1">'
    scores = SCORES.frame(cells)
    path = write_report(
        tmp_path / "\"><img src=x onerror=alert(1)> & 'report'.html",
        title=name,
        run={name: {HOSTILE[1]: HOSTILE}, "half": "\ud800"},
        problems=hostile_problems,
        scores=scores,
        generations=hostile_generations,
    )
    with opened(browser, path) as page:
        page.page.click('[data-view="table"]')
        for fold in page.page.locator("details > summary").all():
            if fold.is_visible():
                fold.click()
        page.settled()
        page.page.click('[data-view="picture"]')
        for step in range(len(wild)):
            page.cell(page.page.evaluate("explorer.picture.rows[0].patch"), step).hover()
        page.settled()
        patched = page.text("patched")
        for words in (
            "</script><script>alert(1)</script>",
            "<svg onload=alert(1)>",
            '"><img src=x',
            "⟨U+202E⟩",
            "⟨U+0000⟩",
            "🗾",
        ):
            assert words in patched
        assert "x" * 10_000 in patched
        assert name in page.page.locator("h1").inner_text()
        wild_elements = "img, iframe, object, embed, script[src], [onload], [onerror], a[href^=javascript]"
        assert page.page.locator(wild_elements).count() == 0
        assert page.page.evaluate("window.ran") is None
        assert page.page.evaluate("document.documentElement.scrollWidth") == 1400
        named, rows = saved(page, lambda: page.page.click('[data-part="csv"]'))
        assert re.fullmatch(r"[A-Za-z0-9-]{1,120}\.csv", named)
        # Quoted, so that no spreadsheet runs it.
        assert rows[1 + wild.index("=1+1")][4] == '"=1+1"'
        assert page.wrong == []


def test_hostile_names_of_compared_runs_are_text(tmp_path, browser, scores):
    wild = '"><img src=x onerror="window.ran = 1"></script><script>alert(1)</script>'
    summary = Summary.of({"p": "related"}, scores=scores)
    claims = CLAIMS.frame(claim.row() for claim in summary.claims)
    runs = [
        ComparedRun(
            name, {"settings": {"name": wild, wild: name}}, summary.depth, claims, BEHAVIOUR.frame(), 30, "a.html"
        )
        for name in (wild, "\u202eplain")
    ]
    path = tmp_path / "report.html"
    path.write_text(render_comparison(runs, wild))
    with opened(browser, path) as page:
        page.page.locator("#recovered-fraction-0").scroll_into_view_if_needed()
        page.page.wait_for_selector("#recovered-fraction-0[data-drawn]")
        page.page.locator('details[data-table="recovered-fraction-0"] summary').click()
        page.page.locator("details[data-table] tbody tr").first.wait_for()
        assert wild in page.page.locator("h1").inner_text()
        assert "⟨U+202E⟩plain" in page.page.locator(".runs").inner_text()
        assert page.page.locator("img, script[src], [onerror]").count() == 0
        assert page.page.evaluate("window.ran") is None
        assert page.page.evaluate("document.documentElement.scrollWidth") == 1400
        assert page.wrong == []


def test_the_notebook_view_of_hostile_things_is_text(tmp_path, browser, hostile_scores, hostile_generations):
    """Cards and pictures as a notebook puts them into its page, which has no policy of its own."""
    wild = '"><img src=x onerror="window.ran = 1"></script><script>alert(1)</script>'
    unreadable = "\ud800\u202e\x00🗾" + "x" * 10_000
    result = PatchResult(
        hostile_scores.with_columns(prompt_id=pl.lit(wild)), hostile_generations.with_columns(prompt_id=pl.lit(wild))
    )
    rows = [(wild, wild), (unreadable, unreadable)]
    card = HtmlRepr(wild, rows, [Table((wild, "x"), rows, wild, wild)], [wild, unreadable])
    shown = f"{result._repr_html_()}{card.html}{heatmap(result)._repr_html_()}"
    path = tmp_path / "notebook.html"
    path.write_text(f"<meta charset=utf-8>{shown}", encoding="utf-8", errors="replace")
    with opened(browser, path) as page:
        frame = page.page.frames[1]
        page.page.locator("iframe").scroll_into_view_if_needed()
        frame.wait_for_selector("#explorer-root[data-shown]")
        frame.locator(".grid").scroll_into_view_if_needed()
        box = page.page.locator("iframe").bounding_box()
        for step in range(hostile_scores.height):
            frame.locator(f'[data-at="0,{step}"]').hover()
            frame.wait_for_selector(f".tip:visible:has-text('step {step}')")
        assert box["height"] > 500
        assert frame.evaluate(
            "(() => { try { return parent.document.title; } catch (error) { return error.name; } })()"
        ) == ("SecurityError")
        # An address in the frame would be the notebook's.
        assert not frame.locator('[data-part="link"]').is_visible()
        _, rows = saved(page, lambda: frame.click('[data-part="csv"]'))
        assert len(rows) == 1 + hostile_scores.height
        assert wild in page.page.locator("body").inner_text()
        assert wild in frame.locator("body").inner_text()
        assert "⟨U+D800⟩⟨U+202E⟩⟨U+0000⟩🗾xxx" in page.page.locator("body").inner_text()
        assert page.page.locator("img, [onerror]").count() == 0
        assert page.page.locator("iframe").count() == 1
        for each in (page.page, frame):
            assert each.locator("img, iframe iframe, [onerror]").count() == 0
            assert each.evaluate("window.ran") is None
        assert page.wrong == []


def test_heads_in_a_notebook_are_drawn_and_told(tmp_path, browser):
    path = head_map(SITE_EFFECTS.frame([place(0, 0, 0.02), place(6, 1, 0.3, "recovered_fraction")])).write_html(
        tmp_path / "heads.html"
    )
    with opened(browser, path) as page:
        page.page.locator(".grid").focus()
        page.page.keyboard.press("ArrowUp")
        page.settled()
        assert (
            "layer 6, head 1, recovered fraction 0.3, measured" in page.page.locator('[data-part="said"]').inner_text()
        )
        assert page.wrong == []


# ---- runs of which there is little


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([score(3, 0), score(3, 1)], "None of the 2 cells has a CTS"),
        ([score(3, 0, 0.5)], "1 of 1 cells have a CTS"),
        ([score(layer, 0, 0.5) for layer in range(4)], "4 of 4 cells have a CTS"),
        ([score(3, step, 0.5) for step in range(4)], "4 of 4 cells have a CTS"),
        ([score(3, 0, status="unscheduled"), score(3, 1, 0.5)], "in 1 nothing was patched"),
    ],
    ids=["no defined cell", "one cell", "one step", "one layer", "a schedule"],
)
def test_a_run_with_little_in_it_still_gives_a_page(tmp_path, browser, problems, cells, said):
    path = write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=SCORES.frame(cells))
    with opened(browser, path) as page:
        assert said in page.text("notes")
        assert "No text." in page.text("clean")
        assert page.wrong == []


def test_a_run_without_scores_shows_its_texts(tmp_path, browser, problems, generations):
    path = write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, generations=generations)
    with opened(browser, path) as page:
        assert "This prompt has no scores" in page.text("none")
        assert "Divide by 8. x = 5" in page.text("clean")
        assert not page.page.locator("#explorer .grid").is_visible()
        assert page.wrong == []


def test_a_run_that_is_half_done_says_so(tmp_path, browser, scores, problems):
    run = {**RUN, "stages": {"data": {"state": "done"}, "patch": {"state": "running", "at": "noon"}}}
    path = write_report(tmp_path / "r.html", title="t", run=run, problems=problems, scores=scores)
    with opened(browser, path) as page:
        said = page.page.locator("header").inner_text()
        assert "This run is not finished." in said
        assert "patch is running (since noon)" in said
        assert "data is" not in said
        assert "5 of 9 cells" in page.text("notes")
        assert page.wrong == []


def test_a_run_that_has_not_begun_says_so(tmp_path, browser):
    with opened(browser, write_report(tmp_path / "r.html", title="t", run=RUN, problems={})) as page:
        assert "No prompt was patched or answered in this run." in page.page.locator("#explorer").inner_text()
        assert page.wrong == []


def test_the_watch_notices_what_is_wrong(tmp_path, browser):
    """The negative control: a page that errs, fetches and asks is caught."""
    bad = tmp_path / "bad.html"
    bad.write_text("<script>alert(1); fetch('http://127.0.0.1:9/x').catch(() => {}); nowhere();</script>")
    with opened(browser, bad) as page:
        page.page.wait_for_timeout(200)
        assert any(wrong.startswith("dialog: 1") for wrong in page.wrong)
        assert any("nowhere" in wrong for wrong in page.wrong)
        assert "http://127.0.0.1:9/x" in page.wrong
