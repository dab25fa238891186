"""`invoke carry --from`: rows of a backup, a dump, or another database in a freshly built one."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from backset.servers.programs import embedded_folder
from tests.clusters import free_port, running
from tests.incident.fingerprint import fingerprint
from tests.incident.project import break_it, lay_down
from tests.marks import slow_but
from tests.project import REPOSITORY, Project, databases, prints
from tests.states import rebuilt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

STAGING, READER, STRANGER = "staging", "reader", "stranger"
CARRIED = "task_outputs 6 · tasks 3 · users 2"
# What no other server has, and no row needs.
ROLES = f"""
CREATE ROLE {READER} LOGIN PASSWORD 'read only';
CREATE ROLE {STRANGER};
REVOKE TEMPORARY ON DATABASE {STAGING} FROM PUBLIC;
"""
OF_A_COLLEAGUE = f"""
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
ALTER TABLE users OWNER TO {STRANGER};
GRANT SELECT ON users TO {READER};
CREATE FUNCTION public.twice() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER twice BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION public.twice();
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_them ON tasks FOR SELECT TO {READER}, {STRANGER} USING (true);
ALTER TABLE tasks DISABLE ROW LEVEL SECURITY;
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Cluster]]:
    """Servers of 16 and 18 with the incident's rows in `staging`; that of 18 is a standby."""
    with ExitStack() as undo:
        made = {major: undo.enter_context(running(major, free_port())) for major in (16, 18)}
        for each in made.values():
            with psycopg.connect(each.url("postgres"), autocommit=True) as session:
                session.execute(f"CREATE DATABASE {STAGING}")
                session.execute(ROLES)
        folder = tmp_path_factory.mktemp("staging")
        lay_down(folder, REPOSITORY)
        break_it(folder, made[16].url(STAGING))
        with psycopg.connect(made[16].url(STAGING), autocommit=True) as session:
            session.execute(OF_A_COLLEAGUE)
        run(
            made[18], "psql", "-qf", dumped(made[16], folder / "staging.sql"), made[18].url(STAGING)
        )
        made[18].stop()
        (made[18].data / "standby.signal").touch()
        made[18].start()
        yield made


@pytest.fixture
def url(servers: dict[int, Cluster]) -> str:
    """The staging database of the standby, for a role that may only read it."""
    return servers[18].url(STAGING, READER)


@dataclass(frozen=True)
class Colleague:
    """Somebody with a copy of `staging` of their own, on the server of 16."""

    server: Cluster
    database: str

    def url(self, role: str = "postgres") -> str:
        """Return the URL of it."""
        return self.server.url(self.database, role)

    def run(self, statements: str) -> None:
        """Do something to it."""
        with psycopg.connect(self.url(), autocommit=True) as session:
            session.execute(statements.encode())

    def dump(self, path: Path, *how: str) -> Path:
        """Take a dump of it."""
        return dumped(self.server, path, *(how or ("--format=custom",)), database=self.database)


@pytest.fixture
def colleague(servers: dict[int, Cluster]) -> Colleague:
    """Somebody whose database a test may change."""
    made = Colleague(servers[16], f"c_{secrets.token_hex(4)}")
    with psycopg.connect(servers[16].url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {made.database} TEMPLATE {STAGING}")
    return made


def outputs(database: str) -> list[tuple[Any, ...]]:
    """Return what both schemas have of the outputs."""
    with psycopg.connect(database) as session:
        return session.execute(
            "SELECT o.id, task_id, content, t.user_id, email FROM task_outputs o "
            "JOIN tasks t ON t.id = task_id JOIN users u ON u.id = t.user_id ORDER BY 1"
        ).fetchall()


def beside(project: Project) -> set[str]:
    """Return what stands beside the target, but for the clone that is kept for the next rebuild."""
    return databases(project) - {"__clean"}


def counts(project: Project) -> list[int]:
    """Return how many rows users, tasks and outputs have."""
    found = prints(project)
    return [found[f"public.{table}"][0] for table in ("users", "tasks", "task_outputs")]


def dumped(server: Cluster, path: Path, *how: str, database: str = STAGING) -> Path:
    """Take a dump as an administrator would."""
    run(server, "pg_dump", *how, "--file", path, server.url(database))
    return path


def run(server: Cluster, program: str, *arguments: str | Path) -> None:
    """Run one of the server's programs."""
    path = embedded_folder(server.major) / "bin" / program
    subprocess.run([path, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("old", "new"), slow_but([(18, 18), (16, 18), (18, 16)], lambda case: case == (18, 18))
)
def test_rows_come_from_another_database(
    project: Project, servers: dict[int, Cluster], name: str, old: int, new: int
) -> None:
    """From a standby, by a role that may only read, and from one version to another."""
    if new == 16:
        project.env["DATABASE_URL"] = servers[16].url(name)
    source = servers[old].url(STAGING, READER)
    before = fingerprint(source)
    done = project.invoke("carry", "--from", source)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" ✔ carry     {CARRIED} · from {source}" in done.stdout
    assert outputs(project.url) == outputs(servers[old].url(STAGING))
    assert counts(project) == [2, 3, 6]
    assert fingerprint(source) == before
    assert beside(project) - {"__previous"} == {""}


def test_the_rows_of_before_are_kept_and_undo_goes_back(project: Project, url: str) -> None:
    """The target is replaced as by `reset-db`: its backup is taken, and twice is redo."""
    rebuilt(project)
    mock = prints(project)
    done = json.loads(project.invoke("carry", "--from", url, "--json").stdout)
    steps = {each["step"]: each for each in done["steps"]}
    assert [*steps] == ["reset", "backup", "upgrade", "verify", "carry", "promote"]
    assert steps["carry"]["rows"] == {"task_outputs": 6, "tasks": 3, "users": 2}
    assert steps["carry"]["origin"] == url
    assert steps["backup"]["rows"]["task_outputs"] == 30
    carried = prints(project)
    assert project.invoke("undo").returncode == 0
    assert prints(project) == mock
    assert project.invoke("undo").returncode == 0
    assert prints(project) == carried


@pytest.mark.slow
def test_a_plan_says_it_all_and_changes_nothing(project: Project, url: str) -> None:
    """What would be carried, from where, and what does not fit; the scratch databases are gone."""
    rebuilt(project)
    before = prints(project)
    done = project.invoke("carry", "--from", url, "--plan")
    assert done.returncode == 0, done.stderr
    assert f" · carry     would carry {CARRIED} from {url}\n" in done.stdout
    assert "tasks.results: json → jsonb" in done.stdout
    done = project.invoke("carry", "--from", url, "--plan", "--tables", "tasks")
    assert (done.returncode, "nothing was changed" in done.stdout) == (4, True)
    assert "refer to users, which is not carried" in done.stderr
    assert "→ --tables tasks,users" in done.stderr
    assert prints(project) == before
    assert beside(project) == {"", "__previous"}


@pytest.mark.slow
def test_some_tables_and_the_seed_after_them(project: Project, url: str) -> None:
    """`--tables` chooses; `--seed` runs the seed command, which finds the rows there."""
    done = project.invoke("carry", "--from", url, "--tables=users", "--seed")
    assert done.returncode == 0, done.stderr
    assert " ✔ carry     users 2 · from " in done.stdout
    assert counts(project) == [3, 5, 30]


def test_rules_are_the_same(project: Project, colleague: Colleague) -> None:
    """What has no place stops the run before the first row; `--drop-data` leaves it behind."""
    colleague.run("CREATE TABLE notes (a int); INSERT INTO notes VALUES (1), (2)")
    done = project.invoke("carry", "--from", colleague.url())
    assert done.returncode == 4
    assert "left behind: notes (2 rows)" in done.stderr
    done = project.invoke("carry", "--from", colleague.url(), "--drop-data")
    assert done.returncode == 0, done.stderr
    assert "left behind: notes (2 rows)" in done.stdout


def test_what_may_not_be_read_is_told(project: Project, colleague: Colleague) -> None:
    """A table that the role may not read stops the run, and `--tables` goes around it."""
    colleague.run(f"REVOKE SELECT ON task_outputs FROM {READER}")
    done = project.invoke("carry", "--from", colleague.url(READER))
    assert done.returncode == 4
    assert "the role may not read every row of task_outputs" in done.stderr
    assert "GRANT SELECT ON task_outputs" in done.stderr
    assert "--tables TABLE,…" in done.stderr
    done = project.invoke("carry", "--from", colleague.url(READER), "--tables", "users,tasks")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "above", slow_but(["1000000000", "0"], lambda above: above == "0"), ids=["gzip", "zstd"]
)
def test_rows_come_from_a_backup(project: Project, url: str, above: str) -> None:
    """By its name, though another backup is taken meanwhile and only one is kept."""
    project.env["BACKSET_ZSTD_ABOVE"] = above
    assert project.invoke("carry", "--from", url).returncode == 0
    assert project.invoke("backup").returncode == 0
    (dump,) = (project.folder / "backups").rglob("*.dump*")
    name = dump.name.partition(".dump")[0]
    before = prints(project)
    assert project.invoke("reset-db").returncode == 0
    done = project.invoke("carry", "--from", name, BACKSET_KEEP="1")
    assert done.returncode == 0, done.stderr
    assert f"{CARRIED} · from {name}" in done.stdout
    assert prints(project) == before
    assert beside(project) == {"", "__previous"}
    assert dump.exists()


@pytest.mark.parametrize("how", ["custom", "directory", "tar"])
@pytest.mark.parametrize("major", slow_but([18, 16], lambda major: major == 18))
def test_rows_come_from_a_colleagues_dump(
    project: Project, servers: dict[int, Cluster], tmp_path: Path, how: str, major: int
) -> None:
    """Of each format and an older version; its roles, triggers and policies are not needed."""
    dump = dumped(servers[major], tmp_path / "a colleague's.dump", f"--format={how}")
    done = project.invoke("carry", "--from", str(dump))
    assert done.returncode == 0, done.stdout + done.stderr
    assert outputs(project.url) == outputs(servers[major].url(STAGING))
    assert counts(project) == [2, 3, 6]
    assert beside(project) - {"__previous"} == {""}


def test_a_plan_of_a_dump_leaves_nothing(
    project: Project, servers: dict[int, Cluster], tmp_path: Path
) -> None:
    """It is restored to be looked at, and dropped again."""
    dump = dumped(servers[16], tmp_path / "x.dump", "--format=custom")
    done = project.invoke("carry", "--from", str(dump), "--plan")
    assert done.returncode == 0, done.stderr
    assert f"would carry {CARRIED} from {dump}" in done.stdout
    assert beside(project) == {""}


def test_what_is_not_in_a_dump_is_told(
    project: Project, colleague: Colleague, tmp_path: Path
) -> None:
    """Tables that were dumped without their rows; partitioned ones are none of these."""
    colleague.run(PARTS)
    dump = colleague.dump(tmp_path / "x", "--format=directory", "--exclude-table-data=users")
    done = project.invoke("carry", "--from", str(dump), "--tables=users", "--plan")
    assert done.returncode == 0, done.stderr
    assert " · carry     the dump has no rows of users\n" in done.stdout
    assert " · carry     would carry users 0 from " in done.stdout


def test_the_rows_of_chosen_tables_are_restored_alone(
    project: Project, colleague: Colleague, tmp_path: Path
) -> None:
    """With their partitions, and under the old name of a table, which may have a dot in it."""
    colleague.run(PARTS + SLOW + 'ALTER TABLE users RENAME TO "old.people"')
    dump = colleague.dump(tmp_path / "x.dump")
    project.configure("[tool.backset]\n", '[tool.backset]\nrename = {users = "old.people"}\n')
    (project.folder / "alembic/versions/c0ffee_parts.py").write_text(
        "from alembic import op\nrevision, down_revision = 'c0ffee', '0b228e9fec0b'\n"
        f"def upgrade():\n    op.execute({PARTS.partition(';')[0]!r})\n"
        "    op.execute('CREATE TABLE rest PARTITION OF parts DEFAULT')\n"
    )
    chosen = ("--from", str(dump), "--tables=users,parts", "--accept")
    done = project.invoke("carry", *chosen, "--timeout=50")  # `slow` takes a minute
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ✔ carry     parts 2 · users 2 · from " in done.stdout


def test_an_extension_that_the_role_may_not_make(
    project: Project, colleague: Colleague, tmp_path: Path, tcp_url: str
) -> None:
    """It is no matter where no row needs it; else the line says what would help."""
    colleague.run("CREATE EXTENSION vector")
    project.env["DATABASE_URL"] = tcp_url
    dump = colleague.dump(tmp_path / "without.dump")
    done = project.invoke("carry", "--from", str(dump))
    assert done.returncode == 0, done.stdout + done.stderr
    colleague.run("CREATE TABLE vectors (v vector(2)); INSERT INTO vectors VALUES ('[1,2]')")
    dump = colleague.dump(tmp_path / "with.dump")
    done = project.invoke("carry", "--from", str(dump), "--drop-data")
    assert done.returncode == 4
    assert 'relation "public.vectors" does not exist' in done.stderr
    assert "→ run this as a role that may create the extension vector" in done.stderr
    done = project.invoke("carry", "--from", str(dump), "--tables=users")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_be_read_is_refused(
    project: Project, servers: dict[int, Cluster], name: str, tmp_path: Path
) -> None:
    """Before anything is done, in one line, which says what would do."""
    plain = dumped(servers[16], tmp_path / "x.sql")
    newer = dumped(servers[18], tmp_path / "newer.dump", "--format=custom")
    cut = dumped(servers[16], tmp_path / "cut.dump", "--format=custom")
    cut.write_bytes(cut.read_bytes()[:-200])
    halves = [
        dumped(servers[16], tmp_path / half, "--format=custom", f"--{half}")
        for half in ("schema-only", "data-only")
    ]
    other = tmp_path / "photo.jpg"
    other.write_bytes(b"\xff\xd8\xff" * 999)
    at_16 = {"DATABASE_URL": servers[16].url(name)}
    nobody = f"postgresql://me@127.0.0.1:{free_port()}/x"
    for origin, env, code, words in [
        (str(plain), {}, 3, "→ take it with pg_dump --format=custom"),
        (str(other), {}, 3, "is no dump of the custom, the directory or the tar format"),
        (str(halves[0]), {}, 3, "has tables and no rows"),
        (str(halves[1]), {}, 3, "has rows and no tables"),
        (str(newer), at_16, 3, "was taken from PostgreSQL 18, and this server is 16"),
        (str(tmp_path), {}, 3, "is no dump of the custom, the directory or the tar format"),
        ("nothing.dump", {}, 4, "nothing.dump is no backup of this database, and no file"),
        (nobody, {}, 4, "correct --from"),
        ("mysql://me@localhost/x", {}, 2, "--from is not a PostgreSQL URL"),
        ("postgresql://me@localhost", {}, 2, "--from names no database"),
        ("env:NOTHING", {}, 2, "--from names the variable NOTHING, which is not set"),
        ("", {}, 2, "carry was not told where the rows come from"),
    ]:
        done = project.invoke("carry", f"--from={origin}", **env)
        assert (done.returncode, done.stdout) == (code, ""), (origin, done.stdout, done.stderr)
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert beside(project) == {""}
    done = project.invoke("carry", "--from", str(cut))
    assert done.returncode == 4
    assert "cut.dump cannot be restored here" in done.stderr
    assert beside(project) == {""}


def test_the_target_is_not_its_own_origin(
    project: Project, superuser: psycopg.Connection[Any], name: str
) -> None:
    """Nor is what this run drops; the database from before is as good as any."""
    rebuilt(project)
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"{name}__next")))
    mark = sql.SQL("COMMENT ON DATABASE {} IS 'backset next'")  # as of backset before
    superuser.execute(mark.format(sql.Identifier(f"{name}__next")))
    for database, words in [
        (name, "`invoke reset-db --carry` carries"),
        (f"{name}__next", "which every run makes anew"),
    ]:
        origin = Target.parse(project.url).named(database).url
        done = project.invoke("carry", "--from", origin)
        assert done.returncode == 3, done.stdout + done.stderr
        assert words in done.stderr
    mock = prints(project)
    assert project.invoke("reset").returncode == 0
    previous = Target.parse(project.url).named(f"{name}__previous").url
    assert project.invoke("carry", "--from", previous).returncode == 0
    assert counts(project) == [mock[f"public.{t}"][0] for t in ("users", "tasks", "task_outputs")]


def test_a_password_is_never_shown(project: Project, servers: dict[int, Cluster]) -> None:
    """A variable names the URL, from .env too; one in the argument is taken with a warning."""
    secret = "read%20only"
    source = f"postgresql://{READER}:{secret}@127.0.0.1:{servers[16].tcp_port}/{STAGING}"
    (project.folder / ".env").write_text(f"STAGING_URL={source}\n")
    done = project.invoke("carry", "--from", "env:STAGING_URL", "--tables=users")
    assert done.returncode == 0, done.stderr
    assert "list of processes" not in done.stdout
    assert f"from postgresql://{READER}@127.0.0.1" in done.stdout
    told = project.invoke("carry", "--from", source, "--tables=users")
    assert told.returncode == 0, told.stderr
    assert " ! others on this machine can read the password in --from" in told.stdout
    wrong = project.invoke("carry", "--from", source.replace("only", "0nly"))
    assert wrong.returncode == 4
    assert "password authentication failed" in wrong.stderr
    text = done.stdout + done.stderr + told.stdout + told.stderr + wrong.stdout + wrong.stderr
    for each in (secret, "read only", "read%200nly", "read 0nly"):
        assert each not in text


def test_a_protected_target_stays(project: Project, url: str) -> None:
    """It is the target that is replaced, so its protection counts."""
    rebuilt(project)
    assert project.invoke("protect").returncode == 0
    done = project.invoke("carry", "--from", url)
    assert done.returncode == 3
    assert "is protected" in done.stderr


def test_a_role_that_may_not_create_databases_is_told(
    project: Project, cluster: Cluster, superuser: psycopg.Connection[Any], name: str, url: str
) -> None:
    """There is no way in place: the reason, and what an administrator would type."""
    role = f"plain_{secrets.token_hex(4)}"
    for words in ("CREATE ROLE {1} LOGIN", "ALTER DATABASE {0} OWNER TO {1}"):
        statement = sql.SQL(words).format(sql.Identifier(name), sql.Identifier(role))
        superuser.execute(statement)
    project.env["DATABASE_URL"] = cluster.url(name, role)
    done = project.invoke("carry", "--from", url)
    assert done.returncode == 3
    assert f"the role {role} may not create databases" in done.stderr
    done = project.invoke("carry", "--from", url, "--plan")
    assert done.returncode == 3


@pytest.mark.parametrize(
    "signum", slow_but([signal.SIGTERM, signal.SIGKILL], lambda signum: signum == signal.SIGTERM)
)
@pytest.mark.slow
def test_an_interrupted_restore_leaves_nothing(
    project: Project, colleague: Colleague, tmp_path: Path, url: str, signum: int
) -> None:
    """In the middle of a dump: after TERM nothing is there, after KILL the next run removes it."""
    colleague.run(SLOW)
    dump = colleague.dump(tmp_path / "slow.dump")
    assert project.invoke("reset-db").returncode == 0
    before = prints(project)
    with project.start("carry", "--from", str(dump), "--drop-data") as running:
        wait_until(lambda: project.query(SLEEPING, "postgres") != [], running)
        running.send_signal(signum)
        running.communicate()
    if signum == signal.SIGKILL:
        assert "__scratch_old" in beside(project)
        assert prints(project) == before
        assert project.invoke("carry", "--from", url).returncode == 0
    else:
        assert running.returncode == 143
        assert prints(project) == before
    assert beside(project) == {"", "__previous"}


@pytest.mark.slow
def test_an_interrupted_copy_leaves_nothing(project: Project, colleague: Colleague) -> None:
    """In the middle of another database: the target is as it was, and the other one is let go."""
    rebuilt(project)
    before = prints(project)
    with psycopg.connect(colleague.url()) as holder:
        holder.execute("LOCK TABLE users")
        with project.start("carry", "--from", colleague.url(READER)) as running:
            wait_until(lambda: holder.execute(HELD_UP).fetchall() != [], running)
            running.kill()
            running.communicate()
    assert prints(project) == before
    assert project.invoke("carry", "--from", colleague.url(READER)).returncode == 0
    assert counts(project) == [2, 3, 6]
    assert beside(project) == {"", "__previous"}


PARTS = """
CREATE TABLE parts (a int, b text) PARTITION BY RANGE (a);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (1) TO (9);
CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (9) TO (99);
INSERT INTO parts VALUES (1, 'one'), (10, 'ten');
"""
SLOW = """
CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
    IF current_database() LIKE '%scratch%' THEN PERFORM pg_sleep(60); END IF; RETURN true; END$$;
CREATE TABLE slow (a int CHECK (public.slow()));
INSERT INTO slow VALUES (1);
"""
SLEEPING = """
    SELECT 1 FROM pg_stat_activity
    WHERE wait_event = 'PgSleep' AND datname LIKE '%\\_\\_scratch\\_old'
"""
HELD_UP = "SELECT 1 FROM pg_locks WHERE NOT granted"


def wait_until(is_so: Any, running: subprocess.Popen[str]) -> None:  # noqa: ANN401  (a function)
    """Wait for it, as long as the run lives."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
