"""Which database a project means that sets no DATABASE_URL: what its env.py opens by itself."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from backset.connections.target import ENV_PY, Target
from backset.errors import AlembicError, SettingsError
from backset.migrate.worker import Worker
from backset.servers import clusters
from backset.settings.reader import on_embedded
from backset.text.explanations import OR_DOOR

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def settled(settings: Settings) -> Settings:
    """Return the settings with a target, or for the embedded server where env.py waits for a URL.

    One that does not say DATABASE_URL gets it from a program of the project, from elsewhere: an
    empty database would be another one. It is for the embedded server once that has been started.
    Raises SettingsError when env.py fails for another reason, or opens no PostgreSQL.
    """
    try:
        with Worker(settings) as worker:
            worker.begin_alone()
            opened, environ = worker.where_to()
    except AlembicError as error:
        if _WANTS_A_URL.search(error.words):
            if (
                "DATABASE_URL" in error.words
                or clusters.project_cluster(settings.root).data.exists()
            ):
                return on_embedded(settings)
            raise SettingsError([_NO_URL]) from None
        if error.kind != "error":  # it is none of env.py's
            raise
        raise SettingsError([_fails(error.words, settings)]) from None
    target = Target.parse(url_of(opened, environ), ENV_PY)
    sources = {**settings.sources, "DATABASE_URL": ENV_PY}
    return replace(settings, target=target, sources=sources)


def url_of(opened: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return the URL of a connection, from its driver's parameters; libpq's variables fill gaps."""
    if opened.get("dialect", "postgresql") != "postgresql":
        what = f"env.py opens a database of {opened['dialect']}"
        raise SettingsError([(what, "backset is for PostgreSQL: set DATABASE_URL")])
    parts = {
        name: str(opened.get(name) or environ.get(variable) or "")
        for name, variable in (("host", "PGHOST"), ("port", "PGPORT"), ("user", "PGUSER"))
    }
    database = opened.get("dbname") or opened.get("database") or environ.get("PGDATABASE")
    query = {name: str(opened[name]) for name in _KEPT if opened.get(name)}
    host = str(opened.get("unix_sock") or parts["host"])
    if host.startswith("/"):
        query["unix_sock" if opened.get("unix_sock") else "host"] = host
        host = ""
    secret = opened.get("password") or environ.get("PGPASSWORD")
    password = f":{quote(str(secret), safe='')}" if secret else ""
    user = f"{quote(parts['user'], safe='')}{password}@" if parts["user"] else ""
    port = f":{parts['port']}" if parts["port"] else ""
    driver = f"+{opened['driver']}" if opened.get("driver") else ""
    path = quote(str(database or parts["user"]), safe="")
    shown = f"[{host}]" if ":" in host else host
    url = f"postgresql{driver}://{user}{shown}{port}/{path}"
    return f"{url}?{urlencode(query, quote_via=quote)}" if query else url


def _fails(words: str, settings: Settings) -> tuple[str, str]:
    what = f"DATABASE_URL is not set, and env.py fails before it connects: {words}"
    if settings.upgrade or settings.lineages[0].upgrade:
        return what, "set DATABASE_URL, here or in .env"
    return what, f"mend that, or set DATABASE_URL, here or in .env; {OR_DOOR}"
