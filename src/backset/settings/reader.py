"""The only reader of the environment, .env and pyproject.toml; every value knows its source."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import sys
import tomllib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from backset.connections.target import LIBPQ_VARIABLES, ONE_HOST, Target, derived_name
from backset.errors import SettingsError
from backset.settings import values
from backset.settings.settings import (
    BASE,
    CREDENTIALS,
    KEYS,
    NO_KEYS,
    PREFIX,
    TEMPORARY,
    THROW_AWAY,
    Settings,
)
from backset.settings.values import Lineage
from backset.text.redaction import blank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping

FLAGS: dict[str, str] = {}  # what the command line sets, by the name of its variable

_OF_STORES = ("AWS_", "AZURE_", "GOOGLE_")
_ROOT_MARKS = ("pyproject.toml", "alembic.ini", "tasks.py")


def find_root(start: Path) -> Path:
    """Return the nearest folder from `start` up with a file that marks a project, else `start`."""
    for folder in (start, *start.parents):
        if any((folder / mark).is_file() for mark in _ROOT_MARKS):
            return folder
    return start


def _root(start: Path, file: str | None) -> Path:
    """Return the project's root: of the configuration that is named from outside, if elsewhere."""
    root = find_root(start)
    return find_root(Path(file).parent) if file and root not in Path(file).parents else root


def load(start: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read all settings. Raises SettingsError with every problem, each with its source."""
    ours = os.environ if environ is None else dict(environ)
    start, given = start.resolve(), dict(ours)
    if file := given.get("ALEMBIC_CONFIG"):  # which Alembic reads from where one stands
        given["ALEMBIC_CONFIG"] = str((start / file).resolve())
    file = FLAGS.get("BACKSET_CONFIG") or given.get("ALEMBIC_CONFIG")
    reader = _SettingsReader(_root(start, file), given)
    settings = reader.read()
    if reader.problems:
        raise SettingsError(reader.problems)
    return on_embedded(settings, ours) if settings.is_embedded else settings


def temporary_folder() -> Path | None:
    """Return the folder that somebody has named for throw-away servers."""
    named = os.environ.get(TEMPORARY)
    return Path(named).resolve() if named else None


def environment() -> dict[str, str]:
    """Return the environment of this process, with what the command line has set."""
    return {**os.environ, **FLAGS}


@contextmanager
def restored_environment() -> Iterator[None]:
    """Put back after the block what a run has taken out of the environment for itself."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def on_embedded(settings: Settings, ours: MutableMapping[str, str] = os.environ) -> Settings:
    """Return the settings for the embedded server, out of reach of libpq's variables.

    PGHOSTADDR or PGSERVICE would lead us, and a child, elsewhere: they leave `ours`, too.
    """
    for name in LIBPQ_VARIABLES & ours.keys():
        del ours[name]
    environ = {k: v for k, v in settings.environ.items() if k not in LIBPQ_VARIABLES}
    return replace(settings, environ=environ, sources={**settings.sources, "database": "settled"})


class _SettingsReader:
    """Reads the layers once, and collects the problems of all of them."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self.problems: list[tuple[str, str]] = []
        self.sources: dict[str, str] = {}
        self.environ = dict(environ)
        self.dotenv = self._guarded(".env", self._dotenv)
        self.table = self._guarded("pyproject.toml", _backset_table)

    def read(self) -> Settings:
        self._report_unknown()
        target = self._target()
        said = {name: self._value(name) for name in KEYS}
        lineages = self._lineages(said)
        self._demand_inputs(said)
        bucket = said["backups"] if values.is_bucket(said["backups"]) else ""
        self._demand_bucket(said, bucket)
        made = {
            "database": said["database"] or derived_name(self.root.name, "", digits=8),
            "python": self._python(said["python"], lineages[0].config),
            "env": {"DATABASE_URL": "{url}", **said["env"]},
            "baseline": self.root / said["baseline"],
            "backups": self.root / Path("backups" if bucket else said["backups"]).expanduser(),
            "bucket": bucket,
            "store_environ": self._store_environ(),
        }
        return Settings(
            **{**said, **made},
            root=self.root,
            target=target,
            is_throw_away=target is not None and self._is_throw_away(target),
            follows=not self.environ.get(BASE),
            lineages=lineages,
            environ=self._children_environ(is_shared=bool(bucket)),
            dotenv=frozenset(self.dotenv) - self.environ.keys(),
            sources=self.sources,
        )

    def _children_environ(self, *, is_shared: bool) -> dict[str, str]:
        """Return .env under the environment, without its PG* variables.

        libpq's programs must read the same ones as our own sessions, which know no .env. is_shared:
        whether the credentials of an object store are ours, and so nobody else's.
        """
        kept = {
            key: value or "" for key, value in self.dotenv.items() if key not in LIBPQ_VARIABLES
        }
        every = {**kept, **self.environ}
        return {k: v for k, v in every.items() if not (is_shared and CREDENTIALS.fullmatch(k))}

    def _store_environ(self) -> dict[str, str]:
        every = {**self.dotenv, **self.environ}
        return {k: v for k, v in every.items() if v and k.startswith(_OF_STORES)}

    def _demand_bucket(self, said: Mapping[str, Any], bucket: str) -> None:
        """Note where a folder would get backups that somebody believes to be encrypted."""
        if said["backup_recipients"] and not bucket:
            what = f"{self.sources['backup_recipients']}: backup_recipients is set, and backups is"
            remedy = "encrypt the disk, or set backups to a URL, such as s3://… or file://…"
            self.problems.append((f"{what} a folder, whose dumps are not encrypted", remedy))

    def _dotenv(self, path: Path) -> dict[str, str | None]:
        with path.open(encoding="utf-8") as file:
            bad = [each.original.line for each in parse_stream(file) if each.error]
        self.problems += [(f".env: line {line} cannot be read", "correct it") for line in bad]
        return {} if bad else dotenv_values(path)

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
            names = (name for name in layer if name.startswith(PREFIX))
            given += [(source, name, name.removeprefix(PREFIX).lower()) for name in names]
        for source, shown, key in given:
            if shown in NO_KEYS and source == "the environment":
                continue
            if key not in KEYS:
                self.problems.append((f"{source}: unknown key {shown!r}", _guess(shown, key)))
            elif shown != key and not KEYS[key].variable:
                self.problems.append((f"{source}: {shown} is a table", "set it in [tool.backset]"))

    def _lookup(self, variable: str) -> tuple[str | None, str]:
        """Return a variable and its source; an empty one counts as not set, as in shells."""
        layers = (
            ("the command line", FLAGS),
            ("the environment", self.environ),
            (".env", self.dotenv),
        )
        for source, layer in layers:
            if value := (layer.get(variable) or "").strip():
                return value, source
        return None, "default"

    def _value(self, name: str) -> Any:  # noqa: ANN401  (each key has its own type)
        key = KEYS[name]
        raw: Any
        raw, source = self._lookup(PREFIX + name.upper()) if key.variable else (None, "default")
        variable = raw is not None
        if raw is None and name in self.table:
            raw, source = self.table[name], "[tool.backset]"
        self.sources[name] = source
        try:
            if variable and key.variable == "words":
                raw = _words(raw)
            elif variable and key.variable == "digits" and raw.isdecimal():
                raw = int(raw)
            return key.default if raw is None else key.check(raw)
        except ValueError as error:
            value = "wrong" if key.is_secret else blank(repr(raw))  # a URL may stand in its place
            self.problems.append((f"{source}: {name} is {value}", f"it must be {error}"))
            return key.default

    def _demand_inputs(self, said: Mapping[str, Any]) -> None:
        """Note where inputs are missing: what a command reads, only who wrote it can tell."""
        if said["cache_seed"] and not said["inputs"]:
            what = f"{self.sources['cache_seed']}: cache_seed is set, and inputs is not"
            remedy = 'name the files that the seed command reads: inputs = ["scripts/*.py"]'
            self.problems.append((what, remedy))

    def _lineages(self, said: Mapping[str, Any]) -> tuple[Lineage, ...]:
        """Return the chains of the table, else the one that the single keys describe."""
        only = Lineage(section=said["section"], arguments=said["arguments"])
        given = said["chains"] or (only,)
        config = self._config(given, said["config"])
        return tuple(
            replace(each, heads=each.heads or said["heads"], config=each.config or config)
            for each in given
        )

    def _config(self, lineages: Iterable[Lineage], said: str) -> str:
        """Return the file of those that name none; empty means what `alembic` itself would find."""
        if all(each.config for each in lineages):
            return ""
        given = said or self._lookup("ALEMBIC_CONFIG")[0]
        found = [given] if given else configurations(self.root)
        if len(found) > 1:
            what = f"several Alembic configurations: {', '.join(found)}"
            remedy = (
                f'choose one: `backset -c {found[0]} …`, or [tool.backset] config = "{found[0]}"'
            )
            self.problems.append((what, remedy))
        return str(found[0]) if found else ""

    def _target(self) -> Target | None:
        url, source = self._lookup("DATABASE_URL")
        self.sources["DATABASE_URL"] = source
        try:
            target = Target.parse(url, f"{source}: DATABASE_URL") if url else None
        except SettingsError as error:
            self.problems += error.problems
            return None
        for name, keyword in (("PGHOST", "host"), ("PGHOSTADDR", "hostaddr")):
            if target and keyword not in target.params and "," in self.environ.get(name, ""):
                self.problems.append((f"the environment: {name} names several hosts", ONE_HOST))
        return target

    def _is_throw_away(self, target: Target) -> bool:
        """Tell whether a rehearsal has told us of the very server that the target is on."""
        where = f"{target.params.get('host')}:{target.params.get('port')}"
        return self.environ.get(THROW_AWAY) == where

    def _python(self, wanted: str, config: str) -> str:
        if not wanted:
            wanted, self.sources["python"] = interpreter(self.root, self.environ, config)
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


def _words(text: str) -> list[str]:
    """Return the words of a command line, or of a list as pyproject.toml has it."""
    try:
        return tomllib.loads(f"it = {text}")["it"] if text.startswith("[") else shlex.split(text)
    except ValueError:
        raise ValueError("a command line whose quotes are closed") from None


def _guess(shown: str, key: str) -> str:
    near = next(iter(difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)), None)
    if near is None:
        return f"known keys: {', '.join(KEYS)}"
    return f"did you mean {(near if shown == key else PREFIX + near.upper())!r}?"


_FIRST = "migrations/alembic.ini"  # where Flask-Migrate puts it
_ENV = "env.py"
_NEVER = frozenset({"node_modules", "site-packages", "venv", "build", "dist"})
_ASIDE = frozenset({"test", "tests", "testing", "example", "examples", "doc", "docs"})
_DEPTH = 6  # folders below the root: packages put it beside the module that needs it
_PROGRAMS = ("bin/python", "Scripts/python.exe")  # POSIX, Windows


def configurations(root: Path) -> list[str]:
    """Return the files that can be it, seen from `root`: one of them, if the choice is clear.

    An empty text stands for what the `alembic` command finds by itself in `root`. One of tests or
    of examples is it only where there is no other. A project that configures Alembic in its own
    code has no such file: the env.py beside its scripts stands for it.
    """
    if (root / "alembic.ini").is_file() or _has_table(root / "pyproject.toml"):
        return [""]
    if (root / _FIRST).is_file():
        return [_FIRST]
    found = sorted(path.relative_to(root) for path in _below(root))
    files = [path for path in found if path.name != _ENV] or found
    ours = [path for path in files if _ASIDE.isdisjoint(path.parts)]
    return [path.as_posix() for path in ours or files]


def _below(root: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(root):
        folder = Path(name)
        file = _file(folder, files) if folder != root else None
        if file:
            yield file
        if (file and file.name != _ENV) or len(folder.relative_to(root).parts) == _DEPTH:
            folders.clear()
        folders[:] = [each for each in folders if _is_of_the_project(folder / each)]


def _file(folder: Path, files: list[str]) -> Path | None:
    if "alembic.ini" in files:
        return folder / "alembic.ini"
    toml = folder / "pyproject.toml"
    if "pyproject.toml" in files and _has_table(toml):
        return toml
    has_scripts = _ENV in files and (folder / "versions").is_dir()
    return folder / _ENV if has_scripts else None


def _is_of_the_project(folder: Path) -> bool:
    """Tell its folders from those of installed packages: an environment can have any name."""
    name = folder.name
    return name[0] != "." and name not in _NEVER and not (folder / "pyvenv.cfg").is_file()


def _has_table(toml: Path) -> bool:
    return toml.is_file() and "[tool.alembic]" in toml.read_text(encoding="utf-8", errors="replace")


def interpreter(root: Path, environ: Mapping[str, str], config: str = "") -> tuple[str, str]:
    """Return an interpreter and where it was found: the first of an environment that is there.

    VIRTUAL_ENV comes first, as for every tool that is started in one; then the project's own, the
    nearest to `config`, its Alembic configuration: a repository can have one for each part.
    """
    for source, folder in _environments(root, (root / config).parent if config else root, environ):
        for program in _PROGRAMS:
            path = folder / program
            if path.is_file() or path.is_symlink():  # a broken link is to be mended, not passed by
                return str(path), source
    return sys.executable, "default"


def _environments(
    root: Path, start: Path, environ: Mapping[str, str]
) -> Iterator[tuple[str, Path]]:
    if active := environ.get("VIRTUAL_ENV"):
        yield "VIRTUAL_ENV", Path(active)
    for folder in _upwards(start, root):
        for name in (".venv", "venv"):
            yield os.path.relpath(folder / name, root), folder / name


def _upwards(start: Path, root: Path) -> Iterator[Path]:
    """Yield the folders from `start` up to the repository's, or to `root` where there is none."""
    folders = [start, *start.parents]
    last = next((each for each in folders if (each / ".git").exists()), root)
    for folder in folders:
        yield folder
        if folder == last:
            return
