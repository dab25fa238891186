"""What the project's code gets from elsewhere: programs that it starts, servers that it hears.

Drivers that are written in C are not seen; Alembic's connection is looked at by the guard.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from functools import wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .callers import MAPPINGS, PYTHON, outside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .callers import Callers

STARTS = frozenset({"subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system"})
FORKS = frozenset({"os.fork", "os.forkpty"})
_STARTERS = MAPPINGS | {f"{PYTHON}subprocess.py"}
_FINDER = f"{PYTHON}ctypes/util.py"  # it starts programs only to find a library
_LIBRARIES = "/etc/ld.so.cache"  # what is found
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_SEVERAL = frozenset(";&|<>()$`\n")  # what lets a shell start more than one
# Of sockets, and `read` of those with TLS. Whoever detaches one reads without it.
_READS = (
    *("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"),
    *("read", "detach"),
)
_SOMEBODY = ("somebody", "?")
_GOES_ON = frozenset({0, errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, errno.EISCONN})


class Elsewhere:
    """What is started and heard from now on.

    port: of the agreed server. programs: paths of those that count by their files. unknown: what
    depends on more than files, in words (`starts git`), each with the names that people know.
    """

    def __init__(self, callers: Callers) -> None:
        self.port = ""
        self.programs = set()  # type: set[str]
        self._stat = os.stat
        self._callers = callers
        self._started = {}  # type: dict[str, set[str]]
        self._heard = set()  # type: set[Any]
        self._answered = set()  # type: set[str]
        self._silent = set()  # type: set[Any]
        self._trying = WeakKeyDictionary()  # type: Any  # where each socket connects
        self._hosts = {}  # type: dict[tuple[str, str], str]  # how people write an address
        self._watched = set()  # type: set[type]
        self._opaque = set()  # type: set[type]  # of sockets, that cannot be watched
        self._watch_names()

    def unknown(self) -> dict[str, list[str]]:
        """Return what cannot be known."""
        found = dict(self._started)
        for address in filter(self._is_foreign, self._heard.copy()):
            found[f"reads from {self._name(address)}"] = self._names(address)
        for address in filter(self._is_foreign, self._silent.copy()):
            if self._name(address) not in self._answered:
                found[f"cannot connect to {self._name(address)}"] = self._names(address)
        return {words: sorted(names) for words, names in found.items()}

    def start(self, event: str, args: tuple[Any, ...], frame: Any) -> None:
        """Note a program that is started. frame: of what starts it."""
        command, env = _command(event, args)
        starter = outside(frame, _STARTERS)
        finds = starter is not None and starter.f_code.co_filename == _FINDER
        if finds or (self._callers.is_importing(starter) and not _is_shell(command)):
            self.programs.update(self._candidates(command[0], env))
            self.programs.update([_LIBRARIES] if finds else ())
        else:
            name = _program(command)
            names = {command[0], os.path.basename(name)}
            self._started.setdefault(f"starts {os.path.basename(name)}", set()).update(names)

    def fork(self) -> None:
        """Note a process of which nothing is noted."""
        self._started["forks"] = {"fork"}

    def _candidates(self, name: str, env: Any) -> Iterator[str]:
        """Yield the program, and the places where another one would be found before it."""
        if os.sep in name:
            yield os.path.abspath(name)
            return
        for folder in os.get_exec_path(env):
            path = os.path.abspath(os.path.join(os.fsdecode(folder), name))
            yield path
            if self._is_program(path):
                return

    def _is_program(self, path: str) -> bool:
        try:
            mode = self._stat(path).st_mode
        except OSError:
            return False
        return stat.S_ISREG(mode) and bool(mode & 0o111)

    def made(self, sock: Any) -> None:
        """Watch sockets of a class of which there is one now."""
        kind = type(sock)
        if kind in self._watched:
            return
        self._watched.add(kind)
        watching = dict.fromkeys(_READS, self._reading)
        watching.update(connect=self._connecting, connect_ex=self._trying_to)
        watching.update(getsockopt=self._asking)
        try:
            for name, watch in watching.items():
                if hasattr(kind, name):
                    setattr(kind, name, watch(getattr(kind, name)))
        except TypeError:  # it is no class of Python's
            self._opaque.add(kind)

    def connect(self, sock: Any, address: Any) -> None:
        """Note where a socket connects that cannot be watched."""
        if type(sock) in self._opaque:
            self._heard.add(_plain(address))

    def _reading(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def reading(sock: Any, *args: Any, **words: Any) -> Any:
            peer = _peer(sock)  # which detach() would end
            found = real(sock, *args, **words)
            if peer is None:  # it has no peer, or not any more
                sender = _plain(found[-1]) if isinstance(found, tuple) else None
                peer = sender or self._trying.get(sock)
            is_pair = peer == "" or sock.family == socket.AF_UNIX
            if peer or not (is_pair or hasattr(sock, "read")):  # with TLS: noted as it was detached
                self._heard.add(peer or _SOMEBODY)
            return found

        return reading

    def _connecting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def connecting(sock: Any, address: Any) -> Any:
            self._trying[sock] = _plain(address)
            try:
                found = real(sock, address)
            except OSError as error:
                self._end(sock, error.errno or errno.ETIMEDOUT)
                raise
            self._end(sock, 0)
            return found

        return connecting

    def _trying_to(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def trying_to(sock: Any, address: Any) -> Any:
            self._trying[sock] = _plain(address)
            code = real(sock, address)
            self._end(sock, code)
            return code

        return trying_to

    def _asking(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def asking(sock: Any, level: Any, option: Any, *args: Any) -> Any:
            found = real(sock, level, option, *args)
            if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR) and not args:
                self._end(sock, found)
            return found

        return asking

    def _end(self, sock: Any, code: int) -> None:
        """Note whether somebody is there: code that finds nobody may go on without."""
        address = self._trying.get(sock)
        if address and code in {0, errno.EISCONN}:
            self._answered.add(self._name(address))
        elif address and code not in _GOES_ON:
            self._silent.add(address)

    def _watch_names(self) -> None:
        """Note how people write the addresses that are looked up."""
        real = socket.getaddrinfo

        @wraps(real)
        def looking_up(host: Any, port: Any, *args: Any, **words: Any) -> Any:
            try:
                found = real(host, port, *args, **words)
            except OSError:
                self._silent.add(_plain((host, port)))
                raise
            for each in found:
                if host:
                    self._hosts[_plain(each[4])[:2]] = _text(host)
            return found

        socket.getaddrinfo = looking_up

    def _name(self, address: Any) -> str:
        if isinstance(address, str):
            return address
        return ":".join((self._hosts.get(address, address[0]), address[1]))

    def _names(self, address: Any) -> set[str]:
        """Return all names by which people may know an address."""
        if isinstance(address, str):
            return {address}
        host, port = address
        is_here = host.startswith("127.") or host == "::1"
        return {self._name(address), f"{host}:{port}", *([f"localhost:{port}"] if is_here else ())}

    def _is_foreign(self, address: Any) -> bool:
        """Tell whether it is not that of the agreed server, by its port."""
        is_path = isinstance(address, str)
        port = address.rpartition(".")[2] if is_path else address[1]
        return bool(port != self.port)


def _command(event: str, args: tuple[Any, ...]) -> tuple[list[str], Any]:
    """Return the words of a command, and its environment; None where that is ours."""
    if event == "os.system":
        return ["sh", "-c", _text(args[0])], None
    if event == "os.spawn":
        args = args[1:]
    program, words, env = args[0] or "?", args[1], args[-1]
    words = [words] if isinstance(words, (str, bytes, os.PathLike)) else list(words or ())
    return [_text(program), *map(_text, words[1:])], env


def _is_shell(command: list[str]) -> bool:
    return os.path.basename(command[0]) in _SHELLS


def _program(command: list[str]) -> str:
    """Return the program, or the one that a shell is told to start and nothing else."""
    if _is_shell(command) and command[1:2] == ["-c"] and command[2:]:
        text = command[2]
        if text.strip() and _SEVERAL.isdisjoint(text):
            return text.split()[0]
    return command[0]


def _peer(sock: Any) -> Any:
    """Return who is at the other end: empty for a pair of sockets, None if there is nobody."""
    try:
        return _plain(sock.getpeername())
    except OSError:
        return None


def _plain(address: Any) -> Any:
    """Return a path, or host and port, as texts."""
    if isinstance(address, tuple) and len(address) > 1:
        return _text(address[0]), _text(address[1])
    return None if address is None else _text(address)


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else str(value)
