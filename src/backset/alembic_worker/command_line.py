"""Alembic's own command line, on the one proved database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import util
from alembic.config import CommandLine
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from . import configuration, guard

if TYPE_CHECKING:
    from .guard import ConnectionGuard


def run(words: list[str], given: dict[str, Any], gate: ConnectionGuard) -> None:
    """Run a command with the configuration that is given, as configuration.opened() has it.

    Raises SystemExit as Alembic does, WrongTargetError, and UnagreedError.
    """
    sys.argv = ["alembic", *words]
    line = CommandLine(prog="alembic")
    line.parser.set_defaults(config=None, name=None)  # so that what was said can be told
    options = line.parser.parse_args(words)
    if not hasattr(options, "cmd"):
        line.parser.error("too few arguments")
    try:
        config = configuration.of_command_line(given, options)
    except util.CommandError as error:
        if options.raiseerr:
            raise
        util.err(str(error))
    _guard(gate)
    line.run_cmd(config, options)


def _guard(gate: ConnectionGuard) -> None:
    """Run env.py within its application, and migrate through no connection that is only read."""
    scripts_of, context_of = ScriptDirectory, MigrationContext  # type: Any, Any
    run_env, run_migrations = scripts_of.run_env, context_of.run_migrations

    def within(scripts: Any) -> None:
        guard.watch(gate)
        with configuration.context(Path(scripts.dir, "env.py")):
            run_env(scripts)

    def proved(context: Any, **words: Any) -> None:
        if not context.as_sql:
            gate.demand_proof(context.connection)
        run_migrations(context, **words)

    scripts_of.run_env, context_of.run_migrations = within, proved
