"""The server copies a database in the way that takes it less time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.catalog import catalog
from backset.servers import derived

if TYPE_CHECKING:
    from typing import Any

TABLES = """
DO $$ BEGIN FOR n IN 1..100 LOOP
    EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, name text)', n);
END LOOP; END $$
"""
COUNTED = """
SELECT count(*) FROM pg_ls_dir('base/' || (SELECT oid FROM pg_database
                                           WHERE datname = current_database())) AS name
WHERE name ~ '^[0-9]+$'
"""


def test_a_database_of_many_files_is_copied_page_by_page(database_url: str) -> None:
    """As files it would wait for the disk once for each; of few large ones that takes less time."""
    with psycopg.connect(database_url, autocommit=True) as session:
        before = catalog.files(session)
        session.execute(TABLES)
        assert catalog.files(session) == before + 5 * 100  # with a sequence, a key, two of TOAST
        assert catalog.files(session) == pytest.approx(_on_disk(session), rel=0.1)
        one = catalog.size_bytes(session) // catalog.files(session)
    assert not derived.is_copied_as_files(100_000 * one, 100_000)
    assert derived.is_copied_as_files(500_000_000, before)
    assert not derived.is_copied_as_files(8_000_000, before)


def _on_disk(session: psycopg.Connection[Any]) -> int:
    (number,) = session.execute(COUNTED).fetchone() or (0,)
    return int(number)


def test_a_size_is_asked_from_another_database(
    database_url: str, superuser: psycopg.Connection[Any], name: str
) -> None:
    """It is what the database says of itself, and nothing where there is none."""
    with psycopg.connect(database_url) as session:
        assert catalog.size_bytes(superuser, name) == catalog.size_bytes(session) > 1_000_000
    assert catalog.size_bytes(superuser, f"{name}_not") == 0
