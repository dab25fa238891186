"""The databases of a run: the target as it stands, `__next`, and the one that is worked on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from backset.catalog import catalog, sharing
from backset.catalog.sharing import LeftOut
from backset.connections.session import connect, end, process_of
from backset.errors import RefusedError, StepFailedError
from backset.inherit.inheritance import Inheritance
from backset.migrate import current
from backset.migrate.answers import Scripts
from backset.migrate.worker import Worker
from backset.process.signals import submit
from backset.runs import login
from backset.runs.login import ProjectObjects
from backset.servers import derived, safeguards, swap
from backset.servers.server import Names, protection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from backset.backups.store import Store
    from backset.catalog.sharing import Sharing
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.inherit.property import Source
    from backset.runs.login import Ownership
    from backset.runs.states import CloneState, InPlaceState
    from backset.servers.server import Database, Server
    from backset.settings.settings import Settings


class CurrentDatabase:
    """The target, and what is derived from it.

    settings: of the project. target: how it is reached. databases: the target and its derived
    databases by name, as refresh() saw them last.
    folders: returns those of the scripts, as ProjectObjects has it.
    A method asks the server once, and remembers the answer.
    """

    folders: Callable[[], Sequence[Path] | None]

    def __init__(self, settings: Settings, target: Target, purpose: str) -> None:
        self.target = target
        self.databases: Mapping[str, Database] = {}
        self.settings = settings
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

    @property
    def database(self) -> Database | None:
        """The target; None where it does not exist."""
        return self.databases.get(self.target.database)

    @property
    def previous(self) -> Database | None:
        """The database that `undo` would bring back."""
        return self.databases.get(Names.of(self.target.database).previous)

    def session(self) -> Session:
        """Return a session on the target, for looking at it; it holds the lock in the target."""
        if self._session is None:
            session = connect(self.target, self._purpose)
            self._open.callback(end, session)  # which never commits
            if self._locks is not None:
                self._locks(session)
            self._session = session
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
                else sharing.look(
                    session, ProjectObjects(self.settings, self.target, session, self.folders)
                )
            )
        return self._sharing

    def ownership(self) -> Ownership:
        """Return whose its tables are, before anything is done to them."""
        if self._ownership is None:
            self._ownership = (
                login.OWN if self.database is None else login.look(self.session(), self.sharing())
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

    def demand_previous(self, store: Store, name: str) -> Database:
        """Return the database from before, of that name. Raises StepFailedError without one."""
        if self.previous is not None:
            return self.previous
        what = f"there is no {name} to go back to"
        if store.list():
            raise StepFailedError(what, "choose a dump from `invoke backups` for `invoke restore`")
        raise StepFailedError(what, "a rebuild, such as `invoke reset-db`, keeps one")

    def demand_unprotected(self, server: Server) -> None:
        """Raise RefusedError if the target is protected now, which admit() may not have seen.

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


class NextDatabase:
    """`__next`: made as a copy of what is cloned, or empty in the likeness of the target.

    In a thread: measured, a warm rebuild takes a tenth less where CREATE DATABASE is sent before
    the dump begins. No signal interrupts it there.
    """

    def __init__(self, server: Server, current: CurrentDatabase, clone: CloneState) -> None:
        self._server = server
        self._current = current
        self._clone = clone
        self._thread = ThreadPoolExecutor(1)
        self._made: Future[None] | None = None

    @property
    def is_begun(self) -> bool:
        """Whether there may be something of it to remove."""
        return self._made is not None

    def begin(self) -> None:
        """Begin to create it, unless that has begun."""
        server, old, recalled = self._server, self._current.database, self._clone.recalled
        if self._made is not None:
            return
        if recalled is None or old is None:
            made = submit(self._thread, swap.make, server, server.names.next, "next", old)
        else:
            template = recalled.template, recalled.record.files
            made = submit(self._thread, derived.copy_as_next, server, *template, old)
        self._made = made

    def make(self, *, acts: bool = True) -> None:
        """Create it, and wait for it. Raises what the server says.

        acts: whether our login acts there as the role that the tables belong to. A dump says itself
        whose each object is, and has what only the login itself may set.
        """
        self.begin()
        if self._made is not None:
            self._made.result()
        server = self._server
        safeguards.lift(server.session, server.names.next)
        role = self._current.ownership().role if acts else ""
        if role:
            login.begin(server.session, server.names.next, role)

    def make_anew(self) -> None:
        """Make it once more, in place of one that holds something; nobody is connected to it."""
        derived.drop(self._server, self._server.names.next)
        self._made = None
        self.make(acts=False)

    def give_back(self, session: Session) -> None:
        """Take back what was set for the time in which it was built, as it becomes the target."""
        target = self._server.names.target
        safeguards.restore(session, target)
        if self._current.ownership().role:
            login.end(session, target)

    def close(self) -> None:
        """End the thread, when it has done what it began."""
        self._thread.shutdown()


class WorkDatabase:
    """A session on it, and Alembic's processes for it, and for no other database.

    is_beside: whether it is `__next`. migrates, seeds: whether the run comes to that.
    inheritance: what it gets from the target; nothing, until inherit() says so.
    told: the errors of the server's log that have been told already.
    """

    def __init__(
        self,
        current: CurrentDatabase,
        settings: Settings,
        purpose: str,
        *,
        is_beside: bool,
        worker: Worker | None,
        clone: CloneState,
        in_place: InPlaceState,
    ) -> None:
        self._current = current
        self._settings = settings
        self._names = Names.of(current.target.database)
        self._purpose = purpose
        self.is_beside = is_beside
        self.migrates = self.seeds = False
        self.told: set[str] = set()
        self.inheritance = Inheritance(current.target, self._names)
        self._clone = clone
        self._in_place = in_place
        self._ahead = worker
        self._workers: tuple[Worker, ...] = ()
        current.folders = self._folders
        self._session: Session | None = None
        self._open = ExitStack()
        self._is_demanded = False

    @property
    def target(self) -> Target:
        """How it is reached."""
        now = self._current.target
        return now.named(self._names.next) if self.is_beside else now

    def session(self) -> Session:
        """Return our own session on it. Raises StepFailedError where it does not exist."""
        if not self.is_beside and self._current.database is None:
            what = f"the database {self.target.database} does not exist"
            raise StepFailedError(what, "`invoke upgrade` creates it")
        if not (self.is_beside or self._in_place.is_chosen):
            return self._current.session()  # a role may have few sessions
        if self._session is None:
            self._session = connect(self.target, self._purpose, is_disposable=self.is_beside)
            self._open.callback(end, self._session)  # which never commits
        return self._session

    def worker(self) -> Worker:
        """Return Alembic's process for the first chain of revisions."""
        return self.workers()[0]

    def workers(self) -> tuple[Worker, ...]:
        """Return a process of Alembic for each chain of revisions, in the order of the settings.

        One that was started ahead is told here what it is for, and reads the scripts meanwhile.
        """
        if not self._workers:
            first, *others = self._settings.lineages
            started = [self._ahead or Worker(self._settings, first)]
            started += [Worker(self._settings, each) for each in others]
            for each in started:
                self._open.enter_context(each)
                target = self._current.target.database
                each.begin(self.target, self._purpose, target, watched=self._clone.watched)
            self._workers = tuple(started)
        return self._workers

    def begin_worker(self) -> None:
        """Tell a process that was started ahead what it is for."""
        if self._ahead is not None:
            self.workers()

    def scripts(self) -> Scripts:
        """Return the scripts of every chain; those of the build that is cloned are remembered."""
        if (recalled := self._clone.recalled) is not None:
            return Scripts(tuple(recalled.record.heads), recalled.folders)
        return Scripts.together([each.scripts for each in self.workers()])

    def _folders(self) -> tuple[Path, ...] | None:
        """Return those of the scripts, if a process is there to tell, whatever its target is."""
        if self._workers or self._clone.recalled is not None:
            return self.scripts().folders
        if self._ahead is None or len(self._settings.lineages) > 1:
            return None
        self._ahead.begin(self._current.target, self._purpose, watched=True)
        return self._ahead.scripts.folders

    def demand_scripts(self) -> None:
        """Wait until Alembic's process has read the scripts and env.py; refuse what is wrong there.

        Only where the run goes on to migrate. Raises StepFailedError.
        """
        if self.migrates and not self._is_demanded:
            current.demand_destination(self.workers())
            for each in self.workers():
                if not each.has_door:
                    each.load()
            self._is_demanded = True

    def inherit(self, sources: Sequence[Source]) -> None:
        """Give a new `__next` what the target has and migrations may need; in place, keep it."""
        if self._current.database is None:
            return
        self.inheritance = Inheritance(self._current.target, self._names, sources)
        if self._in_place.is_chosen:
            self.inheritance.remember(self._current.session())
            return
        where = self._current.session(), self.session()
        self.inheritance.begin(*where, lambda: self.scripts().folders)

    def leave(self) -> None:
        """Leave it alone: end Alembic's processes and our own session on it."""
        self._open.close()
        self._workers, self._session, self._ahead = (), None, None
