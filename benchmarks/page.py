"""The page of a large run in a browser: how long it takes to open, to show another prompt, and to describe a cell.

36 layers, 1,024 steps and 9 prompts of made-up scores, as a sweep over Qwen3-4B would give; needs Chromium.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from playwright.sync_api import Page, sync_playwright

from crosspatch.data.problem import Problem
from crosspatch.report.page import write_report
from crosspatch.tables import SCORES

LAYERS, STEPS, PROMPTS, WORDS = 36, 1024, 9, 5_000
HOVERS = 300

# From the event to the frame after it, which shows the description.
_HOVER = """async ([x, y]) => {
    const box = explorer.grid.scroller.getBoundingClientRect(), start = performance.now();
    const at = { clientX: box.left + x, clientY: box.top + y, pointerType: "mouse", bubbles: true };
    document.elementFromPoint(at.clientX, at.clientY).dispatchEvent(new PointerEvent("pointermove", at));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - start;
}"""

# From the choice of a prompt to the frame that shows it.
_TURN = """async (prompt) => {
    const start = performance.now();
    await explorer.open(prompt);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - start;
}"""


def made_up_scores(seed: int = 0) -> pl.DataFrame:
    """Random scores; one cell in eight has a CTS, and the texts of layers differ."""
    chance = random.Random(seed)
    words = [f" w{chance.randrange(10**6)}" for _ in range(WORDS)]
    rows = []
    for prompt in range(PROMPTS):
        text = [chance.randrange(WORDS) for _ in range(STEPS)]
        for layer in range(LAYERS):
            for step in range(STEPS):
                token = text[step] if chance.random() < 0.9 else chance.randrange(WORDS)
                ok = chance.random() < 0.125
                cts = chance.gauss(layer / LAYERS, 0.4) if ok else None
                rows.append(
                    {
                        **dict.fromkeys(SCORES.columns),
                        "prompt_id": f"p{prompt}",
                        "patch": f"L{layer}.resid_post",
                        "component": "resid_post",
                        "layer": layer,
                        "schedule": "all",
                        "window": 1,
                        "direction": "corrupt",
                        "persistence": "transient",
                        "step": step,
                        "position": 50 + step,
                        "token_id": token,
                        "token": words[token],
                        "clean_token_id": token,
                        "corrupted_token_id": (token + 1) % WORDS if ok else token,
                        "delta_clean": -1.0 if ok else 0.0,
                        "delta_corrupted": 1.0 if ok else 0.0,
                        "delta_patched": 2 * cts - 1 if cts is not None else 0.0,
                        "cts": cts,
                        "status": "ok" if ok else "agree",
                        "kl_clean": chance.expovariate(10),
                        "kl_patched": chance.expovariate(10),
                        "rank_corrupted": 1,
                    }
                )
    return SCORES.frame(rows)


def write(path: Path) -> float:
    """Write the page and return the seconds that it took, statistics included."""
    scores = made_up_scores()
    problems = {f"p{i}": Problem(f"p{i}", "related", "made up", f"Question {i}", "1") for i in range(PROMPTS)}
    start = time.perf_counter()
    write_report(path, title="Large", run={}, problems=problems, scores=scores)
    return time.perf_counter() - start


def opening(page: Page, path: Path) -> float:
    """Seconds from the address to the first picture."""
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("#explorer-root[data-shown]")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return time.perf_counter() - start


def hovers(page: Page) -> list[float]:
    """Milliseconds of each of many hovers at random places, the picture scrolled between them."""
    chance = random.Random(1)
    page.locator("#explorer .grid").scroll_into_view_if_needed()
    width, height = page.evaluate("[explorer.grid.scroller.clientWidth, explorer.grid.y(0)]")
    taken = []
    for _ in range(HOVERS):
        if chance.random() < 0.1:
            page.evaluate(
                "(share) => { explorer.grid.scroller.scrollLeft = share * explorer.grid.scroller.scrollWidth; }",
                chance.random(),
            )
        taken.append(page.evaluate(_HOVER, [chance.uniform(60, width), chance.uniform(40, height)]))
    return sorted(taken)


def measured() -> list[tuple[str, str]]:
    """Rows of the table of benchmarks."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("needs Chromium (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        seconds = write(path)
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=["--disable-gpu", *root])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        opened = [opening(page, path) for _ in range(5)]
        taken = hovers(page)
        turned = [page.evaluate(_TURN, (i + 1) % PROMPTS) for i in range(12)]
        browser.close()
        size = path.stat().st_size / 1e6
    return [
        (f"page of {LAYERS} layers × {STEPS:,} steps × {PROMPTS} prompts", f"{size:.1f} MB, made in {seconds:.0f} s"),
        ("… opened, to its first picture", f"{statistics.median(opened):.2f} s (slowest of 5: {max(opened):.2f})"),
        ("… another prompt shown", f"{statistics.median(turned):.0f} ms (median of {len(turned)})"),
        (
            "… a cell under the pointer described",
            f"{statistics.median(taken):.0f} ms (95 of 100 within {taken[int(0.95 * len(taken))]:.0f}, "
            f"99 within {taken[int(0.99 * len(taken))]:.0f}, slowest of {len(taken)}: {taken[-1]:.0f})",
        ),
    ]


if __name__ == "__main__":
    for what, value in measured():
        print(f"{what}: {value}")
