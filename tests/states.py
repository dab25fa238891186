"""States of a database that many tests begin from: made once on a server, and copied after that.

A copy takes 20 ms; what it is made by starts two to six processes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from backset.connections.target import Target
from tests.incident.project import (
    lay_down,
    run_alembic,
    run_old_chain,
    use_clean_chain,
    use_old_chain,
)
from tests.project import PROJECTS, REPOSITORY, Project

if TYPE_CHECKING:
    from collections.abc import Callable

_KEEPER = "keeper"  # who makes them; the objects of a copy belong to the role of its project
_BESIDE = ("__previous", "__clean")  # what a rebuild leaves beside its target
_COPY = "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY OWNER {}"
_COMMENT = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"


def broken(project: Project) -> None:
    """Bring an empty database, and its project, to where the incident's were: see `break_it`."""
    use_old_chain(project.folder)
    _put(project, "kept_broken", lambda url: run_old_chain(project.folder, url))
    use_clean_chain(project.folder)


def rebuilt(project: Project, *, over_nothing: bool = False) -> None:
    """Bring an empty database to where `invoke reset-db` leaves it, those beside it included.

    What the next run could clone is not remembered: it will run the migrations.
    over_nothing: as if there had been no database before, so that there is no `__previous`.
    """
    with _administered(project) as session:
        if not _is_there(session, "kept_rebuilt"):
            _rebuild(session, project)
        if over_nothing:
            _run(session, "DROP DATABASE {}", project.database)
        else:
            _rename(session, project.database, f"{project.database}__previous")
        _copy(session, project, "kept_rebuilt")
        for suffix in _BESIDE[over_nothing:]:
            if suffix == "__clean":
                _copy(session, project, "kept_rebuilt", suffix)
                _run(
                    session, "ALTER DATABASE {} ALLOW_CONNECTIONS false", project.database + suffix
                )
            comment = session.execute(_COMMENT, [f"kept_rebuilt{suffix}"]).fetchone()
            text = (comment or ("",))[0].replace('"kept_rebuilt"', f'"{project.database}"')
            _comment(session, project.database + suffix, text)


def migrated(project: Project, shape: str, revision: str = "head") -> None:
    """Bring an empty database to a revision of a project of tests/projects."""

    def make(url: str) -> None:
        done = run_alembic(PROJECTS / shape, url, "upgrade", revision)
        assert done.returncode == 0, done.stdout + done.stderr

    _put(project, f"kept_{shape}_{revision}", make)


def _administered(project: Project) -> psycopg.Connection[Any]:
    """Return a session of the superuser, whom the socket lets in, on the maintenance database."""
    params = {**Target.parse(project.url).params, "user": "postgres", "dbname": "postgres"}
    assert params["host"].startswith("/"), "over TCP it would need a password"
    return psycopg.connect(make_conninfo(**params), autocommit=True)


def _put(project: Project, template: str, make: Callable[[str], None]) -> None:
    with _administered(project) as session:
        if not _is_there(session, template):
            _prepare(session)
            _run(session, "DROP DATABASE IF EXISTS {}", template)
            _run(session, "CREATE DATABASE {} OWNER {}", template, _KEEPER)
            make(_url(project, template))
            _comment(session, template, "whole")
        _run(session, "DROP DATABASE {}", project.database)
        _copy(session, project, template)


def _rebuild(session: psycopg.Connection[Any], like: Project) -> None:
    """Run `reset-db` on an empty database, as a project of its own."""
    _prepare(session)
    _run(session, "CREATE DATABASE {} OWNER {}", "kept_rebuilt", _KEEPER)
    with tempfile.TemporaryDirectory() as folder:
        lay_down(Path(folder), REPOSITORY)
        made = Project(Path(folder), {"DATABASE_URL": _url(like, "kept_rebuilt")})
        done = made.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    _run(session, "ALTER DATABASE {} ALLOW_CONNECTIONS true", "kept_rebuilt__clean")
    _comment(session, "kept_rebuilt", "whole")


def _prepare(session: psycopg.Connection[Any]) -> None:
    if not session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [_KEEPER]).fetchone():
        _run(session, "CREATE ROLE {} LOGIN CREATEDB", _KEEPER)


def _url(project: Project, database: str) -> str:
    target = Target.parse(project.url)
    host, port = target.params["host"], target.params.get("port", "5432")
    return f"postgresql://{_KEEPER}@/{database}?host={host}&port={port}"


def _is_there(session: psycopg.Connection[Any], template: str) -> bool:
    return session.execute(_COMMENT, [template]).fetchone() == ("whole",)


def _copy(
    session: psycopg.Connection[Any], project: Project, template: str, suffix: str = ""
) -> None:
    """Copy a template, and give what is in it to the role of the project."""
    target = Target.parse(project.url)
    role, name = target.params.get("user", "postgres"), project.database + suffix
    _run(session, _COPY, name, template + suffix, role)
    params = {**target.params, "user": "postgres", "dbname": name}
    with psycopg.connect(make_conninfo(**params)) as inside:
        _run(inside, "REASSIGN OWNED BY {} TO {}", _KEEPER, role)


def _rename(session: psycopg.Connection[Any], old: str, new: str) -> None:
    _run(session, "ALTER DATABASE {} RENAME TO {}", old, new)


def _comment(session: psycopg.Connection[Any], name: str, text: str | None) -> None:
    words = sql.SQL("COMMENT ON DATABASE {} IS {}")
    session.execute(words.format(sql.Identifier(name), sql.Literal(text)))


def _run(session: psycopg.Connection[Any], statement: str, *names: str) -> None:
    session.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
