"""A server that keeps its identifier to itself is told from others by a mark."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.backups.store import BackupStore
from backset.catalog import catalog
from backset.connections.session import connect
from backset.connections.target import Target
from backset.runs import login

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project

HIDE = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"
SHOW = "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC"


@pytest.fixture
def hiding(cluster: Cluster, owned: Project, plain: str) -> Iterator[Project]:
    """A project of a plain role, on a server that says to nobody but superusers who it is."""
    names = ("postgres", "template1", owned.database)
    for statement in (HIDE, SHOW):
        for each in names:
            with psycopg.connect(cluster.url(each)) as session:
                session.execute(statement)
        if statement is HIDE:
            yield owned
    with psycopg.connect(cluster.url("postgres")) as session:
        reset = sql.SQL("ALTER ROLE {} IN DATABASE postgres RESET ALL")
        session.execute(reset.format(sql.Identifier(plain)))


def seen(target: Target) -> str:
    """Return which server a new session believes to be on."""
    with connect(target, "test") as session:
        return catalog.server_id(session)


def test_the_mark_is_one_for_all_databases_and_roles(hiding: Project, cluster: Cluster) -> None:
    """It stays, and nobody leaves a second one; a superuser goes on seeing the identifier."""
    target = Target.parse(hiding.url)
    assert seen(target) == ""
    for _ in range(2):
        with connect(target.named("postgres"), "test") as session:
            login.mark_server(session)
    mark = seen(target)
    assert mark
    assert seen(target.named("postgres")) == mark
    assert seen(Target.parse(cluster.url("postgres"))).isdigit()
    with psycopg.connect(cluster.url("postgres")) as session:
        said = "SELECT count(*) FROM pg_db_role_setting, unnest(setconfig) s WHERE s ~ 'backset'"
        assert session.execute(said.encode()).fetchone() == (1,)


@pytest.mark.slow
def test_backups_of_such_a_server_are_told_from_those_of_another(
    hiding: Project, cluster: Cluster, superuser: psycopg.Connection[Any], plain: str
) -> None:
    """One without a mark of its own has the same folder, and nothing in it is that one's."""
    assert hiding.invoke("reset-db").returncode == 0
    assert hiding.invoke("backup").returncode == 0
    (first,) = json.loads(hiding.invoke("backups", "--json").stdout)["backups"]
    assert first["server_id"] != ""
    reset = sql.SQL("ALTER ROLE {} IN DATABASE postgres RESET ALL")
    superuser.execute(reset.format(sql.Identifier(plain)))
    done = hiding.invoke("restore", "--yes", "--plan")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "has no backup of this server" in done.stderr
    assert hiding.invoke("backup").returncode == 0
    _, second = json.loads(hiding.invoke("backups", "--json").stdout)["backups"]
    assert second["server_id"] not in {"", first["server_id"]}


@pytest.mark.slow
def test_the_mark_of_a_run_in_place_on_another_server_is_kept(owned: Project) -> None:
    """Both databases have the same name and number; each mark is found again by its own run."""
    assert owned.invoke("reset-db").returncode == 0
    oid = owned.query("SELECT oid FROM pg_database WHERE datname = current_database()")[0][0]
    folder = owned.folder / "backups" / owned.database
    others = {"backup": None, "transaction": "3", "login": True, "oid": oid, "server_id": "1"}
    (folder / "in-place.json").write_text(json.dumps(others))
    assert owned.invoke("reset-db").returncode == 0
    assert json.loads((folder / "in-place.json").read_text()) == others
    assert [each.name for each in folder.glob("in-place*")] == ["in-place.json"]


def test_nobody_writes_into_the_backups_whatever_the_umask_is(project: Project) -> None:
    """Nor reads them; a folder that an earlier run has left open is closed."""
    folder = project.folder / "backups"
    before = os.umask(0)
    try:
        project.query("CREATE TABLE t ()")
        assert project.invoke("backup").returncode == 0
        modes = {each: each.stat().st_mode & 0o777 for each in [folder, *folder.rglob("*")]}
        assert {each: mode for each, mode in modes.items() if mode & 0o077} == _ignored(folder)
        folder.chmod(0o777)
        assert project.invoke("backup").returncode == 0
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o002 == 0


def _ignored(folder: Path) -> dict[Path, int]:
    """Return the one file that has no secret in it."""
    return {folder / ".gitignore": 0o644}


def test_git_sees_nothing_of_the_folder(tmp_path: Path) -> None:
    """Also where a first rebuild has nothing to back up, and only leaves its note there."""
    BackupStore.of(tmp_path / "backups", "shop").make()
    assert (tmp_path / "backups/.gitignore").read_text() == "*\n"
