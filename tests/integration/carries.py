"""A run on databases of every major version that has copied its target, and is about to swap."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.carry import comparison, copy, plan, tables, writes
from backset.carry.tables import SPELLING
from backset.carry.writes import Watch
from backset.connections.session import connect
from backset.connections.target import Target
from backset.servers import swap
from backset.servers.server import Server
from backset.settings.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backset.connections.session import Session
    from backset.servers.cluster import Cluster

EVERYTHING = Rules()
CLEAR = """
DROP SCHEMA IF EXISTS public, "Other one" CASCADE; CREATE SCHEMA public;
SELECT lo_unlink(oid) FROM pg_largeobject_metadata;
"""
TABLES = """
CREATE TABLE tasks (id int PRIMARY KEY, name text);
CREATE SCHEMA "Other one";
CREATE TABLE "Other one"."Log" (id int) PARTITION BY RANGE (id);
CREATE TABLE "Other one".low PARTITION OF "Other one"."Log" FOR VALUES FROM (0) TO (10);
CREATE UNLOGGED TABLE quick (id int)
"""
ROWS = """
INSERT INTO tasks VALUES (1, 'one'), (2, NULL); INSERT INTO quick VALUES (1);
INSERT INTO "Other one"."Log" VALUES (1), (1); CREATE TABLE homeless (id int)
"""


@dataclass
class Carry:
    """A run that has copied the tables of its target, and is about to swap."""

    cluster: Cluster
    server: Server
    watch: Watch
    told: list[str] = field(default_factory=list)

    def progress(self, text: str, *, lasting: bool = False) -> None:  # noqa: ARG002  (Progress)
        """Remember what people would read."""
        self.told.append(text)

    @property
    def url(self) -> str:
        """The URL of the target."""
        return self.cluster.url(self.server.names.target)

    def write(self, *statements: str) -> None:
        """Write as an application does: on a session of its own, which then leaves."""
        with closing(psycopg.connect(self.url, autocommit=True)) as session:
            for each in statements:
                session.execute(each.encode())

    def promote(self, swap_them: swap.Swap | None = None) -> None:
        """Hand over, as `promote` does."""
        writes.promote(self.server, self.watch, swap_them or self.swap, self.progress)

    def swap(self, *, spare: int = 0, last: Callable[[Session], None] = swap.nothing) -> None:
        """Swap, as `promote` does."""
        old = self.server.databases()[self.server.names.target]
        swap.promote(self.server, old, None, old_is_empty=False, last=last, spare=spare)

    @property
    def is_promoted(self) -> bool:
        """Whether the target is the new database now."""
        return self.server.names.previous in self.server.databases()


def copied(server: Server, rules: Rules, *, whole: bool = False) -> Watch:
    """Copy the rows of the target into the new database, as `carry` does.

    whole: by way of a copy in which they were changed.
    """

    def opened(target: Target) -> Callable[[], Session]:
        return lambda: connect(target, "test")

    new = server.target.named(server.names.next)
    with closing(connect(server.target, "test")) as old, closing(connect(new, "test")) as session:
        watch = Watch.begin(old, rules)
        with tables.snapshot_of(old) as moment:
            decided = plan.decide(old, session, rules)
            assert decided.problems == (), decided.problems
            with tables.paired(opened(server.target), opened(new), moment) as pairs:
                copy.copy(decided.transfers, pairs, keys={})
            old.execute(SPELLING.encode())
            watch.is_whole = whole
            each_of = plan.whole(old, rules) if whole else decided.transfers
            watch.copied = [(each, comparison.digest_of_old(old, each)) for each in each_of]
    return watch


@contextmanager
def built(cluster: Cluster) -> Iterator[Server]:
    """A run whose new database has been built, and nothing been copied so far."""
    with Server(Target.parse(cluster.url("handed")), "test") as server:
        make_anew(server)
        for each in (server.names.target, server.names.next):
            with psycopg.connect(cluster.url(each), autocommit=True) as session:
                session.execute(CLEAR + TABLES)
                if each == server.names.target:
                    session.execute(ROWS)
        yield server


@contextmanager
def carried(cluster: Cluster, rules: Rules = EVERYTHING) -> Iterator[Carry]:
    """A run that has copied what stands in `TABLES`."""
    with built(cluster) as server:
        yield Carry(cluster, server, copied(server, rules))


def make_anew(server: Server) -> None:
    """Have a target and a next one, of those that the last test has left: making takes longer."""
    there = server.databases()
    if server.names.previous in there:
        rename = "ALTER DATABASE {} RENAME TO {}"
        names = map(sql.Identifier, (server.names.previous, server.names.next))
        server.session.execute(sql.SQL(rename).format(*names))
        swap.show(server, server.names.next, "next")
    elif not there:
        swap.create(server, server.names.target, None)
        swap.make(server, server.names.next, "next", None)
    server.session.execute("ALTER DATABASE handed RESET ALL")
