"""A shape on a server: its chain squashed once, and databases of the old chain that follow."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backset.connections.target import Target
from tests.git import commit, git
from tests.incident.project import run_alembic
from tests.project import Project
from tests.squash import judging
from tests.squash.shapes import VERSIONS, Shape

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from backset.servers.cluster import Cluster

MESSAGE = "initial"


@dataclass
class Ground:
    """A server and a folder in which projects are made.

    Its databases have names of their own, which begin with `prefix`.
    """

    cluster: Cluster
    folder: Path
    prefix: str = field(default_factory=lambda: f"sq_{secrets.token_hex(3)}")
    made: int = 0

    def database(self, template: str = "template1") -> str:
        """Return the URL of a new database."""
        self.made += 1
        name = f"{self.prefix}_{self.made}"
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as session:
            words = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            session.execute(words.format(sql.Identifier(name), sql.Identifier(template)))
        return self.cluster.url(name)

    def clone(self, project: Project, url: str, revision: str = "main") -> Project:
        """Return somebody else's clone of a project, with a database of theirs."""
        self.made += 1
        folder = self.folder / f"clone_{self.made}"
        git(self.folder, "clone", "-q", "-b", revision, str(project.folder), str(folder))
        return Project(folder, {"DATABASE_URL": url})

    @staticmethod
    def name_of(url: str) -> str:
        """Return the name of the database of a URL."""
        return Target.parse(url).database

    def clear(self) -> None:
        """Drop the databases."""
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as session:
            query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
            for (name,) in session.execute(query, [self.prefix]).fetchall():
                words = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                session.execute(words.format(sql.Identifier(name)))


@dataclass
class Squashed:
    """A project whose chain was squashed, and committed; the tag `old` has the chain of before.

    done: what `squash` has said. old: what the old chain makes of an empty database.
    at_head, in_the_middle: databases of the old chain with rows of people, to be copied.
    """

    ground: Ground
    shape: Shape
    project: Project
    done: subprocess.CompletedProcess[str]
    old: judging.Made
    checked: str
    at_head: str
    in_the_middle: str

    @property
    def scripts(self) -> list[Path]:
        """The revisions on disk."""
        return sorted((self.project.folder / VERSIONS).glob("*.py"))

    def look(self, url: str) -> judging.Made:
        """Return what stands in a database of this shape."""
        return look(self.shape, url)

    def colleague(self, template: str) -> Project:
        """Return a clone whose database is a copy of that one."""
        return self.ground.clone(self.project, self.ground.database(template))

    def versions(self, url: str) -> set[str]:
        """Return what a database says of its revisions."""
        return judging.versions(url, self.shape.version_table)


def look(shape: Shape, url: str) -> judging.Made:
    """Return what stands in a database of a shape."""
    return judging.look(url, version_table=shape.version_table, volatile=shape.volatile)


def squashed(ground: Ground, shape: Shape, *flags: str) -> Squashed:
    """Make the project of a shape, with databases of its old chain, and squash the chain."""
    empty, at_head, middle = (ground.database() for _ in range(3))
    project = shape.lay_down(ground.folder / f"{shape.name}_{ground.made}", at_head)
    git(project.folder, "tag", "old")
    for url, revisions, rows in (
        (empty, ["heads"], ""),
        (at_head, ["heads"], shape.rows),
        (middle, shape.middle, shape.early_rows),
    ):
        for revision in revisions:
            alembic(project, url, "upgrade", revision)
        execute(url, rows)
    checked = alembic(project, empty, "check").stdout
    done = project.invoke("squash", "-m", MESSAGE, *(flags or shape.flags))
    if not done.returncode:
        commit(project.folder, "Squash")
    return Squashed(
        ground=ground,
        shape=shape,
        project=project,
        done=done,
        old=look(shape, empty),
        checked=checked,
        at_head=ground.name_of(at_head),
        in_the_middle=ground.name_of(middle),
    )


def alembic(project: Project, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic's own command, which must end well, on a database."""
    done = run_alembic(project.folder, url, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def execute(url: str, statements: str) -> None:
    """Write something into a database, as people do."""
    with judging.connected(url) as session:
        session.execute(statements.encode() or b"SELECT")


def scratches(ground: Ground) -> set[str]:
    """Return the databases that a run would leave for a moment only."""
    with judging.connected(ground.cluster.url("postgres")) as session:
        query = "SELECT datname FROM pg_database WHERE datname ~ %s"
        pattern = f"^{ground.prefix}.*__(scratch|next|discard)"
        return {name for (name,) in session.execute(query, [pattern]).fetchall()}
