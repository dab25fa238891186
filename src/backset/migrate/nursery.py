"""One process of Alembic for many databases: each gets one that is made of it by a fork.

Where it can, it has imported the project's application before: its env.py as far as that needs no
database. An application that reads what differs between databases while it is imported may keep it,
so that each process imports such a one for itself. Whatever is not seen of that, a URL that was
kept leads to another database than was agreed on: the proof of target fails, and from there on each
process imports the application as well.
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
        if self.imports_application:
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
        names = {name for name, text in settings.env.items() if "{" in text}
        return worker.has_imported(names)
    return False


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
