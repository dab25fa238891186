"""The command `backset`, and `python -m backset`: the tasks for a project without tasks.py."""

from __future__ import annotations

import re
import shlex
import sys
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.program import Program

from backset.process import identity, streams
from backset.settings import reader
from backset.tasks import namespace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HELP = "help"
_WRONG = 2  # the exit code of a command line that is wrong
_SEE = "`backset help{}` shows what there is"
_UNKNOWN = re.compile(r"No idea what '(.*)' is!", re.DOTALL)
_VALUE = re.compile(r"Flag <Argument: (\S+)> (needed value|doesn't take any value)")
# Flags of Invoke for tasks that run shell commands.
_USELESS = ("--hide", "--prompt-for-sudo", "--write-pyc", "-D", "-F", "-T", "-e", "-f", "-p", "-w")
_NAME = re.compile(r"^  (?! )(.+?)(?=  |$)", re.MULTILINE)
_IN_BOLD = "  \x1b[1m\\1\x1b[0m"
_AS_MODULE = f"{Path(sys.executable).name} -m backset"


def _is_coloured() -> bool:
    env = reader.environment()
    plain = env.get("NO_COLOR") or env.get("TERM", "dumb") == "dumb"
    return sys.stdout.isatty() and not plain


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

    def parse_core(self, argv: list[str] | None) -> None:
        """Read the flags before the task; `help [TASK]` is another spelling of `--help [TASK]`."""
        words = list(sys.argv if argv is None else argv)
        if words[1:2] == [_HELP]:
            words[1] = "--help"
        with self._explained():
            super().parse_core(words)

    def parse_cleanup(self) -> None:
        """Show what is asked for, such as the help of a task. Raises Exit as parse_tasks()."""
        if self.args.complete.value:
            self._complete_a_backup()
        with self._explained():
            super().parse_cleanup()

    def parse_tasks(self) -> None:
        """Read the tasks and their flags. Raises Exit with a line for people."""
        with self._explained():
            super().parse_tasks()

    def _complete_a_backup(self) -> None:
        """Print the names of backups where the word after `restore` is completed. Raises Exit."""
        try:
            *_, before, last = ["", *shlex.split(self.core.remainder)]
        except ValueError:  # a quotation is open: Invoke completes nothing in one
            raise Exit(code=0) from None
        if last == "restore" or (before == "restore" and not last.startswith("-")):
            for name in import_module("backset.commands.target").backup_names():
                streams.tell(name)
            raise Exit(code=0)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what is wrong with the words, and which one may be meant."""
        try:
            yield
        except ParseError as error:
            raise Exit(f" ✘ {self._meant(error)}", code=_WRONG) from None

    def _meant(self, error: ParseError) -> str:
        task = getattr(error.context, "name", None)
        see = _SEE.format(f" {task}" if task else "")
        if found := _UNKNOWN.fullmatch(str(error)):
            if not (word := found[1]).startswith("-"):
                known = [*namespace.task_names, *([] if word == _HELP else [_HELP])]
                return self._near(word, known, "there is no task", "")
            flags = [*getattr(error.context, "flag_names", lambda: ())()]
            none = f"{task} has no flag" if task else "there is no flag"
            return self._near(word, flags, none, f" {task}" if task else "")
        if found := _VALUE.match(str(error)):
            wants = "wants a value" if found[2] == "needed value" else "takes no value"
            return f"--{found[1].replace('_', '-')} {wants} → {see}"
        return f"{error} → {see}"

    def _near(self, word: str, known: Sequence[str], none: str, of: str) -> str:
        from backset.text import redaction  # noqa: PLC0415  (a URL may have been typed there)

        near = get_close_matches(word.partition("=")[0], known, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        return f"{none} {redaction.blank(word)!r} → {meant}{_SEE.format(of)}"

    def print_columns(self, tuples: Sequence[tuple[str, str | None]]) -> None:
        """Print flags or tasks with their help, without what is of no use to these tasks."""
        shown = [each for each in tuples if not each[0].startswith(_USELESS)]
        columns = [(name, identity.spoken(text or "")) for name, text in shown]
        with redirect_stdout(StringIO()) as printed:
            super().print_columns(columns)
        text = printed.getvalue()
        print(_NAME.sub(_IN_BOLD, text) if _is_coloured() else text, end="")  # noqa: T201  (--help)

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
    identity.called("backset" if Path(sys.argv[0]).stem == "backset" else _AS_MODULE)
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
