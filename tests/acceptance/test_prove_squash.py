"""`invoke prove-squash`: an old chain and the one on disk are built and compared; nothing stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backset.connections.target import Target
from tests.incident.project import INCIDENT, JUNK
from tests.marks import slow_but

if TYPE_CHECKING:
    import psycopg

    from tests.project import Project


OLD = {
    "a1": (
        None,
        """
    op.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    op.execute("CREATE TABLE roles (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, "
               "created_at timestamptz DEFAULT now())")
    op.execute("CREATE TABLE kinds (id serial PRIMARY KEY, name text)")
    op.execute("INSERT INTO roles (name) VALUES ('admin'), ('user')")
""",
    ),
    "a2": (
        "a1",
        """
    op.execute("INSERT INTO kinds (name) VALUES ('one'), ('two')")
    op.execute("CREATE FUNCTION more(x int) RETURNS int LANGUAGE sql AS 'SELECT x + 1'")
""",
    ),
}
NEW = """
    op.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    op.execute("CREATE TABLE roles (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, "
               "created_at timestamptz DEFAULT now())")
    op.execute("CREATE TABLE kinds (id serial PRIMARY KEY, name text)")
    op.execute("INSERT INTO roles (name) VALUES ('user'), ('admin')")
    op.execute("INSERT INTO kinds (name) VALUES ('one'), ('two')")
    op.execute("CREATE FUNCTION more(x int) RETURNS int LANGUAGE sql AS 'SELECT x + 1'")
"""
REVISION = """
from alembic import op
revision, down_revision = {revision!r}, {down!r}
def upgrade():
{body}
def downgrade(): pass
"""


def write(versions: Path, revision: str, down: str | None, body: str) -> None:
    """Write a revision."""
    text = REVISION.format(revision=revision, down=down, body=body)
    (versions / f"{revision}_x.py").write_text(text)


@pytest.fixture
def squashed(project: Project) -> Project:
    """A project whose first commit has the old chain; on disk it has been squashed since."""
    versions = project.folder / "alembic/versions"
    shutil.rmtree(versions)
    versions.mkdir()
    for revision, (down, body) in OLD.items():
        write(versions, revision, down, body)
    (project.folder / ".gitignore").write_text("backups\n__pycache__\n")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "old")
    git(project, "tag", "v1.2")
    for script in versions.glob("*.py"):
        script.unlink()
    write(versions, "b1", None, NEW)
    return project


def git(project: Project, *arguments: str) -> str:
    """Run git in the project, with nobody's configuration."""
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com")
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=project.folder,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def beside(project: Project) -> set[str]:
    """Return the endings of the databases beside the target."""
    name = Target.parse(project.url).database
    found = project.query("SELECT datname FROM pg_database", "postgres")
    return {each.removeprefix(name) for (each,) in found if each.startswith(name)} - {""}


def trees() -> set[Path]:
    """Return the trees that are written at the moment."""
    return set(Path(tempfile.gettempdir()).glob("backset-tree-*"))


def said(project: Project, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON of a proof."""
    done = project.invoke("prove-squash", *arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def test_a_squash_that_makes_the_same_is_proved(squashed: Project) -> None:
    """Exit 0; keys and times that every build makes anew are told, and are no differences."""
    before = git(squashed, "status", "--porcelain")
    done = squashed.invoke("prove-squash", "v1.2")
    assert done.returncode == 0, done.stderr
    assert "2 revisions" in done.stdout
    assert (
        "table roles: its 2 rows are alike but for created_at, id, which every build makes anew"
    ) in done.stdout
    assert "both chains make the same, and 1 that matter less" in done.stdout
    assert git(squashed, "status", "--porcelain") == before
    assert beside(squashed) == set()
    assert squashed.query("SELECT FROM pg_tables WHERE schemaname = 'public'") == []


def test_each_difference_is_a_finding(squashed: Project) -> None:
    """Exit 6; objects, aspects and rows, and a sequence that would collide."""
    text = NEW.replace("'sad', 'glad'", "'sad'").replace("x + 1", "x + 2")
    text = text.replace("(name) VALUES ('one'), ('two')", "VALUES (1, 'one'), (2, 'three')")
    write(squashed.folder / "alembic/versions", "b1", None, text)
    code, found = said(squashed, "main")
    assert code == 6
    function, *others = [each["what"] for each in found["findings"]]
    assert function.startswith("function more(integer): definition is another from line 4 on: ")
    assert others == [
        "type mood: 'glad' only in the old chain",
        "row id=2 of kinds: name is two in the old chain, three in the new chain",
        "sequence kinds_id_seq would give 1 next in the new chain, and kinds.id has 2 already",
    ]
    assert {each["kind"] for each in found["findings"]} == {"squash differs"}
    assert [each["step"] for each in found["steps"]] == ["old", "new", "compare"]
    assert found["steps"][0]["made"]["rows"] == 4


def test_the_old_tree_is_used_whole(squashed: Project) -> None:
    """The commit's own env.py and modules run, and not those on disk; .env is today's."""
    env = squashed.folder / "alembic/env.py"
    env.write_text("raise RuntimeError('today')\n" + env.read_text())
    shutil.rmtree(squashed.folder / "app")
    done = squashed.invoke("prove-squash", "HEAD")
    assert done.returncode == 4
    assert "✔ old " in done.stdout
    assert "the new chain (as it is on disk) cannot be built" in done.stderr


def test_a_commit_is_written_whole(squashed: Project) -> None:
    """Files that .gitattributes keeps out of releases are there; the index stays as it is."""
    (squashed.folder / ".gitattributes").write_text("alembic/versions export-ignore\n")
    git(squashed, "add", ".gitattributes")
    git(squashed, "commit", "-q", "-m", "attributes")
    before = git(squashed, "status", "--porcelain"), git(squashed, "ls-files", "--stage")
    done = squashed.invoke("prove-squash", "HEAD", GIT_INDEX_FILE="/nowhere/index")
    assert done.returncode == 0, done.stderr
    assert "2 revisions" in done.stdout
    assert (git(squashed, "status", "--porcelain"), git(squashed, "ls-files", "--stage")) == before


@pytest.mark.slow
def test_a_folder_of_old_revisions(squashed: Project) -> None:
    """It runs with today's env.py; a folder that only holds such a folder is looked into."""
    folder = squashed.folder / "alembic/versions_backup/versions"
    folder.mkdir(parents=True)
    for revision, (down, body) in OLD.items():
        write(folder, revision, down, body)
    for named in ("alembic/versions_backup/versions", "alembic/versions_backup"):
        code, found = said(squashed, named)
        assert (code, found["findings"]) == (0, [])
        assert found["steps"][0]["text"].startswith("the folder alembic/versions_backup/versions")


def test_the_incidents_old_chain_cannot_be_built(project: Project) -> None:
    """It drops an index twice, so no database can come from it: that is said, with the revision."""
    folder = project.folder / "old"
    shutil.copytree(INCIDENT / "old_versions", folder, ignore=JUNK)
    done = project.invoke("prove-squash", "old")
    assert done.returncode == 4
    assert "the old chain (the folder old) cannot be built on an empty database: revision " in (
        done.stderr
    )
    assert 'index "ix_runs_created_at" does not exist' in done.stderr
    assert beside(project) == set()


def test_the_incidents_chains_differ(project: Project) -> None:
    """With that revision emptied, what the clean migration makes otherwise is listed."""
    folder = project.folder / "old"
    shutil.copytree(INCIDENT / "old_versions", folder, ignore=JUNK)
    (broken,) = folder.glob("8b72e4d91c05*.py")
    upgrade, _, downgrade = broken.read_text().partition("\n\n\ndef downgrade")
    head = upgrade.partition("    op.drop_index")[0]
    broken.write_text(f"{head}    pass\n\n\ndef downgrade{downgrade}")
    code, found = said(project, "old")
    texts = {each["what"] for each in found["findings"]}
    assert code == 6
    assert texts >= {
        "column tasks.agent_mode is only in the new chain",
        "column tasks.results: type is json in the old chain, jsonb in the new chain",
        "column users.email: type is character varying in the old chain, text in the new chain",
        "index ix_tasks_archived is only in the new chain",
        "constraint ck_tasks_status on tasks is only in the new chain",
    }
    assert not any("archived" in text and "column" in text for text in texts)
    assert any("another order" in each["text"] for each in found["notices"])


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ("nonsense", "'nonsense' is neither a commit of this repository nor a folder"),
        ("--all", "'--all' is neither a commit"),
        ("app/nobody", "'app/nobody' is neither a commit"),
        ("empty", "empty has no revision"),
    ],
)
def test_what_is_neither_is_said(squashed: Project, old: str, words: str) -> None:
    """In one line, before anything is built."""
    (squashed.folder / "empty").mkdir()
    done = squashed.invoke("prove-squash", old)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert words in line
    assert "→ name a commit, a branch or a tag, or a folder of old revisions" in line


def test_a_plan_builds_nothing(squashed: Project) -> None:
    """It says which commit, and in which databases."""
    done = squashed.invoke("prove-squash", "v1.2", "--plan")
    assert done.returncode == 0, done.stderr
    assert "would build the project of v1.2, commit " in done.stdout
    assert "nothing was changed" in done.stdout
    assert beside(squashed) == set()


@pytest.mark.slow
def test_an_old_chain_with_two_heads(squashed: Project) -> None:
    """Merging its branches may be what the squash is for: all of them are built."""
    folder = squashed.folder / "old"
    folder.mkdir()
    for revision, (down, body) in OLD.items():
        write(folder, revision, down, body)
    write(folder, "a3", "a1", '    op.execute("CREATE TABLE side (id int)")')
    code, found = said(squashed, "old")
    assert code == 6
    assert found["steps"][0]["made"]["revisions"] == 3
    assert [each["what"] for each in found["findings"]] == ["table side is only in the old chain"]


@pytest.mark.slow
def test_a_chain_that_hangs_is_stopped(squashed: Project) -> None:
    """With `--timeout`; the line names the revision, and nothing is left."""
    slow = NEW + '    op.execute("SELECT pg_sleep(600)")\n'
    write(squashed.folder / "alembic/versions", "b1", None, slow)
    done = squashed.invoke("prove-squash", "v1.2", "--timeout", "8")
    assert done.returncode == 4
    assert "stopped after 8 s, while at 1/1 b1" in done.stderr
    assert beside(squashed) == set()


@pytest.mark.slow
def test_the_projects_own_command_builds_both(squashed: Project) -> None:
    """Where `[tool.backset] upgrade` replaces Alembic's process, it runs in the old tree, too."""
    (squashed.folder / "migrate.py").write_text(
        "import os, subprocess, sys\n"
        "print(os.getcwd(), flush=True)\n"
        "subprocess.run([sys.executable, '-m', 'alembic', 'upgrade', 'head'], check=True)\n"
    )
    git(squashed, "add", "migrate.py")
    git(squashed, "commit", "-q", "-m", "own door")
    git(squashed, "checkout", "-q", "HEAD", "--", "alembic")
    git(squashed, "commit", "-q", "--allow-empty", "-m", "both")
    squashed.configure("[tool.backset]\n", '[tool.backset]\nupgrade = ["python", "migrate.py"]\n')
    for script in (squashed.folder / "alembic/versions").glob("a*.py"):
        script.unlink()
    code, found = said(squashed, "HEAD")
    assert (code, found["findings"]) == (0, [])
    assert [each.get("made", {}).get("revisions") for each in found["steps"]] == [2, 1, None]


@pytest.mark.parametrize(
    "signum", slow_but([signal.SIGTERM, signal.SIGKILL], lambda signum: signum == signal.SIGTERM)
)
def test_an_interrupted_proof_leaves_nothing(
    squashed: Project, superuser: psycopg.Connection[Any], signum: int
) -> None:
    """After TERM nothing is there; after KILL the next proof takes it away."""
    slow = NEW + '    op.execute("SELECT pg_sleep(60)")\n'
    write(squashed.folder / "alembic/versions", "b1", None, slow)
    with squashed.start("prove-squash", "v1.2") as running:
        deadline = time.monotonic() + 60
        while "__scratch" not in beside(squashed):
            assert time.monotonic() < deadline, "the scratch database never came"
            time.sleep(0.02)
        assert any(str(running.pid) in path.name for path in trees())
        assert all(path.stat().st_mode & 0o777 == 0o700 for path in trees())
        running.send_signal(signum)
        running.communicate()
    if signum == signal.SIGKILL:
        assert "__scratch" in beside(squashed)
        write(squashed.folder / "alembic/versions", "b1", None, NEW)
        assert squashed.invoke("prove-squash", "v1.2").returncode == 0
    assert beside(squashed) == set()
    assert not any(str(running.pid) in path.name for path in trees())
