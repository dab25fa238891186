"""Indexes and foreign keys that are built after the rows come back exactly as they were."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from tests.conftest import ROLE
from tests.project import REPOSITORY

sys.path.append(str(REPOSITORY / "scripts"))  # where the application has it

import secondary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection
    from psycopg.rows import TupleRow

TABLES = """
CREATE SCHEMA "Odd Schema";
CREATE TABLE places (id int PRIMARY KEY, code text UNIQUE);
CREATE TABLE "Odd Schema"."Odd Rows" (id int PRIMARY KEY, "Place" int, code text, tags int[],
    CONSTRAINT "Odd fk" FOREIGN KEY ("Place") REFERENCES places (id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT late_fk FOREIGN KEY (code) REFERENCES places (code) MATCH FULL);
ALTER TABLE "Odd Schema"."Odd Rows" ADD CONSTRAINT unproved_fk
    FOREIGN KEY (id) REFERENCES places (id) NOT VALID;
SET search_path = "Odd Schema", public;
CREATE INDEX "Odd Index" ON "Odd Rows" ("Place" DESC NULLS LAST) INCLUDE (code) WHERE id > 0;
CREATE INDEX by_tag ON "Odd Rows" USING gin (tags) WITH (fastupdate = off);
CREATE INDEX by_expression ON "Odd Rows" (lower(code) text_pattern_ops, (id + 1));
"""
KEPT = """
CREATE UNIQUE INDEX unique_one ON "Odd Rows" (code, id);
CREATE INDEX told_one ON "Odd Rows" (code); COMMENT ON INDEX told_one IS 'why';
CREATE INDEX clustered_one ON "Odd Rows" (code); ALTER TABLE "Odd Rows" CLUSTER ON clustered_one;
CREATE INDEX measured_one ON "Odd Rows" ((id * 2));
ALTER INDEX measured_one ALTER COLUMN 1 SET STATISTICS 500;
ALTER TABLE "Odd Rows" ADD CONSTRAINT told_fk FOREIGN KEY (id) REFERENCES places (id);
COMMENT ON CONSTRAINT told_fk ON "Odd Rows" IS 'why';
"""
ODD = '"Odd Schema"."Odd Rows"'
DEFERRED = ["Odd Index", "by_expression", "by_tag", "Odd fk", "late_fk", "unproved_fk"]
DEFINITIONS = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'Odd Schema'
UNION ALL SELECT conname || ' ' || convalidated::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = '"Odd Schema"."Odd Rows"'::regclass ORDER BY 1
"""


@pytest.fixture
def session(database_url: str) -> Iterator[Connection[TupleRow]]:
    """A session on a database with these tables, in a transaction."""
    with psycopg.connect(database_url) as session:
        session.execute(TABLES)
        session.commit()
        yield session


def test_all_is_as_it_was(session: Connection[TupleRow]) -> None:
    """Each index and key is gone in the block, and afterwards its definition is the same."""
    before = session.execute(DEFINITIONS).fetchall()
    built: list[str] = []
    with secondary.built_afterwards(session, [ODD], lambda found: noted(found, built)):
        within = session.execute(DEFINITIONS).fetchall()
    assert within == [each for each in before if re.search("_pkey|_not_null", each[0])]
    assert built == DEFERRED
    assert session.execute(DEFINITIONS).fetchall() == before


def noted(found: list[secondary.Secondary], names: list[str]) -> Iterator[secondary.Secondary]:
    """Pass them on, and note their names."""
    for each in found:
        names.append(each.name)
        yield each


def test_what_its_definition_does_not_say_whole_is_kept(session: Connection[TupleRow]) -> None:
    """A comment, statistics, CLUSTER ON would be lost; unique indexes have another duty."""
    session.execute(KEPT)
    assert [each.name for each in secondary.secondaries(session, [ODD])] == DEFERRED
    assert [each.name for each in secondary.secondaries(session, ["public.places"])] == []


def test_nothing_that_is_not_ours(session: Connection[TupleRow]) -> None:
    """A role that may only write into the table finds nothing to drop."""
    grant = """
        GRANT USAGE ON SCHEMA "Odd Schema" TO {0};
        GRANT ALL ON ALL TABLES IN SCHEMA "Odd Schema" TO {0};
        SET ROLE {0}
    """
    session.execute(sql.SQL(grant).format(sql.Identifier(ROLE)))
    assert secondary.secondaries(session, [ODD]) == []


def test_a_failure_leaves_them(session: Connection[TupleRow]) -> None:
    """The rows of the block do not meet a foreign key: the transaction is as if it had not been."""
    before = session.execute(DEFINITIONS).fetchall()
    session.commit()
    with (
        pytest.raises(psycopg.errors.ForeignKeyViolation),
        session.transaction(),
        secondary.built_afterwards(session, [ODD]),
    ):
        session.execute(f'INSERT INTO {ODD} (id, "Place") VALUES (1, 7)'.encode())
    assert session.execute(DEFINITIONS).fetchall() == before
