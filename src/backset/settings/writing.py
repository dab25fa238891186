"""Puts settings into pyproject.toml, whose form, comments and order stay as they are."""

from __future__ import annotations

import difflib
import json
import os
import stat
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.errors import StepFailedError
from backset.process import files
from backset.text import pasted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from backset.errors import Setting

NAME = "pyproject.toml"
_BY_HAND = "put these lines there yourself, then run this again"


@dataclass(frozen=True, slots=True)
class Change:
    """What would become of a file: `path` with its text before and after."""

    path: Path
    before: str
    after: str

    def diff(self) -> list[str]:
        """Return the lines of a unified diff; none where nothing would change."""
        before, after = self.before.splitlines(), self.after.splitlines()
        return [*difflib.unified_diff(before, after, NAME, NAME, lineterm="", n=2)]

    def make(self) -> None:
        """Write the file. Raises StepFailedError, OSError."""
        if text(self.path) != self.before:
            raise StepFailedError(f"{NAME} has been changed meanwhile", "run this again")
        replace(self.path.resolve(), self.after)


def replace(path: Path, text: str) -> None:
    """Put a text in the place of a file, which keeps its mode; one that is read-only stays so.

    Raises OSError.
    """
    if path.exists():
        path.open("r+b").close()  # renaming alone would not ask whether we may write to it
    with files.replacing(path, mode=0o666) as file:
        if path.exists():
            os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
        file.write(text.encode())


def text(path: Path) -> str:
    """Return the text of a file with its own ends of lines; empty where there is none."""
    if not path.exists():
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


def change(root: Path, settings: Iterable[Setting]) -> Change:
    """Return what the settings make of a project's file; those that are open are left out.

    Raises StepFailedError where the file cannot be changed without touching anything else in it.
    """
    path = root / NAME
    before = text(path)
    chosen = [each for each in settings if not pasted.is_open(each)]
    wanted = tomllib.loads(before)
    for each in chosen:
        _put(_inner(wanted, each.table, lambda _outer: {}), each, _value)
    after = _with(before, chosen)
    if not _is(after, wanted):
        what = f"{NAME} has [tool.backset] in a form that cannot be added to"
        raise StepFailedError(what, _BY_HAND)
    return Change(path, before, after)


def _with(before: str, settings: Iterable[Setting]) -> str:
    """Return the text of a file with settings in it; whether it is right, is for others to see."""
    import tomlkit  # noqa: PLC0415  (for this alone)
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415

    def inner(outer: Any) -> Any:  # noqa: ANN401  (of several kinds)
        is_inline = isinstance(outer, tomlkit.items.InlineTable)
        return tomlkit.inline_table() if is_inline else tomlkit.table(is_super_table=outer is whole)

    try:
        whole = tomlkit.parse(before)
        for each in settings:
            _put(_inner(whole, each.table, inner), each, tomlkit.value)
        return tomlkit.dumps(whole)
    except (TOMLKitError, ValueError, TypeError):
        return ""


def _put(table: dict[str, Any], setting: Setting, value: Callable[[str], Any]) -> None:
    """Let a table have a setting; a list keeps what it has, and gets what it lacks."""
    key = json.loads(setting.key) if setting.key.startswith('"') else setting.key
    if isinstance(setting.value, str):
        table[key] = value(setting.value)
        return
    if not isinstance(table.get(key), list):
        table[key] = value("[]")
    for each in (*setting.already, *setting.value):
        if value(each) not in table[key]:
            table[key].append(value(each))


def _inner(document: Any, name: str, make: Callable[[Any], Any]) -> Any:  # noqa: ANN401  (of two libraries)
    """Return a table in a document; where there is none, it is made of the one around it."""
    for word in name.split("."):
        if word not in document:
            document[word] = make(document)
        document = document[word]
    return document


def _value(text: str) -> Any:  # noqa: ANN401  (any of TOML)
    return tomllib.loads(f"it = {text}")["it"]


def _is(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False
