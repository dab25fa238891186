"""The databases of a fleet: by a list, a query or patterns, each on its server, each once.

Nothing here has a password but the targets, which are made where the work is done.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg

from backset.catalog import catalog
from backset.connections import primary
from backset.connections.session import connect, explained
from backset.connections.target import PATTERN, Target
from backset.errors import SettingsError, StepFailedError
from backset.memory import whereabouts
from backset.process import process, streams
from backset.servers import location
from backset.servers.server import BESIDE, MAINTENANCE, MARK
from backset.settings import reader
from backset.settings.fleets import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.connections.session import Session
    from backset.settings.fleets import Fleet
    from backset.settings.settings import Settings

_TABLE = "[[tool.backset.fleet]]"
_TASK = re.compile(r"\binvoke [a-z]")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a fleet's settings are read: on this machine, or on that of a worker.

    folder: the project's. run: of the fleet, for which they are read once. flags: what the command
    line has set, by the names of variables.
    """

    folder: str
    run: str
    flags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FleetMember:
    """A database of a fleet, without any way to get there: `target` finds one.

    number: of its table in the settings, from 0. server: an identity that no other server has.
    label: what lines call it.
    """

    number: int
    database: str
    server: str
    label: str

    @property
    def key(self) -> str:
        """What a journal calls it, whatever becomes of the settings."""
        return f"{self.server}/{self.database}"


@lru_cache(maxsize=2)
def settings_at(site: Site) -> Settings:
    """Return the settings as they are there. Raises SettingsError."""
    return reader.load(Path(site.folder), {**reader.environment(), **dict(site.flags)})


def target(site: Site, member: FleetMember) -> Target:
    """Return how a member is reached from here. Raises SettingsError or StepFailedError."""
    return _server(site, member.number).named(member.database)


def remedy_of(database: str, remedy: str) -> str:
    """Return a remedy for a member: a task as it stands would be about the project's own target."""
    if "invoke fleet" in remedy or not _TASK.search(remedy):
        return remedy
    return f"with the URL of {database}: {remedy}"


def told_of(database: str, line: str) -> str:
    """Return a line of an error with the remedy for a member."""
    what, arrow, remedy = line.partition(" → ")
    return f"{what}{arrow}{remedy_of(database, remedy)}"


def demand_server(member: FleetMember, found: str) -> None:
    """Raise StepFailedError where the URL leads to another server here than where it was looked up.

    found: the identity of that server. Where one hides its own, that cannot be told.
    """
    if found != member.server and found.isdecimal() and member.server.isdecimal():
        what = f"the server of {member.label} is another one here than in the plan"
        raise StepFailedError(what, "let each machine of the cluster reach the same server by url")


def conceal(site: Site) -> None:
    """Let no password of the servers be in what this process says."""
    settings = settings_at(site)
    numbers = range(len(settings.fleet))
    own = (secret for each in numbers for secret in _server(site, each).secrets)
    streams.conceal({*settings.secrets(settings.target), *own})


@lru_cache(maxsize=64)
def _server(site: Site, number: int) -> Target:
    """Return a database of the server of a table, with the password that is known here."""
    settings = settings_at(site)
    fleet = settings.fleet[number]
    found = primary.pinned(_written(settings, fleet))
    if not fleet.password:
        return found
    secret = _said(settings, fleet)
    match = PATTERN.fullmatch(found.url)
    assert match is not None  # noqa: S101  (parse() accepted it)
    mark = "&" if match["query"] else "?"
    url = f"{found.url}{mark}password={quote(secret, safe='')}"
    if user := (match["credentials"] or "").removesuffix("@").partition(":")[0]:
        own = f"//{match['credentials']}"
        url = found.url.replace(own, f"//{user}:{quote(secret, safe='')}@", 1)
    return Target.parse(url, found.source)


def _written(settings: Settings, fleet: Fleet) -> Target:
    if fleet.url.startswith(VARIABLE):
        name = fleet.url.removeprefix(VARIABLE)
        if not (url := settings.environ.get(name)):
            what = f"{_TABLE} names the variable {name or '…'}, which is not set"
            raise SettingsError([(what, "set it to a URL, in the environment or in .env")])
        return Target.parse(url, name)
    if fleet.url:
        return Target.parse(fleet.url, f"url of {_TABLE}")
    if settings.target or settings.is_embedded:
        return settings.target or location.locate(settings)
    return location.locate(whereabouts.find(settings).settings)


def _said(settings: Settings, fleet: Fleet) -> str:
    """Return what the command for the password prints. Raises StepFailedError."""
    with process.pipe() as (source, sink):
        argv = settings.command(fleet.password)
        with process.Child(argv, env=settings.plain_env, cwd=settings.root, output=sink) as child:
            status = child.wait()
        sink.close()
        text = source.read().decode(errors="replace").strip()
    if status or not text or "\n" in text:
        what = f"the password's command of table {fleet.name} ended with {status}, and one line"
        raise StepFailedError(f"{what} was wanted", "correct password in its table")
    return text


def find(site: Site) -> tuple[FleetMember, ...]:
    """Return the members, in their order. Raises SettingsError, with every problem at once."""
    fleets = settings_at(site).fleet
    if not fleets:
        remedy = f'add {_TABLE} with databases = ["…"], glob = "tenant_*" or a query'
        raise SettingsError([("there is no fleet in the settings", remedy)])
    found, problems, addresses = [], [], dict[str, tuple[str, str]]()
    for number, fleet in enumerate(fleets):
        base = _server(site, number)
        with explained(base), closing(connect(base, "status")) as session:
            server, start = catalog.server_id(session), session.execute(_START).fetchone()
            named, wrong = _named(session, fleet)
        problems += [(f"{_TABLE} {fleet.name}: {what}", remedy) for what, remedy in wrong]
        # A standby has the identifier of its primary; for a role it may be a secret.
        address, first = addresses.setdefault(f"{server} {start}", (base.address, fleet.name))
        if address != base.address:
            what = f"{_TABLE} {first} and {fleet.name} are one server, by the addresses "
            problems.append((f"{what}{address} and {base.address}", "give both the same one"))
        found += [FleetMember(number, each, server or base.address, each) for each in named]
    problems += _twice(found)
    if problems:
        raise SettingsError(problems)
    return _labelled(found, [each.name for each in fleets])


def _named(session: Session, fleet: Fleet) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the databases that a table names, and what is wrong with them."""
    rows = session.execute(_DATABASES).fetchall()
    there = [name for name, _ in rows]
    if fleet.glob:
        named = [name for name, comment in rows if _is_meant(name, comment, fleet.glob)]
    else:
        named = _queried(session, fleet) if fleet.query else [*fleet.databases]
    named = [name for name in named if not _fits(name, fleet.exclude)]
    wrong = [
        (f"there is no database {each!r} on its server", "correct the name, or create it")
        for each in named
        if each not in there
    ]
    if not named:
        how = "query" if fleet.query else "glob" if fleet.glob else "list"
        wrong.append((f"the {how} names no database", "correct it, or remove the table"))
    return named, wrong


def _is_meant(name: str, comment: str | None, patterns: Sequence[str]) -> bool:
    """Tell whether a pattern means a database: none of ours beside a target, none of the server."""
    mark = (comment or "").removeprefix(MARK).partition("\n")[0].partition(" ")[0]
    is_ours = (comment or "").startswith(MARK) and mark in BESIDE
    return _fits(name, patterns) and not is_ours and name not in MAINTENANCE


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, each) for each in patterns)


def _queried(session: Session, fleet: Fleet) -> list[str]:
    """Return the first column of the query, which may only read. Raises SettingsError."""
    where = f"{_TABLE} {fleet.name}: the query"
    session.execute("SET default_transaction_read_only = on")
    try:
        cursor = session.execute(fleet.query.encode())
    except psycopg.OperationalError:  # the line is gone, or a timeout
        raise
    except psycopg.Error as error:
        raise SettingsError([(f"{where}: {str(error).splitlines()[0]}", "correct it")]) from None
    rows = cursor.fetchall() if cursor.description else []
    names = [each[0] for each in rows]
    if not all(isinstance(each, str) for each in names):
        raise SettingsError([(f"{where} gives what is no name", "let its first column be texts")])
    return names


def _twice(found: Sequence[FleetMember]) -> list[tuple[str, str]]:
    times = Counter(each.key for each in found)
    twice = dict.fromkeys(each.database for each in found if times[each.key] > 1)
    return [(f"{_TABLE} names the database {each} twice", "name it once") for each in twice]


def _labelled(found: Sequence[FleetMember], tables: Sequence[str]) -> tuple[FleetMember, ...]:
    """Return the members with a label each that no other one has."""
    names = [each.database for each in found]
    if len(set(names)) == len(names):
        return tuple(found)
    return tuple(replace(each, label=f"{tables[each.number]}/{each.database}") for each in found)


_START = "SELECT pg_postmaster_start_time()::text"
_DATABASES = """
SELECT datname::text, shobj_description(oid, 'pg_database') FROM pg_database
WHERE datallowconn AND NOT datistemplate ORDER BY datname
"""
