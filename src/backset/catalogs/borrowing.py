"""Lends a database that is being loaded what its functions count on, and takes it back.

A function that names a table without its schema works with the search path of the application. A
dump has an empty one, and from 17 on the server gives itself a safe one while it makes an index or
fills a materialized view.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from backset.catalogs.system import FIRST_OF_A_USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.connections.session import Session


def give_path(session: Session, path: str | None) -> None:
    """Give our functions a search path for good, in a database that is thrown away.

    path: None for that of the session. It is that of the session afterwards.
    """
    if path is not None:
        session.execute("SELECT set_config('search_path', %s, false)", [path])
    for give, _ in session.execute(_WITHOUT_PATH).fetchall():
        session.execute(give)


@contextmanager
def lent_path(session: Session) -> Iterator[None]:
    """Give our functions without a search path of their own that of the session, for the block.

    In a transaction: an error in the block leaves nothing to be taken back.
    """
    ours = session.execute(_WITHOUT_PATH).fetchall()
    for lend, _ in ours:
        session.execute(lend)
    yield
    for _, take_back in ours:
        session.execute(take_back)


@contextmanager
def checked_later(session: Session) -> Iterator[None]:
    """Take the CHECK constraints of our tables away for the block; then all rows must pass them.

    In a transaction, for tables without rows. One may call a function that looks at other rows,
    which a load brings later.
    """
    again: list[str] = []
    while found := session.execute(_CHECKS).fetchall():  # one that is inherited goes with its own
        for take_away, *statements in found:
            session.execute(take_away)
            again[:0] = statements
    yield
    for each in again:
        session.execute(each)


_OURS = "pg_has_role({}, 'USAGE') AND {} >= " + str(FIRST_OF_A_USER)
_WITHOUT_PATH = f"""
SELECT format('ALTER ROUTINE %s SET search_path FROM CURRENT', p.oid::regprocedure),
       format('ALTER ROUTINE %s RESET search_path', p.oid::regprocedure)
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE {_OURS.format("p.proowner", "p.oid")} AND p.prokind <> 'a'
  AND l.lanname NOT IN ('internal', 'c')
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE starts_with(s, 'search_path='))
"""
_CHECKS = f"""
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.oid::regclass, k.conname),
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.oid::regclass, k.conname,
              pg_get_constraintdef(k.oid)),
       format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, c.oid::regclass,
              obj_description(k.oid, 'pg_constraint'))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'c' AND k.convalidated AND k.conislocal AND k.coninhcount = 0
  AND c.relkind IN ('r', 'p') AND {_OURS.format("c.relowner", "c.oid")}
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY k.oid
"""
