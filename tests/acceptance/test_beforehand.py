"""What can be known at once is said before a backup is taken; and what stands, after a Ctrl-C."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from backset.backups.store import BackupStore
from tests.acceptance.test_signals import SLOW_MIGRATION
from tests.incident.project import CLEAN_REVISION
from tests.marks import slow_but
from tests.states import rebuilt

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.project import Project

SEED = 'seed = ["python", "scripts/add_mock_task_data.py"]'


def no_program(project: Project) -> str:
    """A seed command that is nowhere on the path."""
    project.configure(SEED, 'seed = ["no-such-program", "1"]')
    return "no-such-program cannot be started: No such file or directory"


def no_program_there(project: Project) -> str:
    """One that is named by its path."""
    project.configure(SEED, 'seed = ["./scripts/none.sh"]')
    return "./scripts/none.sh cannot be started: No such file or directory"


def no_script(project: Project) -> str:
    """A plain Python, whose script is not there."""
    project.configure("add_mock_task_data.py", "none.py")
    return "python scripts/none.py cannot be run: there is no scripts/none.py"


def no_command(project: Project) -> str:
    """A command of the project's own that migrates."""
    project.configure("[tool.backset]\n", '[tool.backset]\nupgrade = ["./manage", "migrate"]\n')
    return "./manage cannot be started: No such file or directory"


def no_python(project: Project) -> str:
    """An env.py that is no Python."""
    with (project.folder / "alembic/env.py").open("a") as file:
        file.write("\nthis is no Python\n")
    return "SyntaxError: invalid syntax (env.py, line "


def no_module(project: Project) -> str:
    """An env.py, one of whose imports is missing."""
    path = project.folder / "alembic/env.py"
    path.write_text(path.read_text().replace("from app.models", "import no_such\nfrom app.models"))
    return "No module named 'no_such'"


BROKEN = [no_program, no_program_there, no_script, no_command, no_python, no_module]


@pytest.mark.parametrize("break_it", slow_but(BROKEN, lambda each: each in {no_script, no_module}))
def test_what_is_not_there_is_said_before_the_backup(
    project: Project, break_it: Callable[[Project], str]
) -> None:
    """Nothing is dumped for a run that cannot come to its end, and no other step is done.

    What Alembic's process finds may come when the database beside the target has been made.
    """
    rebuilt(project)
    words = break_it(project)
    if break_it not in {no_python, no_module}:
        planned = project.invoke("reset-db", "--plan")
        assert (planned.returncode, words in planned.stderr) == (4, True)
    done = project.invoke("reset-db", "--cold")
    assert done.returncode == 4
    assert words in done.stderr
    assert "is as it was" in done.stderr
    assert done.stdout.count("✔") == done.stdout.count("✔ reset ")
    assert BackupStore.of(project.folder / "backups", project.database).list() == []


def test_a_program_of_the_project_is_found_where_it_will_be(project: Project) -> None:
    """Beside its interpreter, by a path from its root, and on a PATH that has relative folders."""
    rebuilt(project)
    program = project.folder / "bin/seed-it"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ntrue\n")
    program.chmod(0o755)
    for command in ('["bin/seed-it"]', '["seed-it"]'):
        project.configure(SEED, f"seed = {command}\n[tool.backset.env]\nPATH = 'bin:/usr/bin:/bin'")
        done = project.invoke("seed")
        assert "cannot be started" not in done.stderr
        project.configure(f"seed = {command}\n[tool.backset.env]\nPATH = 'bin:/usr/bin:/bin'", SEED)


OTHER = "from sqlalchemy import MetaData\nmetadata = MetaData()\n"
CONNECTS = """
import os
from sqlalchemy import Column, Integer, Table, create_engine
from app.other import metadata
Table("x", metadata, Column("id", Integer))
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
create_engine(url).connect().close()
"""


def test_models_that_connect_when_they_are_imported(project: Project) -> None:
    """They are looked at as well, and loaded anew after that: a table cannot be defined twice."""
    rebuilt(project)
    (project.folder / "app/other.py").write_text(OTHER)
    (project.folder / "app/shop.py").write_text(CONNECTS)
    path = project.folder / "alembic/env.py"
    path.write_text(path.read_text().replace("from app.models", "import app.shop\nfrom app.models"))
    done = project.invoke("reset-db", "--cold")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130)])
def test_an_interrupted_upgrade_says_where_the_database_is(
    project: Project, signum: signal.Signals, code: int
) -> None:
    """It works on the live database: what its migrations had committed stays, and is named."""
    rebuilt(project)
    versions = project.folder / "alembic/versions"
    (versions / "c0ffee00000a_slow.py").write_text(SLOW_MIGRATION)
    process = project.start("upgrade")
    asleep = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND "
    deadline = time.monotonic() + 60
    while not project.query(f"{asleep} state = 'active' AND query ~ '^SELECT pg_sleep'"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    stands = f"{project.database} is at {CLEAN_REVISION}, as it was"
    assert errors.splitlines()[-1].endswith(f"interrupted by {signum.name} · {stands}")


def test_a_failed_upgrade_says_where_the_database_is(project: Project) -> None:
    """Of two migrations, each in a transaction of its own, the first has been committed."""
    rebuilt(project)
    versions = project.folder / "alembic/versions"
    for name, down, body in (("a1", CLEAN_REVISION, "pass"), ("a2", "a1", "1 / 0")):
        (versions / f"{name}_x.py").write_text(
            f"revision, down_revision = {name!r}, {down!r}\ndef upgrade(): {body}\n"
        )
    env = project.folder / "alembic/env.py"
    text = env.read_text()
    assert "context.configure(" in text
    env.write_text(
        text.replace("context.configure(", "context.configure(transaction_per_migration=True, ")
    )
    done = project.invoke("upgrade")
    assert done.returncode == 4
    assert f"{project.database} is at a1; it was at {CLEAN_REVISION}" in done.stderr


@pytest.mark.slow
def test_a_failed_seed_says_what_stays(project: Project) -> None:
    """On the live database, what it had committed; beside it nothing of that is left to say."""
    rebuilt(project)
    project.configure("add_mock_task_data.py", "fails.py")
    (project.folder / "scripts/fails.py").write_text("raise SystemExit('no')\n")
    stays = f"{project.database} keeps what the seed command had committed"
    done = project.invoke("seed")
    assert (done.returncode, stays in done.stderr) == (4, True)
    done = project.invoke("reset-db")
    assert (done.returncode, "committed" in done.stderr) == (4, False)
