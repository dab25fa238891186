"""The page of `report`, from made-up content: what is in it, and that no text in it acts."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from backset.catalog.catalog import RowCounts
from backset.errors import SettingsError, StepFailedError
from backset.page import graphs, layout, page
from backset.page.content import RunTold, TimedNotice, TimedStep, read_run
from backset.page.timeline import spoken_s, timeline
from backset.process import streams
from backset.revisions.history import History, Trace
from backset.revisions.script_files import Revision
from tests import report_pages
from tests.report_pages import HOSTILE, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.page.content import PageContent
    from backset.page.graphs import Graph

LARGEST_BYTES = 1_500_000  # of 400 revisions and 300 tables
KNOWN = {
    *("html", "head", "meta", "title", "link", "style", "body", "script", "svg", "path", "rect"),
    *("a", "abbr", "article", "b", "button", "code", "dd", "details", "div", "dl", "dt", "footer"),
    *(
        "h1",
        "h2",
        "h3",
        "header",
        "i",
        "input",
        "li",
        "main",
        "nav",
        "ol",
        "output",
        "p",
        "section",
    ),
    *("small", "span", "strong", "summary", "table", "tbody", "td", "th", "thead", "time", "tr"),
    *("ul", "article"),
}


class Read(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.within: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        """Note a text; what is a script or a style is not read."""
        if self._open in {"script", "style"}:
            self.within.setdefault(self._open, data)
        else:
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  (Python's)
        """Note nothing more of an element."""
        self._open = ""

    def has(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """All that is read, in one line."""
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def large() -> str:
    """The page of 400 revisions and 300 tables."""
    return page.render(report_pages.content(400, 300))


def test_a_large_page_is_small(large: str) -> None:
    """400 revisions and 300 tables are no more than is sent by mail."""
    assert len(large.encode()) <= LARGEST_BYTES


def test_every_revision_table_and_column_is_on_it(large: str) -> None:
    """None is left out where there are many."""
    content, read = report_pages.content(400, 300), Read(large)
    boxes = [each for each in read.has("li") if "rev" in (each.get("class") or "").split()]
    assert len(boxes) == 400
    assert len(read.has("article")) == 301  # with the one that only the models have
    for each in content.tables:
        assert each.name in read.texts
    columns = sum(len(each.columns) for each in content.tables)
    assert len(read.has("b")) == columns


def test_no_text_of_others_acts() -> None:
    """Messages of revisions, names of tables, findings, lines of a run: each is a text."""
    read = Read(page.render(report_pages.hostile()))
    assert {tag for tag, _ in read.elements} <= KNOWN
    assert len(read.has("script")) == 1
    attributes = {name for _, each in read.elements for name in each}
    assert not {name for name in attributes if name.startswith("on")} | attributes & {
        "src",
        "style",
    }
    assert {each["href"] for each in read.has("link")} == {"data:,"}
    assert {(each["href"] or "")[0] for each in read.has("a")} == {"#"}
    assert read.text.count(HOSTILE) > 20
    assert "49" not in read.text.replace(HOSTILE, "")  # nor is it a template's


def test_the_policy_allows_its_own_script_and_style_alone(large: str) -> None:
    """Whatever got into the page all the same could neither run nor load anything."""
    read = Read(large)
    (policy,) = (each["content"] or "" for each in read.has("meta") if "http-equiv" in each)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        digest = hashlib.sha256(read.within[tag].encode()).digest()
        assert rules.pop(rule) == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert rules == {"img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}


def test_the_page_names_no_other_place(large: str) -> None:
    """It is whole: no address of a style, a font, a script or an image."""
    assert not re.findall(
        r"(?:https?:)?//(?![ \n])[\w.-]+\.\w+|@import|url\(",
        large.replace("postgresql://me@localhost:5432/shop", ""),
    )


def test_no_password_is_on_it() -> None:
    """Whoever has written it: a message of a revision, a name, the lines of an error."""
    made = report_pages.content(5, 5)
    secret = "tr0ub4dor&3<x>"
    said = f"URL postgresql://me:{secret}@host/shop"
    (history,) = made.chains
    scripts = (*history.scripts, Revision(id="last", doc=said))
    made = replace(
        made,
        where=said,
        chains=(replace(history, scripts=scripts),),
        findings=[report_pages.drift("x", said)],
        run=RunTold(task="x", exit_code=0, seconds=1, steps=[TimedStep("seed", said, 1)]),
    )
    streams.conceal([secret])
    try:
        text = page.render(made)
    finally:
        streams.conceal(())
    assert "tr0ub4dor" not in text
    assert text.count("***") >= 4


def test_what_acts_on_a_line_is_written_out() -> None:
    """Characters that turn the direction of writing would let a name look like another."""
    made = replace(report_pages.content(3, 3), database="shop\u202egpj.exe\x1b[2J")
    text = page.render(made)
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "shop\\u202egpj.exe\\x1b[2J" in text


def test_marks_are_on_the_table_and_on_the_column() -> None:
    """What was found is told where it is, and leads to its sentence."""
    made = report_pages.content(9, 9)
    found = graphs.marks(made)
    drawn = graphs.schema(made, found)
    boxes = {each.name: each for each in tables_of(drawn)}
    first, gone, second = (each.name.partition(".")[0] for each in made.findings)
    assert boxes[first].findings == [("f0", "drift")]
    columns = {each.name: each.finding for each in [*boxes[first].shown, *boxes[first].more]}
    assert {name for name, finding in columns.items() if finding} == {"column_1"}
    assert boxes[gone].is_gone
    assert boxes[second].findings == [("f2", "drift")]
    assert not any(each.finding for each in boxes[second].shown)


def test_a_column_that_was_found_is_not_folded_away() -> None:
    """Of a wide table the rows that matter are shown: keys, references and findings."""
    many = [report_pages.column(f"c{number}") for number in range(40)]
    made = replace(
        report_pages.content(3, 3),
        tables=[table("a"), table("wide", *many, refers=["a"])],
        keys={"wide": ("id",)},
        findings=[report_pages.drift("wide.c39", "column wide.c39: …")],
    )
    (box,) = (each for each in tables_of(graphs.schema(made, graphs.marks(made))) if each.more)
    assert {"id", "a_id", "c39"} <= {each.name for each in box.shown}
    assert len(box.shown) + len(box.more) == 42


def tables_of(graph: Graph) -> Iterator[graphs.TableBox]:
    """Yield every table of a drawing."""
    for each in [*graph.boxes, *graph.alone]:
        assert isinstance(each, graphs.TableBox)
        yield each


def revisions_of(history: History) -> dict[str, graphs.RevisionBox]:
    """Return the boxes of a chain by their revisions."""
    boxes = graphs.revisions(history, 0).boxes
    return {each.revision: each for each in boxes if isinstance(each, graphs.RevisionBox)}


def test_the_place_of_the_database_is_shown() -> None:
    """It has run what is below, and what is above is pending; the head is named."""
    scripts = tuple(
        Revision(id=each, down=down) for each, down in (("a", ()), ("b", ("a",)), ("c", ("b",)))
    )
    found = revisions_of(History(scripts=scripts, heads=("c",), database=("b",)))
    assert [found[each].kind for each in "abc"] == ["", "here", "pending"]
    assert [tag.text for tag in found["b"].tags] == ["◆ database"]
    assert [tag.text for tag in found["c"].tags] == ["head", "pending"]
    assert found["c"].top < found["b"].top < found["a"].top


def test_an_orphan_is_told_by_a_word_and_a_sign() -> None:
    """Not by its colour alone; nothing is called pending where that is not known."""
    scripts = (Revision(id="a"), Revision(id="b", down=("gone",)))
    trace = Trace(revision="old")
    found = revisions_of(History(scripts=scripts, database=("old",), traces=(trace,)))
    assert [tag.text for tag in found["old"].tags] == ["◆ database", "✗ orphaned"]
    assert [tag.text for tag in found["gone"].tags] == ["✗ missing"]
    assert {found[each].kind for each in "ab"} == {""}


def test_what_a_revision_replaces_is_told() -> None:
    """By its number on the box, and by the ids for whoever reads the list."""
    squash = Revision(id="new", replaces=("x", "y"), replaced_heads=("y",), doc="Start")
    history = History(scripts=(squash,), heads=("new",), database=("x",))
    tags = [tag.text for tag in revisions_of(history)["new"].tags]
    assert "replaces 2" in tags
    assert any(each.startswith("◆ database at ") for each in tags)


def random_edges(seed: int) -> tuple[int, list[tuple[int, int]]]:
    """Return nodes and edges between them, circles and loops and several parts among them."""
    dice = random.Random(seed)  # noqa: S311  (it has to be repeatable)
    nodes = dice.randrange(1, 40)
    several = dice.randrange(0, 60)
    return nodes, [(dice.randrange(nodes), dice.randrange(nodes)) for _ in range(several)]


@pytest.mark.parametrize("seed", range(40))
def test_any_graph_is_drawn(seed: int) -> None:
    """Every node has a place of its own, and no circle ends the process, as the library would."""
    nodes, edges = random_edges(seed)
    drawn = layout.layered(nodes, edges)
    assert sorted(drawn.places) == [*range(nodes)]
    rows: dict[float, list[float]] = {}
    for across, along in drawn.places.values():
        rows.setdefault(round(along, 3), []).append(across)
    for places in rows.values():
        places.sort()
        assert all(right - left > 0.99 for left, right in pairwise(places))
    wanted = {edge for edge in edges if edge[0] != edge[1]}
    assert set(drawn.routes) <= wanted
    assert {frozenset(each) for each in drawn.routes} == {frozenset(each) for each in wanted}


def test_an_edge_ends_at_a_later_layer() -> None:
    """What a revision follows is below it; what a table refers to is left of it."""
    drawn = layout.layered(4, [(0, 1), (1, 2), (0, 2), (3, 2)])
    assert drawn.places[0][1] < drawn.places[1][1] < drawn.places[2][1]
    assert len(drawn.routes[0, 2]) == 1  # around the one between


def test_the_same_content_is_the_same_page() -> None:
    """Two pages can be compared: nothing in it is left to chance."""
    assert page.render(report_pages.content(60, 60)) == page.render(report_pages.content(60, 60))


def test_tables_of_a_large_schema_do_not_overlap() -> None:
    """Neither within a group nor between two."""
    made = report_pages.content(3, 300)
    boxes = [*tables_of(graphs.schema(made, {}))]
    drawn = [each for each in boxes if each.left or each.top]
    assert len(drawn) > 200
    for number, one in enumerate(drawn):
        for other in drawn[number + 1 :]:
            is_beside = abs(one.left - other.left) >= 250
            upper, lower = sorted((one, other), key=lambda each: each.top)
            assert is_beside or upper.top + upper.height <= lower.top, (one.name, other.name)


def test_steps_beside_each_other_are_told() -> None:
    """Whoever sees no bars reads which steps went on together, and who was waited for."""
    bars = {each.step: each for each in timeline(report_pages.run(RowCounts({"a": 1}))).bars}
    assert [*bars] == ["backup", "reset", "upgrade", "verify", "carry", "promote"]
    assert (bars["backup"].beside, bars["reset"].beside) == (["reset"], ["backup"])
    assert bars["upgrade"].beside == []
    assert [each.text.partition(",")[0] for each in bars["upgrade"].notices] == [
        "waits for psql@socket"
    ]
    assert [str(each) for each in bars["promote"].ended] == ["psql@socket"]
    assert bars["upgrade"].left == pytest.approx(100 * 2.2 / 6.4)


def test_a_run_without_beginnings_is_drawn_in_a_row() -> None:
    """So is the report of an older version, which does not tell when a step began."""
    run = RunTold(
        task="x",
        exit_code=0,
        seconds=3,
        steps=[TimedStep("a", "", 1.0), TimedStep("b", "", 2.0)],
        notices=[TimedNotice("by the way")],
    )
    drawn = timeline(run)
    assert [round(each.left) for each in drawn.bars] == [0, 33]
    assert [each.text for each in drawn.notices] == ["by the way"]


@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.7, 6.4, 59.0, 3600.0])
def test_a_scale_has_few_round_ticks(seconds: float) -> None:
    """Whatever a run took, a person can read the scale."""
    run = RunTold(task="x", exit_code=0, seconds=seconds, steps=[])
    ticks = timeline(run).ticks
    assert 1 <= len(ticks) <= 7
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(0 <= left <= 100.01 for left, _ in ticks)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0804, "80 ms"), (1.26, "1.3 s"), (245.2, "4 min 5 s")]
)
def test_a_time_is_told_as_people_do(seconds: float, text: str) -> None:
    """In the unit that fits."""
    assert spoken_s(seconds) == text


def test_rows_are_told_before_and_after() -> None:
    """Of each table: in the dump, carried, left behind, and now; an estimate says so."""
    made = report_pages.content(3, 6)
    made.rows.estimated = frozenset({made.tables[0].shown})
    text = Read(page.render(made)).text
    assert "before" in text
    assert "carried" in text
    assert ".nickname: 12" in text
    assert "≈" in text


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """The line says which file, what is wrong with it, and what to give instead."""
    file = tmp_path / "run.json"
    for content in ("{", "[]", json.dumps({"task": "x"})):
        file.write_text(content)
        with pytest.raises(StepFailedError, match="no report of a run") as refused:
            read_run(file)
        assert "--json" in refused.value.remedy


def test_a_step_of_a_project_has_keys_of_its_own(tmp_path: Path) -> None:
    """Whatever it calls `rows`, its bar is drawn."""
    step = {"step": "mask", "text": "12 masked", "seconds": 1, "began": 0.5, "rows": "many"}
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"task": "x", "exit_code": 0, "seconds": 2, "steps": [step]}))
    (bar,) = timeline(read_run(file)).bars
    assert (bar.step, bar.text, bar.left) == ("mask", "12 masked", 25)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""

    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(layout, "import_module", fail)
    with pytest.raises(SettingsError, match="fast_sugiyama") as refused:
        layout.demand()
    assert "its extra report" in str(refused.value.problems)


def test_a_page_of_nothing_says_so() -> None:
    """No script, no table, no run: each part has a sentence."""
    empty: PageContent = replace(
        report_pages.content(2, 2),
        chains=(History(scripts=(), database=()),),
        tables=(),
        rows=RowCounts(),
        findings=(),
        unlooked=(),
        models=None,
        run=None,
        runs=(),
    )
    text = Read(page.render(empty)).text
    for each in ("There is no migration file.", "There is no table.", "Nothing was found."):
        assert each in text
    assert "no revision has run" in text
