"""Whether a run can clone what an earlier one has built: if nothing that counts has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backset.properties import extensions, inheritance
from backset.properties import property as properties
from backset.properties.property import When
from backset.servers import swap
from backset.templates import inputs, memory, surroundings
from backset.templates.memory import Recalled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backset.properties.property import Property
    from backset.runs.build import Build
    from backset.servers.server import Database
    from backset.templates.memory import Record

CLEAN, SEEDED = "clean", "seeded"
_GIVEN = (When.EMPTY, When.MIGRATED)


def unsuited(build: Build) -> str:
    """Return why nothing is cloned or kept here; empty where it is."""
    settings = build.settings
    if not build.is_beside:
        return "the database itself is rebuilt"
    if build.options.accepts:
        return "differences are to be accepted"
    if len(settings.lineages) > 1:
        return "there are several chains of revisions"
    if settings.has_door and not settings.inputs:
        return "a command of the project migrates, and inputs does not say what it reads"
    return ""


def recall(build: Build, *, seeds: bool) -> None:
    """Let the run clone what was kept, if that is what it would build; else forget that.

    seeds: whether what is kept of the seed may be cloned as well.
    """
    build.uncloned = look(build, seeds=seeds)
    if build.uncloned:
        forget(build)
        build.watched = not unsuited(build)


def look(build: Build, *, seeds: bool) -> str:
    """Settle what the run clones; else return why it clones nothing."""
    if build.options.cold:
        return "--cold"
    build.memory = build.memory or memory.recall(build.settings, build.target.database)
    record = build.memory.record
    if record is None:
        return build.memory.why
    if why := unsuited(build) or build.memory.why or _surroundings(build, record):
        return why
    options = build.options
    seeds = seeds and not (options.seeds_twice or options.carries) and _is_same_seed(build, record)
    template = _template(build, record, SEEDED) if seeds else None
    template = template or _template(build, record, CLEAN)
    if template is None:
        return f"{build.server.names.clean} is not as it was kept"
    build.recalled = Recalled(record, template)
    return ""


def forget(build: Build) -> None:
    """Drop what is kept, while the run goes on: it is not what a build would be now."""
    memory.path(build.settings, build.target.database).unlink(missing_ok=True)
    names = (build.server.names.clean, build.server.names.seeded)
    there = [build.databases[name] for name in names if name in build.databases]
    if stale := [each.name for each in there if is_ours(each)]:
        build.aside(lambda: swap.drop_aside(build.server, stale))


def is_ours(found: Database) -> bool:
    """Tell whether a run has made a template; a killed one may have had no time for the mark."""
    is_marked = found.mark in {CLEAN, SEEDED}
    return not found.protected and (is_marked or found.is_half_copied)


def _surroundings(build: Build, record: Record) -> str:
    """Return what has changed in variables, at the server, or of the target."""
    settings, old = build.settings, build.old
    if old is None or old.likeness != record.likeness:
        return f"{build.target.database} is not like the one that was built"
    environ = settings.child_env(build.subject)
    now = memory.of_environment(settings, record.account, environ)
    was = {name: record.parts[name] for name in now}
    needed = [name for kind, name, _ in record.had if kind == extensions.KIND]
    now |= surroundings.look(build.server.session, needed)
    return inputs.difference({**was, **record.server}, now, settings.root) or _properties(
        build, record
    )


def _properties(build: Build, record: Record) -> str:
    """Return what the target has now, and has not had, or the other way round.

    A property that the build was given must be there still; one that it would be given now must
    have been there at its end.
    """
    wanted = properties.read(build.live, inheritance.EVERYTHING, build.target.database)
    there = {(kind, name): set(values) for kind, name, values in record.had}
    for each in wanted:
        has_it = there.get(each.key, set()) >= set(each.value)
        is_lost = each.plain and each.key not in there
        if each.when in _GIVEN and not has_it and not is_lost:
            return f"{each.kind} {each.name}".strip() + " is new"
    still = described(wanted)
    lost = [f"{each[0]} {each[1]}".strip() for each in record.given if each not in still]
    return f"{lost[0]} is gone" if lost else ""


def described(found: Iterable[Property]) -> list[list[Any]]:
    """Return properties as JSON has them."""
    return [[each.kind, each.name, list(each.value)] for each in found]


def _template(build: Build, record: Record, what: str) -> Database | None:
    """Return the kept database, if nobody can have touched it."""
    names = {CLEAN: build.server.names.clean, SEEDED: build.server.names.seeded}
    kept, found = record.kept.get(what), build.databases.get(names[what])
    if kept is None or found is None or not found.is_closed or found.is_invalid:
        return None
    there = (found.oid, found.made_in, found.mark, found.label)
    return found if there == (kept.oid, kept.made_in, what, kept.digest) else None


def _is_same_seed(build: Build, record: Record) -> bool:
    kept = record.kept.get(SEEDED)
    environ = build.settings.child_env(build.subject)
    return kept is not None and kept.parts == memory.of_seed(build.settings, environ)
