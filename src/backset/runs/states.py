"""What a run has come to so far: by a clone, in place, and in the end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from backset.backups import toc
from backset.catalog import versions
from backset.connections.session import connect
from backset.errors import AstrayError, Interrupted, RefusedError, StepFailedError
from backset.memory.builds import COLD
from backset.process.signals import submit
from backset.servers.server import Server
from backset.settings.values import is_bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.backups.manifest import Backup, Dump
    from backset.backups.store import Choice, Store
    from backset.catalog.objects import Object
    from backset.catalog.past import Past
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.inherit.cluster_wide import ClusterWide
    from backset.memory.builds import Memory, Recalled
    from backset.revisions.script_files import Revision
    from backset.runs.login import Writers
    from backset.servers.programs import Programs
    from backset.servers.server import Database


@dataclass(slots=True)
class CloneState:
    """Whether the new database is a clone of an earlier build, and whether this one is kept.

    memory: what is known of the last build; recalled: that one, if it is cloned; uncloned: why
    nothing is. watched: whether Alembic's process notes what it reads. outside: what belonged to
    the server before and after the migrations. keeps: the templates that this run made; unkept: why
    it made none.
    """

    memory: Memory | None = None
    recalled: Recalled | None = None
    uncloned: str = ""
    watched: bool = False
    outside: tuple[ClusterWide, ClusterWide] | None = None
    keeps: list[str] = field(default_factory=list)
    unkept: str = ""
    idle: list[str] = field(default_factory=list)
    _aside: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    @property
    def remembers(self) -> bool:
        """Whether there is something to say of an earlier build, or of none."""
        is_known = self.memory is not None and self.memory.record is not None
        return is_known or self.uncloned.startswith(COLD)

    def aside(self, work: Callable[[], None]) -> None:
        """Do something beside the steps, each after the one before."""
        submit(self._aside, work)

    def close(self) -> None:
        """Wait for that."""
        self._aside.shutdown()


@dataclass(slots=True)
class InPlaceState:
    """How far the target itself is rebuilt, where nothing is built beside it.

    is_chosen: whether it is; is_asked: whether a flag asks for that, and nothing else leads to it.
    frozen: its objects before that; past: its tables, if their rows are to be carried; pending:
    revisions that it had not run then, and that change its rows.
    cleared: whether its objects have been dropped (None: not known); the truth is then in the
    backup of this run. is_rebuilt: whether all is done, and the marks are gone. writers: who else
    could write to it.
    """

    is_chosen: bool = False
    is_asked: bool = False
    frozen: list[Object] = field(default_factory=list)
    past: Past | None = None
    pending: list[Revision] = field(default_factory=list)
    cleared: bool | None = False
    is_rebuilt: bool = False
    writers: Writers = field(init=False)


@dataclass(slots=True)
class RunBackups:
    """The target's folder of backups, and those that the run is about.

    shared: finds one by the URL of a bucket. taken: the backup of this run; None where there was
    nothing to back up. choice: which one `restore` was asked for. found: what find() has found.
    """

    store: Store
    programs: Programs
    shared: Callable[[str], Backup]
    choice: Choice | None = None
    taken: Backup | None = None
    found: dict[str, Dump] = field(default_factory=dict)
    _chosen: Backup | None = None

    def find(self, name: str) -> Dump:
        """Return the dump of a name, a path, or a URL of a bucket. Raises StepFailedError.

        It stays the same for the run: `latest` must not become the backup that the run takes.
        """
        if name not in self.found:
            is_url = is_bucket(name)
            self.found[name] = self.shared(name).dump if is_url else toc.find(self.store, name)
        return self.found[name]

    def choose(self, server: Server) -> None:
        """Settle which one is meant; what is wrong with it is said when chosen() asks for it."""
        with suppress(StepFailedError, RefusedError):
            self.chosen(server)

    def chosen(self, server: Server) -> Backup:
        """Return the backup that `restore` was asked for. Raises StepFailedError, RefusedError."""
        assert self.choice is not None  # noqa: S101  (only a chain with `load` asks for it)
        if self._chosen is None:
            self._chosen = self.choice.backup(server.identifier(), server.major)
        return self._chosen


@dataclass(slots=True)
class Outcome:
    """What an error must tell the truth about.

    promoted: whether the swap has happened. None: it had begun, and what became of it is not known,
    as when the answer to its COMMIT is lost.
    worked: the step that has begun to work on the live target itself, where it is to stay, and at
    which revisions that was then.
    is_carried: whether all rows of the target were carried.
    digest: of the facts that were agreed to; empty where nobody had to.
    """

    promoted: bool | None = False
    worked: tuple[str, tuple[str, ...]] | None = None
    is_carried: bool = False
    digest: str = ""


def look_again(target: Target, purpose: str, old: Database | None) -> bool | None:
    """Tell on a new session whether the target is another than `old`; None if none opens."""
    try:
        with Server(target, purpose) as server:
            now = server.databases().get(server.names.target)
    except (StepFailedError, psycopg.Error, OSError):
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
    """Return what the target is after that error.

    promoted: of Outcome; rebuilt: of InPlaceState; taken: of RunBackups.
    """
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
