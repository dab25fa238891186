"""Clones: what a run keeps of its build for the next one, and whether that can clone it.

It can if nothing that counts has changed. The server makes the copies while the next step runs, and
what goes wrong with them stops nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg

from backset.catalog import catalog
from backset.errors import StepFailedError
from backset.inherit import cluster_wide, extensions, inheritance
from backset.inherit import property as properties
from backset.inherit.property import When
from backset.memory import builds, inputs
from backset.memory.builds import KeptDatabase, Recalled, Record
from backset.process.identity import age_s
from backset.servers import location, swap
from backset.servers.derived import Copying

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.chain import Done, Step
    from backset.connections.session import Session
    from backset.inherit.property import Property
    from backset.memory.inputs import Parts
    from backset.runs.run import Run
    from backset.servers.server import Database

_CLEAN, _SEEDED = "clean", "seeded"
_DOOR = "a command of the project migrates, and inputs does not say what it reads"
_GIVEN = (When.EMPTY, When.MIGRATED)
_DOES_NOT_COUNT = "[tool.backset] ignore_inputs names what does not count"


def _unsuited(run: Run) -> str:
    """Return why nothing is cloned or kept here; empty where it is."""
    if not run.work.is_beside:
        return "the database itself is rebuilt"
    if run.options.accepts:
        return "differences are to be accepted"
    return _DOOR if _has_unknown_door(run) else ""


def _has_unknown_door(run: Run) -> bool:
    """Tell whether nobody knows what migrates."""
    return run.settings.has_door and not run.settings.inputs


def recall(run: Run, *, seeds: bool) -> None:
    """Let the run clone what was kept, if that is what it would build; else forget that.

    seeds: whether what is kept of the seed may be cloned as well.
    """
    run.clone.uncloned = look(run, seeds=seeds)
    if run.clone.uncloned:
        _forget(run)
        run.clone.watched = not _unsuited(run)


def look(run: Run, *, seeds: bool) -> str:
    """Settle what the run clones; else return why it clones nothing."""
    if run.options.cold:
        return "--cold"
    run.clone.memory = run.clone.memory or builds.recall(run.settings, run.target.database)
    record = run.clone.memory.record
    if _has_unknown_door(run):
        return f"{builds.COLD}{_DOOR}"
    if record is None:
        return run.clone.memory.why
    if why := _unsuited(run) or run.clone.memory.why or _surroundings(run, record):
        return why
    options = run.options
    seeds = seeds and not (options.seeds_twice or options.carries) and _is_same_seed(run, record)
    template = _template(run, record, _SEEDED) if seeds else None
    template = template or _template(run, record, _CLEAN)
    if template is None:
        return f"{run.server.names.clean} is not as it was kept"
    run.clone.recalled = Recalled(record, template)
    return ""


def kept(run: Run) -> Database | None:
    """Return what is kept of a target, if a build would be the same now; None where it would not.

    For who only copies it: the target need not exist.
    """
    memory = run.clone.memory = builds.recall(run.settings, run.target.database)
    record = memory.record
    if record is None or memory.why or _unsuited(run):
        return None
    is_new = run.current.database is None
    if _outside(run, record) if is_new else _surroundings(run, record):
        return None
    return _template(run, record, _CLEAN)


def _forget(run: Run) -> None:
    """Drop what is kept, while the run goes on: it is not what a build would be now."""
    builds.path(run.settings, run.target.database).unlink(missing_ok=True)
    names = (run.server.names.clean, run.server.names.seeded)
    there = [run.current.databases[name] for name in names if name in run.current.databases]
    if stale := [each.name for each in there if _is_ours(each)]:
        run.clone.aside(lambda: swap.drop_aside(run.server, stale))


def _is_ours(found: Database) -> bool:
    """Tell whether a run has made a template; a killed one may have had no time for the mark."""
    is_marked = found.mark in {_CLEAN, _SEEDED}
    return not found.protected and (is_marked or found.is_half_copied)


def _surroundings(run: Run, record: Record) -> str:
    """Return what has changed in variables, at the server, or of the target."""
    old = run.current.database
    if old is None or old.likeness != record.likeness:
        return f"{run.target.database} is not like the one that was built"
    return _outside(run, record) or _properties(run, record)


def _outside(run: Run, record: Record) -> str:
    """Return what has changed in variables or at the server, whatever the target is."""
    if changed := _variable(run, record):
        return changed
    needed = [name for kind, name, _ in record.had if kind == extensions.EXTENSION]
    now = _server_parts(run.server.session, needed)
    return inputs.difference(record.server, now, run.settings.root)


def _variable(run: Run, record: Record) -> str:
    """Return which variable has changed, in words."""
    settings, environ = run.settings, run.settings.child_env(run.work.target)
    now = inputs.of_environment(settings, record.account, environ)
    was = {name: record.parts[name] for name in now}
    if now == was:
        return ""
    named = inputs.variable(record.hints, inputs.hints(settings, record.account, environ))
    return named or inputs.difference(was, now, settings.root)


def _properties(run: Run, record: Record) -> str:
    """Return what the target has now, and has not had, or the other way round.

    A property that the build was given must be there still; one that it would be given now must
    have been there at its end.
    """
    wanted = properties.read(run.current.session(), inheritance.EVERYTHING, run.target.database)
    there = {(kind, name): set(values) for kind, name, values in record.had}
    for each in wanted:
        has_it = there.get(each.key, set()) >= set(each.value)
        is_lost = each.plain and each.key not in there
        if each.when in _GIVEN and not has_it and not is_lost:
            return f"{each.kind} {each.name}".strip() + " is new"
    still = _as_json(wanted)
    lost = [f"{each[0]} {each[1]}".strip() for each in record.given if each not in still]
    return f"{lost[0]} is gone" if lost else ""


def _as_json(found: Iterable[Property]) -> list[list[Any]]:
    """Return properties as JSON has them."""
    return [[each.kind, each.name, list(each.value)] for each in found]


def _template(run: Run, record: Record, what: str) -> Database | None:
    """Return the kept database, if nobody can have touched it."""
    names = {_CLEAN: run.server.names.clean, _SEEDED: run.server.names.seeded}
    kept, found = record.kept.get(what), run.current.databases.get(names[what])
    if kept is None or found is None or not found.is_closed or found.is_invalid:
        return None
    there = (found.oid, found.made_in, found.mark, found.label)
    return found if there == (kept.oid, kept.made_in, what, kept.digest) else None


def _is_same_seed(run: Run, record: Record) -> bool:
    kept = record.kept.get(_SEEDED)
    environ = run.settings.child_env(run.work.target)
    return kept is not None and kept.parts == inputs.of_seed(run.settings, environ)


class _NotKeptError(Exception):
    """Why there is nothing to keep."""


class Keeping:
    """Follows the steps of a run, and keeps the database as `verify` and as `seed` leave it.

    keeps: after which of these two: no other step has changed the new database before it.
    """

    def __init__(self, run: Run, keeps: frozenset[str]) -> None:
        self._run = run
        self._keeps = keeps
        self._told: dict[str, Done] = {}
        self._record = run.clone.recalled.record if run.clone.recalled else None
        self._before: cluster_wide.ClusterWide | None = None
        self._copying: Copying | None = None
        self._since_ns = time.time_ns() - int(age_s() * 1e9)
        run.clone.unkept = _unsuited(run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: object, _trace: object) -> None:
        # What was verified stays good if a later step fails; who interrupts does not want to wait.
        self._finish(stop=error is not None and not isinstance(error, StepFailedError))

    def before(self, step: Step) -> None:
        """Be done with what the step would disturb, and with what it would wait for.

        A session on a database that the server copies waits until it is copied, for longer than
        clients wait for a connection.
        """
        if step.is_last:
            self._finish()
        elif self._copying is not None:
            self._copying.wait()
        if step.name == "seed" and step.name in self._keeps and self._keeps_seed:
            self._before = cluster_wide.look(self._run.server.session, self._name("next"))

    def after(self, step: str, told: Done) -> None:
        """Begin to keep what the step has left, unless it is what was kept already."""
        self._told[step] = told
        recalled = self._run.clone.recalled
        if step not in self._keeps or self._run.clone.unkept or (recalled and recalled.has(step)):
            return
        try:
            if step == "verify" and self._run.clone.outside:
                self._record, account = self._described()
                self._demand_known(account)
                self._keep(_CLEAN, self._run.clone.outside)
            elif step == "seed" and self._record and self._before:
                after = cluster_wide.look(self._run.server.session, self._name("next"))
                self._keep(_SEEDED, (self._before, after))
        except (_NotKeptError, StepFailedError, psycopg.Error) as error:
            self._run.clone.unkept = str(error)

    @property
    def _keeps_seed(self) -> bool:
        """Whether the seed is asked to be kept, and nothing but the seed is in the database."""
        run = self._run
        is_all = not (run.options.carries or run.options.seeds_twice)
        return run.settings.cache_seed and is_all and not run.clone.unkept

    def _name(self, what: str) -> str:
        return str(getattr(self._run.server.names, what))

    def _described(self) -> tuple[Record, dict[str, Any]]:
        """Return the record of what has just been verified, and the whole account of it."""
        run, settings = self._run, self._run.settings
        noted = [each.inputs() for each in run.work.workers()]
        account = inputs.together(noted) if all(noted) else {}
        aside = [settings.backups, location.project_cluster(settings.root).folder]
        counts = account and inputs.ignoring(
            inputs.outside(account, aside), settings.ignore_inputs, settings.root
        )
        had = properties.read(run.work.session(), inheritance.EVERYTHING, run.work.target.database)
        record = Record(
            taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
            account=counts,
            parts={},
            server={},
            likeness=[],
            given=_as_json(run.work.inheritance.given),
            had=_as_json(had),
            folders=[str(each) for each in run.work.scripts().folders],
            heads=list(run.work.scripts().heads),
            told={},
            kept={},
            schemas=catalog.schemas(run.work.session()),
            files=catalog.files(run.work.session()),
        )
        return record, account

    def _demand_known(self, account: dict[str, Any]) -> None:
        """Raise _NotKeptError where nobody knows what the build depends on."""
        run, settings = self._run, self._run.settings
        if not account:
            raise _NotKeptError("nobody has noted what it depends on")
        environ = settings.child_env(run.work.target)
        run.clone.idle = inputs.idle(account, environ, settings.ignore_inputs, settings.root)
        assert self._record is not None  # noqa: S101  (of which this account is)
        unknown = sorted(self._record.account["unknown"])
        if unknown and not settings.inputs:
            raise _NotKeptError(f"env.py {unknown[0]}, see ignore_inputs")

    def _keep(
        self, what: str, outside: tuple[cluster_wide.ClusterWide, cluster_wide.ClusterWide]
    ) -> None:
        """Let the server copy the database, unless something was changed that no copy has."""
        before, after = outside
        if (before.server, before.database) != (after.server, after.database):
            raise _NotKeptError("something was changed outside of the content of the database")
        run = self._run
        if remote := catalog.remote(run.work.session()):
            raise _NotKeptError(f"{remote} may show other rows by then")
        self._finish()
        found = run.server.databases()
        name, source = self._name(what), found[self._name("next")]
        if name in found and not _is_ours(found[name]):
            raise _NotKeptError(f"backset did not make {name}")
        told = {step: builds.remembered(each) for step, each in self._told.items()}
        assert self._record is not None  # noqa: S101  (both callers have one)
        record = replace(self._record, likeness=source.likeness, told=self._record.told | told)
        run.work.leave()
        seal = partial(self._seal, what, record, after.server)
        self._copying = Copying(run.server, source, name, record.files, seal)
        self._copying.begin()

    def _seal(self, what: str, record: Record, roles: str, session: Session) -> None:
        """Write down what a copy was built from, and mark it with a digest of that."""
        settings = self._run.settings
        environ = settings.child_env(self._run.work.target)
        chosen = inputs.chosen_files(settings.root, settings.inputs)
        if moved := inputs.restless(record.account, chosen, self._since_ns):
            told = f"{settings.shown(Path(moved))} has changed meanwhile"
            raise OSError(told if moved.endswith(".py") else f"{told}; {_DOES_NOT_COUNT}")
        needed = [name for kind, name, _ in record.had if kind == extensions.EXTENSION]
        server = _server_parts(session, needed)
        if server["a role of the server"] != roles:
            raise OSError("a role of the server has changed meanwhile")
        parts = inputs.of_files(settings, record.account)
        parts |= inputs.of_environment(settings, record.account, environ)
        own = inputs.of_seed(settings, environ) if what == _SEEDED else {}
        digest = inputs.digest([parts, server, record.given, record.had, own])[:16]
        name = self._name(what)
        session.execute(swap.comment_on(name, swap.mark(self._run.server.names, what, digest)))
        row = session.execute(_ROW, [name]).fetchone()
        if row is None:
            raise OSError(f"{name} was opened meanwhile")
        kept = KeptDatabase(oid=row[0], made_in=row[1], digest=digest, parts=own)
        hints = inputs.hints(settings, record.account, environ)
        kept_now = record.kept | {what: kept}
        self._record = replace(record, parts=parts, server=server, hints=hints, kept=kept_now)
        builds.write(builds.path(settings, self._run.target.database), self._record)
        self._run.clone.keeps.append(name)

    def _finish(self, *, stop: bool = False) -> None:
        if self._copying is not None:
            (self._copying.stop if stop else self._copying.finish)()
            self._run.clone.unkept = self._run.clone.unkept or self._copying.problem
            self._copying = None
        if self._run.clone.unkept and self._record is not None and not self._record.kept:
            self._tell_why()

    def _tell_why(self) -> None:
        """Let the next run know why there is nothing to clone."""
        assert self._record is not None  # noqa: S101  (the caller has looked)
        record = replace(self._record, account={}, unkept=self._run.clone.unkept)
        with suppress(OSError):  # it can do without
            builds.write(builds.path(self._run.settings, self._run.target.database), record)


_ROW = "SELECT oid, xmin::text FROM pg_database WHERE datname = %s AND NOT datallowconn"


def _server_parts(session: Session, extensions: Sequence[str]) -> Parts:
    """Return a hash of each, as a session on the maintenance database sees it.

    extensions: those whose files at the server the build depended on.
    """
    version, role, settings = session.execute(_SERVER).fetchone() or ("", "", "")
    found = {
        "the server": inputs.digest([catalog.server_id(session), version]),
        "the role": inputs.digest(role),
        "a setting of the server": inputs.digest(settings),
        "a role of the server": cluster_wide.look(session).server,
    }
    if extensions:
        versions = session.execute(_VERSIONS, [list(extensions)]).fetchall()
        found["an extension of the server"] = inputs.digest(versions)
    return found


# What a session gets from elsewhere than itself; those of the target are among its properties.
_SERVER = """
SELECT version(), current_user, (
    SELECT jsonb_object_agg(name, setting) FROM pg_settings
    WHERE source NOT IN ('default', 'override', 'client', 'session')
)
"""
_VERSIONS = """
SELECT name, default_version FROM pg_available_extensions WHERE name = ANY(%s) ORDER BY name
"""
