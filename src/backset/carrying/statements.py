"""Runs statements that the server has put together itself, names quoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.carrying import row_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backset.connections.session import Session

_AT_ONCE = 50  # in one transaction, which holds a lock on each object that they name


def run(session: Session, statements: Iterable[str]) -> None:
    """Run them in their order, many in one round trip; empty ones are left out.

    Raises StepFailedError with what the server says.
    """
    wanted = [each for each in statements if each]
    for start in range(0, len(wanted), _AT_ONCE):
        with row_errors.told(session.info.dbname):
            session.execute("; ".join(wanted[start : start + _AT_ONCE]).encode())
