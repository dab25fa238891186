"""What may be set: the keys of [tool.backset] with their values, and libpq's variables. Pure."""

from __future__ import annotations

import difflib
import string
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

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
PLACEHOLDERS = ("url", "database", "user", "password", "host", "port")
NUMBERS = frozenset({"ask_above", "keep", "parallel_above"})  # a variable spells them as digits
TABLES = frozenset({"env", "expect", "rows"})  # these cannot be set by a variable


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


def _templates(raw: object) -> dict[str, str]:
    try:
        items = dict(raw.items())  # type: ignore[attr-defined]
        fields = {name for text in items.values() for _, name, *_ in string.Formatter().parse(text)}
    except (AttributeError, TypeError, ValueError):
        fields = {"?"}
    if fields - {None, *PLACEHOLDERS}:
        known = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise ValueError(f"a table of texts with {known} in them")
    return items


def _columns(raw: object) -> dict[str, tuple[str, ...]]:
    try:
        return {_shown(table): _argv(columns) for table, columns in raw.items()}  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        raise ValueError('a table such as tasks = ["id", "archived"]') from None


def _counts(raw: object) -> dict[str, int]:
    if isinstance(raw, dict) and all(type(count) is int and count >= 0 for count in raw.values()):
        return {_shown(table): count for table, count in raw.items()}
    raise ValueError("a table such as users = 1")


def _at_least(least: int) -> Callable[[object], int]:
    def check(raw: object) -> int:
        if type(raw) is int and raw >= least:
            return raw
        raise ValueError(f"a whole number, {least} or more")

    return check


def _shown(table: str) -> str:
    """Return a table's name as catalog.py shows it: without `public`."""
    return str(table).removeprefix("public.")


# Each returns the value as Settings has it, or raises ValueError with what it must be.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "database": _name,
    "seed": _argv,
    "python": _text,
    "env": _templates,
    "expect": _columns,
    "rows": _counts,
    "backups": _text,
    "ask_above": _at_least(0),
    "keep": _at_least(1),
    "parallel_above": _at_least(0),
}
