"""The page in a real browser: what people do with it, on a desktop, a phone, without a mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backset.page import page
from tests import report_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not report_pages.CHROMIUM, reason="no browser is here"),
]
DESKTOP, PHONE = (1280, 900), (390, 844)
STATES = {
    "usual": lambda: report_pages.content(60, 40),
    "orphaned": lambda: report_pages.content(12, 6, is_orphaned=True),
    "hostile": report_pages.hostile,
}
IN_VIEW = """(box) => {
    const outer = box.closest('.canvas').getBoundingClientRect();
    const inner = box.getBoundingClientRect();
    return inner.top >= outer.top && inner.bottom <= outer.bottom;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of this machine."""
    with report_pages.browser() as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages, by the names of their states."""
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in [*STATES, "large"]}
    for name, path in found.items():
        made = STATES[name]() if name in STATES else report_pages.content(400, 300)
        page.write(made, path)
    return found


@pytest.fixture
def shown(browser: Browser, files: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """What opens a page; nothing may have been said or asked for when the test ends."""
    every: list[list[str]] = []
    opened: list[Page] = []

    def show(state: str = "usual", size: tuple[int, int] = DESKTOP, **context: object) -> Page:
        made, complaints = report_pages.watched(browser, size, **context)
        every.append(complaints)
        opened.append(made)
        made.goto(files[state].as_uri())
        return made

    yield show
    for each in opened:
        each.context.close()
    assert [each for each in every if each] == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_nothing_keeps_people_from_using_it(
    shown: Callable[..., Page], state: str, scheme: str, size: tuple[int, int]
) -> None:
    """No rule of axe is broken: contrast, names, roles, order; in each state and scheme."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415  (not for the other tests)

    opened = shown(state, size, color_scheme=scheme, bypass_csp=True)
    for form in ("Graph", "List"):
        for button in opened.get_by_role("button", name=form).all():
            button.click()
        found = Axe().run(opened).response["violations"]
        told = [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found]
        assert told == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_as_wide_as_the_window(shown: Callable[..., Page], size: tuple[int, int]) -> None:
    """Only graphs and tables scroll sideways, each within itself."""
    for state in (*STATES, "large"):
        opened = shown(state, size)
        assert opened.evaluate("document.documentElement.scrollWidth") <= size[0], state


def test_a_search_leads_from_one_to_the_next(shown: Callable[..., Page]) -> None:
    """Enter goes on, Shift and Enter back; what is found is in sight."""
    opened = shown("large")
    box = opened.get_by_role("searchbox", name="Search revisions")
    box.fill("merge the branches")
    output = opened.locator("#revisions output")
    first = output.inner_text()
    assert first.startswith("1 of ")
    box.press("Enter")
    assert output.inner_text().startswith("2 of ")
    chosen = opened.locator("#revisions .chosen")
    opened.wait_for_timeout(500)
    assert chosen.evaluate(IN_VIEW)
    box.press("Shift+Enter")
    assert output.inner_text() == first
    box.fill("no such thing")
    assert output.inner_text() == "0 found"


def test_it_begins_where_the_database_is(shown: Callable[..., Page]) -> None:
    """In the middle of hundreds of revisions."""
    opened = shown("large")
    assert opened.locator(".rev.here").evaluate(IN_VIEW)


def test_a_jump_leads_to_the_table(shown: Callable[..., Page]) -> None:
    """From the mark of a finding to its table, and from there to the sentence."""
    opened = shown("large")
    opened.locator("#schema .tools a").first.click()
    opened.wait_for_timeout(800)
    chosen = opened.locator("#schema .chosen")
    assert chosen.evaluate(IN_VIEW)
    chosen.locator(".note a").click()
    assert opened.evaluate("location.hash").startswith("#f")


def test_zooming_keeps_what_is_in_the_middle(shown: Callable[..., Page]) -> None:
    """By a button, by a key, and back."""
    opened = shown("large")
    canvas, sheet = opened.locator("#revisions .canvas"), opened.locator("#revisions .sheet")
    before = sheet.bounding_box()
    assert before is not None
    opened.locator("#revisions [data-zoom=out]").click()
    smaller = sheet.bounding_box()
    assert smaller is not None
    assert smaller["height"] == pytest.approx(before["height"] / 1.25, rel=0.02)
    assert opened.locator(".rev.here").evaluate(IN_VIEW)
    canvas.focus()
    opened.keyboard.press("+")
    again = sheet.bounding_box()
    assert again is not None
    assert again["height"] == pytest.approx(before["height"], rel=0.02)
    opened.keyboard.press("f")
    fitted, view = sheet.bounding_box(), canvas.bounding_box()
    assert fitted is not None
    assert view is not None
    assert fitted["height"] < before["height"] / 5


def test_a_mouse_moves_the_sheet(shown: Callable[..., Page]) -> None:
    """A graph is taken hold of anywhere."""
    opened = shown("large")
    canvas = opened.locator("#schema .canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    before = canvas.evaluate("(each) => each.scrollTop")
    opened.mouse.move(box["x"] + 200, box["y"] + 180)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 200, box["y"] + 300, steps=4)
    opened.mouse.up()
    assert canvas.evaluate("(each) => each.scrollTop") == pytest.approx(before - 120, abs=2)


def test_a_list_has_the_same(shown: Callable[..., Page]) -> None:
    """Each revision in its place, with what it follows."""
    opened = shown()
    opened.locator("#revisions [data-list=yes]").click()
    assert not opened.locator("#revisions svg").is_visible()
    first = opened.locator("#revisions .rev").first
    assert first.locator(".after").inner_text().startswith("after ")
    assert opened.locator("#revisions .rev").count() == 60


def test_a_phone_has_tables_as_a_list(shown: Callable[..., Page]) -> None:
    """A diagram of tables is too wide for it; the graph is one press away."""
    opened = shown("usual", PHONE)
    assert "list" in (opened.locator("#schema .graph").get_attribute("class") or "")
    width = opened.locator("#schema .entity").first.evaluate("(each) => each.offsetWidth")
    assert 250 <= width <= PHONE[0]


def test_without_a_script_the_page_says_the_same(shown: Callable[..., Page]) -> None:
    """Graphs scroll, links jump, and no button promises what it cannot do."""
    opened = shown("usual", java_script_enabled=False)
    assert opened.locator(".rev").count() == 60
    assert not opened.locator("#revisions .tools").is_visible()
    assert opened.locator(".rev.here").bounding_box() is not None


def test_a_keyboard_reaches_everything(shown: Callable[..., Page]) -> None:
    """The first key leads past the head; every graph can be reached and scrolled."""
    opened = shown()
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id || location.hash") in {"main", "#main"}
    for each in opened.locator(".canvas").all():
        each.focus()
        assert each.evaluate("(box) => document.activeElement === box")


def test_it_prints_as_lists(shown: Callable[..., Page], tmp_path: Path) -> None:
    """Nothing is cut off by a window that a sheet of paper does not have."""
    opened = shown()
    assert len(opened.pdf(path=tmp_path / "page.pdf")) > 10_000
    opened.emulate_media(media="print")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not opened.locator("#revisions .tools").is_visible()
    canvas = opened.locator("#schema .canvas")
    assert canvas.evaluate("(each) => each.scrollHeight - each.clientHeight") <= 1
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert "list" not in (opened.locator("#schema .graph").get_attribute("class") or "").split()


def test_no_text_of_others_acts_in_a_browser(shown: Callable[..., Page]) -> None:
    """Its title is the database's name, whatever that says, and no script of it has run."""
    opened = shown("hostile")
    assert opened.title().startswith(report_pages.HOSTILE[:20])
    assert opened.locator("img").count() == 0
    assert opened.locator("script").count() == 1


def test_a_large_page_is_smooth(shown: Callable[..., Page]) -> None:
    """Scrolled through and zoomed, 400 revisions and 300 tables are drawn frame by frame."""
    opened = shown("large")
    frames = opened.evaluate(
        """async () => {
            const canvas = document.querySelector('#schema .canvas');
            let frames = 0;
            for (let step = 0; step < 30; step++) {
                canvas.scrollBy({ top: 60, left: 30, behavior: 'instant' });
                await new Promise(requestAnimationFrame);
                frames++;
            }
            return frames;
        }"""
    )
    assert frames == 30
