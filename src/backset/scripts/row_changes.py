"""What of a migration no schema shows: whether its `upgrade` does something to rows. Pure."""

from __future__ import annotations

import ast
import re

_SQL = re.compile(
    r"\b(?:INSERT\s+INTO|UPDATE\s+\S+.*?\sSET|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE|COPY)\b",
    re.IGNORECASE | re.DOTALL,
)
_CALLS = frozenset({"bulk_insert", "insert", "update", "delete", "Session", "sessionmaker"})


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
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    kept = [each for each in tree.body if getattr(each, "name", "") != "downgrade"]
    return any(_changes_rows(node) for each in kept for node in ast.walk(each))


def _changes_rows(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and bool(_SQL.search(node.value))
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _CALLS


def _upgrade(source: str) -> ast.FunctionDef | None:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    named = (each for each in body if isinstance(each, ast.FunctionDef) and each.name == "upgrade")
    return next(named, None)
