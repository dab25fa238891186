"""Refuses to write where sessions of our login only read, before anything is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.errors import RefusedError
from backset.runs import login
from backset.runs.policy import quoted
from backset.servers.read_only import SETTING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backset.runs.build import Build

_WRITERS = frozenset({"upgrade", "seed", "stamp", "drop_indexes"})


def refuse(build: Build, steps: Iterable[str]) -> None:
    """Refuse steps that work on the target itself, which is not rebuilt. Raises RefusedError.

    steps: their names.
    """
    name, writing = build.target.database, sorted(_WRITERS.intersection(steps))
    if build.old is None or not writing or login.is_set(build.server.session, name):
        return
    reads, source, role = build.live.execute(_EFFECTIVE, [SETTING]).fetchone() or (False, "", "")
    if not reads:
        return
    whose = {
        "database": f"ALTER DATABASE {quoted(name)}",
        "user": f"ALTER ROLE {quoted(role)}",
        "database user": f"ALTER ROLE {quoted(role)} IN DATABASE {quoted(name)}",
    }
    remedy = f"{whose[source]} RESET {SETTING}" if source in whose else f"turn {SETTING} off"
    what = f"sessions of {role} only read in {name} ({SETTING} is on), and {writing[0]} writes"
    raise RefusedError([(what, f"if that is over: {remedy}")])


_EFFECTIVE = "SELECT setting::bool, source, session_user FROM pg_settings WHERE name = %s"
