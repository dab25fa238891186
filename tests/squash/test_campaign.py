"""The campaign in small: a few random chains, and proof that a trial can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.marks import slow_but
from tests.squash import trial
from tests.squash.ground import Ground

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project


@pytest.fixture
def ground(cluster: Cluster, tmp_path: Path) -> Iterator[Ground]:
    """A ground of the trial's own."""
    ground = Ground(cluster, tmp_path)
    yield ground
    ground.clear()


# `nox -s squash` tries a hundred.
@pytest.mark.parametrize("seed", slow_but(range(20), lambda seed: seed < 1))
def test_both_chains_make_the_same_and_databases_follow(ground: Ground, seed: int) -> None:
    """From nothing, and from a random revision of the old chain with rows of people in it."""
    done = trial.perform(seed, ground)
    assert not done.broken, "\n".join([*done.broken, *done.log])


@pytest.mark.slow
def test_a_row_that_is_lost_is_noticed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were one of them lost, a trial would say so."""
    ask = trial._ask  # noqa: SLF001

    def careless(project: Project, one: trial.Trial, *words: str) -> bool:
        is_done = ask(project, one, *words)
        if words[0] == "upgrade":
            tables = "SELECT table_schema, table_name FROM information_schema.columns "
            tables += "WHERE column_name = 'token' AND table_name LIKE 't_%'"
            for schema, table in project.query(tables):
                project.query(f"DELETE FROM {schema}.\"{table}\" WHERE token LIKE 'token-%-1'")
        return is_done

    monkeypatch.setattr(trial, "_ask", careless)
    assert any("rows are lost" in each for each in trial.perform(1, ground).broken)
