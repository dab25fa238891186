"""What people see on terminals of several widths: the words of a pipe, laid out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests import situations
from tests.marks import slow_but
from tests.project import Project, laid_down

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SPINS = re.compile("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_TOOK = re.compile(r"  [\d.]+\N{NO-BREAK SPACE}s$", re.MULTILINE)
_FIGURES = re.compile(r"[\d.]+ s\b|\d{8}T\d{6}\.\d{3}Z")
_BARS = re.compile(r"^ [*|x?/\\ ]+", re.MULTILINE)


def at_head(project: Project) -> None:
    """A database that was rebuilt."""
    assert project.invoke("reset-db").returncode == 0


def orphaned(project: Project) -> None:
    """One whose revision no file has, with a history that says so."""
    at_head(project)
    situations.deleted(project)


STATES: dict[str, tuple[Callable[[Project], None], tuple[str, ...]]] = {
    "nothing yet": (lambda _: None, ("status",)),
    "a first rebuild": (lambda _: None, ("reset-db", "--cold")),
    "at head": (at_head, ("status",)),
    "a plan": (at_head, ("reset-db", "--plan")),
    "a history": (at_head, ("history",)),
    "a backup": (at_head, ("backup",)),
    "earlier runs": (at_head, ("runs",)),
    "an error": (at_head, ("restore", "nothing")),
    "an orphan": (orphaned, ("status",)),
    "an orphan's history": (orphaned, ("history",)),
    "an upgrade that is refused": (orphaned, ("upgrade",)),
}


LONGEST_LINES = {
    "a first rebuild",
    "a backup",
    "an orphan",
    "an orphan's history",
    "an upgrade that is refused",
}
OTHERWISE_EACH_TIME = {"a first rebuild", "a backup"}


def lines(shown: str) -> list[str]:
    """Return what stays of what a terminal has shown."""
    kept = [each for each in shown.split("\n") if not _SPINS.search(each)]
    return [_CONTROL.sub("", each).rstrip() for each in kept if _CONTROL.sub("", each).strip()]


def words(text: str) -> list[str]:
    """Return the words of a text, without its bars and without what differs between two runs."""
    plain = _FIGURES.sub("", _BARS.sub("", _TOOK.sub("", text)))
    return plain.split()


@pytest.mark.parametrize("state", slow_but(STATES, LONGEST_LINES.__contains__))
def test_no_word_is_cut_and_lines_hang(tmp_path: Path, database_url: str, state: str) -> None:
    """At 40, 60 and 100 columns: the same words as in a pipe; what goes on is indented."""
    prepare, argv = STATES[state]
    project = laid_down(tmp_path / "p", "states", database_url)
    prepare(project)
    piped = project.invoke(*argv)
    said = piped.stdout + piped.stderr
    for columns in (40, 60, 100):
        _, shown = project.on_a_terminal(*argv, TERM="xterm-256color", COLUMNS=str(columns))
        found = lines(shown)
        if state not in OTHERWISE_EACH_TIME:
            assert sorted(words("\n".join(found))) == sorted(words(said)), (columns, shown)
        for line in found:
            rest = line[13:].strip() or line
            assert len(line) <= columns or " " not in rest, (columns, line)
            assert line.startswith(" "), line


def test_steps_tell_how_long_they_took(project: Project) -> None:
    """And `NO_COLOR` leaves the layout, without colours."""
    _, shown = project.on_a_terminal("reset-db", "--cold", TERM="xterm", NO_COLOR="1", COLUMNS="99")
    assert re.search(r"✔ seed      users 1 .* \d+\.\d\N{NO-BREAK SPACE}s", _CONTROL.sub("", shown))
    assert "\x1b[32m" not in shown


@pytest.mark.parametrize("coloured", [True, False])
def test_status_history_and_help_are_coloured(project: Project, *, coloured: bool) -> None:
    """On a terminal that can, unless NO_COLOR is set."""
    assert project.invoke("reset-db").returncode == 0
    extra = {} if coloured else {"NO_COLOR": "1"}
    for argv, wanted in ((["status"], "\x1b[32mat head"), (["history"], "\x1b[1;36m← database")):
        _, shown = project.on_a_terminal(*argv, TERM="xterm-256color", **extra)
        assert (wanted in shown) is coloured, shown
