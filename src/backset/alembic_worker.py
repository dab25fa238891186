"""The only user of Alembic: a child process that works on one database, which it must prove.

It imports nothing of backset, so that it also runs under another project's interpreter (Python 3.9
and later). It talks JSON lines on the socket whose descriptor is its only argument, since stdout
belongs to the migrations: `ready` first, then for each request any `progress`, then `done` or
`failed`. It ends when the socket closes, so it never outlives the process that started it.
"""

from __future__ import annotations

import gc

gc.disable()  # while modules are imported there is no garbage, and looking for it takes time

import contextlib
import importlib
import io
import json
import os
import socket
import sys
import threading
from pathlib import Path

if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parent:
    sys.path.pop(0)  # else a project's `import settings` would find backset's own module

# Mako would import all of Pygments, a tenth of our start, to colour error pages for browsers.
sys.modules.setdefault("mako.ext.pygmentplugin", None)  # type: ignore[arg-type]

import traceback
from typing import TYPE_CHECKING, Any

import sqlalchemy
from alembic import command, util
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.script.revision import MultipleHeads, ResolutionError, RevisionError
from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class WrongTargetError(BaseException):
    """A connection went elsewhere. Not an Exception, so that no env.py can swallow it."""


class BrokenChainError(Exception):
    """The scripts do not make up a chain: a file is missing, or two have one id."""


class Worker:
    """Answers requests about the project in the current folder and the one proved database."""

    def __init__(self, link: socket.socket) -> None:
        self._lines = link.makefile("r", encoding="utf-8")
        self._link = link
        self._lock_key = None  # type: int | None
        self._step = None  # type: Any
        self._folders = ()  # type: tuple[str, ...]
        event.listen(sqlalchemy.pool.Pool, "connect", self._prove)

    def send(self, event: str, /, **content: Any) -> None:
        """Send one line."""
        line = json.dumps({"event": event, **content}, default=str) + "\n"
        self._link.sendall(line.encode())

    def serve(self) -> None:
        """Answer until the other side hangs up."""
        greeting = self._lines.readline()
        if not greeting:
            return
        os.environ.clear()
        os.environ.update(json.loads(greeting)["environ"])
        self._guarded(self._open, "ready")
        _import_ahead()
        for line in self._lines:
            request = json.loads(line)
            self._lock_key = request.get("lock_key")
            answers = {"upgrade": self._upgrade, "describe": self._describe, "check": self._check}
            self._guarded(answers[request["command"]], "done")

    def _guarded(self, command: Callable[[], dict[str, Any]], kind: str) -> None:
        try:
            self.send(kind, **command())
        except WrongTargetError as error:
            self.send("failed", kind="wrong target", message=str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001  (a project's code may raise anything)
            traceback.print_exc()
            words = {"message": _message(error), "where": self._where(error)}
            self.send("failed", kind=_kind(error), **words)
        finally:
            sys.stdout.flush()  # what the project printed, before the next request

    def _open(self) -> dict[str, Any]:
        self._config = _config()
        self._scripts = ScriptDirectory.from_config(self._config)
        folders = {str(Path(self._scripts.dir).resolve())}
        folders |= {str(Path(each).resolve()) for each in self._scripts._version_locations}  # noqa: SLF001
        self._folders = tuple(folders)
        return {"folders": sorted(folders), "heads": self._heads(broken=[])}

    def _heads(self, broken: list[str] | None = None) -> list[str]:
        """Return the heads of the scripts; `broken` stands for those of a broken chain."""
        try:
            return list(self._scripts.get_heads())
        except (KeyError, RevisionError, ResolutionError) as error:
            if broken is not None:
                return broken
            raise BrokenChainError(_message(error)) from error

    def _where(self, error: BaseException) -> str:
        """Return the revision whose code failed, and the last line of the project's scripts."""
        lines = [
            f"{Path(frame.filename).name}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename.startswith(self._folders)
        ]
        if self._step is None:
            return lines[-1] if lines else ""
        return f"revision {self._step.revision.revision} ({(lines or ['?'])[-1]})"

    def _upgrade(self) -> dict[str, Any]:
        self._heads()
        before, count = (), 0  # type: tuple[str, ...], int

        def steps(current: Any, context: Any) -> Iterator[Any]:
            """Alembic runs each step before it asks for the next one."""
            nonlocal before, count
            before = tuple(current)
            todo = self._scripts._upgrade_revs("head", current)  # noqa: SLF001
            for count, self._step in enumerate(todo, 1):
                revision = self._step.revision
                text = f"{count}/{len(todo)} {revision.revision} {revision.doc}"
                self.send("progress", text=text)
                yield self._step
            self._step = None

        self._run_env(steps)
        return {"before": list(before), "count": count, "heads": self._heads()}

    def _describe(self) -> dict[str, Any]:
        self._heads()
        found = {}  # type: dict[str, Any]

        def look(current: Any, context: Any) -> list[Any]:
            known = {script.revision for script in self._scripts.walk_revisions()}
            found.update(
                revisions=list(current),
                orphans=[revision for revision in current if revision not in known],
                heads=self._heads(),
                version_table=context.version_table,
                models=_models(context.opts.get("target_metadata")),
            )
            return []

        self._run_env(look, dont_mutate=True)
        return found

    def _check(self) -> dict[str, Any]:
        """Compare models and database, as `alembic check` does; the database must be at head."""
        try:
            command.check(self._config)
        except util.AutogenerateDiffsDetected as error:
            return {"differences": [_difference(each) for each in error.diffs]}
        return {"differences": []}

    def _run_env(self, work: Callable[[Any, Any], Any], **options: Any) -> None:
        ran = False
        self._step = None

        def noting(current: Any, context: Any) -> Any:
            nonlocal ran
            ran = True
            return work(current, context)

        with EnvironmentContext(self._config, self._scripts, fn=noting, **options):
            self._scripts.run_env()
        if not ran:
            raise util.CommandError("env.py never called context.run_migrations()")

    def _prove(self, connection: Any, _record: Any) -> None:
        """Demand of every new connection that it sees the lock which our parent holds there."""
        if self._lock_key is None:
            raise WrongTargetError("env.py opened a connection though no database was agreed on")
        cursor = connection.cursor()
        cursor.execute(_PROOF.format(high=self._lock_key >> 32, low=self._lock_key & 0xFFFFFFFF))
        proved, database, server, can_watch = cursor.fetchone()
        connection.rollback()
        if not proved:
            raise WrongTargetError(f"{database} on {server or 'a Unix socket'}")
        if can_watch:  # else a statement that waits for a lock would go on waiting without us
            with contextlib.suppress(Exception):  # not every platform's server can
                cursor.execute("SET client_connection_check_interval = '1s'")
                connection.commit()
            connection.rollback()
        cursor.close()


_PROOF = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                 AND l.classid::bigint = {high} AND l.objid::bigint = {low}
                 AND d.datname = pg_catalog.current_database()),
       pg_catalog.current_database()::text,
       (pg_catalog.inet_server_addr() || ':' || pg_catalog.inet_server_port())::text,
       EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'
               AND setting = '0')
"""


def _config() -> Config:
    """Find the configuration where the `alembic` command does, ALEMBIC_CONFIG included."""
    given = os.environ.get("ALEMBIC_CONFIG", "")
    toml, ini = (given, "alembic.ini") if given.endswith(".toml") else ("pyproject.toml", given)
    ini = ini or "alembic.ini"
    has_toml = Path(toml).is_file() and "[tool.alembic]" in Path(toml).read_text(encoding="utf-8")
    if not Path(ini).is_file() and not has_toml:
        raise util.CommandError("no alembic.ini and no [tool.alembic] in pyproject.toml")
    try:
        return Config(ini, toml_file=toml, stdout=io.StringIO())
    except TypeError:  # Alembic before 1.16
        return Config(ini, stdout=io.StringIO())


def _models(metadata: Any) -> int | None:
    """Return how many tables the models have; None where env.py has no target_metadata."""
    if metadata is None:
        return None
    several = metadata if isinstance(metadata, (list, tuple)) else [metadata]
    return sum(len(each.tables) for each in several)


def _kind(error: BaseException) -> str:
    text = str(error)
    if "Can't locate revision" in text:
        return "orphaned revision"
    if isinstance(error, MultipleHeads) or "Multiple head" in text:
        return "several heads"
    if isinstance(error, BrokenChainError):
        return "broken chain"
    return "alembic" if isinstance(error, util.CommandError) else "error"


def _message(error: BaseException) -> str:
    """Return the server's words without SQLAlchemy's, else the error's own, in one line."""
    origin = getattr(error, "orig", None) or error
    text = next((line.strip() for line in str(origin).splitlines() if line.strip()), "")
    return text if isinstance(error, util.CommandError) else f"{type(origin).__name__}: {text}"


def _difference(difference: Any) -> str:
    """Return one difference of `as_diffs()` in words."""
    if isinstance(difference, list):  # changes of one column come together
        return "; ".join(_difference(each) for each in difference)
    operation, *rest = difference
    if operation.startswith("modify_"):
        schema, table, column, _existing, old, new = rest
        name, aspect = ".".join(filter(None, (schema, table, column))), operation[7:]
        return f"{name}: {aspect} {old!r} in the database, {new!r} in the models"
    where = "only in the models" if operation.startswith("add_") else "only in the database"
    kind = operation.partition("_")[2]
    if kind == "column":
        schema, table, column = rest
        return f"column {'.'.join(filter(None, (schema, table, column.name)))} is {where}"
    item = rest[0]
    table = getattr(item, "table", None)
    name = getattr(item, "name", None) or "unnamed"
    owner = f" of {table.fullname}" if table is not None and kind != "table" else ""
    return f"{kind} {getattr(item, 'fullname', name)}{owner} is {where}"


def _hang_up_with(link: socket.socket) -> None:
    """End this process when the parent's end of the socket closes, whatever a migration does."""

    def watch() -> None:
        while link.recv(1, socket.MSG_PEEK):
            ended.wait(0.2)
        os._exit(1)

    ended = threading.Event()
    threading.Thread(target=watch, daemon=True).start()


def _import_ahead() -> None:
    """Import what most env.py files do, while the parent is still busy with its backup."""
    for name in ("sqlalchemy.orm", "sqlalchemy.dialects.postgresql", "psycopg"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    gc.enable()


def main() -> None:
    """Serve on the inherited socket."""
    with socket.socket(fileno=int(sys.argv[1])) as link:
        _hang_up_with(link)
        worker = Worker(link)
        worker.serve()
        os._exit(0)  # tearing the interpreter down would only cost time


if __name__ == "__main__":
    main()
