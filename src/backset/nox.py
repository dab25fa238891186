"""A Nox session for any project: `from backset.nox import migrate_session`, `migrate_session()`.

The session `migrate` rehearses the whole chain on a PostgreSQL of each major version that is there,
or on the service of DATABASE_URL. Read in a noxfile, so it imports little until it runs.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.rehearsal import Check, NoxStage
    from backset.servers.location import Service

# Nox waits 0.3 s for a program that the terminal has interrupted too, then sends TERM to it; the
# other 0.2 s that it would leave to it are not enough to end what it has started.
CLEANING_S = 30.0
_DATABASE = "rehearsal"


class ServedPostgres(NamedTuple):
    """Where a session works: `url` of a service, else a throw-away server of `major`."""

    name: str
    url: str = ""
    major: int = 0


def migrate_session(
    name: str = "migrate",
    *,
    broken: Sequence[str] = (),
    downgrades: bool = True,
    seed_twice: bool = True,
    install: Sequence[str] = (),
    wait_s: int = 60,
) -> list[str]:
    """Register the session; return what it is called on each server, the newest one first.

    broken: a command that is given DATABASE_URL, and leaves a broken database in the empty one that
    it finds there; a leading `python` is the project's own interpreter, where `install` made one.
    Without it, the version table is made to name a revision that no file has.
    downgrades: whether the migrations are also taken back to base, and up again.
    seed_twice: whether the seed command is also run on what it has filled; some may run only once.
    install: what pip installs into an environment of the session's own; without it, backset looks
    for the project's environment as it always does.
    wait_s: how many seconds the server may take until it serves.
    """

    def session(session: nox.Session, server: ServedPostgres) -> None:
        from backset.process import signals  # noqa: PLC0415  (the noxfile's other sessions)
        from backset.rehearsal import NoxStage  # noqa: PLC0415

        if install:
            session.install(*install)
        env = _environment(session, server)
        with signals.raised(), _served(session, server, env, wait_s) as (given, service):
            stage = NoxStage(session, {**env, **given}, service, broken, CLEANING_S)
            wanted = {"downgrades": downgrades, "seeds_twice": seed_twice}
            checks = _rehearsed(stage, **wanted, wait_s=wait_s)
        _report(session, f"{name}({server.name})", checks)

    session.__doc__ = "Rehearse the chain: on each PostgreSQL that is here, or on DATABASE_URL."
    servers = _servers(name)
    cases = [nox.param(each, id=each.name) for each in servers]
    backend = None if install else "none"
    nox.session(name=name, venv_backend=backend)(nox.parametrize("server", cases)(session))
    return [f"{name}({each.name})" for each in servers]


def _servers(name: str) -> list[ServedPostgres]:
    """Return where the session runs: the service alone, where it is meant.

    A bare `nox` must never meet the server that a developer's shell happens to name.
    """
    from backset.servers.programs import installations  # noqa: PLC0415  (read in every noxfile)

    url = os.environ.get("DATABASE_URL", "")
    if url and (_in_ci() or _is_asked_for(name)):
        return [ServedPostgres("service", url=url)]
    return [ServedPostgres(str(major), major=major) for major in installations()]


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def _is_asked_for(name: str) -> bool:
    """Tell whether Nox was given the session's name; `migrate(18)` is not the service."""
    words = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    words += os.environ.get("NOXSESSION", "").split(",")
    wanted = re.compile(rf"(-s|-e|-k|--\w+=)?{re.escape(name)}(\(service\))?")
    return any(wanted.fullmatch(word) for word in words)


def _environment(session: nox.Session, server: ServedPostgres) -> dict[str, str | None]:
    """Return what the tasks get: none may reach another server than the one that is meant."""
    foreign = ("BACKSET_",) if server.url else ("BACKSET_", "PG")  # libpq's complete a URL
    env: dict[str, str | None] = dict.fromkeys(
        each for each in os.environ if each.startswith(foreign)
    )
    backups = Path(session.create_tmp()).resolve() / "backups"
    env |= {"BACKSET_BACKUPS": str(backups), "BACKSET_SERVER_LOG": "true", "BACKSET_BASE": "1"}
    if session.bin_paths:
        env["BACKSET_PYTHON"] = str(Path(session.bin) / "python")
    return env


@contextmanager
def _served(
    session: nox.Session, server: ServedPostgres, env: Mapping[str, str | None], wait_s: int
) -> Iterator[tuple[dict[str, str], Service | None]]:
    """Give what names the server for as long as the block lasts, and a throw-away one itself."""
    from backset.errors import BacksetError  # noqa: PLC0415  (the noxfile's other sessions)
    from backset.servers import location  # noqa: PLC0415
    from backset.settings.reader import load  # noqa: PLC0415
    from backset.text import redaction  # noqa: PLC0415

    try:
        if not server.url:
            with _thrown_away(session, server.major, env) as it:
                yield it
            return
        if not _in_ci() and "--service" not in session.posargs:
            location.refuse_rows(server.url, wait_s)
        given = {name: value for name, value in env.items() if value is not None}
        deep = load(Path.cwd(), {**os.environ, **given}).deep
    except BacksetError as error:
        session.error("\n".join(map(redaction.printable, error.lines())))
    yield {"DATABASE_URL": server.url, **({"BACKSET_DEEP": "true"} if deep is None else {})}, None


@contextmanager
def _thrown_away(
    session: nox.Session, major: int, env: Mapping[str, str | None]
) -> Iterator[tuple[dict[str, str], Service]]:
    """Run a server that stands in for the project's own. Raises SettingsError."""
    from backset.connections.target import Target  # noqa: PLC0415
    from backset.migrate import discovery  # noqa: PLC0415
    from backset.servers import location  # noqa: PLC0415
    from backset.settings.reader import load  # noqa: PLC0415
    from backset.settings.settings import THROW_AWAY  # noqa: PLC0415  (likewise)

    given = {name: value for name, value in os.environ.items() if not name.startswith("BACKSET_")}
    given |= {name: value for name, value in env.items() if value is not None}
    settings = load(Path.cwd(), given)
    meant = discovery.own_target(settings)
    names = discovery.stand_in_names(settings, meant, _DATABASE)
    with location.throw_away(names, major, keep="--keep" in session.posargs) as it:
        target = Target.parse(it.url)
        told = discovery.stand_in_environment(settings, meant, target)
        where = f"{target.params['host']}:{target.params['port']}"
        yield {**told, "DATABASE_URL": it.url, THROW_AWAY: where}, it


def _rehearsed(stage: NoxStage, *, downgrades: bool, seeds_twice: bool, wait_s: int) -> list[Check]:
    """Return every check; each is told as it is made."""
    from backset import rehearsal  # noqa: PLC0415
    from backset.process import signals, streams  # noqa: PLC0415  (the noxfile's other sessions)
    from backset.rehearsal import rehearse  # noqa: PLC0415

    checks = []
    wanted = {"downgrades": downgrades, "seeds_twice": seeds_twice}
    for check in rehearse(stage, **wanted, wait_s=wait_s):
        if signals.has_come():  # the program that Nox has ended said 0
            raise KeyboardInterrupt
        for each in rehearsal.lines([check]):
            streams.tell(each)
        checks.append(check)
    return checks


def _report(session: nox.Session, title: str, checks: Sequence[Check]) -> None:
    """Tell GitHub, where it asks; the session fails with the checks that did."""
    from backset import rehearsal  # noqa: PLC0415  (the noxfile's other sessions)

    if os.environ.get("GITHUB_ACTIONS"):
        print(*rehearsal.commands(title, checks), sep="\n", flush=True)  # noqa: T201  (they shall act)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(rehearsal.markdown(title, checks))
    if failed := [each.name for each in checks if not each.passed]:
        session.error(f"not kept: {', '.join(failed)}")
