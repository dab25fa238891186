"""Looks at what a migration has just made, from inside of its transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .connections import own

if TYPE_CHECKING:
    from collections.abc import Sequence


def rows(context: Any) -> tuple[str, ...]:
    """Return the rows of the version table, and leave no transaction begun for that."""
    connection = context.connection
    was_begun = connection.in_transaction()
    found = tuple(context.get_current_heads())
    if not was_begun and connection.in_transaction():  # Alembic would take it for env.py's own
        connection.get_transaction().rollback()
    return found


def may_be_of_interest(revision: str, watched: dict[str, Any]) -> bool:
    """Tell whether a place that begins with this revision may be asked for, see look()."""
    return bool(watched["signs"]) or revision in watched["recorded"]


def look(connection: Any, watched: dict[str, Any], found: Sequence[str]) -> list[Any] | None:
    """Return the schema as it is after a migration; None where it is not asked for.

    watched: `signs`, queries with the answers for which the schema is asked for, from the cheapest
    one on, and none where it never is; `recorded`, the rows of the version table for which it
    always is; `settings`, statements, and `schema`, the query for that.
    """
    is_recorded = sorted(found) == watched["recorded"]
    if not (is_recorded or watched["signs"]):
        return None
    driver = own(connection.connection)
    is_alone = getattr(driver, "autocommit", False)
    was_begun = connection.in_transaction()
    cursor = driver.cursor()
    try:
        for query, wanted in () if is_recorded else watched["signs"]:
            cursor.execute(query)
            if cursor.fetchone()[0] not in wanted:
                return None
        return _schema(cursor, watched, is_alone=is_alone)
    finally:
        cursor.close()
        if not (is_alone or was_begun):
            driver.rollback()


def _schema(cursor: Any, watched: dict[str, Any], *, is_alone: bool) -> list[Any]:
    """Read it under settings that end with that."""
    cursor.execute("BEGIN" if is_alone else "SAVEPOINT backset_look")
    try:
        for each in watched["settings"]:
            cursor.execute(each)
        cursor.execute(watched["schema"])
        (text,) = cursor.fetchone()
        return json.loads(text)  # type: ignore[no-any-return]
    finally:
        cursor.execute("ROLLBACK" if is_alone else "ROLLBACK TO SAVEPOINT backset_look")
        if not is_alone:
            cursor.execute("RELEASE SAVEPOINT backset_look")
