"""The task that waits for the server."""

from __future__ import annotations

from backset.cli import WOULD_START, opened
from backset.errors import SettingsError


def wait(*, timeout: str, plan: bool) -> None:
    """Return when the target's server serves; exit 4 when it does not in time."""
    with opened("wait") as (settings, told):
        from backset.runs.guard import LONGEST_S
        from backset.servers import location, service

        if not timeout.isdecimal() or int(timeout) > LONGEST_S:
            what = f"--timeout is {timeout!r}"
            raise SettingsError([(what, "say it in seconds, such as --timeout 60")])
        target = location.peek(settings) if plan else location.locate(settings)
        if plan or target is None:
            told.say(f"would wait for {target.shown}" if target else WOULD_START)
            return
        major = service.wait(target, int(timeout), lambda words: told.say(f"waiting: {words}"))
        told.say(f"PostgreSQL {major} serves · {target.shown}")
