"""Notes what the project's code depends on: files, folders, variables, and what cannot be known.

If none of it has changed, the same code makes the same database. Python's audit events tell of each
file and folder that is opened; that one is missing, and variables, are noted where they are asked
for.
"""

from __future__ import annotations

import os
import sys
from importlib.util import source_from_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .callers import Callers
from .elsewhere import FORKS, STARTS, Elsewhere
from .variables import AskedVariables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LISTS = frozenset({"os.listdir", "os.scandir"})
_TEMPORARY = frozenset({"tempfile.mkdtemp", "tempfile.mkstemp"})
_WRITES = os.O_WRONLY | os.O_RDWR
_NOWHERE = ("/proc/", "/sys/", "/dev/")
_CACHE = "/__pycache__/"
# Imported where multiprocessing starts a process, of which no audit event tells.
_SPAWNS = frozenset(f"multiprocessing.popen_{way}" for way in ("spawn_posix", "forkserver"))
_IMPORTS = ("<frozen importlib", os.path.join("importlib", "metadata"), "importlib_metadata")


class InputTracer:
    """What is asked for from now on, until the process ends: an audit hook cannot be removed.

    variables: those that are asked for. elsewhere: programs and servers; it is told the port of
    the agreed one.
    """

    def __init__(self) -> None:
        self._callers = Callers()
        self.variables = AskedVariables(self._callers)
        self.elsewhere = Elsewhere(self._callers)
        self._files = {}  # type: dict[str, str]  # what stood at each path that was read
        self._looks = {}  # type: dict[str, str]  # at each that was only looked at
        self._folders = {}  # type: dict[str, list[str]]  # the names in them, as they were seen
        self._written = set()  # type: set[str]
        self._temporary = set()  # type: set[str]  # what nobody but this process has
        self._tried = set()  # type: set[str]
        self._stat, self._listdir = os.stat, os.listdir
        self._is_ours = False
        self._watch_looks()
        sys.meta_path.insert(0, _Names(self._tried))
        sys.addaudithook(self._hear)

    def account(self) -> dict[str, Any]:
        """Return all of it.

        files, looks: `f`, `d`, `o` (another thing) or nothing stood at each path. folders: their
        names. searched, tried: the folders of imports, and the names that count in them.
        installed: files of packages and of Python, by folder. programs: their paths, those of
        libraries. variables, own, fields, prefixes: as AskedVariables has them. unknown: what
        depends on more than that, in words, each with its names.
        """
        modules, asked = list(sys.modules.items()), self.variables
        forked = {"forks": ["fork"]} if _SPAWNS & sys.modules.keys() else {}
        for _, module in modules:
            if path := _attribute(module, "__file__"):
                self._read(path)
        read = {path: kind for path, kind in self._files.items() if path not in self._written}
        looks = {path: kind for path, kind in self._looks.items() if path not in self._files}
        installed = {}  # type: dict[str, list[str]]
        for path in filter(self._callers.is_installed, read):
            installed.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
        return {
            "files": {path: read[path] for path in self._ours(read)},
            "looks": {path: looks[path] for path in self._ours(looks)},
            "folders": {path: self._folders[path] for path in self._ours(self._folders)},
            "searched": sorted(self._searched(modules)),
            "tried": sorted(self._tried | {name.rpartition(".")[2] for name, _ in modules}),
            "installed": installed,
            "programs": sorted(self.elsewhere.programs),
            "variables": sorted(asked.names),
            "own": sorted(asked.own),
            "fields": sorted(asked.fields),
            "prefixes": sorted(asked.prefixes),
            "unknown": {**self.elsewhere.unknown(), **forked},
        }

    def _ours(self, paths: Iterable[str]) -> list[str]:
        """Return those that people edit, and no package manager, and no process for itself."""
        passing = tuple(self._temporary)
        return [
            path
            for path in paths
            if not (self._callers.is_installed(path) or f"{path}{os.sep}".startswith(passing))
        ]

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Note an event; most of them are of no interest, and there are very many."""
        if event == "open":
            self._open(*args)
        elif event in _LISTS:
            self._list(args[0], sys._getframe(1).f_code.co_filename)  # noqa: SLF001
        elif event == "sqlite3.connect":
            self._read(_file_of(_text(args[0])))
        elif event == "socket.__new__":
            self.elsewhere.made(args[0])
        elif event == "socket.connect":
            self.elsewhere.connect(*args)
        elif event in _TEMPORARY:
            self._temporary.add(f"{_absolute(args[0])}{os.sep}")
        elif event in STARTS:
            self.elsewhere.start(event, args, sys._getframe(1))  # noqa: SLF001
        elif event in FORKS:
            self.elsewhere.fork()

    def _open(self, path: Any, mode: Any, flags: Any) -> None:
        writes = set(mode) & set("wax+") if isinstance(mode, str) else flags & _WRITES
        name = _absolute(path)
        if name and writes:
            if name not in self._files:  # else what was read counts
                self._written.add(name)
        elif name:
            self._read(name)

    def _read(self, path: Any) -> None:
        name = _absolute(path)
        if name is not None and name not in self._files:
            self._files[name] = self._kind(name)

    def _list(self, path: Any, caller: str) -> None:
        """Note the names in a folder; what imports look for there, `tried` tells."""
        name = _absolute(os.curdir if path is None else path)
        if self._is_ours or name is None or any(each in caller for each in _IMPORTS):
            return
        self._is_ours = True
        try:
            self._folders[name] = sorted(self._listdir(name))
        except OSError:
            self._looks[name] = self._kind(name)
        finally:
            self._is_ours = False

    def _kind(self, name: str) -> str:
        try:
            mode = self._stat(name).st_mode & 0o170000
        except (OSError, ValueError):
            return ""
        return {0o100000: "f", 0o040000: "d"}.get(mode, "o")

    def _watch_looks(self) -> None:
        """Note whose existence is asked for: a file that is missing is never opened."""
        groups = (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks)
        for name in ("stat", "lstat", "access"):
            real = getattr(os, name)
            noting = self._noting(real)
            setattr(os, name, noting)
            for group in (*groups, os.supports_effective_ids):
                if real in group:
                    group.add(noting)

    def _noting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def noting(path: Any, *args: Any, **words: Any) -> Any:
            name = _absolute(path)
            if name is not None:
                self._looks[name] = self._kind(name)
            return real(path, *args, **words)

        return noting

    @staticmethod
    def _searched(modules: Iterable[tuple[str, Any]]) -> set[str]:
        """Return the folders in which modules are looked for."""
        found = [os.path.abspath(each) for each in sys.path]
        for _, module in modules:
            found += map(str, _attribute(module, "__path__") or ())
        return {each for each in found if os.path.isdir(each)}


class _Names:
    """Notes which modules are looked for, and finds none; no audit event has those of importlib."""

    def __init__(self, tried: set[str]) -> None:
        self._tried = tried

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> None:
        self._tried.add(name.rpartition(".")[2])


def _absolute(path: Any) -> str | None:
    """Return a path, and of byte code that of its source; nothing of what is no file."""
    if isinstance(path, int) or path is None:
        return None
    name = os.path.abspath(_text(path))
    if name.startswith(_NOWHERE):
        return None
    if _CACHE not in name:
        return name
    try:
        return source_from_cache(name)
    except ValueError:  # a temporary file that is to become byte code
        return None


def _file_of(database: str) -> str:
    """Return the file of a database of SQLite, which may be named by a URI."""
    return unquote(urlsplit(database).path) if database.startswith("file:") else database


def _text(path: Any) -> str:
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)


def _attribute(module: Any, name: str) -> Any:
    """Return what a module has, without asking those that make things when they are asked."""
    return getattr(module, "__dict__", {}).get(name)
