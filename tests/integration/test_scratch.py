"""A chain is built in a scratch database, which never outlives its use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.catalog import catalog, schema
from backset.commands import repair
from backset.connections.target import Target
from backset.errors import Interrupted, LockedError, RefusedError, StepFailedError
from backset.prove import placement, scratch
from backset.runs.run import Options, Run
from backset.servers.server import Server
from backset.settings.reader import load
from tests.conftest import ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.catalog.schema import Difference
    from backset.servers.cluster import Cluster
    from tests.project import Project

KILLED = """
import os, signal, sys
from pathlib import Path
from backset.prove import placement, scratch
from backset.runs.run import Run
from backset.catalog import catalog, schema
from backset.settings.reader import load
settings = load(Path.cwd(), dict(os.environ))
with Run(settings, settings.target, "test", beside=False) as run:
    run.open()
    names = run.server.names.scratches
    scratch.prepare(run, names, "test")
    with scratch.created(run, names[0]) as one, scratch.created(run, names[1]) as other:
        one.upgrade()
        print("built", flush=True)
        signal.pause()
"""


@contextmanager
def built(project: Project, url: str | None = None) -> Iterator[Run]:
    """Open a build that looks at the project's database."""
    settings = load(project.folder, {"DATABASE_URL": url or project.url, "PATH": "/usr/bin:/bin"})
    assert settings.target is not None
    with Run(settings, settings.target, "test", beside=False) as run:
        run.open()
        yield run


def differences(run: Run) -> list[Difference]:
    """Return how the target differs from what the chain makes in a scratch database."""
    name = run.server.names.scratch
    scratch.prepare(run, [name], "test")
    with scratch.created(run, name) as made:
        made.upgrade()
        made.inheritance.complete(made.session)
        spare = catalog.version_tables(run.current.session())
        return placement.compare(made.schema(), schema.read(run.current.session(), spare=spare))


def databases(project: Project) -> set[str]:
    """Return the endings of the databases beside the project's."""
    name = Target.parse(project.url).database
    found = project.query("SELECT datname FROM pg_database", "postgres")
    return {each.removeprefix(name) for (each,) in found if each.startswith(name)}


def test_a_chain_is_built_and_gone(project: Project) -> None:
    """The scratch database is at head inside the block, and dropped after it."""
    with built(project) as run:
        scratch.prepare(run, [run.server.names.scratch], "test")
        with scratch.created(run, run.server.names.scratch) as made:
            assert databases(project) == {"", "__scratch"}
            assert made.upgrade() == 1
            assert "table public.tasks" in made.schema()
            assert made.downgrade() == 1
            assert "table public.tasks" not in made.schema()
    assert databases(project) == {""}
    assert project.query("SELECT FROM pg_tables WHERE schemaname = 'public'") == []


def test_the_live_schema_is_proved(project: Project) -> None:
    """At head nothing differs; what was changed by hand since is named, rows are no difference."""
    assert project.invoke("reset-db").returncode == 0
    with built(project) as run:
        assert differences(run) == []
    project.query("ALTER TABLE tasks DROP archived; CREATE TYPE mood AS ENUM ('sad')")
    project.query("COMMENT ON TABLE users IS 'ours'; GRANT SELECT ON users TO PUBLIC")
    with built(project) as run:
        found = differences(run)
    assert [str(each) for each in found if not each.minor] == [
        "column tasks.archived is only in the migrations",
        "index ix_tasks_archived is only in the migrations",
        "table users: comment is none in the migrations, ours in the database",
        "type mood is only in the database",
    ]
    assert [str(each) for each in found if each.minor] == [
        "table users: rights is none in the migrations, PUBLIC may select in the database"
    ]
    assert not placement.is_proved(found)
    assert "__scratch" not in databases(project)


@pytest.mark.parametrize("purge", [False, True])
def test_stamp_writes_the_version_and_runs_nothing(project: Project, *, purge: bool) -> None:
    """With purge, an orphaned revision goes; without, it stops the stamp."""
    project.query("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    project.query("INSERT INTO alembic_version VALUES ('cf94a9256bdb')")
    with built(project) as run:
        asked = run.work.session(), ["0b228e9fec0b"]
        if purge:
            run.work.worker().stamp(*asked, purge=purge)
        else:
            with pytest.raises(StepFailedError, match="cf94a9256bdb"):
                run.work.worker().stamp(*asked, purge=purge)
    rows = project.query("SELECT version_num FROM alembic_version")
    assert rows == [("0b228e9fec0b" if purge else "cf94a9256bdb",)]
    assert project.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [
        ("alembic_version",)
    ]


def test_an_orphaned_database_is_stamped_when_it_is_proved(project: Project) -> None:
    """What the run has open already is not ended as if it were a dead run's."""
    assert project.invoke("upgrade").returncode == 0
    project.query("UPDATE alembic_version SET version_num = 'cf94a9256bdb'")
    with built(project) as run:
        assert run.current.session().execute(
            "SELECT version_num FROM alembic_version"
        ).fetchall() == [("cf94a9256bdb",)]
        assert placement.is_proved(differences(run))
        run.work.worker().stamp(run.work.session(), ["0b228e9fec0b"])
    assert project.invoke("status").returncode == 0


NAMESAKES = """
CREATE SCHEMA app; CREATE SCHEMA "Odd one";
CREATE TABLE app.t (id int); CREATE TABLE public.t (id int); CREATE TABLE "Odd one".t (id int);
INSERT INTO public.t VALUES (1), (1); INSERT INTO "Odd one".t VALUES (1), (1);
CREATE INDEX ix ON app.t (id);
"""


def test_only_the_index_that_is_invalid_is_dropped(project: Project) -> None:
    """Whatever the search path is, and whatever its name needs; what was done is looked at."""
    project.query(NAMESAKES)
    project.query(f"ALTER DATABASE {project.database} SET search_path = app, public")
    with psycopg.connect(project.url, autocommit=True) as session:
        for name, table in (("ix", "public.t"), ('"select"', '"Odd one".t')):
            statement = f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} (id)"
            with pytest.raises(psycopg.errors.UniqueViolation):
                session.execute(statement.encode())
    with built(project) as run:
        found = tuple(catalog.invalid_indexes(run.work.session()))
        assert found == ('"Odd one"."select"', "public.ix")
        theirs = {("Odd one", "t")}
        assert [*catalog.invalid_indexes(run.work.session(), theirs.__contains__)] == ["public.ix"]
        run.options = Options(drops=found)
        repair.drop_indexes.run(run, lambda _text: None)
        assert catalog.invalid_indexes(run.work.session()) == {}
        with pytest.raises(StepFailedError, match="no invalid index any more"):
            repair.drop_indexes.run(run, lambda _text: None)
    assert project.query("SELECT schemaname FROM pg_indexes WHERE indexname = 'ix'") == [("app",)]


def test_a_failing_chain_leaves_nothing(project: Project) -> None:
    """The error names the revision; the scratch database is dropped."""
    (script,) = (project.folder / "alembic/versions").glob("*.py")
    script.write_text(script.read_text().replace("    create_tasks()\n", "    raise OSError(5)\n"))
    with (
        built(project) as run,
        pytest.raises(StepFailedError, match=r"revision 0b228e9fec0b .*: OSError: 5"),
    ):
        differences(run)
    assert databases(project) == {""}


@pytest.mark.parametrize("error", [Interrupted(signal.SIGTERM), ValueError("a bug")])
def test_an_error_inside_leaves_nothing(project: Project, error: BaseException) -> None:
    """Whatever ends the block, the database is dropped."""

    def leave(run: Run) -> None:
        with scratch.created(run, run.server.names.scratch):
            raise error

    with built(project) as run:
        scratch.prepare(run, [run.server.names.scratch], "test")
        with pytest.raises(type(error)):
            leave(run)
    assert databases(project) == {""}


def test_a_killed_one_is_removed_by_the_next_run(project: Project) -> None:
    """After kill -9 both databases stay, and the next task that takes the lock drops them."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=project.folder,
        env={**os.environ, **project.env},
        stdout=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "built\n"
        assert databases(project) == {"", "__scratch", "__scratch_old"}
        done = project.invoke("backup")
        assert done.returncode == 75, done.stderr
        killed.kill()
    done = project.invoke("backup")
    assert done.returncode == 0, done.stderr
    assert databases(project) == {""}


def test_one_that_was_made_and_not_marked_is_removed(
    project: Project, superuser: psycopg.Connection[Any], name: str
) -> None:
    """A kill between CREATE DATABASE and its comment leaves a closed one without a mark."""
    superuser.execute(f"CREATE DATABASE {name}__scratch_old ALLOW_CONNECTIONS false".encode())
    assert project.invoke("backup").returncode == 0
    assert databases(project) == {""}


@pytest.mark.parametrize("suffix", ["__scratch", "__scratch_old"])
def test_somebody_elses_database_stays(
    project: Project, superuser: psycopg.Connection[Any], name: str, suffix: str
) -> None:
    """One of that name is refused, and never dropped, be it empty or not."""
    superuser.execute(f"CREATE DATABASE {name}{suffix}".encode())
    assert project.invoke("backup").returncode == 0
    project.query("CREATE TABLE theirs ()", f"{name}{suffix}")
    with (
        built(project) as run,
        pytest.raises(RefusedError, match=f"{name}{suffix} exists and backset did not make it"),
    ):
        scratch.prepare(run, run.server.names.scratches, "test")
    assert project.invoke("backup").returncode == 0
    assert project.query("SELECT * FROM theirs", f"{name}{suffix}") == []


def test_a_role_that_may_not_create_databases_is_refused(
    project: Project, cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> None:
    """With the SQL for an administrator, and in one line."""
    role = f'{name}"role'
    superuser.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    url = cluster.url(name).replace("//postgres@", f"//{name}%22role@")
    try:
        with built(project, url) as run, pytest.raises(RefusedError) as caught:
            differences(run)
        (line,) = caught.value.lines()
        assert "may not create databases, so it cannot" in line
        assert f'as an administrator: ALTER ROLE "{name}""role" CREATEDB' in line
    finally:
        superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_role_that_does_not_own_the_target_can_prove_it(
    project: Project, cluster: Cluster
) -> None:
    """The scratch database then belongs to the role; owners and rights are minor differences."""
    assert project.invoke("upgrade").returncode == 0
    project.query(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}")
    target = Target.parse(project.url)
    url = cluster.url(target.database).replace("//postgres@", f"//{ROLE}@")
    with built(project, url) as run:
        found = differences(run)
    assert {each.what for each in found} == {"owner", "rights"}
    assert placement.is_proved(found)


def test_two_runs_do_not_meet(project: Project) -> None:
    """While the lock is another's, no scratch database is made."""
    target = Target.parse(project.url)
    with Server(target, "other") as other, built(project) as run:
        other.lock()
        with pytest.raises(LockedError):
            differences(run)
    assert databases(project) == {""}
