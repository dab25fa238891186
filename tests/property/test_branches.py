"""Random checkouts and migrations: no row of any branch is lost, and none comes to another one."""

from __future__ import annotations

import secrets
import shutil
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.branches import add, begun, checkout, database, revise, rows, told

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project

# start: from the branch that is checked out; go: to one of those that there are; forget: the
# database of one, and the next time it is checked out it is made anew.
STEPS = st.tuples(
    st.sampled_from(["start", "go", "go", "revise", "add", "rebuild", "forget"]), st.integers(0, 99)
)
ALL: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}
ALL |= {"phases": [Phase.generate], "derandomize": True}


class World:
    """What must be in each branch's database, as far as somebody has put it there.

    heads, kept: of each branch that has a database, its newest revision and its rows.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.heads = {"main": "aaa"}
        self.kept: dict[str, list[int]] = {"main": []}
        self.bases = {"main": project.database}
        self.here, self.number = "main", 0
        told(project, "switch")

    def next(self) -> int:
        """Return a number that was not there before."""
        self.number += 1
        return self.number

    def do(self, what: str, choice: int) -> None:
        """Do one step, if it makes sense."""
        others = [each for each in self.bases if each != "main"]
        if what == "start":
            self.go(f"b{self.next()}", new=True)
        elif what == "go":
            self.go([*self.heads][choice % len(self.heads)])
        elif what == "revise":
            name = f"r{self.next()}"
            revise(self.project, name, self.heads[self.here])
            self.heads[self.here] = name
        elif what == "add":
            number = self.next()
            add(self.project, number)
            self.kept[self.here].append(number)
        elif what == "rebuild":
            done = self.project.invoke("reset-db", "--carry")
            assert done.returncode == 0, done.stderr
        elif others and (gone := others[choice % len(others)]) != self.here:
            told(self.project, "delete", gone, "--yes")
            del self.bases[gone], self.kept[gone]

    def go(self, branch: str, *, new: bool = False) -> None:
        """Check a branch out, and let it have its database, as the hook does."""
        head = self.heads[self.here]
        checkout(self.project, branch, new=new)
        if self.project.invoke("branch", "switch").returncode:  # every database is ahead or aside
            told(self.project, "create", "--empty")
        (own,) = told(self.project, "switch")["branches"]
        assert own["place"] in {"at head", "behind"}
        if branch not in self.bases:
            self.bases[branch] = own["database"]
        if new:
            self.heads[branch] = head
        self.here = branch
        if own["place"] == "behind":
            assert self.project.invoke("upgrade").returncode == 0
        self.kept.setdefault(branch, rows(self.project, own["database"]))

    def look(self) -> None:
        """Hold every database against what must be in it."""
        assert database(self.project) == self.bases[self.here]
        for branch, name in self.bases.items():
            assert rows(self.project, name) == self.kept[branch], branch
            at = self.project.query("SELECT version_num FROM alembic_version", name)
            assert at == [(self.heads[branch],)], branch
        assert len({*self.bases.values()}) == len(self.bases)


def try_one(folder: Path, cluster: Cluster, steps: list[tuple[str, int]]) -> None:
    """Go through the steps in a new repository, with a new database."""
    name = f"t_{secrets.token_hex(4)}"
    params: dict[str, Any] = {"conninfo": cluster.url("postgres"), "autocommit": True}
    with psycopg.connect(**params) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            world = World(begun(folder / name, cluster.url(name)))
            for what, choice in steps:
                world.do(what, choice)
                world.look()
        finally:
            shutil.rmtree(folder / name)
            like = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
            for (each,) in session.execute(like, [name]).fetchall():
                drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                session.execute(drop.format(sql.Identifier(each)))


def test_no_row_is_lost(tmp_path: Path, cluster: Cluster) -> None:
    """Two branches with revisions of their own, and one whose database goes and comes again."""
    steps = [("add", 0), ("start", 0), ("revise", 0), ("add", 0), ("go", 0), ("add", 0)]
    steps += [("start", 0), ("forget", 0), ("go", 1)]
    try_one(tmp_path, cluster, steps)


@pytest.mark.slow
@settings(max_examples=25, **ALL)
@given(steps=st.lists(STEPS, min_size=4, max_size=14))
def test_no_row_is_lost_whatever_is_done(
    tmp_path: Path, cluster: Cluster, steps: list[tuple[str, int]]
) -> None:
    """Many orders of the same."""
    try_one(tmp_path, cluster, steps)
