"""A throw-away server that stands in for the project's own: its names, and who is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backset.connections.target import PATTERN
from backset.errors import BacksetError
from backset.migrate import discovery, provenance
from backset.servers import location
from backset.servers.clusters import ServiceNames
from backset.settings.keys import LIBPQ_VARIABLES
from backset.settings.reader import on_embedded, restored_environment

if TYPE_CHECKING:
    from backset.connections.target import Target
    from backset.settings.settings import Settings


def own(settings: Settings) -> Target | None:
    """Return the database that the project means, by DATABASE_URL or env.py; None: nobody says it.

    Nothing is connected to.
    """
    if settings.target or settings.is_embedded:
        return settings.target
    with restored_environment():
        try:
            return discovery.settled(settings).target
        except BacksetError:  # it waits for a URL; what else is wrong, the run will say
            return None


def names(settings: Settings, meant: Target | None, database: str) -> ServiceNames:
    """Return what the URL of a stand-in has in common with the project's own.

    Migrations name the role (OWNER TO, GRANT … TO) and the database (ALTER DATABASE … SET), and
    code depends on the driver. database: its name where nobody says another one.
    """
    if meant is None:
        return ServiceNames(database=database, driver=location.needed_driver(settings))
    match = PATTERN.fullmatch(meant.url)
    driver = match["scheme"].partition("+")[2] if match else ""
    return ServiceNames(database=meant.database, role=meant.params.get("user", ""), driver=driver)


def told(settings: Settings, meant: Target | None, stand_in: Target) -> dict[str, str]:
    """Return the variables that name the project's own database, as they name the stand-in.

    libpq's are among them where there are any: a command may have no other word of the server.
    """
    if meant is None:
        return {}
    libpq = stand_in.libpq_env if LIBPQ_VARIABLES & settings.environ.keys() else {}
    origins = provenance.found(settings, meant.params, stand_in)
    templates = {each.variable: each.template for each in origins if each.variable}
    return {**libpq, **replace(settings, env=templates).filled_env(stand_in)}


def settled(settings: Settings, meant: Target | None, stand_in: Target) -> Settings:
    """Return the settings for a run on the stand-in, in which nothing names another server."""
    here = on_embedded(settings)
    environ = {**here.environ, **told(settings, meant, stand_in)}
    return replace(here, target=stand_in, is_throw_away=True, environ=environ)
