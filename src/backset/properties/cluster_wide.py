"""What migrations make outside of their database: roles and tablespaces, which no reset removes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.errors import Finding

if TYPE_CHECKING:
    from backset.connections.session import Session

Objects = frozenset[tuple[str, str]]  # kind and name of each


def objects(session: Session) -> Objects:
    """Return the roles and tablespaces of the server."""
    return frozenset(session.execute(_QUERY).fetchall())


def made(before: Objects, session: Session) -> list[Finding]:
    """Return a finding for each role and tablespace that has come since `before`."""
    return [_finding(kind, name) for kind, name in sorted(objects(session) - before)]


def _finding(kind: str, name: str) -> Finding:
    return Finding(
        kind="cluster-wide object",
        name=name,
        what=f"while the migrations ran, the {kind} {name} was made",
        why="it belongs to the server: no reset, undo or restore of a database removes it",
        remedy="let the migration make it only where it is missing, or the next rebuild may fail",
    )


_QUERY = """
SELECT 'role', rolname::text FROM pg_roles
UNION ALL SELECT 'tablespace', spcname::text FROM pg_tablespace
"""
