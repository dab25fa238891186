"""The strategy in place: a role that may not create databases, and nothing is lost."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from backset.migrate.project_command import SessionMonitor
from tests.clusters import as_superuser, dumped, running
from tests.incident.project import add_failing_migration
from tests.marks import slow_but
from tests.project import Project, databases, prints
from tests.states import broken

if TYPE_CHECKING:
    import subprocess

    from backset.servers.cluster import Cluster

OF_A_SUPERUSER = "CREATE EXTENSION vector; GRANT USAGE ON SCHEMA public TO PUBLIC"
OF_EVERY_KIND = """
CREATE SCHEMA "the app";
CREATE TYPE public.mood AS ENUM ('fine');
CREATE DOMAIN "the app".short AS text CHECK (length(value) < 9);
CREATE TABLE "the app"."my things" (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, s "the app".short, v vector(2)
);
INSERT INTO "the app"."my things" (m, s, v) VALUES ('fine', 'a', '[1,2]'), (NULL, NULL, NULL);
CREATE VIEW public.happy AS SELECT * FROM "the app"."my things" WHERE m = 'fine';
CREATE MATERIALIZED VIEW public.counted AS SELECT count(*) FROM "the app"."my things";
CREATE SEQUENCE public.loose START 7;
SELECT nextval('public.loose');
CREATE FUNCTION public.twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
CREATE PROCEDURE public.nothing() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE public.total(int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE TABLE public.parted (a int) PARTITION BY RANGE (a);
CREATE TABLE public.part_1 PARTITION OF public.parted FOR VALUES FROM (1) TO (9);
INSERT INTO public.parted VALUES (1), (2);
CREATE PUBLICATION news FOR TABLE public.parted;
CREATE TEXT SEARCH CONFIGURATION public.words (COPY = simple);
CREATE COLLATION public.plainly (LOCALE = 'C');
CREATE STATISTICS public.more ON id, s FROM "the app"."my things";
SELECT lo_from_bytea(0, 'large');
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
COMMENT ON TABLE public.parted IS 'in parts';
GRANT SELECT ON public.happy TO PUBLIC;
"""


def test_the_plan_says_the_rung_and_the_way_up(owned: Project, plain: str) -> None:
    """Which strategy, why, and the SQL of an administrator that leads to the better one."""
    done = owned.invoke("reset-db", "--plan")
    assert done.returncode == 0, done.stderr
    assert f" · strategy  in place: the role {plain} may not create databases" in done.stdout
    assert f'ALTER ROLE "{plain}" CREATEDB' in done.stdout
    assert " · clear" in done.stdout
    assert "promote" not in done.stdout


def test_a_failure_says_what_of_others_has_not_come_back(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """A table's place in somebody's publication goes with the table; only they can give it back."""
    owned.query("CREATE TABLE news (i int PRIMARY KEY)")
    as_superuser(cluster, name, 'CREATE PUBLICATION "Of them" FOR TABLE news')
    add_failing_migration(owned.folder)
    done = owned.invoke("reset-db")
    assert done.returncode == 5, done.stdout + done.stderr
    words = "publication relation public.news in publication Of them: gone, and its owner alone"
    assert words in done.stderr
    (backup,) = json.loads(owned.invoke("backups", "--json").stdout)["backups"]
    done = owned.invoke("restore", backup["name"])
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_the_incident_in_place(owned: Project, name: str) -> None:
    """The broken database is rebuilt; the dump holds the old one; the run says how to go back."""
    broken(owned)
    old = prints(owned)
    done = owned.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    assert " ! " in done.stdout
    assert owned.query("SELECT count(*) FROM tasks") == [(5,)]
    assert databases(owned) == {""}
    (backup,) = json.loads(owned.invoke("backups", "--json").stdout)["backups"]
    assert f"`invoke restore {backup['name']}` goes back" in done.stdout
    done = owned.invoke("restore", backup["name"])
    assert done.returncode == 0, done.stderr
    assert prints(owned) == old


def test_everything_of_ours_goes_and_everything_else_stays(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """Objects of every kind in every schema are dropped; extensions and `public` stay."""
    as_superuser(cluster, name, OF_A_SUPERUSER)
    owned.configure("[tool.backset]", '[tool.backset]\nschemas = ["the app"]')
    owned.query(OF_EVERY_KIND)
    public = "SELECT nspowner, nspacl FROM pg_namespace WHERE nspname = 'public'"
    grants = "SELECT defaclobjtype, defaclacl FROM pg_default_acl ORDER BY 1"
    extension = "SELECT oid, extversion FROM pg_extension WHERE extname = 'vector'"
    before = [owned.query(each) for each in (public, grants, extension)]
    done = owned.invoke("reset-db", "--in-place")
    assert done.returncode == 0, done.stderr
    assert [owned.query(each) for each in (public, grants, extension)] == before
    assert set(prints(owned)) == {
        "public.alembic_version",
        "public.task_outputs",
        "public.tasks",
        "public.users",
    }
    for catalog in ("pg_publication_rel", "pg_largeobject_metadata", "pg_statistic_ext"):
        assert owned.query(f"SELECT count(*) FROM {catalog}") == [(0,)], catalog
    assert owned.query("SELECT count(*) FROM pg_namespace WHERE nspname = 'the app'") == [(0,)]


def test_what_the_migrations_do_not_know_comes_back(
    owned: Project, superuser: psycopg.Connection[Any], plain: str, name: str
) -> None:
    """A publication that went with its table is made again; what cannot be is a finding."""
    assert owned.invoke("reset-db").returncode == 0
    superuser.execute(
        sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(*map(sql.Identifier, (name, plain)))
    )
    owned.query("CREATE TABLE gone (i int); CREATE PUBLICATION old FOR TABLE gone")
    owned.query("CREATE PUBLICATION news FOR TABLE tasks")
    done = owned.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    published = "SELECT pubname, tablename FROM pg_publication_tables ORDER BY 1"
    assert ("news", "tasks") in owned.query(published)
    assert "publication old" in done.stdout


@pytest.mark.parametrize("zstd_above", slow_but(["1000000000", "0"], lambda above: above == "0"))
@pytest.mark.parametrize(
    "trouble", slow_but(["migration", "seed", "verify"], lambda trouble: trouble == "migration")
)
def test_a_step_that_fails_brings_everything_back(
    owned: Project, cluster: Cluster, name: str, trouble: str, zstd_above: str
) -> None:
    """Exit 5, and a dump of the whole database reads as before, byte for byte."""
    owned.env["BACKSET_ZSTD_ABOVE"] = zstd_above
    as_superuser(cluster, name, OF_A_SUPERUSER)
    owned.configure("[tool.backset]", '[tool.backset]\nschemas = ["the app"]')
    owned.query(OF_EVERY_KIND)
    before = dumped(cluster, name)
    if trouble == "migration":
        add_failing_migration(owned.folder)
    elif trouble == "seed":
        owned.configure('seed = ["python", "scripts/add_mock_task_data.py"]', 'seed = ["false"]')
    else:
        owned.configure('"prompt"', '"no_such_column"')
    done = owned.invoke("reset-db")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "was restored from" in done.stderr
    assert dumped(cluster, name) == before
    content = json.loads(owned.invoke("reset-db", "--json").stdout)
    assert content["exit_code"] == 5
    assert "was restored from" in content["error"]["lines"][0]
    assert dumped(cluster, name) == before


@pytest.mark.parametrize(
    "signum",
    slow_but(
        [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], lambda signum: signum == signal.SIGTERM
    ),
)
def test_a_signal_in_a_migration_brings_everything_back(
    owned: Project, cluster: Cluster, name: str, signum: signal.Signals
) -> None:
    """Exit 5 rather than 143: there was something to restore, and it was."""
    broken(owned)
    before = dumped(cluster, name)
    process = start_slow_migration(owned)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 5
    assert f"interrupted by {signum.name}" in errors
    assert "was restored from" in errors
    assert dumped(cluster, name) == before


def test_a_run_that_was_killed_is_finished_by_the_next(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """The half-built database is not taken for the truth: first the backup comes back."""
    broken(owned)
    before, rows = dumped(cluster, name), prints(owned)
    process = start_slow_migration(owned)
    process.kill()
    process.communicate(timeout=60)
    assert prints(owned) != rows
    done = owned.invoke("backup")
    assert done.returncode == 0, done.stderr
    assert "a run in place was killed" in done.stdout
    assert "what stood there half built is in" not in done.stdout
    assert dumped(cluster, name) == before
    (owned.folder / "alembic/versions/c0ffee000002_slow.py").unlink()
    assert owned.invoke("reset-db").returncode == 0


@pytest.mark.slow
def test_what_was_done_on_a_half_built_database_is_in_a_dump(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """Somebody went on working there before the next run: nothing is brought back unasked."""
    broken(owned)
    before = dumped(cluster, name)
    process = start_slow_migration(owned)
    process.kill()
    process.communicate(timeout=60)
    later = "CREATE TABLE later (i int); INSERT INTO later VALUES (1)"
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        owned.query(later)
    by_hand(owned, later)
    for task in ("backup", "upgrade", "seed"):
        done = owned.invoke(task)
        assert done.returncode == 3
        assert "is half built, since a run in place was killed, and has 1 row by now" in done.stderr
        assert owned.query("SELECT * FROM later") == [(1,)]
    command = re.search(r"`invoke (restore \S+ --in-place)`", done.stderr)
    assert command
    done = owned.invoke(*command[1].split())
    assert done.returncode == 0, done.stderr
    assert dumped(cluster, name) == before
    (left,) = re.findall(r"what stood there half built is in (\S+)", done.stdout)
    about = json.loads(owned.invoke("backups", "--json").stdout)["backups"]
    assert {each["name"]: each["rows"] for each in about}[left]["later"] == 1


@pytest.mark.slow
def test_a_run_that_was_killed_before_it_dropped_anything(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """The mark alone is not believed: what was written since then stays."""
    broken(owned)
    process = start_slow_migration(owned)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 5
    process.communicate()
    folder = owned.folder / "backups" / name
    backup = json.loads(owned.invoke("backups", "--json").stdout)["backups"][0]
    oid = "SELECT oid FROM pg_database WHERE datname = current_database()"
    with psycopg.connect(owned.url) as session:
        query = f"SELECT pg_current_xact_id()::text, ({oid})"
        number, oid = session.execute(query.encode()).fetchone() or ("", "")
        session.rollback()
    mark = {"backup": backup["name"], "server_id": backup["server_id"]}
    text = json.dumps({**mark, "oid": oid, "transaction": number})
    (folder / "in-place.json").write_text(text)
    owned.query("CREATE TABLE later ()")
    before = dumped(cluster, name)
    assert owned.invoke("backup").returncode == 0
    assert dumped(cluster, name) == before
    assert not (folder / "in-place.json").exists()


@pytest.mark.slow
def test_who_is_connected_is_ended_by_the_run_and_not_by_its_plan(owned: Project) -> None:
    """The plan names the session and leaves it alone; the run names it when it ends it."""
    assert owned.invoke("reset-db").returncode == 0
    params = {**Target.parse(owned.url).params, "application_name": "webapp"}
    with psycopg.connect(**params) as session:  # type: ignore[arg-type]
        session.execute("SELECT 1 FROM users")
        done = owned.invoke("reset-db", "--plan")
        assert done.returncode == 0, done.stderr
        assert "would end webapp@" in done.stdout
        session.execute("SELECT 1 FROM users")
        done = owned.invoke("reset-db")
        assert done.returncode == 0, done.stderr
        assert "ended webapp@" in done.stdout
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1 FROM users")


def test_a_signal_that_tears_a_statement_of_the_run_brings_everything_back(
    owned: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a seed command runs the server is asked again and again who is connected."""

    def look(self: SessionMonitor, _session_id: int) -> None:
        self.session.pgconn.send_query(b"SELECT pg_sleep(60)")  # and the signal, within psycopg
        signal.raise_signal(signal.SIGTERM)

    broken(owned)
    before = prints(owned)
    monkeypatch.setattr(SessionMonitor, "look", look)
    done = owned.invoke("reset-db")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "interrupted by SIGTERM" in done.stderr
    assert "was restored from" in done.stderr
    assert prints(owned) == before


def by_hand(project: Project, statements: str) -> None:
    """Work on a half-built database, where sessions of the login would only read."""
    project.query(f"SET transaction_read_only = off; {statements}")


def killed_in_place(project: Project) -> None:
    """Rebuild, and rebuild again in place until the run is killed in a migration."""
    assert project.invoke("reset-db").returncode == 0
    process = start_slow_migration(project)
    process.kill()
    process.communicate(timeout=60)
    (project.folder / "alembic/versions/c0ffee000002_slow.py").unlink()


@pytest.mark.slow
def test_a_killed_run_is_finished_on_its_own_server_only(owned: Project, name: str) -> None:
    """Another server may have a database of the same name and oid: nothing happens to it."""
    killed_in_place(owned)
    ((oid,),) = owned.query(f"SELECT oid FROM pg_database WHERE datname = '{name}'")
    with running(18) as other:
        with psycopg.connect(other.url("postgres"), autocommit=True) as session:
            session.execute(sql.SQL("CREATE DATABASE {} OID {}").format(sql.Identifier(name), oid))
        as_superuser(other, name, "CREATE TABLE work (a int); INSERT INTO work VALUES (1)")
        done = owned.invoke("backup", DATABASE_URL=other.url(name))
        assert done.returncode == 0, done.stderr
        assert "killed" not in done.stdout
        with psycopg.connect(other.url(name)) as session:
            assert session.execute("SELECT a FROM work").fetchall() == [(1,)]
    assert "a run in place was killed" in owned.invoke("backup").stdout


@pytest.mark.slow
def test_a_killed_run_whose_backup_is_damaged_says_the_way_out(owned: Project) -> None:
    """Nothing is dropped for a dump that cannot be loaded; another one can be restored."""
    assert owned.invoke("reset-db").returncode == 0
    rows = prints(owned)
    assert owned.invoke("backup").returncode == 0
    killed_in_place(owned)
    by_hand(owned, "CREATE TABLE mended (a int)")
    folder = owned.folder / "backups" / Target.parse(owned.url).database
    mark = folder / "in-place.json"
    dump = folder / f"{json.loads(mark.read_text())['backup']}.dump"
    dump.write_bytes(dump.read_bytes()[:-1])
    done = owned.invoke("upgrade")
    assert done.returncode == 4
    assert "is half built, since a run in place was killed" in done.stderr
    assert f"remove {mark}, and name another one to `invoke restore`" in done.stderr
    assert owned.query("SELECT count(*) FROM mended") == [(0,)]
    mark.unlink()
    dump.unlink()
    done = owned.invoke("restore", "--yes")
    assert done.returncode == 0, done.stderr
    assert prints(owned) == rows


@pytest.mark.slow
def test_another_checkout_is_told_of_a_half_built_database(owned: Project) -> None:
    """By `status`, and by every run; once it has been brought back, nothing is said any more."""
    owned.query("COMMENT ON DATABASE " + Target.parse(owned.url).database + " IS 'mine'")
    killed_in_place(owned)
    elsewhere = {"BACKSET_BACKUPS": str(owned.folder / "elsewhere")}
    done = owned.invoke("status", **elsewhere)
    assert done.returncode == 6
    assert "half built: a run in place on" in done.stderr
    done = owned.invoke("backup", **elsewhere)
    assert "is half built, since a run in place was killed in another checkout" in done.stdout
    assert owned.invoke("backup").returncode == 0
    assert "half built" not in owned.invoke("status").stderr
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = "
    assert owned.query(f"{comment} current_database()") == [("mine",)]


@pytest.mark.slow
def test_a_killed_run_is_not_finished_on_a_protected_database(owned: Project) -> None:
    """Who has mended it by hand, and protects it, keeps what stands there."""
    killed_in_place(owned)
    by_hand(owned, "CREATE TABLE mended (a int)")
    assert owned.invoke("protect").returncode == 0
    done = owned.invoke("backup")
    assert (done.returncode, "is protected" in done.stderr) == (3, True)
    assert owned.query("SELECT count(*) FROM mended") == [(0,)]


@pytest.mark.slow
def test_the_newest_backup_is_not_the_half_built_one(owned: Project) -> None:
    """What a killed run left is dumped by the next one, but that is not what `--yes` restores."""
    assert owned.invoke("reset-db").returncode == 0
    rows = prints(owned)
    killed_in_place(owned)
    by_hand(owned, "CREATE TABLE later (i int)")
    done = owned.invoke("restore", "--yes")
    assert done.returncode == 0, done.stderr
    assert "what stood there half built is in" in done.stdout
    assert prints(owned) == rows


@pytest.mark.slow
def test_the_backup_that_is_restored_stays(owned: Project) -> None:
    """The run's own backup is one too many, and the oldest is the one that is being restored."""
    assert owned.invoke("reset-db").returncode == 0
    assert owned.invoke("backup").returncode == 0
    (backup,) = json.loads(owned.invoke("backups", "--json").stdout)["backups"]
    done = owned.invoke("restore", backup["name"], BACKSET_KEEP="1")
    assert done.returncode == 0, done.stderr
    names = [e["name"] for e in json.loads(owned.invoke("backups", "--json").stdout)["backups"]]
    assert backup["name"] in names


def start_slow_migration(project: Project) -> subprocess.Popen[str]:
    """Start reset-db and return once it is in a migration that never ends."""
    (project.folder / "alembic/versions/c0ffee000002_slow.py").write_text(
        'from alembic import op\nrevision = "c0ffee000002"\ndown_revision = "0b228e9fec0b"\n'
        'def upgrade():\n    op.execute("SELECT pg_sleep(600)")\n'
    )
    process = project.start("reset-db")
    deadline = time.monotonic() + 60
    asleep = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%'"
    name = Target.parse(project.url).database
    while not project.query(f"{asleep} AND datname = '{name}'", "postgres"):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def test_what_is_written_during_the_backup_is_not_lost(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """A writer waits, or is ended; every row that it was told to be committed is there at last."""
    broken(owned)
    add_failing_migration(owned.folder)
    owned.query("CREATE TABLE written (id text)")
    committed, over = [], threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            statement = f"INSERT INTO written VALUES ('w{number}')"
            try:
                owned.query(statement)
                committed.append(f"w{number}")
            except psycopg.Error:
                time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = owned.invoke("reset-db")
    finally:
        over.set()
        writer.join()
    assert done.returncode == 5, done.stderr
    there = {row for (row,) in owned.query("SELECT id FROM written")}
    assert len(committed) > 1
    assert set(committed) <= there


def test_objects_of_others_stay(owned: Project, cluster: Cluster, name: str) -> None:
    """They are named in the plan; what depends on ours stops the run, with nothing dropped."""
    as_superuser(cluster, name, "CREATE TABLE theirs (i int); INSERT INTO theirs VALUES (1)")
    as_superuser(cluster, name, "GRANT SELECT ON theirs TO PUBLIC")
    owned.query("CREATE TABLE ours (i int); INSERT INTO ours VALUES (1)")
    assert "these stay: table public.theirs" in owned.invoke("reset-db", "--plan").stdout
    add_failing_migration(owned.folder)
    assert owned.invoke("reset-db").returncode == 5
    assert owned.query("SELECT * FROM ours, theirs") == [(1, 1)]
    as_superuser(
        cluster, name, "CREATE VIEW over AS SELECT * FROM ours; GRANT SELECT ON over TO PUBLIC"
    )
    before = dumped(cluster, name)
    done = owned.invoke("reset-db")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "view public.over (owner postgres) depends on what would be dropped" in done.stderr
    assert dumped(cluster, name) == before


def test_neither_rung_is_possible(
    project: Project, cluster: Cluster, plain: str, name: str
) -> None:
    """Exit 3, with what is missing for each of them and the SQL that would give it."""
    broken(project)
    as_superuser(cluster, name, f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{plain}"')
    done = project.invoke("reset-db", DATABASE_URL=cluster.url(name, plain))
    assert done.returncode == 3
    for piece in ("run this as postgres", "GRANT CREATE ON SCHEMA public"):
        assert piece in done.stderr
    assert "OWNER TO" not in done.stderr  # what is somebody else's is not to be taken over
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.slow
def test_a_role_that_may_create_databases_takes_the_swap(
    owned: Project, superuser: psycopg.Connection[Any], plain: str
) -> None:
    """And works in place when it is asked to; undo never does."""
    broken(owned)
    assert owned.invoke("reset-db").returncode == 0
    assert owned.invoke("undo").returncode == 3
    superuser.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(plain)))
    assert " · strategy  swap" in owned.invoke("reset-db", "--plan").stdout
    assert " · strategy  in place" in owned.invoke("reset-db", "--plan", "--in-place").stdout
    assert owned.invoke("reset-db").returncode == 0
    assert databases(owned) == {"", "__previous", "__clean"}


@pytest.mark.slow
def test_an_extension_that_only_a_superuser_can_make(
    owned: Project, cluster: Cluster, superuser: psycopg.Connection[Any], plain: str, name: str
) -> None:
    """A database beside would lack it, so the plan is to work in place by itself."""
    superuser.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(plain)))
    as_superuser(cluster, name, "CREATE EXTENSION vector")
    owned.query("CREATE TABLE places (v vector(2))")
    done = owned.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    assert f"the role {plain} could not create the extension vector again" in done.stdout
    assert owned.query("SELECT extname FROM pg_extension WHERE extname = 'vector'") == [("vector",)]


@pytest.mark.slow
def test_a_superuser_can_ask_for_it_too(project: Project, cluster: Cluster, name: str) -> None:
    """Even the objects of the bootstrap superuser, which no catalog of owners lists."""
    project.query("CREATE EXTENSION vector")
    project.configure("[tool.backset]", '[tool.backset]\nschemas = ["the app"]')
    project.query(OF_EVERY_KIND)
    before = dumped(cluster, name)
    add_failing_migration(project.folder)
    assert project.invoke("reset-db", "--in-place").returncode == 5
    assert dumped(cluster, name) == before


def test_an_empty_database_fails_back_to_empty(owned: Project) -> None:
    """There is no backup then, and what is half built goes."""
    add_failing_migration(owned.folder)
    done = owned.invoke("reset-db")
    assert done.returncode == 5
    assert "is empty, as it was" in done.stderr
    assert prints(owned) == {}


OF_OTHERS = """
CREATE TABLE public.theirs (a int PRIMARY KEY CHECK (a > 0));
COMMENT ON COLUMN public.theirs.a IS 'a';
COMMENT ON CONSTRAINT theirs_pkey ON public.theirs IS 'b';
GRANT SELECT, INSERT ON public.theirs TO PUBLIC;
GRANT UPDATE (a) ON public.theirs TO PUBLIC;
CREATE SCHEMA "APP";
GRANT USAGE ON SCHEMA "APP" TO PUBLIC;
CREATE TABLE "APP"."USERS" (a int);
COMMENT ON TABLE "APP"."USERS" IS 'c';
COMMENT ON COLUMN "APP"."USERS".a IS 'd';
GRANT SELECT ON "APP"."USERS" TO PUBLIC
"""


@pytest.mark.slow
def test_the_way_back_leads_past_what_belongs_to_others(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """Comments and grants on it are not ours to give, and others go on writing to it."""
    broken(owned)
    as_superuser(cluster, name, OF_OTHERS)
    rows = prints(owned)
    process = start_slow_migration(owned)
    as_superuser(cluster, name, "INSERT INTO theirs VALUES (1)")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 5, errors
    assert "is as its manifest says" in errors
    assert owned.query("SELECT count(*) FROM theirs") == [(1,)]
    assert {**prints(owned), "public.theirs": None} == {**rows, "public.theirs": None}


def test_a_restore_in_place_leaves_what_belongs_to_others(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """The way back that a run in place names works where somebody else has tables too."""
    owned.query("CREATE TABLE ours (a int); INSERT INTO ours VALUES (1)")
    as_superuser(cluster, name, OF_OTHERS)
    assert owned.invoke("backup").returncode == 0
    (backup,) = json.loads(owned.invoke("backups", "--json").stdout)["backups"]
    owned.query("INSERT INTO ours VALUES (2)")
    done = owned.invoke("restore", backup["name"])
    assert done.returncode == 0, done.stderr
    assert owned.query("SELECT a FROM ours") == [(1,)]


@pytest.mark.parametrize(
    "statements",
    [
        (
            "CREATE SCHEMA s; CREATE TABLE s.t (a int); ALTER TABLE s.t OWNER TO {0};"
            "GRANT USAGE ON SCHEMA s TO {0}"
        ),
        (
            "CREATE ROLE {0}_2; CREATE ROLE {0}_3; CREATE TABLE t (a int);"
            "ALTER TABLE t OWNER TO {0};"
            "SET ROLE {0}; GRANT SELECT ON t TO {0}_2 WITH GRANT OPTION;"
            "SET ROLE {0}_2; GRANT SELECT ON t TO {0}_3"
        ),
    ],
    ids=["schema", "grantor"],
)
def test_what_could_not_be_made_again_is_not_dropped(
    owned: Project, cluster: Cluster, name: str, plain: str, statements: str
) -> None:
    """The role may drop its table, but not bring it back: found out before it is too late."""
    owned.configure("[tool.backset]", '[tool.backset]\nschemas = ["s"]')
    as_superuser(cluster, name, statements.format(plain))
    before = dumped(cluster, name)
    done = owned.invoke("reset-db")
    assert done.returncode == 4, done.stderr
    assert "could not make again what would be dropped: permission denied" in done.stderr
    assert f"{name} is as it was" in done.stderr
    assert dumped(cluster, name) == before


def test_a_schema_that_an_administrator_made_stays(
    owned: Project, cluster: Cluster, superuser: psycopg.Connection[Any], name: str, plain: str
) -> None:
    """The role owns it, but without CREATE on the database it could not make it again."""
    superuser.execute(
        sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(name))
    )
    grants = f"CREATE SCHEMA app AUTHORIZATION {plain}; GRANT CREATE ON SCHEMA public TO {plain}"
    as_superuser(cluster, name, grants)
    owned.configure("[tool.backset]", '[tool.backset]\nschemas = ["app"]')
    owned.query("CREATE TABLE app.ours (a int); INSERT INTO app.ours VALUES (1)")
    add_failing_migration(owned.folder)
    before = dumped(cluster, name)
    done = owned.invoke("reset-db")
    assert done.returncode == 5, done.stderr
    assert dumped(cluster, name) == before


def test_what_others_built_on_ours_is_not_taken_along(
    owned: Project, cluster: Cluster, name: str
) -> None:
    """CASCADE would drop the index of somebody else's table without a word."""
    owned.query("CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
    theirs = "CREATE TABLE theirs (a int); CREATE INDEX ON theirs (f(a)); GRANT SELECT ON theirs"
    as_superuser(cluster, name, f"{theirs} TO PUBLIC")
    before = dumped(cluster, name)
    done = owned.invoke("reset-db")
    assert done.returncode == 3, done.stderr
    assert "table public.theirs (owner postgres) depends on what would be dropped" in done.stderr
    assert dumped(cluster, name) == before


def test_a_plan_ends_no_session(owned: Project) -> None:
    """It looks, and that is all."""
    assert owned.invoke("reset-db").returncode == 0
    with psycopg.connect(owned.url, autocommit=True) as session:
        assert owned.invoke("reset-db", "--plan").returncode == 0
        session.execute("SELECT 1")


@pytest.mark.parametrize(
    "encoding", slow_but(["LATIN1", "SQL_ASCII"], lambda encoding: encoding == "LATIN1")
)
def test_other_encodings(
    owned: Project, superuser: psycopg.Connection[Any], name: str, plain: str, encoding: str
) -> None:
    """Names and rows come back from a database that does not speak UTF-8."""
    made = f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C' LOCALE_PROVIDER libc"
    owner = f"OWNER {plain}"
    superuser.execute(f'DROP DATABASE "{name}"'.encode())
    superuser.execute(f'CREATE DATABASE "{name}" {made} {owner}'.encode())
    with psycopg.connect(owned.url, client_encoding="UTF8") as session:
        session.execute("""CREATE TABLE "größe" (a text); INSERT INTO "größe" VALUES ('é')""")
    add_failing_migration(owned.folder)
    done = owned.invoke("reset-db")
    assert done.returncode == 5, done.stderr
    assert "is as its manifest says" in done.stderr
    with psycopg.connect(owned.url, client_encoding="UTF8") as session:
        assert session.execute('SELECT a FROM "größe"').fetchall() == [("é",)]


def test_another_run_that_waits_in_the_target_is_not_ended(owned: Project) -> None:
    """It may not come to any other database; it holds no lock but may get that of this run."""
    name = "backset upgrade on app, pid 7 #0123456789abcd"
    with (
        psycopg.connect(owned.url, autocommit=True, application_name=name) as waiting,
        psycopg.connect(owned.url, autocommit=True, application_name="shop") as shop,
    ):
        owned.query("CREATE TABLE old (id int)")
        done = owned.invoke("reset", "--in-place")
        assert done.returncode == 0, done.stdout + done.stderr
        waiting.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            shop.execute("SELECT 1")
