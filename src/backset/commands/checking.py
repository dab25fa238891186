"""The task that tries the migrations where no database of anybody's is needed."""

from __future__ import annotations

from dataclasses import replace

from backset.cli import opened


def check(*, as_json: bool, plan: bool) -> None:
    """Build the chain on a throw-away server, and hold it against the models; exit 4 or 6."""
    with opened("check", as_json=as_json) as (settings, told):
        from backset import chain
        from backset.configuration.reader import on_embedded
        from backset.connections.target import Target
        from backset.runs.build import Build
        from backset.runs.guard import Answer
        from backset.runs.options import Options
        from backset.servers import service

        if plan:
            where, what = "on a throw-away server", "would compare that with the models"
            told.plan([("upgrade", f"would build the chain {where}"), ("verify", what)])
            return
        with service.throw_away(settings.database) as server:
            target = Target.parse(server.url)
            here = replace(on_embedded(settings), target=target)
            quiet = Options(asks_log=False)  # it is not this server's log that anyone would read
            with Build(here, target, "check", beside=False, options=quiet) as build:
                chain.run(build, "check", told, skip=frozenset(), answer=Answer())
        told.done("")
