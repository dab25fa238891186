"""Source: the database that the rows of a carry are read from; nothing is ever written there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.carrying.comparison import Digest
    from backset.carrying.plan import Schemas
    from backset.carrying.tables import Transfer
    from backset.catalogs.counters import Counter
    from backset.connections.session import Session
    from backset.connections.target import Target


@dataclass(frozen=True, slots=True)
class Source:
    """A database, a session on it that is in no transaction, and what opens another one.

    schemas: what both sides are, where the rows stand under other names in the new database itself;
    counters: the old sequences, and populated: the materialized views that could be read, where
    these are gone.
    through: the files of pending revisions that the rows have gone through in a copy; copied: where
    that is one of the target, what was in it before, table by table.
    """

    target: Target
    session: Session
    connect: Callable[[], Session]
    schemas: Schemas | None = None
    counters: Sequence[Counter] | None = None
    populated: frozenset[tuple[str, str]] | None = None
    through: Sequence[str] = ()
    copied: Sequence[tuple[Transfer, Digest]] | None = None
