"""Migrates one database with Alembic's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalogs import versions
from backset.errors import AlembicError, StepFailedError
from backset.wording import explanations
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backset.connections.session import Session
    from backset.migrations.worker import Worker

    Progress = Callable[[str], None]


def upgrade(
    worker: Worker,
    session: Session,
    progress: Progress,
    *,
    to: Sequence[str] = (),
    watched: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the migrations on the database of `session`; return the worker's answer.

    to: revisions; without them, where the chain ends. watched: what is looked at after each, as
    alembic_worker.places has it; `places` in the answer is what was seen.

    `schemas` in it are those that were made first: Alembic writes to its version table before the
    first migration could make the schema of that. Raises StepFailedError.
    """
    return begin(worker, session, to=to, watched=watched)(progress)


def begin(
    worker: Worker,
    session: Session,
    *,
    to: Sequence[str] = (),
    watched: Mapping[str, Any] | None = None,
) -> Callable[[Progress], dict[str, Any]]:
    """Begin what upgrade() does, and wait for nothing; return what waits for the end of it.

    Until that is called, nobody may use the session, nor ask the worker.
    """
    asked = {"to": list(to), "watched": watched}
    worker.request("upgrade", session, **asked)

    def end(progress: Progress) -> dict[str, Any]:
        made: list[str] = []
        while True:
            try:
                done = worker.answer(progress)
            except AlembicError as error:
                if error.kind != "missing schema" or error.words in made:
                    raise
                made.append(error.words)
            else:
                _demand_written(worker, session, done)
                return {**done, "schemas": made}
            session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(made[-1])))
            worker.request("upgrade", session, **asked)

    return end


def _demand_written(worker: Worker, session: Session, done: Mapping[str, Any]) -> None:
    """Raise StepFailedError where env.py has rolled back what Alembic has done.

    The catalogs are asked first. Where our role does not see the version table, Alembic is.
    """
    if not done["count"]:
        return
    seen = {row for table in versions.tables(session) for row in table.revisions}
    if seen.issuperset(done["after"]):
        return
    if not set(worker.ask("current", session)["revisions"]).issuperset(done["after"]):
        ran = count(done["count"], "revision")
        what = (
            f"{ran} ran up to {', '.join(done['after'])}, and env.py's transaction was rolled back"
        )
        raise StepFailedError(f"{what}: nothing was written", explanations.COMMIT)
