"""Databases for tests: clones of a template, the next one made and used ones dropped meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.connections.session import connect, explained, one_line
from backset.connections.target import respelled
from backset.errors import StepFailedError
from backset.process.signals import submit
from backset.servers import derived, swap
from backset.servers.server import LOCALLY
from backset.testing.template import PURPOSE, clone_name, drop
from backset.text.quantities import few

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from backset.connections.target import Target
    from backset.settings.settings import Settings
    from backset.testing.template import Template

# A DROP waits for a checkpoint, and that for the disk: for each file of a clone made ahead, for 2 s
# where a copy takes 0.07 s. So the next one is made when the last is gone there, page by page.
# In memory, checkpoints are cheap, and so are copies as files.
_QUICK_S = 0.2


class DatabaseURL(str):
    """A URL, or what is made of one, without its password where a test shows its values."""

    __slots__ = ("_shown",)
    _shown: str

    @classmethod
    def of(cls, url: str, shown: str) -> DatabaseURL:
        """Return the URL. shown: the same without its password."""
        made = cls(url)
        made._shown = shown
        return made

    def __repr__(self) -> str:
        return repr(self._shown)


@dataclass(frozen=True, slots=True)
class Clone:
    """A database for a test: what it is called, and how it is reached."""

    name: str
    _target: Target = field(repr=False)
    _settings: Settings = field(repr=False)

    @property
    def url(self) -> DatabaseURL:
        """Its URL, spelled as DATABASE_URL is."""
        return DatabaseURL.of(self._target.url, self._target.shown)

    def url_for(self, driver: str = "") -> DatabaseURL:
        """Return its URL for a driver of SQLAlchemy, such as `asyncpg`; without one for libpq.

        As libpq reads it, psycopg, psql and Django's readers of URLs do.
        """
        return DatabaseURL.of(respelled(self._target.url, driver), self._target.shown)

    @property
    def env(self) -> Mapping[str, str]:
        """The variables by which the project is told its database: DATABASE_URL, and `env`.

        None shows a password where a failing test shows its values.
        """
        told = self._settings.filled_env(self._target).items()
        return {name: DatabaseURL.of(text, self._target.redact(text)) for name, text in told}


class Clones:
    """Gives each test a clone. Two threads make and drop them, each on a session of its own."""

    def __init__(self, template: Template) -> None:
        self._template = template
        with explained(template.target):
            self._drops = connect(template.maintenance, PURPOSE)
            self._drops.execute(LOCALLY.encode())
        self._maker, self._dropper = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._ahead: Future[str] | None = None
        self._dropping: Future[None] | None = None
        self._is_quick = False  # until a DROP was
        self._left: dict[str, str] = {}

    @property
    def unkept(self) -> str:
        """Why the next run of tests has to build the template again; empty where it has not."""
        return self._template.unkept

    def take(self) -> Clone:
        """Return a new clone, and let the next one be made. Raises StepFailedError."""
        with explained(self._template.target):
            name = self._made()
        return Clone(name, self._template.target.named(name), self._template.settings)

    def _made(self) -> str:
        """Return a clone; the next one is made meanwhile, unless a DROP would wait for that."""
        made, self._ahead = self._ahead, None
        if made is None and self._dropping is not None and not self._is_quick:
            self._dropping.result()
        made = made or submit(self._maker, self._make)
        if self._is_quick:
            self._ahead = submit(self._maker, self._make)
        return made.result()

    def leave(self, clone: Clone) -> None:
        """Let a clone be dropped, whoever is connected to it."""
        self._dropping = submit(self._dropper, self._drop, clone.name)

    def close(self) -> str:
        """Drop what is left, and end; return in words what could not be dropped."""
        if self._ahead is not None and self._ahead.exception() is None:
            submit(self._dropper, self._drop, self._ahead.result())
        self._maker.shutdown()
        self._dropper.shutdown()
        self._drops.close()
        self._template.close()
        problem = next(iter(self._left.values()), "")
        return f"{few(self._left)} could not be dropped: {problem}" if self._left else ""

    def _make(self) -> str:
        template, session = self._template, self._template.session
        name = clone_name(template.names)
        called = template.called()
        if not called:
            what = f"{template.database.name} was dropped while tests ran"
            raise StepFailedError(what, "run them again")
        source = replace(template.database, name=called)
        is_large, is_quick = template.as_files, self._is_quick
        derived.copy(session, source, name, source, as_files=is_large or is_quick, shares=is_large)
        database = sql.Identifier(name)
        statements = [
            swap.comment_on(name, swap.mark(template.names, "clone")),
            *(more for each in template.given for more in each.statements(name)),
            sql.SQL("ALTER DATABASE {} SET synchronous_commit TO off").format(database),
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database),
        ]
        with session.transaction():
            session.execute(sql.SQL("; ").join(statements))
        return name

    def _drop(self, name: str) -> None:
        began = monotonic()
        try:
            self._drops.execute(drop(name))
        except psycopg.Error as error:
            self._left[name] = one_line(error, self._template.target)
        self._is_quick = monotonic() - began < _QUICK_S
