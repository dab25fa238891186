"""The campaign in small: trials of a few kinds, and proof that each of its checks can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from tests.faults import __main__ as program
from tests.faults import campaign, checks, making, summary
from tests.faults.faults import FAULTS, Fault
from tests.faults.run import MARK, Line
from tests.faults.strikes import Scene, send
from tests.faults.world import CLEAN, PREVIOUS, RESET, SOCKET, TARGET, World
from tests.marks import slow_but

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def made(signals_as_on_a_terminal: None) -> Iterator[World]:
    """A world for all trials of this module."""
    with making.opened() as opened:
        yield opened


# `nox -s faults` tries every kind, and reports on it; here is one that kills, one that breaks the
# line to the server, and one that fills a disk.
@pytest.mark.parametrize(
    "seed",
    slow_but([0, 7, 12], lambda seed: seed == 0),
    ids=[FAULTS[each].name for each in (0, 7, 12)],
)
def test_no_promise_is_broken(made: World, seed: int) -> None:
    """Whatever happens to a run: old or new, reachable, told as it is, and mended by the next."""
    trial = campaign.perform(made, seed)
    if trial.skipped:
        pytest.skip(trial.skipped)
    assert trial.broken == [], "\n".join(trial.log)


def execute(made: World, statement: str, *names: str) -> None:
    """Do something to the server, as its superuser."""
    with made.superuser as session:
        session.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def lose_a_row(scene: Scene) -> None:
    """Delete a row of the target."""
    with psycopg.connect(scene.world.url(SOCKET)) as session:
        session.execute("DELETE FROM task_outputs WHERE id = 1")


def close_the_door(scene: Scene) -> None:
    """Let nobody connect to the target."""
    execute(scene.world, "ALTER DATABASE {} ALLOW_CONNECTIONS false", TARGET)


def leave_a_database(scene: Scene) -> None:
    """Make a database that no run would remove."""
    execute(scene.world, "CREATE DATABASE {}", f"{TARGET}__other")


def cut_a_dump(scene: Scene) -> None:
    """Take the tail of a complete backup away."""
    dump = checks.dumps(scene.world)[-1]
    dump.write_bytes(dump.read_bytes()[:-100])


def lose_everything_old(scene: Scene) -> None:
    """Drop previous, and remove every backup."""
    execute(scene.world, "DROP DATABASE {}", PREVIOUS)
    for path in scene.world.backups.glob("*/*"):
        path.unlink()


abandoned: list[subprocess.Popen[bytes]] = []


def leave_a_child(scene: Scene) -> None:
    """Start a process as the run would, and leave it."""
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    abandoned.append(subprocess.Popen(words, env={**os.environ, MARK: scene.run.mark}))


def say(text: str, scene: Scene) -> None:
    """Let the run say something on stderr."""
    scene.run.errors.append(text)


def at_the_end(sabotage: Callable[[Scene], None], scene: Scene) -> bool:
    """Wait for the run, and for what it tells the server to drop; then do something bad."""
    scene.run.wait(60)
    while set(scene.world.names()) - {TARGET, PREVIOUS, CLEAN}:
        time.sleep(0.02)
    sabotage(scene)
    return True


@pytest.mark.parametrize(
    ("sabotage", "words"),
    slow_but(
        [
            (lose_a_row, "the target is neither what it was nor the new one"),
            (close_the_door, "unreachable"),
            (leave_a_database, f"the next reset-db leaves {TARGET}, {CLEAN}, {TARGET}__other"),
            (cut_a_dump, "is not what its manifest says"),
            (lose_everything_old, "the rows of the target are nowhere"),
            (leave_a_child, "still alive"),
            (partial(say, f"{TARGET} is as it was"), "the run says that the target is"),
            (partial(say, "Traceback"), "a traceback"),
        ],
        lambda case: case[0] is lose_a_row,
    ),
)
def test_a_broken_promise_is_found(
    made: World, monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[Scene], None], words: str
) -> None:
    """No check is there for show: each one finds what it is for."""
    monkeypatch.setattr(checks, "_GRACE_S", 5)
    fault = Fault(
        name="sabotage",
        codes=frozenset({0}),
        tasks=(RESET,),
        strike=partial(at_the_end, sabotage),
    )
    trial = campaign.perform(made, 1, fault)
    for child in abandoned:
        child.kill()
        child.wait()
    abandoned.clear()
    assert any(words in each for each in trial.broken), trial.broken
    execute(made, "ALTER DATABASE {} ALLOW_CONNECTIONS true", TARGET)


@pytest.mark.slow
def test_a_wrong_exit_code_and_a_wrong_outcome_are_found(made: World) -> None:
    """Also where everything else is well."""
    fault = Fault(name="none", codes=frozenset({3}), tasks=(RESET,), must="before")
    assert campaign.perform(made, 1, fault).broken == [
        "exit code 0, documented are [3]",
        "the target has to be the one of before",
    ]


@pytest.mark.slow
def test_a_run_that_hangs_is_found(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and the campaign goes on."""
    monkeypatch.setattr(campaign, "_HANGS_S", 1)
    fault = Fault(name="hang", codes=frozenset({0}), strike=partial(send, signal.SIGSTOP))
    assert "the run hung" in campaign.perform(made, 3, fault).broken


@pytest.mark.slow
def test_the_program_fails_with_the_seed_and_the_log(
    made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One broken promise is enough; what is needed to repeat the trial is printed."""
    kinds = (
        Fault(name="none", codes=frozenset({0}), tasks=(RESET,)),
        Fault(name="wrong", codes=frozenset({3}), tasks=(RESET,)),
    )
    monkeypatch.setattr(campaign, "FAULTS", kinds)
    monkeypatch.setattr(making, "opened", lambda: nullcontext(made))
    assert program.run(seed=6, trials=1) == 0
    assert program.run(seed=6, trials=2) == 1
    said = capsys.readouterr().out
    assert "seed 7 · wrong · BROKEN: exit code 0, documented are [3]" in said
    assert "the next reset-db:" in said
    assert "nox -s faults -- --trials 1 --seed 7" in said


def test_a_fault_that_never_comes_in_time_is_told() -> None:
    """A campaign that has struck at nothing has shown nothing."""
    trials = [campaign.Trial(seed, FAULTS[0]) for seed in range(5)]
    assert summary.never_in_time(trials) == [FAULTS[0].name]
    assert summary.never_in_time(trials[1:]) == []
    trials[0].is_hit = True
    assert summary.never_in_time(trials) == []


def test_a_line_of_a_step() -> None:
    """A step boundary is read from the plain lines as they come."""
    assert Line(0.1, " ✔ backup    a.dump · 1 kB").step == "backup"
    assert Line(0.1, " done in 1.4 s").step is None
