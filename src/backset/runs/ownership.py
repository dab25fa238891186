"""As whom a database is rebuilt: as the role that its tables belong to, not as whoever runs it.

What one member of a group builds would belong to that member alone; the application and the
colleagues could no longer use it. The setting `role` of the login, in the one database, is what
every driver gets, Alembic's and the seed command's included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalogs.system import is_users

if TYPE_CHECKING:
    from backset.catalogs.sharing import Sharing
    from backset.connections.session import Session


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose the tables of a database are: `owner`, who is empty where that is ourselves.

    may_set: whether our login may act as that role, without more rights than that role has.
    """

    owner: str = ""
    may_set: bool = False

    @property
    def role(self) -> str:
        """The role to build as; empty where it is our own."""
        return self.owner if self.may_set else ""


OWN = Ownership()


def look(session: Session, sharing: Sharing) -> Ownership:
    """Return whose most of the tables are that are the project's."""
    option = "SET" if session.info.server_version >= _SET_SINCE else "MEMBER"
    single = sharing.relations
    values = {"option": option, "schemas": sorted(sharing.schemas)}
    values |= {"places": [each for each, _ in single], "names": [each for _, each in single]}
    row = session.execute(_OWNER, values).fetchone()
    return Ownership(*row) if row else OWN


def become(session: Session, role: str) -> None:
    """Let a session that is open already act as a role."""
    session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))


def begin(session: Session, database: str, role: str) -> None:
    """Let our login act as a role in a database from its next session on."""
    setting = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET role TO {}")
    session.execute(setting.format(sql.Identifier(database), sql.Literal(role)))


def end(session: Session, database: str) -> None:
    """Take that back, also in a session that acts as that role already, as of its login."""
    setting = sql.SQL("ALTER ROLE SESSION_USER IN DATABASE {} RESET role")
    with session.transaction():
        session.execute("SET LOCAL ROLE NONE")
        session.execute(setting.format(sql.Identifier(database)))


_SET_SINCE = 160000  # the server's version that tells apart who may SET ROLE
# A superuser is not made less: the migrations may need that, as for an extension.
_OWNER = f"""
SELECT r.rolname, NOT me.rolsuper AND current_user = session_user AND pg_has_role(r.oid, %(option)s)
FROM (SELECT c.relowner, count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND {is_users("n.nspname")}
        AND pg_has_role(c.relowner, 'USAGE') AND n.nspname <> ALL(%(schemas)s)
        AND (n.nspname, c.relname) NOT IN (
            SELECT * FROM unnest(%(places)s::name[], %(names)s::name[]))
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                        AND d.objid = c.oid AND d.deptype = 'e')
      GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1) most
     JOIN pg_roles r ON r.oid = most.relowner
     JOIN pg_roles me ON me.rolname = current_user
WHERE r.rolname <> current_user
"""
