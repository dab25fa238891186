"""`backset check`: the migrations tried on a server that nobody else has; a hook for pre-commit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.clusters import free_port
from tests.marks import slow_but
from tests.project import REPOSITORY, Project

if TYPE_CHECKING:
    from collections.abc import Callable

EMPTY = "revision, down_revision = {!r}, {!r}\ndef upgrade(): pass\ndef downgrade(): pass\n"


@pytest.fixture
def alone(project: Project) -> Project:
    """A project whose own server is not there."""
    project.env["DATABASE_URL"] = f"postgresql://x@127.0.0.1:{free_port()}/x"
    return project


def test_good_migrations(alone: Project) -> None:
    """They run, and the models agree; no server of the project is needed, and none is made."""
    done = alone.invoke("check", "--json")
    assert done.returncode == 0, done.stdout
    upgrade, verify = json.loads(done.stdout)["steps"]
    (chain,) = upgrade["chains"]
    assert (chain["from"], chain["to"]) == ([], ["0b228e9fec0b"])
    assert re.fullmatch(
        r"4 tables, models and database agree, \d\d objects compared with create_all\(\)",
        verify["text"],
    )
    assert not (alone.folder / ".backset").exists()
    assert "would build the chain on a throw-away" in alone.invoke("--dry", "check").stdout


def two_heads(project: Project) -> None:
    """Add a branch."""
    for name in ("aaaa", "bbbb"):
        path = project.folder / f"alembic/versions/{name}.py"
        path.write_text(EMPTY.format(name, "0b228e9fec0b"))


def missing_file(project: Project) -> None:
    """Add a revision whose predecessor has no file."""
    (project.folder / "alembic/versions/aaaa.py").write_text(EMPTY.format("aaaa", "gone"))


def another_model(project: Project) -> None:
    """Add a column that no migration makes."""
    path = project.folder / "app/models.py"
    text = path.read_text()
    assert "class User(Base):" in text
    path.write_text(
        f"{text}\n\nclass Other(Base):\n    __tablename__ = 'others'\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)\n"
    )


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    slow_but(
        [
            (two_heads, 4, "several heads: the scripts have the heads aaaa, bbbb"),
            (missing_file, 4, "gone"),
            (another_model, 6, "others"),
        ],
        lambda case: case[1] == 6,
    ),
)
def test_what_is_wrong(
    alone: Project, spoil: Callable[[Project], None], code: int, said: str
) -> None:
    """Each is found before anybody has merged it."""
    spoil(alone)
    done = alone.invoke("check")
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr


def test_the_hook_runs_what_it_says(alone: Project) -> None:
    """As pre-commit runs it: in an environment of backset's own; the models are the project's."""
    hook, _ = yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())
    python = alone.folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\ntouch used\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": path}
    argv = hook["entry"].split()
    subprocess.run(argv, cwd=alone.folder, env=env, check=True, stdin=subprocess.DEVNULL)
    assert (alone.folder / "used").exists()
    for path in ("alembic/versions/0b22.py", "db/migrations/env.py", "app/models.py"):
        assert re.search(hook["files"], path)


@pytest.mark.slow
def test_an_extension_that_the_role_may_not_create(alone: Project) -> None:
    """It is there before, as an administrator gives it; it is said that the role may not."""
    path = alone.folder / "alembic/versions/aaaa.py"
    create = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"
    for said, code in ((create, 0), (create.replace(" IF NOT EXISTS", ""), 4)):
        body = f'upgrade(): op.execute("{said}")'
        text = EMPTY.format("aaaa", "0b228e9fec0b").replace("upgrade(): pass", body)
        path.write_text(f"from alembic import op\n{text}")
        done = alone.invoke("check")
        assert done.returncode == code, done.stderr
        assert "the extension pg_stat_statements, which the role x may not create" in done.stdout
    assert "already exists → let the migration say CREATE EXTENSION IF NOT EXISTS" in done.stderr


@pytest.mark.slow
def test_an_extension_that_the_throw_away_server_lacks(alone: Project) -> None:
    """Neither a package of the system nor DATABASE_URL would give it one."""
    path = alone.folder / "alembic/versions/aaaa.py"
    text = EMPTY.format("aaaa", "0b228e9fec0b").replace(
        "upgrade(): pass", 'upgrade(): op.execute("CREATE EXTENSION no_such_thing")'
    )
    path.write_text(f"from alembic import op\n{text}")
    done = alone.invoke("check")
    assert done.returncode == 4, done.stderr
    assert 'extension "no_such_thing" is not available → the throw-away server' in done.stderr
    assert "migrate_session()" in done.stderr
