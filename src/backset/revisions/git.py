"""The only user of git: questions about the repository that the project is in.

Changes nothing but keys of its configuration that are ours.
"""

from __future__ import annotations

import ast
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import IO, TYPE_CHECKING

from backset.described import described, key
from backset.errors import StepFailedError
from backset.process.process import Child, last_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_PATIENCE_S = 60.0  # ten thousand commits take less than one
_AT_ONCE = 200  # refs or paths in one command line
_LOOK = "git log --all in the repository shows more"
_HEADS = "refs/heads/"
_NAME = "--format=%(refname)"
_STARTED, _MOVED = "branch: Created from ", "checkout: moving from "  # of reflogs
_FORMAT = "--format=%x01%H%x02%P%x02%an%x02%aI%x02%s"
# A hook's variables would lead to another repository than the one of the folder.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_EXTERNAL_DIFF")
_PLAIN = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",  # a partial clone would ask its server for every file
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_CONFIG = ("core.quotePath=true", "log.showRoot=true", "log.showSignature=false", "color.ui=false")


@described(kw_only=True)
class Commit:
    """A commit with the paths that it added, changed and removed, from the repository's top.

    parents: ids, the first one first.
    """

    id: str = key("its full id", "commit")
    parents: tuple[str, ...]
    author: str = key("who wrote it")
    moment: str = key("when, in ISO 8601", "date")
    subject: str = key("the first line of its message")
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The beginning of its id."""
        return self.id[:10]


class Git:
    """The repository of a folder.

    top: its outermost folder. prefix: the folder as seen from there, empty or with `/` at its end.
    is_shallow: whether its history was cut. Raises StepFailedError where there is no git or no
    repository, and later when git fails or takes too long.
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._env = {name: text for name, text in env.items() if name not in _FOREIGN} | _PLAIN
        self.top = folder
        asked = ("--show-toplevel", "--is-shallow-repository", "--show-prefix")
        top, shallow, *prefix = self._lines("rev-parse", *asked)
        self.top = Path(top)
        self.is_shallow = shallow == "true"
        self.prefix = prefix[0] if prefix else ""

    def touching(self, expression: str, *, reflog: bool = False) -> list[Commit]:
        """Return the commits that added or removed such a line of a script, the newest first.

        They are those of all refs, or those that only the reflog knows. Not by -S, which with an
        expression takes three times as long, and of a short revision finds every commit.
        """
        which = ["--reflog", "--not", "--all"] if reflog else ["--all"]
        # --full-history: else a branch whose changes a merge threw away would not be looked at.
        options = ("--full-history", "--diff-filter=AMD", f"-G{expression}")
        return self._log(*which, *options, "--", "*.py")

    def removing(self, paths: Sequence[str]) -> list[Commit]:
        """Return the commits that lack one of `paths` which a parent has, merges included."""
        found = self._log("--all", "-m", "--full-history", "--diff-filter=D", "--", *paths)
        return list({each.id: each for each in reversed(found)}.values())[::-1]

    def commit(self, name: str) -> Commit:
        """Return one commit with everything that it added and removed."""
        return self._log("-1", "-m", "--first-parent", name)[0]

    def tips(self) -> list[str]:
        """Return the names of all branches, here and of remotes, and of all tags."""
        kinds = ("refs/heads", "refs/remotes", "refs/tags")
        lines = self._lines("for-each-ref", "--format=%(refname:short) %(symref)", *kinds)
        return [name for name, _, alias in (line.partition(" ") for line in lines) if not alias]

    def holding(
        self, names: Sequence[str], expression: str, paths: Sequence[str]
    ) -> list[tuple[str, str]]:
        """Return which of these commits have which of `paths` with a line like `expression`."""
        found = []
        for some in _portions(names):
            arguments = ("-I", "-l", "-E", "-e", expression, *some, "--", *map(_literal, paths))
            found += [line.partition(":") for line in self._grep(*arguments)]
        return [(name, _unquoted(path)) for name, _, path in found]

    def blobs(self, places: Sequence[str]) -> list[str]:
        """Return the ids of files, each given as `commit:path`, the path from the top."""
        found: list[str] = []
        for some in _portions(places):
            found += self._lines("rev-parse", *some)
        return found

    def resolved(self, name: str) -> str:
        """Return the id of the commit that has that name."""
        return self._lines("rev-parse", f"{name}^{{commit}}")[0]

    def texts(self, name: str, paths: Sequence[str]) -> dict[str, str]:
        """Return the text of files of a commit; `paths` may be folders."""
        lines: dict[str, list[str]] = {}
        for some in _portions(paths):
            for line in self._grep("-I", "-z", "-e", "", name, "--", *map(_literal, some)):
                place, _, text = line.partition("\0")
                lines.setdefault(place.removeprefix(f"{name}:"), []).append(text)
        return {path: "\n".join(each) + "\n" for path, each in lines.items()}

    def content(self, commit: str, path: str) -> bytes:
        """Return a file of a commit, from the top, as a checkout would write it."""
        with TemporaryFile() as file:
            arguments = ("cat-file", "--filters", f"{commit}:{path}")
            self._checked("cat-file", *self._run(*arguments, output=file))
            file.seek(0)
            return file.read()

    def gone(self, commit: str, folders: Sequence[str]) -> set[str]:
        """Return the files in folders of a commit that the work tree lacks; all from the top."""
        options = ("-z", "--name-only", "--no-renames", "--diff-filter=D")
        return set(self._zero_terminated("diff", *options, commit, "--", *map(_literal, folders)))

    def is_ancestor(self, commit: str, of: str = "HEAD") -> bool:
        """Tell whether a commit is part of the history of another."""
        return self._run("merge-base", "--is-ancestor", commit, of)[0] == 0

    def commit_id(self, name: str) -> str | None:
        """Return the id of the commit that a branch, a tag or the like means, if any."""
        asked = ("--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        status, lines = self._run("rev-parse", *asked)
        return lines[0] if status == 0 and lines else None

    def branch(self) -> str:
        """Return the branch that is checked out in this work tree; empty where HEAD is detached."""
        status, lines = self._run("symbolic-ref", "--quiet", "HEAD")
        return lines[0].removeprefix(_HEADS) if status == 0 and lines else ""

    def branches(self) -> list[str]:
        """Return the names of the branches that are here."""
        return [each.removeprefix(_HEADS) for each in self._lines("for-each-ref", _NAME, _HEADS)]

    def origin(self, branch: str) -> str:
        """Return the branch from which another one was started, as the reflogs have it; or none."""
        there = set(self.branches())
        _, began = self._run("reflog", "show", "--format=%gs", f"{_HEADS}{branch}", "--")
        if not began or not began[-1].startswith(_STARTED):
            return ""
        moved = (each.partition(" to ") for each in self._run("reflog", "--format=%gs")[1])
        left = [a.removeprefix(_MOVED) for a, _, to in moved if to == branch and _MOVED in a]
        found = [began[-1].removeprefix(_STARTED).removeprefix(_HEADS), *left[::-1]]
        return next((each for each in found if each in there and each != branch), "")

    def said(self, keys: str) -> list[tuple[str, str]]:
        """Return the keys that match a regular expression, in small letters, with their values."""
        status, lines = self._run("config", "-z", "--get-regexp", keys)
        several = "\n".join(lines).split("\0") if status == 0 else []
        return [(key, value) for key, _, value in (each.partition("\n") for each in several) if key]

    def say(self, key: str, value: str, instead_of: str) -> None:
        """Give a key a value in the place of those that match an expression, for all work trees."""
        self._lines("config", "--local", "--replace-all", key, value, instead_of)

    def unsay(self, key: str, values: str) -> None:
        """Take the values of a key away that match an expression."""
        self._run("config", "--local", "--unset-all", key, values)

    def hooks(self) -> Path:
        """Return the folder from which git takes its hooks; it may not exist."""
        return self.top / self._lines("rev-parse", "--git-path", "hooks")[0]

    def export(self, commit: str, folder: Path) -> None:
        """Write the files of a commit into a folder; the work tree and its index stay as they are.

        Not by `git archive`, which leaves out what .gitattributes keeps from releases.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        index = {"GIT_INDEX_FILE": f"{folder}.index", "GIT_LFS_SKIP_SMUDGE": "1"}
        self._lines("read-tree", commit, env=index)
        self._lines("checkout-index", "--all", "--quiet", f"--prefix={folder}/", env=index)

    def tracked(self, folder: str) -> set[str]:
        """Return the files in a folder, or all there are, that git knows; from the top."""
        return set(self._zero_terminated("ls-files", "-z", "--full-name", "--", _literal(folder)))

    def changes(self, folders: Sequence[Path]) -> list[str]:
        """Return the files in folders that are not as the last commit has them, from the top.

        Those that git does not know count; those that it ignores do not.
        """
        options = ("-z", "--porcelain=v1", "--untracked-files=all", "--no-renames")
        paths = [_literal(_below(self.top, each)) for each in folders]
        found = self._zero_terminated("status", *options, "--ignore-submodules=all", "--", *paths)
        return [each[3:] for each in found]

    def _log(self, *arguments: str) -> list[Commit]:
        options = ("--no-renames", "--no-textconv", "--no-ext-diff", "--name-status", _FORMAT)
        return list(_commits(self._lines("log", *options, *arguments)))

    def _grep(self, *arguments: str) -> list[str]:
        options = ("--no-line-number", "--no-column", "--full-name", "--no-textconv")
        status, lines = self._run("grep", *options, *arguments)
        return [] if status == 1 else self._checked("grep", status, lines)

    def _zero_terminated(self, *arguments: str) -> Iterator[str]:
        yield from filter(None, "\n".join(self._lines(*arguments)).split("\0"))

    def _lines(
        self, command: str, *arguments: str, env: Mapping[str, str] = MappingProxyType({})
    ) -> list[str]:
        return self._checked(command, *self._run(command, *arguments, env=env))

    def _checked(self, command: str, status: int, lines: list[str]) -> list[str]:
        if status == 0:
            return lines
        words = last_words(lines)
        if "not a git repository" in words:
            raise StepFailedError("the project is in no git repository", "there is no history")
        raise StepFailedError(f"git {command} failed: {words}", _LOOK)

    def _run(
        self,
        *arguments: str,
        env: Mapping[str, str] = MappingProxyType({}),
        output: IO[bytes] | None = None,
    ) -> tuple[int, list[str]]:
        lines: list[str] = []
        config = [word for each in _CONFIG for word in ("-c", each)]
        argv = ["git", "--no-pager", *config, *arguments]
        environment = {**self._env, **env}
        with Child(
            argv, env=environment, cwd=self.top, on_line=lines.append, output=output
        ) as child:
            if not child.has_ended(_PATIENCE_S):
                what = f"git {arguments[0]} was given up after {_PATIENCE_S:.0f} s"
                raise StepFailedError(what, _LOOK)
            return child.wait(), lines


def _commits(lines: Iterable[str]) -> Iterator[Commit]:
    """Read `git log --name-status` in our format."""
    head: list[str] = []
    changes: list[tuple[str, str]] = []
    for line in [*lines, "\1"]:
        if line.startswith("\1"):
            if head:
                yield _commit(head, changes)
            head, changes = line[1:].split("\2"), []
        elif "\t" in line:
            status, _, path = line.partition("\t")
            changes.append((status, _unquoted(path)))


def _commit(head: Sequence[str], changes: Sequence[tuple[str, str]]) -> Commit:
    identity, parents, author, moment, subject = head
    return Commit(
        id=identity,
        parents=tuple(parents.split()),
        author=author,
        moment=moment,
        subject=subject,
        added=tuple(path for status, path in changes if status == "A"),
        changed=tuple(path for status, path in changes if status == "M"),
        removed=tuple(path for status, path in changes if status == "D"),
    )


def _unquoted(path: str) -> str:
    """Return a path without the quotes that git puts round a strange one, as C does."""
    if not path.startswith('"'):
        return path
    raw: bytes = ast.literal_eval(f"b{path}")
    return raw.decode(errors="replace")


def _below(top: Path, path: Path) -> str:
    return path.resolve().relative_to(top.resolve()).as_posix()


def _literal(path: str) -> str:
    return f":(top,literal){path}"


def _portions(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))
