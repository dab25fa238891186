"""`python -m tests.screenshots FOLDER`: the page in its states, as people see it, with figures.

Each state is drawn for a desktop and a phone, light and dark, and printed as PDF. A line for each
has the size of the page and when the browser first painted it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backset.catalog.catalog import RowCounts
from backset.page import page
from backset.page.content import RunEnd, RunTold
from backset.revisions.history import Trace
from tests import report_pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser, Page

    from backset.page.content import PageContent

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
_PAINTED = """new Promise((done) => new PerformanceObserver((seen) => {
    const found = seen.getEntriesByName("first-contentful-paint")[0];
    if (found) done(found.startTime);
}).observe({ type: "paint", buffered: true }))"""


def orphaned() -> PageContent:
    """Return a page of a database whose revision no file has."""
    made = report_pages.content(9, 12, is_orphaned=True)
    (history,) = made.chains
    trace = Trace(revision="cf94a9256bdb", refs=("old-main",))
    return replace(made, chains=(replace(history, traces=(trace,)),), run=None, runs=())


def failed() -> PageContent:
    """Return a page of a run that a step has ended."""
    made = report_pages.content(30, 20)
    lines = ["relation users exists already → drop it, or mend 0b22_more.py:12 · shop is as it was"]
    ran = report_pages.run(made.rows)
    error = RunEnd(lines, step="verify")
    told = RunTold(
        task=ran.task,
        exit_code=4,
        seconds=5.0,
        steps=ran.steps[:3],
        notices=ran.notices,
        error=error,
    )
    return replace(made, run=told)


def empty() -> PageContent:
    """Return a page of a database that has nothing in it."""
    made = report_pages.content(1, 2)
    (history,) = made.chains
    nothing = replace(history, scripts=(), heads=(), database=())
    rows = RowCounts()
    return replace(
        made,
        chains=(nothing,),
        tables=(),
        models=None,
        findings=(),
        rows=rows,
        run=None,
        runs=(),
    )


STATES: dict[str, Callable[[], PageContent]] = {
    "usual": lambda: report_pages.content(30, 20),
    "large": lambda: report_pages.content(400, 300),
    "orphaned": orphaned,
    "failed": failed,
    "empty": empty,
    "hostile": report_pages.hostile,
}


def shoot(shown: Page, folder: Path, name: str) -> None:
    """Take pictures of a page, from its top, and of its two graphs."""
    shown.screenshot(path=folder / f"{name}.png", full_page=True)
    for each in ("revisions", "schema"):
        graph = shown.locator(f"#{each} .graph")
        if graph.count():
            graph.first.screenshot(path=folder / f"{name}-{each}.png")


def draw(browser: Browser, folder: Path, state: str) -> None:
    """Draw a state in each size and scheme, and print it."""
    file = folder / f"{state}.html"
    size_bytes = page.write(STATES[state](), file)
    times = []
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            view = {"width": width, "height": height}
            context = browser.new_context(viewport=view, color_scheme=scheme)  # type: ignore[arg-type]
            shown = context.new_page()
            shown.goto(file.as_uri())
            times.append(shown.evaluate(_PAINTED))
            shoot(shown, folder, f"{state}-{size}-{scheme}")
            if (size, scheme) == ("desktop", "light"):
                shown.pdf(path=folder / f"{state}.pdf")
            context.close()
    seconds = ", ".join(f"{each / 1000:.2f}" for each in times)
    print(f"{state:<9} {size_bytes / 1e6:.2f} MB, first painted after {seconds} s", flush=True)


def main() -> None:
    """Draw all states into the folder that is named."""
    if len(sys.argv) < 2:
        raise SystemExit("name a folder: python -m tests.screenshots FOLDER [STATE …]")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with report_pages.browser() as browser:
        for state in sys.argv[2:] or STATES:
            draw(browser, folder, state)


if __name__ == "__main__":
    main()
