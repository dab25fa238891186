"""The embedded PostgreSQL starts wherever a project can be, and says why when it cannot."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.errors import StepFailedError
from backset.servers import location, programs
from backset.servers.cluster import Account, account_of

if TYPE_CHECKING:
    from backset.servers.cluster import Cluster


_PGSERVER = programs.WHEELS[1].folder or Path()


def in_folder(folder: Path) -> Cluster:
    """Return the cluster of a project in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return location.project_cluster(folder)


@pytest.mark.parametrize(
    "name",
    ["with spaces in it", 'it\'s "quoted"', "a,comma", "d" * 90 + "/" + "e" * 90, "ünïcode"],
    ids=["spaces", "quotes", "comma", "long", "unicode"],
)
def test_it_serves_in_any_path(short_tmp: Path, name: str) -> None:
    """A path with spaces, one that libpq would split, and one longer than a socket's address."""
    cluster = in_folder(short_tmp / name)
    assert cluster.start()
    try:
        assert not cluster.start(), "a warm start finds it running"
        with psycopg.connect(cluster.url("postgres")) as session:
            assert session.info.server_version // 10000 == 18
    finally:
        assert cluster.stop()
    assert not cluster.is_running()
    assert not cluster.stop()
    assert cluster.socket_folder == cluster.folder or not cluster.socket_folder.exists()


def test_several_may_start_it_at_once(short_tmp: Path) -> None:
    """Tilt starts several tasks together: one of them starts the server, the others wait."""
    cluster = in_folder(short_tmp / "project")
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda _: cluster.start(), range(4)))
    try:
        assert sorted(started) == [False, False, False, True]
    finally:
        cluster.stop()


def test_its_data_is_private_and_ignored_by_git(short_tmp: Path) -> None:
    """Nobody else may read the rows, and nobody commits them."""
    cluster = in_folder(short_tmp / "project")
    cluster.start()
    cluster.stop()
    assert stat.S_IMODE(cluster.data.stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster.folder.stat().st_mode) == 0o700
    assert (short_tmp / "project/.backset/.gitignore").read_text() == "*\n"


def test_a_server_that_cannot_start_shows_the_end_of_its_log(short_tmp: Path) -> None:
    """The reason is in the message, not somewhere else."""
    cluster = in_folder(short_tmp / "project")
    cluster.start()
    cluster.stop()
    with (cluster.data / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(StepFailedError) as caught:
        cluster.start()
    (line,) = caught.value.lines()
    assert 'unrecognized configuration parameter "no_such_setting"' in line
    assert str(cluster.log) in line


def test_a_killed_initialization_is_begun_anew(short_tmp: Path) -> None:
    """Half a cluster under another name is rubbish, never a cluster."""
    cluster = in_folder(short_tmp / "project")
    (cluster.folder / "data.partial").mkdir(parents=True)
    (cluster.folder / "data.partial" / "PG_VERSION").write_text("18\n")
    assert cluster.start()
    cluster.stop()


def test_a_crashed_server_is_started_again(short_tmp: Path) -> None:
    """A stale postmaster.pid and a stale socket stand in nobody's way."""
    cluster = in_folder(short_tmp / "project")
    cluster.start()
    pid = int((cluster.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 10
    while cluster.is_running():  # its children leave a moment later
        assert time.monotonic() < deadline
    assert cluster.start()
    cluster.stop()


def test_data_of_another_18_are_served_on(short_tmp: Path) -> None:
    """The embedded server was another package before: 18.4, with an older pgvector."""
    cluster = in_folder(short_tmp / "project")
    before = replace(cluster, programs=_PGSERVER / "pginstall18")
    assert before.start()
    with psycopg.connect(before.url("postgres")) as session:
        session.execute("CREATE EXTENSION vector; CREATE TABLE kept (at vector(2))")
        session.execute("INSERT INTO kept VALUES ('[3,4]')")
        old = session.info.server_version
    assert before.stop()
    assert cluster.start()
    try:
        with psycopg.connect(cluster.url("postgres")) as session:
            assert session.info.server_version > old
            assert session.execute("SELECT at <-> '[0,0]' FROM kept").fetchall() == [(5.0,)]
            session.execute("ALTER EXTENSION vector UPDATE")
            session.execute("CREATE EXTENSION pg_trgm")
    finally:
        cluster.stop()


def test_data_stay_with_their_major(short_tmp: Path) -> None:
    """A folder of 16 is served by 16; where no 16 is here, the line names the folder."""
    folder = short_tmp / "project"
    new = in_folder(folder)
    assert new.major == 18
    old = replace(new, folder=new.folder.with_name("postgresql-16"), major=16)
    assert old.start()
    assert old.stop()
    assert location.project_cluster(folder) == old
    old.folder.rename(old.folder.with_name("postgresql-12"))
    kept = location.project_cluster(folder)
    with pytest.raises(StepFailedError, match=r"PostgreSQL 12 is not installed, and .*-12/data is"):
        kept.start()


def test_stop_leaves_a_stranger_alone(short_tmp: Path) -> None:
    """After a crash postmaster.pid is stale, and its number may be another program's by now."""
    cluster = in_folder(short_tmp / "project")
    cluster.start()
    cluster.stop()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        lines = [str(stranger.pid), str(cluster.data), "1", "5432", str(cluster.folder), "", "", ""]
        (cluster.data / "postmaster.pid").write_text("\n".join(lines))
        assert not cluster.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_short_socket_folder_of_somebody_else_is_refused(short_tmp: Path) -> None:
    """A folder in /tmp that another account prepared is not trusted."""
    cluster = in_folder(short_tmp / ("d" * 90))
    trap = cluster.socket_folder
    trap.symlink_to(short_tmp)
    try:
        with pytest.raises(StepFailedError, match="belongs to somebody else"):
            cluster.start()
    finally:
        trap.unlink()


@pytest.mark.slow
def test_no_warning_without_a_runtime_folder(short_tmp: Path) -> None:
    """Without XDG_RUNTIME_DIR nothing is printed, not even by a strict interpreter."""
    code = (
        "from pathlib import Path; from backset.servers.location import project_cluster as p; "
        "c = p(Path('.').resolve()); c.start(); c.stop()"
    )
    env = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=short_tmp,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# byte code comes and goes while other tests import the package
_NOT_COPIED = shutil.ignore_patterns("include", "__pycache__")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another account")


@needs_root
def test_root_gives_the_server_to_the_owner_of_the_project(short_tmp: Path) -> None:
    """So that the owner can run it without root the next day."""
    folder = short_tmp / "project"
    folder.mkdir()
    daemon = pwd.getpwnam("daemon")
    os.chown(folder, daemon.pw_uid, daemon.pw_gid)
    assert account_of(folder) == Account(daemon.pw_uid, daemon.pw_gid)


@needs_root
def test_roots_closed_folders_stay_closed(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's files and programs live elsewhere; no permission is widened."""
    monkeypatch.setattr("backset.servers.cluster._SHARED", short_tmp / "shared")
    closed = short_tmp / "closed"
    closed.mkdir(mode=0o700)
    package = programs.embedded_folder().parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, closed / part.name, ignore=_NOT_COPIED)
    copied = closed / programs.embedded_folder().relative_to(package.parent)
    cluster = replace(location.project_cluster(closed), programs=copied)
    assert cluster.start()
    try:
        with psycopg.connect(cluster.url("postgres")) as session:
            session.execute("SELECT 1")
    finally:
        cluster.stop()
    assert cluster.folder.is_relative_to(short_tmp / "shared")
    assert cluster.installation.is_relative_to(short_tmp / "shared")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert not (closed / ".backset").exists()
    copies = sorted((short_tmp / "shared").iterdir())
    again = replace(cluster, folder=short_tmp / "again" / "postgresql-18")
    assert again.installation == cluster.installation
    assert sorted((short_tmp / "shared").iterdir()) == copies, "the copy is made once"


@needs_root
def test_an_owner_without_a_name_is_replaced_by_nobody(short_tmp: Path) -> None:
    """Initdb refuses an account that has no entry in passwd, as owners of mounted folders do."""
    folder = short_tmp / "project"
    folder.mkdir()
    os.chown(folder, 54321, 54321)
    chosen = account_of(folder)
    assert chosen is not None
    assert chosen.uid == pwd.getpwnam("nobody").pw_uid
