"""The action of this repository: its steps are run here, as GitHub's runner does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.project import REPOSITORY, laid_down

if TYPE_CHECKING:
    from pathlib import Path


def act(folder: Path, temporary: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Run the steps with these inputs; return how the last one ended."""
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "action.yml").read_text())
    inputs = {name: about["default"] for name, about in content["inputs"].items()}
    inputs |= {name.replace("_", "-"): value for name, value in given.items()}

    def filled(text: str) -> str:
        for name, value in inputs.items():
            text = text.replace(f"${{{{ inputs.{name} }}}}", value)
        assert "${{" not in text
        return text

    runner = {"RUNNER_TEMP": str(temporary), "GITHUB_ACTION_PATH": str(REPOSITORY)}
    for step in content["runs"]["steps"]:
        env = {name: filled(value) for name, value in step["env"].items()}
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder / filled(step.get("working-directory", ".")),
            env={**os.environ, **runner, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            break
    return done


@pytest.mark.slow
def test_it_checks_and_rebuilds(tmp_path: Path, database_url: str) -> None:
    """Without a URL on a server of its own; with one, all lines; what fails, fails the job."""
    project = laid_down(tmp_path / "project", "states", database_url)
    where = {"working_directory": project.folder.name, "python": sys.executable}
    done = act(tmp_path, tmp_path, **where)
    assert done.returncode == 0, done.stdout + done.stderr
    tasks = "wait\nreset-db --yes\nverify\n"  # as YAML's `|` has it
    done = act(tmp_path, tmp_path, **where, tasks=tasks, database_url=database_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.query("SELECT version_num FROM alembic_version") == [("c1",)]
    assert act(tmp_path, tmp_path, **where, tasks="no-such-task").returncode == 2
