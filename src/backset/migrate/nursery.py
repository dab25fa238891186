"""One process of Alembic for many databases: each gets one that is made of it by a fork.

Where it can, it has imported the project's application before: its env.py as far as that needs no
database. What env.py keeps of a URL then leads nowhere, or to another database than was agreed on:
the proof of target fails, and from there on each process imports the application for itself.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.migrate import program
from backset.migrate.program import Nursery
from backset.migrate.worker import Worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from backset.settings.settings import Settings


class _Source:
    """Where the processes of a block come from."""

    def __init__(self) -> None:
        self.imports_application = True
        self._nursery: Nursery | None = None

    def another(self, settings: Settings) -> tuple[Nursery, socket.socket] | None:
        """Return a process, and its socket; None where it is not made by a fork."""
        if settings.is_throw_away:
            return None
        with suppress(OSError, StepFailedError):
            if self._nursery is None or not self._nursery.is_there(settings):
                self.close()
                self._nursery = self._made(settings)
            return self._nursery, self._nursery.another()
        return None

    def _made(self, settings: Settings) -> Nursery:
        if self.imports_application and _names_nothing_else(settings):
            made = Nursery(settings)
            worker = Worker(settings, of=(made, made.control))
            if _has_imported(worker, settings) and worker.multiply():
                return made
            made.end_all()
        self.imports_application = False
        made = Nursery(settings)
        Worker(settings, of=(made, made.control)).multiply()
        return made

    def close(self) -> None:
        """End what was made."""
        if self._nursery is not None:
            self._nursery.end_all()
            self._nursery = None


def _has_imported(worker: Worker, settings: Settings) -> bool:
    with suppress(StepFailedError):
        worker.begin_alone(settings.plain_env)
        return worker.has_imported()
    return False


def _names_nothing_else(settings: Settings) -> bool:
    """Tell whether what names a database to env.py is its URL, whose place is proved.

    A variable such as TENANT = "{database}" that the application keeps would be that of no database
    or of another one, and no proof would tell.
    """
    texts = [*settings.env.values(), *settings.ini.values()]
    texts += [each for lineage in settings.lineages for each in lineage.ini.values()]
    return not any("{database" in each for each in texts)


_source: _Source | None = None


@contextmanager
def kept() -> Iterator[None]:
    """Let the workers of the block be made of one process, whatever their databases are."""
    global _source  # noqa: PLW0603  (a process has one)
    if sys.platform == "darwin":  # libraries of the system do not outlive a fork there
        yield
        return
    _source = _Source()
    program.SOURCES.append(_source.another)
    try:
        yield
    finally:
        program.SOURCES.clear()
        _source.close()
        _source = None


def import_anew() -> bool:
    """Let each process import the application for itself from now on; tell whether that is new."""
    if _source is None or not _source.imports_application:
        return False
    _source.imports_application = False
    _source.close()
    return True
