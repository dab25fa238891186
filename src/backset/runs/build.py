"""Build: what one run holds open, and the facts, names and children that its steps share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

import psycopg

from backset.backups.backup import NO_WISH, Wish
from backset.backups.store import BackupStore
from backset.catalog import catalog, sharing, versions
from backset.catalog.sharing import LeftOut
from backset.checks import heads
from backset.connections.activity import Waits
from backset.connections.session import Session, connect, end, explained, process_of
from backset.errors import AstrayError, BacksetError, Interrupted, RefusedError, StepFailedError
from backset.inherit.inheritance import Inheritance
from backset.migrate.project_command import ProjectCommand
from backset.migrate.worker import Scripts, Worker
from backset.process import process, signals
from backset.process.signals import submit
from backset.runs import login, ownership
from backset.runs.login import Writers
from backset.runs.ownership import ProjectObjects
from backset.servers import read_only, standbys, swap
from backset.servers.derived import NextDatabase
from backset.servers.programs import Programs
from backset.servers.server import MAINTENANCE, Database, Server, protection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from backset.backups.manifest import Backup
    from backset.backups.store import Choice
    from backset.catalog.objects import Object
    from backset.catalog.past import Past
    from backset.catalog.sharing import Sharing
    from backset.clones.memory import Memory, Recalled
    from backset.connections.activity import Backend
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.inherit.cluster_wide import ClusterWide
    from backset.inherit.property import Source
    from backset.migrate.project_command import Forerunner
    from backset.migrate.upgrading import Progress
    from backset.revisions.graph import Revision
    from backset.revisions.restore import Recipe
    from backset.runs.ownership import Ownership
    from backset.runs.policy import Strategy
    from backset.servers.server import Database
    from backset.settings.rules import Origin, Rules
    from backset.settings.settings import Settings


class Build:
    """One run on one target: `beside` it, in `__next`, or on the target as it is.

    subject: the database that upgrade, verify and seed work on.
    promoted: whether the swap has happened, so that an error can tell the truth. None: it had
    begun, and what became of it is not known, as when the answer to its COMMIT is lost.
    is_in_place: whether the target itself is rebuilt; `frozen` are its objects before that, `past`
    its tables, if their rows are to be carried.
    is_asked_in_place: whether a flag asks for that, and nothing else leads to it.
    handover: does the swap that it is given, or refuses it; a carry has more to do for it.
    heard: what of the server's log has been told already. migrates: whether it goes on to upgrade.
    seeds: whether the seed command runs at its end.
    memory: what is known of the last build; recalled: that one, if it is cloned. outside: what
    belonged to the server before and after the migrations. watched: whether Alembic's process
    notes what it reads. uncloned: why nothing is cloned. keeps: the templates that this run made;
    unkept: why it made none.
    pending: revisions that the target had not run when it was cleared, and that change its rows.
    cleared: whether the target's objects have been dropped (None: not known); the truth is then in
    `taken`, the backup of this run, which is None where the target was empty.
    is_rebuilt: whether all of that is done in place, and its marks are gone.
    is_carried: whether all rows of the target were carried.
    worked: the step that has begun to work on the live target itself, where it is to stay, and at
    which revisions that was then.
    """

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
        self.target = target
        self.purpose = purpose
        self.promoted: bool | None = False
        self.cleared: bool | None = False
        self.is_rebuilt = self.is_carried = False
        self.worked: tuple[str, tuple[str, ...]] | None = None
        self.is_in_place = self.is_asked_in_place = False
        self.frozen: list[Object] = []
        self.past: Past | None = None
        self.pending: list[Revision] = []
        self.taken: Backup | None = None
        self._worker = worker
        self._choice = choice
        self.options = options or Options()
        self.heard: set[str] = set()
        self.memory = memory
        self.recalled: Recalled | None = None
        self.outside: tuple[ClusterWide, ClusterWide] | None = None
        self.watched = False
        self.uncloned = ""
        self.keeps: list[str] = []
        self.unkept = ""
        self.handover: Callable[[swap.Swap, Progress], None] = _at_once
        self.is_beside = beside
        self._next = NextDatabase()
        self._locks: Callable[[Session], None] | None = None
        self._aside = ThreadPoolExecutor(1)
        self._is_demanded = False
        self.migrates = self.seeds = False
        self._ahead: Forerunner | None = None
        self._sessions = ExitStack()
        self._on_subject = ExitStack()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        signals.listen()  # a repair has one build after another
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: object, _trace: object
    ) -> None:
        signals.ignore()
        if self.promoted is None:
            self.promoted = look_again(self.target, self.purpose, self.old)
        replaces = self.is_beside or self.is_in_place
        if replaces and isinstance(error, (StepFailedError, Interrupted)):
            words = what_stands(
                self.target,
                error,
                promoted=self.promoted,
                rebuilt=self.is_rebuilt,
                taken=self.taken,
            )
            error.add_note(words)
        self.close_sessions()
        if error is not None:
            process.end_all()
        if error is not None and "server" in self.__dict__:
            self.server.abandon()
        if self.worked and isinstance(error, (StepFailedError, Interrupted)):
            error.add_note(where_it_is(self.target, self.purpose, *self.worked))
        self._next.close()
        self._aside.shutdown()
        if self._next.is_begun and self.promoted is False and isinstance(error, BaseException):
            remove_next(self.server, error)
        self._open.close()

    @cached_property
    def server(self) -> Server:
        """The session on the maintenance database."""
        return self._open.enter_context(Server(self.target, self.purpose))

    @cached_property
    def server_id(self) -> str:
        """Which server this is, as the maintenance database shows it; empty where nothing tells."""
        return catalog.server_id(self.server.session)

    def mark_server(self) -> None:
        """Mark a server that does not say which one it is, before something is kept of it."""
        if not self.server_id and self.target.database not in MAINTENANCE:
            login.mark_server(self.server.session)
            del self.server_id

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

    @cached_property
    def sharing(self) -> Sharing:
        """What of the target is somebody else's, as it was when the run looked."""
        if self.old is None:
            return sharing.NOBODY
        return sharing.look(self.live, ProjectObjects(self.settings, self.target, self.live))

    @cached_property
    def ownership(self) -> Ownership:
        """Whose the tables of the target are, before anything is done to them."""
        return ownership.OWN if self.old is None else ownership.look(self.live, self.sharing)

    @cached_property
    def writers(self) -> Writers:
        """Whether other sessions of our login may write to the target."""
        return Writers(self.server.session, self.target.database, lambda: self.live)

    @cached_property
    def unreadable(self) -> set[tuple[str, str]]:
        """The tables of the target whose rows the role may not read, or not all of them."""
        return set() if self.old is None else catalog.unreadable(self.live)

    @property
    def left_out(self) -> LeftOut:
        """What a dump of the target leaves out: what others own, and the role may not read.

        Without rows of our own there is no backup.
        """
        closed = self.unreadable
        schemas = {each for each, _ in closed if each in self.sharing.schemas}
        relations = tuple(each for each in self.sharing.relations if each in closed)
        return LeftOut(tuple(sorted(schemas)), relations)

    @property
    def old_is_empty(self) -> bool:
        """Whether the target does not exist, or has nothing of a user's in it; asked anew."""
        return self.old is None or catalog.is_empty(self.live)

    @property
    def why_empty(self) -> str:
        """Why there is nothing to back up or to carry, where old_is_empty says so."""
        return "the database is new" if self.old is None else f"{self.target.database} is empty"

    @property
    def old_is_bare(self) -> bool:
        """Whether the target has nothing that a new one does not inherit; asked anew."""
        return self.old is None or catalog.is_bare(self.live)

    @cached_property
    def subject(self) -> Target:
        """The database that this run works on."""
        return self.target.named(self.server.names.next) if self.is_beside else self.target

    @cached_property
    def worker(self) -> Worker:
        """Alembic's process for the subject, and for no other database."""
        worker = self._on_subject.enter_context(self._worker or Worker(self.settings))
        worker.begin(self.subject, self.purpose, self.target.database, watched=self.watched)
        return worker

    @cached_property
    def workers(self) -> tuple[Worker, ...]:
        """A process of Alembic for each chain of revisions, in the order of the settings."""
        others = [Worker(self.settings, each) for each in self.settings.lineages[1:]]
        for each in others:
            self._on_subject.enter_context(each)
            each.begin(self.subject, self.purpose, self.target.database)
        return self.worker, *others

    def aside(self, work: Callable[[], None]) -> Future[None]:
        """Do something beside the steps, each after the one before."""
        return submit(self._aside, work)

    @property
    def remembers(self) -> bool:
        """Whether there is something to say of an earlier build."""
        return self.memory is not None and self.memory.record is not None

    def begin_worker(self) -> None:
        """Tell a worker that was started ahead what it is for; it reads the scripts meanwhile."""
        if self._worker is not None:
            _ = self.workers

    @property
    def scripts(self) -> Scripts:
        """The scripts of every chain."""
        if self.recalled is not None:
            return Scripts(tuple(self.recalled.record.heads), self.recalled.folders)
        return Scripts.together([each.scripts for each in self.workers])

    def demand_destination(self) -> None:
        """Wait until Alembic's process has read the scripts and env.py; refuse what is wrong there.

        Only where the run goes on to migrate. Raises StepFailedError.
        """
        if self.migrates and not self._is_demanded:
            heads.demand_destination(self.workers)
            for each in self.workers:
                if not each.has_door:
                    each.load()
            self._is_demanded = True

    @cached_property
    def session(self) -> Session:
        """Our own session on the subject."""
        if not self.is_beside and self.old is None:
            what = f"the database {self.target.database} does not exist"
            raise StepFailedError(what, "`invoke upgrade` creates it")
        if not (self.is_beside or self.is_in_place):
            return self.live  # a role may have few sessions
        return self._opened(self.subject, self._on_subject, is_disposable=self.is_beside)

    def lock(self, waiting: Callable[[str], None] | None) -> None:
        """Take the target's lock, for as long as its sessions last; see Server.lock()."""
        self.server.lock(waiting)
        if self.server.is_confined or self.old is None:
            return
        self._locks = partial(self.server.lock, waiting)
        _ = self.live
        del self.databases  # another run may have been waited for

    @cached_property
    def live(self) -> Session:
        """A session on the target, for looking at it; it holds the lock in the target."""
        session = self._opened(self.target, self._sessions)
        if self._locks is not None:
            self._locks(session)
        return session

    def _opened(self, target: Target, until: ExitStack, *, is_disposable: bool = False) -> Session:
        """Open a session until that ends: which never commits, as psycopg's own end does."""
        session = connect(target, self.purpose, is_disposable=is_disposable)
        until.callback(end, session)  # a pooler would give it, with what it has set, to another one
        return session

    @property
    def makes_all_rows(self) -> bool:
        """Whether the new database has the rows of migrations and seed command, and no others."""
        is_built = self.migrates or self.recalled is not None
        return is_built and self.options.carries is None and self._choice is None

    @property
    def door(self) -> ProjectCommand:
        """What runs the project's own commands on the subject, and on no other database."""
        where = (self.settings, self.subject, self.target, self.server.session)
        return ProjectCommand(*where, self._ahead, ready=self.writers.let_in)

    def work_on_live(self, step: str) -> None:
        """Note that a step begins to change the target itself, if nothing stands in for that."""
        if not (self.is_beside or self.is_in_place or self.purpose == "check"):
            self.worked = step, revisions(self.session)

    def demand_commands(self) -> None:
        """Look whether the commands of the project are there that this run will come to.

        Raises StepFailedError.
        """
        settings, wanted = self.settings, [self.settings.seed] if self.seeds else []
        if self.migrates:
            wanted += [settings.upgrade, *(each.upgrade for each in settings.lineages)]
        if self.migrates and (self.is_beside or self.is_in_place):
            wanted += [settings.init, *(each.init for each in settings.lineages)]
        for command in filter(None, wanted):
            self.door.demand(command)

    def begin_seed(self) -> None:
        """Start the seed command's Python, which imports libraries while the database is built."""
        if self.seeds and self._ahead is None:
            ahead = self.door.forerunner(self.settings.seed, "seed")
            self._ahead = ahead and self._sessions.enter_context(ahead)

    @cached_property
    def inheritance(self) -> Inheritance:
        """What `__next` gets from the target; nothing, until inherit() says so."""
        return Inheritance(self.target, self.server.names)

    def inherit(self, sources: Sequence[Source]) -> None:
        """Give the new `__next` what the target has and migrations may need; in place, keep it."""
        if self.old is not None:
            self.inheritance = Inheritance(self.target, self.server.names, sources)
            if self.is_in_place:
                self.inheritance.remember(self.live)
                return
            self.inheritance.begin(self.live, self.session, lambda: self.scripts.folders)

    @cached_property
    def programs(self) -> Programs:
        """PostgreSQL's own programs."""
        return Programs(self.settings.environ, self.settings.root)

    @cached_property
    def vault(self) -> BackupStore:
        """The folder of this target's backups."""
        return BackupStore.of(self.settings.backups, self.target.database)

    @property
    def kept(self) -> Database:
        """The database from before, to go back to. Raises StepFailedError where there is none."""
        if self.previous is None:
            what = f"there is no {self.server.names.previous} to go back to"
            if self.vault.list():
                remedy = "choose a dump from `invoke backups` for `invoke restore`"
                raise StepFailedError(what, remedy)
            raise StepFailedError(what, "a rebuild, such as `invoke reset-db`, keeps one")
        return self.previous

    def confirmed(self) -> str:
        """Wait for synchronous standbys, once the target is another one; say what they lack."""
        missing = standbys.confirm(self.server)
        return f"{self.target.database} is {missing}" if missing else ""

    @cached_property
    def chosen_backup(self) -> Backup:
        """The backup that `restore` was asked for."""
        assert self._choice is not None  # noqa: S101  (only a chain with `load` asks for it)
        return self._choice.backup(self.server_id, self.server.major)

    def choose_backup(self) -> None:
        """Settle which backup is meant; what is wrong with it is said when it is asked for."""
        with suppress(StepFailedError, RefusedError):
            _ = self.chosen_backup

    def choose(self, rung: Strategy) -> None:
        """Work beside the target, or on the target itself, before anything is opened for that."""
        self.is_beside = rung.way == "swap"
        self.is_in_place = not self.is_beside
        self.is_asked_in_place = rung.is_asked
        if self.is_in_place:
            self.write_anyhow()

    def write_anyhow(self) -> None:
        """Let our sessions write to the target where those of our login may only read."""
        session = self.server.session
        hears = process_of(session) == session.info.backend_pid
        self.target = replace(self.target, writes=True, hears_options=hears)
        for each in (session, *([self.live] if self.old is not None else [])):
            login.override(each)

    @property
    def sessions_on_target(self) -> list[Backend]:
        """Who else is connected to the target, the oldest first."""
        return self.server.sessions(self.server.names.target)

    def waits(self, notice: Callable[[str, Sequence[Backend]], None]) -> Waits:
        """Return what tells `notice` for whom the block waits."""
        with explained(self.target):
            server = self.server
        names = [server.names.target, server.names.next]
        return Waits(server.maintenance, names, process_of(server.session), notice)

    @property
    def protected_backups(self) -> frozenset[str]:
        """The backups that stay: the one in the comment of `__previous`, and the chosen one."""
        names = {self.previous.label} if self.previous else set()
        if self.options.origin:
            names.add(self.options.origin.backup)
        return frozenset(names | ({self.chosen_backup.name} if self._choice else set()))

    def begin_next(self) -> None:
        """Begin to create `__next` in a thread, while the dump is written."""
        template = self.recalled.template if self.recalled else None
        self._next.begin(self.server, self.old, template)

    def make_next(self, *, acts: bool = True) -> None:
        """Create `__next` in the likeness of the target; it is removed again if the run fails.

        acts: whether our login acts there as the role that the tables belong to. A dump says itself
        whose each object is, and has what only the login itself may set.
        """
        self.begin_next()
        self._next.wait()
        read_only.lift(self.server.session, self.server.names.next)
        if acts and self.ownership.role:
            ownership.begin(self.server.session, self.server.names.next, self.ownership.role)

    def make_next_anew(self) -> None:
        """Make `__next` once more, in place of one that holds something."""
        self.leave()
        with signals.deferred():
            swap.drop(self.server, self.server.names.next)
        self._next.close()
        self._next = NextDatabase()
        self.make_next(acts=False)

    def make_target(self) -> None:
        """Create the target itself, if it does not exist."""
        if self.old is None:
            swap.create(self.server, self.server.names.target, None)
            del self.databases  # they are other ones now

    def check_protection(self) -> None:
        """Raise RefusedError if the target is protected now, which the gate may not have seen.

        StepFailedError if one of our sessions is not ours any more: the lock went with it.
        """
        for each in (self.server.session, *filter(None, [self.__dict__.get("live")])):
            process_of(each)
        now = self.server.databases().get(self.server.names.target)
        if now is not None and now.protected:
            raise RefusedError([protection(now.name)])

    def close_sessions(self) -> None:
        """Leave the databases: end the worker and our own sessions, as the swap demands."""
        self.leave()
        self._sessions.close()
        self.__dict__.pop("live", None)

    def leave(self) -> None:
        """Leave the subject alone: end the worker and our own session on it."""
        self._on_subject.close()
        for name in ("worker", "workers", "session"):
            self.__dict__.pop(name, None)  # the next use opens another one
        self._worker = None


def _at_once(swap_them: swap.Swap, _progress: Progress) -> None:
    swap_them()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What flags ask of the steps.

    proves: the backup is restored and compared. wish: what else is asked of it. accepts:
    differences go into the baseline.
    downgrades: the migrations are taken back, in a scratch database.
    seeds_twice: a second run of the seed command must change no count.
    stamps: the revisions that the version table gets. drops: invalid indexes.
    recipe: the missing files that come back. asks_log: `verify` looks into the server's log.
    carries: how rows come into the new database, if they do. origin: whose; None is the target's.
    cold: what earlier runs have kept is forgotten.
    """

    proves: bool = False
    wish: Wish = NO_WISH
    accepts: bool = False
    downgrades: bool = False
    seeds_twice: bool = False
    stamps: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()
    recipe: Recipe | None = None
    asks_log: bool = True
    carries: Rules | None = None
    origin: Origin | None = None
    cold: bool = False


def look_again(target: Target, purpose: str, old: Database | None) -> bool | None:
    """Tell on a new session whether the target is another than `old`; None if none opens."""
    try:
        with Server(target, purpose) as server:
            now = server.databases().get(server.names.target)
    except (StepFailedError, OSError):
        return None
    return now is not None and (old is None or now.oid != old.oid)


def what_stands(
    target: Target,
    error: StepFailedError | Interrupted,
    *,
    promoted: bool | None,
    rebuilt: bool,
    taken: Backup | None,
) -> str:
    """Return what the target is after that error; the rest is as Build has it."""
    name = target.database
    if rebuilt:
        back = f"; `invoke restore {taken.name} --in-place` goes back" if taken else ""
        return f"{name} has been rebuilt already{back}"
    if promoted is None:
        return f"the server does not say whether {name} has been swapped: ask `invoke status`"
    if promoted:
        return f"{name} has been swapped already; `invoke undo` goes back"
    if isinstance(error, AstrayError):
        back = f"; `invoke restore {taken.name}` takes that back" if taken else ""
        return f"{name} was not swapped, but may have been written to{back}"
    return f"{name} is as it was"


def revisions(session: Session) -> tuple[str, ...]:
    """Return what the version tables of a database name, as far as our role may read them."""
    try:
        found = {row for table in versions.tables(session) for row in table.revisions}
    except psycopg.Error:
        return ()
    return tuple(sorted(found))


def where_it_is(target: Target, purpose: str, step: str, before: tuple[str, ...]) -> str:
    """Return what the live target is after a step that worked on it and failed.

    before: the revisions that it was at. What has not been committed is taken back by the server.
    """
    name = target.database
    if step == "seed":
        return f"{name} keeps what the seed command had committed"
    try:
        with closing(connect(target, purpose)) as session:
            now = revisions(session)
    except (StepFailedError, OSError):
        return f"the server does not say at which revision {name} is: ask `invoke status`"
    there = f"{name} is at {', '.join(now) or 'base'}"
    return (
        f"{there}, as it was"
        if now == before
        else f"{there}; it was at {', '.join(before) or 'base'}"
    )


def remove_next(server: Server, error: BaseException) -> None:
    """Drop the `__next` of this run; what keeps us from that is added to the error.

    A loaded server can take longer over a session than DROP waits, and a signal can leave our own
    in the middle of a statement.
    """
    name = server.names.next
    attempts: tuple[Callable[[], None], ...] = (
        lambda: swap.drop(server, name, is_own=True),
        lambda: swap.drop_aside(server, [name], is_own=True),
    )
    for attempt in attempts:
        try:
            attempt()
        except (BacksetError, OSError) as second:
            problem = second
        else:
            return
    error.add_note(f"{problem}; the next run removes {name}")
