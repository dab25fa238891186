"""The workflow of GitHub runs what the noxfile has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
WORKFLOW: dict[str, Any] = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_its_sessions_exist() -> None:
    """A session that is renamed would fail there alone."""
    listed = subprocess.run(
        [sys.executable, "-m", "nox", "--list", "--no-color"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = set(re.findall(r"^\* (\w+)", listed, re.MULTILINE))
    named = [re.search(r"nox -s (.*)", step.get("run", "")) for step in STEPS]
    found = {word for each in named if each for word in re.findall(r"\b[a-z]+\b", each[1])}
    assert found == {"lint", "types", "tests", "migrate", "faults"}
    assert found <= known


@pytest.mark.parametrize("step", [step for step in STEPS if "uses" in step], ids=str)
def test_its_actions_are_pinned(step: dict[str, str]) -> None:
    """To a commit: a tag can be moved."""
    assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])


def test_it_may_read_and_no_more() -> None:
    """Nothing is granted to the workflow as a whole."""
    assert WORKFLOW["permissions"] == {}
    for job in WORKFLOW["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
