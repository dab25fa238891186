"""The new database judges its rows after the copy, and is then what the migrations have made."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backset.carrying import aside
from backset.catalogs import inventory
from backset.connections.session import connect
from backset.errors import StepFailedError
from backset.servers.programs import Programs
from tests.integration.two_databases import Databases, transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.carrying.transfer import Transfer

RICH = (Path(__file__).parent / "rich.sql").read_text(encoding="utf-8")
LOG = 'Odd "name'
TRANSFERS = [
    transfer("teams", "id", "leader", "name", schema="app"),
    transfer("people", *("id", "boss", "team", "code", "a", "b", "email", "score"), schema="app"),
    transfer("kept", "id", "b", "c", schema="app"),
    transfer("notes", "id", "at", "kind", schema="app"),
    replace(
        transfer("log %", "id", "at", "kind", "who", "n", schema=LOG),
        query=sql.SQL("SELECT id, at, kind, who, n FROM {}").format(sql.Identifier(LOG, "log %")),
    ),
]


def dumped(databases: Databases) -> str:
    """Return what pg_dump says of the new database, comments and storage included."""
    programs = Programs({"PATH": "/nowhere"}, Path("/"))
    target = databases.new_target
    run = subprocess.run(
        [os.fspath(programs.find("pg_dump", 18)), "--schema-only", target.conninfo],
        env={**os.environ, "PGPASSWORD": target.params["password"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"^\\(un)?restrict .*$", "", run.stdout, flags=re.MULTILINE)


def set_aside(databases: Databases, transfers: Sequence[Transfer]) -> aside.Aside:
    """Set aside what stands in the way of these."""
    return aside.set_aside(databases.new, transfers)


def put_back(databases: Databases, taken: aside.Aside) -> None:
    """Put it back, over sessions of its own."""
    taken.put_back(lambda: connect(databases.new_target, "test"))


def test_the_new_database_is_afterwards_what_it_was(databases: Databases) -> None:
    """Whatever can be set aside comes back: names, comments, states, storage, order."""
    databases.new.execute(RICH.encode())
    before = inventory.inventory(databases.new), dumped(databases)
    taken = set_aside(databases, TRANSFERS)
    assert inventory.inventory(databases.new).keys() < before[0].keys()
    put_back(databases, taken)
    assert dumped(databases) == before[1]
    assert inventory.inventory(databases.new) == before[0]


def test_rows_come_without_order_and_without_triggers(databases: Databases) -> None:
    """A cycle, references to oneself, old rows that a check forbids: each row comes."""
    databases.run(RICH)
    databases.old.execute(ROWS.encode())
    taken = set_aside(databases, TRANSFERS)
    counts = databases.copy(TRANSFERS, keys=taken.keys)
    put_back(databases, taken)
    assert counts == {(LOG, "log %"): 3, **{("app", name): 2 for name in NAMES}}
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


def test_rows_of_the_migrations_make_room(databases: Databases) -> None:
    """Their rows go, though others refer to them and a trigger forbids it."""
    databases.run(RICH)
    databases.new.execute(ROWS.encode())
    taken = set_aside(databases, TRANSFERS)
    aside.empty(databases.new, [each.table for each in TRANSFERS])
    for each in TRANSFERS:
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*each.table))
        assert databases.new.execute(query).fetchone() == (0,)
    put_back(databases, taken)


def test_a_table_that_inherits_keeps_its_rows(databases: Databases) -> None:
    """Emptying a parent leaves its children alone: they are tables of their own."""
    databases.run("CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent)")
    databases.new.execute("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)")
    aside.empty(databases.new, [("public", "parent")])
    assert databases.new.execute("SELECT a FROM parent").fetchall() == [(2,)]
