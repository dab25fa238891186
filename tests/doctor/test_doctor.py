"""The doctor in small: a trial of each damage, and proof that the campaign can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.doctor import damages, trial
from tests.marks import slow_but

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project


QUICK = 3


# `nox -s doctor -- --trials 200` tries more; here are the first ones.
@pytest.mark.parametrize("seed", slow_but(range(len(damages.DAMAGES)), lambda seed: seed < QUICK))
def test_no_diagnosis_is_false_and_no_cure_hurts(
    tmp_path: Path, database_url: str, seed: int
) -> None:
    """No row is lost, nothing is rebuilt twice, and a healthy database stays as it is."""
    done = trial.perform(seed, tmp_path, database_url, is_brief=True)
    assert not done.broken, "\n".join([*done.broken, *done.log])


def test_a_row_that_is_lost_is_noticed(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a repair to lose one, a trial would say so."""
    ask = trial._ask  # noqa: SLF001

    def careless(project: Project, one: trial.Trial, *words: str) -> dict[str, Any]:
        told = ask(project, one, *words)
        if words[0] == "repair":
            project.query("DELETE FROM by_hand")
        return told

    monkeypatch.setattr(trial, "_ask", careless)
    seed = damages.DAMAGES.index(damages.leftover)
    done = trial.perform(seed, tmp_path, database_url, is_brief=True)
    assert [each for each in done.broken if "token-by-hand" in each]
