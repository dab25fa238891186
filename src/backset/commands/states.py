"""The tasks about the state of the database: they tell it, and do its smallest cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backset.cli import WOULD_START, alembic_for_proof, opened
from backset.errors import FindingsError

if TYPE_CHECKING:
    from collections.abc import Mapping


def status(*, as_json: bool, plan: bool, proves: bool) -> None:
    """Report the state of the target; exit 6 when there are findings."""
    with (
        opened("status", as_json=as_json) as (settings, told),
        alembic_for_proof(settings, proves=proves and not plan) as (it, ahead),
    ):
        from backset.commands import repair
        from backset.servers import location

        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        told.note(database=target.database, url=target.shown)
        found = repair.look(settings, target, told, proves=bool(ahead), worker=it, ahead=ahead)
        told.status(found)
        if found.findings:
            raise FindingsError.of(found.findings)


def repair(*, plan: bool, as_json: bool, said: Mapping[str, Any]) -> None:
    """Do the smallest cure, and report the state after it; exit 6 when something remains."""
    with (
        opened("repair", as_json=as_json) as (settings, told),
        alembic_for_proof(settings, proves=not plan) as (it, ahead),
    ):
        from backset.commands import repair as repairs
        from backset.report import dialogue
        from backset.runs.guard import Consent
        from backset.servers import location

        ask = dialogue.asking(told) if told.can_ask else None
        answer = Consent(**said, ask=ask, named=False)
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        told.note(database=target.database, url=target.shown)
        if plan:
            repairs.plan(settings, target, told, answer)
            return
        found = repairs.repair(settings, target, told, answer, it, ahead)
        told.status(found)
        if found.findings:
            raise FindingsError.of(found.findings)
