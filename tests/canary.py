"""A password that every quoting must do something about, and the spellings that could leak it."""

from __future__ import annotations

import json
import re
import shlex
from urllib.parse import quote, quote_plus

CANARY = "can%ary:p@ss/word '\"x"


def spellings(secret: str) -> dict[str, str]:
    """Return how programs write a secret that has both kinds of quotes, by the spelling's name."""
    encoded = quote(secret, safe="")
    return {
        "raw": secret,
        "percent": encoded,
        "percent, lower case": "%".join(
            piece[:2].lower() + piece[2:] for piece in encoded.split("%")
        ),
        "percent, in part": quote(secret),
        "percent twice": quote(encoded, safe=""),
        "form": quote_plus(secret),
        "ini": encoded.replace("%", "%%"),
        "ini, raw": secret.replace("%", "%%"),
        "repr": repr(secret)[1:-1],
        "ascii": ascii(secret)[1:-1],
        "repr of repr": repr(repr(secret))[3:-3],
        "JSON": json.dumps(secret)[1:-1],
        "JSON, not ASCII": json.dumps(secret, ensure_ascii=False)[1:-1],
        "JSON of JSON": json.dumps(json.dumps(secret))[3:-3],
        "libpq": secret.replace("\\", "\\\\").replace("'", "\\'"),
        "SQL": secret.replace("'", "''"),
        "shell": shlex.quote(secret)[1:-1],
    }


# What acts on a terminal (it writes to the clipboard, and empties the screen), ends the line, and
# then looks like two commands of GitHub's runner.
ACTING = "\x1b]52;c;QQ\x07\x9b2J\r\n::error::x\n##[error]y"
_ACTS = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def acting(text: str) -> list[str]:
    """Return the lines of an output that would do something, and not only say it."""
    lines = text.removesuffix("\n").split("\n")
    return [
        ascii(line)
        for line in lines
        if _ACTS.search(line) or line.lstrip().startswith("::") or "##[" in line
    ]
