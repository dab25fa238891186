"""Every block of code in the README and in docs/ is run, or held by what reads such a text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from psycopg import sql

from backset.checks import differences
from backset.settings.reader import load
from backset.tasks import namespace
from tests import buckets, squashed
from tests.fleets import describe
from tests.git import WHO, commit, git
from tests.marks import slow_but
from tests.pages import PAGES, Block, agree, blocks, links
from tests.project import PROJECTS, REPOSITORY, Project
from tests.servers import TENANT
from tests.tilt import Tilt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.servers import SecuredServer

COMMANDS = {"sh", "console"}
SHOWN = {"text"}  # a picture
BLOCKS = [block for page in PAGES for block in blocks(page)]
INSTALLED = "python3 -m venv .venv && .venv/bin/pip install -e . && "  # a clone here is that
ALL_CHECKS = ".venv/bin/pip install -e '.[test]' && .venv/bin/nox"  # of which this is one
JUNK = shutil.ignore_patterns(*(REPOSITORY / ".gitignore").read_text().replace("/", "").split())


def of(*languages: str) -> list[Block]:
    """Return the blocks of some languages."""
    return [each for each in BLOCKS if each.language in languages]


def clone(folder: Path) -> Path:
    """Copy the repository, with the environment of this test as its own."""
    shutil.copytree(REPOSITORY, folder, ignore=JUNK)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture
def here(short_tmp: Path) -> Iterator[Project]:
    """A fresh clone; its embedded PostgreSQL is stopped afterwards."""
    project = Project(clone(short_tmp / "clone"))
    yield project
    project.invoke("stop")


@pytest.fixture
def elsewhere_in(tmp_path: Path, database_url: str) -> Project:
    """A folder with a project that knows nothing of backset, and an empty database for it."""
    shutil.copytree(PROJECTS / "conventions", tmp_path / "another-project")
    return Project(tmp_path, {"DATABASE_URL": database_url})


@pytest.fixture
def managed(short_tmp: Path, secured: SecuredServer, own_database: str) -> Project:
    """A clone whose database belongs to a role that may not create another."""
    with secured.administered() as session:
        made = sql.SQL("CREATE DATABASE {} OWNER {}")
        session.execute(made.format(sql.Identifier(own_database), sql.Identifier(TENANT)))
    project = Project(clone(short_tmp / "clone"))
    project.env["DATABASE_URL"] = secured.url(own_database, TENANT)
    assert project.invoke("reset-db").returncode == 0
    return project


@pytest.fixture
def direct(here: Project, database_url: str) -> Project:
    """A clone at head, whose direct URL is in a variable."""
    assert here.invoke("reset-db", DATABASE_URL=database_url).returncode == 0
    here.env["DIRECT_URL"] = database_url
    return here


@pytest.fixture
def own(tmp_path: Path, cluster: Cluster, superuser: psycopg.Connection[Any]) -> Iterator[Project]:
    """A reader's project, whose database `shop` names a revision that no file has."""
    shutil.copytree(PROJECTS / "conventions", tmp_path / "shop")
    project = Project(tmp_path / "shop", {"DATABASE_URL": cluster.url("shop")})
    superuser.execute("CREATE DATABASE shop")
    assert type_in(project, "alembic upgrade head").returncode == 0
    with psycopg.connect(cluster.url("shop")) as session:
        session.execute("UPDATE alembic_version SET version_num = 'cf94a9256bdb'")
    yield project
    for suffix in ("", "__previous", "__clean"):
        name = sql.Identifier(f"shop{suffix}")
        superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@pytest.fixture
def chained(
    tmp_path: Path, cluster: Cluster, superuser: psycopg.Connection[Any]
) -> Iterator[Project]:
    """A project in git with a chain of three revisions, and its database `shop` at their head."""
    project = squashed.laid(tmp_path / "shop", cluster.url("shop"))
    shutil.copy(REPOSITORY / "alembic/script.py.mako", project.folder / "migrations")
    git(project.folder, "init", "-q")
    commit(project.folder, "all")
    project.env |= WHO
    superuser.execute("CREATE DATABASE shop")
    squashed.upgrade(project)
    yield project
    superuser.execute("DROP DATABASE shop WITH (FORCE)")


@pytest.fixture
def tenants(
    here: Project, cluster: Cluster, superuser: psycopg.Connection[Any]
) -> Iterator[Project]:
    """A clone with the databases of three tenants, of which the first one is at head."""
    here.env["DATABASE_URL"] = cluster.url("postgres")
    describe(here, 'glob = "tenant_[1-3]"')
    names = [f"tenant_{each}" for each in (1, 2, 3)]
    for name in names:
        superuser.execute(f"CREATE DATABASE {name}".encode())
    first = here.run("alembic", "--", "upgrade", "head", DATABASE_URL=cluster.url(names[0]))
    assert first.returncode == 0, first.stderr
    yield here
    for name in names:
        superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def sharing(here: Project) -> Iterator[Project]:
    """A clone whose backups go into a bucket."""
    with buckets.served() as endpoint:
        here.env |= buckets.made(endpoint, "team").env | {"BACKSET_BACKUPS": "s3://team/backups"}
        yield here


@pytest.fixture
def branching(here: Project) -> Project:
    """A clone in git, on `main`, with a database at head."""
    git(here.folder, "init", "-q", "-b", "main")
    commit(here.folder, "all")
    here.env |= WHO
    assert here.invoke("reset-db").returncode == 0
    return here


STAGES = {
    "docs/how-to/branches.md": "branching",
    "docs/how-to/fleets.md": "tenants",
    "README.md#In your project": "own",
    "docs/how-to/another-project.md": "elsewhere_in",
    "docs/how-to/managed-server.md": "managed",
    "docs/how-to/pooled-url.md": "direct",
    "docs/how-to/shared-backups.md": "sharing",
    "docs/how-to/squash.md": "chained",
}


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    """A language that nothing here runs or reads cannot come in unnoticed."""
    known = {"python", "starlark", "toml", "dotenv", "yaml", "make", "just", "json"}
    known |= {*COMMANDS, *SHOWN}
    assert [str(each) for each in BLOCKS if each.language not in known] == []
    assert {each.language for each in BLOCKS} == known


def part(block: Block) -> str:
    """Return what is read on one stage: a heading of a page that has one, else the page."""
    headed = f"{block.page}#{block.heading}"
    return headed if headed in STAGES else block.page


@pytest.mark.parametrize(
    "read",
    slow_but(sorted({part(each) for each in of(*COMMANDS)}), lambda it: it.startswith("README.md")),
)
def test_commands(read: str, request: pytest.FixtureRequest) -> None:
    """What a page says to type does what the page says, in its order."""
    project: Project = request.getfixturevalue(STAGES.get(read, "here"))
    stay: list[str] = []  # what holds for the commands after it too
    for block in of(*COMMANDS):
        if part(block) != read or block.text.strip() == ALL_CHECKS:
            continue
        for command, shown in block.commands():
            script = "\n".join([*stay, command.removeprefix(INSTALLED)])
            done = type_in(project, script)
            where = f"{block}: {command}\n{done.stdout}"
            assert shown is not None or done.returncode == 0, where
            assert shown is None or agree(shown, done.stdout), where
            stay += re.findall(r"^(?:cd|export|\.) .*", command, re.MULTILINE)


def test_ci_types_what_the_readme_says() -> None:
    """In a fresh clone: what is left out here, since this test runs within it."""
    typed = (REPOSITORY / ".ci/run").read_text().splitlines()
    assert {f"{INSTALLED}.venv/bin/invoke reset-db", ALL_CHECKS} <= set(typed)


def type_in(project: Project, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a shell does, with the commands of the environment on PATH."""
    path = os.pathsep.join([f"{sys.prefix}/bin", os.environ["PATH"]])
    return subprocess.run(
        ["sh", "-ec", script],
        cwd=project.folder,
        env={**os.environ, **project.env, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_settings(block: Block, tmp_path: Path) -> None:
    """Settings that a page shows are read without a complaint; so is a file of accepted ones."""
    if "tool" in tomllib.loads(block.text):
        (tmp_path / "pyproject.toml").write_text(block.text)
        load(tmp_path, {})
    else:
        (tmp_path / "backset-baseline.toml").write_text(block.text)
        assert differences.read(tmp_path / "backset-baseline.toml").reasons


@pytest.mark.parametrize("block", of("dotenv"), ids=str)
def test_variables(block: Block, tmp_path: Path) -> None:
    """A .env that a page shows says where the database is."""
    (tmp_path / ".env").write_text(block.text)
    assert load(tmp_path, {}).target is not None


OWN_TASKS = [each for each in of("python") if "backset.chain" in each.text]
(OWN_COLLECTION,) = [each for each in of("python") if "add_collection" in each.text]


def test_chains_of_ones_own(tmp_path: Path) -> None:
    """What the page says together is a tasks.py with these tasks."""
    (tmp_path / "tasks.py").write_text("\n".join(each.text for each in OWN_TASKS))
    invoke = [sys.executable, "-m", "invoke", "--list"]
    listed = subprocess.run(invoke, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(f"  {name} " in listed.stdout for name in ("reset-db-anonymized", "bare", "status"))


OWN_TESTS = [each for each in of("python") if "backset_" in each.text]


@pytest.mark.slow
def test_tests(project: Project) -> None:
    """What the page shows together are tests that pass, and fixtures that pytest can read."""
    for number, block in enumerate(OWN_TESTS):
        (project.folder / f"test_{number}.py").write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", project.folder],
        cwd=project.folder,
        env={**os.environ, **project.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "5 passed" in done.stdout, done.stdout


NOXFILES = [each for each in of("python") if each not in (*OWN_TASKS, OWN_COLLECTION, *OWN_TESTS)]


@pytest.mark.parametrize("block", NOXFILES, ids=str)
def test_noxfiles(block: Block, tmp_path: Path) -> None:
    """Each is a noxfile that has the session."""
    (tmp_path / "noxfile.py").write_text(block.text)
    nox = [sys.executable, "-m", "nox", "--list"]
    listed = subprocess.run(nox, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "* migrate(18)" in listed.stdout


@pytest.mark.parametrize("block", of("starlark"), ids=str)
def test_tiltfiles(block: Block, tmp_path: Path) -> None:
    """Each declares the resources."""
    shutil.copy(REPOSITORY / "src/backset/tilt/backset.star", tmp_path)
    assert "database-migrate" in Tilt(tmp_path).evaluate(block.text).resources


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_files_for_other_programs(block: Block, tmp_path: Path) -> None:
    """A workflow holds GitHub's schema; pre-commit takes its own file."""
    check = ["check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    if "repos" in yaml.safe_load(block.text):
        check = ["pre_commit", "validate-config"]
    file = tmp_path / "file.yaml"
    file.write_text(block.text)
    subprocess.run([sys.executable, "-m", *check, str(file)], check=True, capture_output=True)


def test_tasks_beside_ones_own(elsewhere_in: Project) -> None:
    """Each has its name, and each hint is to be typed as it stands."""
    folder = elsewhere_in.folder / "another-project"
    (folder / "tasks.py").write_text(OWN_COLLECTION.text)
    project = Project(folder, elsewhere_in.env)
    assert {"lint", "db.reset-db", "db.undo"} <= {*project.run("--list").stdout.split()}
    done = project.run("db.reset-db")
    assert done.returncode == 0, done.stderr
    assert "`invoke db.undo` swaps the old one back" in done.stdout
    assert project.run("db.backup", "--name", "old.restore").returncode == 0
    done = project.run("db.restore", "old.restore", "--yes", "db.url")  # words of their own
    assert done.returncode == 0, done.stderr
    assert "load      old.restore" in done.stdout
    assert "postgresql" in done.stdout
    assert "'frob'" in project.run("db.branch", "frob", "db.url").stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "file", "argv"),
    [
        ("make", "Makefile", ["make", "db-reset", "WORDS=--plan"]),
        ("just", "justfile", ["just", "db-reset", "--plan"]),
        ("poe", "pyproject.toml", ["poe", "db-reset", "--plan"]),
    ],
)
def test_other_tools(elsewhere_in: Project, language: str, file: str, argv: list[str]) -> None:
    """Each hands on the words, and reaches the project's database."""
    text = next(
        each.text
        for each in BLOCKS
        if each.page == "docs/how-to/tools.md" and (each.language == language or "poe" in each.text)
    )
    folder = elsewhere_in.folder / "another-project"
    with (folder / file).open("a") as written:
        written.write(f"\n{text}")
    (folder / ".venv").symlink_to(sys.prefix)
    env = {**os.environ, **elsewhere_in.env, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert "nothing was changed" in done.stdout
    assert "· promote " in done.stdout


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_dev_containers(block: Block) -> None:
    """The commands are words that backset knows."""
    commands = " && ".join(
        value for key, value in json.loads(block.text).items() if "Command" in key
    )
    words = re.findall(r"bin/backset (.*?)(?: &&|$)", commands)
    assert words == ["reset-db", "wait upgrade"]
    assert {*" ".join(words).split()} <= {*namespace.task_names}


def test_the_first_page_says_the_version() -> None:
    """That of the package, which is in one place."""
    about = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"Version {about['version']}," in (REPOSITORY / "docs/index.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links(page: str) -> None:
    """What a page outside of the site links to is there; zensical holds the links of the site."""
    files = [each.partition("#")[0] for each in links(page) if "://" not in each]
    assert [each for each in files if not (REPOSITORY / each).exists()] == []


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        (["a 0.3 s", "b"], "a 11 s\nb\n", True),
        (["a", "…", "c"], "a\nb\nb\nc\n", True),
        (["a", "…", "c"], "a\nc\n", True),
        (["a … c"], "a b c\n", True),
        (["a", "c"], "a\nb\nc\n", False),
        (["a"], "a\nb\n", False),
        (["6"], "7\n", False),
        ([], "a\n", False),
    ],
)
def test_what_agrees(shown: list[str], printed: str, *, expected: bool) -> None:
    """A page may leave lines out where it says so, and nowhere else."""
    assert agree(shown, printed) is expected
