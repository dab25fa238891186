"""What of the project's migration scripts is out of use: old folders, stray files, byte code.

A file that something may still need is not stale: it is kept, with the reason.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backset.scripts import sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backset.scripts.revisions import Revision
    from backset.scripts.sources import Folders

_CONFIGURATION = ("*.ini", "*.toml", "*.cfg", "*.yml", "*.yaml", "Makefile")
_OURS = re.compile(r"version|migration|alembic", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stale:
    """One thing out of use, with its files, all regular ones below the project's root.

    kind: `folder`, `stray` or `bytecode`. path: of the file or folder. why: it is out of use.
    """

    kind: str
    path: Path
    why: str
    files: tuple[Path, ...]


@dataclass(slots=True)
class Found:
    """What is out of use, and what looks so but is kept: (path, why).

    elsewhere: folders with scripts that have nothing to do with these chains.
    """

    stale: list[Stale] = field(default_factory=list)
    kept: list[tuple[Path, str]] = field(default_factory=list)
    elsewhere: list[tuple[Path, str]] = field(default_factory=list)


def find(folders: Folders, loaded: Sequence[Revision]) -> Found:
    """Look through the project. `loaded` are the scripts of all chains, as Alembic loads them."""
    found = Found()
    for folder, scripts in _others(folders).items():
        _judge(folder, scripts, folders, found)
    for location in folders.locations:
        if not location.is_relative_to(folders.root):
            found.kept.append((location, "it is outside of the project"))
            continue
        _judge_strays(location, folders, found)
        _judge_duplicates(location, found)
        _judge_bytecode(location, loaded, found)
    return found


def _others(folders: Folders) -> dict[Path, list[Path]]:
    """Return the scripts that are in none of the version folders, by folder, outermost first."""
    paths = sources.walk(folders.root, {folders.backups})
    outside = (path for path in paths if sources.is_script(path) and not _is_home(path, folders))
    found: dict[Path, list[Path]] = defaultdict(list)
    for script in sources.read(outside):
        found[script.path.parent].append(script.path)
    return dict(sorted(found.items()))


def _is_home(path: Path, folders: Folders) -> bool:
    homes = path.parents if folders.recursive else path.parents[:1]
    return any(location in homes for location in folders.locations)


def _judge(folder: Path, scripts: list[Path], folders: Folders, found: Found) -> None:
    if any(folder.is_relative_to(each.path) for each in found.stale if each.kind == "folder"):
        return  # it goes with the one that it is in
    if why := _foreign(folder, folders):
        found.elsewhere.append((folder, why))
    elif mention := _mention(folder, folders):
        found.kept.append((folder, f"{folders.shown(mention)} names it"))
    elif _has_only_scripts(folder, folders):
        why = "it is not among Alembic's version folders"
        found.stale.append(Stale("folder", folder, why, tuple(_everything(folder))))
        links = (path for path in sorted(folder.rglob("*")) if path.is_symlink())
        found.kept += [(path, "no symlink is followed") for path in links]
    else:
        why = "its folder is not among Alembic's version folders"
        found.stale += [Stale("stray", path, why, (path,)) for path in scripts]


def _foreign(folder: Path, folders: Folders) -> str:
    """Return why the scripts in a folder are not these chains'; empty where they seem to be."""
    parents = {location.parent for location in folders.locations}
    for each in (folder, folder.parent):
        if each not in parents and (each / "env.py").is_file():
            return f"{folders.shown(each / 'env.py')} may load them"
    return "" if _is_beside(folder, folders) else "it is not beside the migrations"


def _is_beside(folder: Path, folders: Folders) -> bool:
    """Tell whether a folder is near to one of versions, and not among tests or examples."""
    for location in folders.locations:
        home = location.parent
        if home != folders.root and folder.is_relative_to(home):
            return True
        for base in (folders.root, home, home.parent):
            is_below = folder.is_relative_to(base) and base.is_relative_to(folders.root)
            if is_below and any(map(_OURS.search, folder.relative_to(base).parts[:1])):
                return True
    return False


def _mention(folder: Path, folders: Folders) -> Path | None:
    """Return a file of the configuration that names the folder, which may then be in use."""
    below = folder.relative_to(folders.root)
    name = "/".join(below.parts[-2:]) if below.name == "versions" else below.name
    word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    around = [folders.root, *(each.parent for each in folders.locations)]
    files = [path for each in around for glob in _CONFIGURATION for path in sorted(each.glob(glob))]
    files += [each / "env.py" for each in around]
    for path in files:
        if path.is_file() and word.search(path.read_text(encoding="utf-8", errors="replace")):
            return path
    return None


def _has_only_scripts(folder: Path, folders: Folders) -> bool:
    """Tell whether a folder is one of versions, and not one of modules with a script among them."""
    if folder == folders.root or any(each.is_relative_to(folder) for each in folders.locations):
        return False
    modules = [path for path in sources.walk(folder) if sources.LOADED.match(path.name)]
    return len(list(sources.read(modules))) == len(modules)


def _everything(folder: Path) -> Iterator[Path]:
    yield from sources.walk(folder)
    yield from (path for path in sorted(folder.rglob("__pycache__/*")) if _is_regular(path))


def _judge_strays(location: Path, folders: Folders, found: Found) -> None:
    for path in sorted(location.iterdir()) if location.is_dir() else ():
        odd = _is_regular(path) and sources.is_script(path) and not folders.loads(path)
        if odd and path.name != "__init__.py" and list(sources.read([path])):
            why = "Alembic does not load a file of this name"
            found.stale.append(Stale("stray", path, why, (path,)))


def _judge_duplicates(location: Path, found: Found) -> None:
    """Take all but one of the files that have one id and the same bytes: Alembic takes any."""
    by_id: dict[str, list[Path]] = defaultdict(list)
    for script in sources.read(filter(_is_regular, sorted(location.glob("*.py")))):
        by_id[script.id].append(script.path)
    for revision, several in by_id.items():
        first, *more = sorted(several, key=lambda path: (len(path.name), path.name))
        for path in more:
            if path.read_bytes() == first.read_bytes():
                why = f"{first.name} has the same revision {revision}, and the same bytes"
                found.stale.append(Stale("stray", path, why, (path,)))
            else:
                why = f"{first.name} has the same revision {revision}, but differs: choose one"
                found.kept.append((path, why))


def _judge_bytecode(location: Path, loaded: Sequence[Revision], found: Found) -> None:
    """Take byte code whose source is gone, unless the chain needs it or is made of it."""
    if not any(location.glob("*.py")):
        return
    needed = {name for each in loaded for name in each.needs if each.path.suffix == ".py"}
    needed = {str(each.path) for each in loaded if each.id in needed}
    for path in sorted([*location.glob("*.pyc"), *location.glob("__pycache__/*.pyc")]):
        source = f"{path.name.split('.')[0]}.py"
        if not _is_regular(path) or (location / source).exists():
            continue
        if str(path) in needed:
            found.kept.append((path, "a migration follows it: bring its source back first"))
        else:
            found.stale.append(Stale("bytecode", path, f"{source} is gone", (path,)))


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
