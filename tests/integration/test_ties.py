"""What PostgreSQL ties to a database is refused by name, before anything is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.runs import ties
from tests.clusters import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster
    from tests.project import Project

TIES = {
    "prepared transaction": ["BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'it'"],
    "logical replication slot": ["SELECT pg_create_logical_replication_slot('it', 'pgoutput')"],
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
        assert ties.found(session, name) == ()
        with psycopg.connect(tying.url(name), autocommit=True) as inside:
            for statement in TIES[kind]:
                inside.execute(statement.encode())
        ((what, remedy),) = ties.found(session, name)
        assert what == f"{name} has the {kind} it"
        assert ties.found(session, "postgres") == ()
    for words in (["reset-db"], ["reset-db", "--in-place", "--yes"], ["reset", "--plan"]):
        done = project.invoke(*words, DATABASE_URL=tying.url(name))
        assert done.returncode == 3, done.stdout + done.stderr
        assert f"{what} → {remedy}" in done.stderr
    if kind == "prepared transaction":  # the creation of a slot would wait for it
        with psycopg.connect(tying.url(name), autocommit=True) as inside:
            inside.execute("ROLLBACK PREPARED 'it'")
