"""Between the tasks and the machine: opens what a task needs, and turns errors into exit codes."""

from __future__ import annotations

import sys
import traceback
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from invoke.exceptions import Exit

from backset import process, redaction, signals
from backset.errors import (
    BacksetError,
    ConsentError,
    FindingsError,
    Interrupted,
    RefusedError,
    SettingsError,
    StepFailedError,
)
from backset.keys import CHECKS
from backset.migrations import Worker
from backset.programs import Programs, with_tls
from backset.report import Report
from backset.report_json import JsonReport
from backset.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.build import Build
    from backset.choice import Choice
    from backset.target import Target

_WITHOUT_ALEMBIC = frozenset({"undo", "restore", "seed"})
_BUG = 1  # its exit code
_WOULD_START = "would start the embedded PostgreSQL"


@contextmanager
def opened(task: str, *, as_json: bool = False) -> Iterator[tuple[Settings, Report]]:
    """Give a task its settings and report; end it with the lines and exit code of its error."""
    told = _report(task, as_json=as_json)
    settings: Settings | None = None
    with signals.raised():
        try:
            with process.all_ended():
                settings = load(Path.cwd())
                yield settings, told
            signals.ignore()  # what has happened is told whole
        except OSError as error:
            _fail(told, StepFailedError.from_system(error))
        except (BacksetError, Interrupted) as error:
            _fail(told, error)
        except Exit:
            raise
        except Exception:  # noqa: BLE001  (a bug: its traceback, but no password)
            _tell_bug(told, settings)
        told.close(0)


def _fail(told: Report, error: BacksetError | Interrupted) -> NoReturn:
    signals.ignore()
    if isinstance(error, ConsentError):
        told.stakes(error.stakes, error.digest)
    told.findings(error.findings)
    told.fail(_lines(error), error.exit_code)
    _leave(told, error.exit_code)


def _tell_bug(told: Report, settings: Settings | None) -> NoReturn:
    trace = traceback.format_exc()
    shown = settings.redact(settings.target, trace) if settings else redaction.blank(trace)
    if isinstance(told, JsonReport):
        told.fail(shown.splitlines()[-1:], _BUG)
    told.close(_BUG)
    print(shown, end="", file=sys.stderr)  # noqa: T201  (it is not a line of the report)
    raise Exit(code=_BUG)


def _report(task: str, *, as_json: bool) -> Report:
    """Return the report for where stdout goes; only a terminal pays for importing rich."""
    if as_json:
        return JsonReport(task)
    if sys.stdout is None or not sys.stdout.isatty():
        return Report()
    from backset.report_live import LiveReport

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
    said: Mapping[str, Any] = MappingProxyType({}),
    skip: frozenset[str] = frozenset(),
    proves: bool = False,
    backup: str = "",
    into: str = "",
) -> None:
    """Run or plan one of the chains on the target.

    said: the fields of guard.Answer that the flags say.
    """
    with opened(name, as_json=as_json) as (settings, told), _alembic(settings, name) as worker:
        from backset import chain, location
        from backset.build import Build
        from backset.guard import Answer

        ask = _asking(told) if told.can_ask else None
        answer = Answer(**said, ask=ask)
        steps = chain.CHAINS[name]
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            order = " → ".join(step.__name__ for step in steps.steps if step.__name__ not in skip)
            told.plan([("start", _WOULD_START), ("then", order)])
            return
        choice = None
        if name == "restore":
            choice = _choice(settings, told, target, name=backup, into=into, newest=answer.yes)
            target = target.named(into) if into else target
        with Build(
            *(settings, target, "plan" if plan else name),
            beside=steps.beside,
            worker=worker,
            choice=choice,
            proves=proves,
        ) as build:
            told.note(database=target.database, url=target.shown)
            if plan:
                told.note(sessions=[each.content() for each in build.sessions_on_target])
                told.plan(chain.plan(build, name, skip=skip, answer=answer))
                return
            chain.run(build, name, told, skip=skip, answer=answer)
            told.done(_farewell(name, build))


def _asking(told: Report) -> Callable[[Sequence[tuple[str, str]]], str]:
    """Return what shows facts on the terminal and reads the name that the user types."""

    def ask(facts: Sequence[tuple[str, str]]) -> str:
        told.stakes(facts, "")
        try:
            return input(" type the database's name to go on: ").strip()
        except EOFError:
            return ""

    return ask


def _choice(
    settings: Settings, told: Report, target: Target, *, name: str, into: str, newest: bool
) -> Choice:
    """Return which backup to restore; without a name, offer the list where somebody can choose."""
    from backset.choice import Choice, ask
    from backset.vault import Vault

    if into:
        _check_name(into)
    vault = Vault.of(settings.backups, target.database)
    database = None if into else target.database
    if not name and not newest:
        offered = vault.list()[::-1]
        told.backups(offered, vault.folder, vault.unreadable(), numbered=True)
        if not offered:
            raise StepFailedError(f"{vault.folder} has no backup", "`invoke backup` takes one")
        if not told.can_ask:
            remedy = f"`invoke restore {offered[0].name}`, or `invoke restore --yes` for the newest"
            raise StepFailedError("restore was not told which backup", remedy)
        name = ask(offered)
    return Choice(vault=vault, name=name or None, database=database)


def _check_name(database: str) -> None:
    try:
        CHECKS["database"](database)
    except ValueError as error:
        raise SettingsError([(f"--into is {database!r}", f"it must be {error}")]) from None


def _alembic(settings: Settings, name: str) -> AbstractContextManager[Worker | None]:
    """Start Alembic's process for the tasks that need it, before we import our own half."""
    return nullcontext(None) if name in _WITHOUT_ALEMBIC else Worker(settings)


def _farewell(name: str, build: Build) -> str:
    if name == "undo":
        return " · `invoke undo` again is redo"
    if build.cleared:
        taken = f"`invoke restore {build.taken.name}`" if build.taken else ""
        return f" · {taken} goes back" if taken else ""
    back = " · `invoke undo` swaps the old one back" if build.old is not None else ""
    return f"{back} · `invoke psql` opens it" if build.promoted else ""


def status(*, as_json: bool, plan: bool) -> None:
    """Report the state of the target; exit 6 when there are findings."""
    with opened("status", as_json=as_json) as (settings, told), _alembic(settings, "status") as it:
        from backset import diagnosis, location
        from backset.build import Build

        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", _WOULD_START)])
            return
        with Build(settings, target, "status", beside=False, worker=it) as build:
            found = diagnosis.status(build)
        told.status(found)
        if found.verdict.findings:
            raise FindingsError.of(found.verdict.findings)


def protect(*, plan: bool) -> None:
    """Set the marker that keeps every run from replacing the target."""
    with opened("protect") as (settings, told):
        from backset import location
        from backset.protection import protect
        from backset.server import Server
        from backset.session import explained

        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would protect {target.database if target else settings.database}")
            return
        with explained(target), Server(target, "protect") as server:
            told.say(f"{target.database} is protected: {protect(server)}")


def unprotect(*, confirm: str, plan: bool) -> None:
    """Remove the marker, when the user has typed the database's name."""
    with opened("unprotect") as (settings, told):
        from backset import location
        from backset.protection import unprotect
        from backset.server import Server
        from backset.session import explained

        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would unprotect {target.database if target else settings.database}")
            return
        name = confirm
        if not name and told.can_ask:
            name = _asking(told)([("database", f"{target.shown} loses its protection")])
        if name != target.database:
            what = f"unprotecting {target.database} wants its name"
            raise RefusedError([(what, f"invoke unprotect --confirm {target.database}")])
        with explained(target), Server(target, "unprotect") as server:
            unprotect(server)
            told.say(f"{target.database} is not protected")


def backups(*, as_json: bool) -> None:
    """List the target's backups, the oldest first."""
    with opened("backups", as_json=as_json) as (settings, told):
        from backset.vault import Vault

        target = settings.target
        vault = Vault.of(settings.backups, target.database if target else settings.database)
        told.backups(vault.list(), vault.folder, vault.unreadable())


def start(*, plan: bool) -> None:
    """Start the embedded PostgreSQL; its database is made when that starts it."""
    with opened("start") as (settings, told):
        from backset import embedded, location

        cluster = embedded.project_cluster(settings.root)
        if plan:
            told.say("it is running" if cluster.is_running() else _WOULD_START)
            return
        running = cluster.is_running()
        target = location.locate(replace(settings, target=None))
        told.say(f"{'was running' if running else 'started'} · {target.shown}")
        if settings.target and not location.is_embedded(settings.target, cluster):
            source = settings.sources["DATABASE_URL"]
            told.say(f"the tasks use {settings.target.shown} (DATABASE_URL in {source})")


def stop(*, plan: bool) -> None:
    """Stop the embedded PostgreSQL."""
    with opened("stop") as (settings, told):
        from backset import embedded

        cluster = embedded.project_cluster(settings.root)
        if plan:
            told.say("would stop it" if cluster.is_running() else "it is not running")
        else:
            told.say("stopped" if cluster.stop() else "it was not running")


def url(*, reveal: bool, plan: bool) -> None:
    """Print the target's URL, for the application; its password only when that is asked for."""
    with opened("url") as (settings, told):
        from backset import location

        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", _WOULD_START)])
            return
        print(target.url if reveal else target.shown)  # noqa: T201  (the one thing it is for)
        if not reveal and target.shown != target.url:
            print("the password is left out → --reveal", file=sys.stderr)  # noqa: T201


def psql(arguments: Sequence[str], *, plan: bool) -> None:
    """Open psql on the target; its exit code becomes ours."""
    with opened("psql") as (settings, told):
        program = Programs(settings.environ, settings.root).find_any("psql")
        argv = [str(program), *arguments]
        if target := _target_or_plan(settings, told, argv, plan=plan):
            env = with_tls(program, {**settings.environ, **target.libpq_env})
            _attach(settings, told, argv, env)


def alembic(arguments: Sequence[str], *, plan: bool) -> None:
    """Run alembic on the target, with the project's interpreter and environment."""
    with opened("alembic") as (settings, told):
        argv = [settings.python, "-m", "alembic", *arguments]
        if target := _target_or_plan(settings, told, argv, plan=plan):
            env = settings.child_env(target)
            _attach(settings, told, argv, env, lambda line: settings.redact(target, line))


def _target_or_plan(
    settings: Settings, told: Report, argv: list[str], *, plan: bool
) -> Target | None:
    """Return the target; None after saying what would be run on it."""
    from backset import location

    if not plan:
        return location.locate(settings)
    if location.peek(settings) is None:
        told.say(_WOULD_START)
    told.say(settings.redact(settings.target, f"would run {' '.join(argv)}"))
    return None


def _attach(
    settings: Settings,
    told: Report,
    argv: list[str],
    env: dict[str, str],
    redact: Callable[[str], str] | None = None,
) -> None:
    code = process.attach(argv, env=env, cwd=settings.root, redact=redact)
    if code:
        _leave(told, code if code > 0 else 128 - code)
