"""The fixtures for pytest: a database for each test, built once, and nothing of it left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from backset.servers.server import Server
from backset.testing import template
from tests.clusters import as_superuser, majors, running
from tests.conftest import PASSWORD
from tests.git import commit, git
from tests.project import in_this_process, laid_down

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.project import Project

pytest_plugins = ["pytester"]

QUIET = ("-q", "-p", "no:cacheprovider", "-rs")
WAIT_S = 60


class Suite:
    """A project with tests, and what they leave on its server."""

    def __init__(
        self, project: Project, pytester: pytest.Pytester, session: psycopg.Connection[Any]
    ) -> None:
        self.folder, self.name = project.folder, project.database
        self._pytester = pytester
        self._session = session

    def write(self, text: str) -> None:
        """Let these be its tests."""
        (self.folder / "test_it.py").write_text(textwrap.dedent(text))

    def migrate(self, statement: str, line: str = "pass") -> None:
        """Add a migration. line: of Python, which it runs as well."""
        (self.folder / "migrations/versions/d1_more.py").write_text(
            "from alembic import op\nrevision, down_revision = 'd1', 'c1'\n"
            f"def upgrade():\n    op.execute({statement!r})\n    {line}\n"
        )

    def run(self, *words: str, **outcomes: int) -> pytest.RunResult:
        """Run pytest there, and hold its outcomes."""
        done = self._pytester.runpytest_subprocess(*QUIET, *words, timeout=2 * WAIT_S)
        done.assert_outcomes(**outcomes)
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start pytest there, in a process group of its own, as a shell does."""
        started: subprocess.Popen[str] = self._pytester.popen(
            [sys.executable, "-m", "pytest", *QUIET, *words],
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return started

    def databases(self) -> set[str]:
        """Return what stands there, by what comes after the name of the project's own database."""
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        found = self._session.execute(query, [self.name]).fetchall()
        return {each.removeprefix(self.name) for (each,) in found}

    def template(self) -> int:
        """Return which database the template is."""
        query = "SELECT oid FROM pg_database WHERE datname = %s AND NOT datallowconn"
        (oid,) = self._session.execute(query, [f"{self.name}__test__clean"]).fetchone() or (0,)
        return int(oid)

    def sessions(self) -> list[Any]:
        """Return who is connected for tests."""
        query = (
            "SELECT application_name, datname FROM pg_stat_activity"
            " WHERE application_name LIKE 'backset %%' OR starts_with(datname, %s)"
        )
        return self._session.execute(query, [self.name]).fetchall()

    def holds_nothing_but_the_template(self) -> None:
        """Demand that the template is all that is left."""
        wait_until(lambda: not self.sessions())
        assert self.databases() == {"__test__clean"}


def wait_until(asks: Callable[[], object]) -> None:
    """Wait for an answer that is yes."""
    deadline = time.monotonic() + WAIT_S
    while not asks():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.fixture
def tested(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    missing_url: str,
    superuser: psycopg.Connection[Any],
) -> Suite:
    """A project of which nothing stands on its server yet, not even its database."""
    project = laid_down(pytester.path / "project", "states", missing_url)
    monkeypatch.setenv("DATABASE_URL", missing_url)
    monkeypatch.chdir(project.folder)
    return Suite(project, pytester, superuser)


OWN = """
    import asyncio

    import psycopg
    import pytest
    from sqlalchemy import create_engine, text
    from sqlalchemy.ext.asyncio import create_async_engine

    COUNT = "SELECT count(*) FROM users"
    ADD = "INSERT INTO users VALUES (1, 'ada')"

    @pytest.mark.parametrize("number", range(3))
    def test_session(backset_session, number):
        assert backset_session.scalar(text(COUNT)) == 0
        backset_session.execute(text(ADD))
        backset_session.commit()

    def test_engine_that_nobody_closes(backset_url):
        with create_engine(backset_url).connect() as connection:
            assert connection.scalar(text(COUNT)) == 0
            connection.execute(text(ADD))
            connection.commit()

    def test_asyncio(backset_database):
        async def add():
            engine = create_async_engine(backset_database.url_for("asyncpg"))
            async with engine.begin() as connection:
                assert await connection.scalar(text(COUNT)) == 0
                await connection.execute(text(ADD))
            await engine.dispose()
        asyncio.run(add())

    def test_libpq(backset_database):
        assert backset_database.env == {"DATABASE_URL": backset_database.url}
        with psycopg.connect(backset_database.url_for()) as session:
            assert session.execute(COUNT).fetchone() == (0,)
            session.execute(ADD)

    def test_that_fails(backset_session):
        backset_session.execute(text(ADD))
        assert backset_session.scalar(text(COUNT)) == 0

    def test_first_of_a_worker(backset_worker_database):
        with psycopg.connect(backset_worker_database.url) as session:
            session.execute(ADD)

    def test_second_of_a_worker(backset_worker_database):
        with psycopg.connect(backset_worker_database.url) as session:
            assert session.execute(COUNT).fetchone() == (1,)
"""


def test_each_test_has_a_database_of_its_own(tested: Suite) -> None:
    """At head, empty, by every driver; what they leave open is closed, and no database stays.

    The template is built again when a migration has changed, and else never.
    """
    tested.write(OWN)
    tested.run(passed=8, failed=1)
    tested.holds_nothing_but_the_template()
    first = tested.template()
    tested.run("-k", "session", passed=3)
    assert tested.template() == first
    tested.migrate("ALTER TABLE users ADD COLUMN age int")
    tested.write("""
        from sqlalchemy import text

        def test_it(backset_session):
            assert backset_session.scalar(text("SELECT count(age) FROM users")) == 0
    """)
    tested.run(passed=1)
    assert tested.template() not in {0, first}
    tested.holds_nothing_but_the_template()


def test_the_workers_of_xdist_share_what_one_has_built(tested: Suite) -> None:
    """One builds, the others wait: also where nothing is kept, since a migration has side effects.

    What the database as a whole was given, each clone has.
    """
    built = tested.folder.parent / "built"
    tested.migrate(
        f"ALTER DATABASE {tested.name}__test__next SET search_path = 'public', 'other'",
        f"print('x', file=open({str(built)!r}, 'a'))",
    )
    tested.write("""
        import pytest
        from sqlalchemy import text

        @pytest.mark.parametrize("number", range(6))
        def test_it(backset_session, number):
            assert backset_session.scalar(text("SELECT count(*) FROM users")) == 0
            assert backset_session.scalar(text("SHOW search_path")) == "public, other"
            backset_session.execute(text("INSERT INTO users VALUES (1, 'ada')"))
            backset_session.commit()
    """)
    done = tested.run("-n", "2", passed=6)
    done.stdout.fnmatch_lines(["backset: the next run builds the template again: *"])
    assert built.read_text().split() == ["x"]
    tested.holds_nothing_but_the_template()
    tested.run("-n", "2", passed=6)
    assert built.read_text().split() == ["x", "x"]


TWO = """
    def test_first(backset_session):
        pass

    def test_second(backset_url):
        pass

    def test_third(backset_worker_database):
        pass

    def test_without():
        pass
"""


WAITS = """
    import pathlib, time

    def test_it(backset_session):
        pathlib.Path("begun").touch()
        while not pathlib.Path("over").exists():
            time.sleep(0.02)

    def test_more(backset_session):
        from sqlalchemy import text
        columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'users'"
        assert backset_session.scalar(text(columns)) == 2
"""


def begun(tested: Suite, *words: str) -> subprocess.Popen[str]:
    """Start tests that wait, and wait until they do."""
    tested.write(WAITS)
    started = tested.start(*words)
    wait_until((tested.folder / "begun").exists)
    return started


@pytest.mark.parametrize(
    "words",
    [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)],
    ids=["alone", "xdist"],
)
def test_an_interrupted_run_leaves_nothing(tested: Suite, words: tuple[str, ...]) -> None:
    """Ctrl-C goes to each process of the terminal."""
    started = begun(tested, *words)
    os.killpg(started.pid, signal.SIGINT)
    started.communicate(timeout=WAIT_S)
    assert started.returncode == pytest.ExitCode.INTERRUPTED
    tested.holds_nothing_but_the_template()


def test_an_interrupted_build_leaves_nothing(tested: Suite) -> None:
    """What is half built goes, and so does Alembic's process."""
    tested.migrate("SELECT pg_sleep(60)")
    tested.write(TWO)
    started = tested.start()
    wait_until(lambda: any(each for _, each in tested.sessions() if str(each).endswith("__next")))
    os.killpg(started.pid, signal.SIGINT)
    said, _ = started.communicate(timeout=WAIT_S)
    assert started.returncode == pytest.ExitCode.INTERRUPTED, said
    wait_until(lambda: not tested.sessions())
    assert tested.databases() == set()


def test_what_a_killed_run_leaves_the_next_one_drops(tested: Suite) -> None:
    """And it drops nothing of a run that goes on."""
    killed = begun(tested)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=WAIT_S)
    left = tested.databases()
    assert len(left) > 1
    (tested.folder / "begun").unlink()
    going_on = begun(tested)
    assert not tested.databases() & left - {"__test__clean"}
    tested.run("-k", "more", passed=1)
    (tested.folder / "over").touch()
    said, _ = going_on.communicate(timeout=WAIT_S)
    assert going_on.returncode == 0, said
    tested.holds_nothing_but_the_template()


def test_tests_of_another_login_go_on(superuser: psycopg.Connection[Any], missing_url: str) -> None:
    """The names of its sessions are hidden; what its databases belong to may be a role of both."""
    token = "0123456789abcd"
    target = Target.parse(missing_url)
    own = target.named(f"{target.database}__test")
    clone = f"{own.database}__{token}_1"
    owner = (sql.Identifier(clone), sql.Identifier(target.params["user"]))
    superuser.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*owner))
    superuser.execute(sql.SQL("COMMENT ON DATABASE {} IS 'backset clone x'").format(owner[0]))

    def stands() -> bool:
        query = "SELECT FROM pg_database WHERE datname = %s"
        return superuser.execute(query, [clone]).fetchone() is not None

    with Server(own, template.PURPOSE) as server:
        superuser.execute(f"SET application_name = 'backset pytest on laptop, pid 1 #{token}'")
        superuser.execute(template._USE, [template._key(token)])  # noqa: SLF001  (as they do)
        template.sweep(server)
        assert stands()
        superuser.execute("SELECT pg_advisory_unlock_all()")
        template.sweep(server)
        assert not stands()


@pytest.mark.slow
def test_tests_keep_their_template_while_others_build_another_one(tested: Suite) -> None:
    """As in two checkouts of one project: each has the schema of its own migrations to the end."""
    going_on = begun(tested)
    tested.migrate("ALTER TABLE users ADD COLUMN age int")
    tested.write("""
        from sqlalchemy import text

        def test_it(backset_session):
            backset_session.execute(text("SELECT age FROM users"))
    """)
    tested.run(passed=1)
    (tested.folder / "over").touch()
    said, _ = going_on.communicate(timeout=WAIT_S)
    assert going_on.returncode == 0, said
    tested.holds_nothing_but_the_template()


def _without_migrations(tested: Suite) -> None:
    for each in (tested.folder / "migrations/versions").glob("*.py"):
        each.unlink()


def _without_a_project(tested: Suite) -> None:
    (tested.folder / "alembic.ini").unlink()
    shutil.rmtree(tested.folder / "migrations")


def _with_one_that_fails(tested: Suite) -> None:
    tested.migrate("SELECT 1 / 0")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(
            *(_without_migrations, "backset: no migrations: * → write the first one: *"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(_without_a_project, "backset: no alembic.ini, *→ go to the project's folder, *"),
            marks=pytest.mark.slow,
        ),
        (_with_one_that_fails, "backset: revision d1 (d1_more.py:4): *division by zero → mend *"),
    ],
    ids=["no migrations", "no project", "a migration that fails"],
)
def test_one_test_says_why_there_is_no_database(
    tested: Suite, spoil: Callable[[Suite], None], words: str
) -> None:
    """In a line without a traceback; the others are skipped, those without a database run."""
    spoil(tested)
    tested.write(TWO)
    done = tested.run(errors=1, skipped=2, passed=1)
    done.stdout.fnmatch_lines([words, "SKIPPED*no database for tests: *"])
    done.stdout.no_fnmatch_line("*Traceback*")
    done.stdout.no_fnmatch_line("*src/backset/*")
    done.stdout.no_fnmatch_line("*is as it was*")  # nobody has asked for that database
    assert tested.databases() == set()


def test_a_server_that_is_not_there_is_named(
    tested: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the password, and with what to do."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:secret@127.0.0.1:1/shop")
    tested.write(TWO)
    done = tested.run(errors=1, skipped=2, passed=1)
    done.stdout.fnmatch_lines(["backset: postgresql://ada@127.0.0.1:1/shop: * → start the server*"])
    done.stdout.no_fnmatch_line("*secret*")


def test_a_failing_test_shows_no_password(
    tested: Suite, monkeypatch: pytest.MonkeyPatch, tcp_url: str
) -> None:
    """Pytest shows the values of a test that fails. The URL itself has the password, and works."""
    monkeypatch.setenv("DATABASE_URL", tcp_url)
    told = '[tool.backset.env]\nOWN_URL = "{url:asyncpg}"\nOWN_PASSWORD = "{password}"\n'
    with (tested.folder / "pyproject.toml").open("a") as file:
        file.write(told)
    tested.write("""
        import psycopg

        def test_it(backset_url, backset_database):
            other = backset_database.url_for("psycopg2")
            env = backset_database.env
            psycopg.connect(backset_url).close()
            assert backset_url.endswith(other) == 1
    """)
    done = tested.run("-l", failed=1)
    done.stdout.fnmatch_lines(["backset_url = 'postgresql://developer@127.0.0.1:*"])
    done.stdout.no_fnmatch_line(f"*{PASSWORD[:3]}*")
    assert "can%25ary" not in done.stdout.str()


def test_the_database_that_people_work_with_is_not_touched(
    tested: Suite, superuser: psycopg.Connection[Any]
) -> None:
    """Not even read: nobody may connect to it. What is kept of its own rebuilds stays as well."""
    names = [sql.Identifier(tested.name + each) for each in ("", "__previous", "__clean")]
    for each in names:
        create = sql.SQL("CREATE DATABASE {} ALLOW_CONNECTIONS false")
        superuser.execute(create.format(each))
    rows = "SELECT oid, xmin::text FROM pg_database WHERE datname = ANY(%s)"
    ours = [[tested.name, f"{tested.name}__previous", f"{tested.name}__clean"]]
    before = superuser.execute(rows, ours).fetchall()
    tested.write(TWO)
    tested.run(passed=4)
    assert superuser.execute(rows, ours).fetchall() == before
    assert tested.databases() == {"", "__previous", "__clean", "__test__clean"}


def test_no_database_for_tests_is_beside_a_protected_one(
    tested: Suite, superuser: psycopg.Connection[Any]
) -> None:
    """Who protects a database does not want the load of tests on its server."""
    name = sql.Identifier(tested.name)
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(name))
    superuser.execute(sql.SQL("ALTER DATABASE {} SET backset.protected TO 'on'").format(name))
    tested.write(TWO)
    done = tested.run(errors=1, skipped=2, passed=1)
    done.stdout.fnmatch_lines(["backset: t_* is protected, and databases for tests would be on *"])
    assert tested.databases() == {""}


def test_nothing_is_imported_until_a_fixture_is_used(tested: Suite) -> None:
    """Pytest loads the plugin in every project that has backset; a run there is as it was."""
    tested.write("""
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("backset")
            ours = {name for name in sys.modules if name.partition(".")[0] == "backset"}
            assert ours == {"backset", "backset.pytest_plugin"}
            assert not {"psycopg", "sqlalchemy", "alembic", "invoke"} & set(sys.modules)
    """)
    tested.run("-p", "no:pytest_postgresql", passed=1)  # which imports psycopg
    assert tested.databases() == set()


@pytest.mark.parametrize("major", [each for each in majors() if each.values != (18,)])
def test_on_every_major(tested: Suite, monkeypatch: pytest.MonkeyPatch, major: int) -> None:
    """A role that may create databases is enough; it need not be a superuser."""
    with running(major) as cluster:
        as_superuser(cluster, "postgres", "CREATE ROLE developer LOGIN CREATEDB")
        monkeypatch.setenv("DATABASE_URL", cluster.url("shop", "developer"))
        tested.write(OWN)
        tested.run(passed=8, failed=1)
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, 'shop')"
        with psycopg.connect(cluster.url("postgres")) as session:
            assert session.execute(query).fetchall() == [("shop__test__clean",)]


def test_a_branch_has_a_template_of_its_own(tested: Suite) -> None:
    """So a checkout builds nothing again; it goes with the database of the branch."""
    own = f"{tested.name}__branch_feature"
    git(tested.folder, "init", "-q", "-b", "feature")
    commit(tested.folder, "all")
    git(tested.folder, "config", "branch.feature.backsetDatabase", f"{tested.name} {own}")
    tested.write("""
        from sqlalchemy import text

        def test_it(backset_session):
            assert backset_session.scalar(text("SELECT count(*) FROM users")) == 0
    """)
    tested.run(passed=1)
    assert tested.databases() == {"__branch_feature__test__clean"}
    done = in_this_process(["backset", "branch", "delete", "feature"], tested.folder, {})
    assert done.returncode == 0, done.stderr
    assert tested.databases() == set()
