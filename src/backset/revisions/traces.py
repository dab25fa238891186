"""Pure: where a revision went whose file is gone, in lines for people and values for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backset.revisions.git import Commit
    from backset.revisions.restore import Recipe
    from backset.revisions.revision import Revision

_SHOWN = 5  # names in a line for people; programs get all


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The commit after which a file was gone; `renamed_to` is empty unless it moved."""

    commit: Commit
    path: str
    renamed_to: str
    replaced_by: tuple[Revision, ...]
    is_ours: bool  # whether the commit is in the history of what is checked out

    def line(self) -> str:
        """Return in one line what happened, when and by whom."""
        commit = self.commit
        how = "given another id" if self.path in commit.changed else "removed"
        how = f"renamed to {self.renamed_to}" if self.renamed_to else how
        text = f"{self.path} was {how} by {commit.short} {commit.subject!r}"
        text += f" of {commit.author} on {commit.moment[:10]}"
        if self.replaced_by:
            text += f", which added {few(f'{each.id} ({each.path})' for each in self.replaced_by)}"
        return text if self.is_ours else f"{text}, on another branch"

    def content(self) -> dict[str, Any]:
        """Return it as plain values."""
        commit = self.commit
        return {
            "commit": commit.id,
            "author": commit.author,
            "date": commit.moment,
            "subject": commit.subject,
            "path": self.path,
            "renamed_to": self.renamed_to or None,
            "replaced_by": [each.content() for each in self.replaced_by],
            "in_head": self.is_ours,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One of several scripts that have had the same id.

    path: where it is, from the top. commit: the beginning of the id of one that has it there; of a
    copy in the project there is none. after: what it needs. is_meant: whether it is the one that
    fits, of which all else in the trace speaks.
    """

    path: str
    commit: str
    after: tuple[str, ...]
    doc: str
    command: str
    is_meant: bool

    def __str__(self) -> str:
        where = f" of {self.commit}" if self.commit else ""
        after = f"after {few(self.after)}" if self.after else "the first of its chain"
        return f"{self.path}{where} ({after}{f', {self.doc!r}' if self.doc else ''})"

    def content(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "path": self.path,
            "commit": self.commit or None,
            "after": list(self.after),
            "doc": self.doc,
            "command": self.command,
            "meant": self.is_meant,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where an orphaned revision went.

    copies: files of the project that still have it. archives: tars that have it, with its name in
    each. removal: None where no commit removed it. uncommitted: its path, where it was deleted and
    that is not committed. refs: branches and tags that still have it.
    companions: other missing revisions that it needs, which come back with it.
    scripts: its script and theirs, where they are.
    recipe: what brings them back; None where nothing was found, and where a person has to choose.
    generations: where several scripts have had that id, each of them; all else is about the one
    that is meant, and empty where none is. gaps: what was not looked at.
    """

    revision: str
    doc: str = ""
    copies: tuple[str, ...] = ()
    archives: tuple[tuple[str, str], ...] = ()
    removal: Removal | None = None
    uncommitted: str = ""
    refs: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    scripts: tuple[Revision, ...] = ()
    recipe: Recipe | None = None
    generations: tuple[Generation, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command line that brings it back; empty where there is none."""
        return self.recipe.command if self.recipe else ""

    @property
    def is_found(self) -> bool:
        """Whether there is a way to bring it back."""
        return self.recipe is not None

    def lines(self) -> list[str]:
        """Each thing that was found in one line, without the command."""
        found = [f"a copy is {few(self.copies)}"] if self.copies else []
        found += [self.removal.line()] if self.removal else []
        if self.uncommitted:
            found.append(f"{self.uncommitted} was deleted, and that is not committed")
        found += [f"it is still on {few(self.refs)}"] if self.refs else []
        if self.archives and not found:
            found += [f"{path} has it as {name}" for path, name in self.archives[:1]]
        if self.companions:
            found.append(f"it needs {few(self.companions)}, which no migration file has either")
        found = self._several() + found
        if not found:
            found.append("no folder, no commit and no backup here has its file")
        return found + [f"not searched: {gap}" for gap in self.gaps]

    def _several(self) -> list[str]:
        if not self.generations:
            return []
        meant = next((each for each in self.generations if each.is_meant), None)
        names = "; ".join(map(str, self.generations))
        line = f"{len(self.generations)} scripts have had this id: {names}"
        if meant:
            return [f"{line}; what follows is about {meant.path}{_at(meant)}, which fits here"]
        return [
            f"{line}; it does not show which of them has run here: choose one by its command",
            *(f"{each.path}{_at(each)}: {each.command}" for each in self.generations),
        ]

    def content(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "revision": self.revision,
            "doc": self.doc,
            "copies": list(self.copies),
            "archives": [{"file": path, "member": name} for path, name in self.archives],
            "removal": self.removal.content() if self.removal else None,
            "uncommitted": self.uncommitted or None,
            "refs": list(self.refs),
            "companions": list(self.companions),
            "command": self.command or None,
            "generations": [each.content() for each in self.generations],
            "not_searched": list(self.gaps),
        }


def _at(generation: Generation) -> str:
    return f" of {generation.commit}" if generation.commit else ""


def few(names: Iterable[str]) -> str:
    """Return some names for a line, and how many more there are."""
    several = list(names)
    more = len(several) - _SHOWN
    return ", ".join(several[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
