"""The servers in containers, of compose.yaml and of the workflow, are the one of .env.example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from backset.connections.target import Target

REPOSITORY = Path(__file__).parents[2]
SAMPLE = re.search("^# DATABASE_URL=(.*)", (REPOSITORY / ".env.example").read_text(), re.MULTILINE)


def given(service: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return what a container is given: role, password, database."""
    return tuple(service[key][f"POSTGRES_{each}"] for each in ("USER", "PASSWORD", "DB"))


def test_the_container_is_what_the_sample_names() -> None:
    """Who takes the # away reaches it, on the port that it publishes to this machine alone."""
    assert SAMPLE
    params = Target.parse(SAMPLE[1]).params
    named = (params["user"], params["password"], params["dbname"])
    service = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]["postgres"]
    assert given(service, "environment") == named
    assert service["ports"] == [f"127.0.0.1:{params['port']}:5432"]
    assert f"# DATABASE_URL={SAMPLE[1]}\n" in (REPOSITORY / "compose.yaml").read_text()
    jobs = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())["jobs"]
    assert given(jobs["migrate"]["services"]["postgres"], "env") == named
