"""What is found in a project without being named: its configuration, its interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backset.settings import reader
from backset.settings.reader import configurations
from backset.text.explanations import of

if TYPE_CHECKING:
    from pathlib import Path


def laid(root: Path, *files: str) -> None:
    """Make empty files."""
    for each in files:
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        (root / each).touch()


def test_a_configuration_deep_in_a_package_is_found(tmp_path: Path) -> None:
    """Installed packages, environments of any name, tests and examples are left out."""
    ours = "shop/store/db/migrations/alembic.ini"
    others = ("tests/alembic.ini", "docs/examples/alembic.ini", "node_modules/a/alembic.ini")
    laid(tmp_path, ours, *others, "env/pyvenv.cfg", "env/lib/alembic.ini", ".tox/alembic.ini")
    assert configurations(tmp_path) == [ours]


def test_one_of_the_tests_is_better_than_none(tmp_path: Path) -> None:
    """A library can have its migrations nowhere else."""
    laid(tmp_path, "tests/alembic.ini")
    assert configurations(tmp_path) == ["tests/alembic.ini"]


def test_an_env_py_without_a_configuration_is_found(tmp_path: Path) -> None:
    """Its program configures Alembic in code; a file, where there is one, comes first."""
    laid(tmp_path, "shop/migrations/env.py", "shop/migrations/versions/0001.py", "other/env.py")
    assert configurations(tmp_path) == ["shop/migrations/env.py"]
    laid(tmp_path, "backend/alembic.ini")
    assert configurations(tmp_path) == ["backend/alembic.ini"]


@pytest.mark.parametrize(
    ("environment", "config"),
    [
        (".venv", ""),
        ("backend/.venv", "backend/alembic.ini"),
        ("backend/venv", "backend/app/alembic.ini"),
        (".venv", "backend/alembic.ini"),
    ],
)
def test_the_environment_nearest_to_the_configuration_is_used(
    tmp_path: Path, environment: str, config: str
) -> None:
    """A repository can have one for each of its parts, or one for all."""
    laid(tmp_path, f"{environment}/bin/python")
    if environment != ".venv":
        laid(tmp_path, ".venv/bin/python")
    expected = (str(tmp_path / environment / "bin/python"), environment)
    assert reader.interpreter(tmp_path, {}, config) == expected


def test_the_environment_of_the_repository_serves_its_parts(tmp_path: Path) -> None:
    """One above the project's folder is looked for up to the repository's, and no further."""
    laid(tmp_path, ".venv/bin/python", "repository/backend/alembic.ini")
    part = tmp_path / "repository/backend"
    assert reader.interpreter(part, {})[1] == "default"
    laid(tmp_path, "repository/.git/HEAD", "repository/.venv/bin/python")
    assert reader.interpreter(part, {})[1] == "../.venv"


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('extension "hstore" is not available', "install its files where PostgreSQL runs"),
        ('extension "uuid-ossp" is not available', "use that, without uuid-ossp; else install"),
        (
            'permission denied to create extension "postgis"',
            'CREATE EXTENSION "postgis"; a reb',
        ),
        (
            'PostgreSQL: extension "citext" already exists',
            "say CREATE EXTENSION IF NOT EXISTS",
        ),
        ("Path doesn't exist: alembic.  Please use", "correct script_location"),
        ("a database of sqlite", "[tool.backset] upgrade = "),
        ("NoSuchOptError: no such option", "[tool.backset] upgrade = "),
    ],
)
def test_a_remedy_fits_its_cause(message: str, remedy: str) -> None:
    """Not every failure is the migration's or env.py's."""
    assert remedy in of("error", message, where="", target="", python="")[1]


def test_a_chain_that_begins_with_tables_of_a_program_is_told_of_init() -> None:
    """Its first revision alters a table that no revision has made."""

    def told(message: str) -> bool:
        remedy = of("database", message, where="revision eeb2 (x.py:3): ", target="", python="")[1]
        return "[tool.backset] init = " in remedy

    assert told('PostgreSQL: relation "users" does not exist')
    assert told('PostgreSQL: table "version" does not exist')
    assert told('PostgreSQL: index "ix_users_name" does not exist')
    assert not told('PostgreSQL: column "age" of relation "users" does not exist')
