"""Answers the parent's requests, as JSON lines on a socket: stdout belongs to the migrations.

`ready` comes first, then for each request any `progress`, then `done` or `failed`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from alembic import command, util
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy.exc import OperationalError

from . import (
    chain,
    command_line,
    compare,
    configuration,
    guard,
    keeping,
    listening,
    making,
    rendering,
    server_words,
    tracer,
    writing,
)
from .chain import ScriptChain
from .failures import (
    FoundError,
    LoadedError,
    SeveralDatabasesError,
    UnagreedError,
    WrongTargetError,
    explained,
    kind_of,
    message_of,
)
from .guard import ConnectionGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


_WRITING = frozenset({"upgrade", "downgrade", "stamp", "make"})

# Python's and others' modules, of which the folder of a project can have both.
_STANDARD = Path(os.__file__).resolve().parent
_LIBRARIES = frozenset({"site-packages", "dist-packages", "__pypackages__"})

_MORE = "more"  # the command by which a process begins to make others of itself
_MOMENT_S = 0.01  # whoever waits for us asks within that
_REFUSED = 4  # our exit status, where our parent says why


class Requests:
    """Answers requests about the project in the current folder and the one proved database."""

    def __init__(self, link: socket.socket, hang_up_with: Callable[[socket.socket], None]) -> None:
        self._lines = link.makefile("r", encoding="utf-8")
        self._link = link
        self._hang_up_with = hang_up_with
        self._gate = ConnectionGuard()
        self._step = None  # type: Any
        self._lineage = {}  # type: dict[str, Any]
        self._request = {}  # type: dict[str, Any]
        self._folders = ()  # type: tuple[str, ...]
        self._hands_over = False
        self._made = []  # type: list[Any]
        self._tracer = None  # type: tracer.InputTracer | None
        self._environ = {}  # type: dict[str, str]  # as we were told it last
        self._opened = None  # type: tuple[Any, dict[str, Any]] | None
        self._root = os.getcwd()  # noqa: PTH109

    def send(self, event: str, /, **content: Any) -> None:
        """Send one line."""
        line = json.dumps({"event": event, **content}, default=str) + "\n"
        self._link.sendall(line.encode())

    def serve(self) -> None:
        """Answer until the other side hangs up."""
        greeting = self._lines.readline()
        if not greeting:
            return
        if json.loads(greeting).get("command") == _MORE:
            import_ahead()
            greeting = self._multiplied()
        self._greeted(json.loads(greeting))
        if self._is_idle():
            import_ahead()
        collect()
        guard.watch(self._gate)
        while line := self._lines.readline():  # of another file, after a fork
            self._request = json.loads(line)
            if self._request.get("command") == _MORE:
                self._request = json.loads(self._multiplied())
            if "command" not in self._request:
                self._greeted(self._request)
                continue
            self._gate.lock_key = self._request.get("lock_key")
            self._gate.aside = self._request.get("aside") or ""
            self._gate.only_reads = self._request["command"] not in _WRITING
            answers = {
                "upgrade": self._upgrade,
                "downgrade": self._downgrade,
                "stamp": self._stamp,
                "merge": self._merge,
                "describe": self._describe,
                "current": self._current,
                "check": self._check,
                "make": self._make,
                "models": self._models,
                "render": self._render,
                "write": self._write,
                "load": self._load,
                "where": self._where_to,
                "place": self._place,
                "inputs": self._inputs,
            }
            self._guarded(self._shared(answers[self._request["command"]]), "done")

    def _multiplied(self) -> str:
        """Make a process of this one for each socket that comes; return its first line there.

        Here it ends when our own socket closes. What is imported is there in each, and nothing of
        what another one has done. Only one thread outlives a fork, so that there must be no more.
        """
        is_alone = threading.active_count() == 1 and _threads() == 1
        self.send("done", is_alone=is_alone)
        collect()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries them
        while True:
            _, descriptors, _, _ = socket.recv_fds(self._link, 1, 1)
            if not descriptors:
                os._exit(0)
            if not os.fork():
                break
            os.close(descriptors[0])
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._link.close()
        self._link = socket.socket(fileno=descriptors[0])
        self._lines = self._link.makefile("r", encoding="utf-8")
        self._hang_up_with(self._link)
        line = self._lines.readline()
        if not line:
            os._exit(0)
        return line

    def _greeted(self, given: dict[str, Any]) -> None:
        """Take the environment and the configuration for a target.

        It may be for another target than the last one: what was imported stays imported.
        """
        if given.get("watched") and self._tracer is None:
            self._tracer = tracer.InputTracer()
        with self._unheard():
            environ = self._with_changes(given["environ"])
            os.environ.clear()
            os.environ.update(environ)
        self._environ = given["environ"]
        if self._tracer:
            self._tracer.elsewhere.port = given["port"]
        os.chdir(self._root)  # some configurations are read from another folder
        self._gate.expect(tuple(given["names"]), given["elsewhere"])
        if given["rights"]:
            self._gate.write_alone(**given["rights"])
        self._lineage = given["lineage"]  # as in backset's Lineage
        self._hands_over = False
        if given.get("words") is not None:
            self._become_alembic(given["words"], given["configuration"])
        self._guarded(lambda: self._open(given["configuration"]), "ready")

    def _with_changes(self, given: dict[str, str]) -> dict[str, str]:
        """Return variables, with what the project's code has made of those of the last target.

        What is imported sets them once: it is not imported again. What we say anew counts more.
        """
        was, now = self._environ, dict(os.environ)
        same = {name for name in {*was, *now} if was and was.get(name) == given.get(name)}
        changed = {name for name in same if was.get(name) != now.get(name)}
        kept = {name: now[name] for name in changed & now.keys()}
        return {**{name: given[name] for name in given.keys() - changed}, **kept}

    def _is_idle(self) -> bool:
        """Tell whether our parent is busy with something else, and asks for nothing yet."""
        return not select.select([self._link], [], [], _MOMENT_S)[0]

    def _unheard(self) -> AbstractContextManager[None]:
        """Let the tracer note nothing of what we do to the variables, for the block."""
        return self._tracer.variables.unheard() if self._tracer else contextlib.nullcontext()

    def _become_alembic(self, words: list[str], given: dict[str, Any]) -> NoReturn:
        """Run Alembic's own command line. The lock is asked for when something is opened."""
        self._gate.agree = self._agreed
        gc.enable()
        self.send("ready")
        try:
            command_line.run(words, given, self._gate)
        except WrongTargetError as error:
            self.send("failed", kind="wrong target", message=str(error), opened=self._gate.opened)
            sys.exit(_REFUSED)
        except UnagreedError:
            sys.exit(_REFUSED)
        sys.exit()

    def _agreed(self) -> int:
        """Return the key of the lock that our parent takes now. Raises UnagreedError."""
        self.send("lock")
        answer = json.loads(self._lines.readline() or "{}")
        if "lock_key" not in answer:
            raise UnagreedError
        return int(answer["lock_key"])

    def _guarded(self, command: Callable[[], dict[str, Any]], kind: str) -> None:
        try:
            self.send(kind, **command())
        except WrongTargetError as error:
            self.send("failed", kind="wrong target", message=str(error), opened=self._gate.opened)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (a project's code may raise anything)
            traceback.print_exc()
            words = {
                "message": message_of(error),
                "where": self._where(error),
                "quoted": server_words.quoted(error),
            }
            failed = isinstance(error, OperationalError) and self._gate.is_waiting
            self.send("failed", kind="unreachable" if failed else kind_of(error), **words)
        finally:
            sys.stdout.flush()  # what the project printed, before the next request

    def _shared(self, command: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        """Hand env.py a connection, if it opens none and fails for want of one."""

        def with_one() -> dict[str, Any]:
            with self._attributes.connected(configuration.written(self._config)):
                return command()

        def tried() -> dict[str, Any]:
            if self._gate.lock_key is None:  # it needs no database
                return command()
            if self._hands_over:
                return with_one()
            self._gate.opened = {}
            try:
                return command()
            except Exception:
                if self._gate.opened or not self._attributes.was_asked:
                    raise
                if not configuration.written(self._config):
                    raise
                self._hands_over = True
            return with_one()

        return tried

    def _open(self, given: dict[str, Any]) -> dict[str, Any]:
        """Read the scripts; those of the folder `versions`, if one is given, and of no other.

        For another target they are not read again.
        """
        self._config = configuration.opened(given)
        self._attributes = self._config.attributes = configuration.Attributes()
        place = [given.get(key) for key in ("file", "section", "versions")], self._lineage
        if self._opened is not None and self._opened[0] == place:
            return self._opened[1]
        self._chain = ScriptChain(self._config, self._lineage, given.get("versions"))
        self._scripts, self._folders = self._chain.directory, self._chain.folders
        told = self._chain.read(self._where)
        self._opened = (place, told)
        return told

    def _where(self, error: BaseException) -> str:
        """Return the revision whose code failed, and the last line of the project's own code."""
        scripts, deepest = "", ""
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename.startswith(self._folders):
                scripts = deepest = f"{Path(frame.filename).name}:{frame.lineno}"
            elif name := self._in_project(frame.filename):
                deepest = f"{name}:{frame.lineno}"
        if self._step is None:
            return deepest
        lines = dict.fromkeys(filter(None, (scripts, deepest)))
        return f"revision {self._step.revision.revision} ({', '.join(lines) or '?'})"

    def _in_project(self, file: str) -> str:
        """Return the path of a file as the project sees it; empty for another's, or a library's."""
        path = Path(file)
        resolved = path.resolve()
        if not path.is_file() or _STANDARD in resolved.parents:
            return ""
        try:
            own = resolved.relative_to(self._root)
        except ValueError:
            return ""
        return "" if _LIBRARIES.intersection(own.parts) else str(own)

    def _upgrade(self) -> dict[str, Any]:
        to = self._request.get("to")
        ends = self._chain.ends(to)
        self._show(ends[0] if len(ends) == 1 else "heads")
        return self._move(lambda current: self._chain.steps(current, to))

    def _downgrade(self) -> dict[str, Any]:
        self._show("base")
        return self._move(lambda current: self._scripts._downgrade_revs("base", current))  # noqa: SLF001

    def _move(self, revisions: Callable[[Any], list[Any]]) -> dict[str, Any]:
        """Run the steps that lead from where the database is to where it shall be."""
        self._chain.heads()
        before, after, count = [], [], 0  # type: list[str], list[str], int
        watched, seen = self._request.get("watched"), []  # type: Any, list[dict[str, Any]]

        def steps(current: Any, context: Any) -> Iterator[Any]:
            """Alembic runs each step before it asks for the next one."""
            nonlocal count
            before.extend(each for each in current if each not in before)
            todo = revisions(current)
            for number, self._step in enumerate(todo, 1):
                revision = self._step.revision
                text = f"{number}/{len(todo)} {revision.revision} {chain.title(revision)}"
                self.send("progress", text=text)
                yield self._step
                count += 1
                if watched and compare.may_be_of_interest(revision.revision, watched):
                    found = compare.rows(context)
                    schema = compare.look(context.connection, watched, found)
                    seen.append({"rows": sorted(found), "schema": schema})
            self._step = None
            after.extend(compare.rows(context))

        said = []  # type: list[list[Any]]
        listens = self._request.get("listens")
        with listening.heard(self._at, said) if listens else contextlib.nullcontext():
            self._run_env(steps)
        told = {"before": before, "after": after, "count": count, "heads": self._chain.heads()}
        told.update(places=seen, said=said)
        return {**told, **self._gate.take_revoked()}

    def _at(self) -> str:
        """Return the revision that is being run; empty where there is none."""
        return self._step.revision.revision if self._step else ""

    def _show(self, revision: str) -> None:
        """Let env.py see where the command goes."""
        if self._config.cmd_opts is not None:
            self._config.cmd_opts.revision = revision

    def _stamp(self) -> dict[str, Any]:
        """Write revisions into the version table, and run nothing; `purge` removes all others."""
        self._chain.heads()
        wanted = tuple(self._request["revisions"])

        def stamp(current: Any, context: Any) -> list[Any]:
            return list(self._scripts._stamp_revs(wanted, current))  # noqa: SLF001

        self._run_env(stamp, purge=bool(self._request.get("purge")))
        return {"revisions": list(wanted)}

    def _merge(self) -> dict[str, Any]:
        """Write the script of a revision that joins all heads."""
        # By their names: of "heads" Alembic leaves out those that another one depends on.
        made = command.merge(self._config, self._chain.heads(), message="merge heads")  # type: Any
        path, down = str(Path(made.path).resolve()), list(made.down_revision)
        return {"revision": made.revision, "path": path, "down": down}

    def _describe(self) -> dict[str, Any]:
        heads = self._chain.heads()
        found = {"revisions": [], "orphans": [], "heads": heads, "pending": []}  # type: dict[str, Any]
        tables, strays = {}, {}  # type: dict[str, None], dict[str, list[str]]

        def look(current: Any, context: Any) -> list[Any]:
            """Add up the version tables, of which env.py may have several."""
            found["revisions"] += [each for each in current if each not in found["revisions"]]
            placed = self._chain.place(current)
            orphans = placed["orphans"]
            found["orphans"] += [each for each in orphans if each not in found["orphans"]]
            found["pending"] += placed["pending"]
            metadata = context.opts.get("target_metadata")
            tables[_shown(context)] = None
            strays.update({_shown(context): orphans} if orphans else {})
            found.update(
                version_table=", ".join(tables),
                strays=strays,
                models=compare.count(metadata),
                enums=compare.enums(metadata),
                columns=compare.columns(metadata),
            )
            return []

        self._run_env(look, dont_mutate=True)
        return found

    def _current(self) -> dict[str, Any]:
        """Return the rows of the version tables, also where the scripts are no chain."""
        found = {}  # type: dict[str, None]

        def look(current: Any, context: Any) -> list[Any]:
            found.update(dict.fromkeys(current))
            return []

        self._run_env(look, dont_mutate=True)
        return {"revisions": list(found)}

    def _place(self) -> dict[str, Any]:
        """Hold rows of a version table against the scripts, without env.py."""
        self._chain.heads()
        return self._chain.place(tuple(self._request["revisions"]))

    def _inputs(self) -> dict[str, Any]:
        """Return what the project's code has depended on so far, as the tracer has it."""
        return self._tracer.account() if self._tracer else {}

    def _check(self) -> dict[str, Any]:
        with self._application:
            return compare.differences(self._config, self._scripts)

    def _make(self) -> dict[str, Any]:
        """Let the models make what is theirs in the scratch database of the request.

        With `spares`, what the server refuses is told, and the rest is made.
        """
        tables = []  # type: list[Any]
        unmade = [] if self._request["spares"] else None  # type: list[list[Any]] | None

        def make(current: Any, context: Any) -> list[Any]:
            self._gate.demand_aside(context.connection)
            metadata = context.opts.get("target_metadata")
            tables.extend(making.make(context.connection, metadata, unmade))
            return []

        self._run_env(make, dont_mutate=True)
        self._made = tables
        return {"unmade": unmade or []}

    def _models(self) -> dict[str, Any]:
        """Return where the models of some tables are, which they have made before."""
        return {"found": making.places(self._made, self._request["wanted"])}

    def _render(self) -> dict[str, Any]:
        """Return tables and indexes as the code of operations."""
        found = {}  # type: dict[str, Any]

        def look(current: Any, context: Any) -> list[Any]:
            found.update(found or rendering.code(context, self._request["wanted"]))
            return []

        self._run_env(look, dont_mutate=True)
        return found

    def _write(self) -> dict[str, Any]:
        """Write the script of a revision into a folder that need not be one of the chain's."""
        return {"path": writing.write(self._config, self._scripts, self._request["script"])}

    def _where_to(self) -> dict[str, Any]:
        """Return what env.py would connect to by itself, without connecting.

        `is_spoiled`: as in _load().
        """
        self._gate.only_looks, self._gate.opened = True, {}
        # What goes on after it was stopped takes the database for one that is down.
        is_spoiled = True
        try:
            self._run_env(lambda _current, _context: [], dont_mutate=True)
        except FoundError as error:
            is_spoiled = _is_in_import(error)
        except (Exception, SystemExit) as error:
            was_told = self._gate.opened and isinstance(error, OperationalError)
            if not (self._gate.found or was_told):  # else env.py went on after it was stopped
                raise
        if self._tracer:
            self._tracer.variables.fields.add("pg")  # libpq reads them, and nobody sees that
        with self._unheard():
            environ = {name: value for name, value in os.environ.items() if name.startswith("PG")}
        return {"opened": self._gate.opened, "environ": environ, "is_spoiled": is_spoiled}

    def _load(self) -> dict[str, Any]:
        """Run env.py as far as it needs no database, so that what is wrong with it is known.

        `is_spoiled`: it wanted to connect within an import. What was imported half, could not be
        imported again. `kept`: the variables of the request that the application may have kept.
        """
        env = str(Path(self._scripts.dir, "env.py"))
        with keeping.noticed(self._request.get("names") or (), env) as kept:
            return {**self._loaded(), "kept": kept}

    def _loaded(self) -> dict[str, Any]:
        self._gate.only_looks, self._gate.opened = True, {}
        try:
            self._run_env(lambda _current, _context: [], stops=True, dont_mutate=True)
        except LoadedError:
            pass
        except FoundError as error:
            return {"is_spoiled": _is_in_import(error)}
        except (Exception, SystemExit) as error:
            if not (self._gate.found or self._attributes.was_asked):
                raise
            return {"is_spoiled": _is_in_import(error)}
        finally:
            self._gate.only_looks = self._gate.found = False
        return {"is_spoiled": False}

    @property
    def _application(self) -> AbstractContextManager[Any]:
        return configuration.context(Path(self._scripts.dir, "env.py"))

    def _run_env(
        self,
        work: Callable[[Any, Any], Any],
        *,
        stops: bool = False,
        **options: Any,
    ) -> None:
        """Run env.py, with `work` as what it does for each version table that it has.

        stops: whether to end it where it begins to work, with all of its imports behind it.
        """
        section = self._config.config_ini_section
        databases = self._config.file_config.get(section, "databases", fallback="")
        if "," in databases:  # Alembic's template `multidb`
            raise SeveralDatabasesError(databases)
        ran = False
        self._step = None

        def noting(current: Any, context: Any) -> Any:
            nonlocal ran
            ran = True
            self._gate.demand_proof(context.connection)
            return work(current, context)

        context = EnvironmentContext(self._config, self._scripts, fn=noting, **options)  # type: Any
        if stops:
            context.is_offline_mode = context.configure = _stop
        with self._application, context as environment:
            try:
                self._scripts.run_env()
            except Exception as error:
                started = environment._migration_context  # noqa: SLF001
                meant = explained(error, started, in_migration=self._step is not None)
                if meant is error:
                    raise
                raise meant from error
        if not ran:
            raise util.CommandError("env.py never called context.run_migrations()")


def _stop(*_arguments: Any, **_options: Any) -> NoReturn:
    raise LoadedError


def _is_in_import(error: BaseException) -> bool:
    """Tell whether env.py was importing something when that was raised."""
    frames = traceback.extract_tb(error.__traceback__)  # without those of importlib
    own = [number for number, each in enumerate(frames) if Path(each.filename).name == "env.py"]
    return any(each.name == "<module>" for each in frames[(own or [-1])[-1] + 1 :])


def _shown(context: Any) -> str:
    """Return the name of the version table, with its schema unless that is `public`."""
    schema = context.version_table_schema
    return ".".join(filter(None, (None if schema == "public" else schema, context.version_table)))


def _threads() -> int:
    """Return how many threads the system knows, those of libraries included; 1 if it tells none."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return 1


def import_ahead() -> None:
    """Import what most env.py files do, while the parent is still busy with its backup."""
    for name in ("sqlalchemy.orm", "sqlalchemy.dialects.postgresql", "psycopg"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def collect() -> None:
    """Look for garbage from now on."""
    gc.freeze()  # else each full collection looks at all that is imported: 39 ms
    gc.enable()
