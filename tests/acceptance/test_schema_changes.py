"""Each change of a schema through the tasks that compare: `prove-squash` and `verify --deep`.

`tests/integration/test_differences_of_schemas.py` has the comparison itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.clusters import running
from tests.project import in_this_process
from tests.schema_changes import PREPARED, Change, known, place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENV = """
import os

import models
from alembic import context
from sqlalchemy import create_engine

with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection, target_metadata=models.metadata)
    with context.begin_transaction():
        context.run_migrations()
"""
MODELS = """
import sqlalchemy as sa

STATEMENTS = {statements!r}
metadata = sa.MetaData()
sa.Table("plain", metadata, sa.Column("id", sa.Integer, primary_key=True))


@sa.event.listens_for(metadata, "after_create")
def make(target, connection, **words):
    for each in STATEMENTS:
        connection.exec_driver_sql(each)
"""
REVISION = """
from alembic import op

revision, down_revision = {revision!r}, {down!r}


def upgrade():
    for each in {statements!r}:
        op.get_bind().exec_driver_sql(each)
"""
PLAIN = "CREATE TABLE plain (id serial PRIMARY KEY)"
BACK = "SET LOCAL search_path = public"  # where Alembic's own table is


@dataclass(frozen=True)
class Ground:
    """A project of one chain, whose models make what the changes begin from."""

    folder: Path
    url: str

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Return the exit code and the JSON of a task."""
        env = {"DATABASE_URL": self.url}
        done = in_this_process(["backset", *words, "--json"], self.folder, env)
        return done.returncode, json.loads(done.stdout)

    def write(self, versions: str, revision: str, down: str | None, statements: list[str]) -> None:
        """Write a revision."""
        text = REVISION.format(revision=revision, down=down, statements=[*statements, BACK])
        path = self.folder / versions / f"{revision}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def of(change: Change, statements: str) -> list[str]:
    """Return statements of a change that run in its own schema."""
    return [f"SET LOCAL search_path = {place(change)}, public", *filter(None, [statements])]


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """A server of its own, since changes are about roles and tablespaces, too."""
    with running(18) as server:
        with psycopg.connect(server.url("postgres"), autocommit=True) as session:
            for each in (*PREPARED, "CREATE DATABASE ground"):
                session.execute(each.encode())
        (tmp_path / "migrations").mkdir()
        (tmp_path / "migrations/env.py").write_text(ENV)
        (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
        yield Ground(tmp_path, server.url("ground"))


@pytest.mark.slow
def test_each_change_is_named_and_gone_when_it_is_taken_back(ground: Ground) -> None:
    """By both tasks; what a migration does by writing into a catalog is left out."""
    changes = [each for each in known(18) if not each.is_by_hand]
    made = [
        one
        for each in changes
        for one in (f"CREATE SCHEMA IF NOT EXISTS {place(each)}", *of(each, each.setup))
    ]
    there = [each.replace("CREATE SCHEMA n", "CREATE SCHEMA IF NOT EXISTS n") for each in made]
    (ground.folder / "models.py").write_text(MODELS.format(statements=[*there, BACK]))
    ground.write("migrations/versions", "a1", None, [PLAIN, *made])
    ground.write("old", "a1", None, [PLAIN, *made])
    changed = [one for each in changes for one in of(each, each.change)]
    ground.write("migrations/versions", "a2", "a1", changed)
    assert ground.run("reset-db", "--yes")[0] == 0
    code, proof = ground.run("prove-squash", "old", "--no-deep")
    assert code == 6
    names = {each["what"] for each in proof["findings"]}
    minor = {each["text"] for each in proof["notices"]}
    code, verified = ground.run("verify", "--deep")
    deep = {each["what"] for each in verified["findings"]} | {*verified["error"]["deep"]["beyond"]}
    unseen = [
        (task, each.name, subject)
        for task, found in (("prove-squash", names | minor), ("verify --deep", deep))
        for each in changes
        for subject, what in each.named
        if not (task == "verify --deep" and _is_nothing_of_models(subject, what))
        if not any(_is_about(text, each, subject) for text in found)
    ]
    assert unseen == []
    back = [one for each in reversed(changes) for one in of(each, each.back)]
    ground.write("migrations/versions", "a3", "a2", back)
    assert ground.run("upgrade")[0] == 0
    assert ground.run("prove-squash", "old", "--no-deep")[1].get("findings", []) == []
    assert ground.run("verify", "--deep")[1].get("findings", []) == []


def _is_nothing_of_models(subject: str, what: str) -> bool:
    """Tell whether it is about owners and rights, or about names that a model leaves to others."""
    is_of_a_role = what in {"owner", "rights"} or subject.startswith("default acl ")
    return is_of_a_role or (what == "renamed" and subject.startswith(("constraint ", "index ")))


def _is_about(text: str, change: Change, subject: str) -> bool:
    """Tell whether a text names the subject of a change, in its own schema if it is in one."""
    name = subject.partition(" ")[2].partition("(")[0]
    return f"{place(change)}." in text or name in text
