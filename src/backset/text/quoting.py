"""Names and texts as SQL has them, in what people read and copy. SQL that is run psycopg makes."""

from __future__ import annotations

import re

_PLAIN = re.compile("[a-z_][a-z0-9_]*")
_PART = re.compile(r'"(?:[^"]|"")*"|[^".]+')


def quoted(*names: str) -> str:
    """Return a name, with its schema before it."""
    return ".".join('"' + each.replace('"', '""') + '"' for each in names)


def quoted_if_needed(*names: str) -> str:
    """Return the same; a name is not quoted where SQL reads it as it is."""
    return ".".join(each if _PLAIN.fullmatch(each) else quoted(each) for each in names)


def literal(text: str) -> str:
    """Return a text; a backslash stands for itself, as the server has it by default."""
    return "'" + text.replace("'", "''") + "'"


def parts(identity: str) -> list[str]:
    """Return the names in one with dots between, such as `public."a.b"`, as they are spelled."""
    return _PART.findall(identity)


def bare(name: str) -> str:
    """Return a name as it is, of one that the server has quoted where it must be."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
