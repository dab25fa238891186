"""A fleet on a Dask cluster: the same results, a worker's death, and clusters that do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil
import pytest
from distributed import Client
from distributed.versions import VersionMismatchWarning

from tests.conftest import PASSWORD
from tests.fleets import add_revision, describe, give, over_tcp, populate, revisions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project

_SLOWLY = "op.execute('CREATE TABLE aaaa AS SELECT 1 AS id FROM pg_sleep(2)')"


@dataclass
class DaskCluster:
    """A scheduler and its workers, each a process; said: what they have printed, in the end."""

    address: str
    workers: list[subprocess.Popen[str]]
    said: list[str] = field(default_factory=list)


@contextmanager
def cluster_of(project: Project, workers: int, **more: str) -> Iterator[DaskCluster]:
    """Run a scheduler and workers; more: variables of all of them."""
    file = project.folder / "scheduler.json"
    env = {**os.environ, **project.env, **more, "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "False"}
    env["DASK_TEMPORARY_DIRECTORY"] = str(project.folder)  # each is killed, and leaves it
    started: list[subprocess.Popen[str]] = []
    said: list[str] = []

    def start(module: str, *words: str) -> None:
        argv = [sys.executable, "-m", module, "--scheduler-file", str(file), *words]
        started.append(
            subprocess.Popen(
                argv,
                cwd=project.folder,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )

    try:
        start(
            "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"
        )
        for _ in range(workers):
            start(
                *("distributed.cli.dask_worker", "--no-nanny", "--nthreads", "1"),
                *("--no-dashboard", "--host", "127.0.0.1"),
            )
        yield DaskCluster(_address(file, workers), started[1:], said)
    finally:
        for each in started:
            each.kill()
            said += each.communicate()[0].splitlines()


def _address(file: Path, workers: int) -> str:
    """Wait for the scheduler and its workers."""
    deadline = time.monotonic() + 60
    while not (file.exists() and file.stat().st_size):  # it is written after it is made
        assert time.monotonic() < deadline
        time.sleep(0.1)
    address = str(json.loads(file.read_text())["address"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        with Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            client.wait_for_workers(workers, timeout=60)
    return address


def test_a_cluster_does_the_same(project: Project, cluster: Cluster) -> None:
    """The workers alone know the password; neither tasks nor logs nor the run itself have it."""
    names = populate(project, 4, "head")
    give(project, names)
    describe(project, f'url = "env:TENANTS_URL"\nglob = "{project.database}_t*"')
    add_revision(project, "aaaa")
    url = over_tcp(cluster, "postgres")
    with cluster_of(project, 2, TENANTS_URL=url) as made:
        done = project.run("fleet", "upgrade", "--dask", made.address)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "4 to upgrade, 2 at a time" in done.stdout
        assert set(revisions(project, names).values()) == {"aaaa"}
        told = project.run("fleet", "status", "--json", "--dask", made.address)
        assert told.returncode == 0, told.stdout + told.stderr
        project.configure("[tool.backset]\n", '[tool.backset]\nbackups = "file:///dev/null/x"\n')
        failed = project.run("fleet", "backup", "--dask", made.address)
        assert failed.returncode == 2, failed.stderr  # as each worker has found its settings
    said = [*made.said, done.stdout, done.stderr, told.stdout, failed.stderr]
    assert made.said
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "can%ary"):
        assert not [each for each in said if secret in each]


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_is_killed_loses_nothing(project: Project) -> None:
    """The scheduler gives its database to another one; what is done is not done again."""
    names = populate(project, 4, "head")
    describe(project, f'glob = "{project.database}_t*"')
    add_revision(project, "aaaa", _SLOWLY)
    with cluster_of(project, 2) as made:
        with project.start("fleet", "upgrade", "--dask", made.address) as run:
            _wait_for_work(made.workers[0].pid, run)
            made.workers[0].kill()
            out, err = run.communicate(timeout=110)
        assert run.returncode == 0, out + err
    assert set(revisions(project, names).values()) == {"aaaa"}
    assert all(project.query("SELECT count(*) FROM aaaa", each) == [(1,)] for each in names)


@pytest.mark.slow
def test_an_interruption_leaves_the_workers_to_end_what_they_have_begun(project: Project) -> None:
    """The run ends at once, with its exit code; a second one goes on with the others."""
    names = populate(project, 4, "head")
    describe(project, f'glob = "{project.database}_t*"')
    add_revision(project, "aaaa", _SLOWLY)
    with cluster_of(project, 1) as made:
        with project.start("fleet", "upgrade", "--dask", made.address) as run:
            _wait_for_work(made.workers[0].pid, run)
            run.terminate()
            out, err = run.communicate(timeout=60)
        assert run.returncode == 143, out + err
        assert "not begun; run this again" in err
        done = project.run("fleet", "upgrade", "--dask", made.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(revisions(project, names).values()) == {"aaaa"}
    assert all(project.query("SELECT count(*) FROM aaaa", each) == [(1,)] for each in names)


def _wait_for_work(pid: int, run: subprocess.Popen[str]) -> None:
    """Wait until a worker has a process at a database."""
    deadline = time.monotonic() + 60
    while not psutil.Process(pid).children():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)


@pytest.mark.parametrize("package", ["backset", "dask"])
def test_a_cluster_of_another_version_is_refused(
    project: Project, tmp_path: Path, package: str
) -> None:
    """One clear line, before anything is touched: which machine has what, and what is here."""
    about = tmp_path / f"{package}-1.2.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2.3\n")
    describe(project, 'glob = "*"')
    with cluster_of(project, 1, PYTHONPATH=str(tmp_path)) as made:
        done = project.run("fleet", "upgrade", "--dask", made.address)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{package} 1.2.3 (here " in done.stderr
    assert "→ give each machine of the cluster the same versions" in done.stderr
    assert all(line.startswith(" ✘ --dask: tcp://") for line in done.stderr.splitlines())
    assert not (project.folder / "backups").exists()


def test_without_the_extra_there_is_one_line(project: Project, tmp_path: Path) -> None:
    """It says what to install."""
    module = "raise ModuleNotFoundError(\"No module named 'distributed'\", name='distributed')\n"
    (tmp_path / "distributed.py").write_text(module)
    describe(project, 'glob = "*"')
    done = project.run("fleet", "status", "--dask", "tcp://127.0.0.1:1", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    remedy = "install backset with its extra fleet, or the package distributed beside it"
    assert done.stderr == f" ✘ --dask needs the package distributed → {remedy}\n"


def test_a_scheduler_that_does_not_answer_is_one_line(project: Project) -> None:
    """Within seconds."""
    describe(project, 'glob = "*"')
    done = project.run("fleet", "status", "--dask", "tcp://127.0.0.1:1")
    assert done.returncode == 2
    assert "--dask tcp://127.0.0.1:1: " in done.stderr
    assert done.stderr.count("\n") == 1
