"""What the models make by themselves, in a scratch database, beside what stands in the database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from backset.catalog import catalog, schema, sharing
from backset.catalog.catalog import is_users
from backset.checks.deep import Catalogs
from backset.connections.session import connect
from backset.errors import AlembicError
from backset.inherit import extensions
from backset.inherit import property as properties
from backset.inherit.inheritance import PARAMETERS
from backset.inherit.property import When
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


def refuse(run: Run) -> None:
    """Raise RefusedError where no scratch database can be made."""
    names = [run.server.names.scratch]
    derived.refuse_scratch(run.server, names, run.current.databases, _PURPOSE)


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


def _lend_routines(session: Session, made: Session) -> frozenset[str]:
    """Give it the types, sequences and functions that a column of a model may name.

    Return the keys of those that could be made without the tables.
    """
    before = schema.read(made).keys()
    made.execute("SET check_function_bodies = off")
    for (statement,) in session.execute(_ROUTINES).fetchall():
        try:
            with made.transaction():
                made.execute(statement.encode())
        except psycopg.Error:
            if made.closed:
                raise
    return frozenset(schema.read(made).keys() - before)


def _ours(catalog_name: str, owner: str = "e") -> str:
    return f"""{is_users("n.nspname")} AND NOT EXISTS (SELECT FROM pg_depend x
        WHERE x.classid = '{catalog_name}'::regclass AND x.objid = o.oid
          AND x.deptype = ANY ('{{{owner}}}'))"""


# In the order in which they were made. An enum is one that models make.
_ROUTINES = f"""
SELECT statement FROM (
    SELECT o.oid, CASE o.typtype
        WHEN 'd' THEN format('CREATE DOMAIN %I.%I AS %s', n.nspname, o.typname,
            format_type(o.typbasetype, o.typtypmod))
        ELSE format('CREATE TYPE %I.%I AS (%s)', n.nspname, o.typname,
            (SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', '
                               ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = o.typrelid AND NOT attisdropped)) END AS statement
    FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace
         LEFT JOIN pg_class c ON c.oid = o.typrelid
    WHERE (o.typtype = 'd' OR c.relkind = 'c') AND {_ours("pg_type")}
    UNION ALL
    SELECT o.oid, format('CREATE SEQUENCE %I.%I', n.nspname, o.relname)
    FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
    WHERE o.relkind = 'S' AND {_ours("pg_class", "e,a,i")}
    UNION ALL
    SELECT o.oid, pg_get_functiondef(o.oid)
    FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace
    WHERE o.prokind IN ('f', 'p') AND {_ours("pg_proc")}
) AS found ORDER BY oid
"""
