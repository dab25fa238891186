"""Sessions that only read (default_transaction_read_only): of a role, and of a database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tests.clusters import running
from tests.marks import slow_but
from tests.project import laid_down, migrating, prints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project

SETTING = "default_transaction_read_only"


@pytest.fixture
def built(owned: Project, superuser: psycopg.Connection[Any], plain: str) -> Project:
    """A project whose database was built by a role that may create databases."""
    superuser.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(plain)))
    assert owned.invoke("reset-db").returncode == 0
    owned.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    return owned


def say(session: psycopg.Connection[Any], of: str, name: str, action: str = "SET {} = on") -> None:
    """Say of a role or a database that its sessions only read, or take that back."""
    words = sql.SQL(f"ALTER {of} {{}} {action.format(SETTING)}")
    session.execute(words.format(sql.Identifier(name)))


def digest_of(refusal: str) -> str:
    """Return what a refusal says that `--confirm` must be."""
    found = re.search(r"--confirm (\w+)", refusal)
    assert found, refusal
    return found[1]


def test_a_role_that_only_reads_builds_all_the_same(
    built: Project, superuser: psycopg.Connection[Any], plain: str
) -> None:
    """Beside, and back; what it says of the login in the new database is gone with the swap."""
    before = prints(built)
    say(superuser, "ROLE", plain)
    done = built.invoke("reset-db")
    assert done.returncode == 0, done.stdout + done.stderr
    left = "SELECT setconfig FROM pg_db_role_setting JOIN pg_roles r ON r.oid = setrole"
    assert built.query(f"{left} WHERE rolname = '{plain}'") == [([f"{SETTING}=on"],)]
    assert prints(built) != before
    for task in (["status"], ["verify"], ["backup"], ["undo"]):
        done = built.invoke(*task)
        assert done.returncode == 0, done.stdout + done.stderr
    assert prints(built) == before


@pytest.mark.parametrize("task", ["upgrade", "seed"])
@pytest.mark.parametrize("of", slow_but(["ROLE", "DATABASE"], lambda of: of == "ROLE"))
def test_what_works_on_the_target_itself_says_so_in_a_line(
    built: Project, superuser: psycopg.Connection[Any], plain: str, name: str, of: str, task: str
) -> None:
    """Before anything is done, with what would take that back."""
    before, whom = prints(built), plain if of == "ROLE" else name
    say(superuser, of, whom)
    done = built.invoke(task)
    assert done.returncode == 3, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert f"sessions of {plain} only read in {name} ({SETTING} is on), and {task} writes" in line
    assert line.endswith(f'ALTER {of} "{whom}" RESET {SETTING}')
    assert prints(built) == before
    superuser.execute(line.rpartition(": ")[2].encode())
    assert built.invoke(task).returncode == 0


def test_a_database_that_is_only_read_is_left_alone(
    built: Project, superuser: psycopg.Connection[Any], name: str
) -> None:
    """Unless somebody has looked at the facts and agrees; it is only read afterwards, too."""
    before = prints(built)
    say(superuser, "DATABASE", name)
    for flags in ([], ["--in-place"], ["--yes"]):
        refused = built.invoke("reset-db", *flags)
        assert refused.returncode == 3, refused.stdout + refused.stderr
        words = f'{name} is to be left alone: it is only read (ALTER DATABASE "{name}" SET'
        assert words in refused.stderr
        assert prints(built) == before
    done = built.invoke("reset-db", "--confirm", digest_of(built.invoke("reset-db").stderr))
    assert done.returncode == 0, done.stdout + done.stderr
    assert prints(built) != before
    assert built.query(f"SHOW {SETTING}") == [("on",)]
    refused = built.invoke("undo")
    assert refused.returncode == 3
    assert "is to be left alone" in refused.stderr


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Cluster]:
    """A server that is only read, and a role that is no superuser."""
    with running(18, settings=[f"{SETTING} = on"]) as made:
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            session.execute(f"SET {SETTING} = off".encode())
            session.execute("CREATE ROLE app LOGIN CREATEDB")
            session.execute("CREATE DATABASE app OWNER app")
        yield made


@pytest.mark.slow
def test_a_server_that_is_only_read_is_left_alone(frozen: Cluster, tmp_path: Path) -> None:
    """As a provider lets it be whose disk is full, or somebody who moves it."""
    plain = laid_down(tmp_path / "project", "objects", frozen.url("app", "app"))
    project = migrating(plain, "CREATE TABLE made ()")
    project.query("SET transaction_read_only = off; CREATE TABLE kept ()")
    refused = project.invoke("reset-db")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert f"app is to be left alone: it is only read ({SETTING} of the whole" in refused.stderr
    done = project.invoke("reset-db", "--confirm", digest_of(refused.stderr))
    assert done.returncode == 0, done.stdout + done.stderr
