"""The mark of a run in place, after a crash of the server."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from backset.connections.target import Target
from backset.runs import notes
from backset.runs.run import Run
from backset.servers.server import Server
from backset.settings.reader import load
from tests.clusters import crash

if TYPE_CHECKING:
    from pathlib import Path

    from backset.servers.cluster import Cluster


def test_a_number_that_a_crash_has_forgotten_is_not_taken_for_another(
    fragile: Cluster, tmp_path: Path
) -> None:
    """Nothing was dropped; but a transaction that came after the crash could have its number."""
    target = Target.parse(fragile.url("live"))
    settings = load(tmp_path, {"DATABASE_URL": target.url})
    with Run(settings, target, "test", beside=False) as run:
        run.open()
        run.current.session().execute("BEGIN")
        notes.note_unfinished(run, login=False)
        crash(fragile)
    with Run(settings, target, "test", beside=False) as run:
        run.open()
        mark = notes.unfinished(run)
        assert mark is not None
        assert not notes.has_cleared(run.server.session, mark)
        for _ in range(20):
            run.server.session.execute("SELECT pg_current_xact_id()")
        assert not notes.has_cleared(run.server.session, mark)


def test_a_number_that_the_server_has_not_reached_is_not_an_error(
    fragile: Cluster, tmp_path: Path
) -> None:
    """A server that was set back to an earlier state has dropped nothing since."""
    with Server(Target.parse(fragile.url("live")), "test") as server, closing(server.session):
        assert not notes.has_cleared(server.session, {"transaction": "4000000000"})
