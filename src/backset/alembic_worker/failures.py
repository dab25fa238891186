"""What went wrong, in the worker's words for its parent."""

from __future__ import annotations

import traceback
from configparser import InterpolationSyntaxError
from typing import TYPE_CHECKING, Any

from alembic import util
from alembic.script.revision import MultipleHeads
from sqlalchemy.exc import DBAPIError

from . import server_words

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_SCHEMA = "3F000"  # invalid_schema_name


class WrongTargetError(BaseException):
    """A connection went elsewhere. Not an Exception, so that no env.py can swallow it."""


class FoundError(BaseException):
    """The connection that was looked for. Not an Exception, for the same reason."""


class LoadedError(BaseException):
    """env.py has come to its work. Not an Exception, for the same reason."""


class UnagreedError(BaseException):
    """Our parent agrees on no database, and says why. Not an Exception, for the same reason."""


class BrokenChainError(Exception):
    """The scripts do not make up a chain: a file is missing, or two have one id."""


class UnreadableFileError(BrokenChainError):
    """A script raises when it is loaded: it need not be wrong, a setting can be missing."""


class NoConfigurationError(Exception):
    """There is no Alembic configuration where it should be."""


class NoSectionError(Exception):
    """Other sections of the file have scripts, and the one that was read has none."""


class UnreadableConfigurationError(Exception):
    """Alembic's configuration is there, and is no INI file."""


class SeveralDatabasesError(Exception):
    """env.py works on several databases; its text is their names."""


class NoConnectionError(Exception):
    """env.py gave Alembic no connection, as for `alembic upgrade --sql`."""


class NoApplicationError(Exception):
    """env.py works within the project's application, which cannot be found."""


class NoTransactionError(Exception):
    """A migration wants a block in autocommit mode, and env.py has begun a transaction before."""


class MissingSchemaError(Exception):
    """The version table belongs into a schema that does not exist; its text is the name."""


_KINDS = (
    (UnreadableFileError, "unreadable file"),
    (BrokenChainError, "broken chain"),
    (NoConfigurationError, "no configuration"),
    (NoSectionError, "no section"),
    (UnreadableConfigurationError, "unreadable configuration"),
    (SeveralDatabasesError, "several databases"),
    (NoConnectionError, "no connection"),
    (NoApplicationError, "no application"),
    (NoTransactionError, "no transaction"),
    (MissingSchemaError, "missing schema"),
    (util.CommandError, "alembic"),
    (DBAPIError, "database"),
)
_OURS = tuple(family for family, kind in _KINDS if kind != "database")


def kind_of(error: BaseException) -> str:
    """Return a stable word for what happened."""
    text = str(error)
    if "Can't locate revision" in text:
        return "orphaned revision"
    if isinstance(error, MultipleHeads) or "Multiple head" in text:
        return "several heads"
    if any(isinstance(each, EOFError) for each in _behind(error)):
        return "asked for input"
    if isinstance(error, ModuleNotFoundError):
        return "missing module"
    return next((kind for family, kind in _KINDS if isinstance(error, family)), "error")


def message_of(error: BaseException) -> str:
    """Return the server's words without SQLAlchemy's, else the error's own, in one line."""
    if said := server_words.fields(error):
        return f"PostgreSQL: {said['words'].partition(chr(10))[0]}"
    origin = getattr(error, "orig", None) or error
    if fields := _wrong_fields(error):
        return f"{type(error).__name__}: {fields}"
    if isinstance(error, InterpolationSyntaxError):  # it shows the value from the `%` on
        return f"{type(error).__name__}: option {error.option!r}: write each % twice"
    text = next((line.strip() for line in str(origin).splitlines() if line.strip()), "")
    return text if isinstance(error, _OURS) else f"{type(origin).__name__}: {text}"


def explained(error: Exception, context: Any, *, in_migration: bool) -> Exception:
    """Return what an error of env.py means, given the MigrationContext that it made, if any.

    in_migration: whether a migration has raised it, and not env.py.
    """
    if isinstance(error, AssertionError) and _raised_in(error) == "autocommit_block":
        return NoTransactionError("autocommit_block() needs the transaction that Alembic begins")
    if in_migration:
        return error
    if context is None:
        offline = isinstance(error, util.CommandError) and "as_sql mode" in str(error)
        return NoConnectionError(message_of(error)) if offline else error
    if context.connection is None:
        return NoConnectionError(message_of(error))
    if context.version_table_schema and _sqlstate(error) == _NO_SCHEMA:
        return MissingSchemaError(context.version_table_schema)
    return error


def _wrong_fields(error: BaseException) -> str:
    """Return what Pydantic says of each field; its text has values too, such as a password."""
    errors = getattr(error, "errors", None)
    if type(error).__name__ != "ValidationError" or not callable(errors):
        return ""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors())


def _behind(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was made of, as click makes an Abort of an EOFError."""
    current = error  # type: BaseException | None
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _raised_in(error: BaseException) -> str:
    """Return the name of the function that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].name if frames else ""


def _sqlstate(error: Exception) -> Any:
    """Return the server's code, which each driver keeps elsewhere."""
    origin = getattr(error, "orig", None)
    first = next(iter(getattr(origin, "args", ())), None)
    if isinstance(first, dict):  # pg8000
        return first.get("C")
    return getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
