"""How many rows there are: counted, but for what takes long."""

from __future__ import annotations

import psycopg

from backset.catalog import catalog


def test_the_rows_of_a_large_table_are_estimated(database_url: str) -> None:
    """A look at a database does not read all of it; who wants the exact number asks for it."""
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute("CREATE TABLE large (id bigint); CREATE TABLE small (id bigint)")
        session.execute("INSERT INTO large SELECT generate_series(1, 1200000); ANALYZE large")
        found = catalog.readable_counts(session)
        told = [found.told(each) for each in ("large", "small")]
        assert (sorted(found.estimated), told) == (["large"], ["≈ 1.2 M", "0"])
        exact = catalog.readable_counts(session, exact=True)
        assert (sorted(exact.estimated), exact["large"]) == ([], 1_200_000)
        session.execute("TRUNCATE large")
        assert catalog.readable_counts(session).told("large") == "0"
