"""Hears what migrations say to the server, beside what they make in their database."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Our parent looks closer; of all else, such as rows, nothing is sent.
_WORDS = re.compile(
    r"\b(?:role|user|group|tablespace|database|system|subscription|parameter|grant|revoke|\w*_slot)\b",
    re.IGNORECASE,
)


@contextmanager
def heard(revision: Callable[[], str], said: list[list[Any]]) -> Iterator[None]:
    """Add what is said in the block: the revision, the statement, and whether it has parameters."""

    def note(_link: Any, _cursor: Any, text: str, values: Any, context: Any, _many: bool) -> None:  # noqa: FBT001  (SQLAlchemy's)
        if _WORDS.search(text) and revision():
            is_compiled = getattr(context, "compiled", None) is not None
            doubles = is_compiled and context.dialect.paramstyle in {"format", "pyformat"}
            said.append([revision(), text.replace("%%", "%") if doubles else text, bool(values)])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", note)
