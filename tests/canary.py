"""A password that every quoting must do something about, and the spellings that could leak it."""

from __future__ import annotations

import json
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
