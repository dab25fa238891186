"""Which database a project means that sets no DATABASE_URL: what its env.py opens by itself.

And how a stand-in takes the place of that one: its names, and the variables that name it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from backset.connections.target import ENV_PY, LIBPQ_VARIABLES, PATTERN, Target
from backset.errors import AlembicError, BacksetError, SettingsError, StepFailedError
from backset.migrate import provenance
from backset.migrate.worker import Worker, nothing
from backset.settings.reader import on_embedded, restored_environment
from backset.text.explanations import OR_DOOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backset.migrate.answers import Scripts
    from backset.servers.location import ServiceNames
    from backset.settings.settings import Settings

# What env.py says when it waits for a URL, or has the placeholder of Alembic's template.
_WANTS_A_URL = re.compile(
    r"DATABASE_URL|SQLAlchemy URL|URL object|sqlalchemy\.dialects|KeyError: 'url'"
)
_NO_URL = (
    "DATABASE_URL is not set, and neither env.py nor Alembic's configuration names a database",
    "set DATABASE_URL, here or in .env; or have a PostgreSQL of backset's own: `backset start`",
)
_KEPT = ("sslmode", "sslrootcert", "sslcert", "sslkey", "ssl", "service", "passfile", "options")


@dataclass(frozen=True, slots=True)
class Discovery:
    """Which database a project means.

    settings: with a target, or for the embedded server. opened: the parameters of the connection
    that says so, where env.py had to be asked; with the password; none where env.py waits for a
    URL. account: what env.py depended on until then, as alembic_worker.tracer has it. scripts: the
    files of revisions, which say nothing of it. is_remembered: whether an earlier run has asked.
    """

    settings: Settings
    opened: Mapping[str, Any] = field(default_factory=dict, repr=False)
    account: Mapping[str, Any] = field(default_factory=dict, repr=False)
    scripts: tuple[Path, ...] = ()
    is_remembered: bool = False


def settled(settings: Settings) -> Settings:
    """Return the settings with a target, or for the embedded server where env.py waits for a URL.

    Raises SettingsError as find() does.
    """
    return find(settings).settings


def find(settings: Settings, meanwhile: Callable[[], object] = nothing) -> Discovery:
    """Ask env.py for the database; settle for the embedded server where env.py waits for a URL.

    meanwhile: done while env.py imports the application.

    One that does not say DATABASE_URL gets it from a program of the project, from elsewhere: an
    empty database would be another one. It is for the embedded server once that has been started.
    Raises SettingsError when env.py fails for another reason, or opens no PostgreSQL.
    """
    with Worker(settings) as worker:
        try:
            worker.begin_alone()
            opened, environ = worker.where_to(meanwhile)
        except AlembicError as error:
            there = _waiting(error, settings)
            with suppress(StepFailedError):  # its process may have died of that error
                if worker.has_read:
                    return Discovery(there, {}, worker.inputs(), _files(worker.scripts))
            return Discovery(there)
        account, files = worker.inputs(), _files(worker.scripts)
        worker.leave()
    opened = complete(opened, environ)
    return Discovery(aimed(settings, opened), opened, account, files)


def _files(scripts: Scripts) -> tuple[Path, ...]:
    return *scripts.locations, *(each.path for each in scripts.revisions)


def _waiting(error: AlembicError, settings: Settings) -> Settings:
    """Return the settings for the embedded server, if env.py waits for a URL; see find()."""
    if _WANTS_A_URL.search(error.words):
        from backset.servers import location

        if "DATABASE_URL" in error.words or location.project_cluster(settings.root).data.exists():
            return on_embedded(settings)
        raise SettingsError([_NO_URL]) from None
    if error.kind != "error":  # it is none of env.py's
        raise error
    raise SettingsError([_fails(error.words, settings)]) from None


def aimed(settings: Settings, opened: Mapping[str, Any]) -> Settings:
    """Return the settings with the target that the parameters of a connection name."""
    target = Target.parse(url_of(opened), ENV_PY)
    sources = {**settings.sources, "DATABASE_URL": ENV_PY}
    return replace(settings, target=target, sources=sources)


def complete(opened: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what counts of a connection's parameters; libpq's variables fill gaps."""
    variables = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    said = {name: opened.get(name) or environ.get(each) for name, each in variables.items()}
    database = opened.get("dbname") or opened.get("database") or environ.get("PGDATABASE")
    more = ("dialect", "driver", "unix_sock", *_KEPT)
    found = {**said, "dbname": database, **{name: opened.get(name) for name in more}}
    return {name: value for name, value in found.items() if value}


def url_of(opened: Mapping[str, Any]) -> str:
    """Return the URL of a connection, from its parameters as complete() has them."""
    if opened.get("dialect", "postgresql") != "postgresql":
        what = f"env.py opens a database of {opened['dialect']}"
        raise SettingsError([(what, "backset is for PostgreSQL: set DATABASE_URL")])
    host, port, name = (str(opened.get(each, "")) for each in ("host", "port", "user"))
    query = {name: str(opened[name]) for name in _KEPT if name in opened}
    host = str(opened.get("unix_sock", host))
    if host.startswith("/"):
        query["unix_sock" if "unix_sock" in opened else "host"] = host
        host = ""
    secret = opened.get("password")
    password = f":{quote(str(secret), safe='')}" if secret else ""
    user = f"{quote(name, safe='')}{password}@" if name else ""
    driver = f"+{opened['driver']}" if "driver" in opened else ""
    path = quote(str(opened.get("dbname", name)), safe="")
    shown = f"[{host}]" if ":" in host else host
    url = f"postgresql{driver}://{user}{shown}{f':{port}' if port else ''}/{path}"
    return f"{url}?{urlencode(query, quote_via=quote)}" if query else url


def _fails(words: str, settings: Settings) -> tuple[str, str]:
    what = f"DATABASE_URL is not set, and env.py fails before it connects: {words}"
    if settings.upgrade or settings.lineages[0].upgrade:
        return what, "set DATABASE_URL, here or in .env"
    return what, f"mend that, or set DATABASE_URL, here or in .env; {OR_DOOR}"


def own_target(settings: Settings) -> Target | None:
    """Return the database that the project means, by DATABASE_URL or env.py; None: nobody says it.

    Nothing is connected to.
    """
    if settings.target or settings.is_embedded:
        return settings.target
    with restored_environment():
        try:
            return settled(settings).target
        except BacksetError:  # it waits for a URL; what else is wrong, the run will say
            return None


def stand_in_names(settings: Settings, meant: Target | None, database: str) -> ServiceNames:
    """Return what the URL of a stand-in has in common with the project's own.

    Migrations name the role (OWNER TO, GRANT … TO) and the database (ALTER DATABASE … SET), and
    code depends on the driver. database: its name where nobody says another one.
    """
    from backset.servers import location
    from backset.servers.location import ServiceNames

    if meant is None:
        return ServiceNames(database=database, driver=location.needed_driver(settings))
    match = PATTERN.fullmatch(meant.url)
    driver = match["scheme"].partition("+")[2] if match else ""
    return ServiceNames(database=meant.database, role=meant.params.get("user", ""), driver=driver)


def stand_in_environment(
    settings: Settings, meant: Target | None, stand_in: Target
) -> dict[str, str]:
    """Return the variables that name the project's own database, as they name the stand-in.

    libpq's are among them where there are any: a command may have no other word of the server.
    """
    if meant is None:
        return {}
    libpq = stand_in.libpq_env if LIBPQ_VARIABLES & settings.environ.keys() else {}
    origins = provenance.found(settings, meant.params, stand_in)
    templates = {each.variable: each.template for each in origins if each.variable}
    return {**libpq, **replace(settings, env=templates).filled_env(stand_in)}


def settled_on_stand_in(settings: Settings, meant: Target | None, stand_in: Target) -> Settings:
    """Return the settings for a run on the stand-in, in which nothing names another server."""
    here = on_embedded(settings)
    environ = {**here.environ, **stand_in_environment(settings, meant, stand_in)}
    return replace(here, target=stand_in, is_throw_away=True, environ=environ)
