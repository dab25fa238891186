"""What may be set: the keys of [tool.backset], with what each of them is. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from backset.settings import values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
PREFIX = "BACKSET_"  # of the variables
TEMPORARY = f"{PREFIX}TEMPORARY"  # no key: where throw-away servers are, whatever the project
# No key: `host:port` of the throw-away server that a rehearsal tells its tasks about.
THROW_AWAY = f"{PREFIX}THROW_AWAY"
NO_KEYS = frozenset({TEMPORARY, THROW_AWAY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of [tool.backset].

    what: what it is, for the reference, in Markdown.
    check: returns its value as Settings has it, or raises ValueError with what it must be.
    default: its value where it is not set. unset: what is so then, in words.
    variable: how a variable spells it: as it is, in digits, as a command line, or not at all.
    is_secret: whether it may hold a password, so that no message may show it.
    """

    what: str
    check: Callable[[Any], Any]
    default: Any
    unset: str = ""
    variable: Literal["text", "digits", "words", ""] = "text"
    is_secret: bool = False


KEYS: Mapping[str, Key] = {
    "database": Key(
        what="the database's name on the embedded PostgreSQL",
        check=values.name,
        default="",
        unset="the folder's name",
    ),
    "seed": Key(
        what="the command that writes the mock data, as a list of words; no shell is involved, and "
        "a leading `python` or `python3` means the key `python`",
        check=values.argv,
        default=(),
        unset="nothing to run",
        variable="words",
        is_secret=True,
    ),
    "upgrade": Key(
        what='the project\'s own command that migrates, such as `["flask", "db", "upgrade"]`',
        check=values.argv,
        default=(),
        unset="Alembic itself",
        variable="words",
        is_secret=True,
    ),
    "init": Key(
        what="its command for a database without tables, run before that",
        check=values.argv,
        default=(),
        unset="nothing to run",
        variable="words",
        is_secret=True,
    ),
    "heads": Key(
        what='the heads where `upgrade` ends, as a list, or `"all"`; another head is then a '
        "finding",
        check=values.heads,
        default=(),
        unset="one head",
        variable="words",
    ),
    "chains": Key(
        what="tables: several chains of revisions in one database, each with "
        + ", ".join(f"`{name}`" for name in values.KEYS),
        check=values.read,
        default=(),
        unset="one chain",
        variable="",
        is_secret=True,
    ),
    "python": Key(
        what="the interpreter that has the project's packages; it runs Alembic and the seed "
        "command",
        check=values.text,
        default="",
        unset="`VIRTUAL_ENV`, `.venv`, `venv`, else the one that runs `invoke`",
    ),
    "config": Key(
        what="Alembic's configuration file",
        check=values.text,
        default="",
        unset="it is looked for",
    ),
    "section": Key(
        what="the section of that file",
        check=values.text,
        default="",
        unset="`alembic`",
    ),
    "arguments": Key(
        what='what `env.py` gets as `-x`, such as `["tenant=a"]`; templates as in `env`: '
        '`["url={url}"]`',
        check=values.arguments,
        default=(),
        unset="none",
        variable="words",
        is_secret=True,
    ),
    "backups": Key(
        what="the folder of the backups",
        check=values.text,
        default="backups",
    ),
    "ask_above": Key(
        what="the size in bytes above which replacing a database needs consent",
        check=values.AtLeast(0),
        default=1_000_000_000,
        variable="digits",
    ),
    "keep": Key(
        what="how many backups of one server stay: the newest, the newest of each revision and of "
        "each day, then others; at least 1",
        check=values.AtLeast(1),
        default=10,
        variable="digits",
    ),
    "keep_days": Key(
        what="of how many days, the last ones with a backup, the newest is among those of `keep`",
        check=values.AtLeast(0),
        default=7,
        variable="digits",
    ),
    "zstd_above": Key(
        what="the size in bytes above which zstd compresses the dump of a database, in several "
        "threads: where `pg_dump` cannot itself, the file is a `.dump.zst`",
        check=values.AtLeast(0),
        default=20_000_000,
        variable="digits",
    ),
    "env": Key(
        what="a table: variables for Alembic and the commands, with "
        + " ".join(f"`{{{name}}}`" for name in values.PLACEHOLDERS)
        + ", and `{url:asyncpg}` for a driver",
        check=values.templates,
        default=MappingProxyType({}),
        unset='`DATABASE_URL = "{url}"`',
        variable="",
        is_secret=True,
    ),
    "ini": Key(
        what="a table: options of Alembic's configuration, with the same words; a `%` is doubled "
        "for it",
        check=values.templates,
        default=MappingProxyType({}),
        unset="`sqlalchemy.url`",
        variable="",
        is_secret=True,
    ),
    "expect": Key(
        what='a table: columns that `verify` must find, such as `tasks = ["id", "archived"]`',
        check=values.columns,
        default=MappingProxyType({}),
        unset="nothing",
        variable="",
    ),
    "rows": Key(
        what="a table: the least rows after `seed`, such as `users = 1`",
        check=values.counts,
        default=MappingProxyType({}),
        unset="nothing",
        variable="",
    ),
    "carry": Key(
        what="the tables whose rows `reset-db` carries into the new database, as a list, or "
        '`"all"`; `--carry` says others, and `--carry=` none',
        check=values.tables,
        default=(),
        unset="none",
        variable="words",
    ),
    "rename": Key(
        what="a table, for carried rows: new name = old name of tables and columns, such as "
        '`"users.full_name" = "users.name"`',
        check=values.renames,
        default=MappingProxyType({}),
        unset="nothing",
        variable="",
    ),
    "fill": Key(
        what="a table, for carried rows: column of the new schema = SQL expression over the old "
        'row, such as `"tasks.archived" = "false"`',
        check=values.fillings,
        default=MappingProxyType({}),
        unset="nothing",
        variable="",
        is_secret=True,
    ),
    "leave": Key(
        what="tables and columns of the old schema whose content may be left behind, such as "
        '`["users.nickname"]`',
        check=values.names,
        default=(),
        unset="nothing",
        variable="",
    ),
    "exclude": Key(
        what="tables whose rows are never carried, as a list of names and patterns, such as "
        '`["sessions", "audit_*", "logs.*"]`; the new database has what the migrations write there',
        check=values.table_patterns,
        default=(),
        unset="none",
        variable="words",
    ),
    "replace": Key(
        what='carried tables that get the rows of the old database alone, as a list, or `"all"`: '
        "what the migrations write there, such as rows with random ids, is taken away first",
        check=values.tables,
        default=(),
        unset="rows that only the migrations have stay beside them",
        variable="",
    ),
    "unmigrated": Key(
        what="revisions that carried rows need not go through, as a list: the rows of a database "
        "that has not run them are carried as they are, though these would change them",
        check=values.argv,
        default=(),
        unset="the rows go through all of them, in a copy",
        variable="",
    ),
    "schemas": Key(
        what="schemas that are this project's, though no migration names them, such as "
        '`["reporting"]`; a rebuild asks before one goes that nobody knows',
        check=values.names,
        default=(),
        unset="those that the migrations name",
        variable="",
    ),
    "ignore": Key(
        what="tables: noise that is silenced, with "
        + ", ".join(f"`{name}`" for name in values.IGNORE_KEYS),
        check=values.ignored,
        default=(),
        unset="nothing",
        variable="",
        is_secret=True,  # what is wrong with it, its error tells in words
    ),
    "baseline": Key(
        what="the file of the accepted differences",
        check=values.text,
        default="backset-baseline.toml",
    ),
    "strict": Key(
        what="whether a rebuild fails where its models and migrations differ; else it says so, and "
        "`verify` and `check` fail",
        check=values.flag,
        default=None,
        unset="`true` where there is a baseline, else `false`",
    ),
    "inputs": Key(
        what="files that the rebuilt database depends on beside those that `env.py` reads, as a "
        'list of patterns: `["data/*.csv"]`',
        check=values.patterns,
        default=(),
        unset="those alone",
        variable="words",
    ),
    "cache_seed": Key(
        what="whether the seeded state is kept as well, and cloned while the seed command and "
        "`inputs` stay as they are",
        check=values.flag,
        default=False,
        unset="`false`",
    ),
    "server_log": Key(
        what="whether `reset-db` and `seed` look into the log of a server that is not the embedded "
        "one",
        check=values.flag,
        default=False,
        unset="`false`",
    ),
}


def nearest(key: str) -> str | None:
    """Return the known key that an unknown one probably means."""
    return next(iter(difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)), None)
