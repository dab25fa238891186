"""The publications of a database: what each one publishes, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from backset.properties.property import Property, Source, When

if TYPE_CHECKING:
    from collections.abc import Mapping

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
SOURCES = (
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
