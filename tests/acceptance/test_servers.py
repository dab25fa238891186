"""The whole chain on servers with passwords, TLS and plain roles, of every major that there is."""

from __future__ import annotations

import json
import secrets
import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.incident.fingerprint import fingerprint
from tests.incident.project import lay_down
from tests.marks import slow_but
from tests.project import REPOSITORY, Project
from tests.servers import OWNER, SUPERUSER, TENANT, SecuredServer, drop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of this repository's application."""
    folder = tmp_path / "project"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    return folder


@pytest.fixture
def on_every(folder: Path, every_secured: SecuredServer) -> Iterator[Project]:
    """A project on each of the servers, as the owner that may create databases."""
    name = f"t_{secrets.token_hex(4)}"
    yield Project(folder, {"DATABASE_URL": every_secured.url(name)})
    drop(every_secured, name)


def test_the_whole_chain_on_every_server(on_every: Project, every_secured: SecuredServer) -> None:
    """reset-db, undo, backup, restore, reset-db: as a plain owner, over verified TLS."""
    done = on_every.invoke("reset-db")
    assert (done.returncode, done.stderr) == (0, "")
    ((version,),) = on_every.query("SHOW server_version_num")
    assert int(version) // 10000 == every_secured.cluster.major
    on_every.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    old = fingerprint(on_every.url)
    for task in ("reset-db", "undo", "backup"):
        done = on_every.invoke(task)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert fingerprint(on_every.url) == old
    on_every.query("DELETE FROM task_outputs")
    for words in (["restore", "--yes"], ["status"], ["verify"]):
        done = on_every.invoke(*words)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert fingerprint(on_every.url) == old
    done = on_every.invoke("reset-db", "--json")
    assert json.loads(done.stdout)["exit_code"] == 0
    owners = on_every.query("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners == [(OWNER,)]


@pytest.mark.parametrize(
    ("role", "way"),
    slow_but(
        [(SUPERUSER, "swap"), (OWNER, "swap"), (TENANT, "in place")], lambda case: case[0] == TENANT
    ),
)
@pytest.mark.slow
def test_each_role_gets_what_it_may(
    folder: Path, secured: SecuredServer, own_database: str, role: str, way: str
) -> None:
    """Each strategy over TLS; who may not create databases is told the SQL for it."""
    with secured.administered() as session:
        session.execute(f'CREATE DATABASE "{own_database}" OWNER {role}'.encode())
    project = Project(folder, {"DATABASE_URL": secured.url(own_database, role)})
    plan = project.invoke("reset-db", "--plan").stdout
    assert f"{way}: " in plan
    assert ('ALTER ROLE "tenant" CREATEDB' in plan) is (role == TENANT)
    for _ in range(2):  # the second time there is something to lose
        done = project.invoke("reset-db")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_servers_take_neither_plain_text_nor_a_wrong_password(
    secured: SecuredServer, own_database: str
) -> None:
    """The fixture is what it says: else the tests above would prove nothing."""
    url = secured.url("postgres")
    with psycopg.connect(url) as session:
        assert session.pgconn.ssl_in_use
    for bad in (url.replace("verify-full", "disable"), secured.url("postgres", password="wrong")):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(bad)


@pytest.mark.parametrize(
    "words",
    [["reset-db"], ["status"], ["psql", "--", "-c", "select 1"], ["alembic", "--", "current"]],
)
def test_a_certificate_of_somebody_else_is_one_line(
    folder: Path, secured: SecuredServer, own_database: str, words: list[str]
) -> None:
    """A wrong authority stops every door, and is named as what it is."""
    url = secured.url(own_database, ca=secured.wrong_ca)
    done = Project(folder, {"DATABASE_URL": url}).invoke(*words)
    assert done.returncode != 0
    assert "certificate verify failed" in done.stderr
    if words[0] not in {"psql", "alembic"}:
        (line,) = done.stderr.splitlines()
        assert done.returncode == (6 if words == ["status"] else 4)
        assert " → " in line


def test_a_backup_needs_no_certificate_to_be_listed(
    folder: Path, secured: SecuredServer, own_database: str
) -> None:
    """`backups` asks no server."""
    project = Project(folder, {"DATABASE_URL": secured.url(own_database)})
    assert project.invoke("upgrade", "backup").returncode == 0
    shutil.copy(secured.wrong_ca, folder / "ca.pem")
    project.env["DATABASE_URL"] = secured.url(own_database, ca=folder / "ca.pem")
    assert len(json.loads(project.invoke("backups", "--json").stdout)["backups"]) == 1
