"""A connection for an env.py that is handed one: the recipe "sharing a connection" of Alembic.

Such an env.py takes `config.attributes["connection"]` from the program that calls Alembic, and may
have no other.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "connection"


class Attributes(dict[str, Any]):
    """The attributes of a configuration, which know whether a connection was asked for in vain."""

    was_asked = False

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, and note what is missed."""
        self._note(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def _note(self, key: object) -> None:
        self.was_asked |= key == _NAME and not super().__contains__(key)

    @contextmanager
    def connected(self, url: str) -> Iterator[None]:
        """Have a connection in them for a while, and commit what is left open on it.

        Alembic commits by itself, unless env.py has begun something on it before.
        """
        with sqlalchemy.create_engine(url, poolclass=NullPool).connect() as connection:
            self[_NAME] = connection
            try:
                yield
                transaction = connection.get_transaction()
                if transaction is not None:
                    transaction.commit()
            finally:
                del self[_NAME]
