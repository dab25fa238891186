"""Two schemas of many tables compared, beside pg_dump, which reads one of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg

from backset.catalog import schema
from backset.catalog.schema import Sides, between
from backset.process.signals import submit
from benchmarks.figures import Comparison
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backset.catalog.schema import Item
    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

_SIDES = Sides("the one", "the other")
_MADE = """
DO $$ BEGIN FOR n IN 1..{count} LOOP
    EXECUTE format('CREATE TABLE t%1$s (id serial PRIMARY KEY, number int NOT NULL, name text '
        'DEFAULT ''none'', kind varchar(30) CHECK (kind IN (''a'', ''b'')), '
        'seen timestamptz DEFAULT now(), price numeric(10, 2), more jsonb, '
        'other int REFERENCES t%2$s)', n, greatest(1, n - 1));
    EXECUTE format('CREATE INDEX ON t%1$s (number)', n);
    EXECUTE format('CREATE INDEX ON t%1$s (name) WHERE number > 3', n);
END LOOP; END $$
"""


def comparing(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield the comparison of two databases that are alike, against `pg_dump -s` of one."""
    count = amounts.tables[-1]
    place.renew("alike_1")
    place.sql("alike_1", _MADE.format(count=count))
    place.renew("alike_2", "alike_1")
    sides = [
        Side("both schemas", lambda: _compare(place, count)),
        Side("pg_dump -s of one", lambda: _dump(place)),
    ]
    ours, theirs = alternate(sides, amounts.rounds)
    yield Comparison(f"two schemas of {count} tables", "s", ours, theirs, 1.5)
    place.drop("alike_1", "alike_2")


def _compare(place: Place, count: int) -> None:
    with ThreadPoolExecutor(1) as beside:  # psycopg waits for one server while we read the other
        waited = submit(beside, _read, place.url("alike_1"))
        two = _read(place.url("alike_2"))
        one = waited.result()
    found = between(one, two, _SIDES)
    if found or len(one) < 10 * count:
        raise SystemExit(f"{len(one)} objects, of which differ: {found}")


def _read(url: str) -> Mapping[str, Item]:
    with psycopg.connect(url, autocommit=True) as session:
        return schema.read(session)


def _dump(place: Place) -> None:
    place.run("pg_dump", "-s", "-d", place.url("alike_1"), "-f", str(place.folder / "schema.sql"))
