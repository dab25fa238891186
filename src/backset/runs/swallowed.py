"""The errors that somebody swallowed: those of this run in the server's log, each told once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backset.checks import server_log
from backset.servers import embedded, location

if TYPE_CHECKING:
    from backset.runs.build import Build


def look(build: Build, *, asked: bool) -> server_log.Look:
    """Look for errors of this run that were not told yet.

    The log of the embedded PostgreSQL is a file of ours. Any other server has to be asked, which
    costs a round trip, and is done where somebody wants that.
    """
    cluster = embedded.project_cluster(build.settings.root)
    if location.is_embedded(build.target, cluster):
        found = server_log.of_file(cluster.log)
    elif asked or build.settings.server_log:
        found = server_log.of_server(build.session)
    else:
        return server_log.NOT_ASKED
    told = (build.settings.redact(build.target, each) for each in found.errors)
    new = tuple(each for each in told if each not in build.heard)
    build.heard |= set(new)
    return replace(found, errors=new)
