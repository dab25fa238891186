"""Build: what one run holds open, and the facts, names and children that its steps share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Self

from backset import catalog, policy, signals, swap
from backset.errors import Interrupted, RefusedError, StepFailedError
from backset.migrations import Worker
from backset.programs import Programs
from backset.server import Database, Server
from backset.session import Session, connect
from backset.vault import Vault

if TYPE_CHECKING:
    from concurrent.futures import Future

    from backset.manifest import Backup
    from backset.settings import Settings
    from backset.target import Target


class Build:
    """One run on one target: `beside` it, in `__next`, or on the target as it is.

    subject: the database that upgrade, verify and seed work on.
    promoted: whether the swap has happened, so that an error can tell the truth. None: it had
    begun, and what became of it is not known, as when the answer to its COMMIT is lost.
    """

    def __init__(
        self,
        settings: Settings,
        target: Target,
        purpose: str,
        *,
        beside: bool,
        worker: Worker | None = None,
        backup_name: str | None = None,
    ) -> None:
        self.settings = settings
        self.target = target
        self.purpose = purpose
        self.promoted: bool | None = False
        self._worker = worker
        self._backup_name = backup_name
        self.is_beside = beside
        self._next: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1)
        self._sessions = ExitStack()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: object, _trace: object
    ) -> None:
        if self.promoted is None:
            self.promoted = self._look_again()
        if self.is_beside and isinstance(error, (StepFailedError, Interrupted)):
            error.add_note(self._what_stands())
        self.close_sessions()
        self._thread.shutdown()
        if self._next and self.promoted is False and isinstance(error, BaseException):
            self._remove_next(error)
        self._open.close()

    @cached_property
    def server(self) -> Server:
        """The session on the maintenance database."""
        return self._open.enter_context(Server(self.target, self.purpose))

    @cached_property
    def databases(self) -> dict[str, Database]:
        """The target and its derived databases as they were when the run began."""
        return dict(self.server.databases())

    @property
    def old(self) -> Database | None:
        """The target; None where it does not exist yet."""
        return self.databases.get(self.server.names.target)

    @property
    def previous(self) -> Database | None:
        """The database that `undo` would bring back."""
        return self.databases.get(self.server.names.previous)

    @property
    def old_is_empty(self) -> bool:
        """Whether the target does not exist, or has nothing of a user's in it; asked anew."""
        return self.old is None or self._is_empty(self.target)

    @cached_property
    def subject(self) -> Target:
        """The database that this run works on."""
        return self.target.named(self.server.names.next) if self.is_beside else self.target

    @cached_property
    def worker(self) -> Worker:
        """Alembic's process for the subject, and for no other database."""
        worker = self._sessions.enter_context(self._worker or Worker(self.settings))
        worker.begin(self.subject)
        return worker

    def begin_worker(self) -> None:
        """Tell a worker that was started ahead what it is for; it reads the scripts meanwhile."""
        if self._worker is not None:
            _ = self.worker

    @cached_property
    def session(self) -> Session:
        """Our own session on the subject."""
        if not self.is_beside and self.old is None:
            what = f"the database {self.target.database} does not exist"
            raise StepFailedError(what, "`invoke upgrade` creates it")
        return self._sessions.enter_context(connect(self.subject, self.purpose))

    @cached_property
    def programs(self) -> Programs:
        """PostgreSQL's own programs."""
        return Programs(self.settings.environ, self.settings.root)

    @cached_property
    def vault(self) -> Vault:
        """The folder of this target's backups."""
        return Vault.of(self.settings.backups, self.target.database)

    @cached_property
    def chosen_backup(self) -> Backup:
        """The backup that `restore` was asked for; the newest one of this server by default."""
        if self._backup_name is not None:
            return self.vault.find(self._backup_name)
        return self.vault.newest(catalog.server_id(self.server.session))

    def check_policy(self, *, consent: bool) -> None:
        """Raise RefusedError with every reason why the target may not be replaced."""
        names = self.server.names
        foreign = [
            name
            for name in (names.next, names.previous, names.discard)
            if (found := self.databases.get(name))
            and not (found.mark or found.is_invalid)
            and not self._is_empty(self.target.named(name))
        ]
        facts = self.server.circumstances(self.old, foreign)
        reasons = policy.refusals(facts, consent=consent)
        if reasons:
            raise RefusedError(reasons)

    def clear_leftovers(self) -> None:
        """Drop what a killed run left behind; check_policy() has refused what is not ours."""
        for name in (self.server.names.next, self.server.names.discard):
            if name in self.databases:
                with signals.deferred():  # an interrupted DROP leaves an invalid database behind
                    swap.drop(self.server, name)

    def begin_next(self) -> None:
        """Begin to create `__next` in a thread, while the dump is written."""
        if self._next is None:
            self._next = self._thread.submit(self._create_next, self.server, self.old)

    def make_next(self) -> None:
        """Create `__next` in the likeness of the target; it is removed again if the run fails."""
        self.begin_next()
        if self._next is not None:
            self._next.result()

    @staticmethod
    def _create_next(server: Server, old: Database | None) -> None:
        swap.create(server, server.names.next, old)
        swap.comment(server, server.names.next, swap.marked("next"))

    def make_target(self) -> None:
        """Create the target itself, if it does not exist."""
        if self.old is None:
            swap.create(self.server, self.server.names.target, None)
            del self.databases  # they are other ones now

    def close_sessions(self) -> None:
        """Leave the subject: end the worker and our own session, as the swap demands."""
        self._sessions.close()

    def _look_again(self) -> bool | None:
        """Tell on a new session whether the target is another database now; None if none opens."""
        try:
            with Server(self.target, self.purpose) as server:
                now = server.databases().get(server.names.target)
        except (StepFailedError, OSError):
            return None
        return now is not None and (self.old is None or now.oid != self.old.oid)

    def _what_stands(self) -> str:
        name = self.target.database
        if self.promoted is None:
            return f"the server does not say whether {name} has been swapped: ask `invoke status`"
        if self.promoted:
            return f"{name} has been swapped already; `invoke undo` goes back"
        return f"{name} is as it was"

    def _is_empty(self, target: Target) -> bool:
        with connect(target, self.purpose) as session:
            return catalog.is_empty(session)

    def _remove_next(self, error: BaseException) -> None:
        try:
            swap.drop(self.server, self.server.names.next)
        except (StepFailedError, OSError) as second:
            error.add_note(f"{second}; the next run removes {self.server.names.next}")
