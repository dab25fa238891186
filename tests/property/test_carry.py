"""Whatever two schemas and rows: what the plan carries is equal, what it leaves is counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from psycopg import sql

from backset.carry import carry
from backset.catalog import catalog, object_hashes
from backset.connections.target import Target
from backset.errors import StepFailedError
from backset.runs.run import Options, Run
from backset.servers import swap
from backset.servers.server import Names, Server
from backset.settings.reader import load
from backset.settings.rules import Rules
from backset.steps.content import carry_sides
from tests.property import schemas
from tests.property.schemas import Case, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.carry.carry import Carried
    from backset.servers.cluster import Cluster

    Session = psycopg.Connection[Any]

EXAMPLES = 40
CLEAR = """
DROP SCHEMA IF EXISTS public, other, "Sch ema" CASCADE; CREATE SCHEMA public
"""


class Ground:
    """Two databases that all cases share, one after the other."""

    def __init__(self, cluster: Cluster, name: str, folder: Path) -> None:
        self.target = Target.parse(cluster.url(name))
        self.settings = load(folder, {"DATABASE_URL": self.target.url})
        self.old = psycopg.connect(cluster.url(name), autocommit=True)
        self.new = psycopg.connect(cluster.url(Names.of(name).next), autocommit=True)

    def close(self) -> None:
        """Leave them."""
        self.old.close()
        self.new.close()

    def lay(self, case: Case) -> None:
        """Make what the case says: the old database with its rows, the new one without."""
        for session, schema in ((self.old, case.old), (self.new, case.new)):
            session.execute(CLEAR)
            statements = schemas.made(schema)
            if session is self.old:
                for each in schema.tables:
                    statements += schemas.filled(each, case.rows[each.name])
            for statement in [*statements, *schemas.bound(schema)]:
                session.execute(statement)

    def carry(self, case: Case) -> Carried:
        """Carry, as the step does."""
        rules = Rules(rename=case.rename, fill=case.fill, drops=case.drops)
        options = Options(carries=rules)
        with Run(self.settings, self.target, "test", beside=True, options=options) as run:
            run.open()
            return carry.carry(carry_sides(run), _silent)


def _silent(text: str, *, lasting: bool = False) -> None:
    """Tell nobody."""


@pytest.fixture
def ground(cluster: Cluster, name: str, tmp_path: Path) -> Iterator[Ground]:
    """Both databases, and a session on each."""
    with Server(Target.parse(cluster.url(name)), "test") as server:
        swap.create(server, name, None)
        swap.create(server, server.names.next, None)
    made = Ground(cluster, name, tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_a_carry_keeps_its_word(ground: Ground) -> None:
    """No run ends with fewer rows than it announced, and no other value than the old one."""
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(case=schemas.cases())
    def every(case: Case) -> None:
        ground.lay(case)
        before = object_hashes.read(ground.new)
        try:
            done = ground.carry(case)
        except StepFailedError as error:
            outcome = _refused(ground, case, error)
        else:
            outcome = _carried(ground, case, done)
            assert object_hashes.read(ground.new) == before
        event(outcome)
        outcomes[outcome] += 1

    every()
    assert outcomes["carried"] > EXAMPLES / 10, outcomes


def _refused(ground: Ground, case: Case, error: StepFailedError) -> str:
    """Check a run that carries nothing: it says why, and with the flag nothing benign stops it."""
    assert not (case.is_benign and case.drops), (error.lines(), case)
    assert error.what
    assert error.remedy
    if not error.findings:
        return "stopped by a row"
    assert sum(catalog.row_counts(ground.new).values()) == 0
    return "refused before the first row"


def _carried(ground: Ground, case: Case, done: Carried) -> str:
    """Hold the plan against the rows of both sides, as psycopg reads them."""
    left = {(each.what, each.name): each.count for each in done.plan.left}
    there = catalog.row_counts(ground.new)
    carried = {each.source: each for each in done.plan.transfers}
    for table in case.old.tables:
        rows = len(case.rows[table.name])
        if table.name not in carried:
            assert left.get(("table", shown(table.name)), 0) == rows
            continue
        each = carried[table.name]
        assert each.rows == rows == there[each.name] == done.rows[each.name]
        taken = _compare_rows(ground, case, table, each.table)
        for column in table.columns:
            if column.name not in taken and not column.is_generated:
                found = _values(ground.old, table.name, column.name)
                assert left.get(("column", f"{shown(table.name)}.{column.name}"), 0) == found
    assert not left or case.drops
    assert catalog.lagging_sequences(ground.new) == []
    assert ground.new.execute(_UNPROVED).fetchall() == []
    return "carried"


def _compare_rows(
    ground: Ground, case: Case, old: schemas.Table, name: tuple[str, str]
) -> set[str]:
    """Compare the rows of a table, each value as text; return the old columns that came."""
    new = next(each for each in case.new.tables if each.name == name)
    pairs = []
    for column in new.columns:
        ruled = case.rename.get(f"{shown(name)}.{column.name}", "")
        source = ruled.removeprefix(f"{shown(old.name)}.") or column.name
        found = [each for each in old.columns if each.name == source]
        is_filled = f"{shown(name)}.{column.name}" in case.fill
        if found and not column.is_generated and not is_filled:
            pairs.append((found[0], column))
    if pairs:
        before = _rows(ground.old, old.name, [_as(each, column.type) for each, column in pairs])
        after = _rows(ground.new, name, [_as(column, column.type) for _, column in pairs])
        assert before == after
    return {each.name for each, _ in pairs}


def _as(column: schemas.Column, kind: str) -> sql.Composed:
    """Return the text that a column has in another type."""
    cast = "" if column.type == kind else f"::text::{kind}"
    return sql.SQL("({}" + cast + ")::text").format(sql.Identifier(column.name))


def _rows(session: Session, name: tuple[str, str], wanted: list[sql.Composed]) -> Counter[Any]:
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(wanted), sql.Identifier(*name))
    return Counter(session.execute(query).fetchall())


def _values(session: Session, table: tuple[str, str], column: str) -> int:
    query = sql.SQL("SELECT count({}) FROM {}").format(
        sql.Identifier(column), sql.Identifier(*table)
    )
    row = session.execute(query).fetchone()
    assert row is not None
    return int(row[0])


_UNPROVED = "SELECT conname FROM pg_constraint WHERE NOT convalidated"
