"""What the measurements make of their figures: ratios, JSON, the page, and the chains they need."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import amounts, figures, page, revisions, scale, sides
from benchmarks.figures import Absent, Comparison, Curve, Reading

if TYPE_CHECKING:
    from benchmarks.figures import Found

OURS = Reading("ours", (3.0, 1.0, 2.0))
THEIRS = Reading("theirs", (8.0, 4.0, 6.0))
FOUND: tuple[Found, ...] = (
    Comparison("backup, 10 MB", "s", OURS, THEIRS, 0.3),
    Comparison("step seed", "s", Reading("alone", (0.12345,))),
    Absent("dbmate", "npm, which has it, is not here"),
    Curve("reset-db", "revisions", ((50.0, THEIRS), (1.0, OURS))),
)
SURROUNDINGS = {
    "machine": {"system": "Linux", "processor": "x86_64", "cores": 2, "memory_gb": 8},
    "versions": {"backset": "0.1.0"},
    "settings": {"fsync": "on"},
}


def test_sides_take_turns_and_the_first_round_is_not_counted() -> None:
    """Each round runs every side once, in order: its preparation, itself, its check."""
    seen: list[str] = []

    def side(name: str) -> sides.Side:
        steps = [
            lambda each=each: seen.append(f"{name} {each}") for each in ("run", "prepare", "check")
        ]
        return sides.Side(name, *steps)

    readings = sides.alternate([side("a"), side("b")], 2)
    turn = ["prepare", "run", "check"]
    assert seen == [f"{name} {each}" for name in ("a", "b") for each in turn] * 3
    assert [(each.name, len(each.values)) for each in readings] == [("a", 2), ("b", 2)]


def test_a_ratio_is_that_of_the_medians() -> None:
    """And it is met up to the goal; without another side the median itself is held to it."""
    held = Comparison("x", "s", OURS, THEIRS, 1 / 3)
    assert held.ratio == pytest.approx(1 / 3)
    assert held.is_met is True
    assert Comparison("x", "s", OURS, THEIRS, 0.33).is_met is False
    assert Comparison("memory", "MB", OURS, goal=2.0).is_met is True
    assert Comparison("x", "s", OURS, THEIRS).is_met is None


@pytest.mark.parametrize("found", FOUND, ids=lambda each: type(each).__name__)
def test_what_json_keeps_comes_back(found: Found) -> None:
    """The page can be written again from the file of the figures, which has four digits of them."""
    written = json.loads(json.dumps(figures.content(found)))
    back = figures.of(written)
    assert type(back) is type(found)
    assert figures.content(back) == written


def test_a_curve_is_drawn_from_left_to_right() -> None:
    """Whatever order its points were measured in."""
    assert Curve("reset-db", "revisions", ((50.0, THEIRS), (1.0, OURS))).line == [(1, 2), (50, 6)]


def test_the_page_shows_medians_spreads_ratios_and_what_is_missing() -> None:
    """A goal that is missed is in bold."""
    measures = {"sizes": {"found": [figures.content(each) for each in FOUND]}}
    shown = page.rendered({**SURROUNDINGS, "measures": measures})
    assert "### Large databases" in shown
    line = "| backup, 10 MB | 2.00 s (1.00–3.00) | theirs | 6.00 s (4.00–8.00) | 0.33 | **0.3** |"
    assert line in shown
    assert "| step seed | 0.123 s |  |  |  |  |" in shown
    assert "- dbmate: not measured, npm, which has it, is not here" in shown
    assert "2 cores, 8 GB of memory; backset 0.1.0. The server: `fsync = on`." in shown


def test_a_curve_that_has_nothing_beside_it_is_a_table() -> None:
    """Else its heading would stand alone."""
    (shown,) = page.tables([FOUND[3]])
    assert "| reset-db, 50 revisions | 6.00 s (4.00–8.00) |  |  |  |  |" in shown


def test_only_what_is_between_the_marks_is_generated() -> None:
    """The rest of the page is written by hand, and a page without marks is not touched."""
    text = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    assert page.spliced(text, "new") == f"before\n{page.BEGIN}\nnew\n{page.END}\nafter\n"
    with pytest.raises(ValueError, match="the page has no"):
        page.spliced("by hand", "new")


@pytest.mark.parametrize(("count", "tables"), [(1, 10), (10, 3), (50, 10), (10, 100), (4, 4)])
def test_a_chain_has_its_revisions_and_tables(count: int, tables: int) -> None:
    """Each revision follows the one before, and the models have what the migrations make."""
    files = dict(revisions.files(count, tables))
    chain = [files[f"migrations/versions/r{number:05}.py"] for number in range(count)]
    assert sum(text.count("op.create_table(") for text in chain) == tables
    assert sum(text.count("op.add_column(") for text in chain) == max(0, count - tables)
    assert files["models.py"].count("sa.Table(") == tables
    assert files["models.py"].count('sa.Column("c') == max(0, count - tables)
    for number, text in enumerate(chain):
        before = repr(f"r{number - 1:05}") if number else None
        assert f"down_revision = {before}\n" in text


def test_rounds_may_be_asked_for() -> None:
    """And the slow measures never take more of them than usual."""
    assert amounts.chosen(quick=False, rounds=None) == amounts.FULL
    asked = amounts.chosen(quick=True, rounds=5)
    assert (asked.rounds, asked.few) == (5, 1)
    assert amounts.chosen(quick=False, rounds=1).few == 1


def needs(**said: float) -> scale.Needs:
    """Return what one database needs; what is not said is nothing."""
    nothing = dict.fromkeys(scale.Needs.__annotations__, 0.0)
    return scale.Needs(**{**nothing, **said})


SITE = scale.Site(databases=100, servers=5, jobs=10, client_cores=99, server_cores=99)


def test_who_only_waits_waits_less_with_more_at_a_time() -> None:
    """A hundred databases that wait a second each, ten at a time: ten seconds after the start."""
    waiting = needs(wait_s=1, start_s=2)
    assert scale.simulate(waiting, SITE) == pytest.approx(12)
    assert scale.simulate(waiting, replace(SITE, jobs=100)) == pytest.approx(3)
    assert scale.simulate(waiting, replace(SITE, jobs=1000)) == pytest.approx(3)


def test_cores_are_the_bound_of_who_computes() -> None:
    """However many are at it: those of the clients, or those of each server."""
    assert scale.simulate(needs(client_s=1), replace(SITE, client_cores=4)) == pytest.approx(25)
    assert scale.simulate(
        needs(server_s=1), replace(SITE, jobs=100, server_cores=2)
    ) == pytest.approx(10)
    both = replace(SITE, servers=1, client_cores=2, are_apart=False)
    assert scale.simulate(needs(client_s=1, server_s=1), both) == pytest.approx(100)
