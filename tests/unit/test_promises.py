"""What docs/reliability.md promises is held by tests of every run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.marks import slow_but

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/reliability.md"
TABLE = PAGE.read_text("utf-8").partition("|---|---|---|\n")[2].partition("\n\n")[0]


def is_run_by_default(test: str) -> bool:
    """Tell whether `path::name` is there, and no mark takes all its cases out of the usual run."""
    path, name = test.split("::")
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    marks = [ast.unparse(each) for each in tree.body if isinstance(each, ast.Assign)]
    found = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name]
    marks += [ast.unparse(mark) for each in found for mark in each.decorator_list]
    long = re.compile(r"^(pytestmark = .*)?pytest\.mark\.(slow|every_server)\W*$")
    return bool(found) and not any(map(long.match, marks))


def test_each_promise_has_a_test_in_every_run() -> None:
    """A promise without one, or a test that was renamed or marked, is noticed here."""
    rows = [line.strip("| ").split(" | ") for line in TABLE.splitlines()]
    assert len(rows) >= 15
    assert [row for row in rows if len(row) != 3] == []
    named = {promise: re.findall(r"`(\S+::\S+)`", tests) for promise, tests, _ in rows}
    assert [promise for promise, tests in named.items() if not tests] == []
    assert [test for tests in named.values() for test in tests if not is_run_by_default(test)] == []


def test_what_is_marked_is_no_test_of_every_run() -> None:
    """The check above would fail for a long test, and for one that is not there."""
    assert is_run_by_default("acceptance/test_nox.py::test_a_developers_database_is_refused")
    assert not is_run_by_default("acceptance/test_nox.py::test_everything_is_tried")
    assert not is_run_by_default("acceptance/test_nox.py::test_nothing")


def test_a_test_with_slow_cases_has_a_quick_one() -> None:
    """Else it would silently be gone from the usual run."""
    assert len(slow_but([1, 2], lambda case: case == 1)) == 2
    with pytest.raises(ValueError, match="none of"):
        slow_but([1, 2], lambda case: case == 3)
