"""Alembic's process works on the database it was given and proves it, or executes nothing."""

from __future__ import annotations

import os
import py_compile
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from psycopg import sql

from backset.checks import verification
from backset.checks.verification import Verdict
from backset.connections.target import Target
from backset.errors import AlembicError, SettingsError, StepFailedError
from backset.migrate import discovery
from backset.migrate.worker import Worker
from backset.settings.reader import load
from backset.settings.settings import Settings
from tests.conftest import PASSWORD, ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.settings.settings import Settings
    from tests.project import Project

pytestmark = pytest.mark.every_python

ENV = """
import os
from alembic import context
from sqlalchemy import create_engine
{extra}
with create_engine({url}).connect() as connection:
    context.configure(connection=connection, target_metadata={metadata})
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
from alembic import op
revision, down_revision = {revision!r}, {down!r}
def upgrade():
    {body}
def downgrade(): pass
"""
HONEST = 'os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")'


@contextmanager
def working(project: Project, url: str | None = None) -> Iterator[tuple[Worker, Any, Settings]]:
    """Open a worker and our own session on the project's database."""
    settings = load(project.folder, {"DATABASE_URL": url or project.url, "PATH": "/usr/bin:/bin"})
    assert settings.target is not None
    with (
        Worker(settings) as worker,
        psycopg.connect(**settings.target.params, autocommit=True) as session,  # type: ignore[arg-type]
    ):
        worker.begin(settings.target)
        yield worker, session, settings


def rewrite(
    project: Project, *, url: str = HONEST, extra: str = "", metadata: str = "None"
) -> Path:
    """Give the project an env.py of another kind and no migrations; return its versions folder."""
    env = ENV.format(url=url, extra=extra, metadata=metadata)
    (project.folder / "alembic/env.py").write_text(env)
    versions = project.folder / "alembic/versions"
    for script in versions.glob("*.py"):
        script.unlink()
    return versions


def add(versions: Path, revision: str, down: str | None = None, body: str = "pass") -> None:
    """Add a migration."""
    text = REVISION.format(revision=revision, down=down, body=body)
    (versions / f"{revision}_x.py").write_text(text)


def test_upgrade_describe_check(project: Project) -> None:
    """The ordinary way: every revision is announced, and nothing differs afterwards."""
    said: list[str] = []
    with working(project) as (worker, session, settings):
        done = worker.upgrade(session, said.append)
        assert (done.before, done.count, done.heads) == ([], 1, ["0b228e9fec0b"])
        assert verification.verify(settings, [worker], session) == Verdict(
            ("0b228e9fec0b",), 4, compared=True, findings=()
        )
    assert [text[:16] for text in said] == ["1/1 0b228e9fec0b"]


@pytest.mark.usefixtures("interpreters_of_its_own")
def test_several_import_alembic_once(project: Project) -> None:
    """Each answers for itself and ends by itself; of one that dies only its own work is lost."""
    settings = load(project.folder, {"DATABASE_URL": project.url, "PATH": "/usr/bin:/bin"})
    before = set(psutil.Process().children(recursive=True))
    first, second, third = workers = Worker.several(settings, [settings.lineages[0]] * 3)
    with first:
        for each in workers:
            each.begin_alone()
            assert each.scripts.heads == ("0b228e9fec0b",)
        started = set(psutil.Process().children(recursive=True)) - before
        (importing,) = (each for each in started if os.getsid(each.pid) == each.pid)
        assert sorted(started - {importing}, key=hash) == sorted(importing.children(), key=hash)
        with third:
            pass
        while len(importing.children()) > 1:  # until it is buried
            pass
        (left,) = importing.children()
        with second:
            left.kill()
            with pytest.raises(StepFailedError, match=r"Alembic's process ended: it said nothing"):
                second.place([])
        while importing.children():
            pass
        assert first.place([]).pending == ["0b228e9fec0b"]
    assert not importing.is_running()


def test_env_py_sees_where_the_command_goes(project: Project) -> None:
    """In `cmd_opts.revision`, as the command line of Alembic puts it there."""
    extra = 'open("seen", "a").write(context.config.cmd_opts.revision + " ")'
    versions = rewrite(project, extra=extra)
    add(versions, "aaa")
    add(versions, "bbb", "aaa")
    with working(project) as (worker, session, _):
        worker.upgrade(session, to=["aaa"])
        worker.upgrade(session)
        worker.downgrade(session)
    assert (project.folder / "seen").read_text().split() == ["aaa", "head", "base"]


def test_a_hard_coded_url_executes_nothing(
    project: Project, superuser: psycopg.Connection[Any]
) -> None:
    """Proof of target fails: both databases are named, and the other one is untouched."""
    other = f"{Target.parse(project.url).database}_other"
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(other)))
    wrong = Target.parse(project.url).named(other).url.replace("postgresql:", "postgresql+psycopg:")
    versions = rewrite(project, url=repr(wrong))
    add(versions, "aaa", body='op.execute("CREATE TABLE harm ()")')
    with working(project) as (worker, session, _), pytest.raises(StepFailedError) as caught:
        worker.upgrade(session)
    (line,) = caught.value.lines()
    assert f"env.py connected to {other} on a Unix socket, not to postgresql://" in line
    assert "nothing was executed" in line
    assert 'read environ["DATABASE_URL"], which is set' in line
    for database in (other, None):
        assert project.query(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database
        ) == [(0,)]


def test_an_env_that_swallows_errors_cannot_swallow_the_proof(
    project: Project, superuser: psycopg.Connection[Any]
) -> None:
    """A wide except in env.py does not let the migrations go on elsewhere."""
    other = f"{Target.parse(project.url).database}_other"
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(other)))
    wrong = Target.parse(project.url).named(other).url.replace("postgresql:", "postgresql+psycopg:")
    versions = rewrite(project)
    env = project.folder / "alembic/env.py"
    tried = f"try:\n    create_engine({wrong!r}).connect()\nexcept Exception:\n    pass\n"
    env.write_text(env.read_text().replace("with create_engine", f"{tried}with create_engine", 1))
    add(versions, "aaa", body='op.execute("CREATE TABLE harm ()")')
    with (
        working(project) as (worker, session, _),
        pytest.raises(StepFailedError, match=f"connected to {other} on"),
    ):
        worker.upgrade(session)
    assert project.query("SELECT count(*) FROM pg_tables WHERE tablename = 'harm'") == [(0,)]


LOOKS = """
with create_engine({url}, isolation_level="AUTOCOMMIT").connect() as look:
    look.execute(text("CREATE TABLE IF NOT EXISTS looked (i int)"))
    assert look.execute(text("SELECT count(*) FROM pg_database WHERE datname = {name!r}")).scalar()
"""


def test_the_maintenance_database_is_read_only(project: Project) -> None:
    """Projects look there whether their database exists; no more than that comes of it."""
    target = Target.parse(project.url)
    plain = f"{project.url.replace('postgresql:', 'postgresql+psycopg:')!r}"
    elsewhere = plain.replace(f"/{target.database}", "/postgres")
    looks = LOOKS.format(url=elsewhere, name=target.database)
    versions = rewrite(project, url=plain, extra=f"from sqlalchemy import text\n{looks}")
    add(versions, "aaa", body='op.execute("CREATE TABLE made ()")')
    found = discovery.settled(load(project.folder, {"PATH": "/usr/bin:/bin"})).target
    assert found is not None
    assert found.database == target.database
    with working(project) as (worker, session, _):
        assert worker.upgrade(session).count == 1
    assert project.query("SELECT to_regclass('made')::text") == [("made",)]
    rewrite(project, url=elsewhere)
    add(versions, "aaa", body='op.execute("CREATE TABLE harm ()")')
    with (
        working(project) as (worker, session, _),
        pytest.raises(StepFailedError, match="connected to postgres on"),
    ):
        worker.upgrade(session)
    made = "SELECT to_regclass('looked'), to_regclass('harm'), to_regclass('alembic_version')"
    assert project.query(made, "postgres") == [(None, None, None)]


DRIVERS = {
    "psycopg": "import psycopg\nwith psycopg.connect({url}) as by_itself:\n"
    "    by_itself.execute({statement})\n",
    "psycopg2": "import psycopg2\nby_itself = psycopg2.connect({url})\n"
    "by_itself.cursor().execute({statement})\nby_itself.commit()\n",
    "asyncpg": "import asyncio, asyncpg\nasync def go():\n"
    "    by_itself = await asyncpg.connect({url})\n"
    "    await by_itself.execute({statement})\nasyncio.run(go())\n",
    "a service": "import psycopg\nwith psycopg.connect(service='shop') as by_itself:\n"
    "    by_itself.execute({statement})\n",
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_without_sqlalchemy_is_sent_to_the_same_database(
    project: Project, superuser: psycopg.Connection[Any], driver: str
) -> None:
    """What env.py writes past SQLAlchemy never comes to the target while another is built."""
    target = Target.parse(project.url)
    beside = target.named(f"{target.database}__next")
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(beside.database)))
    service = project.folder / "service.conf"
    lines = [f"{key}={value}" for key, value in target.params.items()]
    service.write_text("\n".join(["[shop]", *lines]))
    extra = DRIVERS[driver].format(url=repr(project.url), statement='"CREATE TABLE harm ()"')
    add(rewrite(project, extra=extra), "aaa")
    given = {"PATH": "/usr/bin:/bin", "PGSERVICEFILE": str(service)}
    settings = load(project.folder, {**given, "DATABASE_URL": project.url})
    with (
        Worker(settings) as worker,
        psycopg.connect(**beside.params, autocommit=True) as session,  # type: ignore[arg-type]
    ):
        worker.begin(beside, instead_of=target.database)
        if driver == "a service":
            with pytest.raises(StepFailedError, match="as a service file says, not to"):
                worker.upgrade(session)
        else:
            worker.upgrade(session)
            assert project.query("SELECT to_regclass('harm')::text", beside.database) == [("harm",)]
    assert project.query("SELECT to_regclass('harm')") == [(None,)]


@pytest.mark.parametrize(
    ("scripts", "word", "remedy"),
    [
        ([("aaa", None, "pass"), ("bbb", None, "pass")], "several heads", "merge heads"),
        ([("bbb", "aaa", "pass")], "the chain of migrations is broken", "says which file"),
        (
            [("aaa", None, "op.drop_index('ix_runs_created_at')")],
            'revision aaa (aaa_x.py:5): PostgreSQL: index "ix_runs_created_at" does not exist',
            "mend the migration",
        ),
        (
            [("aaa", None, "input('sure?')")],
            "revision aaa (aaa_x.py:5): it asked for input, and stdin is closed (EOFError",
            "environment variable",
        ),
        (
            [("aaa", None, "raise SystemExit(3)")],
            "revision aaa (aaa_x.py:5): SystemExit: 3",
            "mend",
        ),
        ([("aaa", None, "import os; os._exit(9)")], "Alembic's process ended with 9", "mend"),
        (
            [("aaa", None, "import no_such_thing")],
            "revision aaa (aaa_x.py:5): ModuleNotFoundError: No module named 'no_such_thing'",
            "mend",
        ),
    ],
    ids=["heads", "missing file", "sql error", "asks", "exits", "dies", "import"],
)
def test_each_failure_is_one_line(
    project: Project, scripts: list[tuple[str, str | None, str]], word: str, remedy: str
) -> None:
    """What, where, and what to do; the database has nothing of it."""
    versions = rewrite(project)
    for script in scripts:
        add(versions, *script)
    with working(project) as (worker, session, _), pytest.raises(StepFailedError) as caught:
        worker.upgrade(session)
    (line,) = caught.value.lines()
    assert word in line
    assert remedy in line
    assert "\n" not in line
    assert project.query(
        "SELECT count(*) FROM pg_tables WHERE tablename <> 'alembic_version' "
        "AND schemaname = 'public'"
    ) == [(0,)]


def test_an_env_that_prints_and_logs_disturbs_nobody(project: Project) -> None:
    """Stdout belongs to the project; our talk has a pipe of its own."""
    extra = "import logging, sys; logging.basicConfig(stream=sys.stdout); print('{\"event\": 1}')"
    versions = rewrite(project, extra=extra)
    add(versions, "aaa", body="print('hello from aaa')")
    with working(project) as (worker, session, _):
        assert worker.upgrade(session).count == 1
        deadline = time.monotonic() + 10
        while "hello from aaa" not in worker.output:
            worker.describe(session)
            assert time.monotonic() < deadline


def test_a_module_of_the_project_is_not_mistaken_for_ours(project: Project) -> None:
    """A project may have a settings.py, a server.py, an errors.py of its own."""
    for name in ("settings", "server", "errors", "process"):
        (project.folder / f"{name}.py").write_text("mine = True")
    versions = rewrite(
        project,
        extra="import settings, server, errors, process; process.mine",
    )
    add(versions, "aaa")
    with working(project) as (worker, session, _):
        assert worker.upgrade(session).count == 1


def test_pygments_is_not_imported(project: Project) -> None:
    """Alembic's templates would bring it along, a tenth of each start; the project still can."""
    pytest.importorskip("pygments")
    alone = "import sys; assert 'pygments' not in sys.modules; import pygments"
    add(rewrite(project, extra=alone), "aaa")
    with working(project) as (worker, session, _):
        assert worker.upgrade(session).count == 1


def test_models_that_were_not_imported_are_not_called_drift(project: Project) -> None:
    """An empty target_metadata would otherwise propose to drop every table."""
    with working(project) as (worker, session, _):
        worker.upgrade(session)
    env = project.folder / "alembic/env.py"
    text = env.read_text().replace("from app.models import Base", "from sqlalchemy import MetaData")
    env.write_text(text.replace("Base.metadata", "MetaData()"))
    with working(project) as (worker, session, settings):
        findings = verification.verify(settings, [worker], session).findings
    assert [finding.kind for finding in findings] == ["models not loaded"]


def test_a_broken_chain_still_tells_its_folders(project: Project) -> None:
    """A backup needs the scripts most when they are broken."""
    add(rewrite(project), "bbb", down="aaa")
    with working(project) as (worker, _, _):
        assert worker.scripts.heads == ()
        assert worker.scripts.folders == (project.folder / "alembic",)


def test_the_configuration_is_where_alembic_looks(project: Project, tmp_path: Path) -> None:
    """ALEMBIC_CONFIG leads `alembic` and us to the same scripts."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "env.py").write_text((project.folder / "alembic/env.py").read_text())
    (other / "versions").mkdir()
    add(other / "versions", "ccc")
    (tmp_path / "other.ini").write_text(f"[alembic]\nscript_location = {other}\n")
    environ = {"DATABASE_URL": project.url, "ALEMBIC_CONFIG": str(tmp_path / "other.ini")}
    settings = load(project.folder, environ)
    assert settings.target is not None
    with Worker(settings) as worker:
        worker.begin(settings.target)
        assert worker.scripts.heads == ("ccc",)


def test_a_project_without_models_has_nothing_to_compare(project: Project) -> None:
    """Migrations of plain SQL are no finding; that nothing was compared is said."""
    add(rewrite(project), "aaa")
    project.configure("[tool.backset.expect]", "[tool.other]")
    with working(project) as (worker, session, settings):
        worker.upgrade(session)
        assert verification.verify(settings, [worker], session) == Verdict(
            ("aaa",), 1, compared=False, findings=()
        )


def test_looking_changes_nothing(project: Project) -> None:
    """`describe` does not even make a version table."""
    with working(project) as (worker, session, _):
        assert worker.describe(session).revisions == []
    assert project.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_every_kind_of_drift_is_put_into_words(project: Project) -> None:
    """Columns, indexes, types, defaults, constraints and tables, each named."""
    with working(project) as (worker, session, settings):
        worker.upgrade(session)
        session.execute("ALTER TABLE tasks DROP COLUMN archived CASCADE")
        session.execute(
            "ALTER TABLE users ALTER company TYPE varchar(9), ALTER company SET NOT NULL"
        )
        session.execute("DROP INDEX ix_tasks_github_url")
        session.execute("CREATE TABLE runs (id int)")
        findings = verification.verify(settings, [worker], session).findings
    text = "\n".join(f"{finding.kind}: {finding.what}" for finding in findings)
    assert "drift: column tasks.archived is only in the models" in text
    assert "leftover table: table runs is only in the database" in text
    assert "drift: index ix_tasks_github_url of tasks is only in the models" in text
    assert "users.company: nullable" in text
    assert "users.company: type VARCHAR(9) in the database" in text
    assert "missing column: tasks.archived does not exist" in text


def test_the_worker_does_not_outlive_its_parent(project: Project) -> None:
    """A killed run leaves no migration running."""
    versions = rewrite(project)
    add(versions, "aaa", body="import time; time.sleep(60)")
    process = project.start("upgrade")
    try:
        worker = _wait_for_worker(process.pid)
        process.kill()
        worker.wait(10)
    finally:
        process.kill()
        process.communicate()


def _wait_for_worker(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                if any("alembic_worker" in word for word in child.cmdline()):
                    return child
        time.sleep(0.05)
    raise AssertionError("the worker never started")


def test_an_interpreter_without_alembic_is_named(project: Project, tmp_path: Path) -> None:
    """It says which interpreter, what it lacks, and which setting names another."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')
    bare.chmod(0o755)
    environ = {"DATABASE_URL": project.url, "BACKSET_PYTHON": str(bare)}
    settings = load(project.folder, environ)
    assert settings.target is not None
    with Worker(settings) as worker:
        worker.begin(settings.target)
        with pytest.raises(StepFailedError) as caught:
            _ = worker.scripts
    (line,) = caught.value.lines()
    assert f"{bare} (the environment): ModuleNotFoundError: No module named" in line
    assert "[tool.backset] python" in line


@pytest.mark.parametrize(
    ("files", "kind", "text", "paths", "missing"),
    [
        (
            {"bbb_x.py": ("bbb", "aaa")},
            "missing file",
            "bbb_x.py follows aaa, which no file has",
            ["bbb_x.py"],
            "aaa",
        ),
        (
            {"aaa_x.py": ("aaa", None), "copy.py": ("aaa", None)},
            "duplicate id",
            "aaa is the id of aaa_x.py and of copy.py",
            ["aaa_x.py", "copy.py"],
            "",
        ),
        ({}, "no migrations", "the versions folder has no migration file", [""], ""),
        (
            {"aaa_x.py": ("aaa", "bbb"), "bbb_x.py": ("bbb", "aaa")},
            "no chain",
            "CycleDetected: Cycle is detected in revisions (aaa, bbb)",
            [],
            "",
        ),
    ],
    ids=["missing", "duplicate", "empty", "cycle"],
)
def test_what_is_wrong_with_the_chain_is_told_by_file(
    project: Project,
    files: dict[str, tuple[str, str | None]],
    kind: str,
    text: str,
    paths: list[str],
    missing: str,
) -> None:
    """The worker names each file that stands in the way, before any database is looked at."""
    versions = rewrite(project)
    for name, (revision, down) in files.items():
        (versions / name).write_text(REVISION.format(revision=revision, down=down, body="pass"))
    with working(project) as (worker, _, _):
        (problem,) = worker.scripts.problems
        assert [each.id for each in worker.scripts.revisions] == [f[0] for f in files.values()]
    assert (problem.kind, problem.text, problem.missing) == (kind, text, missing)
    assert list(problem.paths) == [versions / path for path in paths]


def test_a_script_that_cannot_be_read_is_named_with_its_line(project: Project) -> None:
    """A syntax error is a broken chain: the file, the line, and no traceback."""
    (rewrite(project) / "aaa_x.py").write_text("revision = 'aaa'\nx = 1 +\n")
    with working(project) as (worker, session, _):
        (problem,) = worker.scripts.problems
        assert problem.kind == "unreadable file"
        assert "SyntaxError: invalid syntax (aaa_x.py, line 2)" in problem.text
        with pytest.raises(AlembicError, match="a migration file cannot be loaded: Syn") as caught:
            worker.upgrade(session)
        assert caught.value.kind == "unreadable file"
        assert caught.value.remedy == "mend that file, or set what it asks for"


def test_byte_code_without_its_source_is_named(project: Project) -> None:
    """With `sourceless` Alembic goes on loading a revision whose file was deleted."""
    versions = rewrite(project)
    add(versions, "aaa")
    add(versions, "bbb", down="aaa")
    project.configure("[tool.alembic]\n", "[tool.alembic]\nsourceless = true\n")
    py_compile.compile(str(versions / "bbb_x.py"))
    (versions / "bbb_x.py").unlink()
    with working(project) as (worker, _, _):
        (problem,) = worker.scripts.problems
    assert problem.kind == "stale byte code"
    assert problem.text.startswith("bbb is loaded from bbb_x.cpython-")
    assert problem.paths[0].parent == versions / "__pycache__"


TOKEN = """
from sqlalchemy import event
from sqlalchemy.engine import Engine
@event.listens_for(Engine, "do_connect")
def give_token(dialect, record, cargs, cparams):
    assert "password" not in cparams
    cparams["password"] = {password!r}
"""


def test_a_listener_of_env_py_still_gives_the_password(
    project: Project, superuser: psycopg.Connection[Any], tcp_url: str
) -> None:
    """As the cloud's tokens are given: what is opened instead of the target gets one, too."""
    target = Target.parse(tcp_url)
    beside = target.named(f"{target.database}__next")
    superuser.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(beside.database)))
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    superuser.execute(owner.format(*map(sql.Identifier, (beside.database, ROLE))))
    bare = target.shown.replace("postgresql:", "postgresql+psycopg:")
    add(rewrite(project, url=repr(bare), extra=TOKEN.format(password=PASSWORD)), "aaa")
    settings = load(project.folder, {"PATH": "/usr/bin:/bin", "DATABASE_URL": tcp_url})
    with (
        Worker(settings) as worker,
        psycopg.connect(**beside.params, autocommit=True) as session,  # type: ignore[arg-type]
    ):
        worker.begin(beside, instead_of=target.database)
        assert worker.upgrade(session).count == 1


def test_another_server_is_told_by_what_it_lacks(
    project: Project, superuser: psycopg.Connection[Any]
) -> None:
    """It has a database of the target's name, and none that stands in for it."""
    target = Target.parse(project.url)
    add(rewrite(project, url=repr(project.url.replace("sql:", "sql+psycopg:"))), "aaa")
    settings = load(project.folder, {"PATH": "/usr/bin:/bin", "DATABASE_URL": project.url})
    with Worker(settings) as worker:
        worker.begin(target.named(f"{target.database}__next"), instead_of=target.database)
        with pytest.raises(StepFailedError, match=f"env.py connected to {target.database} on /"):
            worker.upgrade(superuser)


def test_a_password_with_a_single_percent_sign_is_not_shown(project: Project) -> None:
    """Python's error has the rest of the URL in it, and that is no URL any more."""
    ini = project.folder / "alembic.ini"
    wrong = "sqlalchemy.url = postgresql+psycopg://shop:s%ecret@localhost/shop"
    ini.write_text(f"[alembic]\nscript_location = alembic\n{wrong}\n")
    rewrite(project, url='context.config.get_main_option("sqlalchemy.url")')
    with pytest.raises(SettingsError) as caught:
        discovery.settled(load(project.folder, {"PATH": "/usr/bin:/bin"}))
    (line,) = caught.value.lines()
    assert "InterpolationSyntaxError: option 'sqlalchemy.url': write each % twice" in line
    assert "ecret" not in line


def test_variables_that_env_py_sets_itself_are_read(project: Project) -> None:
    """As load_dotenv() sets those of a .env, which name the database for libpq."""
    target = Target.parse(project.url)
    variables = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    given = {variables[key]: value for key, value in target.params.items() if key in variables}
    rewrite(project, url="'postgresql+psycopg://'", extra=f"os.environ.update({given!r})")
    found = discovery.settled(load(project.folder, {"PATH": "/usr/bin:/bin"})).target
    assert found is not None
    assert found.params == target.params


OPENS = {
    "engine": 'create_engine({url}, isolation_level="AUTOCOMMIT").connect()',
    "execution": 'create_engine({url}).connect().execution_options(isolation_level="AUTOCOMMIT")',
    "driver": 'create_engine({url}, connect_args={{"autocommit": True}}).connect()',
    "creator": 'create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect({plain}, '
    "autocommit=True)).connect()",
}
WRITES_AHEAD = """
import os
import psycopg
from alembic import context
from sqlalchemy import create_engine, text

connection = {opens}
connection.execute(text("CREATE SCHEMA IF NOT EXISTS written_ahead"))
connection.commit()
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""


WRITES_AHEAD_ASYNC = f"""
import asyncio
from sqlalchemy.ext.asyncio import create_async_engine
{WRITES_AHEAD.partition("connection = ")[0]}
def migrate(connection):
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS written_ahead"))
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    url = {HONEST}.replace("psycopg", "asyncpg")
    async with create_async_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.run_sync(migrate)

asyncio.run(main())
"""


@pytest.mark.parametrize("way", [*OPENS, "asyncpg"])
def test_looking_commits_nothing_of_env_py(project: Project, way: str) -> None:
    """Not even through a connection in autocommit mode, or one that env.py makes by itself."""
    opens = OPENS.get(way, "").format(url=HONEST, plain='os.environ["DATABASE_URL"]')
    text = WRITES_AHEAD.format(opens=opens) if opens else WRITES_AHEAD_ASYNC
    (project.folder / "alembic/env.py").write_text(text)
    made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'written_ahead'"
    with working(project) as (worker, session, _):
        assert worker.describe(session).revisions == []
        assert project.query(made) == [(0,)]
        worker.upgrade(session)
        assert project.query(made) == [(1,)]


def test_a_connection_of_env_pys_own_making_tells_its_database(project: Project) -> None:
    """Where there is no DATABASE_URL, that of creator= is read from what it opens."""
    opens = OPENS["creator"].format(plain=repr(project.url))
    (project.folder / "alembic/env.py").write_text(WRITES_AHEAD.format(opens=opens))
    target = discovery.settled(load(project.folder, {"PATH": "/usr/bin:/bin"})).target
    assert target is not None
    assert target.database == Target.parse(project.url).database
    assert project.query("SELECT 1 FROM pg_namespace WHERE nspname = 'written_ahead'") == []


def test_an_env_that_ends_the_program_has_told_its_database_all_the_same(project: Project) -> None:
    """A bare `except:` that exits comes after the connection that was looked for."""
    body = f"""
import sys
from sqlalchemy import create_engine
try:
    create_engine({project.url.replace("postgresql:", "postgresql+psycopg:")!r}).connect()
except:
    sys.exit("no database")
"""
    (project.folder / "alembic/env.py").write_text(body)
    target = discovery.settled(load(project.folder, {"PATH": "/usr/bin:/bin"})).target
    assert target is not None
    assert target.database == Target.parse(project.url).database


CHOOSES_A_SCHEMA = """
import os
from alembic import context
from sqlalchemy import create_engine, text
with create_engine({url}).connect() as connection:
    {before}
    connection.execute(text("SET search_path TO tenant_a"))
    connection.commit()
    connection.dialect.default_schema_name = "tenant_a"
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
"""
MAKE = "op.execute('CREATE TABLE held (id int)')"


@pytest.mark.parametrize(
    "before", ["pass", "connection.execute(text('CREATE SCHEMA IF NOT EXISTS tenant_a'))"]
)
def test_what_env_py_sets_and_commits_stays_set_while_it_is_only_looked_at(
    project: Project, before: str
) -> None:
    """Alembic's own recipe for a schema commits a SET: the versions are read where they are."""
    versions = rewrite(project)
    text = CHOOSES_A_SCHEMA.format(url=HONEST, before=before)
    (project.folder / "alembic/env.py").write_text(text)
    add(versions, "a1", body=MAKE)
    project.query("CREATE SCHEMA tenant_a")
    with working(project) as (worker, session, _):
        worker.upgrade(session)
        assert worker.describe(session).revisions == ["a1"]
        assert worker.current(session) == ("a1",)
    assert project.query("SELECT count(*) FROM tenant_a.held") == [(0,)]


def test_what_env_py_sets_beside_a_write_stays_while_it_is_only_looked_at(
    project: Project,
) -> None:
    """What is written is taken back, and what is set in the same transaction is not."""
    rewrite(project)
    before = "connection.execute(text('CREATE TABLE tried (id int); SET work_mem TO 4321'))"
    text = CHOOSES_A_SCHEMA.format(url=HONEST, before=before)
    holds = "    assert connection.execute(text('SHOW work_mem')).scalar() == '4321kB'\n"
    begin = "    with context.begin"
    (project.folder / "alembic/env.py").write_text(text.replace(begin, holds + begin))
    project.query("CREATE SCHEMA tenant_a")
    with working(project) as (worker, session, _):
        worker.current(session)
    seen = "SELECT to_regclass('tried'), to_regclass('tenant_a.tried')"
    assert project.query(seen) == [(None, None)]


NEVER_COMMITS = """
import os
from alembic import context
from sqlalchemy import create_engine, text
with create_engine({url}).connect() as connection:
    connection.execute(text("SELECT 1"))
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (MAKE, "1 revision ran up to a1, and env.py's transaction was rolled back"),
        (
            "op.get_context().autocommit_block().__enter__()",
            "autocommit_block() needs the transaction that Alembic begins",
        ),
    ],
)
def test_an_upgrade_that_env_py_rolls_back_is_no_success(
    project: Project, body: str, said: str
) -> None:
    """A SELECT before context.configure() begins a transaction that nobody commits."""
    versions = rewrite(project)
    (project.folder / "alembic/env.py").write_text(NEVER_COMMITS.format(url=HONEST))
    add(versions, "a1", body=body)
    done = project.invoke("upgrade")
    assert done.returncode == 4, done.stderr
    assert said in done.stderr
    assert "connection.commit()" in done.stderr
    assert project.query("SELECT to_regclass('held')") == [(None,)]


# Its first run comes before the comparison, and knows Alembic's own function.
SERIALS = """
import sqlalchemy as sa
from alembic.util import sqla_compat
from sqlalchemy import event
from sqlalchemy.engine import Engine
METADATA = sa.MetaData()
for number in range({tables}):
    sa.Table(f"t{{number}}", METADATA, sa.Column("id", sa.Integer, primary_key=True))
NULLABLE = ("borrowed", "alone")
for name in {names}:
    own = sa.Column("n" if name == "borrowed" else "id", sa.Integer, nullable=name in NULLABLE)
    sa.Table(name, METADATA, own, schema="Else where")
if not hasattr(sqla_compat, "own"):
    sqla_compat.own = sqla_compat._exec_on_inspector
    event.listen(Engine, "after_cursor_execute", lambda *given: print(file=open("asked", "a")))
if {one_by_one}:
    sqla_compat._exec_on_inspector = sqla_compat.own
open("asked", "w").close()
"""
SERIAL_TABLES = """
op.execute('''
DO $$ BEGIN FOR n IN 0..{last} LOOP
    EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY)', n);
END LOOP; END $$;
CREATE SCHEMA "Else where";
CREATE TABLE "Else where"."odd Name" (id serial);
{more}
CREATE TABLE "Else where".borrowed (n int DEFAULT nextval('"Else where"."odd Name_id_seq"'));
CREATE SEQUENCE "Else where".free;
CREATE TABLE "Else where".alone (id int DEFAULT nextval('"Else where".free'))''')
"""


def _compared(project: Project, tables: int, *, one_by_one: bool) -> tuple[list[str], int]:
    """Return the differences from models with serial columns, and how many queries it took."""
    options = "METADATA, include_schemas=True, compare_server_default=True"
    names = ["odd Name", "borrowed", "alone", *([] if one_by_one else ["o'clock"])]
    extra = SERIALS.format(tables=tables, one_by_one=one_by_one, names=names)
    versions = rewrite(project, extra=extra, metadata=options)
    more = "" if one_by_one else """CREATE TABLE "Else where"."o'clock" (id serial);"""
    body = SERIAL_TABLES.format(last=tables - 1, more=more).strip().replace("\n", "\n    ")
    add(versions, "s1", body=body)
    with working(project) as (worker, session, _):
        worker.upgrade(session, lambda _: None)
        found = [each["text"] for each in worker.differences(session)["differences"]]
        session.execute('DROP SCHEMA public, "Else where" CASCADE; CREATE SCHEMA public')
    return found, len((project.folder / "asked").read_text())


def test_serial_columns_are_asked_for_together(project: Project) -> None:
    """A comparison takes as many queries for forty tables as for two, and finds what Alembic does.

    A default of another column's sequence is still one, whatever the names look like; where one
    has a quote, Alembic's own query fails.
    """
    alone, queries = _compared(project, 2, one_by_one=False)
    many, queries_of_many = _compared(project, 40, one_by_one=False)
    theirs, one_by_one = _compared(project, 40, one_by_one=True)
    assert alone == many == theirs
    assert len(many) == 2
    assert queries == queries_of_many < one_by_one - 40


SCHEMAS = """
import sqlalchemy as sa
METADATA = sa.MetaData()
for number in range({schemas}):
    key = sa.Column("id", sa.Integer, primary_key=True)
    sa.Table("t", METADATA, key, sa.Column("n", sa.Integer, unique=True), schema=f"s{{number}}")
"""
SCHEMA_TABLES = """
op.execute('''
DO $$ BEGIN FOR n IN 0..{last} LOOP
    EXECUTE format('CREATE SCHEMA s%s CREATE TABLE t (id serial PRIMARY KEY, n int UNIQUE)', n);
END LOOP; END $$''')
"""
WHOLE_READS = "SELECT sum(seq_scan) FROM pg_stat_sys_tables"
OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def _whole_reads(project: Project) -> int:
    """Return how often tables of the catalog were read whole, once no session counts any more."""
    while project.query(OTHERS) != [(0,)]:
        time.sleep(0.02)
    (times,) = project.query(WHOLE_READS)[0]
    return int(times)


def _whole_reads_of_a_comparison(project: Project, schemas: int) -> int:
    options = "METADATA, include_schemas=True"
    versions = rewrite(project, extra=SCHEMAS.format(schemas=schemas), metadata=options)
    body = SCHEMA_TABLES.format(last=schemas - 1).strip().replace("\n", "\n    ")
    add(versions, "s1", body=body)
    with working(project) as (worker, session, _):
        worker.upgrade(session, lambda _: None)
    times = []
    for _ in range(3):  # autovacuum may come in between, and reads them, too
        before = _whole_reads(project)
        with working(project) as (worker, session, _):
            assert worker.differences(session)["differences"] == []
        times.append(_whole_reads(project) - before)
    names = ", ".join(f"s{number}" for number in range(schemas))
    project.query(f"DROP SCHEMA public, {names} CASCADE; CREATE SCHEMA public")
    return min(times)


def test_each_schema_is_compared_by_index(project: Project) -> None:
    """A comparison reads tables of the catalog whole no oftener for sixty schemas than for three.

    With such a reading for each, 500 schemas took more than twice as long.
    """
    few, many = (_whole_reads_of_a_comparison(project, each) for each in (3, 60))
    assert many <= few
