"""What the models make by themselves, in a scratch database, beside what stands in the database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from backset.catalog import catalog, schema, sharing
from backset.checks.deep import Catalogs
from backset.connections.session import connect
from backset.errors import AlembicError
from backset.inherit import extensions
from backset.inherit import property as properties
from backset.inherit.inheritance import PARAMETERS
from backset.inherit.property import When
from backset.inherit.routines import ROUTINES
from backset.process.signals import submit
from backset.prove import scratch
from backset.servers import derived

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.catalog.sharing import Sharing
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.migrate.worker import Worker
    from backset.runs.run import Run

_PURPOSE = "compare with what the models make"
# Before the extensions, their schemas; the search path decides where a name without a schema is.
_SOURCES = (PARAMETERS[0], *extensions.OF_SCHEMAS, *extensions.SOURCES)


def catalogs(run: Run, workers: Sequence[Worker], session: Session, others: Sharing) -> Catalogs:
    """Take the lock of the target, and return what made() does.

    Raises LockedError, RefusedError where the role cannot make a database, and StepFailedError
    where the models cannot be made.
    """
    name = run.server.names.scratch
    scratch.prepare(run, [name], _PURPOSE)
    return made(run, name, workers, session, others)


def made(
    run: Run,
    name: str,
    workers: Sequence[Worker],
    session: Session,
    others: Sharing = sharing.NOBODY,
) -> Catalogs:
    """Let the models make theirs in a scratch database, and read it and the database of `session`.

    name: of the scratch database; scratch.prepare() comes before. workers: the processes that work
    on the database of `session`, one for each chain; they make it here. others: what of that
    database belongs to others. Raises StepFailedError where the models cannot be made.
    """
    spare = catalog.version_tables(session)
    with (
        derived.scratch(run.server, name, run.current.database) as target,
        closing(connect(target, run.server.purpose)) as beside,
        ThreadPoolExecutor(1) as pool,
    ):
        lent = _lend(session, beside, target)
        reading = submit(pool, schema.read, session, spare=spare, others=others)
        unmade: list[list[str]] = []
        try:
            for each in workers:
                each.make(beside, target.database)
        except AlembicError:
            reading.result()  # the session is wanted
            lent |= _lend_routines(session, beside)
            for each in workers:
                unmade += each.make(beside, target.database, spares=True)
        models = schema.read(beside, spare=catalog.version_tables(beside))
    return Catalogs(models, reading.result(), lent, unmade)


def _lend(session: Session, made: Session, target: Target) -> frozenset[str]:
    """Give the scratch database what no model makes; return the keys of what that is."""
    name = target.database
    for each in properties.read(session, _SOURCES, session.info.dbname):
        if each.when is When.EMPTY:
            each.apply(made, name, there=False)
    return frozenset(schema.read(made))


def _lend_routines(session: Session, beside: Session) -> frozenset[str]:
    """Give it what a column of a model may name; return the keys of what could be made so."""
    before = schema.read(beside).keys()
    for each in properties.read(session, ROUTINES, session.info.dbname):
        each.apply(beside, beside.info.dbname, there=False)
    return frozenset(schema.read(beside).keys() - before)
