"""Where a revision went that no migration file has: in the folders, in all of git, in the backups.

`trace(revision, folders, env)` looks; the Trace that it returns speaks for itself: `lines()` for
people, `content()` for programs, `command` to type, `recipe` for `restore`. It changes nothing,
and says in `gaps` what it could not look at, such as a repository without git; so a caller has
nothing to catch.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.revisions import restore, script_files
from backset.revisions.git import Git
from backset.revisions.history import Generation, Packed, Removal, Trace
from backset.revisions.script_files import Revision, ancestry, by_id, parse, pattern

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from backset.revisions.git import Commit
    from backset.revisions.restore import Recipe
    from backset.revisions.script_files import Folders


def trace(revision: str, folders: Folders, env: Mapping[str, str]) -> Trace:
    """Search the project's folders, all of git's refs, and at last the backups for a revision.

    env: the environment for git. Needs about a second for ten thousand commits.
    """
    current = folders.current()
    here, taken = by_id(current), {each.path for each in current}
    gaps: list[str] = []
    lives = _copied(folders, revision)
    prefix = ""
    try:
        git = Git(folders.root, env)
        if git.is_shallow:
            gaps.append("older commits: this clone is shallow (git fetch --unshallow)")
        lives = _merged([*lives, *_past(git, revision)])
        prefix = git.prefix
    except StepFailedError as error:
        gaps.append(f"git's history: {error.what}")
    archives = [] if lives else list(_packed(folders.backups, revision))
    if archives:
        tar, packed = archives[0]
        needed = _needed(revision, packed, here)
        return Trace(
            revision=revision,
            doc=_doc(revision, needed),
            archives=tuple(
                Packed(file=folders.shown(path), member=script.path.as_posix())
                for path, scripts in archives
                for script in scripts
                if script.id == revision
            ),
            companions=_companions(revision, needed),
            scripts=tuple(needed),
            recipe=restore.from_tar(needed, tar, folders, taken),
            gaps=tuple(gaps),
        )
    all_needed = [_needed(revision, [each.script, *each.beside], here) for each in lives]
    recipes = [
        each.recipe(needed, folders, taken, prefix)
        for each, needed in zip(lives, all_needed, strict=True)
    ]
    meant = _meant(lives, [script_files.fits(needed, current) for needed in all_needed])
    generations = tuple(
        Generation(
            path=folders.shown(each.script.path) if each.copies else each.script.path.as_posix(),
            commit=each.commit,
            after=each.script.needs,
            doc=each.script.doc,
            command=recipe.command,
            is_meant=each is meant,
        )
        for each, recipe in zip(lives, recipes, strict=True)
        if len(lives) > 1
    )
    if meant is None:
        return Trace(revision=revision, generations=generations, gaps=tuple(gaps))
    needed = all_needed[lives.index(meant)]
    return Trace(
        revision=revision,
        doc=_doc(revision, needed),
        copies=tuple(folders.shown(each.path) for each in meant.copies),
        removal=meant.removal,
        uncommitted=meant.uncommitted,
        refs=meant.refs,
        companions=_companions(revision, needed),
        scripts=tuple(needed),
        recipe=recipes[lives.index(meant)],
        generations=generations,
        gaps=tuple(gaps),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Life:
    """One script that has the id, with what is known of it and of no other one.

    source: a commit or branch that has the file; empty for a copy in the project. commit: its id,
    for people. beside: all scripts there. gone: the files there that the work tree lacks.
    """

    script: Revision
    copies: tuple[Revision, ...] = ()
    removal: Removal | None = None
    uncommitted: str = ""
    refs: tuple[str, ...] = ()
    source: str = ""
    commit: str = ""
    beside: tuple[Revision, ...] = ()
    gone: frozenset[str] = frozenset()

    def is_same(self, other: Revision) -> bool:
        """Tell whether another script is this one, moved or edited, and no other one of that id."""
        mine = self.script
        by_name = mine.path.name.split(".py")[0] == other.path.name.split(".py")[0]
        return mine.needs == other.needs and (by_name or bool(mine.doc and mine.doc == other.doc))

    def recipe(
        self, needed: Sequence[Revision], folders: Folders, taken: Collection[Path], prefix: str
    ) -> Recipe:
        """Return what brings it back with those that it needs."""
        if self.copies:
            return restore.from_folder(needed, folders, taken)
        return restore.from_git(needed, self.source, prefix, folders, taken, self.gone)


def _copied(folders: Folders, revision: str) -> list[_Life]:
    """Return the scripts of that id in the project's folders."""
    lives: list[_Life] = []
    for each in folders.containing(revision):
        beside = tuple(script_files.read(script_files.walk(each.path.parent)))
        lives.append(_Life(script=each, copies=(each,), beside=beside))
    return _merged(lives)


def _merged(lives: Iterable[_Life]) -> list[_Life]:
    """Put together what is one script; of each part, what the first has that has some."""
    found: list[_Life] = []
    for each in lives:
        at = next((number for number, known in enumerate(found) if known.is_same(each.script)), -1)
        if at < 0:
            found.append(each)
            continue
        known = found[at]
        found[at] = replace(
            known,
            copies=(*known.copies, *each.copies),
            removal=known.removal or each.removal,
            uncommitted=known.uncommitted or each.uncommitted,
            refs=tuple(dict.fromkeys((*known.refs, *each.refs))),
        )
    return found


def _meant(lives: Sequence[_Life], fits: Sequence[bool]) -> _Life | None:
    """Return the script that the database means: the only one, or the only one that fits today.

    One that was deleted here, and that is not committed, needs no other reason.
    """
    fitting = [each for each, is_fit in zip(lives, fits, strict=True) if is_fit]
    for some in (lives, [each for each in lives if each.uncommitted], fitting):
        if len(some) == 1:
            return some[0]
    return None


def _doc(revision: str, needed: Iterable[Revision]) -> str:
    return next((each.doc for each in needed if each.id == revision), "")


def _companions(revision: str, needed: Iterable[Revision]) -> tuple[str, ...]:
    return tuple(each.id for each in needed if each.id != revision)


def _needed(
    revision: str, beside: Iterable[Revision], here: Mapping[str, Revision]
) -> list[Revision]:
    """Return the missing revision, and those that it needs and that are missing as well."""
    there = by_id(beside)
    return [each for each in ancestry(revision, there) if each.id not in here]


def _past(git: Git, revision: str) -> list[_Life]:
    """Return the scripts that have had the id in git, each where it was last.

    The nearest comes first: what HEAD has, what was taken out of its history, what a branch has.
    """
    line = pattern(revision)
    commits = git.touching(line) or git.touching(line, reflog=True)
    events = _Events(git, revision, commits)
    if not events.homes:
        return []
    lost = [path for path in events.in_head() if not (git.top / path).exists()]
    held = git.holding(git.tips(), events.expression, events.homes)
    gone = [
        (source, path, _removal(git, events, commit, path))
        for commit, path, source in events.removals()
    ]
    ends: list[tuple[str, str, Removal | None]] = [("HEAD", path, None) for path in lost]
    ends += [each for each in gone if each[2].is_ours]
    ends += [(name, path, None) for name, path in held]
    ends += [each for each in gone if not each[2].is_ours]
    ends = ends or [(*events.anywhere(), None)]
    blobs = git.blobs([f"{source}:{path}" for source, path, _ in ends])
    scripts: dict[str, Revision] = {}
    lives = []
    refs = {(name, path) for name, path in held}
    for (source, path, removal), blob in zip(ends, blobs, strict=True):
        if blob not in scripts:
            found = _scripts(git, source, [path])
            # Else it is written in a way of its own.
            scripts[blob] = found[0] if found else Revision(id=revision, path=Path(path))
        lives.append(
            _Life(
                script=replace(scripts[blob], path=Path(path)),
                removal=removal,
                uncommitted=path if source == "HEAD" else "",
                refs=(source,) if (source, path) in refs else (),
                source=source,
            )
        )
    return [_with_others(git, each) for each in _merged(lives)]


def _with_others(git: Git, life: _Life) -> _Life:
    """Add what stands beside a script, where it is taken from."""
    folder = life.script.path.as_posix().rpartition("/")[0]
    return replace(
        life,
        commit=git.resolved(life.source)[:10],
        beside=tuple(_scripts(git, life.source, [folder])),
        gone=frozenset(git.gone(life.source, [folder])),
    )


class _Events:
    """Which commits brought a revision's file, and which took it away.

    homes: the paths at which any commit had it: those in the project, unless it was outside of that
    only, as another project of the repository may have the same id. added: (commit, path), the
    newest first.
    """

    def __init__(self, git: Git, revision: str, commits: Sequence[Commit]) -> None:
        self._git = git
        self._commits = commits
        self.expression = pattern(revision)
        paths = sorted({path for each in commits for path in _paths(each)})
        names = dict.fromkeys(name for each in commits for name in (each.id, *each.parents[:1]))
        self._had = set(git.holding(list(names), self.expression, paths)) if paths else set()
        inside = {(name, path) for name, path in self._had if path.startswith(git.prefix)}
        self._had = inside or self._had
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

    def removals(self) -> list[tuple[Commit, str, str]]:
        """Return the commits that took it away, the path, and the name of the parent.

        The last one comes first. Merges are looked at only where no other commit in the history of
        what is checked out did it, since each merge lacks what one of its parents has.
        """
        found = [
            (each, path, f"{each.short}^")
            for each in self._commits
            for path in (*each.removed, *each.changed)
            if (each.id, path) not in self._had
            and any((parent, path) in self._had for parent in each.parents[:1])
        ]
        if any(self._git.is_ancestor(each.id) for each, _, _ in found):
            return found
        merge = self._by_a_merge()
        return [merge, *found] if merge else found

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
    parsed = (parse(text, Path(path)) for path, text in texts.items())
    return [each for each in parsed if each is not None]


def _paths(commit: Commit) -> tuple[str, ...]:
    return (*commit.added, *commit.changed, *commit.removed)


def before_squash(
    squash: Revision, folders: Folders, env: Mapping[str, str]
) -> tuple[list[Revision], Recipe] | None:
    """Return the scripts that a squash has replaced, and what brings them back; None without them.

    They are those of its archive; else those that git had before the commit that brought it. Other
    copies and commits may have other scripts of the same ids. env: the environment for git.
    """
    for tar, scripts in _packed(folders.backups, min(squash.replaced_heads, default="")):
        if gone := _replaced(scripts, squash):
            return gone, restore.from_tar(gone, tar, folders, set())
    try:
        git = Git(folders.root, env)
        top = git.top.resolve()
        places = [each.resolve() for each in folders.locations]
        paths = [str(each.relative_to(top)) for each in places if each.is_relative_to(top)]
        for commit in reversed(git.touching(pattern(squash.id)) if paths else []):
            for parent in commit.parents:
                read = (parse(text, Path(path)) for path, text in git.texts(parent, paths).items())
                if gone := _replaced([each for each in read if each], squash):
                    return gone, restore.from_git(gone, parent, git.prefix, folders, set())
    except StepFailedError:
        return None
    return None


def _replaced(scripts: Sequence[Revision], squash: Revision) -> list[Revision]:
    """Return those of some scripts that a squash has replaced, if they are all of them; else none.

    What an earlier squash had replaced stands in the `replaces` of its script.
    """
    gone = [each for each in scripts if each.id in squash.replaces]
    ids = {each.id for each in gone}
    covered = ids.union(*(each.replaces for each in gone))
    is_whole = ids.issuperset(squash.replaced_heads) and covered.issuperset(squash.replaces)
    return gone if is_whole else []


def _packed(backups: Path, revision: str) -> Iterator[tuple[Path, list[Revision]]]:
    """Yield the tars among backset's backups that have a revision, the newest first.

    Each comes with all scripts in it, whose paths are their names there.
    """
    for tar in sorted(backups.rglob("*.tar*"), key=lambda path: path.name, reverse=True):
        scripts = _members(tar) if tar.suffix != ".partial" else []
        if any(each.id == revision for each in scripts):
            yield tar, scripts


def _members(path: Path) -> list[Revision]:
    found = []
    try:
        with tarfile.open(path) as tar:
            for each in tar:
                file = tar.extractfile(each) if each.isreg() else None
                raw = (
                    file.read(script_files.LARGEST_BYTES)
                    if file and script_files.is_script(Path(each.name))
                    else b""
                )
                script = parse(raw.decode(errors="replace"), Path(each.name))
                found += [script] if script else []
    except (OSError, tarfile.TarError, EOFError):
        return []  # a damaged one is the business of `invoke backups`
    return found
