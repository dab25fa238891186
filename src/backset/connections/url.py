"""Connection URLs as people and SQLAlchemy's drivers spell them, read by libpq's own parser."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from backset.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Where libpq ends the credentials, the hosts and the database (conninfo_uri_parse_options).
PATTERN = re.compile(
    r"(?P<scheme>postgres(?:ql)?(?:\+\w+)?)://"
    r"(?P<credentials>[^@/]*@)?(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_RENAMED = {
    "ssl": "sslmode",  # asyncpg
    "timeout": "connect_timeout",  # asyncpg, pg8000
    "tcp_keepalive": "keepalives",  # pg8000
    "database": "dbname",  # every driver of SQLAlchemy
    "unix_sock": "host",  # pg8000: the socket's file
}
_DRIVER_ONLY = frozenset(
    {
        "async_fallback",
        "autocommit",
        "command_timeout",
        "cursor_factory",
        "direct_tls",
        "max_cacheable_statement_size",
        "max_cached_statement_lifetime",
        "prepare_threshold",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        "row_factory",
        "server_settings",
        "source_address",
        "ssl_context",
        "statement_cache_size",
    }
)


_WORDS = {  # libpq's keywords, as drivers that are not libpq's call them
    "asyncpg": {
        **{word: word for word in ("host", "port", "user", "password", "passfile")},
        "dbname": "database",
        "sslmode": "ssl",
        "connect_timeout": "timeout",
    },
    "pg8000": {
        **{word: word for word in ("user", "password", "host", "unix_sock")},
        "dbname": "database",
        "connect_timeout": "timeout",
    },
}


@cache
def keywords() -> dict[str, str]:
    """Return every keyword that libpq knows, with its environment variable, if it has one."""
    from psycopg import pq

    options = pq.Conninfo.get_defaults()
    return {each.keyword.decode(): (each.envvar or b"").decode() for each in options}


def pairs(query: str) -> Iterator[tuple[str, str]]:
    """Give (key, `key=value`) for each parameter of a query, its value still encoded."""
    for pair in filter(None, query.split("&")):
        yield unquote(pair.partition("=")[0]), pair


def translate(query: str, source: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return libpq's still percent-encoded parameters, and the problems found on the way."""
    params: dict[str, str] = {}
    problems = []
    for key, pair in pairs(query):
        keyword = _RENAMED.get(key, key)
        if keyword in _DRIVER_ONLY:
            continue
        if keyword not in keywords():
            problems.append((f"{source} has the unknown parameter {key!r}", "remove or correct it"))
        elif keyword in params:
            problems.append((f"{source} gives {keyword!r} twice", "keep one of them"))
        elif keyword == "sslpassword":
            remedy = "use a client key without a pass phrase"
            problems.append((f"{source} has an sslpassword, which pg_dump would show", remedy))
        else:
            params |= _value(key, keyword, pair.partition("=")[2])
    return params, problems


def respelled(url: str, driver: str) -> str:
    """Return a URL as another driver of SQLAlchemy wants it; empty means as libpq does.

    What that driver has no word for is left out. The URL must be one that translate() can read.
    """
    match = PATTERN.fullmatch(url)
    assert match is not None  # noqa: S101  (whoever has a Target has parsed it)
    if match["scheme"].partition("+")[2] == driver:
        return url
    params, _ = translate(match["query"] or "", "the URL")
    words = _WORDS.get(driver)
    if driver == "pg8000" and unquote(folder := params.pop("host", "")).startswith("/"):
        params["unix_sock"] = f"{folder}/.s.PGSQL.{params.get('port', '5432')}"
    pairs = [(words.get(key) if words else key, value) for key, value in params.items()]
    query = "&".join(f"{key}={value}" for key, value in pairs if key)
    hosts = f"{match['credentials'] or ''}{match['hosts']}/{match['database'] or ''}"
    scheme = f"postgresql+{driver}" if driver else "postgresql"
    return f"{scheme}://{hosts}" + (f"?{query}" if query else "")


def _value(key: str, keyword: str, raw: str) -> dict[str, str]:
    if key == "ssl":
        return {keyword: {"true": "require", "false": "disable"}.get(raw.lower(), raw)}
    if key == "timeout":
        return {keyword: str(math.ceil(float(raw)))} if raw.replace(".", "", 1).isdigit() else {}
    if key == "unix_sock":
        folder, _, port = unquote(raw).rpartition("/.s.PGSQL.")
        return {"host": quote(folder), "port": port} if folder else {"host": raw}
    return {keyword: raw}


def ask_libpq(match: re.Match[str], query: Mapping[str, str], source: str) -> dict[str, str]:
    """Return what libpq reads in a URL with a translated query. Raises SettingsError."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    url = f"postgresql://{match['credentials'] or ''}{match['hosts']}/{match['database'] or ''}"
    if query:
        url += "?" + "&".join(f"{key}={value}" for key, value in query.items())
    try:
        return {key: str(value) for key, value in conninfo_to_dict(url).items() if value != ""}
    except (ProgrammingError, UnicodeDecodeError):
        # libpq's own words quote the piece that it could not read, which may be the password.
        remedy = "percent-encode the special characters of user and password (@ is %40, % is %25)"
        raise SettingsError([(f"{source} cannot be read by libpq", remedy)]) from None
