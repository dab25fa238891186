"""What is said of our login in a database while that is rebuilt: as whom it acts, what it writes.

Sessions of the same login, an application's mostly, may only read there until the rebuild is done,
and PostgreSQL says so to whoever writes. A setting of the login in that one database is all that a
role may do without rights on the database; it is what every driver gets. Other roles get the right
to write to a new table when all is done.

On the maintenance database, where no application is, such a setting tells one server from another
that keeps its identifier to itself: it is what a role may say of itself, and every role can read.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from backset.catalog import catalog, objects
from backset.catalog.catalog import is_users
from backset.connections import activity
from backset.errors import StepFailedError
from backset.memory import builds
from backset.migrate import current
from backset.migrate.worker import Worker
from backset.servers.server import LOCALLY, MAINTENANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from backset.catalog.objects import Right
    from backset.catalog.sharing import Sharing
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.server import Server
    from backset.settings.settings import Settings

# PostgreSQL takes the first letters of a word for the word, and keeps what it was given. Spelled
# as nobody else would, the setting is known as that of a run; and whether `role` is the run's, too.
_READS, _WRITES = "tru", "fals"
_ACTING = {_READS: "tr", _WRITES: "fal"}
_WRITING = {_READS: _WRITES, "tr": "fal", _WRITES: _WRITES, "fal": "fal"}


class Writers:
    """Everybody else who could write to a database that is rebuilt, as far as that is ours to say.

    server: whose session may become another one while the lock is waited for. target: opens one in
    the database itself.
    are_out: whether our login is kept from writing. were_let_in: whether it was, and is no more.
    stays: the oids of the tables that are not replaced. revoked: the rights of other roles that
    wait until all is done.
    """

    def __init__(self, server: Server, target: Callable[[], Session]) -> None:
        self._server = server
        self._database = server.names.target
        self._target = target
        self.are_out = self.were_let_in = self._acts = self._has_readers = False
        self.stays: list[int] = []
        self.revoked: list[Right] = []

    def keep_out(self, *, acts: bool = False) -> None:
        """Let our login only read from now on, where the server lets a role say that of itself.

        acts: whether it is going to act as another role there, until forget() takes that back.
        """
        self._acts = self._acts or acts
        if self.are_out or self._is_said_otherwise():
            return
        with suppress(psycopg.errors.InsufficientPrivilege):
            self._restrict(_READS)
            self.are_out = True

    def note(self, revoked: Sequence[Sequence[Any]] = (), *, was_open: bool = False) -> None:
        """Note what Alembic's process tells: rights that wait, and whether one could be used."""
        self.revoked += [(table, column, right, role) for table, column, right, role in revoked]
        self.were_let_in = self.were_let_in or was_open

    def revoke(self) -> None:
        """Take the right to write from other roles, but for the tables that stay."""
        self.revoked += objects.revoke(self._target(), self.stays)

    def let_in(self) -> None:
        """Let everybody write who may."""
        if self.revoked:
            with self._target().transaction():
                self._grant(self._target())
        if self.are_out:
            self._restrict(_WRITES)
            self.are_out, self.were_let_in = False, True

    def reopen(self) -> None:
        """Let our login write again where the tables are no more; it goes on to act as it did."""
        self.revoked.clear()
        self.are_out = False
        if mark := _mark(self._server.session, self._database):
            _restrict(self._server.session, self._database, _WRITING[mark])

    def forget(self, session: Session) -> None:
        """Take back all that was set for our login, and give everybody's rights, in a transaction.

        session: on the database; the caller's transaction is open there. end_readers() comes next.
        """
        self._grant(session)
        mark = _mark(session, self._database)
        self._has_readers = mark in {_READS, _ACTING[_READS]}
        taken = [_RESET_READ_ONLY] if mark else []
        if self._acts or mark in _ACTING.values():
            taken.append(_RESET_ROLE)
        if taken:
            _set(session, self._database, *taken)
        self.are_out = self._acts = False

    def end_readers(self) -> None:
        """End the sessions of our login that would go on to only read, once that is committed."""
        if self._has_readers:
            _end_others(self._server.session, self._database)
            self._has_readers = False

    def _grant(self, session: Session) -> None:
        objects.grant(session, self.revoked)
        self.revoked.clear()

    def _is_said_otherwise(self) -> bool:
        """Tell whether somebody has said of our login what its sessions may there."""
        values = {"database": self._database}
        said = self._server.session.execute(_SAID, values).fetchone() is not None
        return said and not is_set(self._server.session, self._database)

    def _restrict(self, how: str) -> None:
        _restrict(self._server.session, self._database, _ACTING[how] if self._acts else how)


def is_set(session: Session, database: str) -> bool:
    """Tell whether a run has set something for our login in a database, and not taken it back."""
    return _mark(session, database) != ""


def override(session: Session) -> None:
    """Let a session of our own write, which has begun while those of our login only read.

    What it commits waits for no standby: swap.py says why.
    """
    session.execute(f"SET default_transaction_read_only = off; {LOCALLY}".encode())


def _restrict(session: Session, database: str, how: str) -> None:
    """Restrict new sessions, and end those that are otherwise."""
    _set(session, database, _READ_ONLY.format(sql.Literal(how)))
    _end_others(session, database)


def _end_others(session: Session, database: str) -> None:
    activity.end_login(session, database, activity.not_of_runs(session))


def _mark(session: Session, database: str) -> str:
    values = {"database": database, "marks": [*_ACTING, *_ACTING.values()]}
    (mark,) = session.execute(_MARK, values).fetchone() or ("",)
    return str(mark)


def _set(session: Session, database: str, *settings: sql.SQL | sql.Composed) -> None:
    override(session)
    where = sql.SQL("ALTER ROLE SESSION_USER IN DATABASE {} ").format(sql.Identifier(database))
    with session.transaction():
        session.execute("SET LOCAL ROLE NONE")  # of the role that it acts as, it may be another's
        for each in settings:
            session.execute(where + each)


def mark_server(session: Session) -> None:
    """Leave one, unless the server says who it is, or has a mark of somebody's already.

    session: on the server. Where a role may not do even that, or has such a name there for its own
    sake, nothing is left.
    """
    if catalog.server_id(session):
        return
    place = MAINTENANCE[0]
    oid, is_free = session.execute(_FREE_PLACE, {"place": place}).fetchone() or (0, False)
    if not is_free:
        return
    name = f"{catalog.SERVER_MARK}{oid}.{secrets.token_hex(12)}"
    words = sql.SQL("ALTER ROLE SESSION_USER IN DATABASE {} SET application_name TO {}")
    with suppress(psycopg.errors.InsufficientPrivilege), session.transaction():
        session.execute("SET LOCAL ROLE NONE")
        session.execute(words.format(sql.Identifier(place), sql.Literal(name)))


_FREE_PLACE = """
SELECT r.oid, EXISTS (SELECT FROM pg_database WHERE datname = %(place)s) AND NOT EXISTS (
    SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase,
           unnest(s.setconfig) each
    WHERE s.setrole = r.oid AND d.datname = %(place)s AND starts_with(each, 'application_name='))
FROM pg_roles r WHERE r.rolname = session_user
"""
_READ_ONLY = sql.SQL("SET default_transaction_read_only TO {}")
_RESET_READ_ONLY = sql.SQL("RESET default_transaction_read_only")
_RESET_ROLE = sql.SQL("RESET role")
_OF_LOGIN = """
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
     JOIN pg_roles r ON r.oid = s.setrole AND r.rolname = session_user
"""
_SAID = f"""
SELECT {_OF_LOGIN}, unnest(s.setconfig) each
WHERE d.datname = %(database)s AND starts_with(each, 'default_transaction_read_only=')
"""
_MARK = f"""
SELECT each {_OF_LOGIN}, unnest(%(marks)s::text[]) each
WHERE d.datname = %(database)s
  AND 'default_transaction_read_only=' || each = ANY(s.setconfig)
"""


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


def usual_paths(root: Path) -> Iterator[Path]:
    """Yield the files of migrations that are where Alembic's templates put them."""
    for pattern in _USUAL:
        yield from root.glob(pattern)


def usual_texts(root: Path) -> Iterator[str]:
    """Yield what is written in them."""
    for path in usual_paths(root):
        yield path.read_text(encoding="utf-8", errors="replace")


class ProjectObjects:
    """The project's migrations and env.py; Alembic is started only for what nothing else knows.

    folders: returns those of the scripts, or None where no process is there that could tell.
    """

    def __init__(
        self,
        settings: Settings,
        target: Target,
        session: Session,
        folders: Callable[[], Sequence[Path] | None],
    ) -> None:
        self._folders_there = folders
        self._settings = settings
        self._target = target
        self._session = session
        self._record = builds.read(builds.path(settings, target.database))
        self._found: Sequence[Path] | None = None

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
        return usual_texts(self._settings.root)

    def texts(self) -> Iterator[str]:
        """Yield the migrations, and the configuration that they read."""
        root = self._settings.root
        files = [path for folder in self._folders() for path in folder.rglob("*.py")]
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
                shown, rows = about.version_table, rows | set(about.revisions)
        return shown, rows

    def _folders(self) -> Sequence[Path]:
        """Return the folders of the scripts; Alembic is asked for them once."""
        if self._found is None and self._record is not None:
            self._found = [Path(each) for each in self._record.folders]
        if self._found is None:
            self._found = self._folders_there()
        if self._found is None:
            found: list[Path] = []
            self._found = found
            for lineage in self._settings.lineages:
                with Worker(self._settings, lineage) as worker:
                    worker.begin(self._target, "gate")
                    found += worker.scripts.folders
        return self._found


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
