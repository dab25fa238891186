"""What PostgreSQL ties to a database is refused by name, before anything is done."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from backset.errors import RefusedError
from backset.servers import derived, swap
from backset.servers.server import Server, tied_by
from tests.clusters import programs, running, standing_by
from tests.marks import slow_but

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster
    from tests.project import Project

TIES = {
    "prepared transaction": ["BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'it'"],
    "logical replication slot": ["SELECT pg_create_logical_replication_slot('it', 'pgoutput')"],
    "logical failover slot": [
        "SELECT pg_create_logical_replication_slot('it', 'pgoutput', failover => true)"
    ],
    "subscription": [
        "CREATE SUBSCRIPTION it CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)"
    ],
}


@pytest.fixture(scope="module")
def tying() -> Iterator[Cluster]:
    """A server that allows logical replication and prepared transactions."""
    with running(18, settings=["wal_level = logical", "max_prepared_transactions = 5"]) as made:
        yield made


@pytest.mark.parametrize("kind", TIES)
def test_each_is_found_and_refused(tying: Cluster, project: Project, kind: str) -> None:
    """Exit 3 with its kind, its name and what to do; another database is not held by it."""
    name = f"tied_by_{kind.replace(' ', '_')}"
    with psycopg.connect(tying.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}".encode())
        assert tied_by(session, [name]) == ()
        with psycopg.connect(tying.url(name), autocommit=True) as inside:
            for statement in TIES[kind]:
                inside.execute(statement.encode())
        ((what, remedy),) = tied_by(session, [name])
        assert what == f"{name} has the {kind} it"
        assert tied_by(session, ["postgres"]) == ()
    for words in (["reset-db"], ["reset-db", "--in-place", "--yes"], ["reset", "--plan"]):
        done = project.invoke(*words, DATABASE_URL=tying.url(name))
        assert done.returncode == 3, done.stdout + done.stderr
        assert f"{what} → {remedy}" in done.stderr
    if kind == "prepared transaction":  # the creation of a slot would wait for it
        with psycopg.connect(tying.url(name), autocommit=True) as inside:
            inside.execute("ROLLBACK PREPARED 'it'")
    if kind.endswith("slot"):  # there is one of a name
        with psycopg.connect(tying.url(name), autocommit=True) as inside:
            inside.execute("SELECT pg_drop_replication_slot('it')")


def slots(tying: Cluster) -> set[tuple[str, str]]:
    """Return the slots of those databases, each with its own."""
    with psycopg.connect(tying.url("postgres")) as session:
        query = "SELECT slot_name, database FROM pg_replication_slots WHERE database ~ '^swapping'"
        return set(session.execute(query).fetchall())


@pytest.fixture
def swapping(tying: Cluster) -> Iterator[Server]:
    """A run with a target, a previous one and a next one; what it leaves goes, slots included."""
    with Server(Target.parse(tying.url("swapping")), "test") as server:
        names = server.names
        swap.create(server, names.target, None)
        swap.create(server, names.previous, None)
        swap.comment(server, names.previous, swap.mark(names, "previous"))
        swap.make(server, names.next, "next", None)
        yield server
        for slot, _ in slots(tying):
            server.session.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        for name in server.databases():
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            server.session.execute(drop.format(sql.Identifier(name)))


@pytest.mark.parametrize(
    "which", slow_but(["target", "previous", "next"], lambda which: which != "next")
)
def test_a_slot_that_was_made_meanwhile_stops_the_swap(
    tying: Cluster, swapping: Server, which: str
) -> None:
    """It would move with its database, or go with it, without a word; all of it stays instead."""
    name, seen = getattr(swapping.names, which), swapping.databases()
    with psycopg.connect(tying.url(name), autocommit=True) as session:
        session.execute(b"SELECT pg_create_logical_replication_slot('meanwhile', 'pgoutput')")
    words = f"{name} has the logical replication slot meanwhile"
    old, previous = seen[swapping.names.target], seen[swapping.names.previous]
    with pytest.raises(RefusedError, match=words):
        swap.promote(swapping, old, previous, old_is_empty=False)
    if which != "next":
        with pytest.raises(RefusedError, match=words):
            swap.exchange(swapping, old, previous)
    now = swapping.databases()
    assert {each: now[each].oid for each in now} == {each: seen[each].oid for each in seen}
    assert slots(tying) == {("meanwhile", name)}


def test_no_slot_goes_with_what_a_run_drops(tying: Cluster, swapping: Server) -> None:
    """Nor at the end of a run that fails: it names the slot, and leaves its database."""
    name = swapping.names.next
    with psycopg.connect(tying.url(name), autocommit=True) as session:
        session.execute(b"SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')")
    error = RefusedError([("no", "yes")])
    derived.drop_after(swapping, name, error)
    (note,) = error.__notes__
    assert f"{name} has the logical replication slot theirs" in note
    assert slots(tying) == {("theirs", name)}


def test_a_slot_on_previous_is_found_at_the_gate(
    tying: Cluster, swapping: Server, project: Project
) -> None:
    """Exit 3 for whatever would drop or rename it; in place it is in nobody's way."""
    swap.drop(swapping, swapping.names.next)
    name = swapping.names.previous
    with psycopg.connect(tying.url(name), autocommit=True) as session:
        session.execute(b"SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')")
    project.env["DATABASE_URL"] = tying.url("swapping")
    for task in ("reset", "undo"):
        done = project.invoke(task, "--plan")
        assert done.returncode == 3, done.stdout + done.stderr
        assert f"{name} has the logical replication slot theirs → if nobody needs" in done.stderr
    assert project.invoke("reset", "--in-place", "--plan").returncode == 0


@pytest.mark.slow
def test_a_failover_slot_is_refused_on_the_standby_that_takes_over(project: Project) -> None:
    """The slot came along, and whoever reads it goes on there."""
    with (
        running(18, settings=["wal_level = logical", "hot_standby_feedback = on"]) as primary,
        psycopg.connect(primary.url("postgres"), autocommit=True) as there,
    ):
        there.execute("SELECT pg_create_physical_replication_slot('standby')")
        there.execute("CREATE DATABASE followed")
        with (
            standing_by(primary) as standby,
            psycopg.connect(standby.url("postgres"), autocommit=True) as here,
        ):
            here.execute("ALTER SYSTEM SET primary_slot_name = 'standby'")
            here.execute("SELECT pg_reload_conf()")
            (slot,) = TIES["logical failover slot"]
            with psycopg.connect(primary.url("followed"), autocommit=True) as session:
                session.execute(slot.encode())
            query = "SELECT FROM pg_replication_slots WHERE synced AND NOT temporary"
            while here.execute(query.encode()).fetchone() is None:
                with suppress(psycopg.errors.ObjectNotInPrerequisiteState):
                    here.execute("SELECT pg_sync_replication_slots()")
                there.execute("SELECT pg_log_standby_snapshot()")
                time.sleep(0.1)
            programs(standby, "pg_ctl", "promote", "-w", "-D", str(standby.data))
            done = project.invoke("reset-db", DATABASE_URL=standby.url("followed"))
    assert done.returncode == 3
    assert "followed has the logical failover slot it → if nobody needs it: " in done.stderr
