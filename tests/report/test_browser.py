"""The page in a real browser: nothing on the console, no request, and every control does what it says."""

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Browser, ElementHandle, Page, expect, sync_playwright

from crosspatch.data.problem import Problem
from crosspatch.html_repr import HtmlRepr, Table
from crosspatch.patching.result import PatchResult
from crosspatch.report.comparison import ComparedRun, render_comparison
from crosspatch.report.notebook import head_map, heatmap
from crosspatch.report.page import write_report
from crosspatch.statistics.claim import Claim
from crosspatch.statistics.interval import Interval
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, CLAIMS, GENERATIONS, SCORES, SITE_EFFECTS
from html_reader import HOSTILE

from .conftest import CELLS, GENERATED, HOSTILE_RUN, PROBLEMS, RUN, SCORED, generation, score, site_effect

WILD = '"><img src=x onerror="window.ran = 1"></script><script>alert(1)</script>'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The browser's own requests are none of the page's.
QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; the tests are skipped where it is not installed."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET.split(), "--disable-sync", *root])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page with what went wrong on it."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def cell(self, patch: str, step: int) -> ElementHandle:
        """A cell of the explorer's picture, brought into sight; without a class where the picture has no cell."""
        self.settled()
        self.page.locator("#explorer .grid").scroll_into_view_if_needed()
        found = self.page.evaluate_handle(
            """async ([patch, step]) => {
                const { grid, picture, first } = explorer, rows = picture.rows.length;
                const r = picture.rows.findIndex((row) => row.patch === patch), c = step - first;
                const [low, from] = [r, c].map((at) => at - at % TILE), key = `${low / TILE},${from / TILE}`;
                grid.reveal(c);
                while (!grid.tiles.has(key)) await new Promise(requestAnimationFrame);
                const high = Math.min(low + TILE, rows) - 1, wide = Math.min(TILE, grid.model.columns - from);
                return grid.tiles.get(key).children[(high - r) * wide + c - from];
            }""",
            [patch, step],
        ).as_element()
        assert found is not None
        return found

    def look(self, patch: str, step: int) -> tuple[str, float]:
        """The ground of a cell and how opaque it is."""
        style = "(cell) => { const look = getComputedStyle(cell); return [look.background, look.opacity]; }"
        ground, opacity = self.cell(patch, step).evaluate(style)
        return ground, float(opacity)

    def text(self, part: str) -> str:
        self.settled()
        return self.page.locator(f'#explorer [data-part="{part}"]').text_content() or ""

    def choose(self, part: str, value: str) -> None:
        """Choose from a list of the explorer, and wait until it is drawn."""
        self.page.select_option(f'#explorer [data-part="{part}"]', value)
        self.settled()

    def click(self, selector: str) -> None:
        self.page.click(selector)
        self.settled()

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.settled()

    def go(self, address: str) -> None:
        self.page.evaluate(f"location.hash = '#{address}'")

    def harmless(self, frames: int = 1) -> None:
        """Asserts that hostile text made no element and ran nothing."""
        wild = "img, object, embed, script[src], [onload], [onerror], a[href^=javascript]"
        assert len(self.page.frames) == frames
        for frame in self.page.frames:
            assert frame.locator(wild).count() == 0
            assert frame.evaluate("window.ran") is None

    def settled(self) -> None:
        """Wait until what was asked for is unpacked and drawn."""
        self.page.evaluate(
            """async () => {
                await Promise.allSettled(window.explorer?.parts?.values() ?? []);
                const frame = () => new Promise(requestAnimationFrame);
                do { await frame(); await frame(); } while (window.explorer?.grid?.asked);
            }"""
        )


@contextmanager
def opened(browser: Browser, path: Path, fragment: str = "", **options: Any) -> Iterator[Opened]:
    """A page with its explorer ready; nothing may be wrong on it at the end but what a test takes out of `wrong`."""
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
    found = Opened(context.new_page())
    page, wrong = found.page, found.wrong
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(("file:", "blob:", "data:")) or wrong.append(request.url))
    page.goto(path.as_uri() + fragment)
    if page.evaluate("'DecompressionStream' in window") and page.locator("#explorer-root").count():
        page.wait_for_selector("#explorer-root[data-shown]")
    found.settled()
    yield found
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def one_page(browser, full_page):
    with opened(browser, full_page) as found:
        yield found


@pytest.fixture
def page(one_page):
    """The full page as it opens: one page for the tests that leave it open."""
    one_page.emulate_media(color_scheme="light")
    one_page.check('[data-part="formulas"]')
    one_page.click('[data-view="picture"]')
    one_page.evaluate("explorer.open(0, { variant: null, row: null, step: null, kind: '' })")
    one_page.settled()
    yield one_page
    assert one_page.wrong == []


def cases(tmp_path: Path, prompts: dict[str, list[dict]], **more) -> Path:
    """A page with a prompt for each case."""
    problems = {name: Problem(name, "related", "f", name, "1") for name in prompts}
    scores = SCORES.frame(row | {"prompt_id": name} for name, rows in prompts.items() for row in rows)
    return write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=scores, **more)


def test_it_opens_at_a_cell_tells_everything_of_it_and_draws_all(page):
    assert page.title() == "Demo · crosspatch"
    said = page.text("cell")
    # The strongest of the highest layer but one: step 2 of layer 6 is its only CTS.
    assert "layer 6, step 2" in said
    for words in ("t2", "900", "CTS−0.5", "clean −1, corrupted 1, patched −2", "clean 0.25, patched – nats"):
        assert words in said
    assert page.text("row") == "layer 6"
    assert "5 of 9 cells have a CTS; in 3 both models predict the same token; in 1 they differ by" in page.text("notes")
    assert "2 CTS values lie beyond the colour range of ±1.5 (from −2.50 to 4.00), marked" in page.text("notes")
    numbers = ("0.00000704", "-0.00012345", "0.0123", "-2.5", "0", "12345")
    assert [page.evaluate(f"shown({number})") for number in numbers] == [
        "7.04e−6", "−1.23e−4", "0.0123", "−2.5", "0", "12,345",
    ]  # fmt: skip
    # The colours are those of the statuses, in light and dark.
    cells = (("L6.resid_post", 0), ("L6.resid_post", 1), ("L29.resid_post", 0), ("L29.resid_post", 2))
    agree, small, warm, cold = (page.look(*cell)[0] for cell in cells)
    assert agree.startswith("rgb(211, 215, 221)")
    assert "repeating-linear-gradient" in small
    for ground, sign in ((warm, 1), (cold, -1)):
        red, _, blue = map(int, re.findall(r"\d+", ground)[:3])
        assert sign * (red - blue) > 60
    assert [page.cell("L29.resid_post", step).inner_text() for step in range(4)] == ["", "▲", "▼", ""]
    # Where a text has ended there is no cell.
    assert page.cell("L0.resid_post", 3).get_attribute("class") is None
    page.emulate_media(color_scheme="dark")
    assert page.look("L6.resid_post", 0)[0] != agree


def test_a_cell_under_the_pointer_is_described_and_a_click_shows_the_text_of_its_layer(page):
    tip = page.locator(".tip").first
    assert not tip.is_visible()
    page.cell("L29.resid_post", 1).hover()
    assert tip.is_visible()
    predicted = ("generated ␣t1", "clean predicts ␣t1", "corrupted predicts ␣900", "rank of corrupted's token 1")
    for words in ("layer 29, step 1", "CTS 4", *predicted):
        assert words in tip.inner_text()
    page.mouse.move(5, 5)
    assert not tip.is_visible()
    page.cell("L29.resid_post", 0).click()
    assert page.text("row") == "layer 29"
    assert "t0 t1 t2 t3" in page.text("patched")
    tokens = page.locator('[data-part="patched"] .token')
    assert tokens.count() == 4
    assert "rgb" in (tokens.nth(0).get_attribute("style") or "")
    assert tokens.nth(3).get_attribute("style") is None
    assert "chosen" in tokens.nth(0).get_attribute("class")
    # It never was the clean text: the mark stands before its first token. The corrupted one parts after a word.
    assert page.locator('[data-part="patched"] .parting').count() == 1
    assert page.locator('[data-part="corrupted"] .shared').inner_text() == "Divide "
    tokens.nth(2).click()
    assert "layer 29, step 2" in page.text("cell")


def test_the_keyboard_reaches_every_control_and_every_cell(page):
    page.locator("#explorer .grid").focus()
    walked = []
    for key in ("ArrowUp", "Home", "n", "n", "p", "End", "ArrowDown", "ArrowDown", "PageUp", "ArrowRight"):
        page.press(key)
        walked.append(re.search(r"layer (\d+), step (\d+)", page.text("cell")).groups())
    # Layer 0's text ends at step 1, so walking down from step 2 of layer 6 arrives there.
    assert walked == [
        ("29", "2"), ("29", "0"), ("29", "1"), ("29", "2"), ("29", "1"), ("29", "3"),
        ("6", "2"), ("0", "1"), ("29", "1"), ("29", "2"),
    ]  # fmt: skip
    reached = set()
    # From the top of the page, where the explorer is.
    page.locator("nav a").first.focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.part ?? document.activeElement.className"))
    controls = {"prompt", "before", "after", "component", "direction", "class", "csv", "link", "grid", "formulas"}
    assert controls <= reached


def test_modes_prompts_and_classes_are_chosen_and_the_cell_is_kept(page):
    assert page.locator('[data-part="persistence"]').is_disabled()
    page.choose("direction", "repair")
    assert "The clean model's activations patched into the corrupted model" in page.locator("#explorer").inner_text()
    assert page.text("row") == "layer 6"
    page.choose("component", "head")
    assert page.text("row") == "layer 6.2"
    # Heads were patched in one direction only.
    assert page.input_value('[data-part="direction"]') == "corrupt"

    def turned(button: str) -> str:
        page.click(f'[data-part="{button}"]')
        return page.text("question")

    assert turned("after") == "Which sea?"
    assert "None of the 3 cells has a CTS" in page.text("notes")
    assert "8x = 41" in turned("after")
    page.choose("prompt", "1")
    assert "8x = 41" in turned("before")
    assert "right answer 41/8" in page.text("facts")

    page.choose("component", "resid_post")
    before = page.look("L29.resid_post", 0)
    page.choose("class", "operation")
    ground, opacity = page.look("L29.resid_post", 0)
    assert (ground, opacity < 0.2) == (before[0], True)
    page.choose("class", "digit")
    # The clean model predicts " t0", which holds a digit, and nothing that is known at step 2.
    assert page.look("L29.resid_post", 0) == before
    assert page.look("L6.resid_post", 2)[1] < 0.2


def saved(page, click):
    with page.expect_download() as waiting:
        click()
    text = waiting.value.path().read_text(encoding="utf-8-sig")
    return waiting.value.suggested_filename, list(csv.reader(io.StringIO(text)))


def test_what_is_shown_is_a_table_and_a_download(page):
    name, rows = saved(page, lambda: page.click('[data-part="csv"]'))
    assert name == "p-resid-post-corrupt-transient-all.csv"
    assert rows[0][:5] == ["patch", "layer", "step", "position", "token"]
    assert len(rows) == 1 + len(CELLS)
    assert rows[7][:5] == ["L29.resid_post", "29", "1", "11", '" t1"']
    assert rows[7][rows[0].index("CTS")] == "4"
    page.click('[data-view="table"]')
    assert not page.locator("#explorer .grid").is_visible()
    cells = page.locator('[data-part="cells"] tbody tr')
    assert cells.count() == len(CELLS)
    assert cells.nth(6).locator("td").nth(9).inner_text() == "4"
    assert page.locator('[data-part="layers"] tbody tr').count() == 3
    page.click('[data-view="picture"]')
    assert page.locator("#explorer .grid").is_visible()
    page.choose("class", "digit")
    _, rows = saved(page, lambda: page.click('[data-part="csv"]'))
    # The cells in which the clean model predicts " t0".
    assert len(rows) == 4
    assert {row[rows[0].index("class")] for row in rows[1:]} == {"digit"}
    name, rows = saved(page, page.locator("#answers .csv").first.click)
    assert (name, rows[0][0]) == ("table-2.csv", "model")


def test_an_address_leads_back_to_the_cell(page, browser, full_page):
    page.cell("L29.resid_post", 2).click()
    page.choose("class", "digit")
    address = page.evaluate("location.hash")
    assert page.locator('[data-part="link"]').get_attribute("href") == address
    assert "patch=L29.resid_post&step=2" in address
    with opened(browser, full_page, address) as again:
        assert "layer 29, step 2" in again.text("cell")
        assert again.input_value('[data-part="class"]') == "digit"
        again.go("prompt=q&step=1&patch=L6.resid_post")
        again.wait_for_selector("#explorer-root[data-shown=q]")
        assert "layer 6, step 1" in again.text("cell")
        wrong = {
            "nowhere": "a prompt that is not in this report",
            "q&patch=L6.resid_post&step=77": "a cell that is not there",
        }
        for address, said in wrong.items():
            again.go(f"prompt={address}")
            assert f"names {said}" in again.text("said")
        again.click('[data-part="after"]')
        assert again.text("said") == ""


def test_formulas_are_drawn_and_can_be_as_they_were_written(page):
    page.choose("component", "head")
    patched = page.locator('[data-part="patched"]')
    assert patched.locator("math msup").count() == 1
    # The formula took its tokens along; what stands around it is whole.
    assert patched.locator("bdi").text_content() == "so x2 is 41"
    page.uncheck('[data-part="formulas"]')
    page.settled()
    assert patched.locator("math").count() == 0
    assert patched.locator("bdi").inner_text() == "so $x^2$ is 41"
    page.check('[data-part="formulas"]')
    page.click("text=Other texts of this prompt")
    assert "twin" in page.locator('[data-part="other"]').inner_text()
    assert page.locator('[data-part="another"] mfrac').count() == 1


def test_texts_modes_and_schedules_of_special_prompts(tmp_path, browser):
    written = zip(["so ", "$", "x", "^", "2", "$"], [None, None, 0.3, None, -0.9, None], strict=True)
    same = enumerate(["same", " text", "<end>"])
    prompts = {
        "formula": [score(3, step, cts, token=token, token_id=700 + step) for step, (token, cts) in enumerate(written)],
        "same": [score(3, step, 0.5, token=token, token_id=step) for step, token in same],
        "both": [score(3, 0, 0.5, direction=direction) for direction in ("corrupt", "repair")],
        "one": [score(3, 0, 0.5, direction="repair")],
        "scheduled": [score(3, 0, 0.1), *(score(3, step, status="unscheduled") for step in (1, 2)), score(3, 3, 0.9)],
    }
    texts = [generation("clean", "same text", prompt_id="same")]
    texts += [generation("patched", "same text", "L3.resid_post", prompt_id="same")]
    path = cases(tmp_path, prompts, generations=GENERATIONS.frame(texts))
    with opened(browser, path, "#prompt=formula&patch=L3.resid_post&step=2") as page:
        # A formula has the colour and the cell of its strongest token; the chosen cell is another one of its tokens.
        formula = page.locator('[data-part="patched"] .formula')
        assert formula.get_attribute("title") == "CTS −0.9"
        assert "chosen" in formula.get_attribute("class")
        formula.click()
        assert "layer 3, step 4" in page.text("cell")
        # The clean text parts nowhere from itself.
        page.choose("prompt", "1")
        assert page.text("patched").endswith("same text<end>")
        assert page.locator('[data-part="patched"] .parting').count() == 0
        # A prompt that lacks the chosen mode doesn't change the choice.
        directions = []
        for prompt in ("2", "3", "2"):
            page.choose("prompt", prompt)
            directions.append(page.input_value('[data-part="direction"]'))
        assert directions == ["corrupt", "repair", "corrupt"]
        # Steps that were not patched are no cells where the models differ.
        page.go("prompt=scheduled&patch=L3.resid_post&step=0")
        assert "in 2 nothing was patched" in page.text("notes")
        page.locator("#explorer .grid").focus()
        page.press("n")
        assert "layer 3, step 3" in page.text("cell")


def test_cells_are_made_when_they_come_into_sight(tmp_path, browser):
    """A picture of many steps and rows holds those in sight; each of them can be reached."""
    heads = [(layer, head) for layer in range(30) for head in range(12)]
    tall = [score(layer, 0, 0.5, head=head, component="head", patch=f"L{layer}.head.{head}") for layer, head in heads]
    with opened(browser, cases(tmp_path, {"p": [*(score(0, step, 0.5) for step in range(600)), *tall]})) as page:
        cells = page.locator("#explorer .tile s")
        assert 0 < cells.count() < 300
        page.locator("#explorer .grid").focus()
        page.press("End")
        assert "layer 0, step 599" in page.text("cell")
        assert page.locator("#explorer .cells .here").bounding_box() is not None
        for step in (599, 0):
            page.cell("L0.resid_post", step).hover()
            assert f"step {step}" in page.locator(".tip").first.inner_text()
        page.choose("component", "head")
        assert 0 < cells.count() < 360
        page.locator("#explorer .keys-of-colour").scroll_into_view_if_needed()
        page.cell("L0.head.0", 0).hover()
        assert "layer 0.0, step 0" in page.locator(".tip").first.inner_text()


def test_a_page_that_loads_itself_anew_keeps_the_cell_and_says_what_is_unfinished(tmp_path, browser):
    run = {**RUN, "stages": {"data": {"state": "done"}, "patch": {"state": "running", "at": "noon"}}}
    path = write_report(tmp_path / "r.html", title="t", run=run, problems=PROBLEMS, scores=SCORED, refresh=60)
    with opened(browser, path) as page:
        # From its next load on, the test turns the page's clock.
        page.clock.install()
        page.reload()
        page.wait_for_selector("#explorer-root[data-shown]")
        said = page.locator("header").inner_text()
        assert "patch is running (since noon)" in said
        assert "data is" not in said
        assert "5 of 9 cells" in page.text("notes")
        page.evaluate("explorer.grid.go(2, 0)")
        page.settled()
        with page.expect_navigation():
            page.clock.fast_forward(60_000)
        page.wait_for_selector("#explorer-root[data-shown]")
        assert "layer 29, step 0" in page.text("cell")


def test_the_heads_are_drawn_and_told(page, browser, tmp_path):
    effects = [site_effect(0, 0, 0.02), site_effect(6, 1, 0.3, "recovered_fraction")]
    alone = head_map(SITE_EFFECTS.frame(effects)).write_html(tmp_path / "heads.html")
    with opened(browser, alone) as notebook:
        for each, head in ((page, 0), (notebook, 1)):
            heads = each.locator("#heads")
            heads.scroll_into_view_if_needed()
            heads.locator(".grid").focus()
            each.press("ArrowUp")
            said = heads.locator('[data-part="said"]').inner_text()
            assert f"layer 6, head {head}, recovered fraction 0.3, measured" in said
    heads = page.locator("#heads")
    assert "1 of 4 heads are measured" in heads.locator('[data-part="notes"]').inner_text()
    heads.locator("summary").click()
    assert heads.locator("tbody tr").count() == 4


def test_charts_are_drawn_have_tables_and_fit_on_paper(browser, full_page):
    with opened(browser, full_page) as page:
        # Charts that nobody scrolled to are drawn too, so they can be printed.
        charts = page.locator(".chart").count()
        assert charts == 4
        expect(page.locator(".chart[data-drawn]")).to_have_count(charts, timeout=30_000)
        assert page.evaluate("scrollY") == 0
        for name, lines in (("training-curves", 3), ("depth-0", 3), ("accuracy", 1)):
            assert page.locator(f"#{name} .scatterlayer .trace").count() >= lines
            fold = page.locator(f'details[data-table="{name}"]')
            fold.locator("summary").click()
            fold.locator("tbody tr").first.wait_for()
            file, rows = saved(page, fold.locator(".csv").click)
            assert file.endswith(".csv")
            assert len(rows) > 2
            assert rows[0][:2] + rows[0][3:] == ["panel", "line", "value", "low", "high"]
            if name == "depth-0":
                assert ["Related mathematics: 1 prompt with a CTS", "mean CTS", "0", "0.125", "", ""] in rows
        widths = "Array.from(document.querySelectorAll('.chart .main-svg'), (x) => x.getBoundingClientRect().width)"
        assert max(page.evaluate(widths)) > 700
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert 600 < max(page.evaluate(widths)) <= 641
        assert page.evaluate("getComputedStyle(document.body).printColorAdjust") == "exact"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, full_page, scheme):
    options = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme, "is_mobile": True, "has_touch": True}
    with opened(browser, full_page, **options) as phone:
        assert phone.evaluate("document.documentElement.scrollWidth") == 390
        ground = phone.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(20, 23, 27)") == (scheme == "dark")
        # It opens at the highest CTS below the last layer.
        assert "layer 6, step 2" in phone.text("cell")
        phone.cell("L29.resid_post", 0).tap()
        assert "layer 29, step 0" in phone.text("cell")
        assert not phone.locator(".tip").first.is_visible()


def test_hostile_output_is_text(tmp_path, browser):
    wild = [*HOSTILE, WILD, "<svg onload=alert(1)>", "javascript:alert(1)", "🗾", "=1+1"]
    cells = [score(4, step, 0.5, token_id=step, token=text, prompt_id=HOSTILE[0]) for step, text in enumerate(wild)]
    path = write_report(
        tmp_path / "\"><img src=x onerror=alert(1)> & 'report'.html",
        title=WILD,
        run={WILD: {HOSTILE[1]: HOSTILE}, "half": "\ud800"},
        **(HOSTILE_RUN | {"scores": SCORES.frame(cells)}),
    )
    with opened(browser, path) as page:
        page.click('[data-view="table"]')
        for fold in page.locator("details > summary").all():
            if fold.is_visible():
                fold.click()
        page.settled()
        page.click('[data-view="picture"]')
        for step in range(len(wild)):
            page.cell(page.evaluate("explorer.picture.rows[0].patch"), step).hover()
        patched = page.text("patched")
        for words in (HOSTILE[0], WILD, "<svg onload=alert(1)>", "⟨U+202E⟩", "⟨U+0000⟩", "🗾", "x" * 10_000):
            assert words in patched
        assert WILD in page.locator("h1").inner_text()
        page.harmless()
        assert page.evaluate("document.documentElement.scrollWidth") == 1400
        named, rows = saved(page, lambda: page.click('[data-part="csv"]'))
        assert re.fullmatch(r"[A-Za-z0-9-]{1,120}\.csv", named)
        # Quoted, so that no spreadsheet runs it.
        assert rows[1 + wild.index("=1+1")][4] == '"=1+1"'


def test_hostile_names_of_compared_runs_are_text(tmp_path, browser):
    summary = Summary.of({"p": "related"}, scores=SCORED)
    frames = (summary.depth, CLAIMS.frame(claim.row() for claim in summary.claims), BEHAVIOUR.frame())
    names = (WILD, "\u202eplain")
    runs = [ComparedRun(name, {"settings": {"name": WILD, WILD: name}}, *frames, 30, "a.html") for name in names]
    path = tmp_path / "report.html"
    path.write_text(render_comparison(runs, WILD))
    with opened(browser, path) as page:
        page.locator("#recovered-fraction-0").scroll_into_view_if_needed()
        page.wait_for_selector("#recovered-fraction-0[data-drawn]")
        page.locator('details[data-table="recovered-fraction-0"] summary').click()
        page.locator("details[data-table] tbody tr").first.wait_for()
        assert WILD in page.locator("h1").inner_text()
        assert "⟨U+202E⟩plain" in page.locator(".runs").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") == 1400
        page.harmless()


def test_the_notebook_view_of_hostile_things_is_text(tmp_path, browser):
    """Cards and pictures as a notebook puts them into its page, which has no policy of its own."""
    unreadable = "\ud800\u202e\x00🗾" + "x" * 10_000
    result = PatchResult(*(HOSTILE_RUN[key].with_columns(prompt_id=pl.lit(WILD)) for key in ("scores", "generations")))
    rows = [(WILD, WILD), (unreadable, unreadable)]
    card = HtmlRepr(WILD, rows, [Table((WILD, "x"), rows, WILD, WILD)], [WILD, unreadable])
    shown = f"{result._repr_html_()}{card.html}{heatmap(result)._repr_html_()}"
    path = tmp_path / "notebook.html"
    path.write_text(f"<meta charset=utf-8>{shown}", encoding="utf-8", errors="replace")
    with opened(browser, path) as page:
        frame = page.frames[1]
        page.locator("iframe").scroll_into_view_if_needed()
        frame.wait_for_selector("#explorer-root[data-shown]")
        frame.locator(".grid").scroll_into_view_if_needed()
        assert page.locator("iframe").bounding_box()["height"] > 500
        for step in range(len(HOSTILE)):
            frame.locator(".tile s").nth(step).hover()
            frame.wait_for_selector(f".tip:visible:has-text('step {step}')")
        reached = "(() => { try { return parent.document.title; } catch (error) { return error.name; } })()"
        assert frame.evaluate(reached) == "SecurityError"
        # An address in the frame would be the notebook's.
        assert not frame.locator('[data-part="link"]').is_visible()
        _, rows = saved(page, lambda: frame.click('[data-part="csv"]'))
        assert len(rows) == 1 + len(HOSTILE)
        assert "⟨U+D800⟩⟨U+202E⟩⟨U+0000⟩🗾xxx" in page.locator("body").inner_text()
        assert page.locator("iframe").count() == 1
        for each in (page.page, frame):
            assert WILD in each.locator("body").inner_text()
        page.harmless(2)


def test_a_run_with_little_in_it_still_gives_a_page(tmp_path, browser):
    prompts = {
        "None of the 2 cells has a CTS": [score(3, 0), score(3, 1)],
        "1 of 1 cells have a CTS": [score(3, 0, 0.5)],
        "4 of 4 cells have a CTS": [score(layer, 0, 0.5) for layer in range(4)],
        "1 of 2 cells have a CTS; in 1 nothing was patched": [score(3, 0, status="unscheduled"), score(3, 1, 0.5)],
        "3 of 3 cells have a CTS": [score(3, step, 0.5) for step in range(3)],
    }
    undefined, *_ = prompts
    with opened(browser, cases(tmp_path, {undefined: prompts[undefined]})) as page:
        assert undefined in page.text("notes")
    sure, wide = Interval(0.9, 0.8, 1.0), Interval(0.9, -0.8, 1.0)
    claims = [Claim("a", "is open", wide, "random", wide), Claim("b", "is shown", sure, "random", wide)]
    path = cases(tmp_path, prompts, summary=replace(Summary.of({}), claims=claims))
    with opened(browser, path) as page:
        # The picture and the texts of the prompt with the most CTS come first; a fold holds undecided claims.
        assert page.text("question") == "4 of 4 cells have a CTS"
        tops = [page.locator(place).bounding_box()["y"] for place in (".grid", "#explorer .answers", "#claims")]
        assert 0 < tops[0] < tops[1] < 800 < tops[2]
        order = page.evaluate("[...document.querySelectorAll('section')].map((section) => section.id)")
        assert order == ["explorer", "claims", "answers", "depth", "tokens", "training", "run"]
        assert page.evaluate("[...document.querySelectorAll('nav a')].map((a) => a.hash.slice(1))") == order
        assert page.get_by_text("is shown").is_visible()
        assert not page.get_by_text("is open").is_visible()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.get_by_text("is open").is_visible()
        for place, said in enumerate(prompts):
            page.choose("prompt", str(place))
            assert said in page.text("notes")
            assert "No text." in page.text("clean")
    nothing = write_report(tmp_path / "r.html", title="t", run=RUN, problems={})
    with opened(browser, nothing) as page:
        assert "No prompt was patched or answered in this run." in page.locator("#explorer").inner_text()
    unscored = write_report(tmp_path / "r.html", title="t", run=RUN, problems=PROBLEMS, generations=GENERATED)
    with opened(browser, unscored) as page:
        assert "This prompt has no scores" in page.text("none")
        assert "Divide by 8. x = 5" in page.text("clean")
        assert not page.locator("#explorer .grid").is_visible()
    old_browser = "<head><script>delete window.DecompressionStream</script>"
    unscored.write_text(unscored.read_text().replace("<head>", old_browser))
    with opened(browser, unscored) as page:
        assert "This browser cannot unpack" in page.locator("main").inner_text()
        assert any("DecompressionStream" in wrong for wrong in page.wrong)
        page.wrong.clear()


def test_the_watch_notices_what_is_wrong(tmp_path, browser):
    """The negative control: a page that errs, fetches and asks is caught."""
    bad = tmp_path / "bad.html"
    bad.write_text("<script>alert(1); fetch('http://127.0.0.1:9/x').catch(() => {}); nowhere();</script>")
    with opened(browser, bad) as page:
        page.wait_for_timeout(200)
        assert any(wrong.startswith("dialog: 1") for wrong in page.wrong)
        assert any("nowhere" in wrong for wrong in page.wrong)
        assert "http://127.0.0.1:9/x" in page.wrong
        page.wrong.clear()
