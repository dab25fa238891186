"""What a rehearsal judges, and how it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from backset import rehearsal
from backset.rehearsal import Check, criteria, error
from tests.canary import ACTING, acting

AFTER: dict[str, Any] = {
    "exit_code": 0,
    "findings": [],
    "state": "at head",
    "heads": ["a"],
    "orphans": [],
}
LOG = {"readable": True, "why": "", "errors": []}


def rebuilt(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON values)
    """Return what a good `reset-db --json` says, with changes to its steps."""
    steps: dict[str, dict[str, Any]] = {
        "upgrade": {"chains": [{"from": []}], "text": "base → a"},
        "verify": {"tables": 3, "text": "3 tables", "server_log": LOG},
        "seed": {"text": "users 1", "server_log": LOG},
    }
    for step, change in changes.items():
        steps[step] |= change
    shown = [{"step": name, **details} for name, details in steps.items()]
    return {"exit_code": 0, "findings": [], "error": None, "steps": shown}


def failed(checks: list[Check]) -> list[str]:
    """Return the names of those that were not kept."""
    return [each.name for each in checks if not each.passed]


def test_a_good_rebuild_keeps_all_seven() -> None:
    """They are the runbook's, in its order."""
    checks = criteria(rebuilt(), AFTER, [])
    assert len(checks) == 7
    assert failed(checks) == []


@pytest.mark.parametrize(
    ("content", "after", "errors", "name"),
    [
        (rebuilt(), {"state": "several heads"}, [], "one clean chain of migrations"),
        (rebuilt(), {"orphans": ["x"]}, [], "one clean chain of migrations"),
        (rebuilt(upgrade={"chains": [{"from": []}, {"from": ["z"]}]}), {}, [],
         "the database starts empty"),
        (rebuilt(verify={"tables": 0}), {}, [], "the migrations make all tables"),
        (rebuilt(), {"findings": [{"kind": "missing column", "what": "tasks.archived"}]}, [],
         "the expected columns are there"),
        (rebuilt() | {"exit_code": 6}, {}, [], "the whole run ends without an error"),
        (rebuilt(), {"exit_code": 6}, [], "the whole run ends without an error"),
        (rebuilt(), {}, ["ERROR: index is gone"], "the server's log has no error of the run"),
        (rebuilt(seed={"server_log": LOG | {"errors": ["ERROR: x"]}}), {}, None,
         "the server's log has no error of the run"),
    ],
)  # fmt: skip
def test_each_of_them_can_fail(
    content: dict[str, Any], after: dict[str, Any], errors: list[str] | None, name: str
) -> None:
    """By itself."""
    assert failed(criteria(content, AFTER | after, errors)) == [name]


def test_a_rebuild_that_stops_keeps_none_of_what_would_follow() -> None:
    """A step that is missing is not taken for one that was good."""
    content = {**rebuilt(), "steps": [], "exit_code": 4, "error": {"lines": ["it fails → mend"]}}
    checks = criteria(content, AFTER | {"state": "empty"}, None)
    assert len(failed(checks)) == 7
    assert error(content) == "it fails → mend"


def test_a_log_that_cannot_be_read_is_said() -> None:
    """It is no failure, and no silence either."""
    unread = {"readable": False, "why": "the role may not", "errors": []}
    content = rebuilt(verify={"server_log": unread}, seed={"server_log": unread})
    last = criteria(content, AFTER, None)[-1]
    assert (last.passed, last.text) == (True, "not readable: the role may not")


def test_the_summary_is_a_table() -> None:
    """What was seen cannot break out of its cell."""
    text = rehearsal.markdown("migrate(18)", [Check("undo", passed=False, text="a|b <script>\nc")])
    assert text.splitlines()[-1] == "| ✘ | undo | a\\|b &lt;script> c |"


def test_each_failure_is_an_annotation_of_one_line() -> None:
    """Escaped as the runner of GitHub unescapes it."""
    checks = [
        Check("fine", passed=True, text=""),
        Check("undo", passed=False, text="100 %\nof it"),
    ]
    assert rehearsal.commands("migrate(18)", checks) == [
        "::error title=migrate(18)%3A undo::100 %25%0Aof it"
    ]


def test_nothing_that_was_seen_acts_in_the_summary_or_in_the_log() -> None:
    """The one command is ours, and it has the text as escapes; so has the cell of the table."""
    checks = [Check("undo", passed=False, text=f"a {ACTING}")]
    assert acting(rehearsal.markdown("m", checks)) == []
    (command,) = rehearsal.commands("m", checks)
    assert command.startswith("::error title=m%3A undo::a \\x1b]52;c;QQ\\x07\\x9b2J%0A")
    assert acting(command.partition("::a ")[2]) == []
