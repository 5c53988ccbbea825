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
from playwright.sync_api import Browser, Locator, Page, sync_playwright

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

    def cell(self, patch: str, step: int) -> Locator:
        """A cell of the explorer's picture, brought into sight."""
        self.page.locator("#explorer .grid").scroll_into_view_if_needed()
        at = self.page.evaluate(
            """([patch, step]) => {
                const r = explorer.picture.rows.findIndex((row) => row.patch === patch), c = step - explorer.first;
                explorer.grid.reveal(c);
                return `${r},${c}`;
            }""",
            [patch, step],
        )
        return self.page.locator(f'#explorer .cells [data-at="{at}"]')

    def look(self, patch: str, step: int) -> tuple[str, str]:
        """The ground of a cell and how opaque it is."""
        style = "(cell) => { const look = getComputedStyle(cell); return [look.background, look.opacity]; }"
        ground, opacity = self.cell(patch, step).evaluate(style)
        return ground, opacity

    def text(self, part: str) -> str:
        """The words in a part of the explorer."""
        return self.page.locator(f'#explorer [data-part="{part}"]').text_content() or ""

    def choose(self, part: str, value: str) -> None:
        """Choose from a list of the explorer, and wait until it is drawn."""
        self.page.select_option(f'#explorer [data-part="{part}"]', value)
        self.settled()

    def settled(self) -> None:
        """Wait until what was asked for is unpacked and drawn."""
        self.page.evaluate(
            """async () => {
                await Promise.allSettled(window.explorer?.parts?.values() ?? []);
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            }"""
        )


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
