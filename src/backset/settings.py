"""The only reader of the environment, .env and pyproject.toml; every value knows its source."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import string
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values

from backset.errors import SettingsError
from backset.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_PREFIX = "BACKSET_"
_PLACEHOLDERS = ("url", "database", "user", "password", "host", "port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a run is told; `sources` says of each name where its value came from.

    target: None means the embedded PostgreSQL, and `database` is the name of its database.
    env: templates of what env.py and the seed command are given, over `environ`.
    expect: columns that must exist, by table. rows: least rows after the seed, by table.
    """

    root: Path
    target: Target | None
    database: str
    seed: tuple[str, ...]
    python: str
    env: Mapping[str, str]
    expect: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, int]
    backups: Path
    environ: Mapping[str, str]
    sources: Mapping[str, str]

    def child_env(self, target: Target) -> dict[str, str]:
        """Return the environment of a child of the project that is to work on `target`."""
        values = {name: target.params.get(name, "") for name in _PLACEHOLDERS}
        values |= {"url": target.url, "database": target.database}
        given = {name: template.format_map(values) for name, template in self.env.items()}
        return {**self.environ, **given}

    def command(self, argv: Iterable[str]) -> list[str]:
        """Return `argv` with a leading `python` replaced by the project's interpreter."""
        program, *rest = argv
        return [self.python if program in {"python", "python3"} else program, *rest]


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that has a pyproject.toml, else `start`."""
    folders = (start, *start.parents)
    return next((each for each in folders if (each / "pyproject.toml").is_file()), start)


def load(start: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read all settings. Raises SettingsError with every problem, each with its source."""
    reader = _Reader(find_root(start.resolve()), os.environ if environ is None else environ)
    settings = reader.read()
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings


class _Reader:
    """Reads the layers once, and collects the problems of all of them."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self.problems: list[tuple[str, str]] = []
        self.sources: dict[str, str] = {}
        self.environ = dict(environ)
        self.dotenv = self._guarded(".env", lambda path: dotenv_values(path))
        self.table = self._guarded("pyproject.toml", _backset_table)

    def read(self) -> Settings:
        self._report_unknown()
        return Settings(
            root=self.root,
            target=self._target(),
            database=self._value("database", self.root.name),
            seed=self._value("seed", ()),
            python=self._python(),
            env={"DATABASE_URL": "{url}"} | self._value("env", {}),
            expect=self._value("expect", {}),
            rows=self._value("rows", {}),
            backups=self.root / self._value("backups", "backups"),
            environ={key: value or "" for key, value in {**self.dotenv, **self.environ}.items()},
            sources=self.sources,
        )

    def _guarded(self, name: str, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        path = self.root / name
        try:
            return read(path) if path.is_file() else {}
        except (OSError, ValueError) as error:  # bad TOML and bad UTF-8 are ValueErrors
            self.problems.append((f"{name}: {error}", "correct the file"))
            return {}

    def _report_unknown(self) -> None:
        given = [("[tool.backset]", key, key) for key in self.table]
        for source, layer in (("the environment", self.environ), (".env", self.dotenv)):
            names = (name for name in layer if name.startswith(_PREFIX))
            given += [(source, name, name.removeprefix(_PREFIX).lower()) for name in names]
        for source, shown, key in given:
            if key not in _CHECKS:
                near = difflib.get_close_matches(key, _CHECKS, n=1, cutoff=0.5)
                guess = (
                    shown.replace(key, near[0]).replace(key.upper(), near[0].upper())
                    if near
                    else ""
                )
                remedy = f"did you mean {guess!r}?" if near else f"known keys: {', '.join(_CHECKS)}"
                self.problems.append((f"{source}: unknown key {shown!r}", remedy))

    def _lookup(self, variable: str) -> tuple[str | None, str]:
        """Return a variable and its source; an empty one counts as not set, as in shells."""
        for source, layer in (("the environment", self.environ), (".env", self.dotenv)):
            if layer.get(variable):
                return layer[variable], source
        return None, "default"

    def _value(self, key: str, default: Any) -> Any:  # noqa: ANN401  (each key has its own type)
        raw: Any
        raw, source = self._lookup(_PREFIX + key.upper())
        if raw is not None and key == "seed":
            raw = shlex.split(raw)
        elif raw is None and key in self.table:
            raw, source = self.table[key], "[tool.backset]"
        self.sources[key] = source
        try:
            return default if raw is None else _CHECKS[key](raw)
        except ValueError as error:
            self.problems.append((f"{source}: {key} is {raw!r}", f"it must be {error}"))
            return default

    def _target(self) -> Target | None:
        url, source = self._lookup("DATABASE_URL")
        self.sources["DATABASE_URL"] = source
        try:
            return Target.parse(url, f"{source}: DATABASE_URL") if url else None
        except SettingsError as error:
            self.problems += error.problems
            return None

    def _python(self) -> str:
        wanted = self._value("python", sys.executable)
        found = shutil.which(self.root / wanted if os.sep in wanted else wanted)
        if found is None:
            source = self.sources["python"]
            remedy = "make that environment, or name another interpreter"
            self.problems.append((f"{source}: python is {wanted!r}, which does not run", remedy))
        return str(found or wanted)


def _backset_table(path: Path) -> dict[str, Any]:
    table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("backset", {})
    if not isinstance(table, dict):
        raise ValueError("tool.backset is not a table")  # noqa: TRY004  (reported like bad TOML)
    return table


def _text(raw: object) -> str:
    if isinstance(raw, str) and raw:
        return raw
    raise ValueError('a text, such as "aideator"')


def _argv(raw: object) -> tuple[str, ...]:
    if isinstance(raw, list) and raw and all(isinstance(word, str) for word in raw):
        return tuple(raw)
    raise ValueError('a list of words, such as ["python", "scripts/seed.py"]')


def _templates(raw: object) -> dict[str, str]:
    try:
        items = dict(raw.items())  # type: ignore[attr-defined]
        fields = {name for text in items.values() for _, name, *_ in string.Formatter().parse(text)}
    except (AttributeError, TypeError, ValueError):
        fields = {"?"}
    if fields - {None, *_PLACEHOLDERS}:
        known = " ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
        raise ValueError(f"a table of texts with {known} in them")
    return items


def _columns(raw: object) -> dict[str, tuple[str, ...]]:
    try:
        return {str(table): _argv(columns) for table, columns in raw.items()}  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        raise ValueError('a table such as tasks = ["id", "archived"]') from None


def _counts(raw: object) -> dict[str, int]:
    if isinstance(raw, dict) and all(type(count) is int and count >= 0 for count in raw.values()):
        return raw
    raise ValueError("a table such as users = 1")


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "database": _text,
    "seed": _argv,
    "python": _text,
    "env": _templates,
    "expect": _columns,
    "rows": _counts,
    "backups": _text,
}
