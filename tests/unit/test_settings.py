"""Settings come from where they should, and their mistakes are told all at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from backset.errors import SettingsError
from backset.settings.reader import load
from backset.settings.settings import KEYS, PREFIX
from tests.project import REPOSITORY

URL = "postgresql://u:secret@h/app"


def write(folder: Path, table: str = "", dotenv: str = "") -> Path:
    """Make a project of two files."""
    (folder / "pyproject.toml").write_text(f"[tool.backset]\n{table}")
    if dotenv:
        (folder / ".env").write_text(dotenv)
    return folder


def test_nothing_set_means_the_embedded_server(tmp_path: Path) -> None:
    """A fresh clone needs no configuration."""
    settings = load(write(tmp_path), {})
    assert settings.target is None
    assert settings.database == tmp_path.name
    assert settings.python == sys.executable


def test_environment_beats_dotenv_beats_pyproject(tmp_path: Path) -> None:
    """And each value knows where it came from."""
    write(tmp_path, 'database = "a"\nbackups = "x"', f"DATABASE_URL={URL}\nBACKSET_DATABASE=b\n")
    settings = load(tmp_path, {"BACKSET_DATABASE": "c"})
    assert settings.database == "c"
    assert settings.backups == tmp_path / "x"
    assert settings.target is not None
    assert settings.sources["database"] == "the environment"
    assert settings.sources["backups"] == "[tool.backset]"
    assert settings.sources["DATABASE_URL"] == ".env"
    assert settings.sources["seed"] == "default"


def test_numbers_are_numbers_in_toml_and_digits_in_variables(tmp_path: Path) -> None:
    """Zero backups would be none at all."""
    write(tmp_path, "keep = 3", "BACKSET_ZSTD_ABOVE=0\n")
    settings = load(tmp_path, {})
    assert (settings.keep, settings.zstd_above) == (3, 0)
    assert load(tmp_path, {"BACKSET_KEEP": "5"}).keep == 5
    for wrong in ("0", "-1", "many", "1.5"):
        with pytest.raises(SettingsError) as error:
            load(tmp_path, {"BACKSET_KEEP": wrong})
        (line,) = error.value.lines()
        assert line.startswith("the environment: keep is ")
        assert line.endswith(" → it must be a whole number, 1 or more")
    write(tmp_path, 'keep = "3"')
    with pytest.raises(SettingsError, match="keep is '3'"):
        load(tmp_path, {})


def test_an_empty_database_url_is_not_set(tmp_path: Path) -> None:
    """CI systems set variables to nothing."""
    assert load(write(tmp_path), {"DATABASE_URL": ""}).target is None


def test_a_line_of_dotenv_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A missing quote must not lead to another database than the one that was meant."""
    write(tmp_path, dotenv='A=1\nDATABASE_URL="postgresql://h/app\n')
    with pytest.raises(SettingsError, match=r"\.env: line 2 cannot be read"):
        load(tmp_path, {})


def test_the_embedded_server_is_out_of_reach_of_libpqs_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGHOSTADDR would lead us, and a child, to another server than the embedded one."""
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1")
    monkeypatch.setenv("PGADMIN_EMAIL", "me@here")
    settings = load(write(tmp_path, 'database = "app"'))
    assert "PGHOSTADDR" not in os.environ
    assert "PGHOSTADDR" not in settings.environ
    assert settings.environ["PGADMIN_EMAIL"] == "me@here"


def test_the_root_is_found_from_below(tmp_path: Path) -> None:
    """A task works from any folder of the project."""
    below = write(tmp_path) / "a" / "b"
    below.mkdir(parents=True)
    assert load(below, {}).root == tmp_path


def test_children_get_the_spelling_that_the_user_wrote(tmp_path: Path) -> None:
    """Only the database's name is another one; templates get their parts."""
    write(tmp_path, '[tool.backset.env]\nPOSTGRES_DB = "{database}"\nWHO = "{user}@{host}"')
    url = "postgresql+asyncpg://u:p%40@h:1/app?ssl=require"
    settings = load(tmp_path, {"DATABASE_URL": url, "HOME": "/h"})
    assert settings.target is not None
    env = settings.child_env(settings.target.named("app__next"))
    assert env == {
        "HOME": "/h",
        "PATH": str(Path(sys.executable).parent),
        "PYTHONIOENCODING": "utf-8",
        "PGCONNECT_TIMEOUT": "10",
        "DATABASE_URL": "postgresql+asyncpg://u:p%40@h:1/app__next?ssl=require",
        "POSTGRES_DB": "app__next",
        "WHO": "u@h",
    }


def test_every_mistake_is_told_at_once_with_its_source(tmp_path: Path) -> None:
    """One run shows all that is to be corrected, with the nearest right key."""
    write(
        tmp_path,
        'sead = ["x"]\nrows = {users = "one"}\nexpect = ["tasks"]\nenv = {A = "{oops}"}',
        "BACKSET_DATABAS=x\n",
    )
    environ = {"DATABASE_URL": "mysql://u:secret@h/x", "BACKSET_PYTHON": "no-such-python"}
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, environ)
    text = "\n".join(caught.value.lines())
    for expected in (
        "[tool.backset]: unknown key 'sead' → did you mean 'seed'?",
        ".env: unknown key 'BACKSET_DATABAS' → did you mean 'BACKSET_DATABASE'?",
        "[tool.backset]: rows is {'users': 'one'} → it must be a table such as users = 1",
        "[tool.backset]: expect is ['tasks'] → it must be",
        "[tool.backset]: env is wrong → it must be",
        "the environment: DATABASE_URL is not a PostgreSQL URL →",
        "the environment: python is 'no-such-python', which does not run →",
    ):
        assert expected in text
    assert len(caught.value.lines()) == 7
    assert "secret" not in text


@pytest.mark.parametrize("broken", ["[tool.backset", "[tool]\nbackset = 3"])
def test_a_broken_pyproject_is_one_line(tmp_path: Path, broken: str) -> None:
    """The file is named."""
    (tmp_path / "pyproject.toml").write_text(broken)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, {})
    (line,) = caught.value.lines()
    assert line.startswith("pyproject.toml: ")


def test_the_sample_has_every_variable() -> None:
    """Whoever copies .env.example sees all that can be set there, and nothing that cannot."""
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    named = {line.removeprefix("# ").partition("=")[0] for line in lines if "=" in line}
    variables = {PREFIX + name.upper() for name, key in KEYS.items() if key.variable}
    assert {name for name in named if name.isupper()} >= variables | {"DATABASE_URL"}
    assert {name for name in named if name.startswith(PREFIX)} <= variables
