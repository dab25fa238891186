"""A chain of before: the project as a commit has it, or today's with a folder of old revisions."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backset.configuration.locations import configurations
from backset.configuration.values import ALL_HEADS
from backset.errors import StepFailedError
from backset.processes.identity import is_alive
from backset.scripts.git import Git

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.configuration.lineage import Lineage
    from backset.configuration.settings import Settings

_PREFIX = "backset-tree-"
_CHOOSE = "name a commit, a branch or a tag, or a folder of old revisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain of revisions: whose project it belongs to, and what it is called.

    versions: a folder of revisions in place of those that the project's configuration names.
    """

    settings: Settings
    shown: str
    versions: Path | None = None


@contextmanager
def opened(settings: Settings, old: str) -> Iterator[Chain]:
    """Give the chain that `old` means: a folder with revisions in it, else a commit.

    A commit is written into a temporary folder that nobody else can read, with its own env.py and
    its own models; its children get today's environment. A folder gets today's env.py and models.
    Raises StepFailedError if `old` is neither.
    """
    if folder := _folder(settings, old):
        if len(settings.lineages) > 1:
            what = "the settings have several chains, and a folder of old revisions is one"
            raise StepFailedError(what, "name a commit, a branch or a tag")
        ends = _to_all_heads(settings)
        yield Chain(settings=ends, shown=_shown_folder(settings, folder), versions=folder)
        return
    commit, git = _commit(settings, old)
    _remove_dead()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as temporary:
        tree = Path(temporary).resolve() / "tree"
        git.export(commit, tree)
        yield Chain(settings=_moved(settings, tree, git), shown=_shown_commit(old, commit))


def _remove_dead() -> None:
    """Remove the trees of our own runs that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):  # it is somebody else's, or just going
            if path.lstat().st_uid == os.getuid() and pid.isdecimal() and not is_alive(int(pid)):
                shutil.rmtree(path)


def named(settings: Settings, old: str) -> str:
    """Say what opened() would give; write nothing. Raises StepFailedError as that does."""
    if folder := _folder(settings, old):
        return f"{_shown_folder(settings, folder)} with today's env.py"
    commit, _ = _commit(settings, old)
    return f"the project of {_shown_commit(old, commit)}"


def _shown_folder(settings: Settings, folder: Path) -> str:
    root = settings.root
    return f"the folder {folder.relative_to(root) if folder.is_relative_to(root) else folder}"


def _shown_commit(old: str, commit: str) -> str:
    return commit[:10] if commit.startswith(old) else f"{old}, commit {commit[:10]}"


def _folder(settings: Settings, old: str) -> Path | None:
    """Return the folder that has the revisions: `old`, or the only one below it that has some."""
    folder = settings.root / Path(old).expanduser()
    if not old or not folder.is_dir():
        return None
    found = {path.parent for path in folder.rglob("*.py") if path.name != "__init__.py"}
    if folder in found or len(found) == 1:
        return folder if folder in found else found.pop()
    names = ", ".join(sorted(str(each.relative_to(folder)) for each in found)) or "none"
    raise StepFailedError(f"{old} has no revision; folders in it that have some: {names}", _CHOOSE)


def _commit(settings: Settings, old: str) -> tuple[str, Git]:
    git = Git(settings.root, settings.environ)
    commit = git.commit_id(old) if old and not old.startswith("-") else None
    if commit is None:
        raise StepFailedError(
            f"{old!r} is neither a commit of this repository nor a folder", _CHOOSE
        )
    return commit, git


def _moved(settings: Settings, tree: Path, git: Git) -> Settings:
    """Return today's settings for the project in another tree, whose modules come first."""
    root = tree / git.prefix
    if not root.is_dir():
        raise StepFailedError(f"{git.prefix} does not exist in that commit", _CHOOSE)
    modules = [str(each) for each in (root / "src", root) if each.is_dir()]
    path = os.pathsep.join([*modules, *filter(None, [settings.environ.get("PYTHONPATH")])])
    there = tuple(_found(each, settings.root, root) for each in settings.lineages)
    return replace(
        _to_all_heads(replace(settings, lineages=there)),
        root=root,
        environ={**settings.environ, "PYTHONPATH": path},
    )


def _to_all_heads(settings: Settings) -> Settings:
    """Let every chain go to all its heads: several of them may be why it was squashed."""
    lineages = tuple(replace(each, heads=ALL_HEADS) for each in settings.lineages)
    return replace(settings, lineages=lineages)


def _found(lineage: Lineage, today: Path, root: Path) -> Lineage:
    """Return the lineage with its configuration where that is in the other tree."""
    config = Path(lineage.config)
    if lineage.config and config.is_absolute() and config.is_relative_to(today):
        config = config.relative_to(today)
    if lineage.config and (root / config).is_file():
        return replace(lineage, config=str(config))
    return replace(lineage, config=next(iter(configurations(root)), lineage.config))
