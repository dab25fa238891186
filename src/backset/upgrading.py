"""Migrates one database with Alembic's process, once the scripts are known to end somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.errors import AlembicError, Finding, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.migrations import Worker
    from backset.session import Session


def upgrade(worker: Worker, session: Session, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run the migrations on the database of `session`; return the worker's answer.

    `schemas` in it are those that were made first: Alembic writes to its version table before the
    first migration could make the schema of that. Raises StepFailedError.
    """
    made: list[str] = []
    while True:
        try:
            return {**worker.ask("upgrade", session, progress), "schemas": made}
        except AlembicError as error:
            if error.kind != "missing schema" or error.words in made:
                raise
            made.append(error.words)
        session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(made[-1])))


def demand_destination(worker: Worker) -> None:
    """Raise StepFailedError if the scripts have several heads, and the settings accept none."""
    if found := several_heads(worker.scripts.heads, worker.lineage.heads):
        raise StepFailedError.of(found)


def several_heads(heads: Sequence[str], accepted: Sequence[str]) -> list[Finding]:
    """Judge the heads of the scripts."""
    if len(heads) <= 1 or accepted:
        return []
    finding = Finding(
        kind="several heads",
        what=f"the scripts have the heads {', '.join(sorted(heads))}",
        why="`alembic upgrade head` refuses",
        remedy="join them: `invoke alembic -- merge heads -m merge`, "
        'or accept them: heads = "all" in [tool.backset]',
    )
    return [finding]
