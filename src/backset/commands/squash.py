"""The tasks that squash: one revision in the place of many, and the statement for production."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from backset.cli import opened
from backset.errors import BacksetError, FindingsError, SettingsError, StepFailedError
from backset.migrate.worker import Worker
from backset.process.streams import tell
from backset.text.pasted import bare, parts
from backset.text.quantities import few

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backset.connections.target import Target
    from backset.settings.settings import Settings
    from backset.settings.values import Lineage

_PURPOSE = "squash"
_FAREWELL = (
    " · a database at one of them follows by `invoke upgrade`"
    " · for production: `invoke squash --sql`"
)


def squash(
    wanted: Mapping[str, Any], *, plan: bool, as_json: bool, said: Mapping[str, Any]
) -> None:
    """Replace revisions by one that makes the same; exit 6 where it would make something else."""
    with opened("squash", as_json=as_json) as (settings, told), ExitStack() as stack:
        lineage = _lineage(settings, wanted["chain"])
        one, *ahead = Worker.several(settings, [lineage] * (1 if plan else 3))
        for each in (one, *ahead):
            stack.enter_context(each)
        one.begin_alone()  # it reads the scripts while we import the rest
        from backset.connections.session import explained
        from backset.connections.target import derived_name
        from backset.prove import scratch
        from backset.runs.consent import Consent
        from backset.runs.run import Run
        from backset.servers import derived, location
        from backset.squash import choosing, squashing

        how, consent = choosing.Wanted(**wanted), Consent(**said)
        choose = partial(choosing.choose, settings, one, how, told, plan=plan)
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            name = derived_name(settings.database, "__scratch_old")
            told.plan(choosing.planned(choose(), name))
            return
        told.note(database=target.database, url=target.shown)
        with (
            Run(settings, target, "plan" if plan else "squash", beside=False) as run,
            explained(target),
        ):
            run.open()
            names = run.server.names
            if plan:
                databases = run.current.databases
                derived.refuse_scratch(run.server, names.scratches, databases, _PURPOSE)
                told.plan(choosing.planned(choose(), names.scratch_old))
                return
            chosen = choose()
            notice = told.notice if consent.wait else None
            scratch.prepare(run, names.scratches, _PURPOSE, notice)
            findings = squashing.Squash(run, chosen, how, told, consent.timeout_s, ahead).done()
        if findings:
            raise FindingsError.of(findings)
        told.done(_FAREWELL)


def _lineage(settings: Settings, name: str) -> Lineage:
    """Return the chain of that name; without a name, the only one. Raises SettingsError."""
    named = [each for each in settings.lineages if each.name == name]
    if not named and (name or len(settings.lineages) > 1):
        names = few(each.name for each in settings.lineages)
        what = f"--chain is {name!r}" if name else "there are several chains"
        raise SettingsError([(what, f"name one of {names}: --chain NAME")])
    return (named or settings.lineages)[0]


def print_statements(chain: str, *, as_json: bool) -> None:
    """Print what lets a database follow each squash where there is no backset."""
    with opened("squash", as_json=as_json) as (settings, told), ExitStack() as stack:
        from backset.revisions import script_files
        from backset.servers import location
        from backset.squash import production

        lineage = _lineage(settings, chain)
        worker = stack.enter_context(Worker(settings, lineage))
        target = location.peek(settings)
        if target is None:
            worker.begin_alone()
        else:
            worker.begin(target, _PURPOSE)
        scripts = worker.scripts.revisions
        found = [each for each in script_files.ordered(scripts) if each.replaces]
        if not found:
            raise StepFailedError("no revision on disk replaces others", "`invoke squash` first")
        tables = _version_tables(worker, target)
        texts = [production.statement(each, scripts, tables) for each in found]
        told.note(statements=texts)
        if not as_json:
            for line in "\n".join(texts).splitlines():
                tell(line)


def _version_tables(worker: Worker, target: Target | None) -> list[tuple[str, str]]:
    """Return the version tables of a chain as env.py has them; without a server, Alembic's own."""
    from backset.connections.session import connect

    lineage = worker.lineage
    alone = [(lineage.schema, lineage.version_table or "alembic_version")]
    if target is None:
        return alone
    try:
        with closing(connect(target, _PURPOSE)) as session:
            named = worker.describe(session).version_table
    except BacksetError:
        return alone
    several = [[*map(bare, parts(each))] for each in named.split(", ") if each]
    return [("" if len(each) == 1 else each[0], each[-1]) for each in several] or alone
