"""The task `report`: one page of HTML about the target, its revisions and a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backset.cli import alembic_for_proof, opened
from backset.report.report import WOULD_START

if TYPE_CHECKING:
    from backset.page.content import RunTold


def report(*, output: str, run: str, as_json: bool, plan: bool) -> None:
    """Write the page; what it finds is on it, and no failure of the task."""
    with (
        opened("report", as_json=as_json) as (settings, told),
        alembic_for_proof(settings, proves=False) as (it, _),
    ):
        from backset.page import gathering, page
        from backset.servers import location

        ran = _read(run)
        path = page.place(settings, output)
        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            words = f"would write {settings.shown(path)}"
            told.plan(
                [("report", words)] if target else [("start", WOULD_START), ("report", words)]
            )
            return
        told.note(database=target.database, url=target.shown)
        content = gathering.gather(settings, target, ran, worker=it)
        page.prepare(settings, path)
        told.page(path, page.write(content, path))


def _read(run: str) -> RunTold | None:
    from backset.page import content

    return content.read_run(Path(run).expanduser()) if run else None
