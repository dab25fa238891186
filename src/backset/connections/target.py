"""Target: the database that a URL names, as libpq's own parser reads it. Nothing connects here."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from backset.errors import SettingsError
from backset.text import redaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_SECRET = frozenset({"password", "sslpassword", "scram_client_key", "scram_server_key"})
_NAME_BYTES = 63  # NAMEDATALEN - 1
# What libpq reads (fe-connect.c); other names that begin with PG are the project's own.
LIBPQ_VARIABLES = frozenset(
    f"PG{word}"
    for word in (
        *("APPNAME", "CHANNELBINDING", "CLIENTENCODING", "CONNECT_TIMEOUT", "DATABASE"),
        *("DATESTYLE", "GEQO", "GSSDELEGATION", "GSSENCMODE", "GSSLIB", "HOST", "HOSTADDR"),
        *("KRBSRVNAME", "LOADBALANCEHOSTS", "MAXPROTOCOLVERSION", "MINPROTOCOLVERSION"),
        *("OPTIONS", "PASSFILE", "PASSWORD", "PORT", "REQUIREAUTH", "REQUIREPEER"),
        *("SERVICE", "SERVICEFILE", "SSLCERT", "SSLCERTMODE", "SSLCOMPRESSION", "SSLCRL"),
        *("SSLCRLDIR", "SSLKEY", "SSLMAXPROTOCOLVERSION", "SSLMINPROTOCOLVERSION"),
        *("SSLMODE", "SSLNEGOTIATION", "SSLROOTCERT", "SSLSNI", "SYSCONFDIR"),
        *("TARGETSESSIONATTRS", "TZ", "USER"),
    )
)
CONNECT_TIMEOUT_S = "10"  # for each host, unless the URL says otherwise
_PLACES = ("host", "hostaddr", "port")  # libpq takes a list of each
_AMONG_HOSTS = ("target_session_attrs", "load_balance_hosts")  # how it chooses
ENV_PY = "env.py"  # the source of a URL that it opens by itself
ONE_HOST = "name the primary alone: each connection could choose another host"
# Where libpq ends the credentials, the hosts and the database (conninfo_uri_parse_options).
PATTERN = re.compile(
    r"(?P<scheme>postgres(?:ql)?(?:\+\w+)?)://"
    r"(?P<credentials>[^@/]*@)?(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_COLON = re.compile("%3a", re.IGNORECASE)
_PLAIN_WORDS = frozenset({"host", "port", "sslmode"})  # of a query, in a URL that needs no libpq
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.~/-]+")
_PLAIN = re.compile(
    r"(?:(?P<user>[\w.~-]+)(?::(?P<password>[\w.~-]+))?@)?"
    r"(?P<host>[\w.~-]+)?(?::(?P<port>[0-9]+))?/(?P<dbname>[\w.~-]+)?",
    re.ASCII,
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


@dataclass(frozen=True, slots=True)
class Target:
    """A database: the URL as it was written, and what libpq understands of it.

    url: as the user wrote it; it may hold a password, so it stays out of `repr`.
    params: libpq's keywords, `dbname` and `password` among them.
    source: what says that URL.
    writes: whether sessions of this run are to write there although those of its login only read.
    hears_options: whether libpq's options reach the server, and not a pooler that refuses them.
    others: the same at the hosts beside this one, where the URL names several.
    """

    url: str = field(repr=False)
    params: Mapping[str, str] = field(repr=False)
    database: str
    source: str = field(default="DATABASE_URL", repr=False, compare=False)
    writes: bool = field(default=False, repr=False, compare=False)
    hears_options: bool = field(default=False, repr=False, compare=False)
    others: tuple[Target, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def parse(cls, url: str, source: str = "DATABASE_URL") -> Target:
        """Read a URL as libpq or SQLAlchemy spell it. Raises SettingsError with every problem."""
        match = PATTERN.fullmatch(url)
        if match is None or "@" in match["hosts"] + (match["database"] or ""):
            remedy = (
                "postgresql://user:password@host:port/database, with @ / : in it percent-encoded"
            )
            raise SettingsError([(f"{source} is not a PostgreSQL URL", f"write {remedy}")])
        translated, problems = _translate(match["query"] or "", source)
        params = {} if problems else _ask_libpq(match, translated, source)
        problems += [] if problems else _judge(params, source)
        if problems:
            raise SettingsError(problems)
        return cls(url, params, params["dbname"], source)

    def named(self, database: str) -> Target:
        """Return the same server and spelling with another database name, and prove that."""
        match = PATTERN.fullmatch(self.url)
        assert match is not None  # noqa: S101  (parse() accepted it)
        query = [
            f"{key}={quote(database, safe='')}" if key in {"dbname", "database"} else pair
            for key, pair in _pairs(match["query"] or "")
        ]
        url = f"{match['scheme']}://{match['credentials'] or ''}{match['hosts']}"
        url += f"/{quote(database, safe='')}" + (f"?{'&'.join(query)}" if query else "")
        parsed = Target.parse(url)
        others = tuple(each.named(database) for each in self.others)
        other = replace(
            self, url=url, params=parsed.params, database=parsed.database, others=others
        )
        if {**self.params, "dbname": database} != dict(other.params):
            remedy = "write the URL in the plain form postgresql://user@host:port/database"
            raise SettingsError([("DATABASE_URL does not let its database be replaced", remedy)])
        return other

    @property
    def names_several_hosts(self) -> bool:
        """Whether each connection could go to another server."""
        return any("," in self.params.get(each, "") for each in _PLACES[:2])

    @property
    def address(self) -> str:
        """Where the server of the only host is."""
        host, hostaddr, port = (self.params.get(each, "") for each in _PLACES)
        return f"{host or hostaddr}:{port or 5432}"

    def at_each_host(self) -> list[Target]:
        """Return the target at each of its hosts alone, in their order. Raises SettingsError."""
        lists = {each: self.params[each].split(",") for each in _PLACES if each in self.params}
        number = max(len(lists.get(each, ())) for each in _PLACES[:2])
        lists = {key: some * number if len(some) == 1 else some for key, some in lists.items()}
        if any(len(each) != number for each in lists.values()):
            what = f"{self.source} names {number} hosts, and not a port or hostaddr for each"
            raise SettingsError([(what, "give one for all, or one for each")])
        return [
            self._placed({key: some[at] for key, some in lists.items()}) for at in range(number)
        ]

    def _placed(self, place: Mapping[str, str]) -> Target:
        """Return the same database at one place: its `host`, `hostaddr` and `port`."""
        match = PATTERN.fullmatch(self.url)
        assert match is not None  # noqa: S101  (parse() accepted it)
        gone = {*_PLACES, *_AMONG_HOSTS}
        query = [pair for key, pair in _pairs(match["query"] or "") if key not in gone]
        host, port = place.get("host", ""), place.get("port", "")
        hosts = ""
        if host.startswith(("/", "@")) or not host:
            named = {"host": host, "port": port}
        else:
            hosts = f"[{quote(host, safe=':')}]" if ":" in host else quote(host, safe="")
            hosts += f":{port}" if port else ""
            named = {}
        named["hostaddr"] = place.get("hostaddr", "")
        query += [f"{key}={quote(value)}" for key, value in named.items() if value]
        url = f"{match['scheme']}://{match['credentials'] or ''}{hosts}/{match['database'] or ''}"
        url += f"?{'&'.join(query)}" if query else ""
        params = {key: value for key, value in self.params.items() if key not in gone}
        return replace(self, url=url, params=params | {k: v for k, v in place.items() if v})

    @property
    def mended_in(self) -> str:
        """What a person corrects where this is another database than they mean."""
        if self.source == ENV_PY:
            return "what env.py opens, or set DATABASE_URL"
        return "DATABASE_URL" if self.source.endswith("DATABASE_URL") else self.source

    @property
    def shown(self) -> str:
        """The URL without its secrets, for people and for `invoke url`."""
        match = PATTERN.fullmatch(self.url)
        assert match is not None  # noqa: S101  (parse() accepted it)
        user = (match["credentials"] or "").removesuffix("@").split(":", 1)[0]
        query = [pair for key, pair in _pairs(match["query"] or "") if key not in _SECRET]
        url = f"{match['scheme']}://{user}{'@' if user else ''}{match['hosts']}"
        return f"{url}/{match['database'] or ''}" + (f"?{'&'.join(query)}" if query else "")

    @property
    def conninfo(self) -> str:
        """The connection string for libpq without its secrets: fit for an argument list."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo("", **{k: v for k, v in self.params.items() if k not in _SECRET})

    @property
    def libpq_env(self) -> dict[str, str]:
        """The parameters as libpq's environment variables, for a program such as psql."""
        known = {word: variable for word, variable in _keywords().items() if variable}
        return {known[word]: value for word, value in self.params.items() if word in known}

    @property
    def secret_env(self) -> dict[str, str]:
        """The password where libpq looks for it: the child's environment, never its arguments."""
        return {"PGPASSWORD": self.params["password"]} if "password" in self.params else {}

    def options_env(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Let the sessions of a program with libpq write there, as ours. environ: the program's."""
        if not (self.writes and self.hears_options) or "options" in self.params:
            return {}
        given = environ.get("PGOPTIONS", "")
        own = "-c default_transaction_read_only=off -c synchronous_commit=local"
        return {"PGOPTIONS": f"{given} {own}".strip()}

    @property
    def secrets(self) -> frozenset[str]:
        """The passwords in the URL; one that is also a public word of it cannot be kept secret."""
        public = {self.database, self.params.get("user"), self.params.get("host")}
        return frozenset(self.params[key] for key in _SECRET & self.params.keys()) - public

    def redact(self, text: str) -> str:
        """Blank the passwords in a child's output: this target's, and any inside a URL."""
        return redaction.blank(text, self.secrets)


def derived_name(database: str, suffix: str, digits: int = 16) -> str:
    """Return `database + suffix`, cut to PostgreSQL's 63 bytes with hex digits of its hash.

    Of so many that nobody finds two names of databases with the same; whose a database is, its
    comment says all the same.
    """
    name = database + suffix
    if len(name.encode()) <= _NAME_BYTES:
        return name
    digest = hashlib.sha256(database.encode()).hexdigest()[:digits]
    room = _NAME_BYTES - len(suffix.encode()) - len(digest) - 1
    return f"{database.encode()[:room].decode(errors='ignore')}_{digest}{suffix}"


def _judge(params: Mapping[str, str], source: str) -> list[tuple[str, str]]:
    """Return what is wrong with parameters that libpq can read."""
    problems = []
    if not (name := params.get("dbname", "")):
        remedy = "set DATABASE_URL" if source == ENV_PY else "end the URL with /database"
        problems.append((f"{source} names no database", remedy))
    if len(name.encode()) > _NAME_BYTES:
        problems.append((f"{source} names a database of over 63 bytes", "PostgreSQL would cut it"))
    return problems


@cache
def _keywords() -> dict[str, str]:
    """Return every keyword that libpq knows, with its environment variable, if it has one."""
    from psycopg import pq

    options = pq.Conninfo.get_defaults()
    return {each.keyword.decode(): (each.envvar or b"").decode() for each in options}


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    """Give (key, `key=value`) for each parameter of a query, its value still encoded."""
    for pair in filter(None, query.split("&")):
        yield unquote(pair.partition("=")[0]), pair


def _translate(query: str, source: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return libpq's still percent-encoded parameters, and the problems found on the way."""
    params, several = _several_hosts(query)
    problems = []
    for key, pair in several:
        keyword = _RENAMED.get(key, key)
        if keyword in _DRIVER_ONLY:
            continue
        if keyword not in _PLAIN_WORDS and keyword not in _keywords():
            problems.append((f"{source} has the unknown parameter {key!r}", "remove or correct it"))
        elif keyword in params:
            problems.append((f"{source} gives {keyword!r} twice", "keep one of them"))
        elif keyword == "sslpassword":
            remedy = "use a client key without a pass phrase"
            problems.append((f"{source} has an sslpassword, which pg_dump would show", remedy))
        else:
            params |= _value(key, keyword, pair.partition("=")[2])
    return params, problems


def _several_hosts(query: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the hosts that SQLAlchemy has apart, as libpq's lists; and the other pairs.

    `?host=a:1&host=b:2`: SQLAlchemy's documentation, "Specifying multiple fallback hosts". Where it
    writes a URL itself, the colon is percent-encoded.
    """
    pairs = [*_pairs(query)]
    hosts = [_COLON.sub(":", pair.partition("=")[2]) for key, pair in pairs if key == "host"]
    if len(hosts) < 2:  # noqa: PLR2004  (one is not several)
        return {}, pairs
    parted = [each.rpartition(":") if ":" in each else (each, "", "") for each in hosts]
    params = {"host": ",".join(host for host, _, _ in parted)}
    if any(port for _, _, port in parted):
        params["port"] = ",".join(port for _, _, port in parted)
    return params, [each for each in pairs if each[0] != "host"]


def respelled(url: str, driver: str) -> str:
    """Return a URL as another driver of SQLAlchemy wants it; empty means as libpq does.

    What that driver has no word for is left out. The URL must be one that libpq can read.
    """
    match = PATTERN.fullmatch(url)
    assert match is not None  # noqa: S101  (whoever has a Target has parsed it)
    if match["scheme"].partition("+")[2] == driver:
        return url
    params, _ = _translate(match["query"] or "", "the URL")
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


def _ask_libpq(match: re.Match[str], query: Mapping[str, str], source: str) -> dict[str, str]:
    """Return what libpq reads in a URL with a translated query. Raises SettingsError."""
    body = f"{match['credentials'] or ''}{match['hosts']}/{match['database'] or ''}"
    if (found := _plain(body, query)) is not None:
        return found
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    url = f"postgresql://{body}"
    if query:
        url += "?" + "&".join(f"{key}={value}" for key, value in query.items())
    try:
        return {key: str(value) for key, value in conninfo_to_dict(url).items() if value != ""}
    except (ProgrammingError, UnicodeDecodeError):
        # libpq's own words quote the piece that it could not read, which may be the password.
        remedy = "percent-encode the special characters of user and password (@ is %40, % is %25)"
        raise SettingsError([(f"{source} cannot be read by libpq", remedy)]) from None


def _plain(body: str, query: Mapping[str, str]) -> dict[str, str] | None:
    """Return what libpq reads in a URL in which nothing is encoded; None: ask libpq.

    To import libpq takes longer than to start Alembic's process, which needs none.
    """
    match = _PLAIN.fullmatch(body)
    said = {key: value for key, value in match.groupdict().items() if value} if match else {}
    if match is None or not query.keys() <= _PLAIN_WORDS - said.keys():
        return None
    if not all(map(_PLAIN_VALUE.fullmatch, query.values())):
        return None
    return {**said, **query}
