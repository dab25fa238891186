"""What of the project's migration scripts is out of use, and the tar that it is put away in.

A file that something may still need is not stale: it is kept, with the reason. The tar is written
beside and read back whole, and only then are the files removed: interrupted at any moment, each is
in the tree, or in a complete tar, or in both.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Literal

from backset.described import described, key
from backset.errors import StepFailedError
from backset.process.files import hide, locked, make, replacing
from backset.revisions import script_files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from backset.revisions.script_files import Folders, Revision

_CONFIGURATION = ("*.ini", "*.toml", "*.cfg", "*.yml", "*.yaml", "Makefile")
_OURS = re.compile(r"version|migration|alembic", re.IGNORECASE)

StaleKind = Literal["folder", "stray", "bytecode"]


@dataclass(frozen=True, slots=True)
class Stale:
    """One thing out of use, with its files, all regular ones below the project's root.

    path: of the file or folder. why: it is out of use.
    """

    kind: StaleKind
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


@described()
class StaleFile:
    """One file that is out of use, in the `files` of a stale script."""

    path: str = key("from the project's root")
    in_git: bool = key("whether git has it, so that it is in the repository too")


@described(kw_only=True)
class StaleScript:
    """One thing that is out of use, in `stale`."""

    kind: StaleKind = key(
        "an old version folder, a file that Alembic does not load, or byte code without source"
    )
    path: str = key("of the file or folder, from the project's root")
    why: str = key("why it is out of use")
    files: tuple[StaleFile, ...] = key("all that goes with it")


@described(kw_only=True)
class KeptScript:
    """What looks out of use and stays, in `kept`."""

    path: str = key("of the file or folder, from the project's root")
    why: str = key("why it stays")


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
    paths = script_files.walk(folders.root, {folders.backups})
    outside = (
        path for path in paths if script_files.is_script(path) and not _is_home(path, folders)
    )
    found: dict[Path, list[Path]] = defaultdict(list)
    for script in script_files.read(outside):
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
    modules = [path for path in script_files.walk(folder) if script_files.LOADED.match(path.name)]
    return len(list(script_files.read(modules))) == len(modules)


def _everything(folder: Path) -> Iterator[Path]:
    yield from script_files.walk(folder)
    yield from (path for path in sorted(folder.rglob("__pycache__/*")) if _is_regular(path))


def _judge_strays(location: Path, folders: Folders, found: Found) -> None:
    for path in sorted(location.iterdir()) if location.is_dir() else ():
        odd = _is_regular(path) and script_files.is_script(path) and not folders.loads(path)
        if odd and path.name != "__init__.py" and list(script_files.read([path])):
            why = "Alembic does not load a file of this name"
            found.stale.append(Stale("stray", path, why, (path,)))


def _judge_duplicates(location: Path, found: Found) -> None:
    """Take all but one of the files that have one id and the same bytes: Alembic takes any."""
    by_id: dict[str, list[Path]] = defaultdict(list)
    for script in script_files.read(filter(_is_regular, sorted(location.glob("*.py")))):
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


def pack(files: Iterable[Path], root: Path, folder: Path, moment: datetime) -> dict[Path, str]:
    """Put files below `root` into the tar of `moment` in `folder`; return each one's SHA-256.

    The tar has its name only when it is on the disk and was read back whole. Raises
    StepFailedError, and LockedError where another run is at it.
    """
    return pack_into(path_of(folder, moment), files, root, rubbish="scripts-*.tar.partial")


def pack_into(final: Path, files: Iterable[Path], root: Path, *, rubbish: str) -> dict[Path, str]:
    """Do so with the tar of that path; one that ends in `.gz` is compressed.

    rubbish: what killed runs have left in its folder, which goes.
    """
    partial = final.with_name(f"{final.name}.partial")
    make(final.parent)
    hide(final.parent)
    with locked(final.parent, "an archive"):
        for each in final.parent.glob(rubbish):
            each.unlink()
        try:
            with replacing(final, partial=partial) as file:
                hashes = _write(file, files, root, "w:gz" if final.suffix == ".gz" else "w")
                _compare(partial, {name: each for _path, name, each in hashes})
        except OSError as error:
            what = f"{error.filename}: {error.strerror}; nothing was removed"
            raise StepFailedError(what, "mend that, then run this again") from None
    return {path: each for path, _name, each in hashes}


def path_of(folder: Path, moment: datetime) -> Path:
    """Return the path of the tar of a moment."""
    return folder / f"scripts-{stamp(moment)}.tar"


def stamp(moment: datetime) -> str:
    """Return a moment of UTC as names of files have it."""
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z"


def remove(hashes: Mapping[Path, str], root: Path, kept: Collection[Path]) -> list[Path]:
    """Remove the files that still are as they were packed; return those that are not.

    Folders below `root` that become empty by that go, too, but for those in `kept`.
    """
    changed = []
    for path, expected in hashes.items():
        try:
            is_same = _sha256(_read(path, root)[1]) == expected
        except (OSError, StepFailedError):
            is_same = False
        if is_same:
            path.unlink()
        else:
            changed.append(path)
    parents = {parent for path in hashes for parent in path.parents if root in parent.parents}
    for parent in sorted(parents.difference(kept), key=lambda each: -len(each.parts)):
        with suppress(OSError):  # it is not empty
            parent.rmdir()
    return changed


def _write(
    file: BinaryIO, paths: Iterable[Path], root: Path, mode: Literal["w", "w:gz"]
) -> list[tuple[Path, str, str]]:
    found = []
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            about, content = _read(path, root)
            # Not tar.gettarinfo(): of a hard link it would pack the name alone.
            member = tarfile.TarInfo(path.relative_to(root).as_posix())
            member.size, member.mtime = len(content), about.st_mtime
            member.mode = stat.S_IMODE(about.st_mode)
            tar.addfile(member, io.BytesIO(content))
            found.append((path, member.name, _sha256(content)))
    file.flush()
    return found


def _compare(partial: Path, expected: Mapping[str, str]) -> None:
    """Read the tar back. Raises StepFailedError where it is not what was written."""
    found = {}
    with tarfile.open(partial) as tar:
        for member in tar:
            file = tar.extractfile(member)
            found[member.name] = _sha256(file.read()) if file else ""
    if found != dict(expected):
        what = f"{partial} does not read back as it was written; nothing was removed"
        raise StepFailedError(what, "look at the disk, then run this again")


def _read(path: Path, root: Path) -> tuple[os.stat_result, bytes]:
    """Return a regular file's state and content. Raises StepFailedError where it is none."""
    if path.parent.resolve() != path.parent or root not in path.parents:
        raise StepFailedError(f"{path} is not in the project", "look where its folder leads")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise StepFailedError(f"{path} is no regular file", "look what it is")
        return about, file.read()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def told(stale: Stale, folders: Folders, tracked: Collection[Path]) -> StaleScript:
    """Return what programs get of it. tracked: the files that git has."""
    return StaleScript(
        kind=stale.kind,
        path=folders.shown(stale.path),
        why=stale.why,
        files=tuple(StaleFile(folders.shown(each), each in tracked) for each in stale.files),
    )
