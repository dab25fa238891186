"""What `verify` finds beyond Alembic's comparison, on every major version of the server here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.checks import soundness
from backset.checks.differences import drift, enums
from backset.migrate import project_command
from backset.settings.reader import load
from backset.text.pasted import quoted, quoted_if_needed
from tests.clusters import free_port, majors, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.connections.session import Session
    from backset.errors import Finding
    from backset.servers.cluster import Cluster


@pytest.fixture(scope="module", params=majors())
def each_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each major version that is here."""
    with running(request.param, free_port()) as made:
        yield made


@pytest.fixture
def session(each_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session on a fresh empty database."""
    name = sql.Identifier("fresh")
    with psycopg.connect(each_cluster.url("postgres"), autocommit=True) as maintenance:
        maintenance.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
        maintenance.execute(sql.SQL("CREATE DATABASE {}").format(name))
    with psycopg.connect(each_cluster.url("fresh"), autocommit=True) as connection:
        yield connection


def said(findings: list[Finding]) -> list[tuple[str, str, str]]:
    """Return what is compared of findings."""
    return [(each.kind, each.name, each.what) for each in findings]


def test_a_sound_database_has_no_finding(session: Session) -> None:
    """Valid indexes, validated constraints and enabled triggers are not mentioned."""
    session.execute(
        "CREATE TABLE a (id int PRIMARY KEY);"
        "CREATE TABLE b (a_id int REFERENCES a CHECK (a_id > 0))"
        "; CREATE INDEX ix ON b (a_id)"
    )
    assert soundness.findings(session) == []


def test_an_index_whose_concurrent_making_failed_is_named(session: Session) -> None:
    """PostgreSQL keeps it, invalid, and no query uses it."""
    session.execute("CREATE TABLE b (id int); INSERT INTO b VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        session.execute("CREATE UNIQUE INDEX CONCURRENTLY ix_b ON b (id)")
    (finding,) = soundness.findings(session)
    assert said([finding]) == [("invalid index", "ix_b", "index ix_b of b is not valid")]
    session.execute("DELETE FROM b")
    session.execute(finding.remedy.partition(",")[0])
    assert soundness.findings(session) == []


def test_an_index_of_a_partitioned_table_can_be_incomplete(session: Session) -> None:
    """ON ONLY leaves it invalid until each partition has one attached."""
    session.execute(
        "CREATE TABLE p (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9);"
        "CREATE INDEX ix_p ON ONLY p (id)"
    )
    (finding,) = soundness.findings(session)
    assert finding.what == "index ix_p of the partitioned table p is not valid"


def test_constraints_that_old_rows_may_break_are_named(session: Session) -> None:
    """NOT VALID, for a CHECK and a foreign key, in any schema; the remedy is SQL that works."""
    session.execute(
        'CREATE TABLE "a.b" (id int);'
        'ALTER TABLE "a.b" ADD CONSTRAINT "c.d" CHECK (id > 0) NOT VALID;'
        'CREATE SCHEMA other; CREATE TABLE other."Mixed" (id int PRIMARY KEY);'
        'ALTER TABLE other."Mixed" ADD CONSTRAINT positive CHECK (id > 0) NOT VALID;'
        "CREATE TABLE b (m int);"
        'ALTER TABLE b ADD CONSTRAINT fk FOREIGN KEY (m) REFERENCES other."Mixed" NOT VALID'
    )
    found = soundness.findings(session)
    assert said(found) == [
        ("not valid constraint", "positive", "constraint positive of other.Mixed is NOT VALID"),
        ("not valid constraint", "c.d", "constraint c.d of a.b is NOT VALID"),
        ("not valid constraint", "fk", "constraint fk of b is NOT VALID"),
    ]
    for finding in found:
        session.execute(finding.remedy.partition(",")[0])
    assert soundness.findings(session) == []


def test_a_name_that_sql_reads_otherwise_is_quoted(session: Session) -> None:
    """Of each keyword the server says whether it may stand there as it is."""
    for word, kind in session.execute("SELECT word, catcode FROM pg_get_keywords()").fetchall():
        name = quoted_if_needed(word)
        assert name == quoted(word) or kind not in {"R", "T"}
        session.execute(f"CREATE TEMPORARY TABLE {name} ({name} int)".encode())
        session.execute(f"SELECT {name} + 1 FROM {name}; DROP TABLE {name}".encode())


def test_a_constraint_that_is_not_enforced_is_called_so(session: Session) -> None:
    """PostgreSQL 18 has NOT ENFORCED, which VALIDATE would not mend."""
    if session.info.server_version < 180000:
        pytest.skip("PostgreSQL 18 brought it")
    session.execute("CREATE TABLE b (m int CONSTRAINT c CHECK (m > 0) NOT ENFORCED)")
    assert said(soundness.findings(session)) == [
        ("not valid constraint", "c", "constraint c of b is NOT ENFORCED")
    ]


def test_disabled_triggers_are_named_once(session: Session) -> None:
    """One's own by name; those of foreign keys by the key, since rows that break it go in."""
    session.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TABLE a (id int PRIMARY KEY);"
        "CREATE TABLE b (a_id int CONSTRAINT fk REFERENCES a);"
        "CREATE TRIGGER t BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION f();"
        "CREATE TRIGGER r BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION f();"
        "ALTER TABLE b DISABLE TRIGGER ALL; ALTER TABLE b ENABLE REPLICA TRIGGER r"
    )
    found = soundness.findings(session)
    assert sorted(said(found)) == [
        ("disabled trigger", "fk", "the triggers of the foreign key fk are disabled on b"),
        ("disabled trigger", "r", "trigger r of b fires in replicas only"),
        ("disabled trigger", "t", "trigger t of b is disabled"),
    ]
    session.execute("INSERT INTO b VALUES (7)")
    session.execute("DELETE FROM b")
    for finding in found:
        session.execute(finding.remedy.partition(",")[0])
    assert soundness.findings(session) == []


def test_a_trigger_disabled_on_a_partitioned_table_is_one_finding(session: Session) -> None:
    """Its partitions inherit that, and are not named too."""
    session.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TABLE p (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9);"
        "CREATE TRIGGER t AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();"
    )
    session.execute("ALTER TABLE p DISABLE TRIGGER t; ALTER TABLE p1 DISABLE TRIGGER t")
    assert [each.what for each in soundness.findings(session)] == ["trigger t of p is disabled"]


def test_enum_values_are_compared_both_ways_and_in_order(session: Session) -> None:
    """Alembic sees none of this; an enum without a schema is the one of the search path."""
    session.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'happy', 'lost'); CREATE SCHEMA other;"
        "CREATE TYPE other.mood AS ENUM ('b', 'a'); CREATE TYPE fine AS ENUM ('x')"
    )
    models: list[dict[str, Any]] = [
        {"schema": None, "name": "mood", "values": ["sad", "it's ok", "happy"]},
        {"schema": "other", "name": "mood", "values": ["a", "b"]},
        {"schema": "public", "name": "fine", "values": ["x"]},
        {"schema": None, "name": "gone", "values": ["y"]},
    ]
    found = enums(models, session)
    assert said(found) == [
        ("missing enum value", "mood", "the enum mood lacks 'it''s ok'"),
        ("extra enum value", "mood", "the enum mood has 'lost'"),
        ("enum order", "other.mood", "the enum other.mood has the order b, a"),
        ("missing enum", "gone", "the enum type gone does not exist"),
    ]
    for finding in (found[0], found[3]):
        session.execute(finding.remedy.partition('"')[2].partition('"')[0])
    assert said(enums(models, session)) == [
        ("extra enum value", "mood", "the enum mood has 'lost'"),
        ("enum order", "mood", "the enum mood has the order sad, happy, it's ok"),
        ("enum order", "other.mood", "the enum other.mood has the order b, a"),
    ]


def test_a_column_that_is_no_enum_is_found_beside_the_type(session: Session) -> None:
    """Alembic may not compare types; to make the missing type alone would be no cure."""
    session.execute(
        "CREATE TABLE users (mood varchar(9), moods text[], other text); CREATE SCHEMA other;"
        "CREATE TYPE other.mood AS ENUM ('x'); CREATE DOMAIN other.same AS other.mood;"
        "CREATE TABLE other.users (mood other.mood, moods other.mood[], other other.same);"
        "INSERT INTO users VALUES ('sad', '{sad,ok}', 'x')"
    )
    here = [[None, "users", "mood"], [None, "users", "moods"], [None, "users", "gone"]]
    there = [["other", "users", name] for name in ("mood", "moods", "other")]
    models: list[dict[str, Any]] = [
        {"schema": None, "name": "mood", "values": ["sad", "ok"], "columns": here},
        {"schema": "other", "name": "mood", "values": ["x"], "columns": there},
    ]
    found = enums(models, session)
    assert said(found) == [
        ("missing enum", "mood", "the enum type mood does not exist"),
        ("enum column", "users.mood",
         "users.mood is character varying(9), and the models have the enum mood"),
        ("enum column", "users.moods", "users.moods is text[], and the models have the enum mood"),
    ]  # fmt: skip
    told = enums(models, session, told=["users.mood"])
    assert [each.name for each in told] == ["mood", "users.moods"]
    for finding in found:
        assert len(enums(models, session)) > 0
        session.execute(finding.remedy.partition('"')[2].partition('"')[0])
    assert enums(models, session) == []


def test_leftover_tables_have_their_rows(session: Session) -> None:
    """But partitions and tables of extensions are nobody's leftovers."""
    session.execute(
        "CREATE TABLE runs AS SELECT generate_series(1, 1200) AS id; CREATE SCHEMA other;"
        "CREATE TABLE other.runs (); CREATE TABLE p (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9)"
    )
    differences = [
        {"kind": "leftover table", "name": name, "text": f"table {name} is only in the database"}
        for name in ("runs", "other.runs", "p1")
    ]
    found = drift(differences, session, "invoke alembic --")
    assert [(each.name, each.why) for each in found] == [
        ("other.runs", "no model has it; it has 0 rows"),
        ("runs", "no model has it; it has 1,200 rows"),
    ]


def test_sequences_that_lag_are_found_in_one_go(session: Session) -> None:
    """Each with its next value and its column's maximum, large ones included."""
    session.execute(
        "CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id bigserial PRIMARY KEY);"
        "CREATE TABLE c (id int GENERATED BY DEFAULT AS IDENTITY);"
        "INSERT INTO a VALUES (DEFAULT), (7); INSERT INTO b VALUES (9000000000000000000);"
        "INSERT INTO c VALUES (DEFAULT)"
    )
    assert [each.what for each in project_command.lagging(session)] == [
        "a_id_seq gives 2 next, but a.id already has 7",
        "b_id_seq gives 1 next, but b.id already has 9000000000000000000",
    ]


def test_rows_are_judged_once_somebody_has_seeded(session: Session, tmp_path: Path) -> None:
    """An empty database is at the start of its life; one that lost a table's rows is not."""
    (tmp_path / "pyproject.toml").write_text("[tool.backset.rows]\na = 2\nb = 1\n")
    settings = load(tmp_path, {})
    session.execute("CREATE TABLE a (); CREATE TABLE b ()")

    def judged() -> list[str]:
        rows = project_command.expected_rows(settings, session)
        return [each.what for each in project_command.unmet(settings, session, rows)]

    assert judged() == []
    session.execute("INSERT INTO a SELECT FROM generate_series(1, 50)")
    assert judged() == ["b has 0 of at least 1 row"]
    session.execute("INSERT INTO b DEFAULT VALUES")
    assert judged() == []
