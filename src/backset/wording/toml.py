"""TOML as people paste it into pyproject.toml. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backset.errors import Setting

BLANK = "…"  # in the place of what only the user knows


def string(text: str) -> str:
    """Return a basic string of TOML, which is one of JSON, too."""
    return json.dumps(text, ensure_ascii=False)


def block(settings: Iterable[Setting]) -> list[str]:
    """Return the lines for settings, each under the header of its table.

    What only the user knows is a comment: so it can be pasted as it is.
    """
    tables: dict[str, list[Setting]] = {}
    for each in settings:
        tables.setdefault(each.table, []).append(each)
    lines: list[str] = []
    for table, wanted in tables.items():
        lines += [*([""] if lines else []), f"[{table}]", *_lines(wanted)]
    return lines


def _lines(settings: Iterable[Setting]) -> Iterator[str]:
    lists: dict[str, list[str]] = {}
    for each in settings:
        if each.advice:
            yield f"# {each.advice}"
        if isinstance(each.value, tuple):
            lists.setdefault(each.key, []).extend(each.value)
        else:
            yield f"{'# ' if BLANK in each.value else ''}{each.key} = {each.value}"
    for key, values in lists.items():
        yield f"{key} = [{', '.join(dict.fromkeys(values))}]"
