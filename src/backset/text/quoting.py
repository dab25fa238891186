"""Names and texts as SQL has them, in what people read and copy. SQL that is run psycopg makes."""

from __future__ import annotations

import re

_PLAIN = re.compile("[a-z_][a-z0-9_]*")
# Of pg_get_keywords(): what SQL does not read as the name of a table or column. `user` would be
# read as the login, without an error.
_RESERVED = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check
    collate collation column concurrently constraint create cross current_catalog current_date
    current_role current_schema current_time current_timestamp current_user default deferrable
    desc distinct do else end except false fetch for foreign freeze from full grant group having
    ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps
    placing primary references returning right select session_user similar some symmetric
    system_user table tablesample then to trailing true union unique user using variadic verbose
    when where window with
    """.split()  # noqa: SIM905  (a list has a line for each)
)
_PART = re.compile(r'"(?:[^"]|"")*"|[^".]+')


def quoted(*names: str) -> str:
    """Return a name, with its schema before it."""
    return ".".join('"' + each.replace('"', '""') + '"' for each in names)


def quoted_if_needed(*names: str) -> str:
    """Return the same; a name is not quoted where SQL reads it as it is."""
    return ".".join(
        each if _PLAIN.fullmatch(each) and each not in _RESERVED else quoted(each) for each in names
    )


def literal(text: str) -> str:
    """Return a text; a backslash stands for itself, as the server has it by default."""
    return "'" + text.replace("'", "''") + "'"


def parts(identity: str) -> list[str]:
    """Return the names in one with dots between, such as `public."a.b"`, as they are spelled."""
    return _PART.findall(identity)


def bare(name: str) -> str:
    """Return a name as it is, of one that the server has quoted where it must be."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
