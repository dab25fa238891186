"""The target as it stands: what it is, whose it is, and a session for looking at it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from backset.catalog import catalog, sharing
from backset.catalog.sharing import LeftOut
from backset.connections.session import connect, end, process_of
from backset.errors import RefusedError, StepFailedError
from backset.runs import login, ownership
from backset.runs.ownership import ProjectObjects
from backset.servers.server import protection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backset.backups.store import BackupStore
    from backset.catalog.sharing import Sharing
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.runs.ownership import Ownership
    from backset.servers.server import Database, Server
    from backset.settings.settings import Settings


class CurrentDatabase:
    """The target, and what is derived from it.

    target: how it is reached. databases: the target and its derived databases by name, as
    refresh() saw them last. A method asks the server once, and remembers the answer.
    """

    def __init__(self, settings: Settings, target: Target, purpose: str) -> None:
        self.target = target
        self.databases: Mapping[str, Database] = {}
        self._settings = settings
        self._purpose = purpose
        self._session: Session | None = None
        self._locks: Callable[[Session], None] | None = None
        self._open = ExitStack()
        self._sharing: Sharing | None = None
        self._ownership: Ownership | None = None
        self._unreadable: set[tuple[str, str]] | None = None

    def refresh(self, server: Server) -> None:
        """Look which databases there are."""
        self.databases = server.databases()
        self._previous = self.databases.get(server.names.previous)

    @property
    def database(self) -> Database | None:
        """The target; None where it does not exist."""
        return self.databases.get(self.target.database)

    @property
    def previous(self) -> Database | None:
        """The database that `undo` would bring back."""
        return self._previous

    def session(self) -> Session:
        """Return a session on the target, for looking at it; it holds the lock in the target."""
        if self._session is None:
            self._session = connect(self.target, self._purpose)
            self._open.callback(end, self._session)  # which never commits
            if self._locks is not None:
                self._locks(self._session)
        return self._session

    def lock_by(self, locks: Callable[[Session], None]) -> None:
        """Take the lock in the target as well, by each session on it."""
        self._locks = locks
        self.session()

    def let_write(self, *, hears_options: bool) -> None:
        """Let our sessions write where those of our login may only read."""
        self.target = replace(self.target, writes=True, hears_options=hears_options)
        if self.database is not None:
            login.override(self.session())

    def sharing(self) -> Sharing:
        """Return what of the target is somebody else's, as it was when this was asked first."""
        if self._sharing is None:
            session = None if self.database is None else self.session()
            self._sharing = (
                sharing.NOBODY
                if session is None
                else sharing.look(session, ProjectObjects(self._settings, self.target, session))
            )
        return self._sharing

    def ownership(self) -> Ownership:
        """Return whose its tables are, before anything is done to them."""
        if self._ownership is None:
            self._ownership = (
                ownership.OWN
                if self.database is None
                else ownership.look(self.session(), self.sharing())
            )
        return self._ownership

    def unreadable(self) -> set[tuple[str, str]]:
        """Return the tables whose rows the role may not read, or not all of them."""
        if self._unreadable is None:
            is_there = self.database is not None
            self._unreadable = catalog.unreadable(self.session()) if is_there else set()
        return self._unreadable

    def left_out(self) -> LeftOut:
        """Return what a dump leaves out: what others own, and the role may not read.

        Without rows of our own there is no backup.
        """
        closed, shared = self.unreadable(), self.sharing()
        schemas = {each for each, _ in closed if each in shared.schemas}
        relations = tuple(each for each in shared.relations if each in closed)
        return LeftOut(tuple(sorted(schemas)), relations)

    def is_empty(self) -> bool:
        """Tell whether it does not exist, or has nothing of a user's in it; asked anew."""
        return self.database is None or catalog.is_empty(self.session())

    def is_bare(self) -> bool:
        """Tell whether it has nothing that a new one does not inherit; asked anew."""
        return self.database is None or catalog.is_bare(self.session())

    @property
    def why_empty(self) -> str:
        """Why there is nothing to back up or to carry, where is_empty() says so."""
        is_new = self.database is None
        return "the database is new" if is_new else f"{self.target.database} is empty"

    def demand_previous(self, store: BackupStore, name: str) -> Database:
        """Return the database from before, of that name. Raises StepFailedError without one."""
        if self.previous is not None:
            return self.previous
        what = f"there is no {name} to go back to"
        if store.list():
            raise StepFailedError(what, "choose a dump from `invoke backups` for `invoke restore`")
        raise StepFailedError(what, "a rebuild, such as `invoke reset-db`, keeps one")

    def demand_unprotected(self, server: Server) -> None:
        """Raise RefusedError if the target is protected now, which the gate may not have seen.

        StepFailedError if one of our sessions is not ours any more: the lock went with it.
        """
        for each in (server.session, *([self._session] if self._session else [])):
            process_of(each)
        now = server.databases().get(server.names.target)
        if now is not None and now.protected:
            raise RefusedError([protection(now.name)])

    def close(self) -> None:
        """End our session on it, and what was begun there."""
        self._open.close()
        self._session = None
