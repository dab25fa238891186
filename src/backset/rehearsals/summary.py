"""The checks of a rehearsal as a table in Markdown, and as the commands of GitHub's log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.wording import redaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.rehearsals.checks import Check

_MARKS = {True: "✔", False: "✘"}


def lines(checks: Sequence[Check]) -> list[str]:
    """Return a line for each, as the tasks' own reports have them."""
    width = max(len(each.name) for each in checks)
    return [f" {_MARKS[each.passed]} {each.name:<{width}}  {each.text}" for each in checks]


def markdown(title: str, checks: Sequence[Check]) -> str:
    """Return a heading and a table, for $GITHUB_STEP_SUMMARY."""
    rows = [f"| {_MARKS[each.passed]} | {each.name} | {_cell(each.text)} |" for each in checks]
    return "\n".join(
        (f"### {title}", "", "| | check | what was seen |", "|---|---|---|", *rows, "")
    )


def commands(title: str, checks: Sequence[Check]) -> list[str]:
    """Return `::error` for each check that failed, escaped as GitHub's runner unescapes it."""
    return [
        f"::error title={_property(f'{title}: {each.name}')}::{_data(each.text)}"
        for each in checks
        if not each.passed
    ]


def _cell(text: str) -> str:
    shown = " ".join(map(redaction.printable, text.splitlines()))
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _data(text: str) -> str:
    return "%0A".join(redaction.printable(each).replace("%", "%25") for each in text.splitlines())


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
