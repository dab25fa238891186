"""Pure: blanks passwords in a text, however it spells them; knows a secret column by its name."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST_SECRET = 4  # blanking a shorter one would spoil every message
_BLANK = "***"
_SECRET_NAME = re.compile(r"password|passwd|secret|token|api_?key|hash|salt", re.IGNORECASE)
_IN_A_URL = re.compile(r"(://[^\s:/@]*:)[^\s@/]*@")
_AS_A_KEYWORD = re.compile(r"(\b(?:ssl)?password=)(?:'(?:[^'\\]|\\.)*'|[^&\s]+)")


def blank(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without these secrets, and without any password inside a URL."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = _pattern(secret).sub(_BLANK, text)
    text = _IN_A_URL.sub(rf"\1{_BLANK}@", text)
    return _AS_A_KEYWORD.sub(rf"\1{_BLANK}", text)


def value(column: str, text: str) -> str:
    """Return a value of a column as a message may show it: not where the name says it is secret."""
    return _BLANK if _SECRET_NAME.search(column) else text


@cache
def _pattern(secret: str) -> re.Pattern[str]:
    return re.compile("".join(map(_spellings, secret)))


def _spellings(character: str) -> str:
    """Return a pattern for one character of a secret, in each spelling that programs print.

    As it is, or doubled (SQL, ini files); after backslashes (repr, JSON, libpq); percent-encoded,
    `%` itself as `%%` or `%25`; as an escape of Python or JSON; quoted for a shell.
    """
    bare = re.escape(character)
    encoded = "".join(f"%%?(?:25)?(?i:{byte:02x})" for byte in character.encode())
    escapes = (re.escape(each(character)[1:-1]) for each in (ascii, json.dumps))
    several = [each.replace(r"\\", r"\\+") for each in escapes]  # escaped twice, or more often
    spellings = [encoded, *several, rf"\\*{bare}"]
    if character in "'\"%":
        spellings.insert(0, f"{bare}{bare}")
    if character == "'":
        spellings.insert(0, re.escape("'\"'\"'"))
    if character == " ":
        spellings.append(r"\+")
    return f"(?:{'|'.join(spellings)})"
