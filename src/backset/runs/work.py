"""The database that upgrade, verify and seed work on: `__next`, or the target itself."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from backset.checks import heads
from backset.connections.session import connect, end
from backset.errors import StepFailedError
from backset.inherit.inheritance import Inheritance
from backset.migrate.worker import Scripts, Worker
from backset.servers.server import Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.inherit.property import Source
    from backset.runs.current import CurrentDatabase
    from backset.runs.states import CloneState, InPlaceState
    from backset.settings.settings import Settings


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
                is_watched = self._clone.watched and each is started[0]
                target = self._current.target.database
                each.begin(self.target, self._purpose, target, watched=is_watched)
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

    def demand_scripts(self) -> None:
        """Wait until Alembic's process has read the scripts and env.py; refuse what is wrong there.

        Only where the run goes on to migrate. Raises StepFailedError.
        """
        if self.migrates and not self._is_demanded:
            heads.demand_destination(self.workers())
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
