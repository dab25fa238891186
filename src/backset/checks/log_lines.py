"""What a server's log says: the errors of one run, in each of the log's three forms. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEVERITIES = ("ERROR", "FATAL", "PANIC")
_OUR_OWN = "terminating connection due to"  # what a session of ours hears when we end it
_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?"
_MOMENT_CHARS = 23  # `2026-11-22 18:03:00.123`, which is compared as a text
# Columns of csvlog (PostgreSQL's documentation, 19.8.4); later versions add some at the end.
_CSV_SEVERITY, _CSV_MESSAGE, _CSV_APPLICATION = 11, 13, 22


def errors(form: str, text: str, *, mark: str, since: str, prefix: str = "") -> list[str]:
    """Return `SEVERITY: message` of each error of the run, once each, in their order.

    form: `stderr`, `csvlog` or `jsonlog`. text: a piece of the log; its first line may be cut.
    mark: what application names of the run have in them. since: the moment from which on entries
    count, in the log's own time zone. prefix: the server's log_line_prefix.
    """
    found = _FORMS[form](text, prefix, mark)
    return list(
        dict.fromkeys(
            f"{severity}: {message}"
            for moment, application, severity, message in found
            if severity in SEVERITIES
            and mark in application
            and (not moment or moment[:_MOMENT_CHARS] >= since[: len(moment)])
            and not message.startswith(_OUR_OWN)
        )
    )


def begins_before(text: str, since: str) -> bool:
    """Tell whether a piece of the log has an entry that is older than `since`."""
    first = re.search(_TIME, text)
    return first is not None and first[0][:_MOMENT_CHARS] < since[: len(first[0])]


def names_applications(prefix: str) -> bool:
    """Tell whether a log_line_prefix has the application's name in it."""
    return re.search(r"(?<!%)(%%)*%-?\d*a", prefix) is not None


_CLIENT = r"(?: - \S+)?"  # what PgBouncer can add to a name (application_name_add_host)
Entry = tuple[str, str, str, str]  # moment, application, severity, message


def _from_stderr(text: str, prefix: str, mark: str) -> Iterator[Entry]:
    severity = "|".join(SEVERITIES)
    pattern = f"^{_pattern(prefix, mark)}(?P<severity>{severity}):  (?P<message>.*)$"
    for found in re.finditer(pattern, text, re.MULTILINE):
        named = found.groupdict()
        yield named.get("time") or "", named["application"], found["severity"], found["message"]


def _pattern(prefix: str, mark: str) -> str:
    """Return a log_line_prefix as a regular expression for the lines of one run.

    Its end is a part of it, since what stands beside the name may look like a piece of it.
    """
    moment = f"{_TIME} [^ ]+"
    known = {"m": moment, "t": moment, "%": "%", "q": ""}
    pieces: list[str] = []
    for literal, escape in re.findall(r"([^%]+)|%-?\d*(.)", prefix):
        piece = re.escape(literal) if literal else known.get(escape, ".*?")
        if escape == "a":
            again = any("<application>" in each for each in pieces)
            piece = (
                "(?P=application)" if again else f"(?P<application>.*?{re.escape(mark)}{_CLIENT})"
            )
        elif escape in {"m", "t"} and not any("<time>" in each for each in pieces):
            piece = f"(?P<time>{_TIME}) [^ ]+"
        pieces.append(piece if literal or escape in "%q" else f" *{piece} *")
    return "".join(pieces)


def _from_csv(text: str, _prefix: str, _mark: str) -> Iterator[Entry]:
    start = re.search(rf"^{_TIME} [^,]+,", text, re.MULTILINE)
    rows = csv.reader(io.StringIO(text[start.start() :] if start else ""))
    for row in rows:
        if len(row) > _CSV_APPLICATION:
            yield row[0], row[_CSV_APPLICATION], row[_CSV_SEVERITY], row[_CSV_MESSAGE]


def _from_json(text: str, _prefix: str, _mark: str) -> Iterator[Entry]:
    keys = ("timestamp", "application_name", "error_severity", "message")
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            moment, application, severity, message = (str(entry.get(key, "")) for key in keys)
        except (ValueError, AttributeError):  # the first line of a piece may be cut
            continue
        yield moment, application, severity, message


_FORMS: dict[str, Callable[[str, str, str], Iterator[Entry]]] = {
    "jsonlog": _from_json,
    "csvlog": _from_csv,
    "stderr": _from_stderr,
}
FORMS = tuple(_FORMS)  # the easiest to read first
