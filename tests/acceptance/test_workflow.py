"""The workflow of GitHub runs what the noxfile has, and can be run here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import workflow

REPOSITORY = Path(__file__).parents[2]
WORKFLOWS: list[dict[str, Any]] = [
    yaml.safe_load(file.read_text()) for file in sorted(workflow.WORKFLOWS.glob("*.yml"))
]
JOBS = {name: job for each in WORKFLOWS for name, job in each["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def test_its_sessions_exist() -> None:
    """A session that is renamed would fail there alone."""
    listed = subprocess.run(
        [sys.executable, "-m", "nox", "--list", "--no-color"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = set(re.findall(r"^[*-] (\w+)", listed, re.MULTILINE))
    named = [re.search(r"nox -s ([^-]*)", step.get("run", "")) for step in STEPS]
    found = {word for each in named if each for word in re.findall(r"\b[a-z]+\b", each[1])}
    assert found == {"lint", "types", "docs", "tests", "migrate", "faults", "doctor"}
    assert found <= known


def test_its_actions_are_pinned() -> None:
    """To a commit: a tag can be moved."""
    used = {step["uses"] for step in STEPS if "uses" in step}
    assert [each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", each)] == []


def test_it_may_read_and_no_more() -> None:
    """Nothing is granted to a workflow as a whole."""
    assert [each["permissions"] for each in WORKFLOWS] == [{}, {}]
    for job in JOBS.values():
        assert job["permissions"] == {"contents": "read"}


def test_all_of_it_can_be_run_here() -> None:
    """The script knows each key, condition and expression of the workflows."""
    understood = [job for each in WORKFLOWS for job in workflow.understood(each)]
    assert understood == list(JOBS)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"working-directory": "docs"}, "of a step: ['working-directory']"),
        ({"if": "always()"}, "condition: always()"),
        ({"run": "${{ github.sha }}"}, "expression: ${{ github.sha }}"),
    ],
)
def test_what_the_script_does_not_know_is_refused(step: dict[str, str], said: str) -> None:
    """What it passed over would be tried nowhere but there."""
    spoilt = {"jobs": {"a": {"steps": [{"run": "true", **step}]}}}
    with pytest.raises(SystemExit, match=re.escape(said)):
        workflow.understood(spoilt)


@pytest.mark.slow
def test_a_step_that_fails_ends_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The later steps are not run, the other jobs are, and the script fails."""
    setup = {"uses": "actions/setup-python@x", "with": {"python-version": "3.11"}}
    steps = [{"run": "echo $GREETING"}, {"run": "exit 3"}, {"run": "echo after"}]
    failing = {"env": {"GREETING": "hello"}, "steps": [setup, *steps]}
    file = tmp_path / "ci.yml"
    file.write_text(yaml.safe_dump({"jobs": {"a": failing, "b": {"steps": [setup]}}}))
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    monkeypatch.setattr(workflow, "REPOSITORY", tmp_path)
    monkeypatch.setattr(workflow, "WORKFLOWS", tmp_path)
    assert workflow.main([]) == 1
    said = capfd.readouterr().out.splitlines()
    assert "hello" in said
    assert "after" not in said
    assert said[-2:] == ["a: failed: exit 3 (exit code 3)", "b: good"]
