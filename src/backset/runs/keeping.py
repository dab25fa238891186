"""What a run keeps of its build for the next one: copies of it, and a record of what it was from.

The server makes the copies while the next step runs, and what goes wrong with them stops nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Self

import psycopg

from backset.catalogs import catalog
from backset.errors import StepFailedError
from backset.processes.identity import age_s
from backset.properties import cluster_wide, extensions, inheritance
from backset.properties import property as properties
from backset.runs import recalling
from backset.runs.recalling import CLEAN, SEEDED, described
from backset.servers import embedded, swap
from backset.servers.copying import Copying
from backset.templates import inputs, memory, surroundings
from backset.templates.memory import Kept, Record

if TYPE_CHECKING:
    from backset.connections.session import Session
    from backset.runs.build import Build
    from backset.templates.memory import Told


class _NotKeptError(Exception):
    """Why there is nothing to keep."""


class Keeping:
    """Follows the steps of a run, and keeps the database as `verify` and as `seed` leave it."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._told: dict[str, Told] = {}
        self._record = build.recalled.record if build.recalled else None
        self._before: cluster_wide.State | None = None
        self._copying: Copying | None = None
        self._since_ns = time.time_ns() - int(age_s() * 1e9)
        build.unkept = recalling.unsuited(build)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: object, _trace: object) -> None:
        # What was verified stays good if a later step fails; who interrupts does not want to wait.
        self._finish(stop=error is not None and not isinstance(error, StepFailedError))

    def before(self, step: str) -> None:
        """Be done with what the step would disturb."""
        if step == "promote":
            self._finish()
        if step == "seed" and self._keeps_seed:
            self._before = cluster_wide.look(self._build.server.session, self._name("next"))

    def after(self, step: str, told: Told) -> None:
        """Begin to keep what the step has left, unless it is what was kept already."""
        self._told[step] = told
        recalled = self._build.recalled
        if self._build.unkept or (recalled and recalled.has(step)):
            return
        try:
            if step == "verify" and self._build.outside:
                self._record = self._described()
                self._keep(CLEAN, self._build.outside)
            elif step == "seed" and self._record and self._before:
                after = cluster_wide.look(self._build.server.session, self._name("next"))
                self._keep(SEEDED, (self._before, after))
        except (_NotKeptError, StepFailedError, psycopg.Error) as error:
            self._build.unkept = str(error)

    @property
    def _keeps_seed(self) -> bool:
        """Whether the seed is asked to be kept, and nothing but the seed is in the database."""
        build = self._build
        is_all = not (build.options.carries or build.options.seeds_twice)
        return build.settings.cache_seed and is_all and not build.unkept

    def _name(self, what: str) -> str:
        return str(getattr(self._build.server.names, what))

    def _described(self) -> Record:
        """Return the record of what has just been verified; its copy is still to be made."""
        build = self._build
        account = build.worker.inputs()
        if not account:
            raise _NotKeptError("nobody has noted what it depends on")
        if account["unknown"] and not build.settings.inputs:
            raise _NotKeptError(f"env.py: {account['unknown'][0]}")
        aside = [build.settings.backups, embedded.project_cluster(build.settings.root).folder]
        account = inputs.outside(account, aside)
        had = properties.read(build.session, inheritance.EVERYTHING, build.subject.database)
        return Record(
            taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
            account=account,
            parts={},
            server={},
            likeness=[],
            given=described(build.inheritance.given),
            had=described(had),
            folders=[str(each) for each in build.scripts.folders],
            heads=list(build.scripts.heads),
            told={},
            kept={},
            schemas=catalog.schemas(build.session),
        )

    def _keep(self, what: str, outside: tuple[cluster_wide.State, cluster_wide.State]) -> None:
        """Let the server copy the database, unless something was changed that no copy has."""
        before, after = outside
        if (before.server, before.database) != (after.server, after.database):
            raise _NotKeptError("something was changed outside of the content of the database")
        build = self._build
        if remote := catalog.remote(build.session):
            raise _NotKeptError(f"{remote} may show other rows by then")
        self._finish()
        found = build.server.databases()
        name, source = self._name(what), found[self._name("next")]
        if name in found and not recalling.is_ours(found[name]):
            raise _NotKeptError(f"backset did not make {name}")
        told = {step: asdict(each) for step, each in self._told.items()}
        assert self._record is not None  # noqa: S101  (both callers have one)
        record = replace(self._record, likeness=source.likeness, told=self._record.told | told)
        build.leave()
        seal = partial(self._seal, what, record, after.server)
        self._copying = Copying(build.server, source, name, seal)
        self._copying.begin()

    def _seal(self, what: str, record: Record, roles: str, session: Session) -> None:
        """Write down what a copy was built from, and mark it with a digest of that."""
        settings = self._build.settings
        environ = settings.child_env(self._build.subject)
        chosen = inputs.chosen(settings.root, settings.inputs)
        if moved := inputs.restless(record.account, chosen, self._since_ns):
            raise OSError(f"{moved} has changed meanwhile")
        needed = [name for kind, name, _ in record.had if kind == extensions.KIND]
        server = surroundings.look(session, needed)
        if server["a role of the server"] != roles:
            raise OSError("a role of the server has changed meanwhile")
        parts = memory.of_files(settings, record.account)
        parts |= memory.of_environment(settings, record.account, environ)
        own = memory.of_seed(settings, environ) if what == SEEDED else {}
        digest = inputs.digest([parts, server, record.given, record.had, own])[:16]
        name = self._name(what)
        session.execute(swap.comment_on(name, swap.mark(self._build.server.names, what, digest)))
        row = session.execute(_ROW, [name]).fetchone()
        if row is None:
            raise OSError(f"{name} was opened meanwhile")
        kept = Kept(oid=row[0], made_in=row[1], digest=digest, parts=own)
        self._record = replace(record, parts=parts, server=server, kept=record.kept | {what: kept})
        memory.write(memory.path(settings, self._build.target.database), self._record)
        self._build.keeps.append(name)

    def _finish(self, *, stop: bool = False) -> None:
        if self._copying is not None:
            (self._copying.stop if stop else self._copying.finish)()
            self._build.unkept = self._build.unkept or self._copying.problem
            self._copying = None


_ROW = "SELECT oid, xmin::text FROM pg_database WHERE datname = %s AND NOT datallowconn"
