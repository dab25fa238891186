"""What a squash replaces: the flags held against the scripts, before anything is built."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.errors import SettingsError, StepFailedError
from backset.revisions import script_files
from backset.squash import exchange, selection, tree
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from backset.chain import Watcher
    from backset.migrate.worker import Worker
    from backset.revisions.script_files import Folders
    from backset.settings.settings import Settings
    from backset.settings.values import Lineage
    from backset.squash.selection import Selection
    from backset.squash.tree import TreeChange

_TEMPLATE = "script.py.mako"
_UNFINISHED = "a squash was killed half way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the flags say. chain: the name of one of several. form: `ops` or `sql`."""

    message: str = ""
    first: str = ""
    last: str = ""
    chain: str = ""
    rows: str = ""
    cluster: str = ""
    form: str = "ops"
    dirty: bool = False

    def __post_init__(self) -> None:
        """Raise SettingsError where a word is none of those that there are."""
        problems = []
        for flag, value in (("--rows", self.rows), ("--cluster", self.cluster)):
            if value not in {"", "keep", "none"}:
                problems.append((f"{flag} is {value!r}", "say keep or none"))
        if self.form not in {"ops", "sql"}:
            problems.append((f"--as is {self.form!r}", "say ops or sql"))
        if problems:
            raise SettingsError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which revisions of which chain are replaced, and what that changes in the tree."""

    lineage: Lineage
    folders: Folders
    heads: tuple[str, ...]
    selection: Selection
    change: TreeChange
    new: str


def choose(
    settings: Settings, worker: Worker, wanted: Wanted, told: Watcher, *, plan: bool
) -> Chosen:
    """Choose what one that was begun has read; refuse what cannot be squashed, before all else."""
    place = script_files.Folders(settings.root, (), settings.backups)
    if plan and exchange.is_unfinished(place):
        raise StepFailedError(_UNFINISHED, "run it without --plan, which ends that first")
    if done := exchange.recover(place):
        told.notice(done)
    if worker.scripts.problems:
        problem = worker.scripts.problems[0]
        raise StepFailedError(problem.text, "mend the chain first: `invoke status`")
    if not any((each / _TEMPLATE).is_file() for each in worker.scripts.folders):
        what = f"there is no {_TEMPLATE} beside env.py, by which Alembic writes a revision"
        raise StepFailedError(what, "take the one that `alembic init` writes into a new folder")
    found = worker.scripts.revisions
    selected = selection.select(found, first=wanted.first, last=wanted.last)
    new = secrets.token_hex(6)
    change = tree.read(selected, worker.folders, new)
    if note := tree.demand_clean(worker.folders, settings.environ, may_be_dirty=wanted.dirty):
        told.notice(note)
    return Chosen(
        lineage=worker.lineage,
        folders=worker.folders,
        heads=worker.scripts.heads,
        selection=selected,
        change=change,
        new=new,
    )


def planned(chosen: Chosen, name: str) -> list[tuple[str, str]]:
    """Return (step, what it would do)."""
    selected = chosen.selection
    much, files = (count(len(selected.replaced), each) for each in ("revision", "file"))
    ends = ", ".join(selected.heads)
    lines = [
        ("old chain", f"would build {much} up to {ends} in {name}, and drop that"),
        ("write", f"would write one revision, after {', '.join(selected.down) or 'base'}"),
        ("prove", "would build that, and compare every object and the rows of migrations"),
        ("archive", f"would put {files} into a tar, and remove them"),
    ]
    if selected.followers:
        names = few(chosen.folders.shown(each.path) for each in selected.followers)
        lines.append(("archive", f"would let {names} follow the new revision"))
    return lines
