"""SQL and TOML as people paste it: names, texts, and lines for pyproject.toml. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING

from backset.text import redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backset.errors import Setting

_PLAIN = re.compile("[a-z_][a-z0-9_]*")
# Of pg_get_keywords(): what SQL does not read as the name of a table or column. `user` would be
# read as the login, without an error.
_RESERVED = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check
    collate collation column concurrently constraint create cross current_catalog current_date
    current_role current_schema current_time current_timestamp current_user default deferrable
    desc distinct do else end except false fetch for foreign freeze from full grant group having
    ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps
    placing primary references returning right select session_user similar some symmetric
    system_user table tablesample then to trailing true union unique user using variadic verbose
    when where window with
    """.split()  # noqa: SIM905  (a list has a line for each)
)
_PART = re.compile(r'"(?:[^"]|"")*"|[^".]+')


def quoted(*names: str) -> str:
    """Return a name, with its schema before it."""
    return ".".join('"' + each.replace('"', '""') + '"' for each in names)


def quoted_if_needed(*names: str) -> str:
    """Return the same; a name is not quoted where SQL reads it as it is."""
    return ".".join(
        each if _PLAIN.fullmatch(each) and each not in _RESERVED else quoted(each) for each in names
    )


def literal(text: str) -> str:
    """Return a text; a backslash stands for itself, as the server has it by default."""
    return "'" + text.replace("'", "''") + "'"


def parts(identity: str) -> list[str]:
    """Return the names in one with dots between, such as `public."a.b"`, as they are spelled."""
    return _PART.findall(identity)


def bare(name: str) -> str:
    """Return a name as it is, of one that the server has quoted where it must be."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


BLANK = "…"  # in the place of what only the user knows


def string(text: str) -> str:
    """Return a basic string of TOML, which is one of JSON, too; what would act is escaped in it."""
    return redaction.escaped(json.dumps(text, ensure_ascii=False))


def listed(values: Iterable[str]) -> str:
    """Return a list, each value of it once."""
    return f"[{', '.join(dict.fromkeys(values))}]"


def is_open(setting: Setting) -> bool:
    """Tell whether only the user can say whether it is right, or what its value is."""
    return setting.is_choice or BLANK in setting.value


def block(settings: Iterable[Setting], onto: str = "") -> list[str]:
    """Return the lines for settings, each under the header of its table.

    So they can be put at the end of a file with the text `onto` as they are. What only the user
    knows, or can choose, is a comment, and so is what goes under a header that is there already.
    """
    tables: dict[str, list[Setting]] = {}
    for each in settings:
        tables.setdefault(each.table, []).append(each)
    lines: list[str] = []
    for table, wanted in tables.items():
        more = [*([""] if lines else []), f"[{table}]", *_lines(wanted)]
        lines += more if _is_whole([onto, *lines, *more]) else _commented(table, more)
    return lines


def _is_whole(lines: Iterable[str]) -> bool:
    try:
        tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True


def _commented(table: str, lines: Iterable[str]) -> Iterator[str]:
    for each in lines:
        if each == f"[{table}]":
            yield f"# under the header {each}, which is there already:"
        else:
            yield each if each.startswith("#") or not each else f"# {each}"


def _lines(settings: Iterable[Setting]) -> Iterator[str]:
    lists: dict[str, list[Setting]] = {}
    for each in settings:
        if isinstance(each.value, tuple):
            lists.setdefault(each.key, []).append(each)
            continue
        advice = f"  # {redaction.printable(each.advice)}" if each.advice else ""
        yield f"{'# ' if is_open(each) else ''}{each.key} = {each.value}{advice}"
    for key, wanted in lists.items():
        yield from _list(key, wanted)


def _list(key: str, settings: Iterable[Setting]) -> Iterator[str]:
    chosen: dict[str, None] = {}
    choices: dict[str, str] = {}
    for each in settings:
        chosen |= dict.fromkeys(each.already)
        if is_open(each):
            choices |= dict.fromkeys(each.value, each.advice)
        else:
            chosen |= dict.fromkeys(each.value)
    if not choices:
        yield f"{key} = {listed(chosen)}"
        return
    yield f"{key} = ["
    yield from (f"    {each}," for each in chosen)
    yield from (f"    # {each},  # {redaction.printable(why)}" for each, why in choices.items())
    yield "]"
