"""What may be set: the keys of [tool.backset] with their values, and libpq's variables. Pure."""

from __future__ import annotations

import difflib
import string
from typing import TYPE_CHECKING, Any

from backset import ignoring
from backset.lineage import ALL_HEADS, Lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
DRIVERS = ("psycopg", "psycopg2", "asyncpg", "pg8000", "psycopg_async")  # as SQLAlchemy names them
PLACEHOLDERS = ("url", "database", "user", "password", "host", "port")
NUMBERS = frozenset({"ask_above", "keep", "parallel_above"})  # a variable spells them as digits
WORDS = frozenset(
    {"arguments", "heads", "init", "seed", "upgrade"}
)  # a variable has them as a command line
TABLES = frozenset({"chains", "env", "expect", "ignore", "ini", "rows"})  # no variable sets them
SECRET = frozenset(
    {"arguments", "chains", "env", "ini", "init", "seed", "upgrade"}
)  # these may hold a password


def nearest(key: str) -> str | None:
    """Return the known key that an unknown one probably means."""
    return next(iter(difflib.get_close_matches(key, CHECKS, n=1, cutoff=0.5)), None)


def _name(raw: object) -> str:
    if isinstance(raw, str) and 0 < len(raw.encode()) <= 63:  # noqa: PLR2004  (NAMEDATALEN - 1)
        return raw
    raise ValueError('a name of at most 63 bytes, such as "aideator"')


def _text(raw: object) -> str:
    if isinstance(raw, str) and raw:
        return raw
    raise ValueError('a text, such as "aideator"')


def _argv(raw: object) -> tuple[str, ...]:
    if isinstance(raw, list) and raw and all(isinstance(word, str) for word in raw):
        return tuple(raw)
    raise ValueError('a list of words, such as ["python", "scripts/seed.py"]')


def _heads(raw: object) -> tuple[str, ...]:
    if raw in ("all", ["all"]):
        return ALL_HEADS
    try:
        return _argv(raw)
    except ValueError:
        raise ValueError('a list of revisions, such as ["4f1c", "97ab"], or "all"') from None


def _chains(raw: object) -> tuple[Lineage, ...]:
    if not isinstance(raw, list) or not all(isinstance(table, dict) for table in raw):
        raise ValueError("tables that begin with [[tool.backset.chains]]")
    chains = [_chain(number, table) for number, table in enumerate(raw, 1)]
    if len({each.name for each in chains}) < len(chains):
        raise ValueError("tables with a name of its own in each")
    return tuple(chains)


def _chain(number: int, table: dict[str, object]) -> Lineage:
    if unknown := sorted(table.keys() - CHAIN_CHECKS.keys()):
        known = ", ".join(CHAIN_CHECKS)
        raise ValueError(f"without {unknown[0]!r} in table {number}; known keys: {known}")
    if "name" not in table:
        raise ValueError(f'with a name in table {number}, such as name = "billing"')
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = CHAIN_CHECKS[key](value)
        except ValueError as error:
            raise ValueError(f"with {key} in table {number} as {error}") from None
    return Lineage(**values)


def _templates(raw: object) -> dict[str, str]:
    if isinstance(raw, dict) and _are_templates(raw.values()):
        return dict(raw)
    raise ValueError(f"a table of texts with {_known()}")


def _arguments(raw: object) -> tuple[str, ...]:
    words = _argv(raw)
    if _are_templates(words):
        return words
    raise ValueError(f"a list of texts with {_known()}, and {{{{ for a brace")


def _known() -> str:
    known = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    return f"{known} in them, or {{url:asyncpg}} for a driver"


def _are_templates(texts: Iterable[Any]) -> bool:
    """Return whether each is a text, and has no other braces than those that we fill in."""
    try:
        pieces = [each for text in texts for each in string.Formatter().parse(text)]
    except (TypeError, ValueError):
        return False
    return all(
        name in {None, *PLACEHOLDERS}
        and not convert
        and (not spec or (name == "url" and spec in DRIVERS))
        for _, name, spec, convert in pieces
    )


def _columns(raw: object) -> dict[str, tuple[str, ...]]:
    try:
        return {_shown(table): _argv(columns) for table, columns in raw.items()}  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        raise ValueError('a table such as tasks = ["id", "archived"]') from None


def _counts(raw: object) -> dict[str, int]:
    if isinstance(raw, dict) and all(type(count) is int and count >= 0 for count in raw.values()):
        return {_shown(table): count for table, count in raw.items()}
    raise ValueError("a table such as users = 1")


def _flag(raw: object) -> bool:
    words = {"true": True, "false": False}  # as a variable has it
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError("true or false")


def _at_least(least: int) -> Callable[[object], int]:
    def check(raw: object) -> int:
        if type(raw) is int and raw >= least:
            return raw
        raise ValueError(f"a whole number, {least} or more")

    return check


def _shown(table: str) -> str:
    """Return a table's name as catalog.py shows it: without `public`."""
    return str(table).removeprefix("public.")


# What a table of [[tool.backset.chains]] may have; the names are those of Lineage.
CHAIN_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _name,
    "config": _text,
    "section": _text,
    "arguments": _arguments,
    "version_table": _name,
    "schema": _name,
    "upgrade": _argv,
    "init": _argv,
    "heads": _heads,
}
# Each returns the value as Settings has it, or raises ValueError with what it must be.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "database": _name,
    "seed": _argv,
    "upgrade": _argv,
    "init": _argv,
    "heads": _heads,
    "chains": _chains,
    "config": _text,
    "section": _text,
    "arguments": _arguments,
    "python": _text,
    "env": _templates,
    "ini": _templates,
    "expect": _columns,
    "rows": _counts,
    "ignore": ignoring.read,
    "baseline": _text,
    "server_log": _flag,
    "backups": _text,
    "ask_above": _at_least(0),
    "keep": _at_least(1),
    "parallel_above": _at_least(0),
}
