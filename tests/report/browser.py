"""A real browser for the tests of the page: Chromium without a window, watched for errors, requests and dialogs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# What Chromium says to its maker by itself is no request of the page.
QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def launched() -> Iterator[Browser]:
    """Chromium, closed again; the test is skipped where it is not installed."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *root])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page with what went wrong on it."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def cell(self, patch: str, step: int) -> dict[str, float]:
        """Where a cell is on the screen, brought into sight."""
        self.page.locator("#explorer .grid").scroll_into_view_if_needed()
        return self.page.evaluate(
            """([patch, step]) => {
                const { explorer } = window, { grid } = explorer;
                const r = explorer.picture.rows.findIndex((row) => row.patch === patch), c = step - explorer.first;
                grid.reveal(c);
                const box = grid.canvas.getBoundingClientRect();
                return { x: box.left + grid.left + (c + 0.5) * grid.w - grid.scroller.scrollLeft,
                         y: box.top + grid.top + (grid.model.rows.length - 1 - r + 0.5) * grid.h };
            }""",
            [patch, step],
        )

    def colour_at(self, patch: str, step: int) -> list[int]:
        """The red, green, blue and opacity in a corner of a cell, where no mark is."""
        return self.page.evaluate(
            """([patch, step]) => {
                const { grid } = window.explorer, r = explorer.picture.rows.findIndex((row) => row.patch === patch);
                const x = grid.left + (step - explorer.first) * grid.w - grid.scroller.scrollLeft + 4.5;
                const y = grid.top + (grid.model.rows.length - 1 - r) * grid.h + 4.5;
                const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
                copy.drawImage(grid.canvas, x * grid.scale, y * grid.scale, 1, 1, 0, 0, 1, 1);
                return [...copy.getImageData(0, 0, 1, 1).data];
            }""",
            [patch, step],
        )

    def text(self, part: str) -> str:
        """The words in a part of the explorer."""
        return self.page.locator(f'#explorer [data-part="{part}"]').text_content() or ""

    def choose(self, part: str, value: str) -> None:
        """Choose from a list of the explorer, and wait until it is drawn."""
        self.page.select_option(f'#explorer [data-part="{part}"]', value)
        self.settled()

    def settled(self) -> None:
        """Wait until what was asked for is unpacked and drawn."""
        self.page.wait_for_timeout(60)
        self.page.evaluate("async () => { await Promise.allSettled(window.explorer?.parts?.values() ?? []); }")
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@contextmanager
def opened(
    browser: Browser, path: Path, fragment: str = "", *, ready: bool = True, clock: bool = False, **options: Any
) -> Iterator[Opened]:
    """A page, its explorer ready where it has one; errors, warnings, requests and dialogs are gathered.

    With `clock`, the page's clock is the test's: `page.clock` can be turned forward.
    """
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
    found = Opened(context.new_page())
    page, wrong = found.page, found.wrong
    if clock:
        page.clock.install()
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(("file:", "blob:", "data:")) or wrong.append(request.url))
    page.goto(path.as_uri() + fragment)
    if ready and page.locator("#explorer-root").count():
        page.wait_for_selector("#explorer-root[data-shown]")
    found.settled()
    yield found
    context.close()
