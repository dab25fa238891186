"""Measure `invoke reset-db` against the runbook by hand, and `invoke --list` against an empty one.

It runs in a copy of this project with a server of its own, and never looks at another database.
No time is a failure, but a command that fails is, and so is a database without the mock rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from backset.servers import embedded, programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("pyproject.toml", "tasks.py", "alembic", "app", "scripts")
PACKAGES = ("backset", "invoke", "alembic", "sqlalchemy", "psycopg")
PROGRAMS = (sysconfig.get_path("scripts"), str(programs.embedded_folder() / "bin"))
FOREIGN = ("DATABASE_URL", "BACKSET_", "INVOKE_", "PG")  # what could lead to another server
ENV = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
ENV["PATH"] = os.pathsep.join([*PROGRAMS, ENV.get("PATH", os.defpath)])

EMPTY = 'from invoke import task\n\n\n@task\ndef nothing(c):\n    """Do nothing."""\n'
SEED = ["python", "scripts/add_mock_task_data.py"]
TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public';"
REVISION = "SELECT * FROM alembic_version;"
STRAY = "INSERT INTO users (id, email) VALUES ('stray', 'stray@example.com');"
MOCK_ROWS = {
    "SELECT count(*) FROM users;": "1",
    "SELECT count(*) FROM tasks;": "5",
    "SELECT count(*) FROM task_outputs;": "30",
}
NOTE = """
{rounds} rounds in turn, after one to warm up, in a copy of the project with a server of its own.
By hand: {by_hand} processes one after the other, with nobody who types, reads or thinks.
One empty task: the emptiest tasks.py, since Invoke refuses one without a task.
{platform}, {cores} cores, load {load_before:.1f} at the start."""


@dataclass(frozen=True, slots=True)
class Side:
    """Commands, each a whole process, in a folder; `url` is the database that they rebuild."""

    name: str
    folder: Path
    commands: list[list[str]]
    url: str = ""

    def run(self, *argv: str) -> str:
        """Run one command; return what it printed. Exits loudly if it fails."""
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=ENV if argv[0] == "invoke" else {**ENV, "DATABASE_URL": self.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stdout + done.stderr
            raise SystemExit(f"{shlex.join(argv)} ended with {done.returncode}\n{said}")
        return done.stdout.strip()

    def measure(self) -> float:
        """Return the seconds of a round; it must remove a stray row and leave the mock rows."""
        if self.url:
            self.run(*psql(self.url, STRAY))
        began = perf_counter()
        for command in self.commands:
            self.run(*command)
        seconds = perf_counter() - began
        for query, expected in MOCK_ROWS.items() if self.url else ():
            if (found := self.run(*psql(self.url, query), "-At")) != expected:
                raise SystemExit(f"{self.name}: {query} gives {found}, not {expected}")
        return seconds


def psql(url: str, command: str) -> list[str]:
    """Return psql as the runbook types it, without the developer's own psqlrc."""
    return ["psql", "-X", "-d", url, "-c", command]


def runbook(url: str) -> list[list[str]]:
    """Return the commands of the runbook's steps 1 to 8, and the dump that it advises."""
    return [
        ["alembic", "current"],
        ["alembic", "history"],
        psql(url, TABLES),
        psql(url, REVISION),
        ["pg_dump", "-Fc", "-d", url, "-f", "by_hand.dump"],
        psql(url, "DROP TABLE IF EXISTS alembic_version CASCADE;"),
        psql(url, "DROP TABLE IF EXISTS users, tasks, task_outputs, runs CASCADE;"),
        psql(url, TABLES),
        ["alembic", "upgrade", "head"],
        psql(url, TABLES),
        psql(url, REVISION),
        *(psql(url, f"\\d {table};") for table in ("users", "tasks", "task_outputs")),
        SEED,
        *(psql(url, query) for query in MOCK_ROWS),
    ]


@contextmanager
def playground() -> Iterator[tuple[Path, Callable[[str], str]]]:
    """Give a copy of the project, and the URLs of its server; both are gone afterwards."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else nothing would be tidied up
    with TemporaryDirectory(prefix="backset-bench-", dir="/tmp") as name:  # short, for the socket
        project = Path(name)
        project.chmod(0o755)  # root's server runs as another account
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            copy(ROOT / part, project / part)
        cluster = embedded.project_cluster(project)
        try:
            cluster.start()
            yield project, cluster.url
        finally:
            cluster.stop()


def rebuilds(project: Path, url: Callable[[str], str]) -> list[Side]:
    """Return reset-db and the runbook, each with a database of its own that is at head."""
    tool = Side("invoke reset-db", project, [["invoke", "reset-db"]], url("aideator"))
    hand = Side("the runbook by hand", project, runbook(url("by_hand")), url("by_hand"))
    create = psql(url("postgres"), "CREATE DATABASE by_hand;")
    for command in (*tool.commands, create, ["alembic", "upgrade", "head"], SEED):
        hand.run(*command)
    return [tool, hand]


def listings(project: Path) -> list[Side]:
    """Return `invoke --list` of the project, and of one whose tasks.py has a single empty task."""
    (project / "empty").mkdir()
    (project / "empty" / "tasks.py").write_text(EMPTY, encoding="utf-8")
    folders = {"invoke --list": project, "invoke --list, one empty task": project / "empty"}
    return [Side(name, folder, [["invoke", "--list"]]) for name, folder in folders.items()]


def compare(sides: list[Side], goal: float, rounds: int) -> dict[str, Any]:
    """Measure both sides in turn: what each took, and the ratio of the medians."""
    measured = [[side.measure() for side in sides] for _ in range(rounds + 1)][1:]
    seconds = {side.name: [each[i] for each in measured] for i, side in enumerate(sides)}
    first, second = map(median, seconds.values())
    return {"seconds": seconds, "ratio": first / second, "goal": goal}


def show(found: dict[str, Any]) -> None:
    """Print a table, and what was measured."""
    print(f"{'':32}{'median':>9}{'min–max':>18}{'ratio':>8}{'goal':>8}")
    for each in found["comparisons"]:
        end = f"{each['ratio']:>8.2f}{'≤ ' + str(each['goal']):>8}"
        for name, seconds in each["seconds"].items():
            spread = f"{min(seconds):.3f}–{max(seconds):.3f} s"
            print(f"{name:32}{median(seconds):>7.3f} s{spread:>18}{end}")
            end = ""
    print(NOTE.format(by_hand=len(runbook("")), **found))
    print(", ".join(f"{name} {number}" for name, number in found["versions"].items()))


def main() -> None:
    """Measure, print, and write JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same as JSON")
    given = parser.parse_args()
    found: dict[str, Any] = {
        "versions": {name: version(name) for name in PACKAGES}
        | {"PostgreSQL": str(programs.EMBEDDED_MAJOR), "Python": platform.python_version()},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "rounds": max(1, given.rounds),
    }
    with playground() as (project, url):
        pairs = [(rebuilds(project, url), 0.5), (listings(project), 1.3)]
        found["comparisons"] = [compare(sides, goal, found["rounds"]) for sides, goal in pairs]
    show(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
