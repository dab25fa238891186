"""The tasks that hand the terminal over: to psql, and to Alembic as the project runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from backset.cli import WOULD_START, leave, opened, settled
from backset.configuration.lineage import Lineage
from backset.errors import BacksetError, SettingsError
from backset.migrations import command_line
from backset.processes.process import attach
from backset.servers import location
from backset.servers.programs import Programs, with_tls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.configuration.settings import Settings
    from backset.reports.report import Report

# Commands that are about no chain.
_OF_NO_CHAIN = frozenset({"init", "list_templates", "--version", "-h", "--help"})
# What comes before a command, and has a value behind it.
_NAMED = {"-c": "config", "--config": "config", "-n": "section", "--name": "section", "-x": "x"}


def psql(arguments: Sequence[str], *, plan: bool) -> None:
    """Open psql on the target; its exit code becomes ours."""
    with opened("psql") as (settings, told):
        program = Programs(settings.environ, settings.root).newest("psql")
        argv = [str(program), *arguments]
        if plan:
            _tell(settings, told, argv)
            return
        env = {**settings.environ, **location.locate(settings).libpq_env}
        env = with_tls(program, env)
        if code := attach(argv, env=env, cwd=settings.root, in_github=settings.is_in_github):
            _leave(told, code)


def alembic(arguments: Sequence[str], *, chain: str, plan: bool) -> None:
    """Run alembic on the target, with the project's interpreter and environment."""
    with opened("alembic") as (loaded, told):
        settings, unknown = loaded, None
        try:
            settings = settled(loaded)
        except BacksetError as error:  # a command that needs no database runs all the same
            unknown = error
        lineage, words = _chosen(settings, arguments, chain), list(arguments)
        if plan:
            _tell(
                settings,
                told,
                [settings.python, "-m", "alembic", *_shown(settings, lineage), *words],
            )
        elif code := command_line.run(settings, lineage, words, unknown):
            _leave(told, code)


def _shown(settings: Settings, lineage: Lineage) -> list[str]:
    """Return what would tell `alembic` of that chain."""
    file = str(settings.root / lineage.config) if lineage.config else ""
    pairs = [("-c", file), ("-n", lineage.section), *(("-x", each) for each in lineage.arguments)]
    return [word for flag, value in pairs if value for word in (flag, value)]


def _chosen(settings: Settings, words: Sequence[str], name: str) -> Lineage:
    """Return the chain that is meant.

    name: what `--chain` says; without it `-n` or `-c` tells which it is, if there are several.
    Raises SettingsError.
    """
    lineages, root = settings.lineages, settings.root
    if name:
        found = [each for each in lineages if each.name == name]
        if not found:
            raise _undecided(lineages, f"there is no chain {name!r}")
        return found[0]
    if len(lineages) == 1:
        return lineages[0]
    said, found = _said(words), list(lineages)
    if file := said.get("config"):
        found = [each for each in found if root / (each.config or "alembic.ini") == root / file]
        if not found:  # one of its own, which must lead to the target like the others
            return Lineage()
    if section := said.get("section"):
        found = [each for each in found if (each.section or "alembic") == section]
    if len(found) == 1:
        return found[0]
    if _OF_NO_CHAIN.intersection(words[:1]):
        return Lineage()
    raise _undecided(lineages, "the database has several chains")


def _undecided(lineages: Sequence[Lineage], what: str) -> SettingsError:
    names = ", ".join(each.name for each in lineages if each.name)
    if not names:
        return SettingsError([(what, "leave --chain out: the database has one chain")])
    remedy = f"say which of them: `{lineages[0].alembic} …` ({names})"
    return SettingsError([(f"{what}: {names}" if len(lineages) > 1 else what, remedy)])


def _said(words: Sequence[str]) -> dict[str, str]:
    """Return what is said of the configuration before the command: `config`, `section`."""
    said: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            break
        flag, _, value = word.partition("=") if word[:2] == "--" else (word[:2], "", word[2:])
        if flag in _NAMED:
            said[_NAMED[flag]] = value or next(rest, "")
    return said


def _tell(settings: Settings, told: Report, argv: Sequence[str]) -> None:
    """Say what would be run on the target."""
    if location.peek(settings) is None:
        told.say(WOULD_START)
    told.say(settings.redact(settings.target, f"would run {' '.join(argv)}"))


def _leave(told: Report, code: int) -> NoReturn:
    leave(told, code if code > 0 else 128 - code)
