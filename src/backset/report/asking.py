"""What a person at the terminal is asked: the name of a database, and which backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.backups import shared
from backset.backups.store import Choice
from backset.connections.target import derived_name
from backset.errors import SettingsError, StepFailedError
from backset.servers.server import DERIVED
from backset.settings import rules, values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.backups.manifest import Backup
    from backset.connections.target import Target
    from backset.report.report import Report
    from backset.settings.settings import Settings


def typed_name(told: Report) -> Callable[[Sequence[tuple[str, str]]], str]:
    """Return what shows facts on the terminal and reads the name that the user types."""

    def name(facts: Sequence[tuple[str, str]]) -> str:
        told.stakes(facts, "")
        return typed(" type the database's name to go on: ")

    return name


def typed(question: str) -> str:
    """Return what a person answers; nothing where they end the input."""
    try:
        return input(question).strip()
    except EOFError:
        return ""


def choose_backup(
    settings: Settings,
    told: Report,
    target: Target,
    *,
    name: str,
    into: str,
    newest: bool,
    whence: str = "",
) -> Choice:
    """Return which backup to restore; without a name, offer the list where somebody can choose.

    whence: the URL of one in a bucket, or of where `name` is looked for.
    """
    if into:
        _check_name(into, target.database)
    store = shared.store_of(settings, target.database)
    database = None if into else target.database
    if whence:
        url = rules.bucket_url(f"{whence.rstrip('/')}/{name}".rstrip("/"))
        named = shared.find(settings, target.database, url)
        return Choice(store=store, name=named.name, database=database, found=named)
    if not name and not newest:
        found, unreadable = store.read()
        offered = found[::-1]
        told.backups(offered, store.place, unreadable, numbered=True)
        if not offered:
            raise StepFailedError(f"{store.place} has no backup", "`invoke backup` takes one")
        if not told.can_ask:
            remedy = f"`invoke restore {offered[0].name}`, or `invoke restore --yes` for the newest"
            raise StepFailedError("restore was not told which backup", remedy)
        name = _chosen(offered)
    return Choice(store=store, name=name or None, database=database)


def _chosen(offered: Sequence[Backup]) -> str:
    """Read from the terminal the number of one of `offered`; return its name.

    Raises StepFailedError when nothing is chosen.
    """
    while True:
        answer = typed(f" which one? [1-{len(offered)}] ")
        if not answer:
            raise StepFailedError("no backup was chosen", "type the number of one, or its name")
        for number, each in enumerate(offered, 1):
            if answer in {str(number), each.name}:
                return each.name


def _check_name(database: str, target: str) -> None:
    values.of_flag("--into", database, values.name)
    if database in {derived_name(target, f"__{word}") for word in DERIVED}:
        must_be = f"another name: that one is used beside {target}"
        raise SettingsError([(f"--into is {database!r}", f"it must be {must_be}")])
