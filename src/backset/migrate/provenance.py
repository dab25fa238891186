"""Where a URL that env.py used probably comes from, and the lines that would mend it."""

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

    from backset.settings.settings import Settings

_FILES = (".py", ".ini", ".toml", ".cfg", ".yaml", ".yml", ".json")
_NEVER = frozenset({"node_modules", "site-packages", "venv", "backups"})
_LARGEST_BYTES = 200_000
_SOME = 3  # places that are named
_URL = re.compile(r"postgres[^\s\"']*://[^\s\"']*")
_WORDS = re.compile(r"DB|DATABASE|(?<!USER)NAME", re.IGNORECASE)  # how one ends that holds a name
_KEYS = re.compile(r"DB|DATABASE", re.IGNORECASE)  # of a line that does
_PARTS = {  # of a variable beside that one, which holds another part of the same URL
    "host": re.compile(r"HOST|SERVER|ADDR", re.IGNORECASE),
    "port": re.compile(r"PORT", re.IGNORECASE),
    "user": re.compile(r"USER|LOGIN|ROLE", re.IGNORECASE),
    "password": re.compile(r"PASS|PWD|SECRET", re.IGNORECASE),
}


_TABLE = "[tool.backset.env]"


@dataclass(frozen=True, slots=True)
class UrlOrigin:
    """A place that names the database, such as `POSTGRES_DB (.env)`, and the line for it.

    line: of [tool.backset.env] or [tool.backset.ini]; empty where only an edit would help.
    variable: its name, where it is one of the environment, and `template` what it should say.
    """

    place: str
    line: str
    variable: str = ""
    template: str = ""


def found(
    settings: Settings, opened: Mapping[str, Any], wanted: Target | None = None
) -> list[UrlOrigin]:
    """Return the places that name the database which env.py opened, the likeliest first.

    Of variables, all that together name it; what the settings say already is left out.
    opened: the parameters of the connection, as Worker.where_to() returns them.
    wanted: the database that was meant; a part that it has in common with the other is right.
    """
    parts = {name: str(opened.get(name) or "") for name in _PARTS}
    name = str(opened.get("dbname") or opened.get("database") or "")
    if not name:
        return []
    variables = list(_variables(settings, name))
    beside = list(_beside(settings, variables, parts, wanted))
    lines = [] if variables or beside else list(_lines(settings, name, parts["host"]))
    return [*variables[:_SOME], *beside, *lines[:_SOME]]


def told(origins: Sequence[UrlOrigin]) -> str:
    """Return the places in words, to be put after an error's own."""
    places = ", ".join(each.place for each in origins)
    return f"; that probably comes from {places}" if places else ""


def remedy(origins: Sequence[UrlOrigin], who: str = "env.py") -> str:
    """Return what to write; empty where nothing is known. who: what has opened it."""
    lines = [each.line for each in origins if each.line]
    together = [each.line for each in origins if each.variable]
    if together:
        more = [each.removeprefix(f"{_TABLE} ") for each in together[1:]]
        return f"write {together[0]}" + (f", and there: {', '.join(more)}" if more else "")
    if lines:
        return f"write {lines[0]}"
    if origins:
        place, variable = origins[0].place, 'environ["DATABASE_URL"], which is set to the right one'
        if ".py line" in place:
            return f"let {place} read {variable}"
        return f"let {who} take it from {variable}, and not from {place}"
    return ""


def _untold(settings: Settings) -> dict[str, str]:
    """Return the variables that the settings leave as they are; libpq's are never a project's."""
    return {
        name: value
        for name, value in settings.environ.items()
        if name not in settings.env and not name.startswith(("PG", "BACKSET_"))
    }


def _variables(settings: Settings, name: str) -> Iterator[UrlOrigin]:
    for variable, value in _untold(settings).items():
        if _database_of(value) == name:
            yield _origin(variable, _template(value), settings.dotenv)
        elif value == name and _WORDS.search(variable.rpartition("_")[2]):
            yield _origin(variable, "{database}", settings.dotenv)


def _beside(
    settings: Settings, named: Sequence[UrlOrigin], parts: Mapping[str, str], wanted: Target | None
) -> Iterator[UrlOrigin]:
    """Find what names the server and the login beside the variables that name the database."""
    names = [each.variable for each in named if each.template == "{database}"]
    names += [name for name, text in settings.env.items() if text == "{database}"]
    families = tuple({each.rpartition("_")[0] or each for each in names})
    for variable, value in _untold(settings).items():
        for part, words in _PARTS.items() if variable.startswith(families) and value else ():
            is_right = wanted is not None and wanted.params.get(part) == value
            if value == parts[part] and words.search(variable) and not is_right:
                yield _origin(variable, f"{{{part}}}", settings.dotenv)
                break


def _origin(variable: str, template: str, dotenv: Container[str]) -> UrlOrigin:
    place = f"{variable} ({'.env' if variable in dotenv else 'the environment'})"
    return UrlOrigin(place, f'{_TABLE} {variable} = "{template}"', variable, template)


def _template(url: str) -> str:
    driver = url.partition("://")[0].partition("+")[2]
    return f"{{url:{driver}}}" if driver else "{url}"


def _database_of(value: str) -> str:
    try:
        return Target.parse(value).database if "://" in value else ""
    except SettingsError:
        return ""


def _lines(settings: Settings, name: str, host: str) -> list[UrlOrigin]:
    """Return the lines with a URL of that database, or with its name as a whole text of such a key.

    Those that name another server come last: they may mean the same one, by another name.
    """
    last: list[UrlOrigin] = []
    first: list[UrlOrigin] = []
    url = re.compile(rf"postgres[^\s]*/{re.escape(name)}\b")
    text = re.compile(rf"[\"']{re.escape(name)}[\"']")
    for path in _texts(settings.root):
        header = ""
        for number, line in enumerate(_read(path).splitlines(), 1):
            header = line.strip() if line.startswith("[") else header
            if url.search(line) or (text.search(line) and _KEYS.search(line)):
                ours = _ours(line, path, settings)
                if header.startswith("[tool.backset") and not ours:
                    continue  # of our own settings
                place = f"{path.relative_to(settings.root).as_posix()} line {number}"
                (first if host in line else last).append(UrlOrigin(place, ours))
    return first + last


def _ours(line: str, path: Path, settings: Settings) -> str:
    option = line.partition("=")[0].strip()
    if path.suffix == ".ini" and option.isidentifier() and option not in settings.ini:
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
