"""Rows of a large dump come by several sessions at once: all of them, once, or nothing is said."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from backset.backups import dumps, replay, restoration
from backset.connections.target import Target
from backset.errors import StepFailedError
from backset.process import signals
from tests.backups import EMPTY, ROWS, run, take
from tests.clusters import running
from tests.unloadable import BY_ORDER, BY_ROWS

if TYPE_CHECKING:
    from backset.backups.store import BackupStore
    from backset.servers.programs import Programs

# Text of several pieces in two tables, and whatever else stands among the rows of a dump.
MANY = r"""
CREATE TABLE many (id int PRIMARY KEY, doc jsonb, note text, twice int
                   GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO many SELECT n, jsonb_build_object('n', n, 'md5', md5(n::text)), repeat(md5(n::text), 3)
    FROM generate_series(1, 9000) AS n;
CREATE TABLE "odd (;\n""é" ("a\nb" text, " FROM stdin;\n" text, many int REFERENCES many);
INSERT INTO "odd (;\n""é" SELECT E'\\.\n' || n, E'\\.', n FROM generate_series(1, 9000) AS n;
CREATE TABLE wide AS SELECT repeat(md5(n::text), 20000) FROM generate_series(1, 3) AS n;
CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES;
CREATE TABLE parts (n int) PARTITION BY LIST (n); CREATE TABLE part PARTITION OF parts DEFAULT;
INSERT INTO parts VALUES (1), (2);
CREATE SEQUENCE counted START 7; SELECT nextval('counted');
SELECT lo_from_bytea(1, convert_to(repeat(md5('x'), 50000), 'UTF8'))
"""
SAID = r"""
SELECT (SELECT md5(string_agg(m::text, ',' ORDER BY id)) FROM many m),
       (SELECT md5(string_agg(o::text, ',' ORDER BY many)) FROM "odd (;\n""é" o),
       (SELECT md5(string_agg(w::text, ',' ORDER BY w)) FROM wide w),
       (SELECT count(*) FROM bare), (SELECT sum(n) FROM parts),
       (SELECT last_value FROM counted), md5(lo_get(1))
"""
ALL_GONE = f"{EMPTY}; SELECT lo_unlink(oid) FROM pg_largeobject_metadata"
SESSIONS = b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"


def read(target: Target, query: str) -> object:
    """Return what a query gives, the first row."""
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        return session.execute(query.encode()).fetchone()


@pytest.fixture(params=[2, 4])
def jobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """As on a machine with so many cores, and for a dump of any size."""
    monkeypatch.setattr(replay, "JOBS", request.param)
    monkeypatch.setattr(dumps, "_WORTH_JOBS", 0)
    return int(request.param)


def test_everything_comes_back(
    vault: BackupStore, target: Target, programs: Programs, jobs: int
) -> None:
    """Once, whatever ends a line in names and rows."""
    run(target, MANY)
    before = read(target, SAID)
    taken = take(vault, target, programs, zstd_above=0)
    run(target, ALL_GONE)
    assert not restoration.load(taken, target, 18, programs)
    assert read(target, SAID) == before, jobs


@pytest.mark.every_server
@pytest.mark.parametrize("major", [15, 16])
def test_an_older_server_loads_it_too(
    vault: BackupStore, programs: Programs, major: int, jobs: int
) -> None:
    """By its own programs, and by those of 18, which set what it does not know."""
    with running(major) as cluster:
        target = Target.parse(cluster.url("postgres"))
        run(target, ROWS + MANY)
        before = read(target, SAID)
        taken = take(vault, target, programs, zstd_above=0)
        for pg_restore in (restoration.program(taken, programs), programs.find("pg_restore", 18)):
            run(target, ALL_GONE)
            replay.load(taken.dump, pg_restore, programs, target, major)
            restoration.check(taken, target)
            assert read(target, SAID) == before, f"{pg_restore}, {jobs}"


def test_a_row_that_the_server_refuses_ends_all(
    vault: BackupStore, target: Target, programs: Programs, jobs: int
) -> None:
    """With the server's words; no session and no program goes on."""
    run(target, f"{MANY}; {BY_ROWS}")
    taken = take(vault, target, programs, zstd_above=0)
    run(target, ALL_GONE)
    with pytest.raises(StepFailedError, match='violates check constraint "numbers_n_check"'):
        restoration.load(taken, target, 18, programs)
    assert is_over(target), jobs


@pytest.mark.usefixtures("jobs")
def test_rows_that_look_at_each_other_are_loaded_in_the_second_way(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Which loads them before their constraints, by one session."""
    run(target, f"{MANY}; {BY_ORDER}")
    before = read(target, SAID)
    taken = take(vault, target, programs, zstd_above=0)

    run(target, ALL_GONE)
    emptied = partial(run, target, ALL_GONE)
    assert restoration.load(taken, target, 18, programs, emptied=emptied)
    assert read(target, SAID) == before


def test_an_interruption_ends_all(
    vault: BackupStore, target: Target, programs: Programs, jobs: int
) -> None:
    """In the midst of the rows; no session and no program goes on."""
    run(target, MANY)
    taken = take(vault, target, programs, zstd_above=0)
    run(target, ALL_GONE)
    # A table that somebody else has locked is what the rows wait for.
    with psycopg.connect(**target.params, autocommit=True) as other:  # type: ignore[arg-type]

        def interrupt() -> None:
            while other.execute("SELECT to_regclass('public.wide')").fetchone() == (None,):
                pass
            other.execute("BEGIN; LOCK wide")
            while other.execute(WAITING).fetchone() == (0,):
                pass
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            replay.load(taken.dump, programs.find("pg_restore", 18), programs, target, 18)
        thread.join()
    assert is_over(target), jobs


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'wide'::regclass"


def is_over(target: Target) -> bool:
    """Tell whether no program runs any more, and no session but that of the question."""
    return not signals.wait_while(lambda: left(target) != [1], 5, 0.05)


def left(target: Target) -> list[object]:
    """Return how many sessions there are, and which programs run."""
    ours = psutil.Process().children(recursive=True)
    programs = [each.name() for each in ours if each.name() in {"pg_restore", "psql"}]
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        return [*session.execute(SESSIONS).fetchone(), *programs]  # type: ignore[misc]
