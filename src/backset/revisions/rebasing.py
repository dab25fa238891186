"""Pure: scripts that were started before a squash, rewritten in what they follow and no more.

A script that followed the last of what was replaced keeps its id: what ran it has run all of that.
One that followed an earlier revision gets a new id, and so do those after it: a database that has
run it has not run the rest, and its row must not say so. Such a script says in `replaces` which id
it has had, and in `replaced_heads` what a database must have run besides, so that one at the old id
can follow.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING

from backset.described import described, key
from backset.errors import StepFailedError
from backset.revisions import replaced
from backset.revisions.script_files import by_id, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from backset.revisions.script_files import Revision

_BY_HAND = "rewrite these lines by hand"
_ID_DIGITS = 12  # as many as those that Alembic makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebasing:
    """What becomes of one script.

    ids: the new id of each that it needs. renamed: its own new id, if it gets one. left: those of
    the replaced revisions that were not below it. heads: the ends of what was not below it, or
    below what it follows.
    """

    script: Revision
    ids: Mapping[str, str]
    renamed: str = ""
    left: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    @property
    def trace(self) -> dict[str, tuple[str, ...]]:
        """What its script says of the id that it has had, by the names for that."""
        if not self.renamed:
            return {}
        old = self.script
        heads = dict.fromkeys((old.id, *self.heads))
        return {"replaces": (*old.replaces, old.id), "replaced_heads": tuple(heads)}

    @property
    def path(self) -> Path:
        """Its file."""
        return self.script.path

    def told(self, path: str) -> RebasedScript:
        """Return what programs get of it; path: of its file, as people read it."""
        new = self.renamed or self.script.id
        return RebasedScript(path=path, revision=new, before=self.script.id, ids=self.ids)

    def __str__(self) -> str:
        changes = [f"{old} → {new}" for old, new in self.ids.items()]
        text = f"{self.path.name}: follows {', '.join(changes)}"
        return text + (f", and is {self.renamed} in place of {self.script.id}" * bool(self.renamed))


@described(kw_only=True)
class RebasedScript:
    """A script that was started before a squash, in `rebased`."""

    path: str = key("of its file")
    revision: str = key("its id from now on")
    before: str = key("its id before; another one where it did not follow all that was replaced")
    ids: Mapping[str, str] = key("what it follows or depends on: the new id, by the old one")


def planned(scripts: Sequence[Revision]) -> list[Rebasing]:
    """Return what is to be rewritten, the last ones first, so that each rest can be done again.

    Raises StepFailedError where nobody can tell which one a script is to follow.
    """
    by, known = replaced.replacing(scripts), by_id(scripts)
    started: dict[str, dict[str, str]] = {}
    left: dict[str, tuple[str, ...]] = {}
    heads: dict[str, list[str]] = {}
    for each in known.values():
        wanted = [name for name in dict.fromkeys(each.needs) if name in by]
        for name in wanted:
            if len(by[name]) > 1:
                several = ", ".join(one.id for one in by[name])
                what = f"{each.path.name} follows {name}, which each of {several} replaces"
                raise StepFailedError(what, "let one of them replace it, or name one by hand")
            squash = by[name][0]
            started.setdefault(each.id, {})[name] = squash.id
            if not set(squash.replaced_heads) <= set(each.needs):
                at = squash.replaces.index(name) + 1
                left[each.id] = squash.replaces[at:]
                ends = (end for end in squash.replaced_heads if end not in each.needs)
                heads.setdefault(each.id, []).extend(ends)
    renamed = {
        each.id: _new_id(each.id, started)
        for each in known.values()
        if any(name in left for name in _below(each, known))
    }
    order = sorted(known, key=lambda name: -len(_below(known[name], known)))
    made = []
    for name in order:
        ids = started.get(name, {})
        ids |= {each: renamed[each] for each in known[name].needs if each in renamed}
        if ids:
            made.append(
                Rebasing(
                    script=known[name],
                    ids=ids,
                    renamed=renamed.get(name, ""),
                    left=left.get(name, ()),
                    heads=tuple(
                        end
                        for below in sorted(_below(known[name], known))
                        for end in heads.get(below, ())
                    ),
                )
            )
    return made


def _below(script: Revision, known: Mapping[str, Revision]) -> set[str]:
    """Return a script and all that it needs, as far as there are files of that."""
    found, todo = set(), [script.id]
    while todo:
        name = todo.pop()
        if name in known and name not in found:
            found.add(name)
            todo += known[name].needs
    return found


def _new_id(revision: str, started: Mapping[str, Mapping[str, str]]) -> str:
    """Return the same new id whoever asks for it: two people may rebase the same branch."""
    squashes = sorted({new for each in started.values() for new in each.values()})
    return sha256(" ".join([revision, *squashes]).encode()).hexdigest()[:_ID_DIGITS]


def rewritten(content: bytes, change: Rebasing) -> bytes:
    """Return what the file is to be; whatever names none of the changed revisions is as it was.

    Raises StepFailedError where the file is written in a way that cannot be changed so.
    """
    name = change.path.name
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        raise StepFailedError(f"{name} cannot be parsed", _BY_HAND) from None
    own = {change.script.id: change.renamed} if change.renamed else {}
    edits = list(
        chain(
            _literals(tree, content, "down_revision", change.ids),
            _literals(tree, content, "depends_on", change.ids),
            _literals(tree, content, "revision", own),
            _trace(tree, content, change.trace),
            _docstring(tree, content, {**change.ids, **own}),
        )
    )
    made = content
    for start, end, text in sorted(edits, reverse=True):
        made = made[:start] + text + made[end:]
    _demand(made, change)
    return made


def _demand(made: bytes, change: Rebasing) -> None:
    """Raise StepFailedError unless a text says what it was to say."""
    found = parse(made.decode("utf-8-sig", errors="replace"), change.path)
    old = change.script
    wanted = {change.ids.get(each, each) for each in old.needs}
    if (
        found is None
        or set(found.needs) != wanted
        or found.id != (change.renamed or old.id)
        or len(set(found.needs)) != len(found.needs)
        or (change.renamed and found.replaces != change.trace["replaces"])
    ):
        names = ", ".join(change.ids)
        what = f"{change.path.name} names {names} in a way of its own"
        raise StepFailedError(what, _BY_HAND)


def _literals(
    tree: ast.Module, content: bytes, word: str, ids: Mapping[str, str]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield where the value of a name has texts to be changed: begin, end, and what comes there."""
    starts = _line_starts(content)
    for value in _values(tree, word):
        several = value.elts if isinstance(value, (ast.Tuple, ast.List, ast.Set)) else [value]
        names = [each.value if isinstance(each, ast.Constant) else None for each in several]
        new = [ids.get(each, each) if isinstance(each, str) else None for each in names]
        if new == names:
            continue
        if len(set(new)) < len(new) and None not in new:
            unique = [f'"{each}"' for each in dict.fromkeys(new)]
            text = unique[0] if len(unique) == 1 else f"({', '.join(unique)})"
            yield *_span(value, starts), text.encode()
            continue
        for node, old, other in zip(several, names, new, strict=True):
            if old != other and isinstance(old, str) and isinstance(other, str):
                start, end = _span(node, starts)
                yield start, end, content[start:end].replace(old.encode(), other.encode())


def _trace(
    tree: ast.Module, content: bytes, trace: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield the lines that say which id the script has had, behind the one that says its id."""
    starts, lines = _line_starts(content), []
    for word, names in trace.items():
        text = f"({', '.join(map(_string, names))}{'' if names[1:] else ','})"
        values = list(_values(tree, word))
        yield from ((*_span(each, starts), text.encode()) for each in values)
        lines += [] if values else [f"{word} = {text}"]
    own = [_span(each, starts)[1] for each in _values(tree, "revision")]
    if lines and own:
        end = _LINE_END.search(content, own[-1])
        place, ending = (end.start(), end[0]) if end else (len(content), b"\n")
        yield place, place, b"".join(ending + each.encode() for each in lines)


def _string(name: str) -> str:
    return f'"{name}"'


def _values(tree: ast.Module, word: str) -> Iterator[ast.expr]:
    """Yield what `word` is assigned, at the level of the module."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            if node.target.id == word:
                yield node.value
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                yield from (
                    value for one, value in pairs if isinstance(one, ast.Name) and one.id == word
                )


def _docstring(
    tree: ast.Module, content: bytes, ids: Mapping[str, str]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield the ids in the lines of the docstring that Alembic's template writes."""
    first = tree.body[0] if tree.body else None
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        return
    start, end = _span(first.value, _line_starts(content))
    for line in _TEMPLATE.finditer(content, start, end):
        for word in _WORD.finditer(content, *line.span(1)):
            if (new := ids.get(word[0].decode(errors="replace"))) is not None:
                yield *word.span(), new.encode()


_TEMPLATE = re.compile(rb"^[ \t]*(?:Revision(?: ID)?|Revises|Depends on):([^\r\n]*)", re.MULTILINE)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_WORD = re.compile(rb"[^\s,'\"()\[\]]+")


def _line_starts(content: bytes) -> list[int]:
    """Return where each line begins; a mark of its encoding is no part of the first one."""
    mark = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    return [mark, *(match.end() for match in _LINE_END.finditer(content))]


def _span(node: ast.expr, starts: Sequence[int]) -> tuple[int, int]:
    assert node.end_lineno is not None  # noqa: S101  (the parser has set both)
    assert node.end_col_offset is not None  # noqa: S101
    start = starts[node.lineno - 1] + node.col_offset
    return start, starts[node.end_lineno - 1] + node.end_col_offset
