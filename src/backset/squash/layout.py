"""How the code of a migration is laid out: calls as formatters write them, SQL as it reads best."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import TYPE_CHECKING

from backset.squash.statements import has_lines_of_its_own, spaces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH = 92  # of a line that is not indented yet
_STEP = "    "
_SQL_WIDTH = 84  # likewise, of a line in a string
# As SQLAlchemy 2.1 reads a text: `:name` is a parameter, and `\:` is a colon. Another version may
# take a `$` for a letter; where that matters, as in `:a$:`, the proof finds it.
_PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w+(?![:\w]))")
_COLON = re.compile(r"\\(?=:\w*(?![:\w]))")


def execute(statement: str, op: str = "op") -> str:
    """Return the call that runs a statement exactly as it is."""
    return f"{op}.execute({_sql(escaped(statement), op)})"


def escaped(statement: str) -> str:
    r"""Return a statement in which SQLAlchemy's text() finds no parameter.

    A backslash before a colon is one that text() takes away.
    """
    return _PARAMETER.sub(r"\\:", _COLON.sub(r"\\\\", statement))


def _sql(statement: str, op: str) -> str:
    folds = not has_lines_of_its_own(statement)
    text = string(_folded(statement) if folds else statement)
    if (folds or "\n" not in statement) and len(text) + len(f"{op}.execute()") <= WIDTH:
        return text
    if "\n" not in statement and (not folds or len(text) + len(_STEP) <= WIDTH):
        return f"\n{_STEP}{text}\n"
    prefix = "r" if "\\" in statement else ""
    if '"""' in statement or statement.endswith("\\") or "\r" in statement:
        lines = [f"{_STEP}{string(each)}\n" for each in statement.splitlines(keepends=True)]
        return "\n" + "".join(lines)
    if folds:
        lines = [line for each in statement.splitlines() for line in _wrapped(each)]
        statement = "\n".join(f"{_STEP}{_STEP}{each}" if each.strip() else "" for each in lines)
    return f'\n{_STEP}{prefix}"""\n{statement}\n{_STEP}{_STEP}"""\n'


_OPENED, _CLOSED, _BROKEN = (
    re.compile(each) for each in (r"\(\s*\n\s*", r"\s*\n\s*\)", r"\s*\n\s*")
)


def _folded(statement: str) -> str:
    """Return a statement in one line."""
    return _BROKEN.sub(" ", _CLOSED.sub(")", _OPENED.sub("(", statement)))


def _wrapped(line: str) -> Iterator[str]:
    """Yield a line of SQL, broken where there is a space and where it is too long."""
    line = line.replace("\t", _STEP)
    margin = " " * (len(line) - len(line.lstrip()))
    while len(line) > _SQL_WIDTH:
        places = [each for each in spaces(line) if len(margin) + len(_STEP) < each]
        fitting = [each for each in places if each <= _SQL_WIDTH] or places[:1]
        if not fitting:
            break
        yield line[: fitting[-1]].rstrip()
        line = margin + _STEP + line[fitting[-1] :].lstrip()
    yield line


def string(text: str) -> str:
    """Return a string of Python in double quotes, unless there are fewer to escape in others."""
    if "\\" in text and text.isprintable() and not text.endswith("\\"):
        for quote in ('"', "'"):
            if quote not in text:
                return f"r{quote}{text}{quote}"
    shown = repr(text)
    if shown.startswith("'") and '"' not in shown:
        return '"' + shown[1:-1] + '"'
    if shown.startswith("'") and text.count("'") >= text.count('"') and "'" in text:
        return '"' + shown[1:-1].replace('"', '\\"').replace("\\'", "'") + '"'
    return shown


def call(code: str | ast.expr, before: str = "") -> str:
    """Return an expression as a formatter would write it, behind what stands before it."""
    node = ast.parse(code, mode="eval").body if isinstance(code, str) else code
    return _laid_out(node, before, 0)


def _laid_out(node: ast.expr, before: str, depth: int, after: int = 0) -> str:
    """Return an expression in one line, where that is not too long, else a line for each part.

    before: what stands in the line before it. after: how much will stand behind it.
    """
    flat = before + _flat(node)
    room = WIDTH - len(_STEP) * depth
    if len(flat) + after <= room:
        return flat
    parts = _parts(node)
    if parts is None:
        return flat
    opening, items, closing = parts
    inner = _STEP * (depth + 1)
    lines = [f"{inner}{_laid_out(value, head, depth + 1, 1)},\n" for head, value in items]
    together = ", ".join(head + _flat(value) for head, value in items)
    if isinstance(node, ast.Call) and len(inner) + len(together) <= WIDTH and not _explodes(node):
        return f"{before}{opening}\n{inner}{together}\n{_STEP * depth}{closing}"
    return f"{before}{opening}\n{''.join(lines)}{_STEP * depth}{closing}"


def _explodes(node: ast.Call) -> bool:
    """Tell whether each argument is to have its line in any case, as the columns of a table."""
    return any(isinstance(each, ast.Call) for each in node.args[1:])


def _parts(node: ast.expr) -> tuple[str, list[tuple[str, ast.expr]], str] | None:
    """Return what an expression begins with, its parts with what stands before each, its end."""
    if isinstance(node, ast.Call) and (node.args or node.keywords):
        named = [(f"{each.arg}=" if each.arg else "**", each.value) for each in node.keywords]
        return f"{_flat(node.func)}(", [*(("", each) for each in node.args), *named], ")"
    if isinstance(node, ast.List) and node.elts:
        return "[", [("", each) for each in node.elts], "]"
    if isinstance(node, ast.Dict) and node.keys:
        pairs = zip(node.keys, node.values, strict=True)
        return "{", [(f"{_flat(key)}: " if key else "**", value) for key, value in pairs], "}"
    return None


def _flat(node: ast.expr) -> str:
    """Return an expression in one line."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return string(node.value)
    if isinstance(node, ast.Starred):
        return f"*{_flat(node.value)}"
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        return f"({', '.join(map(_flat, node.elts))})"
    parts = _parts(node)
    if parts is None:
        return ast.unparse(node)
    opening, items, closing = parts
    return opening + ", ".join(head + _flat(value) for head, value in items) + closing


def joined(pieces: Sequence[str]) -> str:
    """Return pieces of code one after the other, with an empty line beside those of several."""
    text, was_long = "", False
    for piece in pieces:
        is_long = "\n" in piece
        text += ("\n" if text and (is_long or was_long) else "") + piece + "\n"
        was_long = is_long
    return text.rstrip("\n")


def indented(code: str) -> str:
    """Return code for the body of a function; the lines within a string stay as they are."""
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.STRING:
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = code.splitlines(keepends=True)
    return "".join(_indented(lines, inside))


def _indented(lines: Sequence[str], inside: set[int]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        yield line if number in inside or not line.strip() else _STEP + line
