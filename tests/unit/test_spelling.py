"""A URL reaches each driver in the words that it knows, and comes back from a driver's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backset.connections.target import Target, respelled
from backset.errors import SettingsError
from backset.migrate.discovery import complete, url_of
from backset.migrate.provenance import found, remedy, told
from backset.servers.location import chosen_driver
from backset.settings.reader import load
from backset.settings.values import Lineage

if TYPE_CHECKING:
    from pathlib import Path

    from backset.settings.settings import Settings

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
    url = url_of(complete({"dialect": "postgresql", **opened}, environ))
    assert url == expected
    wanted = opened.get("dbname") or opened.get("database") or "mine"
    assert Target.parse(url).database == wanted


def test_another_kind_of_database_is_refused() -> None:
    """One line, and nothing was opened."""
    with pytest.raises(SettingsError, match="opens a database of sqlite"):
        url_of({"dialect": "sqlite", "driver": "pysqlite", "dbname": "x.db"})


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


def settings_of(
    folder: Path, environ: dict[str, str] | None = None, dotenv: str = "", table: str = ""
) -> Settings:
    """Read the settings of a project that has these."""
    (folder / ".env").write_text(dotenv)
    (folder / "pyproject.toml").write_text(table)
    return load(folder, {"DATABASE_URL": "postgresql://h/mine", **(environ or {})})


def test_where_a_url_probably_comes_from(tmp_path: Path) -> None:
    """Variables first, since lines of settings mend these; else the lines of the files."""
    (tmp_path / "env.py").write_text('\nengine("postgresql://h/app")\n')
    environ = {"X_URL": "postgresql+asyncpg://h/app", "PGDATABASE": "app", "Y": "app"}
    both = settings_of(tmp_path, environ, "X_DB=app\n")
    origins = found(both, {"dbname": "app"})
    assert sorted(told(origins).split("from ")[1].split(", ")) == [
        "X_DB (.env)",
        "X_URL (the environment)",
    ]
    assert 'X_URL = "{url:asyncpg}"' in remedy(origins)
    assert 'X_DB = "{database}"' in remedy(origins)
    none = settings_of(tmp_path)
    origins = found(none, {"database": "app"})
    assert told(origins) == "; that probably comes from env.py line 2"
    (tmp_path / "colours.py").write_text("username = 'app'\n")
    assert found(none, {"database": "app"}) == origins
    assert found(none, {"database": "other"}) == []
    assert remedy([]) == ""


PARTS = """
DB__HOST=db.example
DB__PORT=5433
DB__USER=app
DB__PASSWORD=app
DB__NAME=app
CACHE__HOST=db.example
"""


def test_settings_in_parts_are_named_all_at_once(tmp_path: Path) -> None:
    """A line for each variable that leads elsewhere, and for none that is in place already."""
    opened = {"host": "db.example", "port": 5433, "user": "app", "password": "app"}
    opened = {**opened, "dbname": "app"}
    wanted = Target.parse("postgresql://app@localhost:5432/app")
    lines = {
        'DB__NAME = "{database}"',
        'DB__HOST = "{host}"',
        'DB__PORT = "{port}"',
        'DB__PASSWORD = "{password}"',
    }
    origins = found(settings_of(tmp_path, dotenv=PARTS), opened, wanted)
    assert {each.line.removeprefix("[tool.backset.env] ") for each in origins} == lines
    assert all(line in remedy(origins) for line in lines)
    assert remedy(origins).count("[tool.backset.env]") == 1
    table = '[tool.backset.env]\nDB__NAME = "{database}"\nDB__HOST = "{host}"\n'
    left = found(settings_of(tmp_path, dotenv=PARTS, table=table), opened, wanted)
    assert {each.variable for each in left} == {"DB__PORT", "DB__PASSWORD"}


def test_our_own_settings_are_no_cure_of_themselves(tmp_path: Path) -> None:
    """A line of [tool.backset] that has the name is not what leads env.py elsewhere."""
    table = '[tool.backset]\ndatabase = "app"\n[tool.backset.ini]\nurl = "{url}"\n'
    (tmp_path / "alembic.ini").write_text("[alembic]\nurl = postgresql://h/app\n")
    (origin,) = found(settings_of(tmp_path, table=table), {"dbname": "app"})
    assert (origin.place, origin.line) == ("alembic.ini line 2", "")


def test_a_line_that_names_the_server_comes_first(tmp_path: Path) -> None:
    """Of two that name the database, one may be the example of a container."""
    (tmp_path / "alembic.ini").write_text("[alembic]\nurl = postgresql://container/app\n")
    (tmp_path / "app.toml").write_text('db_url = "postgresql+psycopg2://u@db.example:5433/app"\n')
    origins = found(settings_of(tmp_path), {"dbname": "app", "host": "db.example"})
    assert [each.place for each in origins] == ["app.toml line 1", "alembic.ini line 2"]
    assert "let that command take it" in remedy(origins[:1], "that command")


@pytest.mark.parametrize(
    ("sqlalchemy", "installed", "driver"),
    [
        ("2.0.51", ("psycopg",), "psycopg"),
        ("2.0.51", ("psycopg", "psycopg2"), ""),
        ("2.1.0b2", ("psycopg2",), "psycopg2"),
        ("2.1.9", ("psycopg", "asyncpg"), ""),
        ("1.4.54", ("psycopg", "pg8000"), "pg8000"),
        ("2.0.51", ("asyncpg",), "asyncpg"),
        ("2.0.51", (), ""),
    ],
)
def test_the_driver_that_a_url_of_ours_names(
    sqlalchemy: str, installed: tuple[str, ...], driver: str
) -> None:
    """One that is installed and that this SQLAlchemy knows; none where its own choice is there."""
    assert chosen_driver(sqlalchemy, installed) == driver
