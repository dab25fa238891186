"""How far a database is in the chain of a checkout, whose scripts are read and never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backset.branches.entries import base_of
from backset.memory import builds
from backset.revisions import script_files
from backset.runs.login import usual_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.revisions.git import Git
    from backset.revisions.script_files import Revision
    from backset.settings.settings import Settings


class BranchChain:
    """The revisions of a branch: all chains of the settings, as one."""

    def __init__(self, revisions: Iterable[Revision]) -> None:
        self.known = script_files.by_id(revisions)
        self._replaced = {each for one in self.known.values() for each in one.replaces}

    @classmethod
    def of_checkout(cls, settings: Settings) -> BranchChain:
        """Read the scripts of this work tree."""
        return cls(script_files.read(_files(settings)))

    @classmethod
    def of_branch(cls, settings: Settings, git: Git, branch: str) -> BranchChain:
        """Read the scripts that a branch has in the same folders."""
        top = git.top.resolve()
        folders = {each.resolve().parent for each in _files(settings)}
        paths = [each.relative_to(top).as_posix() for each in folders if each.is_relative_to(top)]
        texts = git.texts(branch, sorted(paths)) if paths else {}
        found = (script_files.parse(text) for text in texts.values())
        return cls(each for each in found if each is not None)

    def strangers(self, rows: Sequence[str]) -> list[str]:
        """Return the rows of a version table that no script knows."""
        return [each for each in rows if each not in self.known and each not in self._replaced]

    def left(self, rows: Sequence[str]) -> int:
        """Return how many revisions have not run in a database whose rows are all known."""
        followed = (each for each in self.known.values() if each.replaces)
        at = [*rows, *(each.id for each in followed if {*each.replaced_heads} <= {*rows})]
        return len(self.known) - len(script_files.ancestors(at, self.known.values()))

    def where(self, rows: Sequence[str]) -> str:
        """Return a stable word for where rows stand: `at head`, `behind`, `aside` or `unknown`."""
        if not self.known:
            return "unknown"
        if self.strangers(rows):
            return "aside"
        return "behind" if self.left(rows) else "at head"


def _files(settings: Settings) -> list[Path]:
    """Return the files that may be scripts: where the last build had them, or where most are."""
    record = builds.read(builds.path(settings, base_of(settings)))
    folders = [Path(each) for each in record.folders] if record else []
    places = (place for each in folders for place in (each, each / "versions"))
    found = [path for place in places for path in sorted(place.glob("*.py"))]
    return found or [*usual_paths(settings.root)]
