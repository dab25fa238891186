"""The tasks that hand the terminal over: to psql, and to Alembic as the project runs it."""

from __future__ import annotations

from dataclasses import replace
from json import dumps
from typing import TYPE_CHECKING

from backset.cli import WOULD_START, leave, opened
from backset.processes.terminal import attach
from backset.servers.programs import Programs, with_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from backset.configuration.lineage import Lineage
    from backset.configuration.settings import Settings
    from backset.connections.target import Target
    from backset.reports.report import Report

# `python -m alembic`, but for the arguments, which may hold a password: `ps` shows them to everyone
_UNSEEN = """\
import json, sys
from os import environ
sys.argv[:] = ["alembic", *json.loads(environ.pop("BACKSET_ARGV"))]
from alembic.config import main
main(prog="alembic")
"""


def psql(arguments: Sequence[str], *, plan: bool) -> None:
    """Open psql on the target; its exit code becomes ours."""
    with opened("psql") as (settings, told):
        program = Programs(settings.environ, settings.root).newest("psql")
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
    from backset.servers import location

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
