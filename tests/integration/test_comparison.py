"""After the copy every row is held against the snapshot: none is lost, doubled or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.carry import comparison, plan, tables
from backset.connections.target import Target
from backset.errors import StepFailedError
from backset.settings.rules import Rules
from tests.integration.two_databases import transfer
from tests.kinds import COLUMNS, ROWS, VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.carry.comparison import Digest
    from backset.carry.tables import TableCopy
    from backset.servers.cluster import Cluster
    from tests.integration.two_databases import Databases

USERS = """
CREATE TABLE users (id int, name text, password text, n numeric);
"""
SOME = """
INSERT INTO users SELECT i, 'name ' || i, 'word ' || i, i FROM generate_series(1, 100) AS i;
INSERT INTO users VALUES (101, '', NULL, 1.10), (102, NULL, '', 'NaN')
"""
COMMON = transfer("users", "id", "name", "password", "n")
KEYS = {("public", "users"): ("id",)}


def compare(
    databases: Databases,
    *transfers: TableCopy,
    keys: Mapping[tuple[str, str], Sequence[str]] = KEYS,
) -> list[tuple[TableCopy, Digest]]:
    """Compare both databases as they are."""
    with databases.paired() as pairs:
        return comparison.compare(transfers, pairs, keys=keys)


def test_what_was_copied_is_the_same(databases: Databases) -> None:
    """Every type of value, NULL and what only looks like it, and a table without rows."""
    databases.run(VALUES + "CREATE TABLE none (a int)")
    databases.old.execute(ROWS.encode())
    every = [transfer('Odd "t\\able', *COLUMNS), transfer("none", "a")]
    databases.copy(every)
    (_, odd), (_, none) = compare(databases, *every)
    assert (odd.rows, none) == (3, comparison.Digest(0, 0))


# what happens to the new rows; how many there are then; where the difference is
CHANGES = {
    "DELETE FROM users WHERE id = 7": (101, "id=7"),
    "INSERT INTO users SELECT * FROM users WHERE id = 8": (103, "id=8"),
    "UPDATE users SET id = 200 WHERE id = 9": (102, "in id, at id=200; id=9"),
    "UPDATE users SET name = NULL WHERE id = 101": (
        102,
        "in name, at id=101 (the first: name '' → null)",
    ),
    "UPDATE users SET name = '' WHERE id = 102": (102, "in name, at id=102"),
    "UPDATE users SET name = 'Name 5' WHERE id = 5": (102, "in name, at id=5"),
    "UPDATE users SET n = 1.1 WHERE id = 101": (102, "in n, at id=101 (the first: n 1.10 → 1.1)"),
    "UPDATE users SET name = password, password = name WHERE id = 3": (
        102,
        "in name, password, at id=3)",
    ),
    "UPDATE users SET n = 3 - n WHERE id IN (1, 2)": (102, "at id=1; id=2 (the first: n 1 → 2)"),
}


def test_every_difference_is_found(databases: Databases) -> None:
    """Table, counts, columns, the keys of the rows, a row's values; but none of a password."""
    databases.run(USERS)
    databases.old.execute(SOME)
    for change, (rows, where) in CHANGES.items():
        databases.copy([COMMON])
        databases.new.execute(change.encode())
        with pytest.raises(StepFailedError, match="not those that were copied") as caught:
            compare(databases, COMMON)
        said = caught.value.what
        assert f"users (102 rows in the old database, {rows} in the new one" in said
        assert where in said
        assert "word 3" not in said
        databases.new.execute("TRUNCATE users")


def test_a_secret_key_is_not_shown(databases: Databases) -> None:
    """A row is named by its key; not where the key is a token."""
    make = "CREATE TABLE sessions (token text PRIMARY KEY, at int)"
    databases.run(f"{make}; INSERT INTO sessions VALUES ('abc-def', 1)", make)
    each = transfer("sessions", "token", "at")
    with pytest.raises(StepFailedError, match=r"token=\*\*\*") as caught:
        compare(databases, each, keys={each.table: ("token",)})
    assert "abc" not in str(caught.value)


def test_a_table_without_a_key(databases: Databases) -> None:
    """Nobody can name its rows; the columns and the counts are told."""
    databases.run(
        "CREATE TABLE log (a int); INSERT INTO log VALUES (1)", "CREATE TABLE log (a int)"
    )
    with pytest.raises(
        StepFailedError, match=r"log \(1 row in the old.*, 0 in the new one, in a\)"
    ):
        compare(databases, transfer("log", "a"), keys={})


def test_whatever_the_roles_prefer(databases: Databases) -> None:
    """Dates, intervals, floats and bytes are spelled by the same rules on both sides."""
    make = "CREATE TABLE t (d date, z timestamptz, i interval, f float8, b bytea, m money)"
    databases.run(make)
    databases.old.execute(
        "INSERT INTO t VALUES ('2026-02-01', now(), '1 year -3 days 01:00', 0.1 + 0.2::float8, "
        r"'\xff00', '1234.50')"
    )
    name = databases.new_target.database
    for setting in (
        "DateStyle = 'German'",
        "IntervalStyle = 'iso_8601'",
        "TimeZone = 'Asia/Tokyo'",
        "extra_float_digits = -5",
        "bytea_output = 'escape'",
    ):
        statement = sql.SQL("ALTER DATABASE {} SET " + setting).format(sql.Identifier(name))
        databases.new.execute(statement)
    every = transfer("t", "d", "z", "i", "f", "b", "m")
    databases.copy([every])
    ((_, found),) = compare(databases, every)
    assert found.rows == 1


def test_two_encodings(
    cluster: Cluster, superuser: psycopg.Connection[Any], name: str, databases: Databases
) -> None:
    """The same letters are other bytes; they are no difference, and other letters are one."""
    latin = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    superuser.execute(latin.format(sql.Identifier(f"{name}_latin")))
    databases.old_target = Target.parse(cluster.url(f"{name}_latin"))
    make = "CREATE TABLE t (k int PRIMARY KEY, v text)"
    databases.run(f"{make}; INSERT INTO t VALUES (1, 'Zoë'), (2, '')", make)
    every = transfer("t", "k", "v")
    databases.copy([every])
    compare(databases, every)
    databases.new.execute("UPDATE t SET v = 'Zoé' WHERE k = 1")
    with pytest.raises(StepFailedError, match="in v, at k=1"):
        compare(databases, every, keys={every.table: ("k",)})


# old type → new type, and the values
RETYPED = {
    ("int", "bigint"): "(1), (-2147483648), (NULL)",
    ("int", "numeric(12,2)"): "(1), (-5)",
    ("numeric(10,2)", "numeric"): "(1.10), ('NaN'), (0)",
    ("numeric(10,2)", "numeric(12,4)"): "(1.10), (-3)",
    ("real", "double precision"): "(0.5), (0.25), ('-0'), ('Infinity')",
    ("varchar(9)", "text"): "(' a '), (''), (NULL)",
    ("text", "varchar(9)"): "(' a '), ('')",
    ("char(5)", "text"): "('a'), ('')",
    ("char(5)", "char(9)"): "('a '), ('')",
    ("date", "timestamp"): "('2026-01-01'), ('infinity'), ('0044-03-15 BC')",
    ("timestamp", "timestamptz"): "('2026-07-01 12:00'), ('-infinity')",
    ("timestamptz", "timestamp"): "('2026-07-01 12:00+05'), ('infinity')",
    ("json", "jsonb"): """('{"b": 1,  "a": [1.50]}'), ('null'), ('"x"')""",
    ("jsonb", "json"): """('{"b": 1,  "a": [1.50]}')""",
    ("text", "mood"): "('sad'), (NULL)",
    ("mood", "text"): "('sad'), ('ok')",
    ("mood", "varchar(5)"): "('sad'), ('ok')",
    ("mood[]", "mood[]"): "('{sad,NULL}'), ('{}')",
    ("int", "positive"): "(1), (2)",
    ("positive", "bigint"): "(1), (2)",
    ("int[]", "bigint[]"): "('{1,2}'), ('{{1,2},{3,NULL}}')",
    ("text", "uuid"): "('00000000-0000-0000-0000-000000000001')",
    ("uuid", "text"): "('00000000-0000-0000-0000-000000000001')",
    ("text", "int"): "('1'), ('-5')",
    ("cidr", "inet"): "('10.0.0.0/8')",
    ("bit(3)", "text"): "('101')",
    ("bytea", "bytea"): r"('\x00ff'), ('')",
    ("int4range", "int4range"): "('[1,5)'), ('empty'), ('(,3]')",
    ("two", "two"): """('(1,"a,b")'), ('(,)'), (NULL)""",
    ("boolean", "text"): "(true), (false)",
    ("interval", "text"): "('1 year -3 days')",
}
TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE two AS (a int, b text);
"""


def test_a_column_of_another_type_is_held_against_its_new_values(databases: Databases) -> None:
    """Whatever the plan lets come, comes as it said; nothing is a difference but a change."""
    old, new = [TYPES], [TYPES]
    for number, ((before, after), values) in enumerate(RETYPED.items()):
        make = f"CREATE TABLE t{number} (k serial, v "
        old += [f"{make} {before})", f"INSERT INTO t{number} (v) VALUES {values}"]
        new += [f"{make} {after})"]
    databases.run("; ".join(old), "; ".join(new))
    with tables.snapshot_of(session := databases.old):
        decided = plan.decide(session, databases.new, Rules())
    assert [str(each) for each in decided.problems] == []
    databases.copy(decided.transfers)
    compare(databases, *decided.transfers)
    for each in decided.transfers:
        databases.new.execute(f"UPDATE {each.name} SET v = NULL WHERE k = 1".encode())
    with pytest.raises(StepFailedError) as caught:
        compare(databases, *decided.transfers)
    assert caught.value.what.count("in v") == len(RETYPED)


def test_a_filled_column_is_not_compared(databases: Databases) -> None:
    """There is nothing in the old database that it could be held against."""
    databases.run(
        "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1), (2)",
        "CREATE TABLE t (k int PRIMARY KEY, at uuid NOT NULL)",
    )
    rules = Rules(fill={"t.at": "gen_random_uuid()"})
    with tables.snapshot_of(session := databases.old):
        decided = plan.decide(session, databases.new, rules)
    databases.copy(decided.transfers)
    ((each, found),) = compare(databases, *decided.transfers)
    assert (each.filled, found.rows) == (frozenset({"at"}), 2)
    databases.new.execute("DELETE FROM t WHERE k = 2")
    with pytest.raises(StepFailedError, match="2 rows in the old database, 1 in the new one, in k"):
        compare(databases, *decided.transfers)


def test_rows_of_a_table_that_inherits_are_its_own(databases: Databases) -> None:
    """Neither side counts them with those of the parent."""
    make = "CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent)"
    rows = "; INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3)"
    databases.run(make + rows, make + rows)
    found = compare(databases, transfer("parent", "a"), transfer("child", "a"))
    assert [each.rows for _, each in found] == [1, 2]


@pytest.mark.slow
def test_a_table_of_a_thousand_columns(databases: Databases) -> None:
    """The expression of a row is as long as that."""
    names = [f"c{number}" for number in range(1500)]
    databases.run(f"CREATE TABLE wide ({', '.join(f'{each} bool' for each in names)})")
    databases.run("INSERT INTO wide (c1, c1499) VALUES (true, false)")
    compare(databases, transfer("wide", *names))
    databases.new.execute("UPDATE wide SET c1498 = false")
    with pytest.raises(StepFailedError, match="in c1498"):
        compare(databases, transfer("wide", *names))
