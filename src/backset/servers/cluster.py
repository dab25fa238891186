"""A PostgreSQL cluster of our own: initialized, started, left running, stopped; as which account.

Its programs refuse root; who runs them then may be kept out of the folders of root.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from backset.errors import StepFailedError
from backset.process import files, process, signals
from backset.servers.programs import embedded_folder

SUPERUSER = "postgres"
LOG_LINE_PREFIX = "%m [%p] %q%a@%d "
_PORT = 5432
_SOCKET_BYTES = 103  # sun_path without its NUL: 107 bytes on Linux, 103 on macOS
_START_S = 60.0
_ENDING_S = 20.0
_LOOK_EVERY_S = 0.05
_LOG_LINES = 5
_BUILTIN_SINCE = 17  # sorts the same everywhere, whatever the system's C library
_BUILTIN_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_SHARED = Path("/var/lib/backset")  # for root alone, whose own folders are often closed to others


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A PostgreSQL cluster of our own: `data`, `log` and, where its path is short, the socket.

    programs: the folder above `bin` of its programs; None means the preferred one of its major.
    account: the account that its programs run as; None means ourselves.
    tcp_port: a port of `address` to listen on besides the socket, for passwords (scram-sha-256).
    """

    folder: Path
    major: int
    programs: Path | None = None
    account: Account | None = None
    tcp_port: int | None = None
    address: str = "127.0.0.1"

    @property
    def port(self) -> int:
        """The port, which is also part of the socket's name."""
        return self.tcp_port or _PORT

    @cached_property
    def installation(self) -> Path:
        """Its programs, or a copy of them where the account cannot reach them.

        Raises StepFailedError where there are none of its major.
        """
        programs = self.programs or embedded_folder(self.major, self.data)
        return _reachable_programs(programs, self.account)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The server's log; each line begins with time, pid, and application@database."""
        return self.folder / "log"

    @property
    def socket_folder(self) -> Path:
        """The folder of the socket: ours, or a private one in /tmp where ours is unusable.

        A socket's address is short, and libpq reads a comma in it as a list of hosts.
        """
        path = self.folder / f".s.PGSQL.{self.port}"
        if len(bytes(path)) <= _SOCKET_BYTES and "," not in str(path):
            return self.folder
        digest = hashlib.sha256(bytes(self.folder)).hexdigest()[:12]
        return Path("/tmp") / f"backset-{self._uid}-{digest}"  # noqa: S108  (made 0700, checked)

    def url(self, database: str, user: str = SUPERUSER) -> str:
        """Return the URL of one of its databases, over the socket and without a password."""
        folder = quote(str(self.socket_folder), safe="/")
        name = quote(database, safe="")
        return f"postgresql://{quote(user, safe='')}@/{name}?host={folder}&port={self.port}"

    def is_running(self) -> bool:
        """Tell whether the server answers on its socket and has finished starting."""
        return self._status() == "ready" and self._answers()

    def _status(self) -> str:
        """Return what the server last wrote of itself: `starting`, `ready`, `stopping`; or nothing.

        It is the eighth line of postmaster.pid (miscadmin.h).
        """
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return ""
        return "".join(lines[7:8]).strip()

    def _answers(self) -> bool:
        """Tell whether anybody listens: postmaster.pid outlives a crash, and its pid is reused."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket_folder / f".s.PGSQL.{self.port}"))
        except OSError:
            return False
        return True

    def start(self) -> bool:
        """Start the server, making the cluster first if need be; False if it was running.

        Raises StepFailedError with the last lines of the log.
        """
        if self.is_running():
            return False
        self._make_folders()
        with files.locked(self.folder):  # one process starts the server while others wait for it
            if self.is_running():
                return False
            if not (self.data / "PG_VERSION").is_file():
                self._initialize()
            self._await_end()
            self._launch()
        return True

    def _await_end(self) -> None:
        """Wait for a server that is going down; not for long: a crash leaves that word, too."""
        signals.wait_while(lambda: self._status() == "stopping", _ENDING_S, _LOOK_EVERY_S)

    def stop(self) -> bool:
        """Stop the server, ending its sessions; False if it was not running."""
        if not self._answers():
            return False
        status, lines = self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w")
        if status != 0:
            raise self._failure("does not stop", lines)
        if self.socket_folder != self.folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)
        return True

    def _make_folders(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        parent = self.folder.parent
        files.hide(parent)
        parent.chmod(0o755 if self.account else 0o700)
        if self.account:
            owner = parent.parent.stat()
            os.chown(parent, owner.st_uid, owner.st_gid)
        self._own(self.folder)
        if self.socket_folder != self.folder:
            self.socket_folder.mkdir(mode=0o700, exist_ok=True)
            status = self.socket_folder.lstat()
            if self.socket_folder.is_symlink() or status.st_uid not in {os.geteuid(), self._uid}:
                remedy = "remove it, or move the project to a shorter path"
                raise StepFailedError(f"{self.socket_folder} belongs to somebody else", remedy)
            self._own(self.socket_folder)

    def _own(self, folder: Path) -> None:
        folder.chmod(0o700)
        if self.account:
            os.chown(folder, self.account.uid, self.account.gid)

    @property
    def _uid(self) -> int:
        return self.account.uid if self.account else os.geteuid()

    def _initialize(self) -> None:
        """Run initdb beside and rename: a cluster is there whole or not at all."""
        partial = self.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        status, lines = self._run(
            "initdb",
            *("-D", str(partial), "-U", SUPERUSER, "--encoding=UTF8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256"),
            *(_BUILTIN_LOCALE if self.major >= _BUILTIN_SINCE else ()),
        )
        if status != 0:
            raise self._failure("cannot be initialized", lines)
        partial.rename(self.data)

    def _launch(self) -> None:
        options = {
            # A list of paths, which has the quotes of SQL, and is none.
            "unix_socket_directories": '"' + str(self.socket_folder).replace('"', '""') + '"',
            "listen_addresses": self.address if self.tcp_port else "",
            "port": str(self.port),
            "log_line_prefix": LOG_LINE_PREFIX,
        }
        argv = [str(self.installation / "bin" / "postgres"), "-D", str(self.data)]
        argv += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.log.touch(mode=0o600)
        server = process.detach(
            argv, env=self._env, cwd=self.folder, log=self.log, account=self._ids
        )
        signals.wait_while(lambda: not (self.is_running() or server.has_ended()), _START_S, 0.01)
        if not self.is_running():
            lines = self.log.read_text(errors="replace").splitlines()
            raise self._failure("does not start", lines)
        server.let_go()

    def _run(self, name: str, *arguments: str) -> tuple[int, list[str]]:
        argv = [str(self.installation / "bin" / name), *arguments]
        return process.run(argv, env=self._env, cwd=self.folder, account=self._ids)

    @property
    def _ids(self) -> process.Account | None:
        return (self.account.uid, self.account.gid) if self.account else None

    @property
    def _env(self) -> dict[str, str]:
        """Nothing of ours: the server reads PGPORT, PGDATA and the locale from its environment."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    def _failure(self, what: str, lines: list[str]) -> StepFailedError:
        tail = " | ".join(line.strip() for line in lines[-_LOG_LINES:] if line.strip())
        return StepFailedError(
            f"the embedded PostgreSQL {what}: {tail or 'it said nothing'}",
            f"see {self.log}; `invoke stop` and another try may help",
        )


@dataclass(frozen=True, slots=True)
class Account:
    """An account other than root: the owner of the project's folder, else `nobody`."""

    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this account may search `folder` and every folder above it."""
        return all(self._may(each, stat.S_IXUSR) for each in (folder, *folder.parents))

    def can_read(self, path: Path) -> bool:
        """Tell whether this account can reach and read a file."""
        return self.can_enter(path.parent) and self._may(path, stat.S_IRUSR)

    def _may(self, path: Path, user_bit: int) -> bool:
        status = path.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & user_bit)
        shift = 3 if status.st_gid == self.gid else 6
        return bool(status.st_mode & (user_bit >> shift))


def account_of(folder: Path) -> Account | None:
    """Return the account to run the server of `folder` as; None means ourselves."""
    if os.geteuid() != 0:
        return None
    owner = folder.stat()
    with suppress(KeyError):  # initdb wants a name, which the owner of a mounted folder may lack
        if owner.st_uid != 0 and pwd.getpwuid(owner.st_uid):
            return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def home(folder: Path, account: Account | None) -> Path:
    """Return where the server of the project in `folder` keeps its files: `.backset` if it can.

    Where root's folders are closed to the account, they stay closed: the files live elsewhere.
    """
    if account is None or account.can_enter(folder):
        return folder / ".backset"
    return _SHARED / hashlib.sha256(bytes(folder)).hexdigest()[:12]


def _reachable_programs(installation: Path, account: Account | None) -> Path:
    """Return an installation that the account can use: itself, else a copy of it, made once."""
    parts = _parts(installation)
    probes = [installation / "bin" / "postgres", *(next(part.iterdir()) for part in parts[1:])]
    if account is None or all(map(account.can_read, probes)):
        return installation
    base = installation.parent.parent
    made = f"{installation.stat().st_mtime_ns:x}"
    copy = _SHARED / f"{installation.parent.name}-{installation.name}-{made}"
    if not copy.is_dir():
        _copy(parts, base, copy)
    return copy / installation.relative_to(base)


def _parts(installation: Path) -> list[Path]:
    """Return the folders of an installation: the wheel keeps shared libraries beside the package.

    Its programs find them by a relative path: `<package>.libs` on Linux, `.dylibs` on macOS.
    """
    package = installation.parent
    libraries = (package.with_name(f"{package.name}.libs"), package / ".dylibs")
    return [installation, *filter(Path.is_dir, libraries)]


def _copy(parts: list[Path], base: Path, destination: Path) -> None:
    """Copy beside and rename, so that a copy is there whole or not at all."""
    _SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = destination.with_name(f"{destination.name}.{os.getpid()}.partial")
    for part in parts:
        shutil.copytree(part, partial / part.relative_to(base), symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    try:
        partial.rename(destination)
    except OSError:  # another run was faster
        shutil.rmtree(partial)
