"""The command `backset`, and `python -m backset`: the tasks for a project without tasks.py."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.config import Config
from invoke.parser.argument import Argument
from invoke.program import Program

from backset.process import identity, streams
from backset.settings import reader
from backset.tasks import namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

# Flags of Invoke for tasks that run shell commands.
_USELESS = ("--hide", "--prompt-for-sudo", "--write-pyc", "-D", "-F", "-T", "-e", "-f", "-p", "-w")


class _Config(Config):
    """Reads no invoke.yaml: that is about the project's own tasks."""

    prefix = "backset"


class Backset(Program):
    """Invoke's program, with Alembic's own flags for its configuration."""

    def core_args(self) -> list[Argument]:
        """Return the flags that come before the task."""
        return [
            *super().core_args(),
            Argument(names=("alembic-config", "c"), help="Alembic's configuration file"),
            Argument(names=("section", "n"), help="the section of that file"),
            Argument(names=("x",), kind=list, help="what env.py gets as -x, such as tenant=a"),
        ]

    def print_columns(self, tuples: Sequence[tuple[str, str | None]]) -> None:
        """Print flags or tasks with their help, without what is of no use to these tasks."""
        shown = [each for each in tuples if not each[0].startswith(_USELESS)]
        super().print_columns([(name, identity.spoken(text or "")) for name, text in shown])

    def print_version(self) -> None:
        """Print the version of the installed package."""
        from importlib.metadata import version  # noqa: PLC0415  (slow, and Alembic's start waits)

        print(f"backset {version('backset')}")  # noqa: T201  (--version)

    def execute(self) -> None:
        """Run the tasks with what these flags say."""
        if file := self.args["alembic-config"].value:
            reader.FLAGS["BACKSET_CONFIG"] = str(Path(file).resolve())
        if section := self.args.section.value:
            reader.FLAGS["BACKSET_SECTION"] = section
        if arguments := self.args.x.value:
            reader.FLAGS["BACKSET_ARGUMENTS"] = shlex.join(arguments)
        try:
            super().execute()
        finally:
            reader.FLAGS.clear()


def main() -> None:
    """Run `backset …`."""
    identity.called("backset")
    program = Backset(
        namespace=namespace,
        name="backset",
        binary="backset",
        binary_names=["backset"],
        config_class=_Config,
    )
    try:
        try:
            program.run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # of --list and --help, which Invoke prints
        streams.abandon()
        sys.exit(streams.UNREAD)


if __name__ == "__main__":
    main()
