"""Where it is measured: a copy of this project with a server of its own, gone afterwards."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sysconfig
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psycopg

from backset.servers import location, programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backset.servers.cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("pyproject.toml", "tasks.py", "alembic", "app", "scripts")
_COMPILED = shutil.ignore_patterns("__pycache__")
_PROGRAMS = (sysconfig.get_path("scripts"), str(programs.embedded_folder() / "bin"))
# What could lead to another server, and what keeps Python from its byte code: the peers have theirs
# since they were installed, and an editable package gets it when it first runs.
_FOREIGN = ("DATABASE_URL", "BACKSET_", "INVOKE_", "PG", "PYTHONDONTWRITEBYTECODE")


class Place:
    """A folder with the project in it, and its embedded server; nothing else is ever looked at."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.url = cluster.url
        clean = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        path = os.pathsep.join([*_PROGRAMS, clean.get("PATH", os.defpath)])
        self.env = {**clean, "PATH": path}

    def popen(
        self, *argv: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program; both its streams are in `stdout`."""
        return subprocess.Popen(
            argv,
            cwd=cwd or self.project,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *argv: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Run a program to its end; return what it printed. Exits loudly if it fails."""
        with self.popen(*argv, env=env, cwd=cwd) as child:
            said = child.communicate()[0]
        if child.returncode:
            raise SystemExit(f"{shlex.join(argv)} ended with {child.returncode}\n{said}")
        return said.strip()

    def invoke(self, *words: str, **env: str) -> str:
        """Run a task of the project. BACKSET_DATABASE says on which database of the server."""
        return self.run("invoke", *words, env=env)

    def knows(self, task: str, flag: str) -> bool:
        """Tell whether a task has a flag, which may come with a later version."""
        return f"--{flag}" in self.run("invoke", "--help", task)

    def sql(self, database: str, *statements: str) -> list[Any]:
        """Run statements, each in a transaction of its own; return the rows of the last one."""
        with psycopg.connect(self.url(database), autocommit=True) as session:
            for each in statements:
                cursor = session.execute(each.encode())
            return cursor.fetchall() if cursor.description else []

    def renew(self, database: str, template: str = "template0") -> None:
        """Drop a database, and make it anew."""
        self.sql(
            "postgres",
            f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)',
            f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY file_copy',
        )

    def drop(self, *databases: str) -> None:
        """Drop databases, with what backset has made beside them."""
        for each in databases:
            own = f"SELECT datname FROM pg_database WHERE datname ~ '^{each}(__.*)?$'"
            for (name,) in self.sql("postgres", own):
                with suppress(psycopg.errors.InvalidCatalogName):  # a run's own DROP was still on
                    self.sql(
                        "postgres",
                        f'ALTER DATABASE "{name}" IS_TEMPLATE false',
                        f'DROP DATABASE "{name}" WITH (FORCE)',
                    )


def psql(url: str, command: str) -> list[str]:
    """Return psql as the runbook types it, without the developer's own psqlrc."""
    return ["psql", "-X", "-d", url, "-c", command]


@contextmanager
def opened() -> Iterator[Place]:
    """Give the place; it is gone afterwards."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else nothing would be tidied up
    with TemporaryDirectory(prefix="backset-bench-", dir="/tmp") as name:  # short, for the socket
        folder = Path(name)
        project = folder / "project"
        folder.chmod(0o755)  # root's server runs as another account
        project.mkdir()
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, project / part, ignore=_COMPILED)
            else:
                shutil.copy2(ROOT / part, project / part)
        cluster = location.project_cluster(project)
        try:
            cluster.start()
            yield Place(folder, cluster)
        finally:
            cluster.stop()
