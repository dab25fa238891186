"""Between the tasks and the machine: opens what a task needs, and turns errors into exit codes."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from invoke.exceptions import Exit

from backset import chain, diagnosis, embedded, location, process, signals
from backset.build import Build
from backset.errors import BacksetError, FindingsError, Interrupted
from backset.programs import Programs
from backset.report import Report
from backset.report_json import JsonReport
from backset.settings import Settings, load
from backset.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def opened(task: str, *, as_json: bool = False) -> Iterator[tuple[Settings, Report]]:
    """Give a task its settings and report; end it with the lines and exit code of its error."""
    told = _report(task, as_json=as_json)
    try:
        with signals.raised():
            yield load(Path.cwd()), told
    except (BacksetError, Interrupted) as error:
        told.findings(error.findings)
        told.fail(_lines(error), error.exit_code)
        _leave(told, error.exit_code)
    told.close(0)


def _report(task: str, *, as_json: bool) -> Report:
    """Return the report for where stdout goes; only a terminal pays for importing rich."""
    if as_json:
        return JsonReport(task)
    if not sys.stdout.isatty():
        return Report()
    from backset.report_live import LiveReport  # noqa: PLC0415

    return LiveReport()


def _lines(error: BacksetError | Interrupted) -> list[str]:
    *first, last = error.lines()
    return [*first, " · ".join([last, *getattr(error, "__notes__", ())])]


def _leave(told: Report, code: int) -> NoReturn:
    told.close(code)
    raise Exit(code=code)


def run_chain(
    name: str,
    *,
    plan: bool,
    as_json: bool,
    yes: bool = False,
    skip: frozenset[str] = frozenset(),
    backup: str | None = None,
) -> None:
    """Run or plan one of the chains on the target."""
    steps = chain.CHAINS[name]
    with opened(name, as_json=as_json) as (settings, told):
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan(
                [("start", f"would start the embedded PostgreSQL and make {settings.database}")]
            )
            return
        with chain.open_build(name, settings, target, backup=backup) as build:
            told.note(database=target.database, url=target.shown)
            if plan:
                told.plan(chain.plan(build, steps, skip=skip, consent=yes))
                return
            chain.run(build, steps, told, skip=skip, consent=yes)
            told.done(_farewell(name, build))


def _farewell(name: str, build: Build) -> str:
    if name == "undo":
        return " · `invoke undo` again is redo"
    if not chain.CHAINS[name].beside:
        return ""
    back = " · `invoke undo` swaps the old one back" if build.old else ""
    return f"{back} · `invoke psql` opens it"


def status(*, as_json: bool) -> None:
    """Report the state of the target; exit 6 when there are findings."""
    with opened("status", as_json=as_json) as (settings, told):
        with Build(settings, location.locate(settings), "status", beside=False) as build:
            found = diagnosis.status(build)
        told.status(found)
        if found.findings:
            raise FindingsError.of(found.findings)


def backups(*, as_json: bool) -> None:
    """List the target's backups, the oldest first."""
    with opened("backups", as_json=as_json) as (settings, told):
        target = settings.target
        vault = Vault.of(settings.backups, target.database if target else settings.database)
        told.backups(vault.list(), vault.folder)


def server(action: str, *, plan: bool) -> None:
    """Start or stop the embedded PostgreSQL."""
    with opened(action) as (settings, told):
        if settings.target is not None:
            source = settings.sources["DATABASE_URL"]
            told.say(f"DATABASE_URL is set ({source}), so the embedded PostgreSQL is not used")
            return
        cluster = embedded.project_cluster(settings.root)
        running = cluster.is_running()
        if plan:
            told.say(
                f"would {action} the embedded PostgreSQL"
                if running == (action == "stop")
                else f"nothing to {action}"
            )
        elif action == "stop":
            told.say("stopped" if cluster.stop() else "it was not running")
        else:
            target = location.locate(settings)
            told.say(f"{'was running' if running else 'started'} · {target.shown}")


def url(*, reveal: bool) -> None:
    """Print the target's URL, for the application; its password only when that is asked for."""
    with opened("url") as (settings, _told):
        target = location.locate(settings)
        print(target.url if reveal else target.shown)  # noqa: T201  (the one thing it is for)
        if not reveal and target.shown != target.url:
            print("the password is left out → --reveal", file=sys.stderr)  # noqa: T201


def psql(arguments: Sequence[str], *, plan: bool) -> None:
    """Open psql on the target; its exit code becomes ours."""
    with opened("psql") as (settings, told):
        target = location.locate(settings)
        program = Programs(settings.environ, settings.root).find_any("psql")
        _attach(
            settings,
            told,
            [str(program), "--dbname", target.conninfo, *arguments],
            {**settings.environ, **target.secret_env},
            plan=plan,
        )


def alembic(arguments: Sequence[str], *, plan: bool) -> None:
    """Run alembic on the target, with the project's interpreter and environment."""
    with opened("alembic") as (settings, told):
        target = location.locate(settings)
        _attach(
            settings,
            told,
            [settings.python, "-m", "alembic", *arguments],
            settings.child_env(target),
            plan=plan,
        )


def _attach(
    settings: Settings, told: Report, argv: list[str], env: dict[str, str], *, plan: bool
) -> None:
    if plan:
        told.say(f"would run {' '.join(argv)}")
        return
    code = process.attach(argv, env=env, cwd=settings.root)
    if code:
        _leave(told, code if code > 0 else 128 - code)
