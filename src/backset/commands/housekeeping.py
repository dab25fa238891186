"""The task `archive`: puts away migration scripts that are out of use; it needs no database."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backset.cli import opened
from backset.errors import Interrupted, StepFailedError
from backset.migrations.worker import Worker
from backset.reports.report import WIDTH
from backset.scripts.sources import Folders
from backset.scripts.traces import few
from backset.wording.quantities import count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backset.configuration.settings import Settings
    from backset.reports.report import Report
    from backset.scripts.revisions import Revision
    from backset.scripts.stale import Stale


def archive(*, as_json: bool, plan: bool) -> None:
    """Put what is out of use into a tar in the backup folder, and only then remove it."""
    with opened("archive", as_json=as_json) as (settings, told):
        from backset.scripts import stale

        folders, loaded = _sources(settings)
        found = stale.find(folders, loaded)
        tracked = _tracked(settings)
        told.note(
            stale=[_content(each, folders, tracked) for each in found.stale],
            kept=[
                {"path": folders.shown(path), "why": why}
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
    from backset.scripts import stale

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
    from backset.scripts.git import Git

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


def _content(stale: Stale, folders: Folders, tracked: set[Path]) -> dict[str, Any]:
    return {
        "kind": stale.kind,
        "path": folders.shown(stale.path),
        "why": stale.why,
        "files": [{"path": folders.shown(each), "in_git": each in tracked} for each in stale.files],
    }
