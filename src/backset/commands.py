"""The tasks that are no chain of steps: they look, start, stop, mark, or hand the terminal over."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from json import dumps
from typing import TYPE_CHECKING, Any

from backset.cli import WOULD_START, alembic_for, leave, opened
from backset.errors import FindingsError, RefusedError
from backset.programs import Programs, with_tls
from backset.terminal import attach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from backset.lineage import Lineage
    from backset.report import Report
    from backset.settings import Settings
    from backset.target import Target

# `python -m alembic`, but for the arguments, which may hold a password: `ps` shows them to everyone
_UNSEEN = """\
import json, sys
from os import environ
sys.argv[:] = ["alembic", *json.loads(environ.pop("BACKSET_ARGV"))]
from alembic.config import main
main(prog="alembic")
"""


def status(*, as_json: bool, plan: bool, proves: bool) -> None:
    """Report the state of the target; exit 6 when there are findings."""
    with (
        opened("status", as_json=as_json) as (settings, told),
        alembic_for(settings, "status") as it,
    ):
        from backset import location, repair

        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        found = repair.look(settings, target, told, proves=proves and not plan, worker=it)
        told.status(found)
        if found.findings:
            raise FindingsError.of(found.findings)


def repair(*, plan: bool, as_json: bool, said: Mapping[str, Any]) -> None:
    """Do the smallest cure, and report the state after it; exit 6 when something remains."""
    with (
        opened("repair", as_json=as_json) as (settings, told),
        alembic_for(settings, "repair") as it,
    ):
        from backset import dialogue, location
        from backset import repair as repairs
        from backset.guard import Answer

        ask = dialogue.asking(told) if told.can_ask else None
        answer = Answer(**said, ask=ask, named=False)
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        told.note(database=target.database, url=target.shown)
        if plan:
            repairs.plan(settings, target, told, answer)
            return
        found = repairs.repair(settings, target, told, answer, it)
        told.status(found)
        if found.findings:
            raise FindingsError.of(found.findings)


def prove_squash(old: str, *, plan: bool, as_json: bool, said: Mapping[str, Any]) -> None:
    """Compare what the chain makes with what an old one made; exit 6 when that differs."""
    with opened("prove-squash", as_json=as_json) as (settings, told):
        from backset import location, squash
        from backset.build import Build
        from backset.guard import Answer
        from backset.session import explained

        answer = Answer(**said)
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        purpose = "plan" if plan else "prove-squash"
        with Build(settings, target, purpose, beside=False) as build, explained(target):
            if plan:
                told.plan(squash.plan(build, old))
                return
            findings = squash.prove(build, old, told, answer)
        if findings:
            raise FindingsError.of(findings)
        told.done("")


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
        from backset.dialogue import asking
        from backset.protection import unprotect
        from backset.server import Server
        from backset.session import explained

        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would unprotect {target.database if target else settings.database}")
            return
        name = confirm
        if not name and told.can_ask:
            name = asking(told)([("database", f"{target.shown} loses its protection")])
        if name != target.database:
            what = f"unprotecting {target.database} wants its name"
            raise RefusedError(
                [(what, f"invoke unprotect --confirm {shlex.quote(target.database)}")]
            )
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
            told.say("it is running" if cluster.is_running() else WOULD_START)
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
            told.plan([("start", WOULD_START)])
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
        lineage = settings.lineages[0]
        words, folder = _configured(settings, lineage)
        shown = [*words, *_x(lineage.arguments), *arguments]
        run = [settings.python, "-m", "alembic", *shown]
        if target := _target_or_plan(settings, told, run, plan=plan):
            env = settings.child_env(target)
            if lineage.arguments:
                given = [*words, *_x(settings.arguments(lineage, target)), *arguments]
                run, env = [settings.python, "-c", _UNSEEN], {**env, "BACKSET_ARGV": dumps(given)}
            here = replace(settings, root=folder)
            _attach(here, told, run, env, lambda line: settings.redact(target, line))


def _x(arguments: Iterable[str]) -> list[str]:
    return [word for argument in arguments for word in ("-x", argument)]


def _configured(settings: Settings, lineage: Lineage) -> tuple[list[str], Path]:
    """Return what tells `alembic` its configuration, and the folder to start it in.

    A file beside env.py, as Flask-Migrate has it, is seen from the project's root.
    """
    file = settings.root / lineage.config
    flags = {"-c": str(file) if lineage.config else "", "-n": lineage.section}
    words = [word for flag, value in flags.items() if value for word in (flag, value)]
    beside = not lineage.config or (file.parent / "env.py").is_file()
    return words, settings.root if beside else file.parent


def _target_or_plan(
    settings: Settings, told: Report, argv: list[str], *, plan: bool
) -> Target | None:
    """Return the target; None after saying what would be run on it."""
    from backset import location

    if not plan:
        return location.locate(settings)
    if location.peek(settings) is None:
        told.say(WOULD_START)
    told.say(settings.redact(settings.target, f"would run {' '.join(argv)}"))
    return None


def _attach(
    settings: Settings,
    told: Report,
    argv: list[str],
    env: dict[str, str],
    redact: Callable[[str], str] | None = None,
) -> None:
    code = attach(argv, env=env, cwd=settings.root, redact=redact)
    if code:
        leave(told, code if code > 0 else 128 - code)
