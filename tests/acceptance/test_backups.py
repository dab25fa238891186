"""`invoke backup`, `backups` and `restore` through the front door: flags, lists, refusals."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from backset.connections.target import Target
from tests.marks import slow_but
from tests.project import Project, databases, prints
from tests.states import rebuilt

if TYPE_CHECKING:
    import psycopg

    from backset.servers.cluster import Cluster

# What makes a database grow while it is restored.
TRAP = """
CREATE SCHEMA trap; CREATE MATERIALIZED VIEW trap.view AS SELECT 1 AS one;
CREATE FUNCTION trap.add() RETURNS event_trigger LANGUAGE plpgsql AS
    'BEGIN CREATE TABLE IF NOT EXISTS trap.extra (); END';
CREATE EVENT TRIGGER grow ON ddl_command_start
    WHEN TAG IN ('REFRESH MATERIALIZED VIEW') EXECUTE FUNCTION trap.add();
"""


@pytest.fixture
def built(project: Project) -> Project:
    """A project whose database was built, and has one backup."""
    rebuilt(project)
    assert project.invoke("backup").returncode == 0
    return project


def listed(project: Project) -> list[str]:
    """Return the names of the backups, the oldest first."""
    content = json.loads(project.invoke("backups", "--json").stdout)
    return [each["name"] for each in content["backups"]]


def test_a_backup_is_proved(built: Project) -> None:
    """Restored beside the target and compared; nothing stays of that."""
    done = built.invoke("backup", "--prove")
    assert done.returncode == 0, done.stderr
    assert "proved: restored and compared" in done.stdout
    (step,) = json.loads(built.invoke("backup", "--prove", "--json").stdout)["steps"]
    assert step["proved"] is True
    assert databases(built) == {"", "__previous", "__clean"}
    (step,) = json.loads(built.invoke("backup", "--json").stdout)["steps"]
    assert step["proved"] is False


def test_a_schema_public_of_the_superuser_stands_in_no_way(
    project: Project, tcp_url: str, superuser: psycopg.Connection[Any]
) -> None:
    """As in a database that came from PostgreSQL 14; the role may not give that schema away."""
    owned = Project(project.folder, {"DATABASE_URL": tcp_url})
    assert owned.invoke("upgrade").returncode == 0
    for statement in (
        f"ALTER SCHEMA public OWNER TO {superuser.info.user}",
        "GRANT ALL ON SCHEMA public TO PUBLIC",
    ):
        project.query(statement)
    done = owned.invoke("backup", "--prove")
    assert done.returncode == 0, done.stderr
    done = owned.invoke("restore", "--yes")
    assert done.returncode == 0, done.stderr
    assert project.query("SELECT has_schema_privilege('pg_monitor', 'public', 'USAGE')") == [
        (True,)
    ]


@pytest.mark.slow
def test_a_proof_is_planned(built: Project) -> None:
    """The plan says it, and changes nothing."""
    done = built.invoke("backup", "--prove", "--plan")
    name = Target.parse(built.url).database
    assert f"would restore that into {name}__scratch, compare, and drop it" in done.stdout
    assert len(listed(built)) == 1


@pytest.mark.slow
def test_a_backup_that_restores_otherwise_is_not_proved(built: Project) -> None:
    """Exit 4 with the difference; the scratch database is gone, the target as it was."""
    built.query(TRAP)
    before = prints(built)
    done = built.invoke("backup", "--prove")
    assert done.returncode == 4, done.stdout
    assert "trap.extra is new" in done.stderr
    assert databases(built) == {"", "__previous", "__clean"}
    assert prints(built) == before


@pytest.mark.slow
def test_a_role_that_may_not_create_databases_cannot_prove(
    built: Project, superuser: psycopg.Connection[object], cluster: Cluster
) -> None:
    """Exit 3 in one line, for the plan too; it can take a backup."""
    name = Target.parse(built.url).database
    superuser.execute("DROP ROLE IF EXISTS modest; CREATE ROLE modest LOGIN")
    superuser.execute("GRANT pg_read_all_data TO modest")
    try:
        built.env["DATABASE_URL"] = cluster.url(name, "modest")
        for words in (["backup", "--prove"], ["backup", "--prove", "--plan"]):
            done = built.invoke(*words)
            assert done.returncode == 3
            assert "modest may not create databases" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        assert len(listed(built)) == 1
        assert built.invoke("backup").returncode == 0
    finally:
        superuser.execute("DROP ROLE modest")


@pytest.mark.parametrize(
    "signum", slow_but([signal.SIGTERM, signal.SIGKILL], lambda signum: signum == signal.SIGTERM)
)
@pytest.mark.slow
def test_a_proof_that_is_interrupted_leaves_nothing(built: Project, signum: int) -> None:
    """After TERM the scratch database is gone at once, after KILL with the next run."""
    name = Target.parse(built.url).database
    built.query("CREATE TABLE many AS SELECT * FROM generate_series(1, 500000) AS id")
    process = built.start("backup", "--prove")
    deadline = time.monotonic() + 60
    while "__scratch" not in databases(built):
        assert time.monotonic() < deadline, "the scratch database never came"
        assert process.poll() is None, "the proof was faster"
    process.send_signal(signum)
    process.communicate()
    if signum == signal.SIGTERM:
        assert process.returncode == 143
    else:
        assert "__scratch" in databases(built)
        assert built.invoke("backup").returncode == 0
    assert databases(built) == {"", "__previous", "__clean"}
    assert built.query("SELECT count(*) FROM many") == [(500000,)], name


def test_a_scratch_database_of_somebody_else_is_refused(
    built: Project, superuser: psycopg.Connection[object]
) -> None:
    """Exit 3: what is not ours stays."""
    name = Target.parse(built.url).database
    superuser.execute(f"CREATE DATABASE {name}__scratch".encode())
    built.query("CREATE TABLE theirs ()", f"{name}__scratch")
    done = built.invoke("backup", "--prove")
    assert done.returncode == 3
    assert f"the database {name}__scratch exists and backset did not make it" in done.stderr
    assert built.invoke("backup").returncode == 0
    assert built.query("SELECT * FROM theirs", f"{name}__scratch") == []


def test_older_backups_go(built: Project) -> None:
    """`keep` of them stay after a swap; the line and the plan say how many went."""
    for number in range(2):
        built.query(f"COMMENT ON TABLE users IS '{number}'")
        assert built.invoke("backup", BACKSET_KEEP="1").returncode == 0
    first, second, third = listed(built)
    plan = built.invoke("reset-db", "--plan", BACKSET_KEEP="2").stdout
    assert "would remove 2 older backups" in plan
    assert listed(built) == [first, second, third]
    done = built.invoke("reset-db", BACKSET_KEEP="2")
    assert "2 older backups removed" in done.stdout
    kept = listed(built)  # the run's own is a second name of the third
    assert kept[0] == second
    assert len(kept) == 2
    built.configure("[tool.backset.expect]", "keep = 0\n[tool.backset.expect]")
    done = built.invoke("backup")
    assert done.returncode == 2
    assert "keep is 0 → it must be a whole number, 1 or more" in done.stderr


@pytest.mark.slow
def test_a_large_database_is_dumped_in_zstd(built: Project) -> None:
    """Above 9 MB, unless told otherwise; the line names the file, and all else is the same."""
    statement = "CREATE TABLE large AS SELECT n, repeat(md5(n::text), 3) FROM {} AS n"
    built.query(statement.format("generate_series(1, 150000)"))
    then = prints(built)
    done = built.invoke("backup", "--prove")
    assert done.returncode == 0, done.stderr
    name = listed(built)[-1]
    assert f"{name}.dump.zst · " in done.stdout
    content = json.loads(built.invoke("backups", "--json").stdout)["backups"][-1]
    assert content["file"].endswith(f"{name}.dump.zst")
    assert content["dump_format"] == "custom, in zstd"
    assert content["by_hand"].startswith(f"zstd -dc {name}.dump.zst | pg_restore ")
    built.query("DELETE FROM task_outputs")
    assert built.invoke("restore", "--yes").returncode == 0
    assert prints(built) == then
    assert built.invoke("undo").returncode == 0
    assert built.invoke("restore", f"{name}.dump.zst").returncode == 0
    assert prints(built) == then
    assert built.invoke("backup", BACKSET_ZSTD_ABOVE="1000000000").returncode == 0
    assert list((built.folder / "backups").rglob(f"{listed(built)[-1]}.dump"))


def test_restore_without_a_name_and_without_a_terminal(built: Project) -> None:
    """Exit 4 with the list and the command; --yes takes the newest."""
    assert built.invoke("backup").returncode == 0
    before, beside = prints(built), databases(built)
    older, newest = listed(built)
    for words in (["restore"], ["restore", "--plan"]):
        done = built.invoke(*words)
        assert done.returncode == 4
        assert done.stdout.index(f"1  {newest}") < done.stdout.index(f"2  {older}")
        assert f"`invoke restore {newest}`" in done.stderr
    content = json.loads(built.invoke("restore", "--json").stdout)
    assert [each["name"] for each in content["backups"]] == [newest, older]
    assert content["exit_code"] == 4
    assert (prints(built), databases(built)) == (before, beside)
    assert f"would load {newest}" in built.invoke("restore", "--plan", "--yes").stdout


def test_restore_offers_the_list_on_a_terminal(built: Project) -> None:
    """The newest first; an answer that is none is asked again; no answer changes nothing."""
    then = prints(built)
    built.query("DELETE FROM task_outputs")
    assert built.invoke("backup").returncode == 0
    now = prints(built)
    code, shown = built.on_a_terminal("restore", typed="\n")
    assert code == 4
    assert "no backup was chosen" in shown
    assert prints(built) == now
    code, shown = built.on_a_terminal("restore", typed="9\nnonsense\n2\n")
    assert code == 0, shown
    assert shown.count("which one? [1-2]") == 3
    assert prints(built) == then


def test_a_backup_of_another_database_asks_for_into(built: Project) -> None:
    """Exit 3 without it; with it, into a new database, and into one that exists."""
    name, then = Target.parse(built.url).database, prints(built)
    (backup,) = listed(built)
    path = f"backups/{name}/{backup}.dump"
    other = Target.parse(built.url).named(f"{name}_other").url
    done = built.invoke("restore", path, DATABASE_URL=other)
    assert done.returncode == 3
    assert f"is a backup of {name} → " in done.stderr
    assert f"--into {name}_other" in done.stderr
    assert "_other" not in databases(built)
    done = built.invoke("restore", path, "--into", f"{name}_other", DATABASE_URL=other)
    assert done.returncode == 0, done.stderr
    assert databases(built) == {"", "__previous", "__clean", "_other"}
    for _ in range(2):
        done = built.invoke("restore", "--into", f"{name}_other", "--yes")
        assert done.returncode == 0, done.stderr
    assert prints(built) == then
    assert "_other__previous" in databases(built)
    built.env["DATABASE_URL"] = other
    assert prints(built) == then
    assert built.invoke("undo").returncode == 0


def test_into_keeps_the_rules(built: Project) -> None:
    """PostgreSQL's own databases stay, and our own; and a name must be one."""
    name = Target.parse(built.url).database
    for word in ("next", "previous"):
        done = built.invoke("restore", "--yes", "--into", f"{name}__{word}")
        assert done.returncode == 2
        assert f"it must be another name: that one is used beside {name}" in done.stderr
    url = Target.parse(built.url).named(f"{name}__previous").url
    done = built.invoke("reset-db", DATABASE_URL=url)
    assert done.returncode == 3
    assert f"{name}__previous is kept by backset beside another database" in done.stderr
    done = built.invoke("restore", "--yes", "--into", "template1")
    assert done.returncode == 3
    assert "belongs to PostgreSQL itself" in done.stderr
    done = built.invoke("restore", "--yes", "--into", "x" * 64)
    assert done.returncode == 2
    assert "it must be a name of at most 63 bytes" in done.stderr


@pytest.mark.slow
def test_a_manifest_that_cannot_be_read_is_listed_as_that(built: Project) -> None:
    """The good ones are listed beside it."""
    assert built.invoke("backup").returncode == 0
    (name, bad) = listed(built)
    (path,) = (built.folder / "backups").rglob(f"{bad}.json")
    path.write_text("{")
    done = built.invoke("backups")
    assert done.returncode == 0
    assert name in done.stdout
    assert f"{bad}.json cannot be read: it is damaged" in done.stdout
    done = built.invoke("restore", bad)
    assert done.returncode == 4
    assert "cannot be read: it is damaged" in done.stderr


def test_a_manifest_that_was_edited_by_hand_is_one_line(built: Project) -> None:
    """Which value is wrong, and how; the good ones are listed beside it."""
    assert built.invoke("backup", "--name", "edited").returncode == 0
    (path,) = (built.folder / "backups").rglob("edited.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "size_bytes": "12"}))
    done = built.invoke("backups")
    assert (done.returncode, done.stderr) == (0, "")
    good, bad = done.stdout.splitlines()
    assert "old" in good
    words = "edited.json cannot be read: Expected `int`, got `str` - at `$.size_bytes`"
    assert words in bad
    done = built.invoke("restore", "edited")
    assert done.returncode == 4
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
