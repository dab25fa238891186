"""What a crash in CREATE DATABASE leaves on the disk is named, and nothing else is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backset.connections.session import connect
from backset.connections.target import Target
from backset.servers.folders import orphaned
from tests.clusters import crash, programs, running, standing_by

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster
    from tests.project import Project

_ORPHANS = """
SELECT name FROM pg_ls_dir('base') AS name
WHERE name ~ '^[0-9]+$' AND NOT EXISTS (SELECT FROM pg_database WHERE oid = name::oid)
"""


def at_work(cluster: Cluster, standby: Cluster) -> psycopg.Connection[Any]:
    """Return a session in the middle of CREATE DATABASE, which has reached the standby."""
    session = psycopg.connect(cluster.url("postgres"), autocommit=True)
    session.execute("CREATE DATABASE large")
    with psycopg.connect(cluster.url("large")) as inside:
        inside.execute("CREATE TABLE t AS SELECT repeat('x', 900) FROM generate_series(1, 90000)")
    session.pgconn.send_query(b"CREATE DATABASE half TEMPLATE large")
    session.pgconn.flush()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as looking:
        made = None
        while made is None:
            made = looking.execute(_ORPHANS.encode()).fetchone()
        # The record of the folder is streamed once it is flushed: a crash before leaves it here.
        while not (standby.data / "base" / made[0]).exists():
            time.sleep(0.001)
    return session


def test_a_half_made_database_is_named_when_nobody_makes_it(project: Project) -> None:
    """On the server that crashed and on the standby that takes over; in a plan and in a run."""
    with running(18) as primary, standing_by(primary) as standby:
        with psycopg.connect(primary.url("postgres"), autocommit=True) as session:
            session.execute("CREATE ROLE ordinary LOGIN CREATEDB")
        creating = at_work(primary, standby)
        with connect(Target.parse(primary.url("postgres")), "test") as session:
            assert orphaned(session) == []
        crash(primary)
        creating.close()
        with connect(Target.parse(primary.url("postgres", "ordinary")), "test") as session:
            (told,) = orphaned(session)
            assert told.startswith("base/")
            assert " of the server belongs to no database → as an administrator: " in told
            going = primary.data / "base/99999"  # as one that is dropped during the look
            going.symlink_to("nowhere")
            with pytest.raises(psycopg.errors.UndefinedFile):
                session.execute("SELECT pg_tablespace_databases(1663)")
            assert orphaned(session) == []
            going.unlink()
        programs(standby, "pg_ctl", "promote", "-w", "-D", str(standby.data))
        project.env["DATABASE_URL"] = standby.url("app")
        for words in (["--plan"], []):
            done = project.invoke("reset-db", *words)
            assert done.returncode == 0, done.stderr
            assert " of the server belongs to no database → " in done.stdout
