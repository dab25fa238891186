"""What of a migration no schema shows: whether its `upgrade` does something to rows. Pure."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SQL = re.compile(
    r"\b(?:INSERT\s+INTO|UPDATE\s+\S+.*?\sSET|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE|COPY)\b",
    re.IGNORECASE | re.DOTALL,
)
_INSERTS = frozenset({"bulk_insert", "insert"})
_CHANGES = frozenset({"update", "delete", "Session", "sessionmaker"})
_CALLS = _INSERTS | _CHANGES
# What changes rows that are there, or writes others that are made of them.
_CHANGE = re.compile(
    r"\b(?:UPDATE\s+(?:ONLY\s+)?[^\s;]+[^;]*?\sSET|UPDATE\s+SET|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE"
    r"|INSERT\s+INTO\b[^;]*?\bSELECT|CREATE\s+(?:UNLOGGED\s+)?TABLE\b[^;]*?\bAS\s+(?:SELECT|WITH))\b",
    re.IGNORECASE,
)
_SHAPE = re.compile(r"\b(?:CREATE|ALTER|DROP|COMMENT\s+ON|GRANT|REVOKE)\s+\w", re.IGNORECASE)
_SHAPES = re.compile(
    r"(?:create|drop)(?:_\w+)?|alter_\w+|add_column|rename_table|batch_alter_table"
)
_READ = re.compile(r"\bSELECT\b.*\bFROM\b", re.IGNORECASE | re.DOTALL)
_READS = frozenset({"select", "query"})
# What is said of rows that a statement does not touch: rules of keys, triggers, and functions.
_SAID = re.compile(
    r"\b(?:ON|FOR|BEFORE|AFTER|OF|OR)\s+(?:UPDATE|DELETE|TRUNCATE)\b"
    r"|\bCREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\b.*?(\$\w*\$).*?\1",
    re.IGNORECASE | re.DOTALL,
)


def is_idle(source: str) -> bool:
    """Tell whether `upgrade` does nothing at all, as that of a merge; of no text it is not told."""
    upgrade = _upgrade(source)
    return upgrade is not None and all(
        isinstance(each, ast.Pass)
        or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        or (isinstance(each, ast.Return) and each.value is None)
        for each in upgrade.body
    )


def speaks_of_rows(source: str) -> bool:
    """Tell whether the text, but for its `downgrade`, has a statement that changes rows."""
    return any(map(_changes_rows, _nodes(source)))


def shapes(source: str) -> bool:
    """Tell whether `upgrade` may change the schema; what does no more than change rows does not.

    What cannot be told from the text, such as a call of another module, is taken for a change.
    """
    nodes = _nodes(source)
    if not (is_idle(source) or any(map(_changes_rows, nodes))):
        return True
    calls = {_called(node) for node in nodes if isinstance(node, ast.Call)}
    return any(map(_SHAPES.fullmatch, calls)) or any(map(_SHAPE.search, _texts(nodes)))


def depends_on_rows(source: str) -> bool:
    """Tell whether the text, but for its `downgrade`, changes old rows or makes new ones of them.

    What inserts rows of its own alone does not: it does the same without any old row. What cannot
    be told from the text, such as the statement of an ORM session, is taken for a change.
    """
    nodes = _nodes(source)
    texts = [_SAID.sub(" ", each) for each in _texts(nodes)]
    calls = {_called(node) for node in nodes if isinstance(node, ast.Call)}
    if calls & _CHANGES or any(map(_CHANGE.search, texts)):
        return True
    inserts = calls & _INSERTS or any(map(_SQL.search, texts))
    return bool(inserts and (calls & _READS or any(map(_READ.search, texts))))


def _nodes(source: str) -> list[ast.AST]:
    """Return all that stands in the text, but for its `downgrade`; nothing of no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    kept = [each for each in tree.body if getattr(each, "name", "") != "downgrade"]
    return [node for each in kept for node in ast.walk(each)]


def _texts(nodes: Sequence[ast.AST]) -> list[str]:
    said = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
    ]


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _changes_rows(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and bool(_SQL.search(node.value))
    return isinstance(node, ast.Call) and _called(node) in _CALLS


def _upgrade(source: str) -> ast.FunctionDef | None:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    named = (each for each in body if isinstance(each, ast.FunctionDef) and each.name == "upgrade")
    return next(named, None)
