"""Target: the database that a URL names, as libpq's own parser reads it. Nothing connects here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from backset.connections.url import PATTERN, ask_libpq, keywords, pairs, translate
from backset.errors import SettingsError
from backset.wording import redaction

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECRET = frozenset({"password", "sslpassword", "scram_client_key", "scram_server_key"})
_NAME_BYTES = 63  # NAMEDATALEN - 1
ENV_PY = "env.py"  # the source of a URL that it opens by itself
ONE_HOST = "name the primary alone: each connection could choose another host"


@dataclass(frozen=True, slots=True)
class Target:
    """A database: the URL as it was written, and what libpq understands of it.

    url: as the user wrote it; it may hold a password, so it stays out of `repr`.
    params: libpq's keywords, `dbname` and `password` among them.
    source: what says that URL.
    writes: whether sessions of this run are to write there although those of its login only read.
    hears_options: whether libpq's options reach the server, and not a pooler that refuses them.
    """

    url: str = field(repr=False)
    params: Mapping[str, str] = field(repr=False)
    database: str
    source: str = field(default="DATABASE_URL", repr=False, compare=False)
    writes: bool = field(default=False, repr=False, compare=False)
    hears_options: bool = field(default=False, repr=False, compare=False)

    @classmethod
    def parse(cls, url: str, source: str = "DATABASE_URL") -> Target:
        """Read a URL as libpq or SQLAlchemy spell it. Raises SettingsError with every problem."""
        match = PATTERN.fullmatch(url)
        if match is None or "@" in match["hosts"] + (match["database"] or ""):
            remedy = (
                "postgresql://user:password@host:port/database, with @ / : in it percent-encoded"
            )
            raise SettingsError([(f"{source} is not a PostgreSQL URL", f"write {remedy}")])
        translated, problems = translate(match["query"] or "", source)
        params = {} if problems else ask_libpq(match, translated, source)
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
            for key, pair in pairs(match["query"] or "")
        ]
        url = f"{match['scheme']}://{match['credentials'] or ''}{match['hosts']}"
        url += f"/{quote(database, safe='')}" + (f"?{'&'.join(query)}" if query else "")
        parsed = Target.parse(url)
        other = replace(self, url=url, params=parsed.params, database=parsed.database)
        if {**self.params, "dbname": database} != dict(other.params):
            remedy = "write the URL in the plain form postgresql://user@host:port/database"
            raise SettingsError([("DATABASE_URL does not let its database be replaced", remedy)])
        return other

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
        query = [pair for key, pair in pairs(match["query"] or "") if key not in _SECRET]
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
        known = {word: variable for word, variable in keywords().items() if variable}
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
    if "," in params.get("host", "") + params.get("hostaddr", ""):
        problems.append((f"{source} names several hosts", ONE_HOST))
    return problems
