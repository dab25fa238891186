"""The task that proves a squashed chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backset.cli import WOULD_START, opened
from backset.errors import FindingsError

if TYPE_CHECKING:
    from collections.abc import Mapping


def prove_squash(old: str, *, plan: bool, as_json: bool, said: Mapping[str, Any]) -> None:
    """Compare what the chain makes with what an old one made; exit 6 when that differs."""
    with opened("prove-squash", as_json=as_json) as (settings, told):
        from backset.commands import squash
        from backset.connections.session import explained
        from backset.runs.build import Build
        from backset.runs.guard import Answer
        from backset.servers import location

        answer = Answer(**said)
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        told.note(database=target.database, url=target.shown)
        purpose = "plan" if plan else "prove-squash"
        with Build(settings, target, purpose, beside=False) as build, explained(target):
            if plan:
                told.plan(squash.plan(build, old))
                return
            findings = squash.prove(build, old, told, answer)
        if findings:
            raise FindingsError.of(findings)
        told.done("")
