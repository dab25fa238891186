"""What a build depended on at the server: its version and settings, its roles, our own role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalogs import catalog
from backset.properties import cluster_wide
from backset.templates import inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backset.connections.session import Session
    from backset.templates.inputs import Parts


def look(session: Session, extensions: Sequence[str]) -> Parts:
    """Return a hash of each, as a session on the maintenance database sees it.

    extensions: those whose files at the server the build depended on.
    """
    version, role, settings = session.execute(_QUERY).fetchone() or ("", "", "")
    found = {
        "the server": inputs.digest([catalog.server_id(session), version]),
        "the role": inputs.digest(role),
        "a setting of the server": inputs.digest(settings),
        "a role of the server": cluster_wide.look(session).server,
    }
    if extensions:
        versions = session.execute(_EXTENSIONS, [list(extensions)]).fetchall()
        found["an extension of the server"] = inputs.digest(versions)
    return found


# What a session gets from elsewhere than itself; those of the target are among its properties.
_QUERY = """
SELECT version(), current_user, (
    SELECT jsonb_object_agg(name, setting) FROM pg_settings
    WHERE source NOT IN ('default', 'override', 'client', 'session')
)
"""
_EXTENSIONS = """
SELECT name, default_version FROM pg_available_extensions WHERE name = ANY(%s) ORDER BY name
"""
