"""What a server has said of a statement, whichever driver brings it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_CARET = re.compile(r"^ *\^ *$")
_SHOWN_CHARS = 60  # of the line of a statement, as libpq shows them
# Their DETAIL is the whole row, with whatever is in it: PostgreSQL's manual, appendix A.
_WITH_A_ROW = frozenset({"23502", "23514"})  # not_null_violation, check_violation
# Its CONTEXT is the line that was read: CopyFromErrorCallback. The place in it has no data.
_COPIED = re.compile(r"^.*?\bCOPY [^,]*, \D{0,20}\d+", re.DOTALL)


def fields(error: BaseException) -> dict[str, Any]:
    """Return what the server has said: `words`, `code`, and what else there is of it.

    That is `detail`, `hint`, `context`, `position` (in the statement, from 1). Empty if no server
    has said anything.
    """
    driven = getattr(error, "orig", None)
    # SQLAlchemy's adapter of asyncpg raises an error of its own from asyncpg's.
    for each in filter(None, (driven or error, driven and driven.__cause__)):
        if found := _of_psycopg(each) or _of_pg8000(each) or _of_asyncpg(each):
            return found
    return {}


def quoted(error: BaseException) -> list[str]:
    """Return what it has said beside its first line: where in the statement, DETAIL, HINT, CONTEXT.

    Each may have several lines. Where the project has raised an error of its own because of the
    server's, ERROR comes first.
    """
    server = next(filter(fields, _behind(error)), error)
    said = fields(server)
    if said.get("code") in _WITH_A_ROW:
        said["detail"] = None
    said["context"] = _without_data(said.get("context") or "")
    words = None if server is error else said["words"]
    named = [("error", words), *((name, said.get(name)) for name in ("detail", "hint", "context"))]
    texts = [f"{name.upper()}: {text}" for name, text in named if text]
    place = _shown_by_libpq(server) or _shown(server, said.get("position"))
    at = 1 if words else 0
    return [*texts[:at], *filter(None, [place]), *texts[at:]]


def _without_data(context: str) -> str:
    if "COPY" not in context:
        return context
    place = _COPIED.match(context)
    return place[0] if place else ""


def _behind(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it, as a traceback of Python shows them."""
    current = error  # type: BaseException | None
    while current is not None:
        yield current
        around = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or around


def _of_psycopg(error: BaseException) -> dict[str, Any]:
    """Return it of psycopg and psycopg2."""
    told = getattr(error, "diag", None)  # type: Any
    if not getattr(told, "message_primary", None):
        return {}
    return {
        "words": told.message_primary,
        "code": told.sqlstate,
        "detail": told.message_detail,
        "hint": told.message_hint,
        "context": told.context,
    }


def _of_pg8000(error: BaseException) -> dict[str, Any]:
    told = next(iter(error.args), None)
    if not (isinstance(told, dict) and told.get("M")):
        return {}
    names = {"words": "M", "code": "C", "detail": "D", "hint": "H", "context": "W", "position": "P"}
    return {name: told.get(letter) for name, letter in names.items()}


def _of_asyncpg(error: BaseException) -> dict[str, Any]:
    if not type(error).__module__.startswith("asyncpg."):
        return {}
    names = ("detail", "hint", "context", "position")
    told = {name: getattr(error, name, None) for name in names}
    words = next(iter(error.args), None)
    return {**told, "words": words, "code": getattr(error, "sqlstate", None)} if words else {}


def _shown_by_libpq(error: BaseException) -> str:
    """Return the line of the statement and its caret: only the driver knows what it has sent."""
    lines = str(getattr(error, "orig", None) or error).splitlines()
    for above, below in zip(lines, lines[1:]):
        if _CARET.match(below):
            return f"{above}\n{below}"
    return ""


def _shown(error: BaseException, position: Any) -> str:
    """Return the same, as libpq would show it."""
    statement = getattr(error, "statement", None)
    if not (statement and position):
        return ""
    before = statement[: int(position) - 1]
    begin = before.rfind("\n") + 1
    line = statement[begin:].partition("\n")[0]
    column = len(before) - begin
    cut = max(0, column - _SHOWN_CHARS // 2) if len(line) > _SHOWN_CHARS else 0
    label = f"LINE {before.count(chr(10)) + 1}: " + ("..." if cut else "")
    shown = line[cut : cut + _SHOWN_CHARS].replace("\t", " ")
    return f"{label}{shown}\n{' ' * (len(label) + column - cut)}^"
