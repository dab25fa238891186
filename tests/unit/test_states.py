"""Which facts make which state, with what evidence and which cure: the table of all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backset.migrate.answers import Problem
from backset.revisions.replaced import ReplacedPlace
from backset.revisions.restore import Blob, Recipe, RestoredScript
from backset.revisions.script_files import Revision, ancestors, fits, ordered, outdated
from backset.settings.values import Lineage
from backset.status.facts import Facts, Proof, Restorable
from backset.status.states import state

AT = {"goal": ("b",), "recorded": ("b",), "tables": frozenset({"t"}), "ours": frozenset({"t"})}
BEHIND = {**AT, "recorded": ("a",), "pending": ("b",)}
ORPHAN = {**AT, "recorded": ("x",), "orphans": ("x",), "pending": ("a", "b")}
SAME, OTHER = Proof(same=("b",)), Proof(differences=("table t is only in app",))
STANDS = Proof(stands=True)
BLOB = Blob("1a2b^", "versions/x.py")
RECIPE = Recipe(Path("/p"), (RestoredScript("x", BLOB, Path("/p/versions/x.py")),))
FILE = Restorable(revision="x", evidence=("1a2b removed x.py",), recipe=RECIPE, connects=True)
ROOT = Path("/project")
SQUASH = Revision(id="b", replaces=("w", "x"), replaced_heads=("x",))
AT_END, EARLIER = (ReplacedPlace(squash=SQUASH, rows=(row,)) for row in ("x", "w"))


def broken(kind: str, *names: str, missing: str = "") -> dict[str, Any]:
    """Return the fact of a chain with one problem."""
    paths = tuple(ROOT / "versions" / name for name in names)
    return {"problems": (Problem(kind=kind, text="words", paths=paths, missing=missing),)}


BELOW = Problem(kind="no migrations", text="its folders 2024 have", paths=(ROOT / "versions",))


@pytest.mark.parametrize(
    ("facts", "name", "evidence", "way", "words"),
    [
        ({"unreachable": 'password authentication failed for user "ann"'}, "not admitted", "ann",
         "by hand", "the server answers: correct user and password in DATABASE_URL"),
        ({"unreachable": "no pg_hba.conf entry for host"}, "not admitted", "no pg_hba.conf",
         "by hand", "let an administrator admit this client"),
        ({"unreachable": "refused"}, "no server", "refused", "by hand", "start the server"),
        ({"exists": False}, "no database", "app does not exist", "upgrade", "invoke upgrade"),
        ({"goal": ("b",)}, "empty", "app has no table and no version", "upgrade", "invoke upgrade"),
        (AT, "at head", "the database is at b", "none", ""),
        (BEHIND, "behind", "is at a, head is b: 1 revision to run", "upgrade", "invoke upgrade"),
        ({**AT, "recorded": ()}, "ahead", "app has t, but", "prove", "invoke repair"),
        ({**AT, "recorded": (), "proof": SAME}, "ahead", "app has t", "stamp", "stamp --purge b"),
        ({**AT, "recorded": (), "proof": Proof(same=("b",), filling=("a.py",))}, "ahead", "has t",
         "stamp", "rows are not compared: see whether those of a.py are there"),
        ({**AT, "recorded": (), "proof": Proof(same=("a", "b"), unseen=("b.py",))}, "ahead", "app",
         "by hand", "not show whether b.py has run here"),
        ({**AT, "recorded": (), "proof": Proof(unbuilt="no right → grant it")}, "ahead", "has t",
         "by hand", "nothing is proved: no right → grant it; then `invoke repair`"),
        ({**AT, "differences": ("column t.c",), "models": frozenset({"t"}),
          "proof": Proof(unbuilt="no right → grant it")}, "drift", "column t.c", "by hand",
         "--autogenerate"),
        ({**AT, "recorded": (), "proof": OTHER}, "ahead", "has t", "reset", "invoke reset-db"),
        (ORPHAN, "orphaned revision", "names x, which no", "prove", "invoke repair"),
        ({**ORPHAN, "squashed": (AT_END,)}, "squashed", "names x, which b replaces (last of 2)",
         "upgrade", "invoke upgrade"),
        ({**ORPHAN, "squashed": (AT_END,), "proof": OTHER}, "squashed", "x", "upgrade", "upgrade"),
        ({**ORPHAN, "squashed": (AT_END,), "tables": frozenset({"u"})}, "squashed", "x",
         "upgrade", "it compares the schema"),
        ({**ORPHAN, "squashed": (EARLIER,)}, "squashed", "names w, which b replaces (number 1 of",
         "upgrade", "after a backup it runs what is left of the old revisions"),
        ({**broken("missing file", "e.py", missing="x"), "replaced": {"x": "b"}}, "broken chain",
         "words", "by hand", "started before b replaced that; `invoke rebase`"),
        ({**ORPHAN, "proof": SAME}, "orphaned revision", "names x", "stamp", "stamp --purge b"),
        ({**ORPHAN, "proof": OTHER}, "orphaned revision", "names x", "reset", "table t is only"),
        ({**ORPHAN, "proof": OTHER, "filled": ("t", "u")}, "orphaned revision", "names x", "carry",
         "the rows of t, u come along, or nothing is done"),
        ({**ORPHAN, "proof": SAME, "restorable": (FILE,)}, "orphaned revision", "x", "stamp", "b"),
        ({**ORPHAN, "proof": OTHER, "restorable": (FILE,), "restored": OTHER}, "orphaned revision",
         "x", "restore file", "the chain is whole again"),
        ({**ORPHAN, "proof": OTHER, "restorable": (FILE,), "restored": Proof(unbuilt="no")},
         "orphaned revision", "x", "reset", "invoke reset-db"),
        ({**ORPHAN, "restorable": (FILE,)}, "orphaned revision", "x", "restore file", "git re"),
        ({**AT, "recorded": ("a", "b"), "outdated": ("a",)}, "half applied",
         "alembic_version names a beside b, which comes after it", "stamp", "stamp --purge b"),
        ({**AT, "goal": ("a", "b")}, "several heads", "the heads a, b", "merge heads", "-m merge"),
        ({**AT, "goal": ("a", "b"), "several": True}, "at head", "is at b", "none", ""),
        (broken("missing file", "b.py", missing="a"), "broken chain", "versions: words", "by hand",
         "bring the file of a back, or correct down_revision in versions/b.py"),
        (broken("duplicate id", "b.py", "c d.py"), "broken chain", "words", "by hand",
         "give one of versions/b.py and 'versions/c d.py' an id of its own"),
        (broken("no migrations", ""), "no migrations", "versions: words", "by hand",
         "--autogenerate"),
        ({**broken("no migrations", ""), "recorded": ("a",)}, "broken chain", "versions: words",
         "by hand", "bring the files of versions back"),
        ({"problems": (BELOW,)}, "broken chain", "its folders 2024 have", "by hand",
         "[tool.backset.ini] version_locations"),
        (broken("stale byte code", "b.pyc"), "broken chain", "words", "by hand",
         "`invoke archive` put versions/b.pyc away"),
        (broken("unreadable file"), "broken chain", "words", "by hand",
         "mend that file, or set what it asks for"),
        ({**broken("missing file", "b.py", missing="x"), "restorable": (FILE,)}, "broken chain",
         "words", "restore file", "git re"),
        ({**BEHIND, "in_the_way": ("table u exists already",)}, "half applied",
         "table u exists already", "prove", "invoke repair"),
        ({**BEHIND, "in_the_way": ("table u exists already",), "proof": SAME}, "half applied",
         "the schema is that of b", "stamp", "stamp --purge b"),
        ({**BEHIND, "in_the_way": ("table u exists already",), "proof": STANDS}, "behind",
         "is at a, head is b", "upgrade", "invoke upgrade"),
        ({**BEHIND, "proof": Proof(early=("type e is there",), apart=("type e is there",))},
         "half applied", "type e is there", "reset", "invoke reset-db"),
        ({**BEHIND, "filled": ("t",), "proof": Proof(apart=("column t.c is only in the chain",))},
         "drift", "at a the chain and the database differ: column t.c", "carry",
         "invoke reset-db --carry"),
        ({**BEHIND, "proof": Proof(reached=False, differences=("table u",))}, "behind", "at a",
         "upgrade", "invoke upgrade"),
        ({**AT, "proof": Proof(apart=("check c is only in the chain",))}, "drift",
         "at b the chain and the database differ: check c", "reset", "invoke reset-db"),
        ({**AT, "proof": replace(STANDS, apart=("view v is only in app",))}, "drift",
         "view v is only in app", "by hand", "drop it, or write a migration that makes it"),
        ({**AT, "proof": SAME}, "at head", "is what the chain makes: proved", "none", ""),
        ({**BEHIND, "invalid": ("ix",)}, "half applied", "index ix is invalid", "drop index",
         "invoke psql -- -c 'DROP INDEX CONCURRENTLY ix'"),
        ({**AT, "unmade": ("table u does not exist",)}, "stamped but not migrated",
         "the version says b, but table u does not exist", "prove", "invoke repair"),
        ({**AT, "differences": ("index i",), "models": frozenset({"t"}),
          "proof": Proof(same=("a",))}, "stamped but not migrated",
         "the version says b, but the schema is that of a", "stamp", "stamp --purge a"),
        ({**AT, "unmade": ("table u is not there",), "proof": Proof(same=("a",))},
         "stamped but not migrated", "the version says b", "stamp", "stamp --purge a"),
        ({**AT, "differences": ("column t.c",), "models": frozenset({"t"})}, "drift", "column t.c",
         "by hand", "--autogenerate"),
        ({**AT, "differences": ("the enum e lacks 'c'",), "models": frozenset({"t"}),
          "enums_differ": True}, "drift", "lacks 'c'", "by hand", "(the values of enums by hand)"),
        ({**AT, "differences": ("column t.c",), "models": frozenset({"t"})}, "drift", "column t.c",
         "by hand", "if both are to stay: `invoke verify --accept`"),
        ({**AT, "differences": ("column t.c",), "models": frozenset({"t"}), "proof": SAME}, "drift",
         "column t.c", "by hand", "the database is what the chain makes"),
        ({**AT, "differences": ("column t.c",), "models": frozenset({"t"}), "proof": OTHER},
         "drift", "differ: table t is only in app", "reset", "invoke reset-db"),
        ({**AT, "differences": ("table t",), "models": frozenset()}, "models not loaded",
         "target_metadata has no table, the database has 1", "by hand", "import the modules"),
        ({"elsewhere": "env.py connected to prod", "elsewhere_remedy": "say where"},
         "wrong database", "env.py connected to prod", "by hand", "say where"),
        ({**ORPHAN, "tables": frozenset({"wp_posts"})}, "wrong database",
         "app has wp_posts, and none of the project's tables (t)", "by hand", "DATABASE_URL"),
    ],
)  # fmt: skip
def test_each_state(facts: dict[str, Any], name: str, evidence: str, way: str, words: str) -> None:
    """A name for programs, the evidence in words, and the least destructive cure."""
    found = state(Facts(root=ROOT, database="app", **facts))
    assert found.name == name
    assert evidence in " | ".join(found.evidence)
    assert found.cure.way == way
    assert words in f"{found.cure.command} {found.cure.why}"
    assert found.is_good == (name == "at head")
    if not found.is_good:
        assert name in str(found.finding)
        assert "→ " in str(found.finding)


def test_a_file_that_does_not_fit_today_is_not_brought_back() -> None:
    """Restored alone, the file of a squashed chain would make a second base: so it is proved."""
    alone = replace(FILE, connects=False)
    found = state(Facts(database="app", **{**ORPHAN, "restorable": (alone,)}))  # type: ignore[arg-type]
    assert found.cure.way == "prove"
    assert "x: 1a2b removed x.py" in found.evidence
    assert (
        f"x: its file comes back with: {RECIPE.command}; it does not fit today's chain"
        in found.evidence
    )


def test_many_pieces_of_evidence_are_counted() -> None:
    """A line for each of the first few, and how many more."""
    many = tuple(f"column t.c{number}" for number in range(9))
    found = state(Facts(database="app", **{**AT, "differences": many}))  # type: ignore[arg-type]
    assert found.evidence[-2:] == ("column t.c4", "and 4 more")


def revision(name: str, *down: str) -> Revision:
    """Return a revision after others."""
    return Revision(id=name, down=down, path=Path(f"{name}.py"))


def test_the_order_of_revisions() -> None:
    """Each comes after all that it needs; a circle and a missing file end nothing."""
    chain = [revision("d", "b", "c"), revision("b", "a"), revision("c", "a"), revision("a")]
    assert [each.id for each in ordered(chain)] == ["a", "b", "c", "d"]
    assert ancestors(["b", "gone"], chain) == {"a", "b"}
    circle = [revision("x", "y"), revision("y", "x")]
    assert {each.id for each in ordered(circle)} == {"x", "y"}
    assert ancestors(["x"], circle) == {"x", "y"}


def test_the_order_of_thousands_of_revisions() -> None:
    """A long line is as good as a short one, also when it is given backwards."""
    line = [revision("r0"), *(revision(f"r{n}", f"r{n - 1}") for n in range(1, 5000))]
    assert ordered(reversed(line)) == line


def test_rows_that_others_come_after() -> None:
    """Branches stand side by side, and so does what another branch only depends on."""
    apart = Revision(id="x", depends_on=("c",))
    chain = [revision("d", "b", "c"), revision("b", "a"), revision("c", "a"), revision("a"), apart]
    assert outdated(["a", "b", "c"], chain) == {"a"}
    assert outdated(["b", "c", "x", "gone"], chain) == set()
    assert outdated(["b", "d", "x"], chain) == {"b"}


@pytest.mark.parametrize(
    ("found", "today", "fitting"),
    [
        ([revision("c", "b")], [revision("a"), revision("b", "a")], True),
        ([revision("b", "a")], [revision("a"), revision("c", "b")], True),
        ([revision("a")], [revision("b", "a")], True),
        ([revision("a"), revision("b", "a")], [], True),
        ([revision("c", "gone")], [revision("a")], False),
        ([revision("x")], [revision("a")], False),
        ([revision("x", "a")], [revision("a"), revision("b", "a")], False),
        ([], [revision("a")], False),
    ],
    ids=["last", "middle", "first", "all", "gap", "squashed", "branch", "nothing"],
)
def test_what_fits_to_the_chain_of_today(
    found: list[Revision], today: list[Revision], *, fitting: bool
) -> None:
    """A file that is brought back must close a gap, and not open another."""
    assert fits(found, today) == fitting


def test_the_command_lines_of_several_chains_are_one_for_each() -> None:
    """Each with the revisions that are its own; a difference is a matter of its own chain."""
    core, billing = Lineage(name="core"), Lineage(name="the bills")
    facts = Facts(
        database="app", chains=((core, frozenset({"a", "b"})), (billing, frozenset({"x"})))
    )
    stamps = facts.alembic("stamp --purge", ["x", "b"])
    assert stamps == (
        "invoke alembic --chain core -- stamp --purge b && "
        "invoke alembic --chain 'the bills' -- stamp --purge x"
    )
    lines = facts.alembic_each("check", ["the bills: column t.c is only in the models"])
    assert lines == ["invoke alembic --chain 'the bills' -- check"]
    alone = Facts(database="app", chains=((Lineage(), frozenset({"a"})),))
    assert alone.alembic("stamp --purge", ["base"]) == "invoke alembic -- stamp --purge base"
