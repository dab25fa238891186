"""What went wrong, in the worker's words for its parent."""

from __future__ import annotations

from alembic import util
from alembic.script.revision import MultipleHeads


class WrongTargetError(BaseException):
    """A connection went elsewhere. Not an Exception, so that no env.py can swallow it."""


class BrokenChainError(Exception):
    """The scripts do not make up a chain: a file is missing, or two have one id."""


def kind_of(error: BaseException) -> str:
    """Return a stable word for what happened."""
    text = str(error)
    if "Can't locate revision" in text:
        return "orphaned revision"
    if isinstance(error, MultipleHeads) or "Multiple head" in text:
        return "several heads"
    if isinstance(error, BrokenChainError):
        return "broken chain"
    return "alembic" if isinstance(error, util.CommandError) else "error"


def message_of(error: BaseException) -> str:
    """Return the server's words without SQLAlchemy's, else the error's own, in one line."""
    origin = getattr(error, "orig", None) or error
    text = next((line.strip() for line in str(origin).splitlines() if line.strip()), "")
    plain = isinstance(error, (util.CommandError, BrokenChainError))
    return text if plain else f"{type(origin).__name__}: {text}"
