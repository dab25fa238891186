"""The project's Alembic configuration, as its parent describes it, with the database's URL in it."""

from __future__ import annotations

import io
import os
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alembic import command, util
from alembic.config import Config

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
    )
    _default_location(config)
    options = dict(given.get("options") or {})
    if urls := given.get("urls"):
        options.setdefault(_URL, urls.get(_driver(config, urls[""]), urls[""]))
    for name, value in options.items():
        config.set_main_option(name, value.replace("%", "%%"))
    return config


def _read(file: str, section: str) -> Config:
    toml, ini = (file, "alembic.ini") if file.endswith(".toml") else ("pyproject.toml", file)
    words = {"ini_section": section, "stdout": io.StringIO()}
    try:
        return Config(ini or "alembic.ini", toml_file=toml, **words)
    except TypeError:  # Alembic before 1.16
        if not ini:
            raise util.CommandError("[tool.alembic] needs Alembic 1.16 or later") from None
        return Config(ini, **words)


def _default_location(config: Config) -> None:
    """Do what `alembic`'s callers do: Flask-Migrate sets the location, others start elsewhere."""
    if config.config_file_name is None:
        return
    folder = Path(config.config_file_name).resolve().parent
    location = config.get_main_option("script_location") or _in_toml(config, "script_location")
    if location is None:
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
    elif ":" not in location and not Path(location).exists() and (folder / location).exists():
        os.chdir(folder)  # its relative paths are seen from there


def _in_toml(config: Config, name: str) -> str | None:
    options = getattr(config, "toml_alembic_config", {})
    value = options.get(name)
    return None if value is None else str(value) % {"here": Path.cwd()}


def _driver(config: Config, url: str) -> str:
    """Return the driver that the URL of the file names, else the given URL, else one that is there.

    `postgresql://` alone is psycopg 3 for SQLAlchemy 2.1 and psycopg2 for the earlier ones.
    """
    for written in (_written(config), url):
        scheme = written.partition("://")[0]
        if scheme.startswith("postgres") and "+" in scheme:
            return scheme.partition("+")[2]
    return next((each for each in _DRIVERS if find_spec(each)), "")


def _written(config: Config) -> str:
    try:
        return config.get_main_option(_URL) or ""
    except Exception:  # noqa: BLE001  (an interpolation that only its own env.py can resolve)
        return ""
