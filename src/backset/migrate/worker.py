"""The worker's client: starts alembic_worker for one database, asks it, proves its target."""

from __future__ import annotations

import json
import secrets
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from backset.connections.target import respelled
from backset.errors import AlembicError, StepFailedError
from backset.migrate import program, provenance
from backset.migrate.answers import (
    Description,
    Merged,
    Migrated,
    Placed,
    Problem,
    Rendered,
    RenderedTable,
    Scripts,
)
from backset.process.identity import application_name
from backset.revisions.script_files import Folders, Revision
from backset.settings.values import DRIVERS
from backset.text import explanations, redaction

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Mapping, Sequence

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.settings.settings import Settings
    from backset.settings.values import Lineage


_MOST_QUOTED = 12  # lines of what a server has said


def _silent(_text: str) -> None:
    """Tell nobody."""


def nothing() -> None:
    """Do nothing."""


class Worker:
    """A child process that imports Alembic at once, and then works on one target and no other.

    lineage: the chain of revisions that it works with; without it, the first one.
    versions: a folder of revisions in place of those that the configuration names.
    listens: whether an upgrade is to tell in `said` what its revisions say to the server.

    Starting it needs nothing but the settings, so it can come before our own imports. It loads the
    project's code only when `begin` has given it the environment for its target.
    """

    def __init__(
        self,
        settings: Settings,
        lineage: Lineage | None = None,
        versions: Path | None = None,
        *,
        of: tuple[program.Program, socket.socket] | None = None,
    ) -> None:
        self._settings = settings
        self._versions = versions and str(versions.resolve())
        self._target: Target | None = None
        self.lineage = lineage or settings.lineages[0]
        self.listens = False
        self.said: Sequence[Sequence[Any]] = ()
        self._greeting: dict[str, Any] = {}
        self._is_spoiled, self._is_left = True, False
        self._start(of)

    @classmethod
    def several(cls, settings: Settings, lineages: Sequence[Lineage]) -> list[Self]:
        """Return a worker for each of these, of which only one process has to import Alembic."""
        if sys.platform == "darwin":  # libraries of the system do not outlive a fork there
            return [cls(settings, each) for each in lineages]
        first = [cls(settings, each) for each in lineages[:1] if program.is_left(settings)]
        lineages = lineages[len(first) :]
        if not lineages:
            return first
        shared = program.Program(settings, len(lineages))
        pairs = zip(lineages, tuple(shared.links), strict=True)
        return [*first, *(cls(settings, each, of=(shared, link)) for each, link in pairs)]

    def meant_for(self, settings: Settings, lineage: Lineage, versions: Path | None = None) -> Self:
        """Let one that was started ahead work by these, as __init__() has them; before begin()."""
        self._settings = settings
        self._versions = versions and str(versions.resolve())
        self.lineage = lineage
        return self

    def _start(self, of: tuple[program.Program, socket.socket] | None = None) -> None:
        self._program, self._link = of or program.alone(self._settings)
        self._replies = self._link.makefile("r", encoding="utf-8")

    def begin(
        self,
        target: Target,
        purpose: str = "alembic",
        instead_of: str = "",
        *,
        watched: bool = False,
    ) -> None:
        """Give the worker the environment for `target`; it reads the scripts.

        instead_of: the database for which `target` stands in, such as the one that is rebuilt.
        What env.py opens under that name is opened in `target`, wherever its URL comes from.
        watched: whether inputs() will be asked for.
        """
        self._target = target
        greeting = greet(self._settings, self.lineage, target, purpose, instead_of, watched=watched)
        self._greet(greeting)

    def begin_alone(self, environ: Mapping[str, str] | None = None) -> None:
        """Let the worker read the scripts as the project itself would: for where_to() only.

        environ: the environment of a command of the project, in place of the plain one.
        """
        greeting = greet(self._settings, self.lineage, None, watched=environ is None)
        self._greet(greeting if environ is None else {**greeting, "environ": dict(environ)})

    def _greet(self, greeting: dict[str, Any]) -> None:
        if self._greeting:  # it was begun for another target, and has said what it read
            _ = self.scripts
            del self.scripts
        greeting["configuration"]["versions"] = self._versions
        self._greeting = greeting
        self._send(greeting)

    def load(self) -> None:
        """Run env.py as far as it needs no database. Raises StepFailedError where that fails."""
        if self._ask_alone("load")["is_spoiled"]:
            self._end()
            self._start()
            self._send(self._greeting)
            self._receive(_silent)

    def has_imported(self, names: Collection[str]) -> bool:
        """Run env.py as load() does; tell whether the application is then as any database wants it.

        names: of variables that differ from one to another, none of which it may have read.
        """
        told = self._ask_alone("load", names=list(names))
        return not (told["is_spoiled"] or told["kept"])

    def multiply(self) -> bool:
        """Let its process make others of itself from now on, and answer nothing more.

        Tell whether that is safe: it has no other thread, which a fork would leave behind.
        """
        self._send({"command": "more"})
        return bool(self._receive(_silent)["is_alone"])

    def where_to(
        self, meanwhile: Callable[[], object] = nothing
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the parameters of the first connection that env.py wants to open; none is opened.

        meanwhile: done while env.py imports the application.

        They are those of its driver, with SQLAlchemy's names of that and of the dialect; the
        password is among them. Beside them, libpq's variables, which env.py may have set itself.
        Raises StepFailedError.
        """
        _ = self.scripts
        self._send({"command": "where"})
        meanwhile()
        told = self._receive(_silent)
        self._is_spoiled = told["is_spoiled"]
        return told["opened"], told["environ"]

    def leave(self) -> None:
        """Leave its process to the next worker: it need not import the application once more."""
        self._is_left = not self._is_spoiled and program.left_to_the_next(self._program)

    def _ask_alone(self, command: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON)
        """Run what needs no database. Raises StepFailedError."""
        _ = self.scripts
        self._send({"command": command, **more})
        return self._receive(_silent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end()

    def _end(self) -> None:
        self._replies.close()
        if not self._is_left:
            self._program.end(self._link)

    @cached_property
    def scripts(self) -> Scripts:
        """The scripts on disk; waits until the worker has read them."""
        ready = self._receive(_silent)
        folders = [*map(Path, ready["folders"]), *_stale(self._settings.root)]
        revisions = tuple(map(Revision.of, ready["revisions"]))
        problems = tuple(map(_problem, ready["problems"]))
        return Scripts(
            *(tuple(ready["heads"]), tuple(_outermost(folders)), revisions, problems),
            locations=tuple(map(Path, ready["locations"])),
            is_recursive=ready["is_recursive"],
            goal=tuple(ready["goal"]),
            below=tuple(map(Path, ready["below"])),
        )

    @property
    def has_read(self) -> bool:
        """Whether the scripts were read, so that it answers what is asked next."""
        return "scripts" in self.__dict__

    def every_script(self) -> tuple[Revision, ...]:
        """Return the scripts, those that Alembic did not come to included: it stops at an error."""
        found = self.scripts.revisions
        if not self.scripts.problems:
            return found
        known = {each.id for each in found}
        return (*found, *(each for each in self.folders.current() if each.id not in known))

    def shown(self, file: str) -> str:
        """Return a path as people read it: seen from the project, where it is in there."""
        return self._settings.shown(Path(file))

    @property
    def has_door(self) -> bool:
        """Whether a command of the project migrates this chain."""
        return bool(self._settings.upgrade or self.lineage.upgrade)

    @property
    def beside(self) -> list[Lineage]:
        """The other chains of the database."""
        return [each for each in self._settings.lineages if each != self.lineage]

    @property
    def folders(self) -> Folders:
        """Where the project's scripts are, for those who look for others there."""
        scripts, settings = self.scripts, self._settings
        return Folders(settings.root, scripts.locations, settings.backups, scripts.is_recursive)

    def upgrade(
        self,
        session: Session,
        progress: Callable[[str], None] = _silent,
        *,
        to: Sequence[str] = (),
        watched: Mapping[str, Any] | None = None,
    ) -> Migrated:
        """Migrate to where the chain ends, or to some revisions.

        This method, and each of the next ones that gets a session, works on the database of that
        session. Proof of target: the session holds a random advisory lock, and the worker's every
        connection must see that lock in its own database before anything else runs on it.
        watched: what is looked at after each revision, as alembic_worker.compare has it.
        Raises StepFailedError.
        """
        self.begin_upgrade(session, to=to, watched=watched)
        return self.upgraded(progress)

    def begin_upgrade(
        self,
        session: Session,
        *,
        to: Sequence[str] = (),
        watched: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin what upgrade() does, without waiting for it; upgraded() does that."""
        self._request("upgrade", session, to=list(to), watched=watched, listens=self.listens)

    def upgraded(self, progress: Callable[[str], None]) -> Migrated:
        """Wait for what was begun. Raises StepFailedError."""
        done = Migrated(**self._receive(progress))
        self.said = done.said
        return done

    def downgrade(self, session: Session, progress: Callable[[str], None] = _silent) -> int:
        """Take every migration back; return how many there were. Raises StepFailedError."""
        self._request("downgrade", session)
        return int(self._receive(progress)["count"])

    def describe(self, session: Session) -> Description:
        """Return where the database is, and what the models are. Raises StepFailedError."""
        return Description(**self._ask("describe", session))

    def current(self, session: Session) -> tuple[str, ...]:
        """Return the rows of the version tables that env.py sees. Raises StepFailedError."""
        return tuple(self._ask("current", session)["revisions"])

    def differences(self, session: Session) -> dict[str, Any]:
        """Return how the models differ from the database, as alembic_worker.compare has it."""
        return self._ask("check", session)

    def make(self, session: Session, aside: str, *, spares: bool = False) -> list[list[str]]:
        """Let the models make what is theirs in a scratch database; return what they could not.

        aside: its name; the session is on it. What env.py opens as our target is opened there.
        spares: whether what the server refuses is told, as alembic_worker.making has it, and the
        rest is made. Raises StepFailedError.
        """
        return list(self._ask("make", session, aside=aside, spares=spares)["unmade"])

    def models(self, wanted: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
        """Return where the models of tables are that have made them; wanted: schema and name."""
        self._send({"command": "models", "wanted": list(wanted)})
        return list(self._receive(_silent)["found"])

    def stamp(self, session: Session, revisions: Sequence[str], *, purge: bool = True) -> None:
        """Let the version table have these revisions; purge: and no others.

        Raises StepFailedError.
        """
        self._ask("stamp", session, revisions=list(revisions), purge=purge)

    def merge(self, session: Session | None) -> Merged:
        """Write the script that joins all heads; without a database where there is none."""
        made = self._ask_alone("merge") if session is None else self._ask("merge", session)
        return Merged(made["revision"], Path(made["path"]), made["down"])

    def render(self, session: Session, wanted: Mapping[str, Any]) -> Rendered:
        """Return tables and indexes of the database as code; wanted: as alembic_worker has it.

        Raises StepFailedError.
        """
        told = self._ask("render", session, wanted=wanted)
        tables = {key: RenderedTable(**each) for key, each in told.pop("tables").items()}
        return Rendered(tables=tables, **told)

    def write(self, **script: Any) -> Path:  # noqa: ANN401  (JSON)
        """Write the file of a revision as the project would; script: as alembic_worker has it.

        It needs no env.py and no database. Raises StepFailedError.
        """
        _ = self.scripts
        self._send({"command": "write", "script": script})
        return Path(self._receive(_silent)["path"])

    def _ask(self, command: str, session: Session, **more: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON)
        self._request(command, session, **more)
        return self._receive(_silent)

    def _request(self, command: str, session: Session, **more: Any) -> None:  # noqa: ANN401  (JSON)
        key = secrets.randbits(63)
        _ = self.scripts
        session.execute("SELECT pg_advisory_lock(%s)", [key])  # it ends with the session
        self._send({"command": command, "lock_key": key, **more})

    def place(self, revisions: Sequence[str]) -> Placed:
        """Hold rows of a version table against the scripts.

        It needs no env.py and no database. Raises StepFailedError.
        """
        _ = self.scripts
        self._send({"command": "place", "revisions": list(revisions)})
        return Placed(**self._receive(_silent))

    def inputs(self) -> dict[str, Any]:
        """Return what the project's code has depended on so far; begin() was told to watch it."""
        self._send({"command": "inputs"})
        return self._receive(_silent)

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(ConnectionError):  # it has died; waiting for its reply says why
            self._link.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self, progress: Callable[[str], None]) -> dict[str, Any]:
        with suppress(ConnectionResetError):  # it has died; the rest says why
            for line in self._replies:
                reply: dict[str, Any] = json.loads(line)
                kind = reply.pop("event")
                if kind == "failed":
                    raise failure(self._settings, self.lineage, self._target, reply)
                if kind != "progress":
                    return reply
                progress(reply["text"])
        raise self._died()

    def _died(self) -> StepFailedError:
        status = self._program.status()
        said = ([line for line in self.output if line.strip()] or ["it said nothing"])[-1]
        python = self._settings.shown_python
        if said.startswith("SyntaxError"):  # what reads our first file cannot read the project's
            return StepFailedError(f"{python}: {said}", explanations.INTERPRETER)
        if "ModuleNotFoundError" in said or said.startswith("too old: "):
            remedy = explanations.installation(self._settings.python, said)
            return StepFailedError(f"{python}: {said}", remedy)
        how = "" if status is None else f" with {status}"
        what = f"Alembic's process ended{how}: {said} ({python})"
        return StepFailedError(what, explanations.MEND)

    @property
    def output(self) -> list[str]:
        """The last lines that the migrations and env.py printed, without passwords."""
        return [self._settings.redact(self._target, line) for line in self._program.tail]


def greet(
    settings: Settings,
    lineage: Lineage,
    target: Target | None,
    purpose: str = "alembic",
    instead_of: str = "",
    *,
    watched: bool = False,
) -> dict[str, Any]:
    """Return what a worker is told before all else, as Worker.begin() describes it.

    target: without one, it is told what the project itself would see.
    """
    environ, names = settings.plain_env, ["", ""]
    more: dict[str, Any] = {"options": settings.plain_options(lineage)}
    if target is not None:
        environ, names = settings.child_env(target), [instead_of, target.database]
        name = application_name(purpose, is_child=True)
        environ = {**environ, "PGAPPNAME": name, **target.options_env(environ)}
        urls = {driver: respelled(target.url, driver) for driver in DRIVERS}
        more = {"urls": {"": target.url, **urls}, "options": settings.options(lineage, target)}
    arguments = settings.x_arguments(lineage, target)
    given = {"file": lineage.config, "section": lineage.section, "arguments": arguments}
    return {
        "environ": environ,
        "names": names,
        "configuration": {**given, **more},
        "lineage": asdict(lineage),
        "elsewhere": _server_of(target) if target and settings.is_throw_away else {},
        "watched": watched,
        "port": settings.port(target) if target else "",
        "rights": _rights() if target and target.writes else {},
    }


def _rights() -> dict[str, str]:
    """Return the SQL by which rights are given back for a migration, as the worker runs it."""
    from backset.catalog import objects

    return {"tables": objects.TABLES, "rights": objects.RIGHTS, "back": objects.BACK}


def failure(
    settings: Settings, lineage: Lineage, target: Target | None, reply: Mapping[str, Any]
) -> AlembicError:
    """Return what a person reads of a worker's failure."""
    message = settings.redact(target, reply["message"])
    where = f"{reply['where']}: " if reply.get("where") else ""
    what, remedy = explanations.of(
        *(reply["kind"], message),
        where=where,
        target=target.shown if target else "",
        python=settings.shown_python,
        alembic=lineage.alembic,
    )
    origins = provenance.found(settings, reply.get("opened", {}), target)
    failed = AlembicError(
        what + provenance.told(origins),
        provenance.remedy(origins) or remedy,
        kind=reply["kind"],
        words=f"{where}{message}",
    )
    quoted = (settings.redact(target, each) for each in reply.get("quoted", ()))
    told = (line for each in quoted if redaction.is_shown(each) for line in each.splitlines())
    failed.quoted = tuple(islice(told, _MOST_QUOTED))
    return failed


def _server_of(target: Target) -> dict[str, object]:
    """Return a server over TCP and the login, as every driver's parameters call them."""
    named = {name: target.params.get(name, "") for name in ("host", "user", "password")}
    return {**named, "port": int(target.params["port"])}


def _problem(content: dict[str, Any]) -> Problem:
    return Problem(**{**content, "paths": tuple(map(Path, content["paths"]))})


def _stale(root: Path) -> list[Path]:
    """Return folders such as `versions_backup`, where old scripts are put out of the way."""
    return [path for path in root.glob("versions*") if path.is_dir()]


def _outermost(folders: list[Path]) -> list[Path]:
    """Return the folders that no other one of them contains, sorted."""
    unique = sorted(set(folders))
    return [each for each in unique if not any(other in each.parents for other in unique)]
