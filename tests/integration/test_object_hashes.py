"""The hashes of a database survive a dump, and every change of an object shows in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.backups import restoration
from backset.catalog import object_hashes
from backset.connections.target import Target
from tests.backups import EMPTY, run, take
from tests.clusters import majors, running
from tests.marks import slow_but

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.backups.manifest import Manifest
    from backset.backups.store import BackupStore
    from backset.servers.cluster import Cluster
    from backset.servers.programs import Programs

EVERYTHING = (Path(__file__).parent / "everything.sql").read_text(encoding="utf-8")
KINDS = {
    *("table", "index", "sequence", "view", "materialized view", "foreign table", "schema"),
    *("table constraint", "domain constraint", "trigger", "rule", "policy", "type", "cast"),
    *("composite type", "function", "procedure", "aggregate", "extension", "collation"),
    *("operator", "publication", "publication relation", "statistics object", "server"),
    *("foreign-data wrapper", "text search configuration", "large objects"),
}


@pytest.fixture(scope="module")
def old_cluster() -> Iterator[Cluster]:
    """A running PostgreSQL 16."""
    with running(16) as made:
        yield made


def hashes_of(target: Target, settings: str = "") -> dict[str, str]:
    """Return the hashes of a database, in a session with other settings."""
    with psycopg.connect(**target.params, autocommit=True) as session:  # type: ignore[arg-type]
        session.execute(settings.encode() or b"SELECT 1")
        return object_hashes.read(session)


@pytest.mark.parametrize("major", majors(18, 16))
def test_a_restored_database_has_the_same_hashes(
    vault: BackupStore, programs: Programs, major: int, request: pytest.FixtureRequest, name: str
) -> None:
    """Twice over, on both majors, whatever the session's settings; nothing is left out."""
    made = request.getfixturevalue("cluster" if major == 18 else "old_cluster")
    first = Target.parse(made.url(f"{name}_1"))
    with psycopg.connect(made.url("postgres"), autocommit=True) as session:
        for number in (1, 2, 3):
            session.execute(f"CREATE DATABASE {name}_{number} TEMPLATE template0".encode())
    run(first, EVERYTHING)
    then = hashes_of(first)
    for kind in KINDS:
        assert any(each.startswith(kind) for each in then), kind
    assert "type app.vector" not in then, "members of an extension come with it"
    for source, copy in ((1, 2), (2, 3)):
        taken = take(vault, first.named(f"{name}_{source}"), programs)
        restoration.load(taken, first.named(f"{name}_{copy}"), major, programs)
        settings = "SET search_path = app, public; SET TimeZone = 'Asia/Tokyo'"
        assert hashes_of(first.named(f"{name}_{copy}"), settings) == then


def test_an_unfinished_index_is_not_missed(
    vault: BackupStore, programs: Programs, target: Target
) -> None:
    """pg_dump leaves out what CREATE INDEX CONCURRENTLY did not finish."""
    run(target, "INSERT INTO users VALUES (7)")
    with psycopg.connect(**target.params, autocommit=True) as session:  # type: ignore[arg-type]
        unfinished = "CREATE UNIQUE INDEX CONCURRENTLY broken ON users (id)"
        with pytest.raises(psycopg.errors.UniqueViolation):
            session.execute(unfinished)
    taken = take(vault, target, programs)
    run(target, EMPTY)
    restoration.load(taken, target, 18, programs)


CHANGES = {
    "ALTER TABLE users ADD COLUMN more int": "table public.users is defined otherwise",
    "ALTER TABLE users ALTER id SET DEFAULT 3": "table public.users is defined otherwise",
    "ALTER TABLE users ALTER id TYPE bigint": "table public.users is defined otherwise",
    "ALTER TABLE users ALTER id SET NOT NULL": "table public.users is defined otherwise",
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY": "table public.users is defined otherwise",
    "DROP TABLE other.things": "table other.things is missing",
    "CREATE TABLE more ()": "table public.more is new",
    "CREATE INDEX i ON users (id)": "index public.i is new",
    "DROP INDEX ix": "index public.ix is missing",
    "DROP INDEX ix; CREATE INDEX ix ON users (id DESC)": "index public.ix is defined otherwise",
    "CREATE OR REPLACE VIEW v AS SELECT 2 AS one": "view public.v is defined otherwise",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'": (
        "function public.f() is defined otherwise"
    ),
    "ALTER TYPE mood ADD VALUE 'ok'": "type public.mood is defined otherwise",
    "ALTER SEQUENCE s INCREMENT 2": "sequence public.s is defined otherwise",
    "ALTER TABLE users DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (id >= 1)": (
        "table constraint c on public.users is defined otherwise"
    ),
    "SELECT lo_create(0)": "large objects is defined otherwise",
    "DELETE FROM users WHERE id = 7": "users has 6 of 7 rows",
}
SMALL = """
CREATE INDEX ix ON users (id); CREATE VIEW v AS SELECT 1 AS one; CREATE SEQUENCE s;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE mood AS ENUM ('sad');
ALTER TABLE users ADD CONSTRAINT c CHECK (id > 0); SELECT lo_create(0);
"""


@pytest.mark.parametrize(
    ("change", "words"),
    slow_but(CHANGES.items(), lambda case: list(CHANGES).index(case[0]) % 4 == 0),
)
def test_every_change_is_told(
    vault: BackupStore, target: Target, programs: Programs, change: str, words: str
) -> None:
    """One change, one difference in words; none without one."""
    run(target, SMALL)
    about = take(vault, target, programs).manifest
    assert compared(about, target) == []
    run(target, change)
    assert compared(about, target) == [words]


TOLD = """
CREATE TABLE told (id bigint GENERATED ALWAYS AS IDENTITY, name varchar(9) COLLATE "C" NOT NULL
    DEFAULT 'x', twice text GENERATED ALWAYS AS (name || name) STORED) WITH (fillfactor = 70);
ALTER TABLE told ENABLE ROW LEVEL SECURITY;
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (1) TO (2);
CREATE VIEW seen AS SELECT id FROM told;
CREATE INDEX by_name ON told (name) WHERE id > 3;
CREATE SEQUENCE down INCREMENT -3 MINVALUE -300 CYCLE;
ALTER TABLE told ADD CONSTRAINT positive CHECK (id > 0);
CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER before_told BEFORE INSERT ON told FOR EACH ROW EXECUTE FUNCTION same();
ALTER TABLE told DISABLE TRIGGER before_told;
CREATE RULE quiet AS ON UPDATE TO told DO ALSO NOTIFY told;
CREATE POLICY few ON told FOR SELECT USING (id > 1);
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int);
CREATE TYPE mood AS ENUM ('sad', 'it''s');
CREATE DOMAIN code AS varchar(5) NOT NULL DEFAULT 'a';
CREATE STATISTICS pairs ON id, name FROM told;
CREATE PUBLICATION news FOR TABLE told;
"""
HASHES = {
    "aggregate public.total(integer)": "",
    "function public.same()": "535605d308038eba",
    "index public.by_name": "4fae564c19d66fd4",
    "policy few on public.told": "661d137c2e63cc0f",
    "publication news": "74d10f35209215bc",
    "publication relation public.told in publication news": "",
    "rule quiet on public.told": "1ac9b3455ec5ab3b",
    "sequence public.down": "e8f586d70d04ea4b",
    "sequence public.told_id_seq": "4ca46ec6d83719bd",
    "statistics object public.pairs": "03f8a03e42880353",
    "table constraint positive on public.told": "2318e6dfdc2dc829",
    "table public.part": "de3b0b70be5ae81d",
    "table public.parted": "05efb7795e8dfaf7",
    "table public.told": "086acc378a44562e",
    "trigger before_told on public.told": "53644b986052fdca",
    "type public.code": "eed01b02750ccb58",
    "type public.mood": "a6ffe6e24621f745",
    "view public.seen": "bcc3a19acd207d90",
}


def test_the_hashes_are_those_of_earlier_manifests(target: Target) -> None:
    """A backup of years ago is held against them: for one definition there is one hash for ever."""
    before = hashes_of(target)
    run(target, TOLD)
    then = hashes_of(target)
    assert {name: then[name] for name in then.keys() - before.keys()} == HASHES


def test_another_major_and_an_earlier_manifest_are_asked_for_what_they_have(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Another major may spell a definition otherwise; an earlier manifest has rows alone."""
    about = take(vault, target, programs).manifest
    run(
        target,
        "ALTER TABLE users ADD COLUMN more int; CREATE TABLE more (); DROP TABLE other.things",
    )
    older = dataclasses.replace(about, server_version="17.2")
    assert compared(older, target) == ["table other.things is missing"]
    earlier = dataclasses.replace(about, objects=None, format=1)
    assert compared(earlier, target) == ["table other.things is missing"]


def compared(about: Manifest, target: Target) -> list[str]:
    """Hold a database against a manifest."""
    with psycopg.connect(**target.params, autocommit=True) as session:  # type: ignore[arg-type]
        return restoration.differences(about, session)
