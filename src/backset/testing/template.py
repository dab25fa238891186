"""The template that databases for tests are cloned from: as it was kept, else built anew.

It is built as a rebuild builds `__next`, for a target of the tests' own, `NAME__test`, which need
not exist: the database that people work with is not even looked into.
"""

from __future__ import annotations

import re
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset import execution
from backset.chain import Chain, Done, Step
from backset.cli import aimed
from backset.connections.session import connect, explained
from backset.connections.target import derived_name
from backset.errors import BacksetError, RefusedError
from backset.inherit import inheritance
from backset.inherit import property as properties
from backset.memory import builds
from backset.migrate.worker import nothing
from backset.process import identity, process, signals
from backset.runs import clones
from backset.runs.consent import Consent
from backset.runs.run import Options, Run
from backset.servers import derived, location, swap
from backset.servers.server import LOCALLY, TESTS, Server
from backset.servers.swap import Rename
from backset.settings.reader import load, restored_environment
from backset.steps import reset, upgrade, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.inherit.property import Property
    from backset.migrate.upgrading import Progress
    from backset.servers.server import Database, Names
    from backset.settings.settings import Settings

PURPOSE = "pytest"
_CLONE = re.compile(r"__(?P<token>[0-9a-f]{14})_[0-9]+$")
_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A closed database with the schema of the migrations, which nobody drops while it is open.

    target: how a clone is reached, under its own name. names: those of the tests' target.
    given: what the database has beside its content. as_files: how the server is to copy it.
    session: on the maintenance database; the template is open for as long as it lives. unkept: why
    the next run of tests has to build it again, where this one has.
    """

    settings: Settings = field(repr=False)
    target: Target
    names: Names
    database: Database
    given: Sequence[Property]
    as_files: bool
    maintenance: Target
    session: Session = field(repr=False)
    unkept: str = ""

    def called(self) -> str:
        """Return its name, which other tests may have changed; empty where it is gone."""
        query = "SELECT datname FROM pg_database WHERE oid = %s"
        (name,) = self.session.execute(query, [self.database.oid]).fetchone() or ("",)
        return str(name)

    def close(self) -> None:
        """Let it go; drop it, if others have built another one and nobody clones it any more."""
        oid = self.database.oid
        with closing(self.session), suppress(psycopg.Error):  # the next run drops it
            self.session.execute(_LET_GO_SHARED, [_key(oid)])
            name = self.called()
            if name not in {"", self.database.name} and _is_free(self.session, oid):
                self.session.execute(drop(name))


class _Quiet:
    """What a build tells while it happens, to nobody: a test's errors tell the rest."""

    def begin(self, step: str) -> None:
        """Note that a step begins."""

    def progress(self, text: str, *, lasting: bool = False) -> None:
        """Note what it is doing."""

    def notice(self, text: str, clients: Sequence[Any] = ()) -> None:
        """Note whom it waits for."""

    def end(self, step: str, done: Done) -> None:
        """Note what it did."""


def opened(root: Path, tests: str) -> Template:
    """Return the template of the project in `root`; build it, if it is not as a build would be.

    tests: a name of this run of tests, which its processes share: one of them builds, the others
    wait for its lock. Raises BacksetError, and Interrupted as every run does.
    """
    with (
        signals.raised(),
        process.all_ended(),
        restored_environment(),
        aimed(load(root), PURPOSE, nothing) as settings,
    ):
        target = location.named(settings)
        cluster = location.project_cluster(settings.root)
        if location.is_embedded(target, cluster):
            cluster.start()
        _refuse_protected(target)
        own = target.named(derived_name(target.database, TESTS))
        of_tests = replace(settings, target=own if settings.target else None, branch="")
        # The log of a server that others use has errors of theirs, and `check` is what proves.
        options = Options(asks_log=False, deep=False)
        with _nothing_stood(own), Run(of_tests, own, PURPOSE, beside=True, options=options) as run:
            run.open()
            with explained(own):
                return _opened(run, tests)


@contextmanager
def _nothing_stood(target: Target) -> Iterator[None]:
    """Leave out of an error that the target is as it was: there was none, and nobody has asked."""
    try:
        yield
    except BacksetError as error:
        notes: list[str] = getattr(error, "__notes__", [])
        notes[:] = [each for each in notes if each != f"{target.database} is as it was"]
        raise


def _refuse_protected(target: Target) -> None:
    with Server(target, PURPOSE) as server:
        found = server.databases().get(target.database)
    if found is not None and found.protected:
        what = f"{target.database} is protected, and databases for tests would be on its server"
        raise RefusedError([(what, "name another server in DATABASE_URL for the tests")])


def _opened(run: Run, tests: str) -> Template:
    run.lock(lambda _words: None)
    sweep(run.server)
    run.current.refresh(run.server)
    database = _built_by(run, tests) or clones.kept(run)
    if database is None:
        _make_way(run)
        chain = Chain(PURPOSE, reset, upgrade, verify, _keep_for(tests))
        consent = Consent(yes=True, wait=True)
        execution.perform(run, chain, _Quiet(), skip=frozenset(), consent=consent)
        database = run.server.databases()[run.server.names.clean]
    record = builds.read(builds.path(run.settings, run.target.database))
    given = properties.read(run.server.session, inheritance.PARAMETERS, database.name)
    session = connect(run.server.maintenance, PURPOSE)
    session.execute(LOCALLY.encode())
    for each in (database.oid, identity.token()):
        session.execute(_USE, [_key(each)])
    return Template(
        settings=run.settings,
        target=run.target,
        names=run.server.names,
        database=database,
        given=[each for each in given if each.kind.startswith("setting")],
        as_files=derived.wants_files(session, database, record.files if record else 0),
        maintenance=run.server.maintenance,
        session=session,
        unkept=run.clone.unkept,
    )


def _built_by(run: Run, tests: str) -> Database | None:
    """Return what another process of the same run of tests has built, whatever is known of it."""
    found = run.current.databases.get(run.server.names.clean)
    is_theirs = found is not None and found.is_closed and not found.is_invalid
    return found if found and is_theirs and found.label == tests else None


def _keep_for(tests: str) -> Step:
    """Return the last step: the copy that was kept is left alone, else what was built."""

    def keep(run: Run, _progress: Progress) -> Done:
        names = run.server.names
        run.close_sessions()
        if run.clone.keeps:
            derived.drop(run.server, names.next)
            return Done(f"{names.clean} is kept")
        run.clone.close()  # what was kept before may be going just now
        derived.drop(run.server, names.clean)
        built = run.server.databases()[names.next]
        with signals.deferred():
            swap.swap(run.server, [Rename(built, names.clean, "clean", tests)])
        return Done(f"{names.clean} is kept for these tests: {run.clone.unkept}")

    plan = "would keep what is verified as a template for tests"
    return Step("keep", keep, plan, needs="next", where="beside", is_last=True)


def _make_way(run: Run) -> None:
    """Give a template that other tests still clone another name: they know it by what it is."""
    old = run.current.databases.get(run.server.names.clean)
    if old is None or old.mark != "clean" or _is_free(run.server.session, old.oid):
        return
    with signals.deferred():
        swap.swap(run.server, [Rename(old, clone_name(run.server.names), "clone")])
    run.current.refresh(run.server)


def clone_name(names: Names) -> str:
    """Return a name for a new clone, which says whose it is from its first moment on."""
    return derived_name(names.target, f"__{identity.token()}_{next(_numbers)}")


def sweep(server: Server) -> None:
    """Drop the clones of tests that were killed.

    Tests that go on are known by a lock: the name of a session is hidden from other logins.
    """
    session = server.session
    for oid, name in session.execute(_CLONES).fetchall():
        found = _CLONE.search(name)
        if found is None or name != derived_name(server.names.target, found[0]):
            continue
        if _is_free(session, found["token"]) and _is_free(session, oid):
            with signals.deferred():
                session.execute(drop(name))


def drop(name: str) -> sql.Composed:
    """Return the statement that drops a clone, whoever is still connected to it."""
    return sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))


def _is_free(session: Session, what: int | str) -> bool:
    """Tell whether no tests clone a database, or no tests of a token go on."""
    key = _key(what)
    is_free = session.execute(_TRY, [key]).fetchone() == (True,)
    if is_free:
        session.execute(_LET_GO, [key])
    return is_free


def _key(what: int | str) -> str:
    return f"backset:template:{what}"


_USE = "SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))"
_TRY = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_LET_GO_SHARED = "SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))"
_LET_GO = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"
# A clone has its comment a moment after its name; until then it is closed.
_CLONES = """
SELECT d.oid, d.datname FROM pg_database d
CROSS JOIN LATERAL (SELECT shobj_description(d.oid, 'pg_database') AS words) c
WHERE d.datname ~ '__[0-9a-f]{14}_[0-9]+$'
  AND (starts_with(c.words, 'backset clone ') OR (c.words IS NULL AND NOT d.datallowconn))
"""
