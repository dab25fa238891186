"""Steps of repairs that are smaller than a rebuild."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backset.chain import Done, Step
from backset.errors import AlembicError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.revisions.restore import Recipe
    from backset.runs.build import Build

    Progress = Callable[[str], None]


def _stamp(build: Build, _progress: Progress) -> Done:
    """Write the revisions that a scratch build has proved into the version table."""
    from backset.catalog import versions
    from backset.migrate import current

    wanted = list(build.options.stamps)
    for worker in build.workers:
        own = {"base", *(each.id for each in worker.scripts.revisions)}
        revisions = [each for each in wanted if each in own]
        try:
            worker.ask("stamp", build.session, revisions=revisions, purge=True)
        except AlembicError:
            tables = current.place(worker, build.session).tables if worker.has_door else ()
            if not tables or not all(each.has_nothing_else for each in tables):
                raise  # rows that say more than a revision are not ours to replace
            for table in tables:  # env.py runs only behind the project's own command
                versions.write(build.session, table, [each for each in revisions if each != "base"])
    return Done(f"the version is {', '.join(wanted)}", {"revisions": wanted})


def _plan_stamp(build: Build) -> str:
    return f"would set the version to {', '.join(build.options.stamps)}"


def _drop_indexes(build: Build, progress: Progress) -> Done:
    """Drop the invalid indexes that a CREATE INDEX CONCURRENTLY has left behind."""
    from psycopg import sql

    names, there = build.options.drops, _invalid(build)
    for name in names:
        if name not in there:
            what = f"{name} is no invalid index any more"
            raise StepFailedError(what, "run `invoke status` again")
        progress(f"dropping {name}")
        statement = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(*there[name]))
        build.session.execute(statement)
    if left := sorted({*names} & {*_invalid(build)}):
        raise StepFailedError(f"{', '.join(left)}: still there", "look at it with `invoke psql`")
    return Done(f"{', '.join(names)} dropped", {"indexes": list(names)})


def _invalid(build: Build) -> dict[str, tuple[str, str]]:
    from backset.catalog import catalog

    def is_others(table: tuple[str, str]) -> bool:
        return build.sharing.has(table)  # looked at only where there is such an index

    return catalog.invalid_indexes(build.session, is_others)


def _plan_drop_indexes(build: Build) -> str:
    return f"would drop {', '.join(build.options.drops)}"


def _merge(build: Build, _progress: Progress) -> Done:
    """Make the revision that joins all heads; it is a new file of the project."""
    if build.old is None:
        made = build.worker.ask_alone("merge")
    else:
        made = build.worker.ask("merge", build.session)
    path, root = Path(made["path"]), build.settings.root
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return Done(f"{shown} joins {', '.join(made['down'])}; commit it", made)


def _plan_merge(build: Build) -> str:
    return f"would add a file that joins {', '.join(build.worker.scripts.heads)}"


def _bring_back(build: Build, _progress: Progress) -> Done:
    """Bring the missing files back, as the command that is shown does."""
    from backset.revisions import restore

    recipe = _recipe(build)
    restore.retrieve(recipe, build.settings.plain_env)
    return Done(f"{_files(recipe)}: back", {"command": recipe.command})


def _plan_bring_back(build: Build) -> str:
    return f"would bring back {_files(_recipe(build))}"


def _recipe(build: Build) -> Recipe:
    assert build.options.recipe is not None  # noqa: S101  (the cure has it)
    return build.options.recipe


def _files(recipe: Recipe) -> str:
    from backset.revisions.history import few

    return few(recipe.shown(each.home) for each in recipe.items)


stamp = Step("stamp", _stamp, _plan_stamp, needs="backup", migrates=True)
drop_indexes = Step("drop_indexes", _drop_indexes, _plan_drop_indexes, needs="backup")
merge = Step("merge", _merge, _plan_merge, writes=False, migrates=True)
bring_back = Step(
    "bring_back", _bring_back, _plan_bring_back, changes=False, writes=False, migrates=True
)
