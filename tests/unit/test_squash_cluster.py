"""What of a statement is said to the server, and can be said again: `squash.cluster`."""

from __future__ import annotations

import pytest

from backset.errors import RefusedError
from backset.squash import cluster

IN_A_DATABASE = (
    "GRANT SELECT ON t TO app",
    "GRANT SELECT (a), UPDATE (b) ON t TO app WITH GRANT OPTION",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO app",
    "CREATE USER MAPPING FOR app SERVER files",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ CREATE ROLE app; $$",
    "COMMENT ON TABLE t IS 'CREATE ROLE app'",
    "INSERT INTO notes VALUES ('GRANT a TO b')",
    "DO $$ BEGIN -- CREATE ROLE app is not for us\n PERFORM 1; END $$",
)
AGAIN = (
    "CREATE USER app",
    "DROP ROLE IF EXISTS app",
    "GRANT app TO CURRENT_USER",
    "REVOKE app FROM ann",
    "GRANT CONNECT ON DATABASE shop TO app",
    "ALTER DATABASE shop SET work_mem = '5MB'",
    "COMMENT ON ROLE app IS 'reads'",
    "/* who */ ALTER ROLE app SET search_path = s",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET a.b = 1', current_database()); END $$",
)
NEVER = (
    "CREATE TABLESPACE fast LOCATION '/fast'",
    "ALTER SYSTEM SET work_mem = '5MB'",
    "CREATE SUBSCRIPTION s CONNECTION 'host=a password=b' PUBLICATION p WITH (connect = false)",
    "SELECT pg_create_logical_replication_slot('a', 'pgoutput')",
    "ALTER DATABASE shop RENAME TO store",
    "DO $$ BEGIN EXECUTE format('CREATE ROLE a PASSWORD %L', current_setting('a.b')); END $$",
)


@pytest.mark.parametrize("statement", IN_A_DATABASE)
def test_what_a_database_has_is_not_said_to_the_server(statement: str) -> None:
    """It is written from what stands in the database."""
    assert cluster.read([["a", statement, False]], ["a"]) == cluster.ServerStatements()


@pytest.mark.parametrize("statement", AGAIN)
def test_what_can_be_said_again(statement: str) -> None:
    """It is written; with parameters, which nobody has seen, it is not."""
    (written,) = cluster.read([["a", statement, False]], ["a"]).written
    assert statement in written
    found = cluster.read([["a", statement, True]], ["a"])
    assert (found.written, len(found.left)) == ((), 1)


@pytest.mark.parametrize("statement", NEVER)
def test_what_cannot_be_said_again(statement: str) -> None:
    """Somebody has to decide, and what is left out is named; no password is in that."""
    found = cluster.read([["a", statement, False]], ["a"])
    assert found.written == ()
    with pytest.raises(RefusedError, match="no revision written anew"):
        found.chosen("")
    (told,) = found.chosen("none").notices()
    assert "a: " in told
    assert "password" not in told


@pytest.mark.parametrize(
    "word", ["PASSWORD 'it''s'", "ENCRYPTED PASSWORD 'x'", "PASSWORD'x'", "PASSWORD NULL"]
)
def test_no_password_is_written(word: str) -> None:
    """A role is made without it, and only where it is missing; other revisions are not heard."""
    said = [
        ["a", f'CREATE ROLE "An""n" LOGIN {word}; SELECT 1', False],
        ["b", "DROP ROLE c", False],
    ]
    found = cluster.read(said, ["a"])
    assert found.had_password
    assert "PASSWORD" not in "".join(found.shown)
    (written,) = found.written
    assert "PASSWORD" not in written
    assert "rolname = 'An\"n'" in written
    assert 'CREATE ROLE "An""n" LOGIN;' in written
