"""Steps of repairs that are smaller than a rebuild."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backset.chain import Done, Step
from backset.errors import AlembicError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.revisions.restore import Recipe
    from backset.runs.run import Run

    Progress = Callable[[str], None]


def _stamp(run: Run, _progress: Progress) -> Done:
    """Write the revisions that a scratch build has proved into the version table."""
    from backset.catalog import versions
    from backset.migrate import current

    wanted = list(run.options.stamps)
    for worker in run.work.workers():
        own = {"base", *(each.id for each in worker.scripts.revisions)}
        revisions = [each for each in wanted if each in own]
        try:
            worker.ask("stamp", run.work.session(), revisions=revisions, purge=True)
        except AlembicError:
            tables = current.place(worker, run.work.session()).tables if worker.has_door else ()
            if not tables or not all(each.has_nothing_else for each in tables):
                raise  # rows that say more than a revision are not ours to replace
            for table in tables:  # env.py runs only behind the project's own command
                versions.write(
                    run.work.session(), table, [each for each in revisions if each != "base"]
                )
    return Done(f"the version is {', '.join(wanted)}", {"revisions": wanted})


def _plan_stamp(run: Run) -> str:
    return f"would set the version to {', '.join(run.options.stamps)}"


def _drop_indexes(run: Run, progress: Progress) -> Done:
    """Drop the invalid indexes that a CREATE INDEX CONCURRENTLY has left behind."""
    from psycopg import sql

    names, there = run.options.drops, _invalid(run)
    for name in names:
        if name not in there:
            what = f"{name} is no invalid index any more"
            raise StepFailedError(what, "run `invoke status` again")
        progress(f"dropping {name}")
        statement = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(*there[name]))
        run.work.session().execute(statement)
    if left := sorted({*names} & {*_invalid(run)}):
        raise StepFailedError(f"{', '.join(left)}: still there", "look at it with `invoke psql`")
    return Done(f"{', '.join(names)} dropped", {"indexes": list(names)})


def _invalid(run: Run) -> dict[str, tuple[str, str]]:
    from backset.catalog import catalog

    def is_others(table: tuple[str, str]) -> bool:
        return run.current.sharing().has(table)  # looked at only where there is such an index

    return catalog.invalid_indexes(run.work.session(), is_others)


def _plan_drop_indexes(run: Run) -> str:
    return f"would drop {', '.join(run.options.drops)}"


def _merge(run: Run, _progress: Progress) -> Done:
    """Make the revision that joins all heads; it is a new file of the project."""
    if run.current.database is None:
        made = run.work.worker().ask_alone("merge")
    else:
        made = run.work.worker().ask("merge", run.work.session())
    path, root = Path(made["path"]), run.settings.root
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return Done(f"{shown} joins {', '.join(made['down'])}; commit it", made)


def _plan_merge(run: Run) -> str:
    return f"would add a file that joins {', '.join(run.work.worker().scripts.heads)}"


def _bring_back(run: Run, _progress: Progress) -> Done:
    """Bring the missing files back, as the command that is shown does."""
    from backset.revisions import restore

    recipe = _recipe(run)
    restore.retrieve(recipe, run.settings.plain_env)
    return Done(f"{_files(recipe)}: back", {"command": recipe.command})


def _plan_bring_back(run: Run) -> str:
    return f"would bring back {_files(_recipe(run))}"


def _recipe(run: Run) -> Recipe:
    assert run.options.recipe is not None  # noqa: S101  (the cure has it)
    return run.options.recipe


def _files(recipe: Recipe) -> str:
    from backset.revisions.history import few

    return few(recipe.shown(each.home) for each in recipe.items)


stamp = Step("stamp", _stamp, _plan_stamp, needs="backup", migrates=True)
drop_indexes = Step("drop_indexes", _drop_indexes, _plan_drop_indexes, needs="backup")
merge = Step("merge", _merge, _plan_merge, writes=False, migrates=True)
bring_back = Step(
    "bring_back", _bring_back, _plan_bring_back, changes=False, writes=False, migrates=True
)
