"""The project's Alembic configuration, as the parent describes it, with the URL in it."""

from __future__ import annotations

import configparser
import io
import os
import sys
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config

from . import application
from .failures import NoConfigurationError, UnreadableConfigurationError

_DRIVERS = ("psycopg", "psycopg2", "asyncpg", "pg8000")
_URL = "sqlalchemy.url"


def opened(given: dict[str, Any]) -> Config:
    """Return the configuration.

    given: `file` (an ini file or a pyproject.toml; empty: what the `alembic` command would find),
    `section`, `arguments` (of -x), `urls` (the database's URL by driver; `""`: as it was written),
    `options` (of the ini file, by name).
    """
    config = _read(given.get("file") or "", given.get("section") or "alembic")
    arguments = given.get("arguments") or None
    config.cmd_opts = Namespace(
        config=config.config_file_name,
        name=config.config_ini_section,
        x=arguments,
        cmd=(command.upgrade, ["revision"], ["sql", "tag"]),
        raiseerr=False,
        sql=False,
        tag=None,
        autogenerate=False,
        revision="head",
        quiet=False,
    )
    _default_location(config)
    sys.path.append(str(Path.cwd()))  # as `python -m alembic` does; last, to shadow nothing
    options = dict(given.get("options") or {})
    if urls := given.get("urls"):
        options.setdefault(_URL, urls.get(_driver(config, urls[""]), urls[""]))
    for name, value in options.items():
        config.set_main_option(name, value.replace("%", "%%"))
    return config


def _read(file: str, section: str) -> Config:
    if Path(file).name == "env.py" and Path(file).is_file():  # configured in the project's code
        config = Config(ini_section=section, stdout=io.StringIO())
        location = str(Path(file).resolve().parent).replace("%", "%%")
        config.set_main_option("script_location", location)
        return config
    toml, ini = (file, "alembic.ini") if file.endswith(".toml") else ("pyproject.toml", file)
    ini = ini or "alembic.ini"
    if not Path(ini).is_file() and not (Path(toml).is_file() and _has_table(Path(toml))):
        what = file or "no alembic.ini, and no [tool.alembic] in pyproject.toml"
        raise NoConfigurationError(f"{what} is not there" if file else what)
    words = {"ini_section": section, "stdout": io.StringIO()}  # type: dict[str, Any]
    try:
        config = Config(ini, toml_file=toml, **words)
    except TypeError:  # Alembic before 1.16
        if not Path(ini).is_file():
            raise NoConfigurationError("[tool.alembic] needs Alembic 1.16 or later") from None
        config = Config(ini, **words)
    if Path(ini).is_file() and section not in (sections := _sections(config)):
        names = ", ".join(sections)
        raise NoConfigurationError(f"{ini} has no section {section!r}; it has {names}")
    return config


def _sections(config: Config) -> list[str]:
    try:
        return config.file_config.sections()
    except configparser.Error as error:
        raise UnreadableConfigurationError(str(error)) from error


def _has_table(toml: Path) -> bool:
    return "[tool.alembic]" in toml.read_text(encoding="utf-8")


def _default_location(config: Config) -> None:
    """Do what `alembic`'s callers do: Flask-Migrate sets the location, others start elsewhere."""
    file = Path(str(config.config_file_name))
    if not file.is_file():
        return
    folder, read = file.resolve().parent, getattr(config, "get_alembic_option", None)
    location = (read or config.get_main_option)("script_location")
    is_template = bool(location and "{" in location)  # which the project's own program fills in
    if location is None or is_template:
        scripts = _beside(folder) if is_template else folder
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    elif ":" not in location and not _has_env(Path(location)) and _has_env(folder / location):
        config.config_file_name = str(file.resolve())
        if application.is_asked_for(folder / location / "env.py"):
            config.set_main_option("script_location", str(folder / location).replace("%", "%%"))
        else:
            os.chdir(folder)  # its relative paths are seen from there


def _has_env(folder: Path) -> bool:
    return (folder / "env.py").is_file()


def _beside(folder: Path) -> Path:
    """Return the folder that has an env.py, if there is only one; else the given one."""
    found = [path.parent for path in folder.glob("*/env.py")]
    return found[0] if len(found) == 1 else folder


def _driver(config: Config, url: str) -> str:
    """Return the driver that the URL of the file names, else the given URL, else one that is there.

    `postgresql://` alone is psycopg 3 for SQLAlchemy 2.1 and psycopg2 for the earlier ones.
    """
    for each in (written(config), url):
        scheme = each.partition("://")[0]
        if scheme.startswith("postgres") and "+" in scheme:
            return scheme.partition("+")[2]
    return next((each for each in _DRIVERS if find_spec(each)), "")


def written(config: Config) -> str:
    """Return the URL of the file or the one that was set, or an empty text."""
    try:
        return config.get_main_option(_URL) or ""
    except Exception:  # noqa: BLE001  (an interpolation that only its own env.py can resolve)
        return ""
