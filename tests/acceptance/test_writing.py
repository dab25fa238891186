"""An application goes on writing while its database is rebuilt: no acknowledged row is lost.

The application counts by itself what it was told to be committed. Each such row is afterwards in
the target, in the database that `undo` brings back, or in a backup.
"""

from __future__ import annotations

import random
import secrets
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.backups.store import BackupStore
from backset.connections.target import Target
from backset.servers.programs import Programs
from tests.clusters import running
from tests.marks import slow_but
from tests.project import Project, laid_down, migrating

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backset.servers.cluster import Cluster

TABLE = "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text UNIQUE)"
SEED = """
import os, sys, time, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as session:
    session.execute("INSERT INTO note (body) VALUES ('seeded')")
time.sleep({pause_s})
sys.exit({status})
"""
WAYS = (
    "reset-db",
    "reset-db --carry --seed",
    "reset-db --in-place",
    "reset-db --carry --seed --in-place",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of this file's own: whole roles are at stake."""
    with running(18) as cluster:
        yield cluster


@dataclass
class Application:
    """It connects, commits rows, and connects again when it is told that it cannot.

    acknowledged: the rows whose COMMIT came back.
    """

    url: str
    name: str
    pause_s: float
    session_rows: int
    over: threading.Event = field(default_factory=threading.Event)
    acknowledged: list[str] = field(default_factory=list)

    def work(self) -> None:
        """Write until it is over."""
        number = 0
        while not self.over.is_set():
            try:
                with closing(psycopg.connect(self.url, autocommit=True)) as session:
                    for _ in range(self.session_rows):
                        number += 1
                        row = f"{self.name}-{number}."
                        session.execute("INSERT INTO note (body) VALUES (%s)", [row])
                        self.acknowledged.append(row)
                        if self.over.wait(self.pause_s):
                            break
            except psycopg.Error:
                self.over.wait(0.002)


@contextmanager
def at_work(applications: list[Application]) -> Iterator[None]:
    """Let applications write for as long as the block lasts, and a moment longer."""
    threads = [threading.Thread(target=each.work) for each in applications]
    for each in threads:
        each.start()
    try:
        while not all(each.acknowledged for each in applications):
            time.sleep(0.01)
        yield
        time.sleep(0.2)
    finally:
        for application in applications:
            application.over.set()
        for each in threads:
            each.join()


def in_database(url: str) -> set[str]:
    """Return the rows that stand in a database, if it is there."""
    try:
        with psycopg.connect(url) as session:
            return {body for (body,) in session.execute("SELECT body FROM note")}
    except psycopg.OperationalError:
        return set()


def in_backups(project: Project) -> set[str]:
    """Return the rows that stand in backups, as pg_restore reads them."""
    programs = Programs(project.env, project.folder)
    found: set[str] = set()
    for each in BackupStore.of(project.folder / "backups", project.database).list():
        pg_restore = programs.find("pg_restore", 18)
        command = [str(pg_restore), "--data-only", "--table=note", "--file=-", str(each.dump)]
        found |= set(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        )
    return found


@dataclass(frozen=True)
class Trial:
    """What happens in a trial: the task, the step that fails, if one does, and how it migrates."""

    way: str
    fails_in: str
    by_command: bool

    @classmethod
    def of(cls, number: int) -> Trial:
        """Return the trial of a number; 24 of them are all that there are."""
        way, number = WAYS[number % len(WAYS)], number // len(WAYS)
        return cls(way, ("", "seed", "upgrade")[number % 3], by_command=number // 3 % 2 == 1)

    def codes(self) -> set[int]:
        """Return the exit codes that are right."""
        is_carried, is_in_place = "--carry" in self.way, "--in-place" in self.way
        failed = {5} if is_in_place else {4}
        if self.fails_in:
            return failed
        # Keys that were given twice are met by a carry, when nobody could be kept out.
        return {0} | failed if is_carried and (self.by_command or not is_in_place) else {0}


def prepared(project: Project, trial: Trial, chance: random.Random) -> None:
    """Give a project a database with rows, and then scripts that take their time, or fail."""
    assert project.invoke("upgrade").returncode == 0
    with psycopg.connect(project.url) as session:
        session.execute("INSERT INTO note (body) SELECT 'old-' || i FROM generate_series(1, 50) i")
    first, second = chance.uniform(0, 0.3), chance.uniform(0, 0.3)
    failing = "; SELECT 1 / 0" if trial.fails_in == "upgrade" else ""
    migrating(project, f"SELECT pg_sleep({first}); {TABLE}; SELECT pg_sleep({second}){failing}")
    status = 1 if trial.fails_in == "seed" else 0
    (project.folder / "seed.py").write_text(
        SEED.format(pause_s=chance.uniform(0, 0.5), status=status)
    )
    text = '[tool.backset]\nkeep = 50\nseed = ["python", "seed.py"]\n'
    if trial.by_command:
        text += 'upgrade = ["python", "-m", "alembic", "upgrade", "head"]\n'
    (project.folder / "pyproject.toml").write_text(text)


def lost(project: Project, applications: list[Application], trial: Trial) -> Mapping[str, int]:
    """Return how many acknowledged rows are nowhere, for each application that lost some."""
    there = in_database(project.url)
    if "--carry" not in trial.way or trial.fails_in or "--in-place" in trial.way:
        there |= in_database(Target.parse(project.url).named(f"{project.database}__previous").url)
        there |= in_backups(project)
    gone = {each.name: len(set(each.acknowledged) - there) for each in applications}
    return {name: count for name, count in gone.items() if count}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Number the trials; 24 are one of each kind, and --trials asks for more."""
    if "number" in metafunc.fixturenames:
        trials = range(metafunc.config.getoption("trials"))
        metafunc.parametrize("number", slow_but(trials, lambda each: each in {3, 6}))


def test_no_acknowledged_row_is_lost(server: Cluster, tmp_path: Path, number: int) -> None:
    """By each strategy, whether it succeeds or fails in a migration or in the seed command."""
    chance = random.Random(number)  # noqa: S311  (a trial that can be made again)
    trial = Trial.of(number)
    name = f"w{secrets.token_hex(4)}"
    may = "CREATEDB" if "--in-place" not in trial.way else ""
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE ROLE {name} LOGIN {may}".encode())
        session.execute(f"CREATE ROLE {name}_shop LOGIN".encode())
        session.execute(f"CREATE DATABASE {name} OWNER {name}".encode())
        if "--in-place" not in trial.way:  # else the swap is refused while the shop is there
            session.execute(f"GRANT pg_signal_backend TO {name}".encode())
    with psycopg.connect(server.url(name, name)) as session:
        session.execute(
            f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT ON TABLES TO {name}_shop".encode()
        )
    project = migrating(laid_down(tmp_path / "p", "objects", server.url(name, name)), TABLE)
    prepared(project, trial, chance)
    applications = [
        Application(url, who, chance.uniform(0.001, 0.02), chance.randrange(1, 40))
        for url, who in ((project.url, "own"), (server.url(name, f"{name}_shop"), "shop"))
    ]
    with at_work(applications):
        done = project.run(*trial.way.split())
    assert done.returncode in trial.codes(), f"{trial}: {done.stdout}{done.stderr}"
    assert lost(project, applications, trial) == {}, f"{trial}: {done.stdout}{done.stderr}"
    assert min(len(each.acknowledged) for each in applications) > 1
    with psycopg.connect(project.url, autocommit=True) as session:  # the login is as it was
        session.execute("INSERT INTO note (body) VALUES ('afterwards')")
