"""Run: the sessions and facts of one run, and nothing else."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from backset.backups import shared
from backset.backups.backup import NO_WISH, Wish
from backset.connections.heartbeat import Heartbeat
from backset.connections.session import explained, process_of
from backset.errors import Interrupted, StepFailedError
from backset.migrate.project_command import ProjectCommand
from backset.process import process, signals
from backset.runs import login, states
from backset.runs.databases import CurrentDatabase, NextDatabase, WorkDatabase
from backset.runs.login import Writers
from backset.runs.states import CloneState, InPlaceState, Outcome, RunBackups
from backset.servers import derived
from backset.servers.programs import Programs
from backset.servers.server import Server
from backset.servers.standbys import WAIT_S
from backset.settings import values

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.backups.store import Choice
    from backset.connections.target import Target
    from backset.memory.builds import Memory
    from backset.migrate.worker import Worker
    from backset.process.process import ScriptAhead
    from backset.revisions.restore import Recipe
    from backset.runs.policy import Strategy
    from backset.settings.rules import Origin, Rules
    from backset.settings.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What flags ask of the steps.

    proves: the backup is restored and compared. wish: what else is asked of it. accepts:
    differences go into the baseline.
    downgrades: the migrations are taken back, in a scratch database. deep: the models make theirs
    in one, and PostgreSQL's own catalogs are compared; None: as the settings say.
    seeds_twice: a second run of the seed command must change no count.
    stamps: the revisions that the version table gets. drops: invalid indexes.
    recipe: the missing files that come back. asks_log: `verify` looks into the server's log.
    carries: how rows come into the new database, if they do. origin: whose; None is the target's.
    cold: what earlier runs have kept is forgotten. drifted: a squash is followed by a database that
    is not what it makes. exact: rows of large tables are counted, and not estimated.
    drift: models are compared however many tables they have.
    standby: seconds in digits, for which the standbys are waited for after the swap; True for as
    long as usual, None for not at all. ends_readers: sessions there that a swap has left in the old
    database are ended.
    """

    proves: bool = False
    wish: Wish = NO_WISH
    accepts: bool = False
    downgrades: bool = False
    deep: bool | None = None
    seeds_twice: bool = False
    stamps: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()
    recipe: Recipe | None = None
    asks_log: bool = True
    carries: Rules | None = None
    origin: Origin | None = None
    cold: bool = False
    drifted: bool = False
    exact: bool = False
    drift: bool = True
    standby: str | bool | None = None
    ends_readers: bool = False

    def __post_init__(self) -> None:
        """Raise SettingsError if a number makes no sense."""
        _ = self.standby_s

    @property
    def standby_s(self) -> float | None:
        """Seconds for which the standbys are waited for."""
        if self.standby in {None, False}:
            return WAIT_S if self.ends_readers else None
        if self.standby is True:
            return WAIT_S
        return values.of_flag("--standby", str(self.standby), values.seconds)


class Run:
    """One run on one target: `beside` it, in `__next`, or on the target as it is.

    server: the session on the maintenance database. current: the target as it stands. work: the
    database that upgrade, verify and seed work on. next: `__next`, which becomes the target.
    clone, in_place, outcome: what the run has come to. Nothing connects before open().
    """

    server: Server
    next: NextDatabase
    _heartbeat: Heartbeat

    def __init__(
        self,
        settings: Settings,
        target: Target,
        purpose: str,
        *,
        beside: bool,
        worker: Worker | None = None,
        choice: Choice | None = None,
        options: Options | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.settings = settings
        self.purpose = purpose
        self.options = options or Options()
        self.clone = CloneState(memory)
        self.in_place = InPlaceState()
        self.outcome = Outcome()
        self.current = CurrentDatabase(settings, target, purpose)
        self.work = WorkDatabase(
            *(self.current, settings, purpose),
            is_beside=beside,
            worker=worker,
            clone=self.clone,
            in_place=self.in_place,
        )
        self.backups = RunBackups(
            shared.store_of(settings, target.database),
            Programs(settings.environ, settings.root),
            partial(shared.find, settings, target.database),
            choice,
        )
        self._open = ExitStack()
        self._ahead: ScriptAhead | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        signals.listen()  # a repair has one run after another
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: object, _trace: object
    ) -> None:
        signals.ignore()
        outcome, in_place = self.outcome, self.in_place
        # What a server has committed that is gone by now, its standby may not have.
        if outcome.promoted is None or (outcome.promoted and isinstance(error, StepFailedError)):
            where = self.target, self.purpose, self.current.database
            outcome.promoted = states.look_again(*where)
        replaces = self.work.is_beside or in_place.is_chosen
        if replaces and isinstance(error, (StepFailedError, Interrupted)):
            words = states.what_stands(
                self.target,
                error,
                promoted=outcome.promoted,
                rebuilt=in_place.is_rebuilt,
                taken=self.backups.taken,
            )
            error.add_note(words)
        self.close_sessions()
        if error is not None:
            process.end_all()
        if error is not None and self._is_open:
            self.server.abandon()
        if outcome.worked and isinstance(error, (StepFailedError, Interrupted)):
            error.add_note(states.where_it_is(self.target, self.purpose, *outcome.worked))
        if self._is_open:
            self.next.close()
        self.clone.close()
        is_left = self._is_open and self.next.is_begun and outcome.promoted is False
        if is_left and isinstance(error, BaseException):
            derived.drop_after(self.server, self.server.names.next, error)
        if self._is_open:
            self._heartbeat.explain(error)
        self._open.close()

    @property
    def target(self) -> Target:
        """The database that DATABASE_URL names, and how it is reached."""
        return self.current.target

    def open(self) -> None:
        """Connect to the server, and look which databases there are. Raises UnreachableError."""
        if self._is_open:
            return
        with explained(self.target):
            self.server = self._open.enter_context(Server(self.target, self.purpose))
            self._heartbeat = self._open.enter_context(Heartbeat(self.server.session))
            self.current.refresh(self.server)
        if self.settings.branch and self.current.database is None:
            name, where = self.target.database, self.target.address
            what = f"{name}, the database of the branch {self.settings.branch}, is not on {where}"
            raise StepFailedError(what, "`invoke branch switch` makes it again")
        self.in_place.writers = Writers(self.server, self.current.session)
        self.next = NextDatabase(self.server, self.current, self.clone)
        self._is_open = True

    def lock(self, waiting: Callable[[str], None] | None) -> None:
        """Take the target's lock, for as long as its sessions last; see Server.lock()."""
        self.server.lock(waiting)
        self.current.refresh(self.server)  # another run may have been waited for
        if not self.server.is_confined and self.current.database is not None:
            self.current.lock_by(partial(self.server.lock, waiting))  # which may wait as well
            self.current.refresh(self.server)

    def choose(self, strategy: Strategy) -> None:
        """Work beside the target, or on the target itself, before anything is opened for that."""
        self.work.is_beside = strategy.way == "swap"
        self.in_place.is_chosen = not self.work.is_beside
        self.in_place.is_asked = strategy.is_asked
        if self.in_place.is_chosen:
            self.write_anyhow()

    def write_anyhow(self) -> None:
        """Let our sessions write to the target where those of our login may only read."""
        session = self.server.session
        login.override(session)
        hears = process_of(session) == session.info.backend_pid
        self.current.let_write(hears_options=hears)

    def project_command(self) -> ProjectCommand:
        """Return what runs the project's own commands on the work database, and on no other."""
        where = (self.settings, self.work.target, self.target, self.server.session)
        return ProjectCommand(*where, ready=self.in_place.writers.let_in, ahead=self._ahead)

    def begin_seed(self) -> None:
        """Let the seed command's Python import its libraries while the database is built."""
        if self.work.seeds and self.work.is_beside and self._ahead is None:
            self._ahead = self.project_command().start_ahead(self.settings.seed, "seed")
            self._open.enter_context(self._ahead or nullcontext())

    def close_sessions(self) -> None:
        """Leave the databases: end Alembic's processes and our sessions, as the swap demands."""
        self.work.leave()
        self.current.close()
