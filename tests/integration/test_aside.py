"""The new database judges its rows after the copy, and is then what the migrations have made."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backset.carry import constraints
from backset.catalog import object_hashes
from backset.connections.session import connect
from backset.connections.target import Target
from backset.errors import StepFailedError
from backset.servers.programs import Programs
from tests.integration.two_databases import Databases, transfer
from tests.servers import OWNER, SecuredServer, drop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.carry.tables import TableCopy

RICH = (Path(__file__).parent / "rich.sql").read_text(encoding="utf-8")
LOG = 'Odd "name'
TRANSFERS = [
    transfer("teams", "id", "leader", "name", schema="app"),
    transfer("people", *("id", "boss", "team", "code", "a", "b", "email", "score"), schema="app"),
    transfer("kept", "id", "b", "c", schema="app"),
    transfer("notes", "id", "at", "kind", schema="app"),
    transfer("single", "id", schema="app"),
    transfer("twice", "id", schema="app"),
    replace(
        transfer("log %", "id", "at", "kind", "who", "n", schema=LOG),
        query=sql.SQL("SELECT id, at, kind, who, n FROM {}").format(sql.Identifier(LOG, "log %")),
    ),
]


def dumped(databases: Databases) -> str:
    """Return what pg_dump says of the new database, comments and storage included."""
    programs = Programs(os.environ, Path("/"))
    as_superuser = databases.old_target.named(databases.new_target.database)
    run = subprocess.run(
        [os.fspath(programs.find("pg_dump", 18)), "--schema-only", as_superuser.conninfo],
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"^\\(un)?restrict .*$", "", run.stdout, flags=re.MULTILINE)


def described(databases: Databases) -> list[object]:
    """Return all that is known of the new database's schema."""
    referred = """SELECT conname, conrelid::regclass::text, conindid::regclass::text, convalidated
                  FROM pg_constraint WHERE conparentid = 0 ORDER BY 1, 2"""
    session = databases.new
    constraints = session.execute(referred.encode()).fetchall()
    return [object_hashes.read(session), dumped(databases), constraints]


def indexes(databases: Databases) -> set[str]:
    """Return the names of all indexes of the new database."""
    query = "SELECT indexname FROM pg_indexes WHERE schemaname !~ '^pg_'"
    return {name for (name,) in databases.new.execute(query)}


SMALL, LARGE = 10**9, 0  # from how many rows on an index is built after them


def set_aside(
    databases: Databases, transfers: Sequence[TableCopy], size: int = LARGE
) -> constraints.Dropped:
    """Set aside what stands in the way of these."""
    return constraints.drop(databases.new, transfers, built_after_rows=size)


def put_back(databases: Databases, taken: constraints.Dropped) -> None:
    """Put it back, over sessions of its own."""
    constraints.rebuild(taken, lambda: connect(databases.new_target, "test"))


NEWER = re.compile(r"NULLS NOT DISTINCT|(?<=SET NULL )\(boss\)")  # what came with PostgreSQL 15


@pytest.fixture
def on_every(every_secured: SecuredServer) -> Iterator[Databases]:
    """An old database and a new one, on each major version."""
    name = f"t_{secrets.token_hex(4)}"
    with every_secured.administered() as session:
        for each in (name, f"{name}__next"):
            statement = sql.SQL("CREATE DATABASE {} OWNER {}")
            session.execute(statement.format(sql.Identifier(each), sql.Identifier(OWNER)))
    new = Target.parse(every_secured.url(f"{name}__next", OWNER))
    made = Databases(Target.parse(every_secured.cluster.url(name)), new)
    yield made
    made.close()
    drop(every_secured, name)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_new_database_is_afterwards_what_it_was(on_every: Databases, size: int) -> None:
    """Whatever can be set aside comes back: names, comments, states, storage, order."""
    knows = on_every.new.info.server_version >= 150000
    on_every.new.execute((RICH if knows else NEWER.sub("", RICH)).encode())
    before = described(on_every)
    taken = set_aside(on_every, TRANSFERS, size)
    assert described(on_every) != before
    put_back(on_every, taken)
    assert described(on_every) == before


def test_only_what_can_be_made_again_is_taken_away(databases: Databases) -> None:
    """What a view needs stays, and so do two keys of which a foreign key would take either."""
    databases.new.execute(RICH.encode())
    taken = set_aside(databases, TRANSFERS)
    assert indexes(databases) == {"kept_pkey", "twice_key", "twice_id_key", "twice_id_id1_key"}
    put_back(databases, taken)


def test_rows_come_without_order_and_without_triggers(databases: Databases) -> None:
    """A cycle, references to oneself, old rows that a check forbids: each row comes."""
    databases.run(RICH)
    databases.old.execute(ROWS.encode())
    taken = set_aside(databases, TRANSFERS)
    counts = databases.copy(TRANSFERS)
    put_back(databases, taken)
    assert counts == {
        (LOG, "log %"): 3,
        **{("app", name): 2 for name in NAMES},
        **{("app", name): 1 for name in ("single", "twice")},
    }
    query = "SELECT id, boss, team, code, a FROM app.people ORDER BY 1"
    assert databases.new.execute(query).fetchall() == databases.old.execute(query).fetchall()
    databases.new.execute("ALTER TABLE app.people DISABLE TRIGGER plain")
    with pytest.raises(psycopg.errors.RaiseException, match="trigger always has fired"):
        databases.new.execute("INSERT INTO app.people (id) OVERRIDING SYSTEM VALUE VALUES (9)")


NAMES = ("teams", "people", "kept", "notes")
ROWS = """
ALTER TABLE app.people DISABLE TRIGGER USER, DROP CONSTRAINT legacy;
ALTER TABLE app.teams DISABLE TRIGGER USER, NO FORCE ROW LEVEL SECURITY;
ALTER TABLE "Odd ""name"."log %" DISABLE TRIGGER USER;
ALTER TABLE app.log_new_a DISABLE TRIGGER USER;
ALTER DOMAIN app.code DROP CONSTRAINT short;
INSERT INTO app.teams VALUES (1, NULL, 'a'), (2, NULL, 'b');
INSERT INTO app.people (boss, team, code, a, b, email, score)
    VALUES (2, 1, 'long', 13, 13, 'x', 1), (1, 2, 'y', 2, 2, 'y', 2);
UPDATE app.teams SET leader = 3 - id;
INSERT INTO app.twice VALUES (1); INSERT INTO app.single VALUES (1);
INSERT INTO app.kept VALUES (1, 'x', 2), (2, 'x', 1);
INSERT INTO "Odd ""name"."log %"
    VALUES (1, '2001-01-01', 'x', 1), (2, '2021-01-01', 'a', 2), (3, '2022-01-01', 'b', NULL);
INSERT INTO app.notes VALUES (1, '2001-01-01', 'x'), (2, '2021-01-01', 'a');
"""


def test_references_to_nothing_are_named(databases: Databases) -> None:
    """All of them are counted, and the first few keys are told."""
    databases.run(
        "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE tasks (id int, user_id int)",
        "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE tasks (id int, user_id int"
        " CONSTRAINT of_user REFERENCES users)",
    )
    databases.old.execute("INSERT INTO users VALUES (1)")
    databases.old.execute("INSERT INTO tasks SELECT n, n / 2 FROM generate_series(0, 19) n")
    transfers = [transfer("users", "id"), transfer("tasks", "id", "user_id")]
    taken = set_aside(databases, transfers)
    databases.copy(transfers)
    with pytest.raises(StepFailedError) as caught:
        put_back(databases, taken)
    keys = "user_id=0; user_id=2; user_id=3; user_id=4; user_id=5; …"
    assert caught.value.what == f"tasks: of_user: 18 rows refer to what users does not have: {keys}"


def test_a_table_with_rows_keeps_its_indexes(databases: Databases) -> None:
    """What the migrations wrote can be told by its key from what comes."""
    databases.run("CREATE TABLE t (id int PRIMARY KEY)")
    databases.new.execute("INSERT INTO t VALUES (1)")
    set_aside(databases, [transfer("t", "id")])
    assert indexes(databases) == {"t_pkey"}


def test_a_key_that_is_there_twice_is_named(databases: Databases) -> None:
    """A unique index that is built after the rows says how many keys, and the first of them."""
    databases.run(
        "CREATE TABLE t (a int, b text)",
        "CREATE TABLE t (a int, b text, CONSTRAINT once UNIQUE (a, b))",
    )
    many = "INSERT INTO t SELECT n / 2, CASE WHEN n > 13 THEN 'x' END FROM generate_series(0, 19) n"
    databases.old.execute(many.encode())
    transfers = [transfer("t", "a", "b")]
    taken = set_aside(databases, transfers)
    databases.copy(transfers)
    with pytest.raises(StepFailedError) as caught:
        put_back(databases, taken)
    keys = "a=7, b=x; a=8, b=x; a=9, b=x"
    assert caught.value.what == f"t: once: 3 keys are there more than once: {keys}"
