"""The steps of repairs that are smaller than a rebuild: each does one thing, and says what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from backset import process
from backset.errors import StepFailedError
from backset.steps import Done

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backset.build import Build

    Progress = Callable[[str], None]


def stamp(build: Build, _progress: Progress) -> Done:
    """Write the revisions that a scratch build has proved into the version table."""
    wanted = list(build.options.stamps)
    for worker in build.workers:
        own = {"base", *(each.id for each in worker.scripts.revisions)}
        revisions = [each for each in wanted if each in own]
        worker.ask("stamp", build.session, revisions=revisions, purge=True)
    return Done(f"the version is {', '.join(wanted)}", {"revisions": wanted})


def drop_indexes(build: Build, progress: Progress) -> Done:
    """Drop the invalid indexes that a CREATE INDEX CONCURRENTLY has left behind."""
    names = build.options.drops
    for name in names:
        progress(f"dropping {name}")
        statement = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}")
        build.session.execute(statement.format(sql.Identifier(*name.split("."))))
    return Done(f"{', '.join(names)} dropped", {"indexes": list(names)})


def merge(build: Build, _progress: Progress) -> Done:
    """Make the revision that joins all heads; it is a new file of the project."""
    if build.old is None:
        made = build.worker.ask_alone("merge")
    else:
        made = build.worker.ask("merge", build.session)
    return Done(f"{made['path']} joins {', '.join(made['down'])}; commit it", made)


def bring_back(build: Build, _progress: Progress) -> Done:
    """Bring the missing files back by the very command that was shown."""
    settings, command = build.settings, build.options.command
    # Its words were quoted by shlex where it was made.
    status, said = process.run(["sh", "-ec", command], env=settings.plain_env, cwd=settings.root)
    if status:
        what = f"`{command}` ended with {status}: {process.last_words(said)}"
        raise StepFailedError(what, "bring the file back by hand, then run this again")
    return Done(command, {"command": command})


PLANS: Mapping[Callable[..., Done], Callable[[Build], str]] = {
    stamp: lambda build: f"would set the version to {', '.join(build.options.stamps)}",
    drop_indexes: lambda build: f"would drop {', '.join(build.options.drops)}",
    merge: lambda build: f"would add a file that joins {', '.join(build.worker.scripts.heads)}",
    bring_back: lambda build: f"would run {build.options.command}",
}
