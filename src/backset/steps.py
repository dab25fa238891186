"""The steps of the chain: each does one thing to a Build and says in a line what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backset import backup as backups
from backset import seeding, signals, swap, verification
from backset.errors import FindingsError, StepFailedError
from backset.quantities import amount, count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from backset.build import Build
    from backset.server import Database

    Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: one line for people, `details` for programs."""

    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


def backup(build: Build, _progress: Progress) -> Done:
    """Dump the target with its manifest and scripts."""
    if build.old_is_empty:
        return Done("nothing to back up (the database is new)")

    def folders() -> tuple[Path, ...]:
        return build.worker.scripts.folders  # asked for late: the worker is still importing

    taken = backups.take(build.vault, build.target, folders, build.programs)
    about, name = taken.manifest, _shown(taken.dump, build)
    text = f"{name} · {amount(about.size_bytes)}, {_rows(about.rows)}"
    return Done(text, {"file": str(taken.dump), "rows": about.rows, "sha256": about.sha256})


def reset(build: Build, _progress: Progress) -> Done:
    """Create the empty database beside the target."""
    build.make_next()
    return Done(f"{build.subject.database} created")


def upgrade(build: Build, progress: Progress) -> Done:
    """Run the migrations up to head."""
    done = build.worker.ask("upgrade", build.session, progress)
    before, after = _revisions(done["before"]), _revisions(done["heads"])
    details = {"from": done["before"], "to": done["heads"], "revisions": done["count"]}
    if done["count"] == 0:
        return Done(f"already at {after}", details)
    return Done(f"{before} → {after}, {count(done['count'], 'revision')}", details)


def verify(build: Build, progress: Progress) -> Done:
    """Hold models and expectations against the database. Raises FindingsError on the live one."""
    progress("comparing models and database")
    found = verification.verify(build.settings, build.worker, build.session)
    if found.findings:
        error = StepFailedError if build.is_beside else FindingsError
        raise error.of(found.findings)
    return Done(str(found), {"tables": found.tables})


def seed(build: Build, progress: Progress) -> Done:
    """Run the project's seed command."""
    if not build.settings.seed:
        return Done("no seed command ([tool.backset] seed is not set)")
    rows = seeding.seed(build.settings, build.subject, build.session, progress)
    first = [table for table in build.settings.rows if table in rows]
    shown = first or [table for table in rows if rows[table]]
    text = " · ".join(f"{table} {rows[table]}" for table in shown)
    return Done(text or "every table is empty", {"rows": rows})


def promote(build: Build, progress: Progress) -> Done:
    """Swap: next becomes the target, the target becomes previous, in one transaction."""
    build.close_sessions()
    names, old = build.server.names, build.old
    ended = build.server.sessions(names.target)
    if ended:
        progress(f"ending {', '.join(ended)}")
    with signals.deferred():  # so that an interruption knows whether the swap has happened
        build.promoted = None
        swap.promote(build.server, old, build.previous, old_is_empty=build.old_is_empty)
        build.promoted = True
        swap.discard(build.server)
    kept = None if old is None else names.previous
    return Done(f"{names.target} is the new database", {"previous": kept, "ended": ended})


def undo(build: Build, progress: Progress) -> Done:
    """Swap the target with the database kept before it; doing it twice is redo."""
    names, previous = build.server.names, _previous(build)
    progress(f"swapping {names.target} and {names.previous}")
    with signals.deferred():
        build.promoted = None
        swap.exchange(build.server, build.old, previous)
        build.promoted = True
    other = f" · {names.previous} holds the other one" if build.old else ""
    return Done(f"{names.target} is the database from before{other}")


def _previous(build: Build) -> Database:
    if build.previous is None:
        what = f"there is no {build.server.names.previous} to go back to"
        raise StepFailedError(what, "choose a dump from `invoke backups` for `invoke restore`")
    return build.previous


def load(build: Build, progress: Progress) -> Done:
    """Load a backup into the database beside the target, and count its rows."""
    chosen = build.chosen_backup
    progress(f"loading {chosen.name}")
    if chosen.manifest.database != build.target.database:
        what = f"{chosen.name} is a backup of {chosen.manifest.database}"
        raise StepFailedError(what, f"choose one of {build.target.database} from `invoke backups`")
    chosen.check()
    build.make_next()
    backups.load(chosen, build.subject, build.server.major, build.programs)
    counts = chosen.manifest.rows
    return Done(f"{chosen.name} · {_rows(counts)}, as its manifest says", {"rows": counts})


def plan(step: Callable[..., Done], build: Build) -> str:
    """Say what a step would do. Nothing is changed."""
    return _PLANS[step](build)


def _plan_backup(build: Build) -> str:
    if build.old_is_empty:
        return "nothing to back up (the database is new)"
    size = amount(build.old.size_bytes or 0) if build.old else ""
    return f"would dump {build.target.database} ({size}) into {_shown(build.vault.folder, build)}"


def _plan_upgrade(build: Build) -> str:
    make = "" if build.is_beside or build.old else "make and "
    heads = _revisions(build.worker.scripts.heads)
    return f"would {make}migrate {build.subject.database} to {heads}"


def _plan_promote(build: Build) -> str:
    names, ended = build.server.names, build.server.sessions(build.server.names.target)
    text = f"would make {names.next} the new {names.target}"
    if build.old is not None:
        text += f", the old one {names.previous}"
    if build.previous is not None and not build.old_is_empty:
        text += f" · would drop the {names.previous} of before"
    return text + (f" · would end the sessions {', '.join(ended)}" if ended else "")


_PLANS: Mapping[Callable[..., Done], Callable[[Build], str]] = {
    backup: _plan_backup,
    reset: lambda build: f"would create {build.subject.database}",
    upgrade: _plan_upgrade,
    verify: lambda build: f"would compare the models with {build.subject.database}",
    seed: lambda build: build.settings.redact(
        build.target, f"would run {' '.join(build.settings.seed) or 'nothing'}"
    ),
    promote: _plan_promote,
    undo: lambda build: f"would swap {build.server.names.target} and {_previous(build).name}",
    load: lambda build: f"would load {build.chosen_backup.name} into {build.subject.database}",
}


def _shown(path: Path, build: Build) -> str:
    root = build.settings.root
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _revisions(revisions: Any) -> str:  # noqa: ANN401  (a list or a tuple, from JSON)
    return ", ".join(revisions) or "base"


def _rows(rows: Mapping[str, int]) -> str:
    return f"{count(len(rows), 'table')}, {count(sum(rows.values()), 'row')}"
