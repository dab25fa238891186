"""Databases that follow git's branches: made, followed, listed, dropped; and the hook."""

from __future__ import annotations

import json
import random
import shutil
import stat
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from psycopg import sql

from backset.catalog import catalog
from backset.connections.target import Target
from tests import squashed
from tests.branches import FIRST, add, begun, checkout, database, revise, rows, told
from tests.fleets import describe
from tests.git import commit, git
from tests.project import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Project:
    """A project in git, on `main`, with a database at head that has one row."""
    project = begun(tmp_path / "shop", database_url)
    add(project, 1)
    return project


@pytest.fixture
def feature(shop: Project) -> Project:
    """The same with a branch `feature`, checked out, that has a database of its own."""
    checkout(shop, "feature", new=True)
    told(shop, "create")
    return shop


def test_a_branch_has_a_database_of_its_own(feature: Project) -> None:
    """It has the rows of the one it was started from; every task goes to it, and .env stays."""
    base, own = feature.database, f"{feature.database}__branch_feature"
    (feature.folder / ".env").write_text("A=1\n")
    assert database(feature) == own
    add(feature, 2)
    revise(feature, "bbb", "aaa")
    assert "of the branch feature" in feature.invoke("status").stdout
    checkout(feature, "main")
    assert database(feature) == base
    assert "of the branch" not in feature.invoke("status").stdout
    assert (rows(feature, base), rows(feature, own)) == ([1], [1, 2])
    done = feature.run("alembic", "--", "current")
    assert "aaa (head)" in done.stdout
    checkout(feature, "feature")
    assert "bbb (head)" in feature.run("alembic", "--", "current").stdout
    assert (feature.folder / ".env").read_text() == "A=1\n"
    assert feature.invoke("url", BACKSET_BASE="1").stdout.split("?")[0].endswith(f"/{base}")
    git(feature.folder, "checkout", "-q", "--detach")
    assert database(feature) == base


def test_the_nearest_one_is_copied(feature: Project) -> None:
    """Of those whose revisions are all in the chain, the one with the fewest left to run."""
    revise(feature, "bbb", "aaa")
    add(feature, 2)
    checkout(feature, "more", new=True)
    (made,) = told(feature, "switch")["branches"]
    assert (made["revisions"], made["place"]) == (["bbb"], "at head")
    assert rows(feature, made["database"]) == [1, 2]
    checkout(feature, "main")
    checkout(feature, "other", new=True)
    (made,) = told(feature, "switch")["branches"]
    assert (made["revisions"], made["place"]) == (["aaa"], "at head")
    git(feature.folder, "branch", "later", "feature")
    (made,) = told(feature, "create", "later")["branches"]
    assert made["revisions"] == ["bbb"]


def test_nothing_is_made_where_none_fits(shop: Project) -> None:
    """All are ahead: it says so, and what makes one all the same."""
    git(shop.folder, "branch", "old")
    revise(shop, "bbb", "aaa")
    checkout(shop, "old")
    done = shop.invoke("branch", "switch")
    assert done.returncode == 4
    assert f"{shop.database} is aside" in done.stderr
    assert "--from BRANCH" in done.stderr
    assert database(shop) == shop.database
    (copy,) = told(shop, "create", "--from", "main")["branches"]
    assert (copy["place"], copy["revisions"]) == ("aside", ["bbb"])
    told(shop, "delete", "old", "--yes")
    (empty,) = told(shop, "create", "--empty")["branches"]
    assert (empty["place"], empty["revisions"], empty["left"]) == ("behind", [], 1)
    assert shop.invoke("reset-db").returncode == 0
    assert told(shop, "switch")["branches"][0]["place"] == "at head"


def test_a_branch_that_is_behind_or_aside_is_told(feature: Project) -> None:
    """`switch` changes nothing of a database that is there, whatever is checked out."""
    revise(feature, "bbb", "aaa")
    git(feature.folder, "reset", "-q", "--hard", "HEAD~1")
    assert told(feature, "switch")["branches"][0]["place"] == "aside"
    git(feature.folder, "reset", "-q", "--hard", "ORIG_HEAD")
    squashed.write(feature, "ccc", "bbb", "SELECT 1")
    own = told(feature, "switch")["branches"][0]
    assert (own["place"], own["left"]) == ("behind", 1)
    assert "1 revision behind → `invoke upgrade`" in feature.invoke("branch", "switch").stdout


def test_no_task_takes_it_for_a_leftover(feature: Project) -> None:
    """Rebuilds here and of the base leave it a branch's database, and `undo` goes back."""
    add(feature, 2)
    for task in ("reset-db", "reset-db", "undo", "undo", "undo"):
        assert feature.invoke(task).returncode == 0
    checkout(feature, "main")
    assert feature.invoke("reset-db").returncode == 0
    git(feature.folder, "branch", "-q", "-D", "feature")
    found = {each["branch"]: each for each in told(feature, "list")["branches"]}
    assert found["feature"]["gone"]
    assert not found["main"]["gone"]
    done = feature.invoke(*found["feature"]["command"].split()[1:], "--yes")
    assert done.returncode == 0, done.stderr
    assert [each["branch"] for each in told(feature)["branches"]] == ["main"]
    like = f"SELECT datname FROM pg_database WHERE datname LIKE '{feature.database}%branch%'"
    assert feature.query(like, "postgres") == []


def test_it_goes_with_a_name(feature: Project) -> None:
    """A branch that is renamed keeps its database, and its old name is free again."""
    own = database(feature)
    git(feature.folder, "branch", "-m", "renamed")
    assert database(feature) == own
    checkout(feature, "feature", new=True)
    (made,) = told(feature, "create")["branches"]
    assert made["database"] not in {own, feature.database}


def test_it_is_among_the_runs(feature: Project) -> None:
    """When it was made, and when it was dropped, by whom; looking leaves nothing."""
    feature.invoke("branch", "list")
    feature.invoke("branch", "switch")
    assert feature.invoke("branch", "delete", "feature", "--yes").returncode == 0
    told = json.loads(feature.invoke("runs", "--json").stdout)["runs"]
    made, dropped = (each for each in told if each["task"].startswith("branch"))
    assert [made["task"], dropped["task"]] == ["branch create", "branch delete"]
    assert made["database"] == dropped["database"] != ""
    assert {made["result"], dropped["result"]} == {"done"}


def test_names_that_look_the_same_are_two(feature: Project) -> None:
    """What PostgreSQL's name does not spell, a digest does."""
    names = ["a/b", "a-b", "A_B", "ä", "x" * 90]
    made = set()
    for each in names:
        git(feature.folder, "branch", each)
        made.add(told(feature, "create", each)["branches"][0]["database"])
    assert len(made) == len(names)
    assert all(len(each) < 64 for each in made)


@pytest.mark.parametrize("words", [["create"], ["delete", "gone", "--yes"], ["create", "nope"]])
def test_what_is_wrong_is_one_line(shop: Project, words: list[str]) -> None:
    """What, where, and what to do; nothing is made."""
    done = shop.invoke("branch", *words)
    assert done.returncode in {2, 4}
    assert len(done.stderr.splitlines()) == 1
    assert " → " in done.stderr


def test_dropping_asks(feature: Project) -> None:
    """Without a terminal it wants --yes; never the base, nor what is protected."""
    own = database(feature)
    done = feature.invoke("branch", "delete", "feature")
    assert (done.returncode, "--yes" in done.stderr) == (3, True)
    assert feature.invoke("branch", "delete", "main", "--yes").returncode == 3
    assert feature.invoke("protect").returncode == 0
    done = feature.invoke("branch", "delete", "feature", "--yes")
    assert done.returncode == 3
    assert f"is protected → with the URL of {own}: `invoke unprotect`" in done.stderr
    assert feature.invoke("unprotect", "--confirm", own).returncode == 0
    code, shown = feature.on_a_terminal("branch", "delete", "feature", typed=f"{own}\n")
    assert code == 0, shown
    assert database(feature) == feature.database


def test_a_database_that_is_gone_is_told(feature: Project) -> None:
    """In one line, with what makes it again; nothing goes to another database."""
    own = database(feature)
    feature.query("SELECT 1", "postgres")
    with psycopg.connect(**{**Target.parse(feature.url).params, "dbname": "postgres"}) as session:  # type: ignore[arg-type]
        session.autocommit = True
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(own)))
    for task in ("upgrade", "status", "reset-db"):
        done = feature.invoke(task)
        assert done.returncode == 4, done.stdout
        assert f"{own}, the database of the branch feature, is not on " in done.stderr
        assert "`invoke branch switch` makes it again" in done.stderr
    assert told(feature, "switch")["branches"][0]["place"] == "at head"
    assert rows(feature, own) == [1]
    assert database(feature) == own


def test_sessions_on_the_source_are_ended(shop: Project) -> None:
    """Only for the copy, and each is named; the plan says it before."""
    checkout(shop, "feature", new=True)
    params: dict[str, Any] = {**Target.parse(shop.url).params, "application_name": "app"}
    with closing(psycopg.connect(**params)):
        planned = shop.invoke("branch", "create", "--plan")
        assert "would end app@socket" in planned.stdout
        done = shop.invoke("branch", "create")
    assert done.returncode == 0, done.stderr
    assert "ended for the copy: app@socket" in done.stdout


def test_it_is_like_the_one_it_was_copied_from(shop: Project) -> None:
    """Settings, grants and the comment are there; what protects the source is not."""
    base = shop.database
    for each in (
        f"ALTER DATABASE {base} SET statement_timeout = '7s'",
        f"REVOKE CONNECT ON DATABASE {base} FROM PUBLIC",
        f"COMMENT ON DATABASE {base} IS 'of the shop'",
    ):
        shop.query(each)
    assert shop.invoke("protect").returncode == 0
    checkout(shop, "feature", new=True)
    own = told(shop, "create")["branches"][0]["database"]
    look = """
        SELECT datacl::text, datdba, (SELECT setconfig::text FROM pg_db_role_setting
        WHERE setdatabase = d.oid AND setrole = 0), shobj_description(oid, 'pg_database')
        FROM pg_database d WHERE datname = '{}'
    """
    ((acl, owner, _, _),) = shop.query(look.format(base))
    ((own_acl, own_owner, settings, comment),) = shop.query(look.format(own))
    assert (own_acl, own_owner, settings) == (acl, owner, "{statement_timeout=7s}")
    assert comment.endswith("\nof the shop")


def test_what_a_killed_run_has_half_copied_goes(shop: Project) -> None:
    """It is closed and has no mark; what somebody else has made is left alone."""
    half, own = (f"{shop.database}__branch_{each}" for each in ("half", "own"))
    params: dict[str, Any] = {**Target.parse(shop.url).params, "dbname": "postgres"}
    with psycopg.connect(**params, autocommit=True) as session:
        for each in (half, own):
            session.execute(f"CREATE DATABASE {each} ALLOW_CONNECTIONS false".encode())
        session.execute(f"COMMENT ON DATABASE {own} IS 'mine'".encode())
        checkout(shop, "half", new=True)
        told(shop, "create")
        there = {each for (each,) in session.execute("SELECT datname FROM pg_database")}
    assert database(shop) == half
    assert own in there


def test_a_role_that_may_not_create_one_is_told(shop: Project, plain: str) -> None:
    """Every reason at once, with what an administrator would type; nothing is made."""
    checkout(shop, "feature", new=True)
    shop.query(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {plain}")
    shop.env["DATABASE_URL"] = shop.url.replace("postgres@", f"{plain}@")
    done = shop.invoke("branch", "create")
    assert done.returncode == 3, done.stderr
    assert f'ALTER ROLE "{plain}" CREATEDB' in done.stderr
    assert f'ALTER DATABASE "{shop.database}" OWNER TO "{plain}"' in done.stderr
    assert database(shop) == shop.database


def test_two_at_once_make_one(shop: Project) -> None:
    """The hook of a work tree and a person: the second one finds what the first has made."""
    checkout(shop, "feature", new=True)
    runs = [shop.start("branch", "switch", "--wait") for _ in range(3)]
    for each in runs:
        said, error = each.communicate(timeout=60)
        assert each.returncode == 0, error
        assert f"feature has {shop.database}__branch_feature" in said
    assert [each["gone"] for each in told(shop)["branches"]] == [False, False]


def test_a_look_that_a_copy_has_ended_is_repeated(
    feature: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run ends the sessions on what it copies; this one just looks again."""
    read, ended = catalog.files, list[int]()

    def files(session: psycopg.Connection[tuple[object, ...]]) -> int:
        if len(ended) < 2:
            ended.append(session.info.backend_pid)
            feature.query(f"SELECT pg_terminate_backend({session.info.backend_pid})", "postgres")
        return read(session)

    monkeypatch.setattr(catalog, "files", files)
    done = feature.invoke("branch", "list")
    assert len(ended) == 2
    assert done.returncode == 0, done.stderr


def test_no_pattern_of_a_fleet_means_it(feature: Project) -> None:
    """It is kept beside the base, as `__previous` is."""
    (feature.folder / "pyproject.toml").touch()
    describe(feature, f'glob = "{feature.database}*"')
    done = feature.invoke("fleet", "status")
    assert "1 database" in done.stdout
    assert "__branch_" not in done.stdout + done.stderr


def test_each_work_tree_has_that_of_its_branch(feature: Project, tmp_path: Path) -> None:
    """Git's configuration is shared, and each work tree has its own HEAD."""
    git(feature.folder, "worktree", "add", "-q", "-b", "third", str(tmp_path / "third"), "main")
    other = type(feature)(tmp_path / "third", feature.env)
    (made,) = told(other, "switch")["branches"]
    assert database(other) == made["database"]
    assert database(feature) == f"{feature.database}__branch_feature"
    assert len(told(other)["branches"]) == 3


def test_the_hook_makes_and_tells(shop: Project) -> None:
    """A checkout of a new branch gives it a database; the checkout of a file does nothing."""
    done = shop.invoke("branch", "--install-hook")
    assert done.returncode == 0, done.stderr
    hook = shop.folder / ".git/hooks/post-checkout"
    assert hook.stat().st_mode & stat.S_IXUSR
    said = git_with(shop, "checkout", "-b", "feature")
    assert f"feature has {shop.database}__branch_feature" in said
    said = git_with(shop, "checkout", "main")
    assert f"main has {shop.database}" in said
    assert shop.database not in git_with(shop, "checkout", "--", "alembic.ini")
    assert shop.invoke("branch", "--remove-hook").returncode == 0
    assert not hook.exists()


def test_the_hook_of_pre_commit_does_the_same(shop: Project) -> None:
    """What its manifest says runs after a checkout, whatever has changed."""
    _, hook = yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())
    assert (hook["stages"], hook["always_run"]) == (["post-checkout"], True)
    checkout(shop, "feature", new=True)
    env = {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin", **shop.env}
    said = subprocess.check_output(hook["entry"].split(), cwd=shop.folder, env=env, text=True)
    assert f"feature has {shop.database}__branch_feature" in said


def git_with(project: Project, *arguments: str) -> str:
    """Run git with the environment of the project; return all that it says."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=project.folder,
        env={"PATH": f"{sys.prefix}/bin:/usr/bin:/bin", **project.env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


def test_a_hook_of_somebodys_own_stays(shop: Project) -> None:
    """Ours runs before it, once; removed, the file is to the byte as it was."""
    git(shop.folder, "config", "core.hooksPath", "own hooks")
    hook = shop.folder / "own hooks/post-checkout"
    hook.parent.mkdir()
    text = b"#!/usr/bin/env bash\nset -e\necho caf\xe9 $1 >> seen\nexit 0\n"
    hook.write_bytes(text)
    refused = shop.invoke("branch", "--install-hook")
    assert (refused.returncode, "chmod +x" in refused.stderr) == (3, True)
    hook.chmod(0o755)
    for _ in range(2):
        assert shop.invoke("branch", "--install-hook").returncode == 0
    assert hook.read_bytes().count(b"branch switch") == 1
    assert "feature has" in git_with(shop, "checkout", "-b", "feature")
    assert (shop.folder / "seen").exists()
    assert shop.invoke("branch", "--remove-hook").returncode == 0
    assert hook.read_bytes() == text
    hook.write_bytes(b"#!/usr/bin/python3\n")
    assert shop.invoke("branch", "--install-hook").returncode == 3


def test_code_of_the_checkout_is_not_run(shop: Project) -> None:
    """`switch` reads the scripts, and starts neither env.py nor a script."""
    checkout(shop, "feature", new=True)
    for path in (shop.folder / "migrations/env.py", *squashed.versions(shop).glob("*.py")):
        path.write_text(path.read_text() + f"\nopen({str(shop.folder / 'ran')!r}, 'w')\n")
    commit(shop.folder, "Trap")
    told(shop, "switch")
    told(shop, "delete", "feature", "--yes")
    del shop.env["DATABASE_URL"]
    assert "only env.py says" in told(shop, "switch", code=2)["error"]["lines"][0]
    assert not (shop.folder / "ran").exists()


def test_the_embedded_server_is_known_to_switch(short_tmp: Path, database_url: str) -> None:
    """Where env.py waits for a URL, an earlier task has seen that, and a changed one is new."""
    project = squashed.laid(short_tmp / "shop", database_url, FIRST)
    del project.env["DATABASE_URL"]
    git(project.folder, "init", "-q", "-b", "main")
    commit(project.folder, "Begin")
    checkout(project, "feature", new=True)
    try:
        assert "only env.py says" in told(project, "switch", code=2)["error"]["lines"][0]
        compiled = squashed.versions(project) / "__pycache__"
        compiled.mkdir(exist_ok=True)
        told(project, "create")
        (compiled / "bbb.cpython-399.pyc").touch()  # of a revision of another branch
        (made,) = told(project, "switch")["branches"]
        assert made["branch"] == "feature"
        assert project.invoke("upgrade").returncode == 0
        assert told(project, "switch")["branches"][0]["place"] == "at head"
        (project.folder / "migrations/env.py").write_text("raise SystemExit")
        assert "only env.py says" in told(project, "switch", code=2)["error"]["lines"][0]
    finally:
        project.invoke("stop")


@pytest.mark.slow
def test_killed_at_any_moment(shop: Project) -> None:
    """Nothing half made is ever a branch's database, and the next run goes on."""
    shop.query("CREATE TABLE big AS SELECT generate_series(1, 2000000) AS id")
    checkout(shop, "feature", new=True)
    chance = random.Random(1)  # noqa: S311  (no secret)
    for number in range(12):
        process = shop.start("branch", "create")
        time.sleep(chance.uniform(0.2, 1.2))
        process.kill()
        process.communicate()
        found = told(shop, "list")["branches"]
        own = [each for each in found if each["branch"] == "feature" and not each["gone"]]
        assert all(each["place"] == "at head" for each in own)
        (made,) = told(shop, "switch", "--wait")["branches"]
        count = "SELECT count(*) FROM big"
        assert shop.query(count, made["database"]) == shop.query(count), number
        told(shop, "delete", "feature", "--yes")
    left = told(shop, "list")["branches"]
    for each in left:
        if each["gone"]:
            told(shop, "delete", each["database"], "--yes")
    like = f"SELECT count(*) FROM pg_database WHERE datname LIKE '{shop.database}__branch%'"
    assert shop.query(like, "postgres") == [(0,)]


def test_a_project_without_git_is_told(shop: Project) -> None:
    """One line, and the other tasks go on as ever."""
    shutil.rmtree(shop.folder / ".git")
    done = shop.invoke("branch")
    assert done.returncode == 4
    assert "the project is in no git repository" in done.stderr
    assert database(shop) == shop.database
