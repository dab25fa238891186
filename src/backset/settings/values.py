"""The values of keys: each check returns one as Settings has it, or says what it must be. Pure."""

from __future__ import annotations

import shlex
import string
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from backset.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Value = TypeVar("Value")

ALL_HEADS = ("heads",)  # Alembic's own word for them
ALL_TABLES = ("all",)
DRIVERS = ("psycopg", "psycopg2", "asyncpg", "pg8000", "psycopg_async")  # as SQLAlchemy names them
_LONGEST_S = 30 * 24 * 60 * 60
PLACEHOLDERS = ("url", "database", "user", "password", "host", "port")
BUCKETS = ("s3", "gs", "az", "file")  # the schemes of object stores


def of_flag(flag: str, text: str, check: Callable[[object], Value]) -> Value:
    """Return what a flag says, as the check returns it. Raises SettingsError."""
    try:
        return check(text)
    except ValueError as error:
        raise SettingsError([(f"{flag} is {text!r}", f"it must be {error}")]) from None


def seconds(raw: object) -> float:
    """Return a time of at most thirty days."""
    with suppress(ValueError):
        if isinstance(raw, str) and 0 <= (found := float(raw)) <= _LONGEST_S:
            return found
    raise ValueError("seconds, such as 600")


def name(raw: object) -> str:
    """Return a name that PostgreSQL can take."""
    if isinstance(raw, str) and 0 < len(raw.encode()) <= 63:  # noqa: PLR2004  (NAMEDATALEN - 1)
        return raw
    raise ValueError('a name of at most 63 bytes, such as "aideator"')


def text(raw: object) -> str:
    """Return a text that is not empty."""
    if isinstance(raw, str) and raw:
        return raw
    raise ValueError('a text, such as "aideator"')


def is_bucket(place: str) -> bool:
    """Tell whether a text is the URL of an object store, and no path or database."""
    return place.partition("://")[0] in BUCKETS


def place(raw: object) -> str:
    """Return a folder, or the URL of an object store, which has no credentials in it."""
    found = text(raw)
    if not is_bucket(found):
        if "://" in found:
            raise ValueError('a folder, or a URL such as "s3://bucket/prefix" (or gs, az, file)')
        return found
    parts = urlsplit(found)
    is_file = parts.scheme == "file"
    if (
        parts.query
        or parts.fragment
        or not (is_file or {"@", ":"}.isdisjoint(found[len("s3://") :]))
    ):
        raise ValueError(
            "a URL without credentials, such as s3://bucket/prefix: these stand in variables, as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not (parts.path if is_file else parts.netloc):
        raise ValueError("a URL that names a bucket, such as s3://bucket/prefix")
    return found.rstrip("/")


def recipients(raw: object) -> tuple[str, ...]:
    """Return public keys of age, or of SSH."""
    if isinstance(raw, list) and raw and all(map(_is_recipient, raw)):
        return tuple(raw)
    raise ValueError('a list of public keys, such as ["age1…"] or ["ssh-ed25519 AAAA…"]')


def _is_recipient(raw: object) -> bool:
    return isinstance(raw, str) and raw.startswith(("age1", "ssh-ed25519 ", "ssh-rsa "))


def argv(raw: object) -> tuple[str, ...]:
    """Return the words of a command, of which there is at least one."""
    if isinstance(raw, list) and raw and all(isinstance(word, str) for word in raw):
        return tuple(raw)
    raise ValueError('a list of words, such as ["python", "scripts/seed.py"]')


def patterns(raw: object) -> tuple[str, ...]:
    """Return patterns of file names, each seen from the project's folder."""
    if isinstance(raw, list) and all(isinstance(each, str) and each for each in raw):
        found = tuple(raw)
        if not any(each.startswith(("/", "~")) or "\0" in each for each in found):
            return found
    raise ValueError('a list of patterns in the project, such as ["scripts/*.py", "data/**/*.csv"]')


def noise(raw: object) -> tuple[str, ...]:
    """Return patterns of what need not count."""
    if isinstance(raw, list) and all(isinstance(each, str) and each for each in raw):
        return tuple(raw)
    raise ValueError('a list of patterns, such as ["GIT_SHA", "git", "localhost:6379"]')


def heads(raw: object) -> tuple[str, ...]:
    """Return the revisions where a chain ends; `"all"` means Alembic's own word for them."""
    if raw in ("all", ["all"]):
        return ALL_HEADS
    try:
        return argv(raw)
    except ValueError:
        raise ValueError('a list of revisions, such as ["4f1c", "97ab"], or "all"') from None


def templates(raw: object) -> dict[str, str]:
    """Return texts that may have our words in braces."""
    if isinstance(raw, dict) and _are_templates(raw.values()):
        return dict(raw)
    raise ValueError(f"a table of texts with {_known()}")


def arguments(raw: object) -> tuple[str, ...]:
    """Return what env.py gets as `-x`; each may have our words in braces."""
    words = argv(raw)
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


def columns(raw: object) -> dict[str, tuple[str, ...]]:
    """Return columns by table."""
    try:
        return {_shown(table): argv(columns) for table, columns in raw.items()}  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        raise ValueError('a table such as tasks = ["id", "archived"]') from None


def counts(raw: object) -> dict[str, int]:
    """Return least rows by table."""
    if isinstance(raw, dict) and all(type(count) is int and count >= 0 for count in raw.values()):
        return {_shown(table): count for table, count in raw.items()}
    raise ValueError("a table such as users = 1")


def tables(raw: object) -> tuple[str, ...]:
    """Return the names of tables; `"all"` means every one."""
    given = [raw] if isinstance(raw, str) else raw
    if isinstance(given, list) and given and all(isinstance(each, str) for each in given):
        names = [name.strip() for each in given for name in each.split(",")]
        if names == ["all"]:
            return ALL_TABLES
        if all(names):
            return tuple(_shown(name) for name in names)
    beside = "; exclude, replace and unmigrated stand beside it" if isinstance(raw, dict) else ""
    raise ValueError(f'a list of tables, such as ["users", "tasks"], or "all"{beside}')


def table_patterns(raw: object) -> tuple[str, ...]:
    """Return names of tables, and patterns of them."""
    try:
        return tuple(_shown(each) for each in argv(raw))
    except ValueError:
        raise ValueError('a list of tables and patterns, such as ["sessions", "audit_*"]') from None


def names(raw: object) -> tuple[str, ...]:
    """Return the names of tables and columns."""
    try:
        return tuple(_shown(each) for each in argv(raw))
    except ValueError:
        raise ValueError('a list of tables and columns, such as ["users.nickname"]') from None


def renames(raw: object) -> dict[str, str]:
    """Return old names by new ones, of tables and columns."""
    if isinstance(raw, dict) and all(isinstance(each, str) and each for each in raw.values()):
        return {_shown(new): _shown(old) for new, old in raw.items()}
    raise ValueError('a table such as "users.full_name" = "users.name", the new name first')


def fillings(raw: object) -> dict[str, str]:
    """Return SQL expressions by column."""
    if isinstance(raw, dict) and all(isinstance(each, str) and each for each in raw.values()):
        return {_shown(column): expression for column, expression in raw.items()}
    raise ValueError('a table such as "tasks.archived" = "false", an SQL expression as a text')


def flag(raw: object) -> bool:
    """Return a truth value; a variable spells it as a word."""
    words = {"true": True, "false": False}  # as a variable has it
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError("true or false")


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The check of a whole number."""

    least: int

    def __call__(self, raw: object) -> int:
        """Return it, if it is so much."""
        if type(raw) is int and raw >= self.least:
            return raw
        raise ValueError(f"a whole number, {self.least} or more")


@dataclass(frozen=True, slots=True)
class OneOf:
    """The check of a word."""

    words: tuple[str, ...]

    def __call__(self, raw: object) -> str:
        """Return it, if it is one of them."""
        if isinstance(raw, str) and raw in self.words:
            return raw
        raise ValueError(" or ".join(self.words))


def _shown(table: str) -> str:
    """Return a table's name as catalog.py shows it: without `public`."""
    return str(table).removeprefix("public.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """An entry of [[tool.backset.ignore]].

    kind: of the findings; a pattern as in file names (`*`, `?`, `[…]`).
    name: a pattern for the name of the object that a finding is about, or for the finding's text.
    until: the last day on which it holds.
    """

    kind: str
    name: str
    reason: str
    until: date

    def covers(self, kind: str, name: str, what: str) -> bool:
        """Tell whether a finding is the noise that is meant."""
        of_kind = fnmatchcase(kind, self.kind)
        return of_kind and any(fnmatchcase(each, self.name) for each in (name, what))

    def has_expired(self, today: date) -> bool:
        """Tell whether its last day is over."""
        return today > self.until

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} ({self.reason})"


IGNORE_KEYS = tuple(each.name for each in fields(Ignore))


def ignored(raw: object) -> tuple[Ignore, ...]:
    """Return the entries of [[tool.backset.ignore]]. Raises ValueError with what they must be."""
    if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
        raise ValueError("tables that begin with [[tool.backset.ignore]]")
    return tuple(_ignore(number, table) for number, table in enumerate(raw, 1))


def _ignore(number: int, table: dict[str, object]) -> Ignore:
    if unknown := sorted(table.keys() - set(IGNORE_KEYS)):
        known = ", ".join(IGNORE_KEYS)
        raise ValueError(f"without {unknown[0]!r} in table {number}; known keys: {known}")
    texts = {key: table.get(key) for key in IGNORE_KEYS[:3]}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"with a text as {key} in table {number}")
    until = _day(table.get("until"))
    if until is None:
        raise ValueError(f"with a last day as until in table {number}, such as until = 2027-06-30")
    return Ignore(**{key: str(value) for key, value in texts.items()}, until=until)


def _day(raw: object) -> date | None:
    if isinstance(raw, datetime):
        return raw.date()
    try:
        return raw if isinstance(raw, date) else date.fromisoformat(str(raw))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where one chain of revisions is configured, and where it ends.

    `chain.py` has the chain of a run's steps; a database can have several of these.

    name: what reports call it; empty where the database has this one only.
    config: the file of its Alembic configuration; empty means that it is looked for.
    section: of that file; empty means Alembic's own.
    arguments: templates of what env.py is given as `-x`, each `key=value`.
    version_table, schema: where its version table is, if not where env.py or Alembic put it;
    everything in `schema` belongs to it.
    ini: templates of options of its Alembic configuration, over those of every chain.
    upgrade, init: the project's own commands for this one.
    heads: where `upgrade` goes, and what the version table must then name; empty means one head.
    """

    name: str = ""
    config: str = ""
    section: str = ""
    arguments: tuple[str, ...] = ()
    version_table: str = ""
    schema: str = ""
    ini: Mapping[str, str] = field(default_factory=dict)
    upgrade: tuple[str, ...] = ()
    init: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How a line about it begins: `billing: `, and nothing where there is only one."""
        return f"{self.name}: " if self.name else ""

    @property
    def alembic(self) -> str:
        """How a command of Alembic on it begins, for people to type."""
        chain = f"--chain {shlex.quote(self.name)} " if self.name else ""
        return f"invoke alembic {chain}--"


# What a table of [[tool.backset.chains]] may have.
KEYS: dict[str, Callable[[Any], Any]] = {
    "name": name,
    "config": text,
    "section": text,
    "arguments": arguments,
    "version_table": name,
    "schema": name,
    "ini": templates,
    "upgrade": argv,
    "init": argv,
    "heads": heads,
}


def read(raw: object) -> tuple[Lineage, ...]:
    """Return the entries of [[tool.backset.chains]]. Raises ValueError with what they must be."""
    if not isinstance(raw, list) or not all(isinstance(table, dict) for table in raw):
        raise ValueError("tables that begin with [[tool.backset.chains]]")
    chains = [_entry(number, table) for number, table in enumerate(raw, 1)]
    if len({each.name for each in chains}) < len(chains):
        raise ValueError("tables with a name of its own in each")
    return tuple(chains)


def _entry(number: int, table: dict[str, object]) -> Lineage:
    given = entry(number, table, KEYS)
    if "name" not in given:
        raise ValueError(f'with a name in table {number}, such as name = "billing"')
    return Lineage(**given)


def entry(
    number: int, table: dict[str, object], keys: Mapping[str, Callable[[Any], Any]]
) -> dict[str, Any]:
    """Return the values of one of several tables. Raises ValueError with what it must be."""
    if unknown := sorted(table.keys() - keys.keys()):
        known = ", ".join(keys)
        raise ValueError(f"without {unknown[0]!r} in table {number}; known keys: {known}")
    given: dict[str, Any] = {}
    for key, value in table.items():
        try:
            given[key] = keys[key](value)
        except ValueError as error:
            raise ValueError(f"with {key} in table {number} as {error}") from None
    return given
