"""A project that tests run `invoke` in: in this process, or where it matters in another one."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import invoke
import psycopg
from invoke.program import Program

import backset
from backset.connections.target import Target
from backset.process import identity
from tests.incident.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = Path(__file__).parents[1]
PROJECTS = REPOSITORY / "tests/projects"  # one for every shape of chain
TASKS = "from backset.tasks import namespace\n"
_AT_THE_START = ("PYTHON", "LC_", "LANG", "TZ")  # what an interpreter reads then
_FOR_A_PROCESS = {"psql", "alembic", "--debug"}  # they write where ours writes, or log for good
_READ_ANEW = ("tasks", "backset.tasks", "backset.__main__")  # Invoke uses up the help of a task
_TIMEOUT_S = 120


@dataclass
class Project:
    """A copy of an application's side, and the environment that `invoke` gets there."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # words before the command, such as those of `elsewhere`

    def invoke(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `invoke …` without a terminal; the caller judges the exit code.

        In this process: starting Python and importing backset takes longer than most tasks do.
        Where that would not be the same, in a process of its own.
        """
        return (self._here if self._can_be_here(arguments, env) else self.run)(*arguments, **env)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `invoke …` as a child process, as people do."""
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "invoke", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `invoke …` and return at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_a_terminal(self, *arguments: str, typed: str = "", **env: str) -> tuple[int, str]:
        """Run `invoke …` on a pseudo-terminal with somebody who types; return code and output."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "invoke", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env, "TERM": "dumb", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            os.write(ours, typed.encode())
            shown = b""
            with contextlib.suppress(OSError):  # EIO: the other side is closed
                while piece := os.read(ours, 4096):
                    shown += piece
            os.close(ours)
            return process.wait(), shown.decode()

    def configure(self, old: str, new: str) -> None:
        """Replace a piece of the project's pyproject.toml."""
        path = self.folder / "pyproject.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @property
    def url(self) -> str:
        """The DATABASE_URL that it is given."""
        return self.env["DATABASE_URL"]

    @property
    def database(self) -> str:
        """The name of its target."""
        return Target.parse(self.url).database

    def query(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on the target, or on another database of its server."""
        target = Target.parse(self.url)
        params = {**target.params, "dbname": database or target.database}
        with psycopg.connect(**params) as connection:  # type: ignore[arg-type]
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _can_be_here(self, arguments: tuple[str, ...], env: Mapping[str, str]) -> bool:
        variables = {**self.env, **env}
        tasks = self.folder / "tasks.py"
        return (
            not self.prefix
            and not _FOR_A_PROCESS & set(arguments)
            and threading.current_thread() is threading.main_thread()
            and not any(name.startswith(_AT_THE_START) for name in variables)
            and tasks.is_file()
            and tasks.read_text() in {TASKS, (REPOSITORY / "tasks.py").read_text()}
        )

    def _here(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return in_this_process(["invoke", *arguments], self.folder, {**self.env, **env})


def in_this_process(
    argv: list[str], folder: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `invoke …` or `backset …` here: in a folder, with more variables, without a terminal."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with _standing(folder, env, argv, *streams):
        code = _code(argv)
    written = []
    for stream in streams:
        stream.flush()
        written.append(stream.buffer.getvalue().decode())
    return subprocess.CompletedProcess(argv, code, *written)


def _code(argv: list[str]) -> int:
    """Run a command; return what would be its exit code."""
    names = ["invoke", "inv"]
    try:
        if argv[0] == "backset":
            import_module("backset.__main__").main()
        else:
            Program(invoke.__version__, None, "Invoke", "inv[oke]", binary_names=names).run(argv)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return ended.code or 0
    except Exception:  # noqa: BLE001  (what an interpreter does with it)
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _standing(
    folder: Path, env: Mapping[str, str], argv: list[str], stdout: TextIO, stderr: TextIO
) -> Iterator[None]:
    """Let the block have the folder, the environment, the arguments and the streams of a process.

    What Invoke itself leaves behind goes, too.
    """
    variables, before = dict(os.environ), Path.cwd()
    modules = {name: sys.modules.pop(name) for name in _READ_ANEW if name in sys.modules}
    for name in _READ_ANEW:
        vars(backset).pop(name.rpartition(".")[2], None)
    interpreter = {name: getattr(sys, name) for name in ("argv", "path", "stdin", "stdout")}
    interpreter |= {name: getattr(sys, name) for name in ("stderr", "dont_write_bytecode")}
    os.environ.update(env)
    os.chdir(folder)
    identity._began = time.monotonic()  # noqa: SLF001  (with a process of its own it would be so)
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        sys.argv = argv
        sys.path = [*([str(folder)] if argv[0] == "invoke" else []), *sys.path]
        sys.stdin, sys.stdout, sys.stderr = nothing, stdout, stderr
        try:
            yield
        finally:
            for name, value in interpreter.items():
                setattr(sys, name, value)
            os.chdir(before)
            os.environ.clear()
            os.environ.update(variables)
            for name in _READ_ANEW:
                sys.modules.pop(name, None)
            sys.modules.update(modules)
            identity.called("invoke")


def laid_down(folder: Path, name: str, url: str) -> Project:
    """Copy a project of tests/projects into a folder of its own."""
    shutil.copytree(PROJECTS / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "tasks.py", folder)
    return Project(folder, {"DATABASE_URL": url})


def databases(project: Project) -> set[str]:
    """Return what stands beside the target, by the suffix of its name, once the drop is over."""
    name = project.database
    query = f"SELECT datname FROM pg_database WHERE starts_with(datname, '{name}')"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = {each.removeprefix(name) for (each,) in project.query(query, "postgres")}
        if not any(each.startswith("__discard") for each in found):
            return found
        time.sleep(0.02)
    raise AssertionError("the server never dropped what was set aside")


def wait_until_told(project: Project, process: subprocess.Popen[str]) -> None:
    """Wait until a run has looked twice who holds it up, which it does each second."""
    looked = f"""
        SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database, pg_stat_activity s
        WHERE NOT granted AND d.datname = '{project.database}' AND waitstart < s.query_start
        AND s.application_name LIKE 'backset waits %' AND s.query_start - waitstart > '1.5 s'
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while not project.query(looked, "postgres"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never looked"
        time.sleep(0.05)


def agreed(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a task, and once more with the consent that it wants, if it wants one."""
    done = project.invoke(*arguments)
    wanted = re.search(r"--confirm (\w+)", done.stderr) if done.returncode else None
    return project.invoke(*arguments, "--confirm", wanted[1]) if wanted else done


def prints(project: Project) -> dict[str, tuple[int, str | None]]:
    """Return the fingerprint of the target."""
    return fingerprint(Target.parse(project.url).params)


def migrating(project: Project, statements: str) -> Project:
    """Let the only migration of a project be these statements."""
    versions = project.folder / "migrations/versions"
    for path in versions.glob("*.py"):
        path.unlink()
    (versions / "z1_all.py").write_text(
        'from alembic import op\nrevision = "z1"\ndown_revision = None\n'
        f"def upgrade():\n    op.execute({statements!r})\n"
    )
    return project
