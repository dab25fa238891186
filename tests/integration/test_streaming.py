"""Rows come over as they are, two tables at a time, and whatever goes wrong says where."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.errors import Interrupted, StepFailedError
from backset.process import signals
from tests.integration.two_databases import Databases, transfer
from tests.kinds import COLUMNS, ROWS, VALUES
from tests.marks import slow_but

if TYPE_CHECKING:
    from backset.carry.tables import TableCopy
    from backset.servers.cluster import Cluster


def rows(session: psycopg.Connection[Any], table: str) -> list[Any]:
    """Return every row in the server's own words."""
    query = sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(sql.Identifier(table))
    return session.execute(query).fetchall()


def test_every_kind_of_value_survives(databases: Databases) -> None:
    """Infinities, signed zeros, both kinds of NULL, backslashes, bytes: nothing is rounded."""
    databases.run(VALUES)
    databases.run(ROWS, new="SELECT")
    name = 'Odd "t\\able'
    assert databases.copy([transfer(name, *COLUMNS)]) == {("public", name): 3}
    assert rows(databases.new, name) == rows(databases.old, name)
    assert len(rows(databases.new, name)) == 3


def test_the_preferences_of_a_role_change_nothing(
    databases: Databases, superuser: psycopg.Connection[Any]
) -> None:
    """A database that spells dates, floats and money in its own way still gives exact ones."""
    databases.run(VALUES)
    databases.run(ROWS, new="SELECT")
    for setting in (
        "DateStyle TO 'SQL, DMY'",
        "extra_float_digits TO -15",
        "IntervalStyle TO 'sql_standard'",
        "bytea_output TO 'escape'",
        "TimeZone TO 'America/New_York'",
        "xmloption TO 'document'",
    ):
        name = sql.Identifier(databases.old_target.database)
        superuser.execute(sql.SQL(f"ALTER DATABASE {{}} SET {setting}").format(name))
    databases.copy([transfer('Odd "t\\able', *COLUMNS)])
    superuser.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))
    assert rows(databases.new, 'Odd "t\\able') == rows(databases.old, 'Odd "t\\able')


def test_bytes_that_are_no_text_come_over_between_databases_without_an_encoding(
    cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> None:
    """SQL_ASCII takes any bytes, and old applications have put Latin-1 into it."""
    options = "ENCODING SQL_ASCII LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    made = Databases.made(cluster, superuser, name, options)
    made.run("CREATE TABLE t (a text)")
    made.run("INSERT INTO t VALUES (convert_from('\\xe4ff', 'SQL_ASCII'))", new="SELECT")
    made.copy([transfer("t", "a")])
    query = "SELECT a::bytea FROM t"
    assert made.new.execute(query).fetchall() == made.old.execute(query).fetchall() != []
    made.close()


def test_a_database_of_another_encoding_is_converted(
    cluster: Cluster, superuser: psycopg.Connection[Any], name: str, database_url: str
) -> None:
    """What was Latin-1 there is UTF-8 here."""
    options = "ENCODING LATIN1 LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    made = Databases.made(cluster, superuser, f"{name}_latin", options)
    utf8 = Databases(made.old_target, made.old_target.named(name))
    utf8.run("CREATE TABLE t (a text)")
    utf8.run("INSERT INTO t VALUES ('ä')", new="SELECT")
    utf8.copy([transfer("t", "a")])
    assert utf8.new.execute("SELECT a, a::bytea FROM t").fetchall() == [("ä", "ä".encode())]
    made.close()
    utf8.close()


def test_generated_and_identity_columns(databases: Databases) -> None:
    """A column that is always an identity takes the old value; a generated one makes its own."""
    databases.run(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, a int,"
        " b int GENERATED ALWAYS AS (a * 2) STORED, c text DEFAULT 'new')"
    )
    databases.run("INSERT INTO t (id, a) OVERRIDING SYSTEM VALUE VALUES (41, 5)", new="SELECT")
    databases.copy([transfer("t", "id", "a")])
    assert databases.new.execute("SELECT * FROM t").fetchall() == [(41, 5, 10, "new")]


def test_rows_of_a_partitioned_table_find_their_partitions(databases: Databases) -> None:
    """The new table may be cut otherwise than the old one."""
    databases.run(
        "CREATE TABLE t (a int) PARTITION BY RANGE (a);"
        "CREATE TABLE t1 PARTITION OF t DEFAULT; INSERT INTO t SELECT generate_series(1, 9)",
        "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE t5 PARTITION OF t"
        " FOR VALUES IN (5); CREATE TABLE others PARTITION OF t DEFAULT",
    )
    only = transfer("t", "a")
    whole = replace(only, query=sql.SQL("SELECT a FROM t"), size_bytes=10**9)
    assert databases.copy([whole]) == {("public", "t"): 9}
    assert databases.new.execute("SELECT count(*) FROM t5").fetchone() == (1,)


def test_all_tables_are_of_one_moment(databases: Databases) -> None:
    """Rows that others write while we copy are in none of the tables, or in all of them."""
    databases.run("CREATE TABLE a (n int); CREATE TABLE b (n int)")
    databases.run("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)", new="SELECT")
    writer = databases.old

    def write(_done: int, _total: int) -> None:
        writer.execute("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)")

    transfers = [transfer("a", "n"), transfer("b", "n")]
    assert set(databases.copy(transfers, progress=write).values()) == {1}
    write(0, 0)
    assert databases.copy(transfers[:1])["public", "a"] > 1


def test_progress_grows_to_the_whole(databases: Databases) -> None:
    """It is told in bytes, never goes back, and ends at the sum of the estimates."""
    databases.run("CREATE TABLE a (n text); CREATE TABLE b (n text)")
    fill = "INSERT INTO {} SELECT repeat('x', 1000) FROM generate_series(1, 20000);"
    databases.run(fill.format("a") + fill.format("b"), new="SELECT")
    told: list[tuple[int, int]] = []
    sizes = [transfer("a", "n", size_bytes=20_000_000), transfer("b", "n", size_bytes=1000)]
    databases.copy(sizes, progress=lambda *now: told.append(now))
    done = [each for each, _ in told]
    assert done == sorted(done)
    assert told[-1] == (20_001_000, 20_001_000)
    assert {total for _, total in told} == {20_001_000}


@pytest.mark.slow
def test_a_large_table_never_stands_in_memory(databases: Databases) -> None:
    """300 MB go through, and this process grows by a few of them."""
    databases.run("CREATE TABLE t (n text)")
    many = "INSERT INTO t SELECT repeat(md5(g::text), 300) FROM generate_series(1, 30000) g"
    databases.run(many, new="SELECT")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = databases.copy([transfer("t", "n", size_bytes=10**8)])
    assert count == {("public", "t"): 30000}
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown_bytes < 20_000_000


# In a process of its own: what another test has needed in this one hides what this one needs.
CARRIED = """
import os, resource
from backset.carry import copy, tables
from backset.connections.session import connect
from backset.connections.target import Target
from tests.integration.two_databases import transfer
old, new = Target.parse(os.environ["OLD"]), Target.parse(os.environ["NEW"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with connect(old, "test") as session, tables.snapshot_of(session) as moment:
    both = lambda: connect(old, "test"), lambda: connect(new, "test")
    with tables.paired(*both, moment) as pairs:
        copy.copy([transfer("t", "id", "v")], pairs, keys={("public", "t"): ["id"]})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("kind", "megabytes"),
    slow_but(
        [(kind, size) for kind in ("text", "bytea") for size in (40, 200)],
        lambda case: case == ("bytea", 40),
    ),
)
def test_a_large_value_is_in_memory_at_most_three_times(
    databases: Databases, kind: str, megabytes: int
) -> None:
    """What the session has read, and what it gives; the small rows around it are carried, too."""
    value = f"repeat('x', {megabytes} * 1024 * 1024)"
    value = f"convert_to({value}, 'UTF8')" if kind == "bytea" else value
    databases.run(f"CREATE TABLE t (id int, v {kind}); ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
    small = "INSERT INTO t SELECT g, 'small' FROM generate_series({}) g;"
    many = f"{small.format('1, 9')} INSERT INTO t VALUES (10, {value}), (11, {value});"
    databases.run(many + small.format("12, 20"), new="SELECT")
    env = {"OLD": databases.old_target.url, "NEW": databases.new_target.url}
    argv = [sys.executable, "-c", CARRIED]
    done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, check=True)
    assert int(done.stdout) <= 3 * megabytes
    digests = "SELECT id, length(v), md5(v) FROM t ORDER BY id"
    found = databases.new.execute(digests).fetchall()
    assert found == databases.old.execute(digests).fetchall()
    assert len(found) == 20


def test_rows_that_are_there_already_stay(databases: Databases) -> None:
    """A large table that is not empty is added to, not emptied."""
    databases.run("CREATE TABLE t (n int)")
    databases.run("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)")
    databases.copy([transfer("t", "n", size_bytes=10**9)])
    assert databases.new.execute("SELECT array_agg(n ORDER BY n) FROM t").fetchone() == ([1, 2],)


def test_the_rows_of_a_large_table_are_frozen(databases: Databases) -> None:
    """Whoever reads them first need not write every page again."""
    databases.run("CREATE TABLE t (n int)")
    databases.run("INSERT INTO t VALUES (1)", new="SELECT")
    databases.copy([transfer("t", "n", size_bytes=10**9)])
    databases.new.execute("ANALYZE t")  # counts the pages that are visible to all
    query = "SELECT relallvisible, relpages FROM pg_class WHERE relname = 't'"
    assert databases.new.execute(query).fetchone() == (1, 1)


@pytest.mark.parametrize(
    ("definition", "old", "words"),
    [
        ("CHECK (n < 5)", "(7, 'x')", "t: the row id=7 violates c"),
        ("CHECK (token <> 'x')", "(7, 'x')", "t: the row id=7 violates c"),
        ("UNIQUE (n)", "(3, 'x'), (3, 'y')", "t: c: n=3 is there more than once"),
        ("UNIQUE (token)", "(3, 'x'), (4, 'x')", "t: c: token=*** is there more than once"),
        ("EXCLUDE (n WITH =)", "(3, 'x'), (3, 'y')", "t: c: n=3 conflicts with n=3: id=3"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(
    databases: Databases, definition: str, old: str, words: str
) -> None:
    """Table, rule and key are told; the value of a column that looks secret is not."""
    databases.run(
        "CREATE TABLE t (token text, n int, id int)",
        f"CREATE TABLE t (token text, n int, id int, CONSTRAINT c {definition})",
    )
    databases.run(f"INSERT INTO t (n, token) VALUES {old}; UPDATE t SET id = n", new="SELECT")
    with pytest.raises(StepFailedError) as caught:
        databases.copy([transfer("t", "token", "n", "id")], keys={("public", "t"): ["id"]})
    assert caught.value.what == words
    assert databases.new.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_missing_value_is_named(databases: Databases) -> None:
    """NULL for a column that must not be NULL."""
    databases.run("CREATE TABLE t (id int, a int)", "CREATE TABLE t (id int, a int NOT NULL)")
    databases.run("INSERT INTO t VALUES (1, 1), (2, NULL)", new="SELECT")
    with pytest.raises(StepFailedError, match="t: the row id=2 has no a, which must not be null"):
        databases.copy([transfer("t", "a", "id")], keys={("public", "t"): ["id"]})


def test_a_text_that_the_type_does_not_read_is_named(databases: Databases) -> None:
    """The column and the value, unless that looks secret."""
    databases.run("CREATE TABLE t (a text, token text)", "CREATE TABLE t (a int, token int)")
    databases.run("INSERT INTO t VALUES ('sesame', NULL)", new="SELECT")
    with pytest.raises(StepFailedError, match=r't: .*a: invalid input .*: "sesame"'):
        databases.copy([transfer("t", "a")])
    databases.run("UPDATE t SET token = a", new="SELECT")
    with pytest.raises(StepFailedError, match=r"t: .*token: invalid input .*: \*\*\*$") as caught:
        databases.copy([transfer("t", "token")])
    assert "sesame" not in "".join(caught.value.lines())


@pytest.mark.parametrize(
    ("kind", "old", "words"),
    [
        ("email", "'no'", "t: the row id=2: m1 violates email_check"),
        ("email", "repeat('no', 99)", "t: the row id=2: m1 violates email_check"),
        ("email NOT NULL", "NULL", "t: the row id=2 has no m1, which must not be null"),
        ("given", "NULL", "t: the row id=2: m1: domain given does not allow null values"),
        ("email[]", "'{a@b,no}'", "t: the row id=2: m1 violates email_check"),
        ("int", "'no'", 't: the row id=2: m1: invalid input syntax for type integer: "no"'),
    ],
)
def test_a_value_that_no_type_takes_is_named_with_column_and_key(
    databases: Databases, kind: str, old: str, words: str
) -> None:
    """Of such a value the server quotes but itself; the row is looked for in the old database."""
    databases.run(
        "CREATE TABLE t (m1 text, id int)",
        "CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%' OR VALUE = '1');"
        "CREATE DOMAIN given AS text NOT NULL;"
        f"CREATE TABLE t (m1 {kind}, id int PRIMARY KEY)",
    )
    good = "'{}'" if "[]" in kind else "'1'"
    databases.run(f"INSERT INTO t VALUES ({good}, 1), ({old}, 2), ({good}, 3)", new="SELECT")
    with pytest.raises(StepFailedError) as caught:
        databases.copy([transfer("t", "m1", "id")], keys={("public", "t"): ["id"]})
    assert caught.value.what == words


def test_a_row_that_no_partition_takes_is_named(databases: Databases) -> None:
    """With the values that would tell the partition, unless they look secret."""
    flat = "CREATE TABLE t (id int, kind text, token text)"
    databases.run(
        flat,
        f"{flat} PARTITION BY LIST (kind);"
        "CREATE TABLE a PARTITION OF t FOR VALUES IN ('a') PARTITION BY LIST (token);"
        "CREATE TABLE ab PARTITION OF a FOR VALUES IN ('b')",
    )
    databases.run("INSERT INTO t VALUES (7, 'x', 'b')", new="SELECT")
    carried = transfer("t", "id", "kind", "token")
    with pytest.raises(StepFailedError) as caught:
        databases.copy([carried], keys={("public", "t"): ["id"]})
    assert caught.value.what == "t: the row id=7: no partition for kind=x"
    databases.run("UPDATE t SET kind = 'a', token = 'sesame'", new="SELECT")
    with pytest.raises(StepFailedError) as caught:
        databases.copy([carried])
    assert caught.value.what == "a: a row: no partition for token=***"
    assert "sesame" not in "".join(caught.value.lines())


def test_rows_that_exclude_one_another_are_named(databases: Databases) -> None:
    """Both of them, with what overlaps."""
    databases.run(
        "CREATE TABLE t (id int, r int4range)",
        "CREATE TABLE t (id int PRIMARY KEY, r int4range,"
        " CONSTRAINT apart EXCLUDE USING gist (r WITH &&))",
    )
    databases.run("INSERT INTO t VALUES (4, '[1,5)'), (5, '[7,9)'), (6, '[3,8)')", new="SELECT")
    with pytest.raises(StepFailedError) as caught:
        databases.copy([transfer("t", "id", "r")], keys={("public", "t"): ["id"]})
    assert caught.value.what == "t: apart: r=[3,8) conflicts with r=[1,5): id=6; id=4"


def test_what_the_old_database_says_is_told_as_such(databases: Databases) -> None:
    """A rule's expression may fail for one of its rows."""
    databases.run("CREATE TABLE t (a int)")
    databases.run("INSERT INTO t VALUES (1), (0)", new="SELECT")
    bad = replace(transfer("t", "a"), query=sql.SQL("SELECT 1 / a FROM t"))
    with pytest.raises(StepFailedError, match="t: reading the old rows: division by zero"):
        databases.copy([bad])


def test_rows_that_a_policy_hides_are_not_left_out(databases: Databases) -> None:
    """A role that may not see all rows is told so, instead of carrying a part of them."""
    databases.run("CREATE TABLE t (a int)")
    role = databases.new_target.params["user"]
    databases.run(
        f"INSERT INTO t VALUES (1), (2); GRANT SELECT ON t TO {role}; ALTER TABLE t"
        " ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (a = 1)",
        new="SELECT",
    )
    reader = databases.new_target.named(databases.old_target.database)
    seen = Databases(reader, databases.new_target)
    with pytest.raises(StepFailedError, match="row-level security"):
        seen.copy([transfer("t", "a")])
    seen.close()


def test_a_failure_ends_the_other_table(databases: Databases) -> None:
    """One table fails at once, the other would take long: neither stays, nor does a session."""
    databases.run(
        "CREATE TABLE a (n int); CREATE TABLE b (n int)",
        "CREATE TABLE a (n int); CREATE TABLE b (n int CHECK (n < 0))",
    )
    databases.run("INSERT INTO b VALUES (1)", new="SELECT")
    with pytest.raises(StepFailedError, match="b_n_check"):
        databases.copy([slow("a"), transfer("b", "n")])
    assert not busy(databases)
    assert databases.new.execute("SELECT count(*) FROM a").fetchone() == (0,)


def test_an_error_in_the_first_rows_is_noticed_before_the_last(databases: Databases) -> None:
    """A server answers at the end of a COPY alone; so no COPY lasts for the whole table."""
    databases.run("CREATE TABLE t (n text)", "CREATE TABLE t (n text CHECK (n <> 'x'))")
    many = "SELECT repeat('y', 10000) FROM generate_series(1, 20000)"
    databases.run(f"INSERT INTO t VALUES ('x'); INSERT INTO t {many}", new="SELECT")
    told: list[int] = []
    with pytest.raises(StepFailedError, match="t_n_check"):
        databases.copy(
            [transfer("t", "n", size_bytes=200_000_000)],
            progress=lambda done, _total: told.append(done),
        )
    assert max(told) < 150_000_000


@pytest.mark.parametrize("where", ["old", "new"])
def test_an_interruption_ends_both_tables(databases: Databases, where: str) -> None:
    """Ctrl-C while a server thinks: no session of ours is left, and no row."""
    databases.run("CREATE TABLE a (n int); CREATE TABLE b (n int)")
    databases.run("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)", new="SELECT")
    transfers = [slow("a"), slow("b")]
    if where == "new":
        transfers = [transfer("a", "n"), transfer("b", "n")]
        locker = databases.new
        locker.execute("BEGIN; LOCK TABLE a, b")
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with signals.raised(), pytest.raises(Interrupted):
        databases.copy(transfers)
    if where == "new":
        locker.execute("ROLLBACK")
    assert not busy(databases)
    assert databases.new.execute("SELECT count(*) FROM a").fetchone() == (0,)


def slow(table: str) -> TableCopy:
    """Return what would read a table for a minute."""
    query = sql.SQL("SELECT 1 FROM pg_sleep(60)")
    return replace(transfer(table, "n"), query=query)


def busy(databases: Databases) -> list[Any]:
    """Return the sessions that still do something, after a moment for the server to notice."""
    query = (
        "SELECT datname, query FROM pg_stat_activity WHERE datname = ANY(%s)"
        " AND state <> 'idle' AND query ~ '^COPY' AND pid <> pg_backend_pid()"
    )
    names = [databases.old_target.database, databases.new_target.database]
    session = databases.old
    for _ in range(50):
        if not (found := session.execute(query, [names]).fetchall()):
            return []
        time.sleep(0.1)
    return found
