"""What a build depended on outside of the server, hashed: files, folders, packages, variables."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backset.catalog import catalog
from backset.inherit import cluster_wide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    Account = Mapping[str, Any]  # what the worker's tracer says
    Parts = dict[str, str]  # what each thing is called → a hash of it

    from backset.connections.session import Session

EVERY = "*"  # among the names of variables: somebody went through all of them
# What a terminal, a session or a run of tests puts there; it differs where nothing else does.
_NOISE = re.compile(
    "_|PWD|OLDPWD|SHLVL|TERM.*|COLORTERM|COLUMNS|LINES|LS_COLORS|LESS.*|PAGER|EDITOR|VISUAL|PS1"
    "|WINDOWID|DISPLAY|WAYLAND_DISPLAY|TMUX.*|STY|SSH_.*|XDG_SESSION_.*|XDG_ACTIVATION_TOKEN"
    "|DBUS_SESSION_BUS_ADDRESS|GPG_.*|INVOCATION_ID|JOURNAL_STREAM|HISTFILE|VSCODE_.*|PGAPPNAME"
    "|PYTEST_CURRENT_TEST|PYTEST_XDIST_.*|PYTHONPYCACHEPREFIX|PYTHONDONTWRITEBYTECODE"
)


def parts(account: Account, chosen: Iterable[Path]) -> Parts:
    """Return a hash of each thing that the account tells of, as it is now.

    chosen: files that the settings name.
    """
    found = {path: _content(path) for path in [*account["files"], *map(str, chosen)]}
    for folder in account["folders"]:
        found[f"the folder {folder}"] = digest(_names(folder))
    looks = {path: _kind(path) for path in account["looks"]}
    return {
        **found,
        "a file that is looked for": digest(looks),
        "a module that can be imported": digest(sorted(_importable(account))),
        "an installed package": digest(states(_installed(account))),
    }


def variables(names: Iterable[str], environ: Mapping[str, str]) -> str:
    """Return a hash of variables; EVERY among the names stands for all of them."""
    wanted = set(names)
    wanted |= environ.keys() if EVERY in wanted else set()
    return digest({name: environ.get(name) for name in wanted if not _NOISE.fullmatch(name)})


def difference(old: Mapping[str, str], new: Mapping[str, str], root: Path) -> str:
    """Return in words the first thing that is not as it was; empty if everything is."""
    for name in [*old, *new]:
        if old.get(name) != new.get(name):
            shown = name.replace(f"{root}{os.sep}", "")
            return f"{shown} is new" if name not in old else f"{shown} has changed"
    return ""


def restless(account: Account, chosen: Iterable[Path], since_ns: int) -> str:
    """Return what may have changed while it was read; then nobody knows what was built from it.

    since_ns: when the run began, in nanoseconds. A file's ctime nobody can set back.
    """
    for path, kind in [*account["files"].items(), *account["looks"].items()]:
        if _kind(path) != kind:
            return str(path)
    for folder, names in account["folders"].items():
        if _names(folder) != _counted(names):
            return str(folder)
    read = [path for path, kind in account["files"].items() if kind == "f"]
    read += [*map(str, chosen), *_importable(account), *_installed(account)]
    return next((path for path in read if _has_changed(path, since_ns)), "")


def outside(account: Account, folders: Sequence[Path]) -> dict[str, Any]:
    """Return an account without what is in `folders`, which every run writes to."""
    inside = tuple(f"{each}{os.sep}" for each in folders)
    trimmed = {
        key: {path: what for path, what in account[key].items() if not path.startswith(inside)}
        for key in ("files", "looks", "folders")
    }
    return {**account, **trimmed}


def states(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return size and time of files that nobody edits: their bytes are not read."""
    return {path: _state(path) for path in paths}


def digest(content: object) -> str:
    """Return 32 hexadecimal digits of anything that JSON can say."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _content(path: str) -> str:
    """Return a hash of a file's bytes; of another thing, what it is."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (hundreds of them)
            return hashlib.sha256(file.read()).hexdigest()[:32]
    except OSError:
        return f"no file: {_kind(path)}"


def _kind(path: str) -> str:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return ""
    return "f" if stat.S_ISREG(mode) else "d" if stat.S_ISDIR(mode) else "o"


def _state(path: str) -> tuple[int, int]:
    try:
        about = os.stat(path)  # noqa: PTH116
    except OSError:
        return (0, 0)
    return about.st_size, about.st_mtime_ns


def _has_changed(path: str, since_ns: int) -> bool:
    """Tell whether something has changed; of a package its byte code is nothing that counts."""
    byte_code = os.path.join(path, "__pycache__")  # noqa: PTH118
    return _changed_at(path) >= since_ns > _changed_at(byte_code)


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_ctime_ns  # noqa: PTH116
    except OSError:
        return 0


def _names(folder: str) -> list[str] | None:
    try:
        return _counted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return None


def _counted(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name != "__pycache__")


def _importable(account: Account) -> Iterator[str]:
    """Yield what stands where modules are looked for, under a name that was tried to import."""
    tried = set(account["tried"])
    for folder in account["searched"]:
        for name in _names(folder) or ():
            if name.partition(".")[0] in tried or name.endswith((".dist-info", ".egg-info")):
                yield os.path.join(folder, name)  # noqa: PTH118


def _installed(account: Account) -> Iterator[str]:
    for folder, names in account["installed"].items():
        yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118


def chosen(root: Path, globs: Iterable[str]) -> list[Path]:
    """Return the files that patterns of the settings name."""
    found = set()
    for pattern in globs:
        with suppress(OSError):
            found |= {path for path in root.glob(pattern) if path.is_file()}
    return sorted(found)


def look(session: Session, extensions: Sequence[str]) -> Parts:
    """Return a hash of each, as a session on the maintenance database sees it.

    extensions: those whose files at the server the build depended on.
    """
    version, role, settings = session.execute(_QUERY).fetchone() or ("", "", "")
    found = {
        "the server": digest([catalog.server_id(session), version]),
        "the role": digest(role),
        "a setting of the server": digest(settings),
        "a role of the server": cluster_wide.look(session).server,
    }
    if extensions:
        versions = session.execute(_EXTENSIONS, [list(extensions)]).fetchall()
        found["an extension of the server"] = digest(versions)
    return found


# What a session gets from elsewhere than itself; those of the target are among its properties.
_QUERY = """
SELECT version(), current_user, (
    SELECT jsonb_object_agg(name, setting) FROM pg_settings
    WHERE source NOT IN ('default', 'override', 'client', 'session')
)
"""
_EXTENSIONS = """
SELECT name, default_version FROM pg_available_extensions WHERE name = ANY(%s) ORDER BY name
"""
