"""What is written to the old database after its rows were copied is never lost silently."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backset.catalog import columns
from backset.connections.session import connect
from backset.errors import RefusedError, StepFailedError
from backset.servers import swap
from backset.settings.rules import Rules
from tests.clusters import crash, majors, running
from tests.integration.carries import EVERYTHING, Carry, built, carried, copied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.connections.session import Session
    from backset.servers.cluster import Cluster


@pytest.fixture
def carry(writable: Cluster) -> Iterator[Carry]:
    """A run that has copied all tables, of which one is partitioned and one unlogged."""
    with carried(writable) as run:
        yield run


UNCOUNTED = "ALTER DATABASE handed SET track_counts = off"
WRITES = {
    "insert": ["INSERT INTO tasks VALUES (3, 'three')"],
    "update": ["UPDATE tasks SET name = 'uno' WHERE id = 1"],
    "delete": ["DELETE FROM tasks WHERE id = 1"],
    "null to empty": ["UPDATE tasks SET name = '' WHERE name IS NULL"],
    "truncate": ["TRUNCATE tasks"],
    "truncate and fill": ["BEGIN; TRUNCATE tasks; INSERT INTO tasks VALUES (1), (2); COMMIT"],
    "another table of that name": [
        "DROP TABLE tasks; CREATE TABLE tasks (id int, name text)",
    ],
    "a new type with other values": ["ALTER TABLE tasks ALTER id TYPE bigint USING id + 1"],
    "gone": ["DROP TABLE tasks"],
    "renamed": ["ALTER TABLE tasks RENAME TO jobs"],
    "without a column": ["ALTER TABLE tasks DROP COLUMN name"],
    "subtransactions": ["BEGIN; SAVEPOINT a; INSERT INTO tasks VALUES (3); RELEASE a; COMMIT"],
    "prepared": [
        "BEGIN; INSERT INTO tasks VALUES (3); PREPARE TRANSACTION 'later'",
        "COMMIT PREPARED 'later'",
    ],
    "merge": ["MERGE INTO tasks USING quick ON quick.id = tasks.id WHEN MATCHED THEN DELETE"],
    "numbers set to zero": [
        "INSERT INTO tasks VALUES (3)",
        "SELECT pg_stat_reset()",
    ],
    "a table's numbers set to zero": [
        "INSERT INTO tasks VALUES (3); SELECT pg_stat_force_next_flush()",
        "SELECT pg_stat_reset_single_table_counters('tasks'::regclass)",
    ],
    "numbers no longer kept": [
        UNCOUNTED,
        "INSERT INTO tasks VALUES (3)",
    ],
    "a partition": ['INSERT INTO "Other one"."Log" VALUES (5)'],
    "a partition by itself": ['UPDATE "Other one".low SET id = 2'],
    "a new partition": [
        "CREATE TABLE more (id int); INSERT INTO more VALUES (11)",
        'ALTER TABLE "Other one"."Log" ATTACH PARTITION more FOR VALUES FROM (10) TO (20)',
    ],
    "unlogged": ["INSERT INTO quick VALUES (2)"],
}


@pytest.mark.parametrize("what", WRITES)
def test_what_was_written_since_the_copy_stops_the_swap(carry: Carry, what: str) -> None:
    """Whatever changes the rows is found, the table is named, and the target keeps them."""
    carry.write(*WRITES[what])
    table = r"Other one\.Log" if "partition" in what else "quick" if what == "unlogged" else "tasks"
    with pytest.raises(StepFailedError, match=f"since it was copied: {table} (has|is)"):
        carry.promote()
    assert not carry.is_promoted


BY_WAY_OF_A_COPY = {
    "insert": r"tasks has 3 rows",
    "update": r"tasks has other values",
    "gone": r"tasks is gone",
    "a partition": r"Other one\.Log has",
    "a new table": r"young is new",
    "large objects": r"it has large objects now",
}


@pytest.mark.parametrize("what", BY_WAY_OF_A_COPY)
def test_rows_that_were_changed_in_a_copy_are_watched_as_they_were(
    writable: Cluster, what: str
) -> None:
    """The old database is held against what it was, and not against what came of it."""
    with built(writable) as server:
        run = Carry(writable, server, copied(server, EVERYTHING, whole=True))
        run.write(*ALIKE["rolled back"], *(WRITES.get(what) or HOMELESS[what][0]))
        with pytest.raises(StepFailedError, match=BY_WAY_OF_A_COPY[what]):
            run.promote()
        assert not run.is_promoted


@pytest.mark.parametrize("what", ["rolled back", "rewritten", "numbers not kept"])
def test_what_was_changed_in_a_copy_may_be_read_again(writable: Cluster, what: str) -> None:
    """The same rows in the old database are no difference."""
    with built(writable) as server:
        run = Carry(writable, server, copied(server, EVERYTHING, whole=True))
        run.write(*ALIKE[what])
        run.promote()
        assert run.is_promoted


HOMELESS = {
    "rows of a table that was empty": (["INSERT INTO homeless VALUES (1)"], "homeless (1 row)"),
    "a new table": (["CREATE TABLE young AS SELECT 1 AS id"], "young (1 row)"),
    "a new column": (["ALTER TABLE tasks ADD more int DEFAULT 1"], "tasks.more (2 values)"),
    "a table that was a partition": (
        ['ALTER TABLE "Other one"."Log" DETACH PARTITION "Other one".low'],
        "Other one.low (2 rows)",
    ),
    "large objects": (["SELECT lo_create(0)"], "the large objects (1 object)"),
}


@pytest.mark.parametrize("what", HOMELESS)
def test_what_came_since_and_has_no_place_stops_the_swap(carry: Carry, what: str) -> None:
    """There was nothing to agree to when the plan was made; now there is."""
    statements, left = HOMELESS[what]
    carry.write(*statements)
    with pytest.raises(StepFailedError, match=re.escape(left)):
        carry.promote()
    assert not carry.is_promoted


@pytest.mark.parametrize("what", sorted(HOMELESS.keys() - {"a table that was a partition"}))
def test_what_may_be_left_behind_may_come_later(writable: Cluster, what: str) -> None:
    """What has no place was given up by --drop-data, whatever is in it by now."""
    with carried(writable, Rules(drops=True)) as run:
        run.write(*HOMELESS[what][0])
        run.promote()
        assert run.is_promoted


def test_a_table_that_is_not_to_be_carried_may_change(writable: Cluster) -> None:
    """With --carry=quick the others are of no interest, and the named one is."""
    with carried(writable, Rules(tables=("quick",))) as run:
        run.write("INSERT INTO tasks VALUES (3)", "SELECT lo_create(0)")
        run.promote()
        assert (run.is_promoted, run.told) == (True, [])


HARMLESS = {
    "nothing": [],
    "maintenance": ["ANALYZE", "VACUUM", "CREATE INDEX ON tasks (name)"],
    "temporary tables": ["CREATE TEMP TABLE mine AS SELECT * FROM tasks"],
    "locked rows": ["SELECT * FROM tasks FOR UPDATE"],
}
ALIKE = {
    "rolled back": ["BEGIN; INSERT INTO tasks VALUES (3); ROLLBACK"],
    "written back": [
        "UPDATE tasks SET name = name; INSERT INTO quick VALUES (2)",
        "DELETE FROM quick WHERE id = 2",
    ],
    "rewritten": ["VACUUM FULL tasks"],
    "an empty column": ["ALTER TABLE tasks ADD more int"],
    "an empty table": ["CREATE TABLE young (id int)"],
    "a wider type": ["ALTER TABLE tasks ALTER id TYPE bigint"],
    "numbers set to zero": ["SELECT pg_stat_reset()"],
    "numbers not kept": [UNCOUNTED],
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_no_write_costs_nothing(carry: Carry, what: str) -> None:
    """No table is read again, and the swap happens."""
    carry.write(*HARMLESS[what])
    carry.promote()
    assert carry.is_promoted
    assert carry.told == []


@pytest.mark.parametrize("what", ALIKE)
def test_the_same_rows_as_were_copied_are_no_difference(carry: Carry, what: str) -> None:
    """The server's numbers have moved; the rows, which are read again, have not."""
    carry.write(*ALIKE[what])
    carry.promote()
    assert carry.is_promoted
    assert carry.told == ["reading again what seems to have been written to"]


@pytest.mark.parametrize("statement", ["INSERT INTO tasks VALUES (3)", "TRUNCATE tasks"])
def test_a_write_after_the_last_look_is_found_in_the_swap(carry: Carry, statement: str) -> None:
    """It is rolled back, the rows are read again, and the run is refused."""
    writers = []

    def swap_late(*, spare: int = 0, last: Callable[[Session], None] = swap.nothing) -> None:
        writer = psycopg.connect(carry.url, autocommit=True)
        writers.append(writer)  # it is still connected, and has told the server nothing so far
        writer.execute(statement.encode())
        carry.swap(spare=spare, last=last)

    with pytest.raises(StepFailedError, match="written to since it was copied: tasks has"):
        carry.promote(swap_late)
    assert (len(writers), carry.is_promoted) == (1, False)
    for each in writers:
        each.close()


def test_a_write_that_was_copied_but_not_yet_counted_is_no_difference(writable: Cluster) -> None:
    """A session tells the server of its writes later; what it says then is checked by the rows."""
    with carried(writable) as run, closing(psycopg.connect(run.url, autocommit=True)) as writer:
        writer.execute("SELECT 1")
        writer.execute("INSERT INTO tasks VALUES (3)")
        new = run.server.target.named(run.server.names.next)
        with closing(connect(new, "test")) as session:
            session.execute('TRUNCATE tasks, quick, "Other one"."Log"')
        run.watch = copied(run.server, EVERYTHING)
        run.promote()
        assert (run.is_promoted, len(run.told)) == (True, 1)


def test_a_prepared_transaction_stops_the_swap(carry: Carry) -> None:
    """Nobody can tell what will become of it, and the server renames no such database."""
    carry.write("BEGIN; INSERT INTO tasks VALUES (3); PREPARE TRANSACTION 'later'")
    with pytest.raises(RefusedError, match="prepared transaction"):
        carry.promote()
    assert not carry.is_promoted
    carry.write("ROLLBACK PREPARED 'later'")


def test_a_writer_with_an_open_transaction_does_not_hold_up_the_second_look(carry: Carry) -> None:
    """Its locks go with it: what it had not committed was never there."""
    carry.write(*ALIKE["rolled back"])
    with closing(psycopg.connect(carry.url)) as idle:
        idle.execute("INSERT INTO tasks VALUES (4)")
        carry.promote()
    assert carry.is_promoted


def test_a_swap_that_fails_leaves_no_session_behind(carry: Carry) -> None:
    """The next run can begin at once."""
    swap.drop(carry.server, carry.server.names.next)
    with pytest.raises(RefusedError, match="is not what this run has built"):
        carry.promote()
    swap.make(carry.server, carry.server.names.next, "next", None)
    assert carry.server.sessions(carry.server.names.target) == []
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    found = carry.server.session.execute(left, [carry.server.names.target]).fetchone()
    assert found == (0,)


@pytest.mark.parametrize("major", majors(14, 13))
def test_a_server_that_counts_late_has_every_table_read_again(major: int) -> None:
    """Before 15 a session tells the others of its writes when it likes: only rows are believed."""
    with running(major) as server:
        with carried(server) as run:
            run.promote()
            assert run.is_promoted
            assert run.told == ["reading again what seems to have been written to"]
        with carried(server) as run:
            run.write("INSERT INTO tasks VALUES (3)")
            with pytest.raises(StepFailedError, match="since it was copied: tasks has"):
                run.promote()
            assert not run.is_promoted


def test_what_was_promoted_survives_a_crash(fragile: Cluster) -> None:
    """The copy does not wait for the disk, nor do the roles of this server: the swap does."""
    with psycopg.connect(fragile.url("postgres"), autocommit=True) as session:
        session.execute("ALTER SYSTEM SET synchronous_commit = off")
        session.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")  # who else would write it
        session.execute("SELECT pg_reload_conf()")
    with carried(fragile) as run:
        run.promote()
    crash(fragile)
    with closing(psycopg.connect(fragile.url("handed"))) as session:
        assert session.execute("SELECT id FROM tasks ORDER BY 1").fetchall() == [(1,), (2,)]
        assert session.execute("SELECT to_regclass('homeless')").fetchone() == (None,)


def test_a_collation_that_ignores_case_hides_nothing(writable: Cluster) -> None:
    """Where the server holds two texts to be equal, they still are two texts."""
    with closing(psycopg.connect(writable.url("postgres"))) as session:
        icu = "provider = icu, locale = 'und-u-ks-level2', deterministic = false"
        try:
            session.execute(f"CREATE COLLATION deaf ({icu})".encode())
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("this server is built without ICU")
        session.execute("CREATE TABLE users (name text COLLATE deaf)")
        session.execute("INSERT INTO users VALUES ('Ann'), ('ANN')")
        row = columns.hash_of_row(["name"])
        query = sql.SQL("SELECT count(DISTINCT {}), count(DISTINCT name) FROM users").format(row)
        assert session.execute(query).fetchone() == (2, 1)
