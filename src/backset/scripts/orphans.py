"""Where a revision went that no migration file has: in the project's folders and in all of git.

`trace(revision, folders, env)` looks; the Trace that it returns speaks for itself: `lines()` for
people, `content()` for programs, `command` to type, `recipe` for `retrieval`. It changes nothing,
and says in `gaps` what it could not look at, such as a repository without git; so a caller has
nothing to catch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.scripts import bringing, revisions, sources, tarballs
from backset.scripts.git import Git
from backset.scripts.revisions import Revision
from backset.scripts.traces import Removal, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backset.scripts.git import Commit
    from backset.scripts.recipes import Recipe
    from backset.scripts.sources import Folders


def trace(revision: str, folders: Folders, env: Mapping[str, str]) -> Trace:
    """Search the project's folders, all of git's refs, and at last the backups for a revision.

    env: the environment for git. Needs about a second for ten thousand commits.
    """
    current = folders.current()
    here, taken = revisions.by_id(current), {each.path for each in current}
    copies = folders.containing(revision)
    gaps: list[str] = []
    past = None
    try:
        git = Git(folders.root, env)
        if git.is_shallow:
            gaps.append("older commits: this clone is shallow (git fetch --unshallow)")
        past = _past(git, revision)
    except StepFailedError as error:
        gaps.append(f"git's history: {error.what}")
    archives = [] if copies or past else list(tarballs.packed(folders.backups, revision))
    needed: list[Revision] = []
    recipe: Recipe | None = None
    if copies:
        beside = sources.read(sources.walk(copies[0].path.parent))
        needed = _needed(revision, [copies[0], *beside], here)
        recipe = bringing.from_folder(needed, folders, taken)
    elif past:
        needed = _needed(revision, past.beside, here)
        recipe = bringing.from_git(needed, past.source, past.prefix, folders, taken, past.gone)
    elif archives:
        tar, packed = archives[0]
        needed = _needed(revision, packed, here)
        recipe = bringing.from_tar(needed, tar, folders, taken)
    found = next((each for each in needed if each.id == revision), None)
    return Trace(
        revision=revision,
        doc=found.doc if found else "",
        copies=tuple(folders.shown(each.path) for each in copies),
        archives=tuple(
            (folders.shown(path), script.path.as_posix())
            for path, scripts in archives
            for script in scripts
            if script.id == revision
        ),
        removal=past.removal if past else None,
        uncommitted=past.uncommitted if past else "",
        refs=past.refs if past else (),
        companions=tuple(each.id for each in needed if each.id != revision),
        scripts=tuple(needed),
        recipe=recipe,
        gaps=tuple(gaps),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """What git knows.

    source: a commit or branch that has the file. beside: all scripts there. gone: the files there
    that the work tree lacks.
    """

    removal: Removal | None
    uncommitted: str
    refs: tuple[str, ...]
    source: str
    beside: list[Revision]
    prefix: str
    gone: set[str]


def _needed(
    revision: str, beside: Iterable[Revision], here: Mapping[str, Revision]
) -> list[Revision]:
    """Return the missing revision, and those that it needs and that are missing as well."""
    there = revisions.by_id(beside)
    return [each for each in revisions.ancestry(revision, there) if each.id not in here]


def _past(git: Git, revision: str) -> _Past | None:
    line = revisions.pattern(revision)
    commits = git.touching(line) or git.touching(line, reflog=True)
    events = _Events(git, revision, commits)
    if not events.homes:
        return None
    held = git.holding(git.tips(), events.expression, events.homes)
    refs = tuple(dict.fromkeys(name for name, _path in held))
    removal = None
    lost = [path for path in events.in_head() if not (git.top / path).exists()]
    if lost:
        source, path = "HEAD", lost[0]
    elif gone := events.removal():
        commit, path, source = gone
        removal = _removal(git, events, commit, path)
        if held and not removal.is_ours:
            source, path = held[0]
    elif held:
        source, path = held[0]
    else:
        source, path = events.anywhere()
    folder = path.rpartition("/")[0]
    beside = _scripts(git, source, [folder])
    if all(each.id != revision for each in beside):  # it is written in a way of its own
        beside.append(Revision(id=revision, path=Path(path)))
    return _Past(
        removal=removal,
        uncommitted=lost[0] if lost else "",
        refs=refs,
        source=source,
        beside=beside,
        prefix=git.prefix,
        gone=git.gone(source, [folder]),
    )


class _Events:
    """Which commits brought a revision's file, and which took it away.

    homes: the paths at which any commit had it. added: (commit, path), the newest first.
    """

    def __init__(self, git: Git, revision: str, commits: Sequence[Commit]) -> None:
        self._git = git
        self._commits = commits
        self.expression = revisions.pattern(revision)
        paths = sorted({path for each in commits for path in _paths(each)})
        names = dict.fromkeys(name for each in commits for name in (each.id, *each.parents[:1]))
        self._had = set(git.holding(list(names), self.expression, paths)) if paths else set()
        self.homes = sorted({path for _name, path in self._had})
        self.added = [
            (each.id, path)
            for each in commits
            for path in (*each.added, *each.changed)
            if (each.id, path) in self._had
        ]

    def in_head(self) -> list[str]:
        """Return where the commit that is checked out has it."""
        if not self._git.is_ancestor("HEAD"):
            return []  # there is no commit yet
        return [path for _, path in self._git.holding(["HEAD"], self.expression, self.homes)]

    def anywhere(self) -> tuple[str, str]:
        """Return the last commit that brought it, and the path; any that has it, if need be."""
        return next(iter(self.added), None) or min(self._had)

    def removal(self) -> tuple[Commit, str, str] | None:
        """Return the last commit that took it away, the path, and the name of its parent.

        One in the history of what is checked out comes first. Merges are looked at only where no
        other commit did it, since each merge lacks what one of its parents has.
        """
        removals = [
            (each, path, f"{each.short}^")
            for each in self._commits
            for path in (*each.removed, *each.changed)
            if (each.id, path) not in self._had
            and any((parent, path) in self._had for parent in each.parents[:1])
        ]
        ours = (each for each in removals if self._git.is_ancestor(each[0].id))
        return next(ours, None) or self._by_a_merge() or next(iter(removals), None)

    def _by_a_merge(self) -> tuple[Commit, str, str] | None:
        if not any(self._git.is_ancestor(commit) for commit, _path in self.added):
            return None
        for each in self._git.removing(self.homes):
            if len(each.parents) > 1 and self._git.is_ancestor(each.id):
                had = dict(self._git.holding(each.parents, self.expression, self.homes))
                has = self._git.holding([each.id], self.expression, self.homes)
                for number, parent in enumerate(each.parents, 1):
                    if parent in had and not has:
                        return each, had[parent], f"{each.short}^{number}"
        return None


def _removal(git: Git, events: _Events, commit: Commit, path: str) -> Removal:
    whole = git.commit(commit.id)
    names = [each for each in whole.added if each.endswith(".py")]
    added = _scripts(git, whole.id, names)
    gone = [each for each in whole.removed if each.endswith(".py")]
    moved = {each.id for each in _scripts(git, commit.parents[0], gone)}
    new_homes = git.holding([whole.id], events.expression, whole.added) if whole.added else []
    return Removal(
        commit=commit,
        path=path,
        renamed_to=next((each for _, each in new_homes), ""),
        replaced_by=tuple(each for each in added if each.id not in moved),
        is_ours=git.is_ancestor(commit.id),
    )


def _scripts(git: Git, name: str, paths: Sequence[str]) -> list[Revision]:
    texts = git.texts(name, paths) if paths else {}
    parsed = (revisions.parse(text, Path(path)) for path, text in texts.items())
    return [each for each in parsed if each is not None]


def _paths(commit: Commit) -> tuple[str, ...]:
    return (*commit.added, *commit.changed, *commit.removed)
