"""Where a URL that env.py used probably comes from, and the line that would mend it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.connections.target import Target
from backset.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from pathlib import Path

_FILES = (".py", ".ini", ".toml", ".cfg", ".yaml", ".yml", ".json")
_NEVER = frozenset({"node_modules", "site-packages", "venv", "backups"})
_LARGEST_BYTES = 200_000
_SOME = 3  # places that are named
_URL = re.compile(r"postgres[^\s\"']*://[^\s\"']*")
_WORDS = re.compile(r"DB|DATABASE|NAME", re.IGNORECASE)  # of a variable that holds a name
_KEYS = re.compile(r"DB|DATABASE", re.IGNORECASE)  # of a line that does


@dataclass(frozen=True, slots=True)
class Origin:
    """A place that names the database, such as `POSTGRES_DB (.env)`, and the line for it.

    line: of [tool.backset.env] or [tool.backset.ini]; empty where only an edit would help.
    """

    place: str
    line: str


def found(
    root: Path, environ: Mapping[str, str], dotenv: Container[str], opened: Mapping[str, Any]
) -> list[Origin]:
    """Return the places that name the database which env.py opened, the likeliest first.

    environ: what env.py was given; `dotenv` are the names in it that .env sets.
    opened: the parameters of the connection, as Worker.where_to() returns them.
    """
    name = opened.get("dbname") or opened.get("database")
    if not name:
        return []
    variables = list(_variables(environ, dotenv, str(name)))
    return (variables or list(_lines(root, str(name))))[:_SOME]


def told(origins: Sequence[Origin]) -> str:
    """Return the places in words, to be put after an error's own."""
    places = ", ".join(each.place for each in origins)
    return f"; that probably comes from {places}" if places else ""


def remedy(origins: Sequence[Origin]) -> str:
    """Return what to write; empty where nothing is known."""
    lines = [each.line for each in origins if each.line]
    if lines:
        return f"write {lines[0]}"
    if origins:
        return (
            f'let {origins[0].place} read a variable, such as environ["DATABASE_URL"], which is '
            'given by the line [tool.backset.env] DATABASE_URL = "{url}"'
        )
    return ""


def _variables(environ: Mapping[str, str], dotenv: Container[str], name: str) -> Iterator[Origin]:
    for variable, value in environ.items():
        if variable.startswith("PG"):  # libpq's own
            continue
        source = ".env" if variable in dotenv else "the environment"
        place = f"{variable} ({source})"
        if _database_of(value) == name:
            yield Origin(place, f'[tool.backset.env] {variable} = "{_template(value)}"')
        elif value == name and _WORDS.search(variable):
            yield Origin(place, f'[tool.backset.env] {variable} = "{{database}}"')


def _template(url: str) -> str:
    driver = url.partition("://")[0].partition("+")[2]
    return f"{{url:{driver}}}" if driver else "{url}"


def _database_of(value: str) -> str:
    try:
        return Target.parse(value).database if "://" in value else ""
    except SettingsError:
        return ""


def _lines(root: Path, name: str) -> Iterator[Origin]:
    """Find a line with a URL of that database, or with its name as a whole text of such a key."""
    url = re.compile(rf"postgres[^\s]*/{re.escape(name)}\b")
    text = re.compile(rf"[\"']{re.escape(name)}[\"']")
    for path in _texts(root):
        for number, line in enumerate(_read(path).splitlines(), 1):
            if url.search(line) or (text.search(line) and _KEYS.search(line)):
                place = f"{path.relative_to(root).as_posix()} line {number}"
                yield Origin(place, _ours(line, path))


def _ours(line: str, path: Path) -> str:
    option = line.partition("=")[0].strip()
    if path.suffix == ".ini" and option.isidentifier():
        return f'[tool.backset.ini] {option} = "{{url}}"'
    if path.name == "pyproject.toml" and option == "arguments":
        return f"[tool.backset] {_URL.sub(lambda url: _template(url[0]), line).strip()}"
    return ""


def _texts(root: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(root):
        below[:] = sorted(each for each in below if each[0] != "." and each not in _NEVER)
        for file in sorted(files):
            if file.endswith(_FILES):
                yield root / folder / file


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace") if path.stat().st_size < _LARGEST_BYTES else ""
    except OSError:
        return ""
