"""The tasks about migration scripts, which need no database: `history`, `archive`, `rebase`."""

from __future__ import annotations

import shlex
import stat
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backset.cli import opened, settled
from backset.errors import AlembicError, BacksetError, Interrupted, StepFailedError
from backset.migrate.worker import Worker
from backset.process import files
from backset.report.report import WIDTH
from backset.revisions.script_files import Folders
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backset.connections.target import Target
    from backset.report.report import Report
    from backset.revisions.history import History
    from backset.revisions.rebasing import Rebasing
    from backset.revisions.script_files import Revision
    from backset.revisions.stale import Stale
    from backset.settings.settings import Settings


def history(*, as_json: bool) -> None:
    """Draw the revisions of every chain, with the database's own place in it."""
    with opened("history", as_json=as_json) as (settings, told):
        drawn = list(_histories(settings, told))
        told.note(chains=[each.told for each in drawn])
        for each in drawn:
            _tell(each, told)


def _tell(history: History, told: Report) -> None:
    if history.name:
        told.say(f"chain {history.name}")
    lines = list(history.lines())
    for number, line in enumerate(lines, 1):
        told.drawing(line, is_last=number == len(lines))
    if not history.loaded:
        told.say("there is no migration file")
    if history.database == ():
        told.say("base ← database")
    for problem in history.problems:
        told.notice(problem)
    for trace in history.traces:
        for line in trace.lines():
            told.notice(f"{trace.revision}: {line}")
        if trace.is_found:
            told.notice(f"{trace.revision} comes back with: {trace.command}")


def _histories(settings: Settings, told: Report) -> Iterator[History]:
    settings, target = _reached(settings, told)
    for lineage in settings.lineages:
        with Worker(settings, lineage) as worker:
            if target is None:
                worker.begin_alone()
            else:
                worker.begin(target, "history")
            yield _history(settings, worker, _asked(settings, worker, target, told))


def _history(settings: Settings, worker: Worker, database: tuple[str, ...] | None) -> History:
    from backset.revisions import orphans, replaced
    from backset.revisions.history import History

    found = worker.every_script()
    lost = replaced.strangers(database or (), found)
    return History(
        name=worker.lineage.name,
        scripts=found,
        heads=worker.scripts.heads,
        database=database,
        traces=tuple(orphans.trace(each, worker.folders, settings.environ) for each in lost),
        problems=tuple(f"{each.kind}: {each.text}" for each in worker.scripts.problems),
    )


def _reached(settings: Settings, told: Report) -> tuple[Settings, Target | None]:
    """Return the target where there is one to ask; else say why the scripts are drawn alone."""
    from backset.connections.session import connect
    from backset.servers import location

    try:
        settings = settled(settings)
        target = location.peek(settings)
        if target is None:
            raise StepFailedError("the embedded PostgreSQL is not running", "invoke start")
        connect(target, "history").close()
    except BacksetError as error:
        told.notice(f"the scripts alone: {error.what}")
        return settings, None
    return settings, target


def _asked(
    settings: Settings, worker: Worker, target: Target | None, told: Report
) -> tuple[str, ...] | None:
    """Return the rows of the version table; None where they cannot be known."""
    from backset.catalog import catalog
    from backset.connections.session import connect, explained

    if target is None:
        return None
    with explained(target), closing(connect(target, "history")) as session:
        try:
            return worker.current(session)
        except AlembicError as error:
            told.notice(f"env.py cannot be asked: {error.what}")
            alone = len(settings.lineages) == 1  # else the rows could be another chain's
            return tuple(catalog.revisions(session)) if alone else None


def archive(*, as_json: bool, plan: bool) -> None:
    """Put what is out of use into a tar in the backup folder, and only then remove it."""
    with opened("archive", as_json=as_json, changes=not plan) as (settings, told):
        from backset.revisions import stale

        folders, loaded = _sources(settings)
        found = stale.find(folders, loaded)
        tracked = _tracked(settings)
        told.note(
            stale=[stale.told(each, folders, tracked) for each in found.stale],
            kept=[
                stale.KeptScript(path=folders.shown(path), why=why)
                for path, why in (*found.kept, *found.elsewhere)
            ],
        )
        for path, why in found.kept:
            told.notice(f"{folders.shown(path)} stays: {why}")
        if found.elsewhere:
            names = few(folders.shown(path) for path, _why in found.elsewhere)
            told.notice(f"these are no folders of the chain, and stay: {names}")
        lines = [(each.kind, _shown(each, folders, tracked)) for each in found.stale]
        if not lines:
            told.say("nothing is out of use")
        if plan:
            told.plan(lines)
        elif lines:
            for kind, text in lines:
                told.say(f"{kind:<{WIDTH}} {text}")
            told.done(_archived(settings, folders, found.stale, told))


def _archived(settings: Settings, folders: Folders, found: Sequence[Stale], told: Report) -> str:
    from backset.revisions import stale

    moment = datetime.now(UTC)
    path = stale.path_of(settings.backups, moment)
    files = dict.fromkeys(file for each in found for file in each.files)
    hashes = stale.pack(files, settings.root, settings.backups, moment)
    back = shlex.join(["tar", "-xf", folders.shown(path)])
    told.note(archive=str(path), command=back)
    kept = {*folders.locations, *(each.parent for each in folders.locations)}
    try:
        changed = stale.remove(hashes, settings.root, kept)
    except Interrupted as error:
        error.add_note(f"everything is in {folders.shown(path)}; run this again for the rest")
        raise
    for each in changed:
        told.notice(f"{folders.shown(each)} stays: it was changed meanwhile")
    return f" · `{back}` brings it back"


def _sources(settings: Settings) -> tuple[Folders, list[Revision]]:
    """Return the folders and the scripts of all chains together."""
    found: list[Folders] = []
    loaded: list[Revision] = []
    for lineage in settings.lineages:
        with Worker(settings, lineage) as worker:
            worker.begin_alone()
            found.append(worker.folders)
            loaded += worker.scripts.revisions
    locations = dict.fromkeys(each for folders in found for each in folders.locations)
    recursive = any(each.recursive for each in found)
    return Folders(settings.root, tuple(locations), settings.backups, recursive), loaded


def _tracked(settings: Settings) -> set[Path]:
    """Return the files that git has; none where there is no git to ask."""
    from backset.revisions.git import Git

    try:
        git = Git(settings.root, settings.environ)
        return {git.top / name for name in git.tracked(git.prefix.rstrip("/"))}
    except StepFailedError:
        return set()


def _shown(stale: Stale, folders: Folders, tracked: set[Path]) -> str:
    files = f" ({count(len(stale.files), 'file')})" if stale.kind == "folder" else ""
    known = len(tracked.intersection(stale.files))
    text = f"{folders.shown(stale.path)}{files}: {stale.why}"
    return f"{text} · git has {'it' if not files else known}" if known else text


def rebase(*, as_json: bool, plan: bool) -> None:
    """Let the scripts that were started before a squash follow what replaces theirs."""
    with opened("rebase", as_json=as_json, changes=not plan) as (settings, told):
        from backset.revisions import rebasing

        changes = [each for scripts in _chains(settings) for each in rebasing.planned(scripts)]
        made = [(each, rebasing.rewritten(each.path.read_bytes(), each)) for each in changes]
        told.note(rebased=[each.told(settings.shown(each.path)) for each in changes])
        if not changes:
            told.say("no script follows what was replaced")
        if plan:
            told.plan([("rebase", str(each)) for each in changes])
            return
        for change, content in made:
            mode = stat.S_IMODE(change.path.stat().st_mode)
            with files.replacing(change.path, mode=mode) as file:
                file.write(content)
            told.say(f"{'rebase':<{WIDTH}} {change}")
        told.done(_onward(changes))


def _onward(changes: Sequence[Rebasing]) -> str:
    left = {each.script.id: each.left for each in changes if each.left}
    if not left:
        return " · `invoke upgrade` goes on" if changes else ""
    some = "; ".join(f"{few(x)} where {name} has run" for name, x in left.items())
    return f" · `invoke upgrade` goes on, and runs first: {some}"


def _chains(settings: Settings) -> Iterator[Sequence[Revision]]:
    """Yield the scripts of each chain, a broken one's as well."""
    for lineage in settings.lineages:
        with Worker(settings, lineage) as worker:
            worker.begin_alone()
            yield worker.every_script()
