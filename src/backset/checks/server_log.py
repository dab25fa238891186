"""Reads in the server's log what went wrong for this run, where that can be read, or says why not.

A migration or a seed command can swallow an error; the server's log still has it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backset.described import described, key, told
from backset.errors import Finding
from backset.process.identity import age_s, run_mark
from backset.servers.cluster import LOG_LINE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backset.connections.session import Session

KIND = "server error"
_PIECE_BYTES, _MOST_BYTES = 65_536, 8_388_608
_SEVERITIES = ("ERROR", "FATAL", "PANIC")
_OUR_OWN = "terminating connection due to"  # what a session of ours hears when we end it
_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?"
_MOMENT_CHARS = 23  # `2026-11-22 18:03:00.123`, which is compared as a text
# Columns of csvlog (PostgreSQL's documentation, 19.8.4); later versions add some at the end.
_CSV_SEVERITY, _CSV_MESSAGE, _CSV_APPLICATION = 11, 13, 22


@described()
class Look:
    """What the server's log has of this run, in the steps `verify` and `seed`."""

    errors: tuple[str, ...] = key("the errors of this run that no step before has told", default=())
    unread: str = key("why it was not read; null where it was", "why", null=True, default="")

    def __str__(self) -> str:
        if self.unread:
            return f"server's log not readable: {self.unread}"
        return "" if self.errors else "no error of this run in the server's log"

    @property
    @told("whether it was read")
    def readable(self) -> bool:
        """Whether there was something to see."""
        return not self.unread

    def findings(self) -> list[Finding]:
        """Return a finding for each error."""
        return [
            Finding(
                kind=KIND,
                name=error.partition(": ")[2],
                what=f"the server's log has of this run: {error}",
                why="whoever caused it went on",
                remedy="look at the migration or seed command that it is about",
            )
            for error in self.errors
        ]


NOT_ASKED = Look(unread="nobody asked ([tool.backset] server_log = true does)")


def of_file(path: Path) -> Look:
    """Look into the log of the embedded PostgreSQL, which costs no question to the server."""
    since = (datetime.now(UTC) - timedelta(seconds=age_s())).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    try:
        with path.open("rb") as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            text = _since(since, path.stat().st_size, read)
    except OSError as error:
        return Look(unread=f"{path.name}: {error.strerror}")
    return _look("stderr", text, since, LOG_LINE_PREFIX)


def of_server(session: Session) -> Look:
    """Look into the log through the server, as far as it writes one and the role may read it."""
    facts = session.execute(_FACTS, [age_s()]).fetchall()
    (collects, destination, prefix, language, barred, since) = facts[0]
    form = next((each for each in _READABLE if each in destination), "")
    unread = _hindrance(form, prefix, language, barred, collects=collects)
    if unread:
        return Look(unread=unread)
    path, size = session.execute(_FILE, [form]).fetchone() or (None, None)
    if size is None:
        return Look(unread="the server does not say which file it is")

    def read(offset: int, length: int) -> bytes:
        piece = session.execute(_READ, [path, offset, length]).fetchone() or (b"",)
        return bytes(piece[0] or b"")

    return _look(form, _since(since, size, read), since, prefix)


def _hindrance(
    form: str, prefix: str, language: str, barred: Sequence[str], *, collects: bool
) -> str:
    if not form:
        return "it goes to the system's log (log_destination)"
    if not collects:
        return "the server leaves it to who started it (logging_collector is off)"
    if form == "stderr" and not names_applications(prefix):
        return "log_line_prefix has no %a, so nothing in it can be attributed to this run"
    if language and not language.startswith(("C", "POSIX", "en")):
        return f"it is written in {language} (lc_messages)"
    return f"the role may not run {' and '.join(barred)}" if barred else ""


def _look(form: str, text: str, since: str, prefix: str) -> Look:
    found = errors(form, text, mark=run_mark(), since=since, prefix=prefix)
    return Look(tuple(found))


def _since(since: str, size: int, read: Callable[[int, int], bytes]) -> str:
    """Read backwards from the end until something older than this run is seen."""
    length = min(size, _PIECE_BYTES)
    text = ""
    while length:
        text = read(size - length, length).decode("utf-8", "replace")
        if begins_before(text, since) or length in {size, min(size, _MOST_BYTES)}:
            break
        length = min(size, length * 4, _MOST_BYTES)
    return text


_FACTS = """
SELECT current_setting('logging_collector')::bool, current_setting('log_destination'),
       current_setting('log_line_prefix'), current_setting('lc_messages'),
       ARRAY(SELECT each FROM unnest(ARRAY[
           'pg_current_logfile(text)', 'pg_stat_file(text, boolean)',
           'pg_read_binary_file(text, bigint, bigint, boolean)']) AS each
             WHERE NOT has_function_privilege('pg_catalog.' || each, 'EXECUTE')),
       to_char((clock_timestamp() - make_interval(secs => %s))
               AT TIME ZONE current_setting('log_timezone'), 'YYYY-MM-DD HH24:MI:SS.MS')
"""
_FILE = """
SELECT path, (pg_catalog.pg_stat_file(path, true)).size
FROM pg_catalog.pg_current_logfile(%s::text) AS path
"""
_READ = "SELECT pg_catalog.pg_read_binary_file(%s, %s, %s, true)"


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
            if severity in _SEVERITIES
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
_Entry = tuple[str, str, str, str]  # moment, application, severity, message


def _from_stderr(text: str, prefix: str, mark: str) -> Iterator[_Entry]:
    severity = "|".join(_SEVERITIES)
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


def _from_csv(text: str, _prefix: str, _mark: str) -> Iterator[_Entry]:
    start = re.search(rf"^{_TIME} [^,]+,", text, re.MULTILINE)
    rows = csv.reader(io.StringIO(text[start.start() :] if start else ""))
    for row in rows:
        if len(row) > _CSV_APPLICATION:
            yield row[0], row[_CSV_APPLICATION], row[_CSV_SEVERITY], row[_CSV_MESSAGE]


def _from_json(text: str, _prefix: str, _mark: str) -> Iterator[_Entry]:
    keys = ("timestamp", "application_name", "error_severity", "message")
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            moment, application, severity, message = (str(entry.get(key, "")) for key in keys)
        except (ValueError, AttributeError):  # the first line of a piece may be cut
            continue
        yield moment, application, severity, message


_FORMS: dict[str, Callable[[str, str, str], Iterator[_Entry]]] = {
    "jsonlog": _from_json,
    "csvlog": _from_csv,
    "stderr": _from_stderr,
}
_READABLE = tuple(_FORMS)  # the easiest to read first
