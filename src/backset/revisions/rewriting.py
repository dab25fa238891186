"""Pure: the lines of a migration script that say what it follows, written anew.

Only the names themselves are exchanged: quotes, comments, annotations, line ends and all the rest
stay byte for byte.
"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.revisions.script_files import assigned, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NAMES = frozenset({"down_revision", "depends_on"})
_LINE_END = re.compile(rb"\r\n|\r|\n")  # as Python's tokenizer has them, unlike splitlines()
_QUOTED = re.compile(r"([\"'])((?:(?!\1)[^\\\n])*)\1")
_LINE = re.compile(r"^(?:down_revision|depends_on)\b[^=\n]*=(.*)$", re.MULTILINE)
_OPENING = re.compile(r"(?:\s|#[^\n]*\n)*[uUrR]?(\"\"\"|''')(.*?)\1", re.DOTALL)
_REVISES = re.compile(r"^[ \t]*Revises:(.*)$", re.MULTILINE)
_Edit = tuple[int, int, bytes]  # from where to where, and what comes there


def rebased(text: str, ids: Mapping[str, str], path: Path = Path()) -> str:
    """Return a script that follows, and depends on, others: `ids` says which in place of which.

    Where several of those that it follows become one, this one is named once. The `Revises:` line
    of its docstring is kept in step. `path` is for the error. Raises StepFailedError where none of
    these is there as a plain text, so that it could be exchanged.
    """
    before = parse(text)
    if before is None or not {*before.needs}.intersection(ids):
        raise _odd(ids, path)
    raw = text.encode(errors="surrogateescape")
    edits = [*_in_values(text, raw, ids), *_in_docstring(text, ids)]
    for start, end, new in sorted(edits, reverse=True):
        raw = raw[:start] + new + raw[end:]
    result = raw.decode(errors="surrogateescape")
    after = parse(result)
    wanted = [{ids.get(each, each) for each in some} for some in (before.down, before.depends_on)]
    if after is None or after.id != before.id or [{*after.down}, {*after.depends_on}] != wanted:
        raise _odd(ids, path)
    return result


def rebased_file(raw: bytes, ids: Mapping[str, str], path: Path = Path()) -> bytes:
    """Do so with the content of a file, of which each byte that is no UTF-8 stays as it is."""
    text = raw.decode(errors="surrogateescape")
    return rebased(text, ids, path).encode(errors="surrogateescape")


def _odd(ids: Mapping[str, str], path: Path) -> StepFailedError:
    pairs = ", ".join(f"{new} for {old}" for old, new in ids.items())
    what = f"{path}: what this revision follows is not written there as plain names"
    return StepFailedError(what, f"write {pairs} in its down_revision or depends_on by hand")


def _in_values(text: str, raw: bytes, ids: Mapping[str, str]) -> Iterator[_Edit]:
    try:
        with warnings.catch_warnings():  # a stranger's invalid escapes are not for our user
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        yield from _in_lines(text, ids)
        return
    starts = [0, *(match.end() for match in _LINE_END.finditer(raw))]
    for node in tree.body:
        for name, value in assigned(node):
            if name in _NAMES:
                yield from _in_value(value, raw, starts, ids)


def _in_value(
    value: ast.expr, raw: bytes, starts: Sequence[int], ids: Mapping[str, str]
) -> Iterator[_Edit]:
    several = value.elts if isinstance(value, ast.Tuple | ast.List | ast.Set) else [value]
    names = [_name(each) for each in several]
    new = [ids.get(each, each) for each in names if each is not None]
    if len(new) == len(several) and len(set(new)) < len(new):  # some of them have become one
        start, end = _place(value, starts)
        each_once = [_literal(name, _quote(raw[start:end])) for name in dict.fromkeys(new)]
        brackets = {ast.List: "[{}]", ast.Set: "{{{}}}"}.get(type(value), "({})")
        whole = brackets.format(", ".join(each_once)) if each_once[1:] else each_once[0]
        yield start, end, whole.encode(errors="surrogateescape")
        return
    for each, name in zip(several, names, strict=True):
        if name is not None and name in ids:
            start, end = _place(each, starts)
            new_name = _literal(ids[name], _quote(raw[start:end]))
            yield start, end, new_name.encode(errors="surrogateescape")


def _name(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _place(node: ast.expr, starts: Sequence[int]) -> tuple[int, int]:
    """Return where a node begins and ends, in bytes."""
    assert node.end_lineno is not None  # noqa: S101  (it comes from a text)
    assert node.end_col_offset is not None  # noqa: S101
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + (
        node.end_col_offset
    )


def _quote(literal: bytes) -> str:
    """Return the quotes that a literal is written with."""
    return next(chr(each) for each in literal if each in b"\"'")


def _literal(name: str, quote: str) -> str:
    is_plain = name.isprintable() and not {quote, "\\"}.intersection(name)
    return f"{quote}{name}{quote}" if is_plain else repr(name)


def _in_lines(text: str, ids: Mapping[str, str]) -> Iterator[_Edit]:
    """Read a script that Python cannot parse line by line."""
    for line in _LINE.finditer(text):
        for quoted in _QUOTED.finditer(line[1]):
            if quoted[2] in ids:
                yield _edit(text, line.start(1), quoted.span(2), ids[quoted[2]])


def _in_docstring(text: str, ids: Mapping[str, str]) -> Iterator[_Edit]:
    opening = _OPENING.match(text.removeprefix("\ufeff"))
    if opening is None:
        return
    begin = len(text) - len(text.removeprefix("\ufeff"))
    for line in _REVISES.finditer(opening[2]):
        named = list(re.finditer(r"[^\s,]+", line[1]))
        if [ids.get(each[0], each[0]) for each in named] == [each[0] for each in named]:
            continue
        new = list(dict.fromkeys(ids.get(each[0], each[0]) for each in named))
        base = begin + opening.start(2) + line.start(1)
        if len(new) < len(named):
            yield _edit(text, base, (named[0].start(), named[-1].end()), ", ".join(new))
        else:
            for each in named:
                if each[0] in ids:
                    yield _edit(text, base, each.span(), ids[each[0]])


def _edit(text: str, base: int, span: tuple[int, int], new: str) -> _Edit:
    """Return an edit whose places are counted in bytes."""
    start, end = (len(text[: base + each].encode(errors="surrogateescape")) for each in span)
    return start, end, new.encode(errors="surrogateescape")
