"""The history of a chain is drawn as `git log --graph` does, whatever shape the chain has."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from backset.described import plain
from backset.revisions.history import History, Trace, drawn
from backset.revisions.restore import Blob, Recipe, RestoredScript
from backset.revisions.script_files import Revision, newest_first


def draw(given: str) -> list[str]:
    """Draw what `child:parent,parent` words say."""
    pairs = (word.partition(":") for word in given.split())
    parents = {name: [each for each in several.split(",") if each] for name, _, several in pairs}
    return [f"{line} {name}".rstrip() for line, name in drawn(newest_first(parents), parents, {})]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("a: b:a c:b", "* c\n* b\n* a", id="linear"),
        pytest.param("c:a b:a a:", "* c\n| * b\n|/\n* a", id="a branch with two heads"),
        pytest.param("m:b,c b:a c:a a:", "* m\n|\\\n| * c\n* | b\n|/\n* a", id="a merge"),
        pytest.param("b1: h2:b2 b2: h1:b1", "* h2\n* b2\n* h1\n* b1", id="several bases"),
        pytest.param(
            "x:a,b,c a:z b:z c:z z:",
            "* x\n|\\\n|\\ \\\n| | * c\n| * | b\n* | | a\n|/ /\n|/\n* z",
            id="a merge of three",
        ),
        pytest.param(
            "m:l,r l:b r:k k:b s:k t:b b:",
            "* m\n|\\\n| * r\n* | l\n| | * s\n| |/\n| * k\n| | * t\n|/ /\n|/\n* b",
            id="branches from a branch",
        ),
        pytest.param(
            "one:two w:q u:two two:q v:q q:",
            "* one\n| * w\n| | * u\n| |/\n|/|\n* | two\n| | * v\n|/ /\n|/\n* q",
            id="a line that crosses another",
        ),
        pytest.param(
            "h:x,y x:p,q y:q,p p: q:",
            "* h\n|\\\n| * y\n| |\\\n* | | x\n|\\ \\ \\\n| |/ /\n| * | q\n|  /\n|/\n* p",
            id="a base between lines",
        ),
        pytest.param("a:b b:a", "* a\n* b", id="a circle"),
        pytest.param("a:nowhere", "* a", id="a parent that is not there"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_shapes(given: str, expected: str) -> None:
    """Every node once, below all that need it, in a column that leads there."""
    assert draw(given) == expected.splitlines()


def test_four_hundred_revisions() -> None:
    """A long chain is one straight line; a wild one has every node once, children first."""
    chain = {f"r{n}": [f"r{n - 1}"] if n else [] for n in range(400)}
    assert [line for line, _ in drawn(newest_first(chain), chain, {})] == ["*"] * 400
    dice = random.Random(7)  # noqa: S311  (a shape, no secret)
    wild = {f"r{n}": [f"r{dice.randrange(n)}" for _ in range(dice.randint(0, 3))] if n else []
            for n in range(400)}  # fmt: skip
    order = newest_first(wild)
    assert sorted(order) == sorted(wild)
    place = {name: number for number, name in enumerate(order)}
    assert all(place[name] < place[each] for name, several in wild.items() for each in several)
    shown = [(line, name) for line, name in drawn(order, wild, {}) if name]
    assert [name for _line, name in shown] == order
    assert all(line.count("*") == 1 for line, _name in shown)


def revision(given: str, **more: Any) -> Revision:  # noqa: ANN401  (fields of it)
    """Return a script from `id:down,down`."""
    name, _, down = given.partition(":")
    return Revision(id=name, down=tuple(filter(None, down.split(","))), doc=f"Do {name}", **more)


def test_the_database_the_heads_and_the_labels() -> None:
    """What Alembic's own `history` marks is there too, and where the database is."""
    scripts = (
        revision("a:"),
        revision("b:a", labels=("web",)),
        revision("c:a", depends_on=("b",)),
        revision("d:b"),
    )
    shown = History(scripts=scripts, heads=("c", "d"), database=("a",))
    assert list(shown.lines()) == [
        "* c (head, depends on b) Do c",
        "| * d (head) Do d",
        "| * b (web) Do b",
        "|/",
        "* a Do a ← database",
    ]


def test_an_orphan_stands_beside_the_graph() -> None:
    """With what was found of it, at the revision that it follows, and with a sign of its own."""
    blob = Blob("1a2b^", "x2.py")
    trace = Trace(
        revision="x2",
        companions=("x1",),
        scripts=(revision("x2:x1"), revision("x1:a")),
        recipe=Recipe(Path("/p"), (RestoredScript("x2", blob, Path("/p/x2.py")),)),
    )
    shown = History(
        scripts=(revision("a:"), revision("b:a")),
        heads=("b",),
        database=("x2", "lost"),
        traces=(trace, Trace(revision="lost")),
    )
    assert list(shown.lines()) == [
        "* b (head) Do b",
        "| x x2 (orphaned: no migration file has it) Do x2 ← database",
        "| x x1 (gone) Do x1",
        "|/",
        "* a Do a",
        "x lost (orphaned: no migration file has it) ← database",
    ]
    assert plain(shown.told)["orphans"][0]["command"] == "git restore '--source=1a2b^' -- x2.py"


def test_a_broken_chain_is_drawn_as_far_as_it_goes() -> None:
    """A file that is missing in the middle has a place; what follows nothing else is an end."""
    shown = History(
        scripts=(revision("c:b"), revision("a:")), problems=("missing file: c follows b",)
    )
    assert list(shown.lines()) == [
        "* c (head) Do c",
        "? b (missing: no migration file has it)",
        "* a (head) Do a",
    ]
    assert plain(shown.told)["missing"] == ["b"]
    assert plain(shown.told)["revisions"] is None


def test_depends_on_by_label_and_by_circle() -> None:
    """A label stands for the scripts that have it; a revision never waits for itself."""
    scripts = (
        revision("a:", depends_on=("web",)),
        revision("b:", labels=("web",)),
        revision("c:", labels=("self",), depends_on=("self",)),
    )
    assert [line.split()[1] for line in History(scripts=scripts).lines()] == ["a", "b", "c"]


def test_plain_values_have_the_paths() -> None:
    """A program gets each script with its file."""
    shown = History(scripts=(Revision(id="a", path=Path("/p/a.py")),), name="billing")
    assert plain(shown.told)["scripts"][0]["path"] == "/p/a.py"
    assert plain(shown.told)["name"] == "billing"
