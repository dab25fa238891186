"""Texts of others on their way to a terminal or into a log, where parts of them would act. Pure."""

from __future__ import annotations

import re

# Control characters, other ends of lines, what turns the direction of writing, halves of pairs.
_ACTING = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def line(text: str) -> str:
    """Return a text as one line that says what it has, and does nothing.

    What would act on a terminal is there as Python's escape. So is a part of what GitHub's runner
    would take for a command: `::` behind nothing but spaces, and `##[` anywhere.
    """
    if not text.isprintable():
        text = _ACTING.sub(lambda found: ascii(found[0])[1:-1], text)
    return no_command(text)


def no_command(text: str) -> str:
    """Return a text without a command of GitHub's runner, and with all of its other characters.

    For the runner a carriage return ends a line, too.
    """
    text = text.replace("##[", r"##\u005b")  # an escape of Python, of JSON and of TOML
    return "".join(map(_without_colon, text.splitlines(keepends=True)))


def _without_colon(text: str) -> str:
    rest = text.lstrip()
    return rf"{text[: -len(rest)]}\u003a{rest[1:]}" if rest.startswith("::") else text


def escaped(text: str) -> str:
    """Return a text in which what would act is an escape of JSON and of TOML."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
