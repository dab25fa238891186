"""What a migration script does to objects and to rows, read from its text without running it. Pure.

Of objects only what stands there literally is told: names that are computed, and SQL in functions
and DO blocks, are left out, so that what is said is true though not complete.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.revisions import script_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backset.revisions.script_files import Revision

_OF_ROWS = re.compile(
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


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a script does: it makes or drops an object, a column or a value of an enum.

    kind: `table`, `column`, `index`, `type`, `domain`, `sequence`, `view` or `value`.
    name: `users`, `audit.users`, `users.email`; an index has no schema. owner: an index's table.
    optional: it is done under a condition, or `IF NOT EXISTS`.
    """

    makes: bool
    kind: str
    name: str
    line: int
    owner: str = ""
    optional: bool = False


def read(source: str) -> list[Operation]:
    """Return what `upgrade` does, in its order; nothing of a text that is not Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    reader = _ScriptReader(functions)
    if "upgrade" in functions:
        reader.visit(functions["upgrade"])
    return reader.found


def standing(operations: Iterable[tuple[str, Operation]]) -> dict[tuple[str, str], tuple[str, int]]:
    """Return what stands after these are all done: (kind, name) → the file and line that makes it.

    operations: (file, operation) each, in the order in which they are run.
    """
    made: dict[tuple[str, str], tuple[str, int, str]] = {}
    for file, each in operations:
        if each.makes and not each.optional:
            made[each.kind, each.name] = (file, each.line, each.owner)
        if not each.makes:
            made.pop((each.kind, each.name), None)
        if not each.makes and each.kind == "table":
            made = {key: value for key, value in made.items() if not _is_of(each.name, key, value)}
    return {key: value[:2] for key, value in made.items()}


def _is_of(table: str, key: tuple[str, str], made: tuple[str, int, str]) -> bool:
    """Tell whether something is a column or an index of a table, and goes with it."""
    (kind, name), owner = key, made[2]
    return owner == table or (kind == "column" and name.rpartition(".")[0] == table)


def in_the_way(
    operations: Iterable[tuple[str, Operation]], existing: Mapping[str, set[str]]
) -> Iterator[tuple[str, Operation]]:
    """Yield each (file, operation) that would make what exists already.

    existing: names by kind. Columns of a table that is itself in the way are not told.
    """
    gone: set[tuple[str, str]] = set()
    told: set[str] = set()
    for file, each in operations:
        if not each.makes:
            gone.add((each.kind, each.name))
            continue
        table = each.name.rpartition(".")[0] if each.kind == "column" else each.name
        there = each.name in existing.get(each.kind, ())
        covered = each.kind == "column" and (("table", table) in gone or table in told)
        if there and not each.optional and (each.kind, each.name) not in gone and not covered:
            told.add(each.name)
            yield file, each


class _ScriptReader(ast.NodeVisitor):
    """Collects operations in the order of the text, through the functions that are called."""

    def __init__(self, functions: Mapping[str, ast.FunctionDef]) -> None:
        self.found: list[Operation] = []
        self._functions = dict(functions)
        self._batches: dict[str, str] = {}
        self._conditions = 0

    def _conditional(self, node: ast.AST) -> None:
        self._conditions += 1
        self.generic_visit(node)
        self._conditions -= 1

    visit_If = visit_For = visit_While = visit_Try = visit_Match = _conditional  # noqa: N815

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and isinstance(item.optional_vars, ast.Name):
                words = [_text(each) for each in call.args]
                if _called(call) == "batch_alter_table" and words:
                    self._batches[item.optional_vars.id] = _qualified(words[0], call)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in self._functions:
            self.visit(self._functions.pop(node.func.id))
        elif isinstance(node.func, ast.Attribute) or _called(node) in _VERBS:
            self._operation(node, node.func)
        else:
            self.generic_visit(node)

    def _operation(self, node: ast.Call, function: ast.expr) -> None:
        value = getattr(function, "value", None)  # of a name that was imported there is none
        owner = value.id if isinstance(value, ast.Name) else ""
        batch, verb = self._batches.get(owner), _called(node)
        words = [_text(each) for each in node.args]
        if verb == "execute":
            self._execute(node, words[0] if words else "")
        elif verb in {"add_column", "drop_column"}:
            table = batch or _qualified(words[0] if words else "", node)
            of = node.args[0 if batch else 1 :]
            name = _column(of[0]) if of and verb == "add_column" else _text(of[0]) if of else ""
            self._add(node, verb, "column", f"{table}.{name}" if table and name else "")
        elif verb in {"create_table", "drop_table"}:
            self._add(node, verb, "table", _qualified(words[0] if words else "", node))
            self._columns(node, words)
        elif verb in {"create_index", "drop_index"}:
            table = batch or _qualified(words[1] if len(words) > 1 else "", node)
            self._add(node, verb, "index", words[0] if words else "", table)
        elif verb == "rename_table" and len(words) > 1:
            self._add(node, "drop", "table", _qualified(words[0], node))
            self._add(node, "create", "table", _qualified(words[1], node))

    def _columns(self, node: ast.Call, words: list[str]) -> None:
        table = _qualified(words[0] if words else "", node)
        for each in node.args[1:]:
            if table and (name := _column(each)):
                self._add(each, "create", "column", f"{table}.{name}", optional=_is_optional(node))

    def _add(
        self,
        node: ast.expr,
        verb: str,
        kind: str,
        name: str,
        owner: str = "",
        *,
        optional: bool = False,
    ) -> None:
        if name:
            makes = verb.startswith(("create", "add"))
            optional = optional or bool(self._conditions) or _is_optional(node)
            self.found.append(Operation(makes, kind, name, node.lineno, owner, optional))

    def _execute(self, node: ast.Call, text: str) -> None:
        if re.search(r"\bDO\s+\$|\bFUNCTION\b|\bPROCEDURE\b", text, re.IGNORECASE):
            return
        for match in _SQL.finditer(text):
            line = node.lineno
            conditional = bool(self._conditions or match["if"] or match["add_if"])
            kind = (match["kind"] or "table").lower()
            if match["enum"]:
                name = f"{_plain(match['enum'])}.{match['value']}"
                optional = bool(self._conditions or match["value_if"])
                self.found.append(
                    Operation(makes=True, kind="value", name=name, line=line, optional=optional)
                )
                continue
            name = _plain(match["name"] or match["altered"])
            if match["renamed"]:
                new = ".".join(filter(None, (name.rpartition(".")[0], _plain(match["renamed"]))))
                self.found.append(Operation(makes=False, kind="table", name=name, line=line))
                self.found.append(
                    Operation(makes=True, kind="table", name=new, line=line, optional=conditional)
                )
                continue
            if match["column"]:
                kind, name = "column", f"{name}.{_plain(match['column'])}"
            makes = (match["verb"] or match["change"]).upper() in {"CREATE", "ADD"}
            owner = _plain(match["owner"] or "")
            name = name.rpartition(".")[2] if kind == "index" else name
            self.found.append(Operation(makes, kind, name, line, owner, conditional))


_VERBS = frozenset(
    {f"{verb}_{kind}" for verb in ("create", "drop") for kind in ("table", "index")}
    | {"add_column", "drop_column", "rename_table", "execute"}
)
_NAME = r'(?:"[^"]+"|\w+)(?:\.(?:"[^"]+"|\w+))?'
_SQL = re.compile(
    rf"""
    \b(?P<verb>CREATE|DROP)\s+(?:UNIQUE\s+|UNLOGGED\s+|MATERIALIZED\s+)?
    (?P<kind>TABLE|INDEX|TYPE|DOMAIN|SEQUENCE|VIEW)\s+(?:CONCURRENTLY\s+)?
    (?P<if>IF\s+(?:NOT\s+)?EXISTS\s+)?(?P<name>{_NAME})(?:\s+ON\s+(?:ONLY\s+)?(?P<owner>{_NAME}))?
    | \bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?P<altered>{_NAME})\s+
    (?: RENAME\s+TO\s+(?P<renamed>{_NAME})
      | (?P<change>ADD|DROP)\s+COLUMN\s+(?P<add_if>IF\s+(?:NOT\s+)?EXISTS\s+)?(?P<column>{_NAME}) )
    | \bALTER\s+TYPE\s+(?P<enum>{_NAME})\s+ADD\s+VALUE\s+(?P<value_if>IF\s+NOT\s+EXISTS\s+)?
    '(?P<value>(?:[^']|'')*)'
    """,
    re.IGNORECASE | re.VERBOSE,
)


def _plain(name: str) -> str:
    """Return a name of SQL as the catalog has it, without `public`."""
    parts = [
        each[1:-1] if each.startswith('"') else each.lower()
        for each in re.findall(r'"[^"]+"|\w+', name)
    ]
    return ".".join(parts).removeprefix("public.")


def _called(call: ast.Call) -> str:
    """Return the name of what is called, of `op.add_column` and of an imported `add_column`."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _qualified(name: str, call: ast.Call) -> str:
    schema = next((_text(each.value) for each in call.keywords if each.arg == "schema"), "")
    return f"{schema}.{name}".removeprefix("public.") if schema and name else name


def _is_optional(node: ast.expr) -> bool:
    words = {each.arg for each in node.keywords} if isinstance(node, ast.Call) else set()
    return bool(words & {"if_not_exists", "if_exists"})


def _column(node: ast.expr) -> str:
    """Return the name in `sa.Column("name", …)`; empty for a constraint."""
    is_column = isinstance(node, ast.Call) and _called(node) == "Column" and node.args
    return _text(node.args[0]) if is_column else ""  # type: ignore[attr-defined]


def _text(node: ast.expr) -> str:
    """Return a literal text, also inside `op.f(…)` and `sa.text(…)`; empty for any other."""
    if isinstance(node, ast.Call) and node.args and _called(node) in {"f", "text"}:
        return _text(node.args[0])
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


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
    inserts = calls & _INSERTS or any(map(_OF_ROWS.search, texts))
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


def _changes_rows(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and bool(_OF_ROWS.search(node.value))
    return isinstance(node, ast.Call) and _called(node) in _CALLS


def _upgrade(source: str) -> ast.FunctionDef | None:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    named = (each for each in body if isinstance(each, ast.FunctionDef) and each.name == "upgrade")
    return next(named, None)


def traceless(
    known: Sequence[Revision], same: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files of what may have run or not, and of what has filled tables before that."""
    if not same:
        return (), ()
    first, latest = (script_files.ancestors(each.split(), known) for each in (same[0], same[-1]))
    texts = {each: source_of(each) for each in script_files.ordered(known)}
    return (
        tuple(
            each.path.name
            for each, text in texts.items()
            if each.id in latest - first and not is_idle(text)
        ),
        tuple(
            each.path.name
            for each, text in texts.items()
            if each.id in first and speaks_of_rows(text)
        ),
    )


def unrun(known: Sequence[Revision], same: Sequence[str], recorded: str) -> tuple[str, ...]:
    """Return the files of what only changes rows, and has not run by what the target records."""
    begun = script_files.ancestors(recorded.split(), known)
    if not (same and begun.issuperset(recorded.split())):
        return ()  # an orphaned row, or none, tells nothing of what has run
    passed = script_files.ancestors(same[0].split(), known) - begun
    texts = {each: source_of(each) for each in script_files.ordered(known) if each.id in passed}
    return tuple(
        each.path.name for each, text in texts.items() if not (is_idle(text) or shapes(text))
    )


def source_of(script: Revision) -> str:
    """Return the text of a script; nothing of one whose source is gone."""
    is_source = script.path.suffix == ".py"
    return script.path.read_text(encoding="utf-8", errors="replace") if is_source else ""
