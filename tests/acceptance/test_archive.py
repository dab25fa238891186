"""`invoke archive` puts away what is out of use, and everything can be brought back from it."""

from __future__ import annotations

import json
import os
import py_compile
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.incident.project import CLEAN_REVISION, ORPHANED_REVISION
from tests.states import broken

if TYPE_CHECKING:
    from tests.project import Project


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of the migrations."""
    paths = (folder / "alembic").rglob("*")
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def clutter(project: Project) -> None:
    """Leave behind what the incident did: an old folder, a stray file, byte code without source."""
    broken(project)
    versions = project.folder / "alembic/versions"
    (script,) = versions.glob("*.py")
    script.with_name(f"{script.name}.bak").write_bytes(script.read_bytes())
    (versions / "__pycache__").mkdir(exist_ok=True)
    (versions / "__pycache__/cf94a9256bdb_gone.cpython-311.pyc").write_bytes(b"x")


@pytest.mark.slow
def test_the_runbooks_fifth_step(project: Project) -> None:
    """Planned, done, told by status, and undone: not a byte is lost."""
    clutter(project)
    before = tree(project.folder)
    planned = project.invoke("archive", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "folder    alembic/versions_backup/versions (5 files): it is not among" in planned.stdout
    assert ".py.bak: Alembic does not load a file of this name" in planned.stdout
    assert "cf94a9256bdb_gone.cpython-311.pyc: cf94a9256bdb_gone.py is gone" in planned.stdout
    new = tree(project.folder)
    assert {name: new.pop(name) for name in before} == before
    assert all(name.endswith(".pyc") for name in new)  # Python's own, of the script in use
    assert not (project.folder / "backups").exists()

    content = json.loads(project.invoke("archive", "--json").stdout)
    assert content["exit_code"] == 0
    assert {each["kind"] for each in content["stale"]} == {"folder", "stray", "bytecode"}
    after = tree(project.folder)
    assert not (project.folder / "alembic/versions_backup").exists()
    assert {name for name in after if not name.endswith(".pyc")} == {
        name
        for name in before
        if "versions_backup" not in name and not name.endswith((".bak", ".pyc"))
    }
    again = project.invoke("archive")
    assert "nothing is out of use" in again.stdout

    (orphan,) = json.loads(project.invoke("history", "--json").stdout)["chains"][0]["orphans"]
    assert orphan["revision"] == ORPHANED_REVISION
    assert orphan["companions"]
    subprocess.run(["sh", "-ec", orphan["command"]], cwd=project.folder, check=True)
    shown = project.invoke("history").stdout
    assert "no migration file" not in shown
    for name in tree(project.folder).keys() - after.keys():
        Path(name).unlink()

    subprocess.run(["sh", "-ec", content["command"]], cwd=project.folder, check=True)
    restored = tree(project.folder)
    assert {name: restored[name] for name in before} == before


def test_what_git_has_is_said(project: Project) -> None:
    """A person who reads the plan knows which files exist nowhere else."""
    clutter(project)
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    for words in (["init", "-q"], ["add", "alembic/versions_backup"]):
        subprocess.run(["git", *words], cwd=project.folder, env=env, check=True)
    told = project.invoke("archive", "--plan").stdout
    assert "(5 files): it is not among Alembic's version folders · git has 5" in told
    assert told.count("git has") == 1


@pytest.mark.slow
def test_a_disk_that_is_full(project: Project) -> None:
    """The tar cannot be written: exit code 4, one line, nothing removed, nothing left behind."""
    clutter(project)
    before = tree(project.folder)
    limit = (
        f"ulimit -f 4; exec {sys.executable} -m invoke archive"  # 4 blocks of 512 bytes or 1 KiB
    )
    done = subprocess.run(
        ["sh", "-c", limit],
        cwd=project.folder,
        env={**os.environ, **project.env, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert ".tar: File too large; nothing was removed →" in done.stderr
    after = tree(project.folder)
    assert {name: after[name] for name in before} == before
    assert [path.name for path in (project.folder / "backups").iterdir()] == [".gitignore"]


def test_byte_code_that_is_loaded_still(project: Project) -> None:
    """With `sourceless` a deleted script goes on as a head of the chain, until it is put away."""
    project.configure("[tool.alembic]", "[tool.alembic]\nsourceless = true")
    versions = project.folder / "alembic/versions"
    script = versions / "dead00_x.py"
    text = f"revision = 'dead00'\ndown_revision = {CLEAN_REVISION!r}\ndef upgrade(): pass\n"
    script.write_text(text)
    py_compile.compile(str(script))
    script.unlink()
    first = project.invoke("status")
    assert "dead00 is loaded from dead00_x" in first.stdout, first.stderr
    told = project.invoke("archive")
    assert told.returncode == 0, told.stderr
    assert "bytecode  alembic/versions/__pycache__/dead00_x" in told.stdout
    assert "dead00" not in project.invoke("status").stdout
    assert f"* {CLEAN_REVISION} (head)" in project.invoke("history").stdout


@pytest.mark.slow
def test_without_a_server(project: Project) -> None:
    """It is about files: no server is asked, and none is started."""
    clutter(project)
    told = project.invoke("archive", DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")
    assert told.returncode == 0, told.stderr
    assert "brings it back" in told.stdout
