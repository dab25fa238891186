"""What the databases of real projects were in: each is told rightly, and no cure loses a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests import corpus
from tests.corpus import then, upgraded
from tests.marks import slow_but
from tests.project import PROJECTS, Project, laid_down, prints
from tests.situations import built

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OURS = "situations"  # the folder of the projects that are for this alone


@dataclass(frozen=True)
class Situation:
    """A project, what happened to its database, and what is made of it.

    state, way: of the diagnosis and its cure, as `status` has them. cures: what `repair --yes` did.
    code, ends: its exit code, and the state after it. said: words of what `status` says.
    """

    what: str
    project: str
    make: Callable[[Project], None]
    state: str
    way: str
    cures: tuple[str, ...] = ()
    code: int = 0
    ends: str = "at head"
    said: str = ""


DEAD = "UPDATE {} SET version_num = 'dead'"
LOST = "DELETE FROM alembic_version"
PROVED = ("stamp",)
SITUATIONS = [
    # ------------------------------------------------------------ half applied
    Situation("a column is there already, which a script makes by an imported Column",
              "half_way", then("ALTER TABLE guests ADD name text", "a1"),
              "half applied", "prove", ("stamp", "upgrade"), said="column guests.name exists"),
    Situation("a value of an enum is there already, which no downgrade took away",
              "half_way", then("ALTER TYPE mood ADD VALUE 'happy'", "b1"),
              "half applied", "prove", ("stamp", "upgrade"), said="value mood.happy exists"),
    Situation("a sequence is there already", "half_way", then("CREATE SEQUENCE numbers", "c1"),
              "half applied", "prove", ("stamp", "upgrade"), said="sequence numbers exists"),
    Situation("a view is there already",
              "half_way", then("CREATE VIEW names AS SELECT name FROM guests", "d1"),
              "half applied", "prove", ("stamp", "upgrade"), said="view names exists"),
    Situation("a domain is there already, of the last revision",
              "half_way", then("CREATE DOMAIN stars AS int CHECK (VALUE <= 5)", "e1"),
              "half applied", "prove", PROVED, said="domain stars exists"),
    Situation("a domain is there already, and it is another one",
              "half_way", then("CREATE DOMAIN stars AS text", "e1"),
              "half applied", "prove", ("carry",)),
    Situation("what two revisions make is there, and what is between them is not",
              "half_way", then("ALTER TABLE guests ADD name text; CREATE SEQUENCE numbers", "a1"),
              "half applied", "prove", ("carry",)),
    # ------------------------------------------------------------ squashed, deleted, numbered
    Situation("a squash keeps the id of the first revision; what was deleted is in git",
              "squash", corpus.squashed_under_the_first_id,
              "orphaned revision", "restore file", PROVED),
    Situation("such a squash, and the new first script makes more: the file would not build",
              "squash", corpus.squashed_and_changed,
              "orphaned revision", "restore file", ("carry",)),
    Situation("003 twice in git, and the database has had the second",
              "squash", corpus.numbered_second,
              "orphaned revision", "restore file", ("restore file",)),
    Situation("003 twice in git, and the database has had the first",
              "squash", corpus.numbered_first, "orphaned revision", "restore file", code=6,
              ends="orphaned revision"),
    # ------------------------------------------------------------ order, commands
    Situation("siblings that build in Alembic's own order only, and the version is lost",
              "siblings", then(LOST), "ahead", "prove", PROVED),
    Situation("siblings that build in Alembic's own order only, with an orphan",
              "siblings", then(DEAD.format("alembic_version")),
              "orphaned revision", "prove", PROVED),
    Situation("a command of the project migrates, and the version names what nobody has",
              "door/manage", then(DEAD.format("alembic_version")),
              "orphaned revision", "prove", PROVED),
    Situation("a command of the project migrates, and before it `init` has made a table",
              "door/manage", corpus.with_init, "at head", "none"),
    # ------------------------------------------------------------ whose is it
    Situation("two applications keep their revisions in one version table",
              "states", corpus.of_two_applications, "orphaned revision", "by hand", code=6,
              ends="orphaned revision", said="knows geo_user"),
    Situation("one of several chains has an orphan",
              "door/chains", then(DEAD.format("core_version")),
              "orphaned revision", "prove", PROVED, said="core_version names dead"),
    Situation("scripts are in folders below, where Alembic does not look",
              "states", corpus.in_a_folder_below, "broken chain", "by hand", code=6,
              ends="broken chain", said="recursive_version_locations"),
    # ------------------------------------------------------------ schemas, names
    Situation("all tenants have an orphan", "tenants_asked",
              then(f"{DEAD.format('red.alembic_version')};{DEAD.format('blue.alembic_version')}"),
              "orphaned revision", "prove", PROVED),
    Situation("one tenant of two has an orphan",
              "tenants_asked", then(DEAD.format("red.alembic_version")),
              "orphaned revision", "prove", PROVED, said="red.alembic_version names dead"),
    Situation("one tenant lacks a column that the other one has", "tenants_asked",
              then("ALTER TABLE red.orders DROP note"), "drift", "by hand", ("carry",)),
    Situation("one tenant is a revision behind the other one", "tenants_asked",
              then("ALTER TABLE red.orders DROP note; "
                   "UPDATE red.alembic_version SET version_num = 'a1'"),
              "behind", "upgrade", ("upgrade",)),
    Situation("one tenant has lost its version", "tenants_asked",
              then("DELETE FROM red.alembic_version"), "behind", "upgrade", PROVED),
    Situation("a tenant is new, and has nothing yet", "tenants_asked", corpus.with_a_new_tenant,
              "behind", "upgrade", ("upgrade",)),
    Situation("all tenants are a revision behind", "tenants_asked",
              then("ALTER TABLE red.orders DROP note; ALTER TABLE blue.orders DROP note; "
                   "UPDATE red.alembic_version SET version_num = 'a1'; "
                   "UPDATE blue.alembic_version SET version_num = 'a1'"),
              "behind", "upgrade", ("upgrade",)),
    Situation("env.py sets the search path and commits, with an orphan",
              "cookbook", then(DEAD.format("shop.alembic_version")),
              "orphaned revision", "prove", PROVED),
    Situation("the search path leads to a schema that no migration makes, with an orphan",
              "locations", corpus.led_and_orphaned, "orphaned revision", "prove", PROVED),
    Situation("a name over 63 bytes, and the version is lost",
              "names", then(LOST), "ahead", "prove", PROVED),
    Situation("a column whose name is over 63 bytes is gone", "names",
              then("ALTER TABLE letters_that_were_sent_to_customers_who_have_not_answered_for_a "
                   "DROP the_day_on_which_the_customer_has_first_been_asked_for_consent_"),
              "stamped but not migrated", "prove", ("stamp", "upgrade")),
    Situation("a column is of another type, in a table whose name is over 63 bytes", "names",
              then("ALTER TABLE letters_that_were_sent_to_customers_who_have_not_answered_for_a "
                   "ALTER code TYPE varchar(9)"),
              "drift", "by hand", ("carry",), said="code: type VARCHAR(9) in the database"),
    # ------------------------------------------------------------ of the server's own
    Situation("a session has used a temporary table",
              "states", corpus.temporary, "at head", "none"),
    Situation("a session has used a temporary table, and the version is lost", "states",
              corpus.temporary_and_lost, "ahead", "prove", PROVED),
]  # fmt: skip

QUICK = {  # what needs no cure, and the stamp that is better than a file
    "a session has used a temporary table",
    "a squash keeps the id of the first revision; what was deleted is in git",
}


def laid(tmp_path: Path, name: str, url: str) -> Project:
    """Lay a project down, which is of `OURS` if there is one."""
    ours = f"{OURS}/{name}"
    return laid_down(tmp_path / "p", ours if (PROJECTS / ours).exists() else name, url)


def told(project: Project, *words: str) -> dict[str, Any]:
    """Run a task, and return its report."""
    done = project.invoke(*words, "--json")
    content: dict[str, Any] = json.loads(done.stdout)
    assert content["exit_code"] == done.returncode
    return content


@pytest.mark.parametrize(
    "case", slow_but(SITUATIONS, lambda case: case.what in QUICK), ids=lambda case: case.what
)
def test_a_situation_is_told_rightly_and_cured_without_a_loss(
    tmp_path: Path, database_url: str, case: Situation
) -> None:
    """Its state and its cure; what `repair --yes` does of it, and that all rows are there then."""
    project = laid(tmp_path, case.project, database_url)
    case.make(project)
    rows, before, which = corpus.rows(project), prints(project), corpus.identity(project)
    assert any(rows.values()), "without a row nothing could be lost"
    found = told(project, "status")
    assert (found["state"], found["cure"]["way"]) == (case.state, case.way), found["evidence"]
    assert case.said in f"{found['evidence']} {found['cure']}"

    done = told(project, "repair", "--yes")
    assert corpus.lost(project, rows) == []
    cures = tuple(each["cure"]["way"] for each in done["repairs"])
    assert (cures, done["exit_code"], done["state"]) == (case.cures, case.code, case.ends), done
    after = told(project, "status")
    assert (after["state"], after["exit_code"]) == (case.ends, case.code), after["evidence"]
    assert not {"reset", "carry"} & {*cures} or cures.count("carry") == 1
    if not {"reset", "carry"} & {*cures}:
        assert corpus.identity(project) == which
    if not cures:
        assert prints(project) == before


HEALTHY: list[tuple[str, Callable[[Project], None]]] = [
    ("names", upgraded), ("cookbook", upgraded), ("beyond_models", upgraded),
    ("half_way", upgraded), ("squash", upgraded), ("siblings", upgraded),
    ("states", built), ("states", corpus.temporary), ("tenants_asked", upgraded),
    ("tenants", upgraded), ("branches", upgraded), ("locations", upgraded),
    ("locations", corpus.led), ("schemas", upgraded), ("conventions", upgraded),
    ("per_migration", upgraded), ("objects", upgraded), ("version_schema", upgraded),
    ("talkative", upgraded), ("thread", upgraded), ("two_heads", corpus.all_heads),
    ("multidb", corpus.billing), ("door/manage", upgraded), ("door/manage", corpus.with_init),
    ("door/chains", upgraded),
]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "make"),
    slow_but(HEALTHY, lambda case: case == ("names", upgraded)),
    ids=[f"{name}-{make.__name__}" for name, make in HEALTHY],
)
def test_a_healthy_database_is_left_alone(
    tmp_path: Path, database_url: str, shape: str, make: Callable[[Project], None]
) -> None:
    """It is at head, and a repair of it changes nothing: it is the same database with its rows."""
    project = laid(tmp_path, shape, database_url)
    make(project)
    before, which = prints(project), corpus.identity(project)
    shown = project.invoke("status", "--prove")
    assert (shown.returncode, shown.stderr) == (0, ""), shown
    assert " state     at head: " in shown.stdout
    assert "proved\n" in shown.stdout
    done = told(project, "repair", "--yes")
    assert (done["exit_code"], done["state"], done["repairs"]) == (0, "at head", []), done
    assert (prints(project), corpus.identity(project)) == (before, which)
    assert told(project, "status")["state"] == "at head"


# What was done to the project `beyond_models`, and what the proof says of it.
BEYOND_MODELS = {
    "CHECK": ("ALTER TABLE stays DROP CONSTRAINT nights_positive", "nights_positive"),
    "another CHECK": (
        """ALTER TABLE stays DROP CONSTRAINT nights_positive;
        ALTER TABLE stays ADD CONSTRAINT nights_positive CHECK (nights > -1)""",
        "nights_positive",
    ),
    "EXCLUDE": ("ALTER TABLE stays DROP CONSTRAINT one_guest", "one_guest"),
    "trigger": ("DROP TRIGGER keep ON stays", "trigger keep"),
    "another trigger": (
        """CREATE OR REPLACE TRIGGER keep BEFORE DELETE ON stays
        FOR EACH ROW EXECUTE FUNCTION keep()""",
        "trigger keep",
    ),
    "function": ("DROP FUNCTION twice(int)", "function twice"),
    "another function": (
        "CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 3'",
        "function twice",
    ),
    "view": ("DROP VIEW long_stays", "view long_stays"),
    "another view": (
        "CREATE OR REPLACE VIEW long_stays AS SELECT room FROM stays WHERE nights > 8",
        "view long_stays",
    ),
    "materialized view": ("DROP MATERIALIZED VIEW per_room", "materialized view per_room"),
    "policy": ("DROP POLICY mine ON stays", "policy mine"),
    "row security": ("ALTER TABLE stays ENABLE ROW LEVEL SECURITY", "stays"),
    "computed": ("ALTER TABLE stays ALTER price SET EXPRESSION AS (nights * 90)", "stays.price"),
    "identity": (
        """ALTER TABLE stays ALTER id DROP IDENTITY;
        CREATE SEQUENCE stays_ids START 9 OWNED BY stays.id;
        ALTER TABLE stays ALTER id SET DEFAULT nextval('stays_ids')""",
        "stays.id",
    ),
    "sequence": ("ALTER SEQUENCE numbers INCREMENT 1", "sequence numbers"),
    "domain": ("ALTER DOMAIN stars DROP CONSTRAINT stars_check", "stars"),
}


@pytest.mark.parametrize("kind", slow_but(BEYOND_MODELS, lambda kind: kind == "identity"))
def test_what_alembic_does_not_compare_is_found_by_a_proof(
    tmp_path: Path, database_url: str, kind: str
) -> None:
    """`status` says that it was not compared; a proof finds it, and says who has what."""
    statement, named = BEYOND_MODELS[kind]
    project = laid(tmp_path, "beyond_models", database_url)
    upgraded(project)
    project.query(statement)
    found = project.invoke("status")
    assert found.returncode == 0, found
    assert "not compared: what Alembic does not compare (CHECK, triggers, " in found.stdout
    rows = corpus.rows(project)
    proved = told(project, "status", "--prove")
    assert (proved["state"], proved["exit_code"]) == ("drift", 6), proved
    assert named in proved["evidence"][0]
    assert corpus.rows(project) == rows


@pytest.mark.slow
def test_a_drift_beyond_the_models_is_cured_with_the_rows(
    tmp_path: Path, database_url: str
) -> None:
    """A proof that finds a lost CHECK leads to a rebuild, which takes the rows along."""
    project = laid(tmp_path, "beyond_models", database_url)
    corpus.then(BEYOND_MODELS["CHECK"][0])(project)
    rows = corpus.rows(project)
    assert project.invoke("repair").returncode == 3
    done = told(project, "repair", "--yes")
    assert [each["cure"]["way"] for each in done["repairs"]] == ["carry"], done
    assert (done["state"], corpus.lost(project, rows)) == ("at head", [])


PLACES = """
    SELECT n.nspname::text, relname::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind = 'r' AND nspname !~ '^(pg_|information_schema)' ORDER BY 1, 2
"""


REBUILT: list[tuple[str, Callable[[Project], None]]] = [
    ("names", upgraded), ("cookbook", upgraded), ("locations", corpus.led),
    ("tenants_asked", upgraded), ("beyond_models", upgraded), ("siblings", upgraded),
    ("door/manage", corpus.with_init),
]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "make"),
    slow_but(REBUILT, lambda case: case[0] == "cookbook"),
    ids=[name for name, _ in REBUILT],
)
def test_a_rebuilt_database_is_healthy(
    tmp_path: Path, database_url: str, shape: str, make: Callable[[Project], None]
) -> None:
    """Its tables are in the schemas in which they were, and it is at head."""
    project = laid(tmp_path, shape, database_url)
    make(project)
    places = project.query(PLACES)
    done = project.invoke("reset-db")
    assert done.returncode == 0, done
    assert project.query(PLACES) == places
    found = told(project, "status")
    assert (found["state"], found["exit_code"]) == ("at head", 0), found["evidence"]


@pytest.mark.parametrize("task", slow_but(["upgrade", "reset-db"], lambda task: task == "upgrade"))
def test_an_env_py_that_never_commits_is_told(tmp_path: Path, database_url: str, task: str) -> None:
    """Nothing was written, and no task says otherwise; the line that mends it is named."""
    project = laid(tmp_path, "never_commits", database_url)
    done = project.invoke(task)
    assert (done.returncode, "env.py's transaction was rolled back" in done.stderr) == (4, True)
    assert "connection.commit()" in done.stderr
    assert told(project, "status")["state"] == "empty"


@pytest.mark.slow
def test_sections_without_script_location_are_named(tmp_path: Path, database_url: str) -> None:
    """Each task says what chooses one of them, and changes nothing."""
    project = laid(tmp_path, "door/chains", database_url)
    upgraded(project)
    before = prints(project)
    (project.folder / "pyproject.toml").unlink()
    for task in ("status", "repair", "reset-db"):
        done = project.invoke(task)
        assert done.returncode == 4, done
        assert "[core], [billing] have" in done.stderr
        assert 'section = "NAME"' in done.stderr
    assert prints(project) == before


UNDONE = """
    if not connection.exec_driver_sql("SELECT current_database() LIKE '%%scratch%%'").scalar():
        connection.exec_driver_sql("{}")
    connection.commit()
"""


@pytest.mark.parametrize(
    ("shape", "statement", "ways"),
    slow_but(
        [
            ("squash", "DROP TABLE IF EXISTS notes", ["stamp", "upgrade"]),
            ("half_way", "ALTER TABLE IF EXISTS guests DROP IF EXISTS mood", ["carry"]),
        ],
        lambda case: case[0] == "squash",
    ),
    ids=["the same state again", "a second rebuild"],
)
@pytest.mark.slow
def test_a_state_that_comes_back_is_called_a_wrong_diagnosis(
    tmp_path: Path, database_url: str, shape: str, statement: str, ways: list[str]
) -> None:
    """Where something undoes each cure, it is done once; the error says where to go from there."""
    project = laid(tmp_path, shape, database_url)
    upgraded(project)
    env = project.folder / "migrations/env.py"
    env.write_text(env.read_text().rstrip("\n") + UNDONE.format(statement))
    project.query(statement)
    rows = corpus.rows(project)
    done = project.invoke("repair", "--yes")
    assert done.returncode == 4, done
    assert "this diagnosis is wrong, and nothing more is done" in done.stderr
    assert "`invoke undo` goes back" in done.stderr
    assert corpus.lost(project, rows) == []
    assert [line.split()[1] for line in done.stdout.splitlines() if " ✔ promote" in line] == (
        ["promote"] * ways.count("carry")
    )
