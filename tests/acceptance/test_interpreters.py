"""The project's own interpreter, Alembic and SQLAlchemy: the oldest, one in between, the newest.

Each has an environment of its own, made by pip from the index once for a test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.project import Project, laid_down

if TYPE_CHECKING:
    from collections.abc import Callable

    Environments = Callable[[tuple[str, ...]], Path]

_UNREACHABLE = re.compile("NewConnectionError|NameResolution|ConnectTimeout|ProxyError|Errno -[23]")
OLDEST = ("3.9", "alembic==1.9.0", "sqlalchemy==1.4.*", "psycopg2-binary")
BETWEEN = ("3.10", "alembic==1.13.*", "sqlalchemy[asyncio]==2.0.*", "asyncpg")
NEWEST = ("3.13", "alembic", "sqlalchemy>=2.1", "psycopg[binary]")


def installed(version: str) -> str:
    """Return an interpreter of this version, pyenv's included; skip where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates = [f"python{version}", *map(str, pyenv.glob(f"{version}.*/bin/python"))]
    check = f"import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for each in filter(shutil.which, candidates):
        if subprocess.run([each, "-c", check], check=False, capture_output=True).returncode == 0:
            return each
    pytest.skip(f"no Python {version} is installed")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    """What makes an environment of a Python and packages, once; or skips: no index."""

    @cache
    def made(wanted: tuple[str, ...]) -> Path:
        version, *packages = wanted
        folder = tmp_path_factory.mktemp(f"python{version}")
        subprocess.run([installed(version), "-m", "venv", str(folder)], check=True)
        python = folder / "bin/python"
        words = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", *packages]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode != 0 and _UNREACHABLE.search(done.stderr):
            pytest.skip("pip reaches no index")
        assert done.returncode == 0, done.stderr
        return python

    return made


def rebuilt(project: Project, python: Path, upgrade: str) -> None:
    """Rebuild twice with the interpreter of the project, and look."""
    text = f'[tool.backset]\npython = "{python}"\n'
    (project.folder / "pyproject.toml").write_text(text)
    for _ in range(2):
        done = project.invoke("reset-db", "--cold")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"✔ upgrade   {upgrade}" in done.stdout
    state = project.invoke("status")
    assert state.returncode == 0, state.stdout + state.stderr
    assert project.invoke("undo").returncode == 0


def passed_through(project: Project) -> None:
    """Hold that Alembic's own command line is the one of that interpreter."""
    assert project.invoke("alembic", "--", "-x", "a=1", "current").stdout == "a1 (head)\n"
    assert project.invoke("alembic", "--", "-c", "alembic.ini", "heads").stdout == "a1 (head)\n"
    assert project.invoke("alembic", "--", "stamp", "--purge", "base").returncode == 0
    assert project.query("SELECT * FROM alembic_version") == []
    assert project.invoke("alembic", "--", "stamp", "head").returncode == 0
    failed = project.invoke("alembic", "--", "upgrade", "nonsense")
    assert (failed.returncode, "FAILED: Can't locate" in failed.stdout) == (255, True), failed


def spoilt(project: Project) -> None:
    """Hold that differences, an orphaned revision and a broken chain are told as ever."""
    project.query("ALTER TABLE users DROP email, ALTER id TYPE bigint; CREATE TABLE extra ()")
    found = json.loads(project.invoke("status", "--json").stdout)["findings"]
    assert {each["kind"] for each in found} >= {"drift"}
    told = " ".join(each["what"] for each in found)
    assert "users.email" in told
    assert "extra" in told
    (script,) = (project.folder / "migrations/versions").glob("*.py")
    project.query("UPDATE alembic_version SET version_num = 'gone'")
    assert "orphaned revision" in project.invoke("status").stderr
    assert project.invoke("reset-db").returncode == 0
    script.write_text(script.read_text().replace("down_revision = None", 'down_revision = "aa"'))
    done = project.invoke("upgrade")
    assert (done.returncode, "follows aa, which no file has" in done.stderr) == (4, True), done


@pytest.mark.parametrize("packages", [OLDEST, NEWEST], ids=["oldest", "newest"])
@pytest.mark.slow
def test_a_project_with_models(
    tmp_path: Path, database_url: str, environment: Environments, packages: tuple[str, ...]
) -> None:
    """`[tool.backset] python` names the environment; every task works, and every finding."""
    project = laid_down(tmp_path / "p", "conventions", database_url)
    rebuilt(project, environment(packages), "base → a1, 1 revision")
    passed_through(project)
    spoilt(project)


@pytest.mark.parametrize("version", ["3.6", "3.8"])
def test_an_older_python_is_named(tmp_path: Path, database_url: str, version: str) -> None:
    """Also one that cannot read the first line, or lacks Alembic: that would not help it."""
    project = laid_down(tmp_path / "p", "conventions", database_url)
    python = installed(version)
    (project.folder / "pyproject.toml").write_text(f'[tool.backset]\npython = "{python}"\n')
    done = project.invoke("status")
    assert done.returncode == 4
    assert "([tool.backset]): " in done.stderr
    assert "→ name one of Python 3.9 or later that has the project's packages" in done.stderr
    done = project.invoke("alembic", "--", "heads")
    assert (done.returncode, f"{python} ([tool.backset]) does" in done.stderr) == (4, True)


@pytest.mark.slow
def test_an_async_project(tmp_path: Path, tcp_url: str, environment: Environments) -> None:
    """SQLAlchemy 2.0 with asyncpg."""
    url = tcp_url.replace("postgresql:", "postgresql+asyncpg:")
    project = laid_down(tmp_path / "p", "async", url)
    rebuilt(project, environment(BETWEEN), "base → b1, 2 revisions")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "upgrade"),
    [
        ("branches", "base → d1, 5 revisions"),
        ("schemas", "base → b1, 2 revisions"),
        ("per_migration", "base → d1, 4 revisions"),
    ],
)
def test_the_oldest_meets_shapes(
    tmp_path: Path, database_url: str, environment: Environments, shape: str, upgrade: str
) -> None:
    """Branches, a schema of the version table, and Alembic's transactions of each revision."""
    project = laid_down(tmp_path / shape, shape, database_url)
    rebuilt(project, environment(OLDEST), upgrade)
