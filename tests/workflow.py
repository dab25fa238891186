"""`python -m tests.workflow [JOB …]`: run the steps of GitHub's workflows here, in their order.

It reads the workflows, so the two cannot differ, and refuses what it could not do as GitHub does.
Each case of a matrix gets a clone and a virtual environment of its own. A service is a throw-away
PostgreSQL of that major version; a case whose Python or PostgreSQL is not here is said to be left
out.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from backset.servers.location import ServiceNames, throw_away
from backset.servers.programs import installations

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[1]
WORKFLOWS = REPOSITORY / ".github/workflows"
Case = dict[str, str]
# What is read here, or is of no consequence here; `on` is True in YAML.
KNOWN: dict[str, set[str | bool]] = {
    "workflow": {"name", True, "permissions", "concurrency", "jobs"},
    "job": {
        *("name", "runs-on", "timeout-minutes", "permissions"),
        *("strategy", "services", "env", "steps"),
    },
    "strategy": {"fail-fast", "matrix"},
    "step": {"name", "uses", "with", "if", "run", "env"},
}


def understood(workflow: dict[Any, Any]) -> dict[str, Any]:
    """Return the jobs. Raises SystemExit for what would be passed over."""
    jobs: dict[str, Any] = workflow["jobs"]
    _hold("workflow", workflow)
    for job in jobs.values():
        _hold("job", job)
        _hold("strategy", job.get("strategy", {}))
        for step, case in itertools.product(job["steps"], cases(job)):
            _hold("step", step)
            if applies(step, case):
                filled(step["run"], case)
    return jobs


def _hold(what: str, part: dict[str | bool, Any]) -> None:
    if unknown := part.keys() - KNOWN[what]:
        raise SystemExit(f"tests/workflow.py does not know this of a {what}: {sorted(unknown)}")


def cases(job: dict[str, Any]) -> list[Case]:
    """Return the cases of a job's matrix; one without values where it has none."""
    matrix = job.get("strategy", {}).get("matrix", {})
    return [
        dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())
    ]


def filled(text: object, case: Case) -> str:
    """Return a text of the workflow with the values of the case."""
    done = re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: case[found[1]], str(text))
    if "${{" in done:
        raise SystemExit(f"tests/workflow.py does not know this expression: {done}")
    return done


def applies(step: dict[str, Any], case: Case) -> bool:
    """Tell whether a step is run here: not those of actions, nor for another case."""
    if "uses" in step and step.get("if") == "always()":
        return False
    if "if" in step:
        found = re.fullmatch(r"matrix\.(\w+) == '(.*)'", str(step["if"]))
        if found is None:
            raise SystemExit(f"tests/workflow.py does not know this condition: {step['if']}")
        return "run" in step and case[found[1]] == found[2]
    return "run" in step


def python(version: str) -> str | None:
    """Return an interpreter of a version, of pyenv's as well."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = [str(each) for each in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    return next(iter(found), shutil.which(f"python{version}"))


@contextmanager
def served(job: dict[str, Any], case: Case) -> Iterator[Case]:
    """Give what a job's service adds to the environment."""
    if "services" not in job:
        yield {}
        return
    with throw_away(ServiceNames(database="aideator"), int(case["postgres"])) as service:
        yield {"DATABASE_URL": service.url}


def run(job: dict[str, Any], case: Case) -> str:
    """Run the steps of a case; return what came of it."""
    setup = next(step for step in job["steps"] if "setup-python" in step.get("uses", ""))
    version = filled(setup["with"]["python-version"], case)
    interpreter = python(version) or (None if "python" in case else sys.executable)
    if interpreter is None:
        return f"left out: there is no Python {version} here"
    if "postgres" in case and int(case["postgres"]) not in installations():
        return f"left out: there is no PostgreSQL {case['postgres']} here"
    with tempfile.TemporaryDirectory() as folder, served(job, case) as service:
        clone, venv = Path(folder) / "clone", Path(folder) / "venv"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
        subprocess.run([interpreter, "-m", "venv", venv], check=True)
        path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        ours = {
            k: v for k, v in os.environ.items() if not k.startswith(("PG", "BACKSET_", "DATABASE_"))
        }
        env = {**ours, "CI": "true", "GITHUB_ACTIONS": "true", "PATH": path}
        env["GITHUB_STEP_SUMMARY"] = str(Path(folder) / "summary.md")
        for step in (each for each in job["steps"] if applies(each, case)):
            given = job.get("env", {}) | step.get("env", {})
            given = {name: filled(value, case) for name, value in given.items()}
            shell = ["bash", "-e", "-c", filled(step["run"], case)]
            print(f"$ {shell[-1]}", flush=True)
            done = subprocess.run(shell, cwd=clone, env={**env, **given, **service}, check=False)
            if done.returncode:
                return f"failed: {step.get('name', shell[-1])} (exit code {done.returncode})"
    return "good"


def main(wanted: list[str]) -> int:
    """Run the wanted jobs, or all; return the exit code."""
    jobs: dict[str, Any] = {}
    for file in sorted(WORKFLOWS.glob("*.yml")):
        jobs |= understood(yaml.safe_load(file.read_text(encoding="utf-8")))
    results = {}
    for name in wanted or jobs:
        for case in cases(jobs[name]):
            title = " ".join((name, *case.values()))
            print(f"== {title}", flush=True)
            results[title] = run(jobs[name], case)
    print(*(f"{title}: {result}" for title, result in results.items()), sep="\n")
    return int(any(each.startswith("failed") for each in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
