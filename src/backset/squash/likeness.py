"""Is a database what the revision makes that replaces others? By a digest, else by a scratch build.

The digest costs one look. It differs with the server's major version, with another chain beside,
and with each change that no migration has made: only then the revision is built to be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalog import catalog, schema
from backset.errors import BacksetError, Finding, StepFailedError
from backset.revisions.replaced import REBUILD
from backset.revisions.script_files import ancestors
from backset.text.quantities import few

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.catalog.schema import Difference, Item
    from backset.migrate.upgrading import Progress
    from backset.prove.scratch import Scratch
    from backset.revisions.script_files import Revision
    from backset.runs.run import Run
    from backset.settings.values import Lineage

KIND = "squash not followed"
_CHOICE = f"{REBUILD}; `invoke upgrade --drifted` follows although it differs"
_SHOWN = 3  # of what a database has beside, in one line


def demand(run: Run, lineage: Lineage, squash: Revision, rows: str, progress: Progress) -> str:
    """Demand that the target is what a revision makes; return what is to be said of it, or nothing.

    rows: the revisions at which the target is, which that one replaces. Raises StepFailedError,
    with a finding for each thing that is missing or not the same.
    """
    wanted, session = squash.replaced_schema, run.work.session()
    major, spare = session.info.server_version // 10000, catalog.version_tables(session)
    live = schema.read(session, spare=spare)
    if wanted and schema.digest(live, major) == wanted:
        return ""
    if run.options.drifted:
        return "although its schema differs (--drifted)" if wanted else "not compared (--drifted)"
    if not run.current.sharing().is_nobodys:
        live = schema.read(session, spare=spare, others=run.current.sharing())
        if wanted and schema.digest(live, major) == wanted:
            return ""
    at = f"{run.target.database} is at {rows}, which {squash.id} replaces"
    progress(f"building {squash.id} to compare it")
    found = [each for each in _differences(run, lineage, squash, live, at) if not each.minor]
    if lacking := [_finding(each, at) for each in found if each.what not in {"added", "comment"}]:
        raise StepFailedError.of(lacking)
    more = [each.text for each in found]
    beside = f"; beside that {few(more, _SHOWN, between='; ')}" if more else ""
    return f"a scratch build has shown that nothing is missing{beside}"


def _finding(each: Difference, at: str) -> Finding:
    return Finding(
        kind=KIND,
        name=schema.shown(each.subject),
        what=f"{at}, but {each.text}",
        why="what comes after it builds on what it makes",
        remedy=_CHOICE,
    )


def _differences(
    run: Run, lineage: Lineage, squash: Revision, live: Mapping[str, Item], at: str
) -> list[Difference]:
    """Build the revision in a scratch database, and return how the target differs from it.

    Raises StepFailedError where it cannot be built.
    """
    from backset.inherit.inheritance import OF_DATABASE
    from backset.prove import placement, scratch
    from backset.servers import derived

    name = run.server.names.scratch
    try:
        derived.refuse_scratch(run.server, [name], run.current.databases, "compare the schema")
        derived.clear_scratch(run.server, run.current.databases)
        try:
            with scratch.created(run, name, sources=OF_DATABASE) as made:
                before, after = _built(made, lineage, squash)
        except StepFailedError:  # it takes for given what an administrator has put there
            with scratch.created(run, name) as made:
                before, after = _built(made, lineage, squash)
    except BacksetError as error:
        what = f"{at}, but has another schema than that; how it differs is not known: {error.what}"
        raise StepFailedError(what, f"{error.remedy}; or {_CHOICE}") from None
    own = {key: each for key, each in after.items() if before.get(key) != each}
    there = {key: each for key, each in live.items() if key in own or key not in before}
    return placement.compare(own, there)


def _built(
    made: Scratch, lineage: Lineage, squash: Revision
) -> tuple[Mapping[str, Item], Mapping[str, Item]]:
    """Build a revision; return what stood in the scratch database before its chain, and after it.

    The chains that come before are built first. A command of the project goes to the head, and no
    further is as far as a revision with nothing after it.
    """
    from backset.migrate import upgrading

    number = [each.lineage for each in made.workers].index(lineage)
    worker, scripts = made.workers[number], made.workers[number].scripts.revisions
    if not (made.settings.init or any(each.has_door or each.lineage.init for each in made.workers)):
        for each in made.workers[:number]:
            upgrading.upgrade(each, made.session, _silent)
        before = made.schema()
        upgrading.upgrade(worker, made.session, _silent, to=[squash.id])
    else:
        if later := [each.id for each in scripts if _is_later(each.id, squash, scripts)]:
            what = f"the project's own command builds {', '.join(later)} with it"
            raise StepFailedError(what, "follow the squash in a checkout of before these")
        before = made.schema()
        made.upgrade()
    made.inheritance.complete(made.session)
    return before, made.schema()


def _is_later(revision: str, squash: Revision, scripts: Sequence[Revision]) -> bool:
    return revision != squash.id and squash.id in ancestors([revision], scripts)


def _silent(_text: str) -> None:
    """Tell nobody."""
