"""`invoke squash`: one revision in place of many, and databases that follow without losing a row.

What is compared is read by pg_dump and from the rows, in tests/squash/judging.py.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backset.revisions import script_files
from tests.git import commit, git
from tests.incident.project import run_alembic
from tests.marks import slow_but
from tests.project import Project
from tests.project import laid_down as laid_down_copy
from tests.squash import ground as grounds
from tests.squash import judging
from tests.squash.ground import MESSAGE, Ground, Squashed, alembic, execute, look
from tests.squash.shapes import LATE, SHAPES, USUAL_TEMPLATE, VERSIONS, Script, Shape, line, long

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

    Make = Callable[[str], Squashed]


QUICK = ("objects", "rows")
SLOW = tuple(name for name in SHAPES if name not in QUICK)
PROVE = ["prove-squash", "HEAD"]
STEPS = ("old chain", "write", "prove", "archive")


def shapes(*quick: str, slow: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Return shapes as cases: those of one are run by one process, which squashes it once."""
    cases = []
    for name in (*quick, *slow):
        marks: list[Any] = [pytest.mark.xdist_group(f"squash-{name}")]
        marks += [pytest.mark.slow] if name in slow else []
        cases.append(pytest.param(name, marks=marks))
    return pytest.mark.parametrize("shape", cases)


@pytest.fixture(scope="session")
def make(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Squash a shape, once in each process."""
    ground = Ground(cluster, tmp_path_factory.mktemp("squash"))
    made: dict[str, Squashed] = {}

    def make(name: str) -> Squashed:
        if name not in made:
            made[name] = grounds.squashed(ground, SHAPES[name]())
        return made[name]

    yield make
    ground.clear()


@pytest.fixture
def squashed(make: Make, shape: str) -> Squashed:
    """A shape whose chain was squashed."""
    found = make(shape)
    assert found.done.returncode == 0, found.done.stdout + found.done.stderr
    return found


@pytest.fixture
def ground(cluster: Cluster, tmp_path: Path) -> Iterator[Ground]:
    """A ground of the test's own."""
    ground = Ground(cluster, tmp_path)
    yield ground
    ground.clear()


def small() -> Shape:
    """Return a chain of six revisions in a line."""
    return long(6)


def laid_down(ground: Ground, shape: Shape | None = None, at: str = "") -> Project:
    """Return a project that was not squashed yet, whose database is at a revision."""
    project = (shape or small()).lay_down(ground.folder / "project", ground.database())
    if at:
        alembic(project, project.url, "upgrade", at)
    return project


def tree(project: Project) -> dict[str, str]:
    """Return the files that git could have, with their texts; those in hidden folders are none."""
    found = {path.relative_to(project.folder): path for path in sorted(project.folder.rglob("*"))}
    return {
        str(name): path.read_text()
        for name, path in found.items()
        if path.suffix in {".py", ".ini", ".toml", ".mako"}
        and not any(part.startswith(".") for part in name.parts)
    }


def revisions(project: Project) -> dict[str, script_files.Revision]:
    """Return the revisions on disk by their ids."""
    found = script_files.read(sorted((project.folder / VERSIONS).glob("*.py")))
    return {each.id: each for each in found}


def new_one(project: Project) -> script_files.Revision:
    """Return the only revision that a squash has written."""
    every = revisions(project).values()
    (found,) = (each for each in every if each.replaces and not each.is_rebased)
    return found


def heads(project: Project) -> set[str]:
    """Return the revisions on disk that no other one follows."""
    return script_files.heads(list(revisions(project).values()))


# ------------------------------------------------------------------ what is written


@shapes(*QUICK, slow=SLOW)
def test_one_file_is_written_and_the_others_are_put_away(squashed: Squashed) -> None:
    """It says what it replaces, in their order; Python has nothing to say; a tar has the others."""
    new = new_one(squashed.project)
    assert set(new.replaces) == set(squashed.shape.ids)
    places = {each: number for number, each in enumerate(new.replaces)}
    for each in squashed.shape.scripts:
        assert all(places[need] < places[each.id] for need in (*each.down, *each.depends_on))
    assert set(new.replaced_heads) == set(squashed.shape.heads)
    assert set(new.labels) == {label for each in squashed.shape.scripts for label in each.labels}
    assert (new.down, new.depends_on) == ((), ())
    assert re.fullmatch(r"\d+:[0-9a-f]{32}", new.replaced_schema)
    assert [each.name for each in squashed.scripts] == [new.path.name]
    argv = [sys.executable, "-W", "error", "-m", "py_compile", str(new.path)]
    assert subprocess.run(argv, capture_output=True, text=True, check=False).stderr == ""
    (archive,) = squashed.project.folder.glob("backups/*/*-replaced.tar.gz")
    listed = subprocess.run(["tar", "-tf", archive], capture_output=True, text=True, check=True)
    assert len([each for each in listed.stdout.split() if each.endswith(".py")]) == len(places)


@shapes(*QUICK, slow=SLOW)
def test_alembic_alone_makes_the_same_and_takes_it_back(squashed: Squashed) -> None:
    """The same objects, rows and sequences; `check` says the same; base has nothing of them."""
    project, url = squashed.project, squashed.ground.database()
    before = squashed.look(url).schema
    alembic(project, url, "upgrade", "heads")
    assert squashed.old.differs(squashed.look(url)) == []
    assert alembic(project, url, "check").stdout == squashed.checked
    alembic(project, url, "downgrade", "base")
    left = squashed.look(url).schema
    assert left == before
    alembic(project, url, "upgrade", "heads")
    assert squashed.old.differs(squashed.look(url)) == []


@shapes(*QUICK, slow=SLOW)
def test_the_database_of_who_squashes_is_not_touched(squashed: Squashed) -> None:
    """Its rows, its revision, and no database beside it."""
    assert squashed.versions(squashed.project.url) == set(squashed.shape.heads)
    template = squashed.ground.database(squashed.at_head)
    assert squashed.look(squashed.project.url).differs(squashed.look(template)) == []
    assert not grounds.scratches(squashed.ground)


@shapes("rows", slow=("objects", "branches", "schemas", "asynchronous"))
def test_it_is_proved_by_the_older_proof_too(squashed: Squashed) -> None:
    """`prove-squash` builds the tree of before, and finds no difference."""
    project = squashed.ground.clone(squashed.project, squashed.ground.database())
    done = project.invoke("prove-squash", "old")
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------ databases that follow


@shapes(*QUICK, slow=SLOW)
def test_a_database_at_the_old_head_follows(squashed: Squashed) -> None:
    """A colleague pulls and upgrades: no row is lost, nobody is asked, and nothing else changes."""
    project = squashed.colleague(squashed.at_head)
    before = squashed.look(project.url)
    told = project.invoke("status")
    assert told.returncode in {0, 6}
    assert "orphaned" not in told.stdout
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert before.differs(squashed.look(project.url)) == []
    assert squashed.versions(project.url) == heads(project)
    assert project.invoke("status").returncode == 0
    assert alembic(project, project.url, "check").stdout == squashed.checked


@shapes(*QUICK, slow=SLOW)
def test_a_database_in_the_middle_follows(squashed: Squashed) -> None:
    """The old revisions that it lacks are run from git's history; then it is at the new head."""
    project = squashed.colleague(squashed.in_the_middle)
    before = squashed.look(project.url)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    after = squashed.look(project.url)
    expected = squashed.ground.database(squashed.in_the_middle)
    old = squashed.ground.clone(squashed.project, expected, "old")
    alembic(old, expected, "upgrade", "heads")
    assert squashed.look(expected).differs(after) == []
    assert {each: len(rows) for each, rows in before.rows.items() if rows}.keys() <= {
        each for each, rows in after.rows.items() if rows
    }
    assert squashed.versions(project.url) == heads(project)
    assert tree(project) == tree(squashed.project)


@shapes("rows", slow=("branches", "objects", "anew", "schemas", "asynchronous"))
def test_a_branch_from_before_follows(squashed: Squashed) -> None:
    """Its revision follows an old one: `rebase` puts it behind the new one, then it upgrades."""
    shape = squashed.shape
    project = squashed.colleague(squashed.at_head)
    late = project.folder / VERSIONS / f"{LATE}.py"
    old = squashed.ground.clone(squashed.project, project.url, "old")
    for folder in (old.folder, project.folder):
        (folder / VERSIONS / late.name).write_text(shape.late.text)
    alembic(old, project.url, "upgrade", "heads")
    before = squashed.look(project.url)
    done = project.invoke("rebase")
    assert done.returncode == 0, done.stdout + done.stderr
    assert revisions(project)[LATE].down == (new_one(project).id,)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert before.differs(squashed.look(project.url)) == []
    assert squashed.versions(project.url) == heads(project)


@shapes("objects", slow=("rows", "branches"))
def test_a_branch_that_has_not_run_yet_follows(squashed: Squashed) -> None:
    """The database is at the old head; after `rebase`, the upgrade runs the branch's revision."""
    project = squashed.colleague(squashed.at_head)
    late = project.folder / VERSIONS / f"{LATE}.py"
    late.write_text(squashed.shape.late.text)
    before = squashed.look(project.url)
    assert project.invoke("rebase").returncode == 0
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    after = squashed.look(project.url)
    assert before.lost(after) == []
    assert after.rows["public.late"] == []
    assert squashed.versions(project.url) == heads(project)


@shapes(slow=("schemas",))
def test_a_branch_from_the_middle_gets_another_id(squashed: Squashed) -> None:
    """What follows was not under it: `rebase` says so; a database without it goes to the end."""
    project = squashed.colleague(squashed.at_head)
    late = project.folder / VERSIONS / f"{LATE}.py"
    late.write_text(replace(squashed.shape.late, down=squashed.shape.middle).text)
    before = squashed.look(project.url)
    told = project.invoke("rebase")
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"where {LATE} has run" in told.stdout
    (script,) = (each for each in revisions(project).values() if each.is_rebased)
    assert script.down == (new_one(project).id,)
    assert script.id != LATE
    assert script.replaces == (LATE,)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert before.lost(squashed.look(project.url)) == []
    assert squashed.versions(project.url) == {script.id}


@pytest.mark.slow
@shapes("rows")
def test_a_carry_follows(squashed: Squashed) -> None:
    """`reset-db --carry` builds by the new chain, and has the rows of the old database."""
    project = squashed.colleague(squashed.at_head)
    before = squashed.look(project.url)
    done = project.invoke("reset-db", "--carry", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    after = squashed.look(project.url)
    assert before.schema == after.schema
    assert before.lost(after) == []
    assert squashed.versions(project.url) == heads(project)


@shapes("objects")
def test_a_database_that_drifted_is_not_taken_for_the_old_head(squashed: Squashed) -> None:
    """Its version says the old head, its schema does not: told, until `--drifted` agrees."""
    project = squashed.colleague(squashed.at_head)
    execute(project.url, "ALTER TABLE people ADD COLUMN by_hand int; DROP TABLE rooms")
    before = squashed.look(project.url)
    done = project.invoke("upgrade")
    assert done.returncode in {3, 4, 6}
    assert squashed.versions(project.url) == set(squashed.shape.heads)
    assert "table rooms" in done.stderr
    assert "--drifted" in done.stderr
    done = project.invoke("upgrade", "--drifted")
    assert done.returncode == 0, done.stdout + done.stderr
    assert squashed.versions(project.url) == heads(project)
    assert before.differs(squashed.look(project.url)) == []


@shapes("rows", slow=("branches", "schemas", "objects", "asynchronous"))
def test_production_follows_by_sql_alone(squashed: Squashed) -> None:
    """`--sql` writes the new id at the old head; a second time, and elsewhere, nothing changes."""
    told = squashed.project.invoke("squash", "--sql")
    assert told.returncode == 0, told.stderr
    new = {new_one(squashed.project).id}
    url = squashed.ground.database(squashed.at_head)
    before = squashed.look(url)
    for _ in range(2):
        execute(url, told.stdout)
        assert squashed.versions(url) == new
    assert before.differs(squashed.look(url)) == []
    alembic(squashed.project, url, "upgrade", "heads")
    other = squashed.ground.database(squashed.in_the_middle)
    with pytest.raises(psycopg.errors.RaiseException, match="Nothing was changed"):
        execute(other, told.stdout)
    assert squashed.versions(other) == set(squashed.shape.middle)


@pytest.mark.slow
def test_a_squash_of_a_squash_is_followed_from_every_place(ground: Ground) -> None:
    """Old head, the first squash, and the middle of the oldest chain, by git's history alone."""
    shape = small()
    one = grounds.squashed(ground, shape)
    assert one.done.returncode == 0, one.done.stderr
    project = one.project
    first = new_one(project).id
    between = ground.database(one.at_head)
    assert ground.clone(project, between).invoke("upgrade").returncode == 0
    more = Script(
        id="more",
        down=(first,),
        up='op.execute("CREATE TABLE more (id int)")',
        back='op.execute("DROP TABLE more")',
    )
    (project.folder / VERSIONS / "more.py").write_text(more.text)
    commit(project.folder, "More")
    done = project.invoke("squash", "-m", "again")
    assert done.returncode == 0, done.stdout + done.stderr
    commit(project.folder, "Again")
    expected = ground.database()
    alembic(project, expected, "upgrade", "heads")
    wanted = look(shape, expected).schema
    for template in (one.at_head, one.in_the_middle, ground.name_of(between)):
        mate = ground.clone(project, ground.database(template))
        before = look(shape, mate.url)
        done = mate.invoke("upgrade")
        assert done.returncode == 0, done.stdout + done.stderr
        after = look(shape, mate.url)
        assert after.schema == wanted
        assert len(after.rows["public.t0"]) == len(before.rows["public.t0"]) == 2
        assert one.versions(mate.url) == {new_one(project).id}


# ------------------------------------------------------------------ what may be asked for


@pytest.mark.parametrize(
    ("first", "last"),
    slow_but(
        [("h0001", "h0003"), ("", "h0003"), ("h0002", "")], lambda case: bool(case[0] and case[1])
    ),
)
def test_a_part_of_the_chain(ground: Ground, first: str, last: str) -> None:
    """Only what is between is replaced, and what followed that follows the new one."""
    shape = small()
    project = laid_down(ground, shape, at="h0002")
    expected = ground.database()
    alembic(project, expected, "upgrade", "head")
    flags = [*(("--from", first) if first else ()), *(("--to", last) if last else ())]
    done = project.invoke("squash", "-m", MESSAGE, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    new = new_one(project)
    ids = shape.ids
    start, end = ids.index(first or ids[0]), ids.index(last or ids[-1])
    assert new.replaces == ids[start : end + 1]
    assert new.down == ids[start - 1 : start] if start else new.down == ()
    assert set(revisions(project)) == {*ids[:start], new.id, *ids[end + 1 :]}
    if last:
        assert revisions(project)[ids[end + 1]].down == (new.id,)
    url = ground.database()
    alembic(project, url, "upgrade", "head")
    assert look(shape, expected).differs(look(shape, url)) == []
    commit(project.folder, "Squash")
    done = project.invoke("upgrade")  # at h0002, which is one of those that are replaced
    assert done.returncode == 0, done.stdout + done.stderr
    assert look(shape, project.url).schema == look(shape, expected).schema


def test_random_ids_want_a_decision(ground: Ground) -> None:
    """What each build fills anew is named, each column; nothing is changed without an answer."""
    project = laid_down(ground, SHAPES["anew"]())
    before = tree(project)
    done = project.invoke("squash", "-m", MESSAGE)
    assert done.returncode == 3
    for column in SHAPES["anew"]().volatile:
        assert column in done.stderr
    assert "--rows keep" in done.stderr
    assert "--rows none" in done.stderr
    assert tree(project) == before
    assert not grounds.scratches(ground)


@pytest.mark.parametrize(
    ("flags", "words"),
    slow_but(
        [
            ((), "--rows none leaves them out"),
            (("--rows", "keep"), "--rows none leaves them out"),
            (("--from", "h0004"), "of the large objects is only in the old chain"),
            (("--rows", "none"), ""),
        ],
        lambda case: not case[0],
    ),
)
def test_large_objects_want_a_decision(ground: Ground, flags: tuple[str, ...], words: str) -> None:
    """No revision is written with such; without an answer nothing is lost, and nothing changed."""
    late = Script(id="large", down=(), up="op.execute(\"SELECT lo_from_bytea(0, 'x')\")")
    project = laid_down(ground, replace(small(), scripts=line(*small().scripts, late)))
    before = tree(project)
    done = project.invoke("squash", "-m", MESSAGE, *flags)
    assert words in done.stderr
    assert (done.returncode != 0) == bool(words), done.stdout + done.stderr
    assert (tree(project) == before) == bool(words)


@pytest.mark.parametrize("rows", slow_but(["keep", "none"], lambda rows: rows == "none"))
def test_rows_of_migrations(ground: Ground, rows: str) -> None:
    """They are inserted, or left out; those in a database that follows stay in either case."""
    one = grounds.squashed(ground, SHAPES["rows"](), "--rows", rows)
    assert one.done.returncode == 0, one.done.stdout + one.done.stderr
    url = ground.database()
    alembic(one.project, url, "upgrade", "head")
    made = one.look(url)
    assert made.schema == one.old.schema
    assert bool(made.rows["public.roles"]) is (rows == "keep")
    project = one.colleague(one.at_head)
    before = one.look(project.url)
    assert project.invoke("upgrade").returncode == 0
    assert before.differs(one.look(project.url)) == []


@pytest.mark.parametrize(
    "shape",
    slow_but(["objects", "rows", "schemas", "asynchronous"], lambda name: name == "objects"),
)
def test_as_sql(ground: Ground, shape: str) -> None:
    """The same, written as SQL alone."""
    one = grounds.squashed(ground, SHAPES[shape](), "--as", "sql")
    assert one.done.returncode == 0, one.done.stdout + one.done.stderr
    assert "op.create_table" not in new_one(one.project).path.read_text()
    url = ground.database()
    alembic(one.project, url, "upgrade", "head")
    assert one.old.differs(one.look(url)) == []
    alembic(one.project, url, "downgrade", "base")
    left = one.look(url).schema
    assert [each for each in left if "Type: TABLE" in each and "alembic_version" not in each] == []


def test_a_plan_changes_nothing(ground: Ground) -> None:
    """It names what would be replaced, and what would be done; no file and no database is new."""
    project = laid_down(ground, at="head")
    before = tree(project)
    done = project.invoke("squash", "-m", MESSAGE, "--plan")
    assert done.returncode == 0, done.stderr
    assert "6 revisions" in done.stdout
    assert "nothing was changed" in done.stdout
    assert tree(project) == before
    assert not grounds.scratches(ground)
    assert not (project.folder / "backups").exists()


def test_json(ground: Ground) -> None:
    """Programs get the steps, the file, what it replaces, and the archive."""
    project = laid_down(ground)
    done = project.invoke("squash", "-m", MESSAGE, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"]) == (0, 0), done.stderr
    assert [each["step"] for each in told["steps"]] == list(STEPS)
    new = new_one(project)
    assert new.id in done.stdout
    assert "replaced.tar.gz" in done.stdout


def test_a_tree_with_changes_is_refused(ground: Ground) -> None:
    """What is not committed could not come back; `--dirty` goes on."""
    project = laid_down(ground)
    script = next(iter(sorted((project.folder / VERSIONS).glob("*.py"))))
    script.write_text(script.read_text() + "\n# mine\n")
    before = tree(project)
    done = project.invoke("squash", "-m", MESSAGE)
    assert done.returncode == 3
    assert script.name in done.stderr
    assert "--dirty" in done.stderr
    assert tree(project) == before
    done = project.invoke("squash", "-m", MESSAGE, "--dirty")
    assert done.returncode == 0, done.stderr
    assert new_one(project).replaces == small().ids


REFUSED: dict[str, tuple[str, tuple[str, ...], str]] = {
    "an unknown revision": ("", ("--from", "nobody"), "nobody"),
    "the wrong way round": ("", ("--from", "h0004", "--to", "h0002"), "h0004"),
    "a single revision": ("", ("--from", "h0002", "--to", "h0002"), "h0002"),
    "another chain": ("", ("--chain", "nobody"), "nobody"),
    "rows": ("", ("--rows", "some"), "some"),
    "as": ("", ("--as", "yaml"), "yaml"),
    "a part of a branch": ("branches", ("--from", "d1", "--to", "d3l"), "d2r"),
}


@pytest.mark.parametrize(("shape", "flags", "word"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_squashed_is_said(
    ground: Ground, shape: str, flags: tuple[str, ...], word: str
) -> None:
    """By name, before anything is built, and nothing is changed."""
    project = laid_down(ground, SHAPES[shape]() if shape else None)
    before = tree(project)
    done = project.invoke("squash", "-m", MESSAGE, *flags)
    assert done.returncode in {2, 3, 4}, done.stdout + done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(project) == before
    assert not grounds.scratches(ground)


OLD_ROWS = {
    "rows are updated": 'op.execute("UPDATE t SET name = upper(name)")',
    "a column is renamed": "op.alter_column('t', 'name', new_column_name='title')",
    "the table is moved": "op.execute('CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s')",
    "a default fills a column": "op.execute('ALTER TABLE t ADD n int DEFAULT 5; '"
    "'ALTER TABLE t ALTER n DROP DEFAULT')",
}


@pytest.mark.parametrize(
    "change", slow_but(OLD_ROWS.values(), lambda change: "new_column_name" in change)
)
def test_rows_from_before_a_part_go_through_what_it_replaces(ground: Ground, change: str) -> None:
    """Alembic alone refuses to run the part there; `upgrade` runs the old revisions instead."""
    scripts = line(
        Script(id="a1", down=(), up="op.execute('CREATE TABLE t (id serial, name text)')"),
        Script(id="a2", down=(), up="op.execute('CREATE TABLE other (id serial)')"),
        Script(id="a3", down=(), up=change),
        Script(id="a4", down=(), up="op.execute('CREATE TABLE last (id serial)')"),
    )
    shape = replace(small(), scripts=scripts)
    project = laid_down(ground, shape, at="a1")
    execute(project.url, "INSERT INTO t (name) VALUES ('Ann'), ('Bob')")
    expected = ground.database(ground.name_of(project.url))
    alembic(project, expected, "upgrade", "head")
    done = project.invoke("squash", "-m", MESSAGE, "--from", "a2", "--to", "a3")
    assert done.returncode == 0, done.stdout + done.stderr
    commit(project.folder, "Squash")
    copy = ground.database(ground.name_of(project.url))
    alone = run_alembic(project.folder, copy, "upgrade", "head")
    assert "has rows that the replaced revisions may have changed" in alone.stderr
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✔ follow    a1 →" in done.stdout
    assert look(shape, expected).differs(look(shape, project.url)) == []
    alembic(project, ground.database(), "upgrade", "head")


def test_a_chain_that_cannot_be_built_is_said(ground: Ground) -> None:
    """With its revision; the tree is as it was, and no database is left."""
    scripts = line(
        *small().scripts, Script(id="bad", down=(), up='op.execute("DROP TABLE nobody")')
    )
    shape = Shape(name="bad", scripts=scripts, models="", middle=(), rows="", early_rows="")
    project = laid_down(ground, shape)
    before = tree(project)
    done = project.invoke("squash", "-m", MESSAGE)
    assert done.returncode == 4
    assert "bad" in done.stderr
    assert 'table "nobody" does not exist' in done.stderr
    assert tree(project) == before
    assert not grounds.scratches(ground)


def test_models_that_only_an_old_revision_imports_are_told(ground: Ground) -> None:
    """Without that revision `verify` finds their tables too many: env.py has to import them."""
    imports = "import models; sa.Table('late', models.metadata, sa.Column('id', sa.Integer))"
    scripts = line(
        Script(id="a1", down=(), up="op.execute('CREATE TABLE early (id int)')"),
        Script(id="a2", down=(), up="op.execute('CREATE TABLE late (id int)')"),
    )
    project = laid_down(ground, replace(small(), scripts=scripts))
    path = next((project.folder / VERSIONS).glob("*_a2.py"))
    path.write_text(f"{path.read_text()}\n{imports}\n")
    commit(project.folder, "Import a model in a revision")
    done = project.invoke("squash", "-m", MESSAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "only the old revisions have imported the models of late" in done.stdout


def test_without_git(ground: Ground) -> None:
    """A tree that nothing keeps can be squashed by whoever says so; the archive is what is kept."""
    project = laid_down(ground, at="h0002")
    shutil.rmtree(project.folder / ".git")
    done = project.invoke("squash", "-m", MESSAGE)
    if done.returncode:
        assert done.returncode == 3
        assert "--dirty" in done.stderr
        done = project.invoke("squash", "-m", MESSAGE, "--dirty")
    assert done.returncode == 0, done.stderr
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stderr
    assert project.query("SELECT version_num FROM alembic_version") == [(new_one(project).id,)]


# ------------------------------------------------------------------ kill -9


def killed_at(project: Project, step: str, delay_s: float) -> bool:
    """Squash, and kill it when a step is over; tell whether it was still running."""
    with project.start("squash", "-m", MESSAGE) as running:
        assert running.stdout is not None
        if step:
            for said in running.stdout:
                if f"✔ {step}" in said:
                    break
        time.sleep(delay_s)
        is_running = running.poll() is None
        running.send_signal(signal.SIGKILL)
        running.communicate()
    return is_running


@pytest.mark.parametrize(
    ("step", "delay_s"),
    slow_but(
        [
            ("", 0.6),
            *((each, 0.0) for each in STEPS),
            *(("", at / 4) for at in range(3, 24)),
            *(("prove", at / 200) for at in range(1, 12)),
        ],
        lambda case: case == ("prove", 0.0),
    ),
)
def test_a_squash_that_is_killed(ground: Ground, step: str, delay_s: float) -> None:
    """The tree is as it was or wholly squashed; the next run ends well, and leaves no database."""
    project = laid_down(ground, at="head")
    before = tree(project)
    killed_at(project, step, delay_s)
    after = tree(project)
    if after != before:
        assert [each.replaces for each in revisions(project).values()] == [small().ids]
        assert {each for each in before if VERSIONS not in each} <= set(after)
        url = ground.database()
        alembic(project, url, "upgrade", "head")
    for words in [["squash", "-m", MESSAGE]] if after == before else [["upgrade"], PROVE]:
        done = project.invoke(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert new_one(project).replaces == small().ids
    assert not grounds.scratches(ground)
    left = [str(path.relative_to(project.folder)) for path in project.folder.rglob("*")]
    assert [each for each in left if re.search(r"squashed|journal|partial", each)] == []


# ------------------------------------------------------------------ what belongs to the server


@pytest.fixture
def roles(ground: Ground) -> Iterator[tuple[str, str]]:
    """The names of two roles; they are dropped in the end."""
    names = f"{ground.prefix}_reader", f"{ground.prefix}_ann"
    yield names
    ground.clear()
    drop(ground, names)


def drop(ground: Ground, names: tuple[str, ...]) -> None:
    """Drop roles."""
    execute(ground.cluster.url("postgres"), f"DROP ROLE IF EXISTS {', '.join(names)}")


def of_the_server(reader: str, ann: str) -> Shape:
    """Return a chain that makes roles, and says something of its database as a whole."""
    first = f"""
    op.execute(\"\"\"DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{reader}') THEN
            CREATE ROLE {reader};
        END IF;
    END $$\"\"\")
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("GRANT SELECT ON notes TO {reader}")
    """
    second = f"""
    op.execute("CREATE ROLE {ann} LOGIN PASSWORD 'never-told'; GRANT {reader} TO {ann}")
    op.execute("ALTER ROLE {reader} SET work_mem = '7MB'")
    """
    third = """
    op.execute(\"\"\"DO $$ BEGIN
        EXECUTE format('COMMENT ON DATABASE %I IS ''of the notes: 5%%''', current_database());
    END $$\"\"\")
    """
    ups = zip(("a1", "b2", "c3"), (first, second, third), strict=True)
    models = 'Table("notes", metadata, Column("id", sa.Integer, primary_key=True))\n'
    return replace(
        small(), models=models, scripts=line(*(Script(id=each, down=(), up=up) for each, up in ups))
    )


def test_roles_are_made_where_they_are_missing(ground: Ground, roles: tuple[str, str]) -> None:
    """What revisions say to the server is in the new one, without a password; that runs twice."""
    reader, ann = roles
    project = laid_down(ground, of_the_server(reader, ann))
    done = project.invoke("squash", "-m", MESSAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "begins with 5 statements to the server, without the password: a1: " in done.stdout
    assert "never-told" not in new_one(project).path.read_text() + done.stdout + done.stderr
    drop(ground, roles)
    for _ in range(2):  # in a second database, the roles are there already
        url = ground.database()
        alembic(project, url, "upgrade", "head")
    found = Project(project.folder, {"DATABASE_URL": url}).query(
        f"SELECT rolcanlogin, rolconfig, pg_has_role(rolname, '{reader}', 'member'), "
        "shobj_description((SELECT oid FROM pg_database WHERE datname = current_database()), "
        f"'pg_database') FROM pg_roles WHERE rolname IN ('{reader}', '{ann}') ORDER BY rolname"
    )
    said = "of the notes: 5%"
    assert found == [(True, None, True, said), (False, ["work_mem=7MB"], True, said)]


@pytest.mark.parametrize("answer", slow_but(["keep", "none"], lambda answer: answer == "none"))
def test_what_no_revision_can_say_wants_a_decision(
    ground: Ground, roles: tuple[str, str], answer: str
) -> None:
    """It is named with its revision; `keep` writes the rest, `none` nothing of it."""
    shape = of_the_server(*roles)
    text = (
        'with op.get_context().autocommit_block():\n    op.execute("ALTER SYSTEM RESET work_mem")'
    )
    shape = replace(shape, scripts=line(*shape.scripts, Script(id="d4", down=(), up=text)))
    project = laid_down(ground, shape)
    before = tree(project)
    done = project.invoke("squash", "-m", MESSAGE)
    assert done.returncode == 3
    assert "d4: ALTER SYSTEM RESET work_mem" in done.stderr
    assert "--cluster keep" in done.stderr
    assert tree(project) == before
    drop(ground, roles)
    done = project.invoke("squash", "-m", MESSAGE, "--cluster", answer)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "leaves out what was said to the server" in done.stdout
    text = new_one(project).path.read_text()
    assert "ALTER SYSTEM" not in text
    assert ("CREATE ROLE" in text) is (answer == "keep")


# ------------------------------------------------------------------ several chains


MORE = {  # of each chain; those of billing need what core has made
    "core": ("note", "sa.Text"),
    "billing": ("core_id", "sa.Integer, sa.ForeignKey('core_items.id')"),
}
TWO_CHAINS = [  # which one is squashed, and from where a database follows
    ("billing", "billing2"),
    ("billing", "billing3"),
    ("core", "core2"),
    ("core", "core3"),
]


def with_two_chains(ground: Ground) -> Project:
    """Return a project of git with two chains of three revisions, each with a version table."""
    project = laid_down_copy(ground.folder / "chains", "door/chains", ground.database())
    for name, (column, type_) in MORE.items():
        shutil.copy(USUAL_TEMPLATE, project.folder / name)
        rows = f"op.execute('INSERT INTO {name}_items (id) VALUES (7)')"
        added = f"op.add_column('{name}_items', sa.Column('{column}', {type_}))"
        gone = f"op.drop_column('{name}_items', '{column}')"
        for script in (
            Script(id=f"{name}2", down=(f"{name}1",), up=rows),
            Script(id=f"{name}3", down=(f"{name}2",), up=added, back=gone),
        ):
            path = project.folder / name / f"versions/{script.id}.py"
            path.write_text(script.text)
    git(project.folder, "init", "-q", "-b", "main")
    commit(project.folder, "Begin")
    return project


def rows_of(project: Project, chain: str) -> list[tuple[str]]:
    """Return what the version table of a chain names."""
    return project.query(f"SELECT version_num FROM {chain}_version")


@pytest.mark.parametrize(
    ("chain", "start"), slow_but(TWO_CHAINS, lambda case: case == ("billing", "billing2"))
)
def test_one_of_two_chains(ground: Ground, chain: str, start: str) -> None:
    """It alone is squashed, on what the chain before it makes; the other one stays as it is."""
    project = with_two_chains(ground)
    other = next(each for each in MORE if each != chain)
    assert project.invoke("upgrade").returncode == 0
    project.query(f"INSERT INTO {chain}_items (id) VALUES (8)")
    expected = judging.look(project.url, version_table=f"{chain}_version").schema
    behind = start.endswith("2")
    if behind:
        done = project.invoke("alembic", "--chain", chain, "--", "downgrade", start)
        assert done.returncode == 0, done.stdout + done.stderr
    done = project.invoke("squash", "-m", MESSAGE)
    assert "name one of core, billing: --chain NAME" in done.stderr
    done = project.invoke("squash", "-m", MESSAGE, "--chain", chain)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 files" in done.stdout
    assert len([*(project.folder / other / "versions").glob("*.py")]) == 3
    commit(project.folder, "Squash")
    proved = project.invoke("prove-squash", "HEAD~1")
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert f"{chain}_version" in project.invoke("squash", "--sql", "--chain", chain).stdout
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("after 1 old revision" in done.stdout) is behind
    (path,) = (project.folder / chain / "versions").glob("*.py")
    (new,) = script_files.read([path])
    assert rows_of(project, chain) == [(new.id,)]
    assert rows_of(project, other) == [(f"{other}3",)]
    assert judging.look(project.url, version_table=f"{chain}_version").schema == expected
    assert project.query(f"SELECT id FROM {chain}_items ORDER BY id") == [(7,), (8,)]
    again = project.invoke("upgrade")
    assert again.returncode == 0
    assert "follow" not in again.stdout
