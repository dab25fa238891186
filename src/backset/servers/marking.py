"""A mark on a server that keeps its identifier to itself, so that it is not taken for another one.

It is the application's name of our own login on the maintenance database, where no application is:
what a role may say of itself, and every role of that server can read.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.catalogs import catalog
from backset.servers.server import MAINTENANCE

if TYPE_CHECKING:
    from backset.connections.session import Session


def mark(session: Session) -> None:
    """Leave one, unless the server says who it is, or has a mark of somebody's already.

    session: on the server. Where a role may not do even that, or has such a name there for its own
    sake, nothing is left.
    """
    if catalog.server_id(session):
        return
    place = MAINTENANCE[0]
    oid, is_free = session.execute(_LOGIN, {"place": place}).fetchone() or (0, False)
    if not is_free:
        return
    name = f"{catalog.SERVER_MARK}{oid}.{secrets.token_hex(12)}"
    words = sql.SQL("ALTER ROLE SESSION_USER IN DATABASE {} SET application_name TO {}")
    with suppress(psycopg.errors.InsufficientPrivilege), session.transaction():
        session.execute("SET LOCAL ROLE NONE")
        session.execute(words.format(sql.Identifier(place), sql.Literal(name)))


_LOGIN = """
SELECT r.oid, EXISTS (SELECT FROM pg_database WHERE datname = %(place)s) AND NOT EXISTS (
    SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase,
           unnest(s.setconfig) each
    WHERE s.setrole = r.oid AND d.datname = %(place)s AND starts_with(each, 'application_name='))
FROM pg_roles r WHERE r.rolname = session_user
"""
