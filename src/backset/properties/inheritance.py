"""What a new database inherits from the one it replaces: given in stages, read again, compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backset.catalogs import catalog
from backset.connections.session import one_line
from backset.errors import Finding
from backset.properties import extensions, grants, parameters, publications
from backset.properties import property as properties
from backset.properties.property import Property, Source, When

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.server import Names

OF_DATABASE: Sequence[Source] = (*parameters.SOURCES, *grants.OF_DATABASE)
EVERYTHING: Sequence[Source] = (
    *OF_DATABASE,
    *extensions.OF_SCHEMAS,  # before the extensions, which may be in one of them
    *extensions.SOURCES,  # before the default privileges: those are not for its objects
    *grants.SOURCES,
    *publications.SOURCES,
)


class Inheritance:
    """The properties of the target, and what `__next` has not got of them so far.

    What only the new database has stays: migrations grant, publish and create as well.
    sources: which properties; of a database that is restored, the dump knows its content better.
    given: what it has got so far.
    """

    def __init__(self, target: Target, names: Names, sources: Sequence[Source] = ()) -> None:
        self._target = target
        self._names = names
        self._sources = sources
        self._wanted: list[Property] = []
        self._missing: list[Property] = []
        self._left: list[Property] = []
        self._there: set[tuple[str, str]] = set()
        self._filled: frozenset[str] = frozenset()  # the schemas that have a version table
        self._given = False
        self.given: list[Property] = []
        self._words: dict[tuple[str, str], str] = {}

    def begin(self, old: Session, new: Session, folders: Callable[[], Sequence[Path]]) -> None:
        """Give the empty `__next` what migrations may need; one round trip where nothing is set.

        folders: where the scripts are; asked for only if there are extensions to make.
        """
        self._read(old)
        self._compare(new)
        self._leave(folders)
        self._give(new, {When.EMPTY})

    def remember(self, target: Session) -> None:
        """Read what the target has before it is cleared, for complete() to give it back."""
        self._names = replace(self._names, next=self._names.target)
        self._read(target)
        self._given = True

    def renew(self, target: Session, folders: Callable[[], Sequence[Path]]) -> None:
        """Make those schemas again that went with the objects of the target, for the migrations."""
        if any(each.kind == extensions.SCHEMA for each in self._wanted):
            self._compare(target)
            self._leave(folders)
            self._give(target, {When.EMPTY}, {extensions.SCHEMA})
            self._left = []

    def complete(self, new: Session) -> None:
        """Give it, when the migrations have run, what waited for them or what they took away."""
        self._left = []
        if self._missing or self._given:
            self._compare(new)
            self._give(new, {When.EMPTY, When.MIGRATED})

    def repeat(self, new: Session) -> None:
        """Give it again, once a backup has been loaded into it, what that has changed."""
        self._compare(new)
        self._give(new, {When.EMPTY})

    def close(self, session: Session) -> None:
        """Give the target, in the transaction that made it the target, what shuts people out."""
        if late := [each for each in self._missing if each.when is When.SWAPPED]:
            self._apply(session, late, self._names.target)
            found = properties.read(session, OF_DATABASE, self._names.target)
            lost = properties.missing(late, found)
            self._missing = [each for each in self._missing if each not in late or each in lost]

    def findings(self, session: Session) -> tuple[Finding, ...]:
        """Return what the new database does not have, each with the SQL for an administrator."""
        return tuple(
            self._finding(session, each)
            for each in self._missing
            if each not in self._left and not (each.plain and each.key not in self._there)
        )

    @property
    def uncreatable(self) -> tuple[str, ...]:
        """The extensions that the new database should have before the migrations, and has not."""
        missing = (each for each in self._missing if each not in self._left)
        return tuple(each.name for each in missing if each.kind == extensions.EXTENSION)

    def _read(self, old: Session) -> None:
        """Read what is wanted; of schemas, only where names without a schema may be found.

        env.py may set a path of its own: then its version table is where that leads to.
        """
        found = properties.read(old, self._sources, self._names.target)
        if any(each.kind == extensions.SCHEMA for each in found):
            self._filled = frozenset(schema for schema, _ in catalog.version_tables(old))
            # Of several, some may be another application's.
            path = catalog.search_path(old) | (
                self._filled if len(self._filled) == 1 else frozenset()
            )
            found = [each for each in found if each.kind != extensions.SCHEMA or each.name in path]
        self._wanted = list(found)

    def _leave(self, folders: Callable[[], Sequence[Path]]) -> None:
        """Leave to the migrations what they make themselves."""
        kinds = {each.kind for each in self._missing} & {extensions.EXTENSION, extensions.SCHEMA}
        if not kinds:
            return
        paths = folders()
        announced = extensions.Announced.of(paths) if extensions.EXTENSION in kinds else None
        made = extensions.Made.of(paths, self._filled) if extensions.SCHEMA in kinds else None
        self._left = [
            each
            for each in self._missing
            if (each.kind == extensions.EXTENSION and announced and announced.includes(each))
            or (each.kind == extensions.SCHEMA and made and made.includes(each))
        ]

    def _compare(self, new: Session) -> None:
        if self._wanted:
            found = properties.read(new, self._sources, self._names.next)
            self._there = {each.key for each in found}
            self._missing = properties.missing(self._wanted, found)

    def _give(self, new: Session, stages: set[When], kinds: Collection[str] | None = None) -> None:
        now = [
            each
            for each in self._missing
            if each.when in stages
            and each not in self._left
            and (kinds is None or each.kind in kinds)
        ]
        if now:
            self._given = True
            self.given += now
            self._apply(new, now, self._names.next)
            self._compare(new)

    def _apply(self, session: Session, now: Sequence[Property], database: str) -> None:
        for each in now:
            error = each.apply(session, database, there=each.key in self._there)
            self._words[each.key] = one_line(error, self._target) if error else ""

    def _finding(self, session: Session, lost: Property) -> Finding:
        database, there = self._names.target, lost.key in self._there
        statements = lost.remedy(database, there=there)
        text = "; ".join(each.as_string(session) for each in statements)
        where = "another database" if lost.when is When.CREATED else database
        return Finding(
            kind="not inherited",
            what=f"the new {database} does not have {lost}",
            why=self._words.get(lost.key) or _UNTRIED[lost.when],
            remedy=f"as an administrator, in {where}: {text}",
        )


_UNTRIED = {
    When.CREATED: "the role may not create databases there",
    When.EMPTY: "the server accepted it, and has it otherwise",
    When.MIGRATED: "it waits for the migrations",
    When.SWAPPED: "the server accepted it, and has it otherwise",
}
