"""Two databases of one server: the old one, and the new one, which a plain role owns."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from backset.carry import copy, tables
from backset.carry.tables import SessionPair, TableCopy
from backset.connections.session import connect
from backset.connections.target import Target
from tests.conftest import PASSWORD, ROLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.connections.session import Session
    from backset.servers.cluster import Cluster


@dataclass
class Databases:
    """The old database, as its superuser; the new one, as the role that owns it."""

    old_target: Target
    new_target: Target
    _open: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def made(
        cls, cluster: Cluster, superuser: psycopg.Connection[Any], name: str, options: str = ""
    ) -> Databases:
        """Create both."""
        for each in (name, f"{name}__next"):
            statement = sql.SQL("CREATE DATABASE {} " + options).format(sql.Identifier(each))
            superuser.execute(statement)
        owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
        superuser.execute(owner.format(sql.Identifier(f"{name}__next"), sql.Identifier(ROLE)))
        place = f"{ROLE}:{quote(PASSWORD, safe='')}@127.0.0.1:{cluster.tcp_port}"
        new = Target.parse(f"postgresql://{place}/{name}__next")
        return cls(Target.parse(cluster.url(name)), new)

    def close(self) -> None:
        """Close the sessions."""
        self._open.close()

    @property
    def old(self) -> Session:
        """A new session on the old one."""
        return self._open.enter_context(connect(self.old_target, "test"))

    @property
    def new(self) -> Session:
        """A new session on the new one."""
        return self._open.enter_context(connect(self.new_target, "test"))

    def run(self, old: str = "", new: str = "") -> None:
        """Run statements on each."""
        self.old.execute((old or "SELECT").encode())
        self.new.execute((new or old or "SELECT").encode())

    def copy(
        self,
        transfers: Sequence[TableCopy],
        *,
        keys: Mapping[tuple[str, str], Sequence[str]] | None = None,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> dict[tuple[str, str], int]:
        """Copy these rows in a snapshot of their own."""
        with self.paired() as pairs:
            return copy.copy(transfers, pairs, keys=keys or {}, progress=progress)

    @contextmanager
    def paired(self) -> Iterator[list[SessionPair]]:
        """Give pairs of sessions in a snapshot of their own."""
        with (
            tables.snapshot_of(self.old) as name,
            tables.paired(
                lambda: connect(self.old_target, "test"),
                lambda: connect(self.new_target, "test"),
                name,
            ) as pairs,
        ):
            yield pairs


def transfer(table: str, *columns: str, schema: str = "public", size_bytes: int = 0) -> TableCopy:
    """Return what carries these columns of a table to a table of the same name."""
    query = sql.SQL("SELECT {} FROM ONLY {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(schema, table)
    )
    return TableCopy(
        source=(schema, table),
        table=(schema, table),
        columns=columns,
        query=query,
        rows=0,
        size_bytes=size_bytes,
    )
