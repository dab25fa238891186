"""What is tried on a cluster of Patroni: the chain, what Patroni does under it, and its slots."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from tests.faults.run import Moment, Run
from tests.incident.fingerprint import fingerprint
from tests.incident.project import lay_down
from tests.patroni.application import rows
from tests.patroni.cluster import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.patroni.application import Application
    from tests.patroni.cluster import Member, Patroni

REPOSITORY = Path(__file__).parents[2]
DATABASE, ROLE = "aideator", "developer"
RESET = "reset-db --cold"
_PATIENCE_S = 150.0
_STEP_S = 4  # of a migration, and of the seed command
# In the migrations, in the seed command, in the swap: after the line of a step, at most so late.
_MOMENTS = {"reset": _STEP_S, "verify": _STEP_S, "seed": 0.1}
_SLOWLY = f"""

_at_once = upgrade


def upgrade() -> None:
    op.execute("SELECT pg_sleep({_STEP_S})")
    _at_once()
"""
_TOLD_S = 5.0  # until the primary has written to etcd how far it is
_NOBODY_S = 40.0  # twice the time after which a primary counts as gone


class Project:
    """A project whose database is the cluster's, by the names of all its servers."""

    def __init__(self, patroni: Patroni, folder: Path) -> None:
        self.patroni = patroni
        self.url = patroni.url(ROLE, DATABASE)
        self._folder = folder
        self._number = 0
        self._accounted: set[str] = set()
        self.built: Mapping[str, object] = {}
        (folder / "project").mkdir()
        lay_down(folder / "project", REPOSITORY)
        _slow_down(folder / "project")
        with closing(self.superuser()) as session:
            role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
            session.execute(role.format(sql.Identifier(ROLE), sql.Literal(PASSWORD)))
            session.execute(f"GRANT pg_monitor TO {ROLE}".encode())
            session.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}".encode())

    def superuser(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Return a session on the primary."""
        url = self.patroni.url_of(self.patroni.await_leader(), database)
        return psycopg.connect(url, autocommit=True)

    def start(self, task: str) -> Run:
        """Start a task."""
        self._number += 1
        env = {**os.environ, "DATABASE_URL": self.url}
        env |= {"BACKSET_BACKUPS": str(self._folder / "backups"), "BACKSET_KEEP": "3"}
        argv = [sys.executable, "-m", "invoke", *task.split()]
        cwd, mark = self._folder / "project", f"patroni {self._number}"
        return Run.start(argv, cwd=cwd, env=env, mark=mark)

    def finish(self, task: str) -> Run:
        """Run a task to its end."""
        run = self.start(task)
        run.wait(_PATIENCE_S)
        return run

    def consented(self, task: str) -> str:
        """Return a task with the consent that a server with standbys wants."""
        plan = self.finish(f"{task} --plan --json")
        told = json.loads("\n".join(each.text for each in plan.lines))
        return f"{task} --confirm {told['confirm']}" if told.get("confirm") else task

    def content(self) -> Mapping[str, object]:
        """Return what the target holds, but for the table that the application writes to."""
        url = self.patroni.url_of(self.patroni.await_leader(), DATABASE)
        return {k: v for k, v in fingerprint(url).items() if k != "public.users"}

    def oid(self) -> int:
        """Return which database the target is."""
        with closing(self.superuser()) as session:
            query = "SELECT oid FROM pg_database WHERE datname = %s"
            (found,) = session.execute(query, [DATABASE]).fetchone() or (0,)
        return int(found)

    def missing(self, acknowledged: Iterable[str]) -> int:
        """Return how many rows are neither in the target nor in previous, since this was asked."""
        leader = self.patroni.await_leader()
        names = (DATABASE, f"{DATABASE}__previous")
        new = {*acknowledged} - self._accounted
        self._accounted |= new
        return len(new - rows(self.patroni.url_of(leader, each) for each in names))


def _slow_down(project: Path) -> None:
    """Let the migrations and the seed command take as long as those of a larger project."""
    (migration,) = (project / "alembic/versions").glob("*.py")
    with migration.open("a") as file:
        file.write(_SLOWLY)
    with (project / "scripts/add_mock_task_data.py").open("a") as file:
        file.write(f"    import time\n    time.sleep({_STEP_S})\n")


@dataclass
class Trial:
    """What came of one trial."""

    kind: str
    moment: str
    is_in_time: bool
    code: int = 0
    stood: str = ""
    run_s: float = 0.0
    outage_s: float = 0.0
    lost: int = 0
    next_s: float = 0.0
    broken: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return one line."""
        outcome = "BROKEN: " + "; ".join(self.broken) if self.broken else self.stood
        moment = self.moment if self.is_in_time else f"{self.moment}, too late"
        return (
            f"{self.kind}, {moment} · exit code {self.code} after {self.run_s:.1f} s · "
            f"{outcome} · {self.lost} rows lost · writes stopped for {self.outage_s:.1f} s · "
            f"the next reset-db: {self.next_s:.1f} s"
        )


def switch_over(patroni: Patroni, _leader: Member) -> None:
    """Let Patroni switch over in good order."""
    patroni.switch_over()


def kill(patroni: Patroni, leader: Member) -> None:
    """Let the machine of the primary die."""
    patroni.kill(leader)


def halt(patroni: Patroni, leader: Member) -> None:
    """Let the machine of the primary stand still, until another one leads; then it dies."""
    patroni.halt(leader)
    patroni.await_leader(leader)
    patroni.kill(leader)


KINDS: tuple[tuple[str, Callable[[Patroni, Member], None], bool], ...] = (
    ("switchover", switch_over, True),
    ("failover", kill, True),
    ("the primary stands still", halt, True),
    ("failover, asynchronous", kill, False),
)


def perform(project: Project, application: Application, number: int) -> Trial:
    """Let Patroni do something under a run; the same number means the same, as far as time does."""
    patroni, rng = project.patroni, Random(number)
    kind, does, is_synchronous = KINDS[number % len(KINDS)]
    patroni.configure(synchronous_mode=is_synchronous)
    application.await_row()
    application.pause()  # its rows are among the facts that the consent is about
    content, oid = project.content(), project.oid()
    step = rng.choice([*_MOMENTS])
    moment = Moment(step, rng.uniform(0, _MOMENTS[step]))
    run = project.start(project.consented(RESET))
    run.wait_until(Moment("backup", 0))
    application.go_on()
    run.wait_until(moment)
    leader = patroni.await_leader()
    trial = Trial(kind, str(moment), is_in_time=not run.is_over)
    does(patroni, leader)
    run.wait(_PATIENCE_S)
    patroni.await_leader(leader)
    application.await_row()
    trial.outage_s = application.longest_s
    application.pause()
    trial.code, trial.run_s = run.code, run.seconds
    trial.said = [*(each.text for each in run.lines), *run.error.splitlines()]
    patroni.restore(leader)
    trial.broken += _ending(run)
    trial.broken += _stands(project, trial, (oid, content), is_synchronous=is_synchronous)
    trial.lost = project.missing(application.acknowledged)
    if trial.lost and is_synchronous:
        trial.broken.append("a row whose COMMIT came back is nowhere")
    following = project.finish(project.consented(RESET))
    trial.next_s = following.seconds
    trial.broken += [] if following.code == 0 else [f"the next reset-db: {following.error}"]
    application.go_on()
    return trial


def _ending(run: Run) -> Iterator[str]:
    if run.is_hung:
        yield "the run hung"
    elif run.code not in {0, 4}:
        yield f"exit code {run.code}"


def _stands(
    project: Project,
    trial: Trial,
    before: tuple[int, Mapping[str, object]],
    *,
    is_synchronous: bool,
) -> Iterator[str]:
    """Note which database the target is, and yield what is wrong with that, or was said of it."""
    is_old = project.oid() == before[0]
    trial.stood = "the old database" if is_old else "the new database"
    wanted = before[1] if is_old else project.built
    if project.content() != wanted:
        yield f"{trial.stood} is not whole"
    said = "\n".join(trial.said)
    if is_synchronous and is_old and (" done in" in said or "has been swapped already" in said):
        yield "the run says that the target is the new database"
    if not is_old and f"{DATABASE} is as it was" in said:
        yield "the run says that the target is the old database"


def chain(project: Project) -> Iterator[str]:
    """Run the tasks one after the other, undisturbed; yield each with its time."""
    for task in ("reset-db", RESET, "undo", "reset-db --standby", "reset-db --in-place"):
        run = project.finish(project.consented(task))
        if run.code != 0:
            raise AssertionError(f"{task} ends with {run.code}: {run.error}")
        yield f"{task}: {run.seconds:.1f} s"
    project.built = project.content()


def slots(project: Project) -> Iterator[str]:
    """Hold what is promised of slots that Patroni keeps, and of those that it drops."""
    patroni = project.patroni
    with closing(project.superuser(DATABASE)) as session:
        session.execute("SELECT pg_create_logical_replication_slot('by_hand', 'pgoutput')")
    yield _refused(project, "by_hand")
    leader = patroni.await_leader()
    patroni.switch_over()
    patroni.await_leader(leader)
    patroni.await_whole()
    run = project.finish(project.consented(RESET))
    assert run.code == 0, run.error
    yield "a slot that was made by hand is gone after a switchover, and reset-db goes on"
    slot = {"type": "logical", "database": DATABASE, "plugin": "pgoutput"}
    patroni.configure(slots={"permanent": slot})
    yield _refused(project, "permanent")
    patroni.configure(slots={"permanent": None})
    run = project.finish(project.consented(RESET))
    assert run.code == 0, run.error
    yield "a slot that is taken out of Patroni's settings is gone, and reset-db goes on"


def _refused(project: Project, name: str) -> str:
    run = project.finish(RESET)
    words = f"{DATABASE} has the logical replication slot {name}"
    assert run.code == 3, run.error
    assert words in run.error, run.error
    return f"exit code 3: {words}"


def lag(project: Project) -> Iterator[str]:
    """Hold that nobody is promoted who lacks most of a rebuild: maximum_lag_on_failover."""
    patroni = project.patroni
    patroni.configure(synchronous_mode=False)
    leader = patroni.await_leader()
    others = [each for each in patroni.members if each is not leader]
    for each in others:
        patroni.kill(each)
    run = project.finish(RESET + " --yes")
    if run.code == 3:
        run = project.finish(project.consented(RESET))
    assert run.code == 0, run.error
    oid = project.oid()
    time.sleep(_TOLD_S)
    patroni.kill(leader)
    for each in others:
        patroni.begin(each)
    until = time.monotonic() + _NOBODY_S
    while time.monotonic() < until:
        assert patroni.leader() is None, "a standby that lacks the rebuild was promoted"
        time.sleep(1)
    yield f"no standby without the rebuild was promoted in {_NOBODY_S:.0f} s"
    patroni.begin(leader)
    patroni.await_whole()
    assert patroni.leader() is leader
    assert project.oid() == oid
    yield "the old primary leads again when it is back, with the new database"
