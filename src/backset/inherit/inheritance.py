"""What a new database inherits from the one it replaces: given in stages, read again, compared."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.catalog import catalog
from backset.connections.session import one_line
from backset.errors import Finding
from backset.inherit import extensions, grants
from backset.inherit import property as properties
from backset.inherit.property import Property, Source, When

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.server import Names

_UNTRIED = {
    When.CREATED: "the role may not create databases there",
    When.EMPTY: "the server accepted it, and has it otherwise",
    When.MIGRATED: "it waits for the migrations",
    When.SWAPPED: "the server accepted it, and has it otherwise",
}


# Of these the server keeps a list of identifiers, quoted where they must be; of all others it keeps
# the text as it was given. pg_dump has the same list, since no catalog tells.
_LISTS = frozenset(
    {
        *("local_preload_libraries", "search_path", "session_preload_libraries"),
        *("shared_preload_libraries", "temp_tablespaces", "unix_socket_directories"),
    }
)
_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s]+))\s*(?:,|$)')
_CLOSING = "default_transaction_read_only"  # it would stop the migrations
_SECRET = re.compile("passw|secret|token|credential|key", re.IGNORECASE)


def _setting(row: Mapping[str, Any]) -> Property:
    name, value, role = row["name"], row["value"], row["role"]
    items = _items(value) if name in _LISTS else [value]
    return Property(
        kind="setting" if role is None else "setting of a role",
        name=name if role is None else f"{name} of {role}",
        value=(repr(value),),
        statements=lambda database: [_alter(database, name, role, items)],
        discreet=(lambda database: [_alter(database, name, role, ["***"])])
        if _SECRET.search(name)
        else None,
        when=When.SWAPPED if name == _CLOSING else When.EMPTY,
    )


def _alter(database: str, name: str, role: str | None, items: Sequence[str]) -> sql.Composed:
    where = sql.SQL("DATABASE {}").format(sql.Identifier(database))
    if role is not None:
        where = sql.SQL("ROLE {} IN ").format(sql.Identifier(role)) + where
    words = sql.SQL(", ").join(map(sql.Literal, items))
    parameter = sql.Identifier(*name.split("."))
    return sql.SQL("ALTER {} SET {} TO {}").format(where, parameter, words)


def _items(value: str) -> list[str]:
    """Return the items of a list as the server keeps it."""
    found = _ITEM.findall(value)
    return [bare or quoted.replace('""', '"') for quoted, bare in found]


def _limit(row: Mapping[str, Any]) -> Property:
    limit = sql.Literal(row["datconnlimit"])
    return Property(
        kind="connection limit",
        name="",
        value=(str(row["datconnlimit"]),),
        statements=lambda database: [
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(sql.Identifier(database), limit)
        ],
        when=When.SWAPPED,
    )


def _template(_row: Mapping[str, Any]) -> Property:
    return Property(
        kind="template",
        name="",
        value=("yes",),
        statements=lambda database: [
            sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(database))
        ],
        when=When.SWAPPED,
    )


def _tablespace(row: Mapping[str, Any]) -> Property:
    name = row["spcname"]
    return Property(
        kind="tablespace",
        name="",
        value=(name,),
        statements=lambda database: [
            sql.SQL("ALTER DATABASE {} SET TABLESPACE {}").format(
                sql.Identifier(database), sql.Identifier(name)
            )
        ],
        when=When.CREATED,
    )


_THIS = "datname = %(database)s"
PARAMETERS = (
    Source(
        f"""
SELECT rolname AS role, split_part(entry, '=', 1) AS name,
       substr(entry, strpos(entry, '=') + 1) AS value
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
     LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS entry
WHERE {_THIS} ORDER BY 1 NULLS FIRST, 2""",
        _setting,
    ),
    Source(f"SELECT datconnlimit FROM pg_database WHERE {_THIS} AND datconnlimit >= 0", _limit),
    Source(f"SELECT FROM pg_database WHERE {_THIS} AND datistemplate", _template),
    Source(
        f"""
SELECT spcname FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE {_THIS}""",
        _tablespace,
    ),
)


_EMPTY = sql.SQL("")
_GENERATED = {"n": "none", "s": "stored"}


def _publication(row: Mapping[str, Any]) -> Property:
    about, owner = row["about"], row["owner"]
    name, all_tables = sql.Identifier(about["pubname"]), about["puballtables"]
    events = [each for each in ("insert", "update", "delete", "truncate") if about[f"pub{each}"]]
    options = {
        "publish": ", ".join(events),
        "publish_via_partition_root": str(about["pubviaroot"]).lower(),
    }
    if "pubgencols" in about:  # PostgreSQL 18 and later
        options["publish_generated_columns"] = _GENERATED[about["pubgencols"]]
    given = sql.SQL(", ").join(
        [sql.SQL(key + " = {}").format(sql.Literal(value)) for key, value in options.items()]
    )
    every = sql.SQL(" FOR ALL TABLES") if all_tables else _EMPTY
    create = sql.SQL("CREATE PUBLICATION {}{} WITH ({})").format(name, every, given)
    alter = sql.SQL("ALTER PUBLICATION {} SET ({})").format(name, given)
    belong = sql.SQL("ALTER PUBLICATION {} OWNER TO {}").format(name, sql.Identifier(owner))
    return Property(
        kind="publication",
        name=about["pubname"],
        value=(
            *(f"{key} = {value!r}" for key, value in options.items()),
            *(["all tables"] if all_tables else []),
            f"owner {owner}",
        ),
        statements=lambda _database: [create, belong],
        amend=lambda _database: [alter, belong],
        when=When.MIGRATED,
    )


def _table(row: Mapping[str, Any]) -> Property:
    columns, condition = row["columns"], row["condition"]
    table = sql.SQL("TABLE ONLY {}").format(sql.Identifier(row["nspname"], row["relname"]))
    part: sql.Composable = _EMPTY
    if columns is not None:
        part += sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
    if condition is not None:
        part += sql.SQL(" WHERE ") + sql.SQL(condition)  # in brackets, as the server writes it
    value = (
        "every column" if columns is None else f"columns {', '.join(columns)}",
        "every row" if condition is None else f"rows {condition}",
    )
    return _member(row, f"table {row['nspname']}.{row['relname']}", value, table, part)


def _schema(row: Mapping[str, Any]) -> Property:
    schema = sql.SQL("TABLES IN SCHEMA {}").format(sql.Identifier(row["nspname"]))
    return _member(row, f"schema {row['nspname']}", ("every table",), schema)


def _member(
    row: Mapping[str, Any],
    name: str,
    value: tuple[str, ...],
    what: sql.Composed,
    part: sql.Composable = _EMPTY,
) -> Property:
    """Return the property that a publication has something in it: `what`, and which part of it."""
    alter = sql.SQL("ALTER PUBLICATION {} ").format(sql.Identifier(row["pubname"]))
    add = alter + sql.SQL("ADD ") + what + part
    return Property(
        kind="publication",
        name=f"{row['pubname']}, {name}",
        value=value,
        statements=lambda _database: [add],
        amend=lambda _database: [alter + sql.SQL("DROP ") + what, add],
        when=When.MIGRATED,
    )


_MEMBERS = """
SELECT pubname, nspname, relname, {columns} AS columns, {condition} AS condition
FROM pg_publication_rel JOIN pg_publication p ON p.oid = prpubid
     JOIN pg_class c ON c.oid = prrelid JOIN pg_namespace n ON n.oid = relnamespace
ORDER BY 1, 2, 3"""
PUBLICATIONS = (
    Source(
        """
SELECT to_jsonb(p) AS about, pg_get_userbyid(pubowner) AS owner
FROM pg_publication p ORDER BY pubname""",
        _publication,
    ),
    Source(
        _MEMBERS.format(columns="NULL::text[]", condition="NULL"),
        _table,
        before=15,
    ),
    Source(
        _MEMBERS.format(
            columns="""(SELECT array_agg(attname ORDER BY attname) FROM pg_attribute
    WHERE attrelid = prrelid AND attnum = ANY(prattrs))""",
            condition="pg_get_expr(prqual, prrelid)",
        ),
        _table,
        since=15,
    ),
    Source(
        """
SELECT pubname, nspname
FROM pg_publication_namespace JOIN pg_publication p ON p.oid = pnpubid
     JOIN pg_namespace n ON n.oid = pnnspid ORDER BY 1, 2""",
        _schema,
        since=15,
    ),
)


OF_DATABASE: Sequence[Source] = (*PARAMETERS, *grants.OF_DATABASE)
EVERYTHING: Sequence[Source] = (
    *OF_DATABASE,
    *extensions.OF_SCHEMAS,  # before the extensions, which may be in one of them
    *extensions.SOURCES,  # before the default privileges: those are not for its objects
    *grants.SOURCES,
    *PUBLICATIONS,
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
        made = (
            extensions.MadeByExtension.of(paths, self._filled)
            if extensions.SCHEMA in kinds
            else None
        )
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
            and not (any(each.beyond) and each.key in self._there)
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
        why, remedy = lost.beyond if there else ("", "")
        return Finding(
            kind="not inherited",
            what=f"the new {database} does not have {lost}",
            why=why or self._words.get(lost.key) or _UNTRIED[lost.when],
            remedy=remedy or f"as an administrator, in {where}: {text}",
        )
