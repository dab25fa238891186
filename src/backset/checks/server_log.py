"""Reads in the server's log what went wrong for this run, where that can be read, or says why not.

A migration or a seed command can swallow an error; the server's log still has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from backset.checks import log_lines
from backset.errors import Finding
from backset.processes.identity import age_s, run_mark
from backset.servers.cluster import LOG_LINE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backset.connections.session import Session

KIND = "server error"
_PIECE_BYTES, _MOST_BYTES = 65_536, 8_388_608


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the log has given: the errors of this run, or why there was nothing to see."""

    errors: tuple[str, ...] = ()
    unread: str = ""

    def __str__(self) -> str:
        if self.unread:
            return f"server's log not readable: {self.unread}"
        return "" if self.errors else "no error of this run in the server's log"

    def content(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "readable": not self.unread,
            "why": self.unread or None,
            "errors": list(self.errors),
        }

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
    form = next((each for each in log_lines.FORMS if each in destination), "")
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
    if form == "stderr" and not log_lines.names_applications(prefix):
        return "log_line_prefix has no %a, so nothing in it can be attributed to this run"
    if language and not language.startswith(("C", "POSIX", "en")):
        return f"it is written in {language} (lc_messages)"
    return f"the role may not run {' and '.join(barred)}" if barred else ""


def _look(form: str, text: str, since: str, prefix: str) -> Look:
    found = log_lines.errors(form, text, mark=run_mark(), since=since, prefix=prefix)
    return Look(tuple(found))


def _since(since: str, size: int, read: Callable[[int, int], bytes]) -> str:
    """Read backwards from the end until something older than this run is seen."""
    length = min(size, _PIECE_BYTES)
    text = ""
    while length:
        text = read(size - length, length).decode("utf-8", "replace")
        if log_lines.begins_before(text, since) or length in {size, min(size, _MOST_BYTES)}:
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
