"""The step by which a database follows a squash, before what comes after it is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backset.chain import Done, Planned, Step
from backset.steps.databases import backup, mark

if TYPE_CHECKING:
    from backset.migrate.upgrading import Progress
    from backset.runs.run import Run


def _follow(run: Run, progress: Progress) -> Done:
    """Let the target follow what replaces its revisions; with nothing of that, say nothing."""
    from backset.described import ABSENT
    from backset.runs import states
    from backset.squash import following
    from backset.steps.details import BackupDetails, FollowDetails

    lines, ran, squashes = list[str](), list[str](), list[str]()
    file: Any = ABSENT
    while found := following.look(run):  # behind one squash there may be another
        if file is ABSENT and any(each.pending for each in found):
            mark(run.server)
            done = backup.run(run, progress, lambda: None)
            if isinstance(done, Done):
                progress(f"backup: {done.text}", lasting=True)
                file = done.details.file if isinstance(done.details, BackupDetails) else ABSENT
        run.outcome.worked = "follow", states.revisions(run.work.session())
        lines += [following.follow(run, each, progress) for each in found]
        ran += [name for each in found for name in each.pending]
        squashes += [each.squash.id for each in found]
    if not lines:
        return Done("")
    return Done(" · ".join(lines), FollowDetails(squashes=squashes, ran=ran, backup=file))


def _plan_follow(run: Run) -> Planned:
    from backset.squash import following

    found = following.look(run)
    lines = [line for each in found for line in each.lines()]
    if any(each.pending for each in found):
        first = backup.plan(run) if callable(backup.plan) else backup.plan
        lines.insert(0, str(first))
    return Planned(lines)


follow = Step(
    "follow",
    _follow,
    _plan_follow,
    does="write the id of a squash that has run",
    migrates=True,
)
