"""Source: the database that the rows of a carry are read from; nothing is ever written there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.connections.session import Session
    from backset.connections.target import Target


@dataclass(frozen=True, slots=True)
class Source:
    """A database, a session on it that is in no transaction, and what opens another one."""

    target: Target
    session: Session
    connect: Callable[[], Session]
