"""The tasks that start and stop the embedded PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

from backset.cli import WOULD_START, opened


def start(*, plan: bool) -> None:
    """Start the embedded PostgreSQL; its database is made when that starts it."""
    with opened("start") as (settings, told):
        from backset.servers import embedded, location

        cluster = embedded.project_cluster(settings.root)
        if plan:
            told.say("it is running" if cluster.is_running() else WOULD_START)
            return
        running = cluster.is_running()
        target = location.locate(replace(settings, target=None))
        told.say(f"{'was running' if running else 'started'} · {target.shown}")
        if settings.target and not location.is_embedded(settings.target, cluster):
            source = settings.sources["DATABASE_URL"]
            told.say(f"the tasks use {settings.target.shown} (DATABASE_URL in {source})")


def stop(*, plan: bool) -> None:
    """Stop the embedded PostgreSQL."""
    with opened("stop") as (settings, told):
        from backset.servers import embedded

        cluster = embedded.project_cluster(settings.root)
        if plan:
            told.say("would stop it" if cluster.is_running() else "it is not running")
        else:
            told.say("stopped" if cluster.stop() else "it was not running")
