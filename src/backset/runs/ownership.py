"""Whose is what: what the project says of a database, and as whom that is rebuilt.

The latter is the role that its tables belong to, not whoever runs it. What one member of a group
builds would belong to that member alone; the application and the colleagues could no longer use it.
The setting `role` of the login, in the one database, is what every driver gets, Alembic's and the
seed command's included.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from backset.catalog.catalog import is_users
from backset.clones import memory
from backset.errors import StepFailedError
from backset.migrate import current
from backset.migrate.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backset.catalog.sharing import Sharing
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.settings.settings import Settings


_USUAL = ("versions/*.py", "*/versions/*.py", "*/*/versions/*.py")


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


class ProjectObjects:
    """The project's migrations and env.py; Alembic is started only for what nothing else knows."""

    def __init__(self, settings: Settings, target: Target, session: Session) -> None:
        self._settings = settings
        self._target = target
        self._session = session
        self._record = memory.read(memory.path(settings, target.database))

    @property
    def is_known(self) -> bool:
        """Whether this database has been built and verified from this checkout."""
        return self._record is not None

    @property
    def schemas(self) -> frozenset[str]:
        """The schemas that the settings give to the project, or that its last build has made."""
        own = {each.schema for each in self._settings.lineages if each.schema}
        made = self._record.schemas if self._record else ()
        return frozenset(own.union(self._settings.schemas, made))

    def version_tables(self) -> Iterator[tuple[str, str]]:
        """Yield the version tables that the settings name, by schema and name."""
        for each in self._settings.lineages:
            if each.schema or each.version_table:
                yield each.schema or "public", each.version_table or "alembic_version"

    def usual_texts(self) -> Iterator[str]:
        """Yield the migrations that are where Alembic's templates put them, without asking it."""
        for pattern in _USUAL:
            for path in self._settings.root.glob(pattern):
                yield path.read_text(encoding="utf-8", errors="replace")

    def texts(self) -> Iterator[str]:
        """Yield the migrations, and the configuration that they read."""
        root = self._settings.root
        files = [path for folder in self._folders for path in folder.rglob("*.py")]
        for path in (*files, *root.glob("*.ini"), *root.glob("pyproject.toml")):
            yield path.read_text(encoding="utf-8", errors="replace")

    def seen(self) -> tuple[str, Collection[str]]:
        """Return env.py's version table, as people write it, and the rows that it sees there.

        Where env.py cannot tell, it is Alembic's own, and nobody knows what it sees.
        """
        shown, rows = "alembic_version", set[str]()
        for lineage in self._settings.lineages:
            with suppress(StepFailedError), Worker(self._settings, lineage) as worker:
                worker.begin(self._target, "gate")
                about = current.describe(worker, self._session)
                shown, rows = about["version_table"], rows | set(about["revisions"])
        return shown, rows

    @cached_property
    def _folders(self) -> list[Path]:
        if self._record is not None:
            return [Path(each) for each in self._record.folders]
        found: list[Path] = []
        for lineage in self._settings.lineages:
            with Worker(self._settings, lineage) as worker:
                worker.begin(self._target, "gate")
                found += worker.scripts.folders
        return found


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
