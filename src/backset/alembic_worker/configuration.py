"""The Alembic configuration, opened as the project itself would, and its migration scripts."""

from __future__ import annotations

import configparser
import contextlib
import io
import os
import sys
from argparse import Namespace
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

from .failures import (
    NoApplicationError,
    NoConfigurationError,
    NoSectionError,
    UnreadableConfigurationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


_DRIVERS = ("psycopg", "psycopg2", "asyncpg", "pg8000")
_URL = "sqlalchemy.url"
_CONNECTION = "connection"


def opened(given: dict[str, Any]) -> Config:
    """Return the configuration.

    given: `file` (an ini file or a pyproject.toml; empty: what the `alembic` command would find),
    `section`, `arguments` (of -x), `urls` (the database's URL by driver; `""`: as it was written),
    `options` (of the ini file, by name).
    """
    file, section = given.get("file") or "", given.get("section") or "alembic"
    config = _configured_in_code(file, section, io.StringIO()) or _demanded(file, section)
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
    _complete(config, given)
    return config


def of_command_line(given: dict[str, Any], options: Namespace) -> Config:
    """Return it as Alembic's own command line has it, with the same URL in it.

    options: what that has parsed; the arguments of -x come behind ours. What is wrong with the
    files is Alembic's to say.
    """
    words = [options.config] if isinstance(options.config, str) else options.config or []
    files = {Path(each).suffix == ".toml": each for each in words}
    file = files.get(False) or files.get(True) or given.get("file") or ""
    section = options.name or given.get("section") or "alembic"
    options.name, options.x = section, [*(given.get("arguments") or []), *(options.x or [])] or None
    config = _configured_in_code(file, section, sys.stdout)
    if config is None:
        config = _config(*_paths(file, files.get(True, "")), section, sys.stdout)
    options.config = options.config or config.config_file_name
    config.cmd_opts = options
    if _location(config) or config.file_config.has_section(section):
        _complete(config, given)
    return config


def _complete(config: Config, given: dict[str, Any]) -> None:
    """Let it lead to the scripts and to the database."""
    _default_location(config)
    sys.path.append(str(Path.cwd()))  # as `python -m alembic` does; last, to shadow nothing
    options = dict(given.get("options") or {})
    if urls := given.get("urls"):
        options.setdefault(_URL, urls.get(_driver(config, urls[""]), urls[""]))
    for name, value in options.items():
        config.set_main_option(name, value.replace("%", "%%"))


def _configured_in_code(file: str, section: str, stdout: TextIO) -> Config | None:
    """Return the configuration of an env.py whose project has no file for it."""
    if Path(file).name != "env.py" or not Path(file).is_file():
        return None
    config = Config(ini_section=section, stdout=stdout)
    location = str(Path(file).resolve().parent).replace("%", "%%")
    config.set_main_option("script_location", location)
    return config


def _demanded(file: str, section: str) -> Config:
    toml, ini = _paths(file)
    if not Path(ini).is_file() and not (Path(toml).is_file() and _has_table(Path(toml))):
        what = file or "no alembic.ini, and no [tool.alembic] in pyproject.toml"
        raise NoConfigurationError(f"{what} is not there" if file else what)
    if not (Path(ini).is_file() or "toml_file" in signature(Config.__init__).parameters):
        raise NoConfigurationError("[tool.alembic] needs Alembic 1.16 or later")
    config = _config(toml, ini, section, io.StringIO())
    if Path(ini).is_file() and section not in (sections := _sections(config)):
        if others := _with_scripts(config):
            raise NoSectionError(_without_scripts(Path(ini).name, config, others))
        names = ", ".join(sections)
        raise NoConfigurationError(f"{ini} has no section {section!r}; it has {names}")
    return config


def _paths(file: str, toml: str = "") -> tuple[str, str]:
    """Return the toml and the ini file; toml: where both are named."""
    if file.endswith(".toml"):
        return file, "alembic.ini"
    return toml or "pyproject.toml", file or "alembic.ini"


def _config(toml: str, ini: str, section: str, stdout: TextIO) -> Config:
    words = {"ini_section": section, "stdout": stdout}  # type: dict[str, Any]
    try:
        return Config(ini, toml_file=toml, **words)
    except TypeError:  # Alembic before 1.16
        return Config(ini, **words)


def _location(config: Config) -> str:
    """Return where the scripts are; nothing where the files do not say so."""
    read = getattr(config, "get_alembic_option", None) or config.get_main_option
    try:
        return read("script_location") or ""
    except Exception:  # noqa: BLE001  (Alembic says what is wrong, once a command wants it)
        return ""


def _sections(config: Config) -> list[str]:
    try:
        return config.file_config.sections()
    except configparser.Error as error:
        raise UnreadableConfigurationError(str(error)) from error


def _with_scripts(config: Config) -> list[str]:
    """Return the sections that have scripts of their own, as `alembic -n SECTION` chooses one."""
    own = config.file_config._sections  # type: ignore[attr-defined]  # noqa: SLF001  (without DEFAULT)
    return [name for name, options in own.items() if "script_location" in options]


def _without_scripts(file: str, config: Config, others: list[str]) -> str:
    own = f"{file}: [{config.config_ini_section}] has no script_location"
    return f"{own}; {', '.join(f'[{each}]' for each in others)} {'have' if others[1:] else 'has'}"


def _has_table(toml: Path) -> bool:
    return "[tool.alembic]" in toml.read_text(encoding="utf-8")


def _default_location(config: Config) -> None:
    """Do what `alembic`'s callers do: Flask-Migrate sets the location, others start elsewhere."""
    file = Path(str(config.config_file_name))
    if not file.is_file():
        return
    folder, read = file.resolve().parent, getattr(config, "get_alembic_option", None)
    location = (read or config.get_main_option)("script_location")
    if location is None and not _has_env(folder) and (others := _with_scripts(config)):
        raise NoSectionError(_without_scripts(file.name, config, others))
    is_template = bool(location and "{" in location)  # which the project's own program fills in
    if location is None or is_template:
        scripts = _beside(folder) if is_template else folder
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    elif ":" not in location and not _has_env(Path(location)) and _has_env(folder / location):
        config.config_file_name = str(file.resolve())
        if is_asked_for(folder / location / "env.py"):
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
    is_old = sqlalchemy.__version__.startswith("1.")  # it does not know psycopg 3
    fit = [each for each in _DRIVERS if each != "psycopg" or not is_old]
    return next((each for each in fit if find_spec(each)), "")


def written(config: Config) -> str:
    """Return the URL of the file or the one that was set, or an empty text."""
    try:
        return config.get_main_option(_URL) or ""
    except Exception:  # noqa: BLE001  (an interpolation that only its own env.py can resolve)
        return ""


class Attributes(dict[str, Any]):
    """The attributes of a configuration, which know whether a connection was asked for in vain.

    By Alembic's recipe "sharing a connection", an env.py takes one from them that the program which
    calls Alembic has put there, and may have no other.
    """

    was_asked = False

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, and note what is missed."""
        self._note(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def _note(self, key: object) -> None:
        self.was_asked |= key == _CONNECTION and not super().__contains__(key)

    @contextmanager
    def connected(self, url: str) -> Iterator[None]:
        """Have a connection in them for a while, and commit what is left open on it.

        Alembic commits by itself, unless env.py has begun something on it before.
        """
        with sqlalchemy.create_engine(url, poolclass=NullPool).connect() as connection:
            self[_CONNECTION] = connection
            try:
                yield
                transaction = connection.get_transaction()
                if transaction is not None:
                    transaction.commit()
            finally:
                del self[_CONNECTION]


_ASKS_FOR_IT = "current_app"  # flask.current_app, in what `flask db init` writes


def context(env: Path) -> AbstractContextManager[Any]:
    """Return the context that `flask db upgrade` would run that env.py in, or an empty one.

    Raises NoApplicationError.
    """
    if is_asked_for(env):
        return _flask().app_context()  # type: ignore[no-any-return]
    return contextlib.nullcontext()


def is_asked_for(env: Path) -> bool:
    """Tell whether that env.py asks Flask for the application."""
    with contextlib.suppress(OSError):  # that it is missing is Alembic's to say
        return _ASKS_FOR_IT in env.read_text(encoding="utf-8", errors="replace")
    return False


@cache
def _flask() -> Any:
    """Load the application once: .flaskenv and FLASK_APP name it, else wsgi.py or app.py is it."""
    cli = import_module("flask.cli")
    cli.load_dotenv(".flaskenv")  # what is set already stays
    try:
        return cli.ScriptInfo(app_import_path=os.environ.get("FLASK_APP")).load_app()
    except cli.NoAppException as error:
        raise NoApplicationError(str(error)) from error
