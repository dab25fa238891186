"""A database follows a squash by itself: `invoke upgrade` finds where it stands; no row is lost."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests import squashed
from tests.git import commit, git
from tests.marks import slow_but
from tests.project import databases, laid_down, prints
from tests.squashed import ALL, CHAIN, NEW, laid, rows, squash, upgrade

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project


def at(project: Project, revision: str) -> str:
    """Bring an empty database to a revision; return the digest of what the whole chain makes."""
    upgrade(project)
    made = squashed.digest(project)
    for schema, table in project.query(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|info)'"
    ):
        project.query(f"DROP TABLE {schema}.{table} CASCADE")
    upgrade(project, revision)
    return made


def test_a_database_at_the_old_head_follows(tmp_path: Path, database_url: str) -> None:
    """One row of the version table changes, and nothing else; the second run has nothing to do."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "ccc")
    squash(project, made, archive=False)
    before = prints(project)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"✔ follow    ccc → {NEW}, which replaces it\n" in done.stdout
    assert f"✔ upgrade   already at {NEW}\n" in done.stdout
    assert rows(project) == [NEW]
    after = prints(project)
    assert {name for name in before if before[name] != after[name]} == {"public.alembic_version"}
    again = project.invoke("upgrade")
    assert again.returncode == 0
    assert "follow" not in again.stdout


def test_a_plan_says_it_and_changes_nothing(tmp_path: Path, database_url: str) -> None:
    """`--plan` has a line for it, and the version table is as it was."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"))
    before = prints(project)
    done = project.invoke("upgrade", "--plan")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"· follow    would compare the schema, and write {NEW} for ccc\n" in done.stdout
    assert prints(project) == before


@pytest.mark.slow
def test_the_archive_of_the_squash_is_what_counts(tmp_path: Path, database_url: str) -> None:
    """A copy in the project may have the id of an old revision, and another text."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "bbb"))
    copies = project.folder / "notes"
    copies.mkdir()
    other = squashed.script("ccc", "aaa", "CREATE TABLE of_nobody (id int)")
    (copies / "ccc_as_it_was_once.py").write_text(other)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "replaced.tar.gz" in done.stdout
    assert rows(project) == [NEW]


def test_from_the_middle_by_the_archive(tmp_path: Path, database_url: str) -> None:
    """What had not run here runs from the archive, after a backup; rows of people stay."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "bbb")
    project.query("UPDATE users SET name = 'Cid' WHERE id = 2")
    squash(project, made)
    files = sorted(path.name for path in squashed.versions(project).glob("*"))
    planned = project.invoke("upgrade", "--plan")
    assert "would run 1 old revision up to ccc, from backups/" in planned.stdout
    assert rows(project) == ["bbb"]
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"bbb → {NEW}, which replaces it, after 1 old revision from backups/" in done.stdout
    assert "· follow    backup: backups/" in done.stdout
    assert rows(project) == [NEW]
    assert project.query("SELECT name FROM users ORDER BY id") == [("Ann",), ("Cid",)]
    assert sorted(path.name for path in squashed.versions(project).glob("*.py")) == [
        each for each in files if each.endswith(".py")
    ]


def test_what_is_told_of_a_database_that_can_follow(tmp_path: Path, database_url: str) -> None:
    """It is no orphaned revision: `status`, `verify` and `history` say where it stands."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    told = project.invoke("status")
    assert told.returncode == 6
    assert (
        f" state     squashed: alembic_version names ccc, which {NEW} replaces (last of 3)\n"
        in told.stdout
    )
    assert (
        " cure      invoke upgrade: it compares the schema, and writes the new id; " in told.stdout
    )
    assert "orphaned" not in told.stdout + told.stderr
    verified = project.invoke("verify")
    assert verified.returncode == 6
    assert f"squashed: the database is at ccc, which {NEW} replaces (last of 3)" in verified.stderr
    assert "→ invoke upgrade" in verified.stderr
    drawn = project.invoke("history")
    assert (
        f" * {NEW} (head, replaces 3 revisions) Revision {NEW}. ← database at ccc (last of 3)\n"
        in drawn.stdout
    )
    project.query("UPDATE alembic_version SET version_num = 'aaa'")
    assert f"names aaa, which {NEW} replaces (number 1 of 3)" in project.invoke("status").stdout


@pytest.mark.slow
def test_repair_lets_it_follow(tmp_path: Path, database_url: str) -> None:
    """The cure of that state is an upgrade, and it ends at head."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    done = project.invoke("repair")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "state     squashed" in done.stdout
    assert f"✔ follow    ccc → {NEW}" in done.stdout
    assert rows(project) == [NEW]


def test_from_the_middle_by_git(tmp_path: Path, database_url: str) -> None:
    """A colleague has no archive, but the commits: the working tree is only read."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "aaa")
    git(project.folder, "init", "-q", "-b", "main")
    commit(project.folder, "The chain")
    squash(project, made, archive=False)
    commit(project.folder, "Squash it")
    head = git_state(project)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"aaa → {NEW}, which replaces it, after 2 old revisions from git's " in done.stdout
    assert rows(project) == [NEW]
    assert project.query("SELECT count(*) FROM users") == [(2,)]
    assert git_state(project) == head


def git_state(project: Project) -> list[str]:
    """Return what is in the folder of revisions."""
    return sorted(each.name for each in squashed.versions(project).glob("*.py"))


def test_old_scripts_that_are_nowhere(tmp_path: Path, database_url: str) -> None:
    """One line says which, and what to do; nothing is changed, and a rebuild keeps the rows."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "bbb"), archive=False)
    before = prints(project)
    done = project.invoke("upgrade")
    assert done.returncode == 4
    assert (
        f"{NEW} replaces ccc: no folder, no commit and no backup here has its file" in done.stderr
    )
    assert "put the archive of the squash into the folder of backups" in done.stderr
    assert "`invoke reset-db --carry` rebuilds the database and keeps its rows" in done.stderr
    assert prints(project) == before


DRIFT = "ALTER TABLE tasks DROP COLUMN owner; ALTER TABLE users ALTER name SET NOT NULL"


def test_a_database_that_differs_is_refused(tmp_path: Path, database_url: str) -> None:
    """With a line for each thing that is missing or not the same; `--drifted` follows anyway."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    project.query(DRIFT)
    before = prints(project)
    done = project.invoke("upgrade")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "squash not followed: " in done.stderr
    assert "column tasks.owner is only in the migrations" in done.stderr
    assert "column users.name" in done.stderr
    assert "`invoke upgrade --drifted` follows although it differs" in done.stderr
    assert prints(project) == before
    assert databases(project) == {""}
    found = json.loads(project.invoke("upgrade", "--json").stdout)["findings"]
    assert {each["kind"] for each in found} == {"squash not followed"}
    followed = project.invoke("upgrade", "--drifted")
    assert followed.returncode == 0, followed.stderr
    assert f"ccc → {NEW}, which replaces it · although its schema differs" in followed.stdout
    assert rows(project) == [NEW]


@pytest.mark.slow
def test_what_a_database_has_beside_stops_nothing(tmp_path: Path, database_url: str) -> None:
    """An object that no migration makes is named, and the squash is followed."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    project.query("CREATE TABLE notes (id int); CREATE INDEX mine ON users (name)")
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is missing; beside that index mine is only in the database" in done.stdout
    assert "table notes is only in the database" in done.stdout
    assert rows(project) == [NEW]


def test_a_role_that_can_make_no_scratch_database(tmp_path: Path, owned: Project) -> None:
    """At the end of what is replaced it follows; where it differs, it is told why that is all."""
    project = laid(tmp_path / "p", owned.url)
    made = at(project, "ccc")
    squash(project, made, archive=False)
    project.query("CREATE TABLE notes (id int)")
    refused = project.invoke("upgrade")
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "how it differs is not known: the role " in refused.stderr
    assert "CREATEDB; or `invoke reset-db --carry`" in refused.stderr
    project.query("DROP TABLE notes")
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == [NEW]


TWO_HEADS = {
    "aaa": (None, "CREATE TABLE users (id int PRIMARY KEY)"),
    "bbb": ("aaa", "CREATE TABLE b (id int)"),
    "ccc": ("aaa", "CREATE TABLE c (id int)"),
}
BOTH = "; ".join(statements for _, statements in TWO_HEADS.values())


@pytest.mark.parametrize(
    ("start", "ran"), slow_but([("heads", 0), ("bbb", 1), ("aaa", 2)], lambda case: case[1] == 0)
)
def test_several_heads_become_one(tmp_path: Path, database_url: str, start: str, ran: int) -> None:
    """The rows of all heads stand for the new one; what is not there yet runs first."""
    project = laid(tmp_path / "p", database_url, TWO_HEADS)
    upgrade(project, "heads")
    made = squashed.digest(project)
    for table in ("users", "b", "c", "alembic_version"):
        project.query(f"DROP TABLE {table}")
    upgrade(project, start)
    squash(project, made, statements=BOTH, replaces=tuple(TWO_HEADS), heads=("bbb", "ccc"))
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (f"after {ran} old revision" in done.stdout) is bool(ran)
    assert rows(project) == [NEW]


@pytest.mark.slow
def test_what_comes_after_the_squash_runs_as_well(tmp_path: Path, database_url: str) -> None:
    """From the middle: old revisions, the squash, and the new revisions, by one command."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "bbb"))
    squashed.write(project, "ddd", NEW, "CREATE TABLE d (id int)")
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"✔ upgrade   {NEW} → ddd, 1 revision\n" in done.stdout
    assert rows(project) == ["ddd"]


@pytest.mark.slow
def test_a_part_of_a_chain(tmp_path: Path, database_url: str) -> None:
    """Only what is between is replaced: a database before it runs the new revision itself."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "ccc")
    part = "; ".join(CHAIN[each][1] for each in ("bbb", "ccc"))
    squash(project, made, statements=part, replaces=("bbb", "ccc"), down="aaa")
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == [NEW]
    for table in ("tasks", "users"):
        project.query(f"DROP TABLE {table}")
    project.query("DELETE FROM alembic_version")
    done = project.invoke("upgrade")
    assert f"✔ upgrade   base → {NEW}, 2 revisions" in done.stdout
    assert "follow" not in done.stdout


@pytest.mark.slow
def test_one_squash_after_another(tmp_path: Path, database_url: str) -> None:
    """A database from before the first one goes through both, by the archives of both."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "bbb")
    squash(project, made)
    squashed.write(project, "ddd", NEW, "CREATE TABLE d (id int)")
    both = f"{ALL}; CREATE TABLE d (id int)"
    squash(project, made, name="9e9e", statements=both, replaces=(NEW, "ddd"))
    told = project.invoke("status")
    assert "state     squashed: alembic_version names bbb, which 9e9e replaces" in told.stdout
    planned = project.invoke("upgrade", "--plan")
    assert "would run 2 old revisions up to ddd" in planned.stdout
    assert rows(project) == ["bbb"]
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bbb → 9e9e, which replaces it, after 2 old revisions" in done.stdout
    assert rows(project) == ["9e9e"]
    assert project.query("SELECT count(*) FROM users") == [(2,)]


@pytest.mark.slow
def test_an_old_revision_that_fails(tmp_path: Path, database_url: str) -> None:
    """The database is where Alembic leaves it, that is said, and a second run goes on."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "aaa")
    squash(project, made)
    project.query("CREATE TABLE tasks (id int)")
    done = project.invoke("upgrade")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "revision ccc (ccc_of_the_chain.py:" in done.stderr
    assert f"{project.database} is at " in done.stderr
    project.query("DROP TABLE tasks")
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == [NEW]


@pytest.mark.slow
def test_a_version_table_with_its_own_name_in_a_schema(tmp_path: Path, database_url: str) -> None:
    """It is found by what it names, and no other table of its kind is touched."""
    project = laid(tmp_path / "p", database_url, shape="version_schema")
    project.query("CREATE SCHEMA ops; CREATE SCHEMA other")
    made = at(project, "bbb")
    project.query("CREATE TABLE other.alembic_version (version_num varchar(32))")
    project.query("INSERT INTO other.alembic_version VALUES ('fedcba')")
    squash(project, made)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project, "ops.history") == [NEW]
    assert rows(project, "other.alembic_version") == ["fedcba"]


@pytest.mark.slow
def test_an_async_env(tmp_path: Path, tcp_url: str) -> None:
    """From the old head, and from the middle."""
    url = tcp_url.replace("postgresql:", "postgresql+asyncpg:")
    project = laid(tmp_path / "p", url, shape="async")
    made = at(project, "bbb")
    squash(project, made)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == [NEW]


@pytest.mark.slow
def test_a_command_of_the_projects_own(tmp_path: Path, database_url: str) -> None:
    """The squash is followed first, by the catalogs; then the command has nothing to do."""
    project = laid_down(tmp_path / "p", "door/manage", database_url)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    made = squashed.digest(project)
    for path in (project.folder / "migrations/versions").glob("*.py"):
        path.unlink()
    both = "CREATE TABLE users (id serial PRIMARY KEY, email text NOT NULL, name text)"
    more = f"replaces = ('a1', 'b2')\nreplaced_schema = {made!r}"
    squashed.write(project, NEW, None, both, more)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"✔ follow    b2 → {NEW}, which replaces it\n" in done.stdout
    assert rows(project) == [NEW]


def test_one_of_several_chains(tmp_path: Path, database_url: str) -> None:
    """The schema of the other one is beside it: only what is missing or differs counts."""
    project = laid_down(tmp_path / "p", "door/chains", database_url)
    project.env["LIVE_URL"] = database_url
    assert project.invoke("upgrade").returncode == 0
    (old,) = (project.folder / "core/versions").glob("core1*.py")
    text = old.read_text()
    old.unlink()
    new = text.replace("core1", NEW) + "\nreplaces = 'core1'\nreplaced_schema = '18:0'\n"
    (project.folder / "core/versions/new.py").write_text(new)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"core: core1 → {NEW}, which replaces it · a scratch build" in done.stdout
    assert rows(project, "core_version") == [NEW]
    assert rows(project, "billing_version") == ["billing1"]


@pytest.mark.parametrize("start", slow_but(["ccc", "aaa"], lambda start: start == "ccc"))
def test_a_rebuild_needs_no_follow(tmp_path: Path, database_url: str, start: str) -> None:
    """`reset-db --carry` carries the rows of a database at an old revision into the new chain."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, start), archive=False)
    project.query("INSERT INTO users VALUES (7, 'Gus')")
    done = project.invoke("reset-db", "--carry", "--no-seed", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == [NEW]
    assert (7, "Gus") in project.query("SELECT id, name FROM users")


@pytest.mark.slow
def test_carried_rows_go_through_what_follows_the_squash(tmp_path: Path, database_url: str) -> None:
    """A database at the old head has run what is replaced: a rebuild knows what is left to run."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    squashed.write(project, "ddd", NEW, "UPDATE users SET name = upper(name)")
    project.query("INSERT INTO users VALUES (7, 'Gus')")
    done = project.invoke("reset-db", "--carry", "--no-seed", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the old rows go through ddd_of_the_chain.py in a copy first" in done.stdout
    assert (7, "GUS") in project.query("SELECT id, name FROM users")


@pytest.mark.slow
def test_carried_rows_go_through_old_revisions_as_well(tmp_path: Path, database_url: str) -> None:
    """A database in the middle has data migrations before it that no file has any more."""
    change = CHAIN | {"ccc": ("bbb", f"{CHAIN['ccc'][1]}; UPDATE users SET name = upper(name)")}
    project = laid(tmp_path / "p", database_url, change)
    made = at(project, "bbb")
    squash(project, made)
    squashed.write(project, "ddd", NEW, "UPDATE users SET name = name || '!'")
    project.query("INSERT INTO users VALUES (7, 'Gus')")
    done = project.invoke("reset-db", "--carry", "--no-seed", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "the old rows go through ccc_of_the_chain.py, ddd_of_the_chain.py in a copy" in done.stdout
    )
    assert (7, "GUS!") in project.query("SELECT id, name FROM users")
    assert rows(project) == ["ddd"]


@pytest.mark.slow
def test_a_table_that_names_the_new_one_already(tmp_path: Path, database_url: str) -> None:
    """Beside an old one, nobody can tell what has run: refused, with the rebuild as the way out."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"))
    project.query(f"INSERT INTO alembic_version VALUES ('{NEW}')")
    done = project.invoke("upgrade")
    assert done.returncode == 4
    assert f"the version table names ccc beside {NEW}" in done.stderr
    assert "`invoke reset-db --carry`" in done.stderr


@pytest.mark.slow
def test_a_server_of_another_version(tmp_path: Path, database_url: str, cluster: Cluster) -> None:
    """A digest of another major version says nothing: the scratch build does."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "ccc")
    squash(project, made.replace(f"{cluster.major}:", "15:"), archive=False)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a scratch build has shown that nothing is missing\n" in done.stdout


TENANTS = {
    "aaa": (None, "CREATE TABLE t (id int PRIMARY KEY)"),
    "bbb": ("aaa", "ALTER TABLE t ADD n text"),
}


@pytest.mark.parametrize(
    ("blue", "red"),
    slow_but([("bbb", "bbb"), ("aaa", "bbb"), ("aaa", NEW)], lambda case: case == ("aaa", NEW)),
)
def test_tenants_follow_together(tmp_path: Path, database_url: str, blue: str, red: str) -> None:
    """Each has a version table of its own; one may be behind, and one there already."""
    project = laid(tmp_path / "p", database_url, TENANTS, "tenants")
    upgrade(project)
    made = squashed.digest(project)
    if blue == "aaa":
        project.query("UPDATE blue.alembic_version SET version_num = 'aaa'")
        project.query("ALTER TABLE blue.t DROP COLUMN n")
    project.query(f"UPDATE red.alembic_version SET version_num = '{red}'")
    both = "CREATE TABLE t (id int PRIMARY KEY, n text)"
    squash(project, made, statements=both, replaces=tuple(TENANTS))
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("after 1 old revision" in done.stdout) is (blue == "aaa")
    assert rows(project, "red.alembic_version") == rows(project, "blue.alembic_version") == [NEW]


@pytest.mark.slow
def test_a_tenant_beyond_the_squash_beside_one_before_it(tmp_path: Path, database_url: str) -> None:
    """No chain has both of their revisions: refused in one line, and nothing is changed."""
    project = laid(tmp_path / "p", database_url, TENANTS, "tenants")
    upgrade(project)
    made = squashed.digest(project)
    project.query("UPDATE blue.alembic_version SET version_num = 'aaa'")
    project.query("UPDATE red.alembic_version SET version_num = 'ddd'")
    both = "CREATE TABLE t (id int PRIMARY KEY, n text)"
    squash(project, made, statements=both, replaces=tuple(TENANTS))
    squashed.write(project, "ddd", NEW, "SELECT 1")
    before = prints(project)
    done = project.invoke("upgrade")
    assert done.returncode == 4
    assert "red.alembic_version names ddd, and blue.alembic_version aaa" in done.stderr
    assert prints(project) == before


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_what_alembic_does(tmp_path: Path, database_url: str) -> None:
    """In the middle of an old revision: that one is taken back, and a second run goes on."""
    quick = CHAIN["ccc"][1]
    project = laid(tmp_path / "p", database_url)
    made = at(project, "bbb")
    squashed.write(project, "ccc", "bbb", f"{quick}; SELECT pg_sleep(60)")
    squash(project, made)
    sleeping = (
        "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep.60' AND state = 'active'"
    )
    with project.start("upgrade") as process:
        deadline = time.monotonic() + 60
        while project.query(f"{sleeping} AND pid <> pg_backend_pid()") != [(1,)]:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    assert rows(project) == ["bbb"]
    (tar,) = (project.folder / "backups").rglob("*-replaced.tar.gz")
    tar.unlink()
    squashed.write(project, "ccc", "bbb", quick)
    for name in ("aaa", "bbb"):
        squashed.write(project, name, *CHAIN[name])
    (squashed.versions(project) / f"{NEW}_of_the_chain.py").unlink()
    squash(project, made)
    done = project.invoke("upgrade", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == [NEW]
    assert project.query("SELECT count(*) FROM users") == [(2,)]


@pytest.mark.slow
def test_old_scripts_may_read_files_beside_them(tmp_path: Path, database_url: str) -> None:
    """Where these are still there: what the folder of revisions has comes along."""
    project = laid(tmp_path / "p", database_url)
    made = at(project, "bbb")
    sql = squashed.versions(project) / "tasks.sql"
    sql.write_text(CHAIN["ccc"][1])
    path = squashed.write(project, "ccc", "bbb", "x")
    read = "__import__('pathlib').Path(__file__).with_name('tasks.sql').read_text()"
    path.write_text(path.read_text().replace("'x'", read))
    squash(project, made)
    done = project.invoke("upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(project) == [NEW]


def test_a_chain_of_ones_own_without_the_step(tmp_path: Path, database_url: str) -> None:
    """It is told which step is lacking, and not to rebuild the database."""
    project = laid(tmp_path / "p", database_url)
    squash(project, at(project, "ccc"), archive=False)
    (project.folder / "tasks.py").write_text(
        "from backset import tasks\nfrom backset.chain import Chain\n"
        "from backset.steps import upgrade\n"
        'namespace = tasks.collection([Chain("upgrade", upgrade)])\n'
    )
    done = project.invoke("upgrade")
    assert done.returncode == 4
    assert f"'ccc': {NEW} replaces it → `backset upgrade` follows that one" in done.stderr
    assert 'Chain("upgrade", follow, upgrade)' in done.stderr
