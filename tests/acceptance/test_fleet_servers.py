"""A fleet on several servers with databases of the same names: none is taken for another."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.fleet import looking, members
from backset.fleet.hand import by_hand, end_all
from backset.fleet.jobs import Job
from backset.fleet.members import Site
from tests.clusters import running
from tests.fleets import add_revision, describe, revisions
from tests.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster


@pytest.fixture(scope="module")
def another() -> Iterator[Cluster]:
    """A second server."""
    with running(18) as made:
        yield made


@pytest.fixture
def twin(project: Project, another: Cluster) -> Project:
    """The same project at a database of the same name there; both are at head."""
    with psycopg.connect(another.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {project.database}".encode())
    made = Project(project.folder, {"DATABASE_URL": another.url(project.database)})
    for each in (project, made):
        done = each.run("alembic", "--", "upgrade", "head")
        assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def hands() -> Iterator[None]:
    """End the processes that the test lets work."""
    yield
    end_all()


@pytest.mark.usefixtures("hands")
def test_a_backup_of_another_server_is_not_taken_for_ones_own(
    project: Project, twin: Project
) -> None:
    """They are in one folder: what was taken meanwhile is looked at by the server that it is of."""
    describe(project, f'databases = ["{project.database}"]')
    (member,) = members.find(_site(twin))
    since = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    done = project.invoke("backup")
    assert done.returncode == 0, done.stderr
    for number in (2, 2):  # and of two tries, one
        job = Job(action="backup", site=_site(twin), member=member, since=since)
        assert by_hand(job).how == "done"
        assert len([*project.folder.glob("backups/*/*.dump")]) == number


@pytest.mark.usefixtures("hands")
def test_a_backup_of_the_same_second_is_not_taken_twice(project: Project) -> None:
    """Whoever tries again knows what was taken since, and what was taken before, to the moment."""
    describe(project, f'databases = ["{project.database}"]')
    (member,) = members.find(_site(project))
    assert project.invoke("upgrade").returncode == 0
    assert project.invoke("backup").returncode == 0
    (dump,) = project.folder.glob("backups/*/*.dump")
    taken = datetime.strptime(dump.name[:19], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    for since_ms, number in ((-1, 1), (1, 2)):
        since = (taken + timedelta(milliseconds=since_ms)).isoformat()
        job = Job(action="backup", site=_site(project), member=member, since=since)
        assert by_hand(job).how == "done"
        assert len([*project.folder.glob("backups/*/*.dump")]) == number


@pytest.mark.usefixtures("hands")
def test_a_worker_whose_url_leads_to_another_server_touches_nothing(
    project: Project, twin: Project
) -> None:
    """A name such as localhost is another server on each machine of a cluster."""
    describe(project, f'databases = ["{project.database}"]')
    (member,) = members.find(_site(project))
    add_revision(project, "aaaa")
    there = _site(twin)
    seen = looking.look(there, member)
    assert "is another one here than in the plan" in seen.trouble
    end = by_hand(Job(action="upgrade", site=there, member=member))
    assert (end.how, end.exit_code) == ("failed", 4)
    assert "is another one here than in the plan" in end.text
    assert "aaaa" not in revisions(twin, [twin.database]).values()
    assert by_hand(Job(action="upgrade", site=_site(project), member=member)).how == "done"
    assert revisions(project, [project.database]) == {project.database: "aaaa"}


def _site(project: Project) -> Site:
    return Site(str(project.folder), secrets.token_hex(4), (("DATABASE_URL", project.url),))
