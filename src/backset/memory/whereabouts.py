"""Where the database is that only env.py knows: what it said last, as long as nothing has changed.

Asking costs an import of the application. The answer is `target.known`, among the backups. A
password is never in it: only the place where the password stands, such as a variable or a line.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from backset.errors import UnreachableError
from backset.memory import inputs
from backset.migrate import discovery
from backset.migrate.discovery import Discovery
from backset.migrate.worker import nothing
from backset.process import files
from backset.process.identity import age_s
from backset.settings.reader import on_embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backset.memory.inputs import Parts
    from backset.settings.settings import Settings

_NAME = "target.known"
_FORMAT = 2
_LARGEST_BYTES = 1_000_000
_VARIABLE = "variable"
_COMPILED = "__pycache__"
# How a text may have a password: as it is, as a URL has it, as that stands in an ini file.
_SPELLINGS: Mapping[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "": (str, str),
    "quoted": (lambda secret: quote(secret, safe=""), unquote),
    "doubled": (
        lambda secret: quote(secret, safe="").replace("%", "%%"),
        lambda text: unquote(text.replace("%%", "%")),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a password stands: in a variable or a file of that name, and in which spelling."""

    kind: str
    name: str
    start: int
    end: int
    spelling: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What env.py opened without the password, where that stands, and what all of it depends on."""

    opened: dict[str, Any]
    password: _Place | None
    account: dict[str, Any]
    parts: Parts
    format: int = _FORMAT


def find(settings: Settings, meanwhile: Callable[[], object] = nothing) -> Discovery:
    """Return which database the project means, as discovery.find() does; ask only if need be."""
    return recalled(settings) or discovery.find(settings, meanwhile)


@contextmanager
def aimed(settings: Settings, meanwhile: Callable[[], object]) -> Iterator[Settings]:
    """Give the block the settings with that database; remember it, unless nobody reaches it."""
    found = find(settings, meanwhile)
    try:
        yield found.settings
    except UnreachableError:
        if found.is_remembered:  # it may be elsewhere by now
            (settings.backups / _NAME).unlink(missing_ok=True)
        raise
    finally:
        remember(found)


def remember(found: Discovery) -> None:
    """Let the next run know what was found, if no password is lost with it. Raises nothing.

    Where there is no folder of backups yet, none is made: a task that looks writes nothing.
    """
    settings, account = found.settings, found.account
    if found.is_remembered or not account or account["unknown"] or not settings.backups.is_dir():
        return
    account = inputs.outside(_without(account, found.scripts), [settings.backups])
    opened = dict(found.opened)
    secret = opened.pop("password", None)
    place = _place_of(str(secret), settings, account) if secret else None
    if secret and place is None:
        return
    chosen = inputs.chosen_files(settings.root, settings.inputs)
    if inputs.restless(account, chosen, time.time_ns() - int(age_s() * 1e9)):
        return
    parts = _parts(settings, account)
    record = _Record(opened=opened, password=place, account=account, parts=parts)
    with suppress(OSError):
        files.write(settings.backups / _NAME, json.dumps(asdict(record)))


def recalled(settings: Settings) -> Discovery | None:
    """Return what env.py has said before, as long as nothing has changed since then."""
    record = _read(settings.backups / _NAME)
    if record is None or _parts(settings, record.account) != record.parts:
        return None
    opened = dict(record.opened)
    if not opened:  # env.py waits for a URL: the embedded server is meant, once it is there
        from backset.servers import location

        if not location.project_cluster(settings.root).data.exists():
            return None
        return Discovery(on_embedded(settings), is_remembered=True)
    if record.password is not None:
        opened["password"] = _read_password(record.password, settings)
    return Discovery(discovery.aimed(settings, opened), opened, is_remembered=True)


def _read(path: Path) -> _Record | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == _FORMAT:
            place = content.pop("password")
            return _Record(**content, password=_Place(**place) if place else None)
    return None


def _parts(settings: Settings, account: Mapping[str, Any]) -> Parts:
    environ = settings.plain_env
    return {
        **inputs.of_files(settings, account),
        **inputs.of_environment(settings, account, environ),
    }


def _without(account: Mapping[str, Any], scripts: tuple[Path, ...]) -> dict[str, Any]:
    """Leave out the scripts of revisions: they come and go, and say nothing of the database.

    So does their byte code, whose folder is read with them.
    """
    paths = set(map(str, scripts))
    compiled = tuple(f"{each}/{_COMPILED}" for each in paths)
    trimmed = {
        key: {
            path: what
            for path, what in account[key].items()
            if path not in paths and not path.startswith(compiled)
        }
        for key in ("files", "looks", "folders")
    }
    return {**account, **trimmed}


def _place_of(secret: str, settings: Settings, account: Mapping[str, Any]) -> _Place | None:
    """Return where a password stands; None if nobody can tell, as of a token that was fetched."""
    for kind, name, text in _texts(settings, account):
        for spelling, (spelled, _) in _SPELLINGS.items():
            start = text.find(spelled(secret))
            if start >= 0:
                end = start + len(spelled(secret))
                return _Place(kind=kind, name=name, start=start, end=end, spelling=spelling)
    return None


def _texts(settings: Settings, account: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what a password may stand in, and what its parts have a hash of."""
    read = settings.plain_env
    names = inputs.counted(account, read)
    yield from ((_VARIABLE, name, read[name]) for name in names if name in read)
    for path, kind in account["files"].items():
        if kind == "f" and not path.endswith(".pyc"):
            yield "file", path, _text(path)


def _text(path: str) -> str:
    try:
        file = Path(path)
        return file.read_text("utf-8") if file.stat().st_size < _LARGEST_BYTES else ""
    except (OSError, ValueError):
        return ""


def _read_password(place: _Place, settings: Settings) -> str:
    is_variable = place.kind == _VARIABLE
    text = settings.plain_env[place.name] if is_variable else _text(place.name)
    return _SPELLINGS[place.spelling][1](text[place.start : place.end])
