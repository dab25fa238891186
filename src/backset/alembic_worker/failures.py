"""What went wrong, in the worker's words for its parent."""

from __future__ import annotations

from alembic import util
from alembic.script.revision import MultipleHeads


class WrongTargetError(BaseException):
    """A connection went elsewhere. Not an Exception, so that no env.py can swallow it."""


class FoundError(BaseException):
    """The connection that was looked for. Not an Exception, for the same reason."""


class BrokenChainError(Exception):
    """The scripts do not make up a chain: a file is missing, or two have one id."""


class NoConfigurationError(Exception):
    """There is no Alembic configuration where it should be."""


def kind_of(error: BaseException) -> str:
    """Return a stable word for what happened."""
    text = str(error)
    if "Can't locate revision" in text:
        return "orphaned revision"
    if isinstance(error, MultipleHeads) or "Multiple head" in text:
        return "several heads"
    if isinstance(error, BrokenChainError):
        return "broken chain"
    if isinstance(error, NoConfigurationError):
        return "no configuration"
    if isinstance(error, ModuleNotFoundError):
        return "missing module"
    return "alembic" if isinstance(error, util.CommandError) else "error"


def message_of(error: BaseException) -> str:
    """Return the server's words without SQLAlchemy's, else the error's own, in one line."""
    origin = getattr(error, "orig", None) or error
    text = next((line.strip() for line in str(origin).splitlines() if line.strip()), "")
    plain = isinstance(error, (util.CommandError, BrokenChainError, NoConfigurationError))
    return text if plain else f"{type(origin).__name__}: {text}"
