"""Thirty deaths of processes at work on a fleet: nothing is lost, done twice or left half done."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.fleets import add_revision, describe, populate, revisions

if TYPE_CHECKING:
    import subprocess

    from tests.project import Project

_DEATHS = 10  # of each of the three
_ONE_ROW = "op.execute('CREATE TABLE {0} AS SELECT 1 AS id FROM pg_sleep(0.4)')"
_USERS = "SELECT count(*) FROM users"


@pytest.fixture
def names(project: Project) -> list[str]:
    """Four databases with rows, which a pattern names; every backup stays."""
    done = project.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    found = populate(project, 4)
    project.configure("[tool.backset]\n", "[tool.backset]\nkeep = 1000\n")
    describe(project, f'glob = "{project.database}_t*"')
    return found


def killed(project: Project, action: str, delay_s: float) -> int:
    """Run a task on the fleet, and kill the first process at work after a while; 1 if it died."""
    with project.start("fleet", action) as run:
        hand = _first_hand(run)
        time.sleep(delay_s)
        died = 0
        if hand is not None and hand.is_running():
            hand.kill()
            died = 1
        out, err = run.communicate(timeout=110)
    assert run.returncode == 0, out + err
    return died


def _first_hand(run: subprocess.Popen[str]) -> psutil.Process | None:
    while run.poll() is None:
        with suppress(psutil.Error):
            for each in psutil.Process(run.pid).children():
                if "backset.fleet" in each.cmdline():
                    return each
        time.sleep(0.02)
    return None


def _delay_s(number: int) -> float:
    """Return a moment: from the first one on, and over most of what a run takes."""
    return number * 0.37 % 3


@pytest.mark.slow
def test_upgrades_outlive_their_processes(project: Project, names: list[str]) -> None:
    """Each revision has run once in each database, and every row is there."""
    deaths, number = 0, count(1)
    before = [project.query(_USERS, each) for each in names]
    while deaths < _DEATHS:
        name = f"a{next(number):03}"
        revision = add_revision(project, name, _ONE_ROW.format(name))
        deaths += killed(project, "upgrade", _delay_s(deaths))
        assert set(revisions(project, names).values()) == {revision}
        rows = [project.query(f"SELECT count(*) FROM {revision}", each) for each in names]
        assert rows == [[(1,)]] * len(names)
        assert [project.query(_USERS, each) for each in names] == before


@pytest.mark.slow
def test_rebuilds_outlive_their_processes(project: Project, names: list[str]) -> None:
    """Each database was replaced once: the one from before is `__previous`, with its rows."""
    deaths, number = 0, count(1)
    oids = "SELECT oid FROM pg_database WHERE datname = '{}'"
    while deaths < _DEATHS:
        mark = f"SELECT {next(number)}"
        for each in names:
            project.query(f"CREATE TABLE mark AS {mark}", each)
        before = [project.query(oids.format(each), each) for each in names]
        deaths += killed(project, "reset-db", _delay_s(deaths))
        kept = [f"{each}__previous" for each in names]
        assert [project.query(oids.format(each), each) for each in kept] == before
        assert all(project.query("TABLE mark", each) == project.query(mark, each) for each in kept)
        assert all(project.query(_USERS, each) == [(1,)] for each in names)


@pytest.mark.slow
def test_backups_outlive_their_processes(project: Project, names: list[str]) -> None:
    """Each database has one backup more, which is whole."""
    deaths, number = 0, count(1)
    while deaths < _DEATHS:
        deaths += killed(project, "backup", _delay_s(deaths))
        wanted = next(number)
        folders = [project.folder / "backups" / each for each in names]
        assert [len([*each.glob("*.dump*")]) for each in folders] == [wanted] * len(names)
        assert not [each for folder in folders for each in folder.glob("*.partial")]
