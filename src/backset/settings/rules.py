"""Rules: what the user says of a carry, in settings and flags. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING

from backset.connections.target import Target
from backset.errors import SettingsError
from backset.settings import values
from backset.text.redaction import blank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.settings.settings import Settings

_FLAG = "--carry"
_FROM = "--from"
_VARIABLE = "env:"
EXPOSED = (
    f"others on this machine can read the password in {_FROM} in their list of processes → say "
    f"{_FROM} {_VARIABLE}NAME, and set that variable; or leave the password to ~/.pgpass"
)


def wanted(
    settings: Settings,
    *,
    said: str | bool | None,
    drops: bool,
    seeds: bool,
    writes: bool = False,
    flag: str = _FLAG,
) -> Rules | None:
    """Return the rules of a run; None where nothing is carried.

    said: of the flag: None where it is not given, true without tables, else their names.
    drops, seeds, writes: whether `--drop-data`, `--seed` and `--write` are given.
    flag: what names the tables: `--tables` of a task that carries in any case.
    Raises SettingsError.
    """
    given = "all" if said is True else said
    try:
        chosen = settings.carry if given is None else values.tables(given) if given else ()
    except ValueError as error:
        raise SettingsError([(f"{flag} is {given!r}", f"it must be {error}")]) from None
    if not chosen and flag != _FLAG:
        chosen = values.ALL_TABLES
    if not chosen and (drops or seeds or writes):
        flag = "--drop-data" if drops else "--seed" if seeds else "--write"
        what = f"{flag} is about a run that carries rows, and this one does not"
        raise SettingsError([(what, "add --carry, or leave it out")])
    if not chosen:
        return None
    return Rules(
        tables=chosen,
        rename=settings.rename,
        fill=settings.fill,
        leave=settings.leave,
        exclude=settings.exclude,
        replace=settings.replace,
        unmigrated=settings.unmigrated,
        drops=drops,
        seeds=seeds,
        flag=flag,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which rows are carried, and what becomes of those that do not fit by themselves.

    Tables and columns are named as people write them, `schema.table.column`, without `public`.
    tables: whose rows are carried. rename: the new name of a table or a column → the old one.
    fill: a column of the new schema → an SQL expression over the row of the old table.
    leave: tables and columns of the old schema whose content may be left behind.
    exclude: names and patterns of tables that are not carried, whatever `tables` says.
    replace: carried tables in which no row of the migrations stays.
    unmigrated: pending revisions that the old rows need not go through.
    drops: whether everything may be left behind that has no place in the new schema.
    seeds: whether the seed command runs, too, after the rows. flag: what has named the tables.
    """

    tables: tuple[str, ...] = values.ALL_TABLES
    rename: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fill: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    leave: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    unmigrated: tuple[str, ...] = ()
    drops: bool = False
    seeds: bool = False
    flag: str = _FLAG

    @property
    def carries_all(self) -> bool:
        """Whether the rows of every table are carried, but for those that are excluded."""
        return self.tables == values.ALL_TABLES

    def carries(self, *names: str) -> bool:
        """Tell whether the rows of a table are carried; it may have a name in each schema."""
        chosen = self.carries_all or not {*names}.isdisjoint(self.tables)
        return chosen and not any(map(self.excludes, names))

    def excludes(self, name: str) -> bool:
        """Tell whether the settings keep a table out of every carry."""
        return any(fnmatchcase(name, each) for each in self.exclude)

    def replaces(self, name: str) -> bool:
        """Tell whether a carried table gets the old rows alone."""
        return self.replace == values.ALL_TABLES or name in self.replace

    def leaves(self, name: str) -> bool:
        """Tell whether the user agrees that this is left behind."""
        return self.drops or name in self.leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What `--from` says.

    database: the one that it names; None where it names a dump, which is then `dump`.
    is_exposed: whether everybody on this machine can read the password of the database.
    """

    database: Target | None = None
    dump: str = ""
    is_exposed: bool = False

    @property
    def backup(self) -> str:
        """The name of the backup that it may be."""
        return PurePath(self.dump).name.removesuffix(".zst").removesuffix(".dump")

    @property
    def shown(self) -> str:
        """It without passwords."""
        return self.database.shown if self.database else self.dump


def bucket_url(text: str) -> str:
    """Return the URL of a shared backup, which has no credentials. Raises SettingsError."""
    if not values.is_bucket(text):
        remedy = "it must be a URL such as s3://bucket/prefix/latest"
        raise SettingsError([(f"{_FROM} is {blank(repr(text))}", remedy)])
    try:
        return values.place(text)
    except ValueError as error:
        raise SettingsError([(f"{_FROM} is wrong", f"it must be {error}")]) from None


def read_origin(settings: Settings, text: str) -> Origin:
    """Read what `--from` says: a URL, `env:` with a variable that has one, a backup, a file.

    Raises SettingsError.
    """
    if not text:
        remedy = f"add {_FROM} with a backup, a dump or a URL; the rows of the database itself are "
        remedy += "carried by `invoke reset-db --carry`"
        raise SettingsError([("carry was not told where the rows come from", remedy)])
    if text.startswith(_VARIABLE):
        name = text.removeprefix(_VARIABLE)
        if not (url := settings.environ.get(name)):
            what = f"{_FROM} names the variable {name or '…'}, which is not set"
            raise SettingsError([(what, "set it to a URL, in the environment or in .env")])
        return Origin(database=Target.parse(url, name))
    if values.is_bucket(text):
        return Origin(dump=bucket_url(text))
    if "://" in text:
        database = Target.parse(text, _FROM)
        return Origin(database=database, is_exposed=bool(database.secret_env))
    return Origin(dump=text)
