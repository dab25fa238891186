"""Which database a branch of git has, as git's own configuration keeps it, and what follows that.

`branch.NAME.backsetDatabase` is "BASE DATABASE", both percent-encoded: the database that the
settings name, and the one that the branch has in its place. One key may have a value for each BASE
of the repository. All work trees share it; `git branch -m` renames it, `git branch -d` removes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from pathlib import Path

    from backset.settings.settings import Settings

_SECTION, _WORD = "branch.", "backsetDatabase"
_KEYS = r"^branch\..*\.backsetdatabase$"


def base_of(settings: Settings) -> str:
    """Return the name of the database that the settings themselves name."""
    return settings.target.database if settings.target else settings.database


def followed(settings: Settings) -> Settings:
    """Return the settings with the database of the branch that is checked out, if it has its own.

    Where no branch of the repository has one, its configuration is read, and git is not run.
    """
    if not settings.follows or not _is_spoken_of(settings.root):
        return settings
    entries = Entries(settings)
    branch = entries.git.branch()
    database = entries.databases.get(branch, entries.base)
    if database == entries.base:
        return settings
    if settings.target is None:
        return replace(settings, database=database, branch=branch)
    return replace(settings, target=settings.target.named(database), branch=branch)


class Entries:
    """The databases that branches have in the place of one: `databases`, by branch.

    The branch that has the base itself is among them. Raises StepFailedError outside of git.
    """

    def __init__(self, settings: Settings) -> None:
        from backset.revisions.git import Git  # noqa: PLC0415  (every task would pay)

        self.base = base_of(settings)
        self.git = Git(settings.root, settings.environ)
        self.databases: dict[str, str] = {}
        self.bases: dict[str, str] = {}  # of all databases that branches have, by their names
        self.read()

    def read(self) -> None:
        """Read them again: another run may have made one."""
        self.databases.clear()
        self.bases.clear()
        for key, value in self.git.said(_KEYS):
            branch = key.removeprefix(_SECTION)[: -len(_WORD) - 1]
            base, _, database = (unquote(each) for each in value.partition(" "))
            self.bases[database] = base
            if base == self.base:
                self.databases[branch] = database

    @property
    def holder(self) -> str:
        """The branch that has the base itself; empty where none does."""
        return next((each for each, name in self.databases.items() if name == self.base), "")

    def write(self, branch: str, database: str) -> None:
        """Let a branch have a database."""
        value = f"{quote(self.base, safe='')} {quote(database, safe='')}"
        self.git.say(f"{_SECTION}{branch}.{_WORD}", value, self._own)
        self.databases[branch] = database

    def remove(self, branch: str) -> None:
        """Let a branch have none."""
        self.git.unsay(f"{_SECTION}{branch}.{_WORD}", self._own)
        del self.databases[branch]

    @property
    def _own(self) -> str:
        """The expression of the values that are about this base."""
        return f"^{quote(self.base, safe='').replace('.', '[.]')} "


def _is_spoken_of(root: Path) -> bool:
    """Tell whether the configuration of a folder's repository has such a key, as a text."""
    file = _configuration(root)
    try:
        return file is not None and _WORD.lower().encode() in file.read_bytes().lower()
    except OSError:
        return False


def _configuration(root: Path) -> Path | None:
    """Return the file that all work trees of a folder's repository share, without asking git."""
    for folder in (root, *root.parents):
        place = folder / ".git"
        if place.is_dir():
            return place / "config"
        if place.is_file():  # of a work tree or a submodule: it says where the folder is
            own = folder / place.read_text(errors="replace").partition(":")[2].strip()
            shared = own / "commondir"
            return (own / shared.read_text().strip() if shared.is_file() else own) / "config"
    return None
