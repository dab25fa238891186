"""A URL reaches each driver in the words that it knows, and comes back from a driver's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backset.configuration.lineage import Lineage
from backset.configuration.reader import load
from backset.connections.target import Target
from backset.connections.url import respelled
from backset.errors import SettingsError
from backset.migrations.discovery import url_of
from backset.migrations.provenance import found, remedy, told

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = "postgresql://u:p%40@h:1/app"


@pytest.mark.parametrize(
    ("url", "driver", "expected"),
    [
        (PLAIN, "asyncpg", "postgresql+asyncpg://u:p%40@h:1/app"),
        (f"{PLAIN}?sslmode=require", "asyncpg", "postgresql+asyncpg://u:p%40@h:1/app?ssl=require"),
        (f"{PLAIN}?application_name=x", "asyncpg", "postgresql+asyncpg://u:p%40@h:1/app"),
        ("postgresql:///app?host=/run", "asyncpg", "postgresql+asyncpg:///app?host=/run"),
        (
            "postgresql+asyncpg://h/app?ssl=true&timeout=2.5&statement_cache_size=0",
            "psycopg2",
            "postgresql+psycopg2://h/app?sslmode=require&connect_timeout=3",
        ),
        ("postgresql+asyncpg://h/app?ssl=true", "asyncpg", "postgresql+asyncpg://h/app?ssl=true"),
        ("postgresql+asyncpg://h/app", "", "postgresql://h/app"),
        (
            "postgresql:///app?host=/run&port=7",
            "pg8000",
            "postgresql+pg8000:///app?unix_sock=/run/.s.PGSQL.7",
        ),
    ],
)
def test_a_url_as_another_driver_wants_it(url: str, driver: str, expected: str) -> None:
    """And libpq still reads the same database in it."""
    assert respelled(url, driver) == expected
    params = Target.parse(expected).params
    before = Target.parse(url).params
    assert {k: params.get(k) for k in ("host", "dbname", "user", "password")} == {
        k: before.get(k) for k in ("host", "dbname", "user", "password")
    }


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        (
            {
                "driver": "psycopg2",
                "host": "h",
                "port": 1,
                "user": "u",
                "password": "p@/",
                "dbname": "a",
            },
            "postgresql+psycopg2://u:p%40%2F@h:1/a",
        ),
        (
            {"driver": "asyncpg", "host": "/run", "user": "u", "database": "a b", "ssl": "require"},
            "postgresql+asyncpg://u@/a%20b?ssl=require&host=%2Frun",
        ),
        ({"driver": "psycopg", "host": "::1", "dbname": "a"}, "postgresql+psycopg://[::1]/a"),
        ({"driver": "psycopg"}, "postgresql+psycopg://me@/mine"),
    ],
)
def test_the_url_of_a_connection(opened: dict[str, Any], expected: str) -> None:
    """What env.py opens is a target; libpq's variables fill what it leaves out."""
    environ = (
        {} if "dbname" in opened or "database" in opened else {"PGDATABASE": "mine", "PGUSER": "me"}
    )
    url = url_of({"dialect": "postgresql", **opened}, environ)
    assert url == expected
    wanted = opened.get("dbname") or opened.get("database") or "mine"
    assert Target.parse(url).database == wanted


def test_another_kind_of_database_is_refused() -> None:
    """One line, and nothing was opened."""
    with pytest.raises(SettingsError, match="opens a database of sqlite"):
        url_of({"dialect": "sqlite", "driver": "pysqlite", "database": "x.db"}, {})


def test_templates_get_a_driver_and_the_parts_that_a_url_leaves_out(tmp_path: Path) -> None:
    """Settings in parts need all of them."""
    table = '[tool.backset.env]\nA = "{url:asyncpg}"\nB = "{user}@{host}:{port}"\n'
    (tmp_path / "pyproject.toml").write_text(f'{table}[tool.backset.ini]\nurl = "{{url}}"\n')
    environ = {"DATABASE_URL": "postgresql:///app?sslmode=require", "PGUSER": "me"}
    settings = load(tmp_path, environ)
    assert settings.target is not None
    env = settings.child_env(settings.target)
    assert env["A"] == "postgresql+asyncpg:///app?ssl=require"
    assert env["B"] == "me@localhost:5432"
    assert settings.options(Lineage(), settings.target) == {
        "url": "postgresql:///app?sslmode=require"
    }


@pytest.mark.parametrize("template", ["{url:mysql}", "{user:x}", "{url!r}", "{oops}"])
def test_a_template_that_cannot_be_filled_is_told(tmp_path: Path, template: str) -> None:
    """With the words that there are."""
    (tmp_path / "pyproject.toml").write_text(f'[tool.backset.env]\nA = "{template}"\n')
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, {})
    (line,) = caught.value.lines()
    assert line.endswith("or {url:asyncpg} for a driver")


def test_where_a_url_probably_comes_from(tmp_path: Path) -> None:
    """Variables first, since a line of settings mends these; else the lines of the files."""
    (tmp_path / "env.py").write_text('\nengine("postgresql://h/app")\n')
    environ = {
        "X_URL": "postgresql+asyncpg://h/app",
        "X_DB": "app",
        "PGDATABASE": "app",
        "Y": "app",
    }
    origins = found(tmp_path, environ, {"X_DB"}, {"dbname": "app"})
    assert told(origins) == "; that probably comes from X_URL (the environment), X_DB (.env)"
    assert remedy(origins) == 'write [tool.backset.env] X_URL = "{url:asyncpg}"'
    origins = found(tmp_path, {}, (), {"database": "app"})
    assert told(origins) == "; that probably comes from env.py line 2"
    (tmp_path / "colours.py").write_text("username = 'app'\n")
    assert found(tmp_path, {}, (), {"database": "app"}) == origins
    assert found(tmp_path, {}, (), {"database": "other"}) == []
    assert remedy([]) == ""
