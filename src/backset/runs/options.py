"""Options: what the flags of a task ask of its steps. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.backups.backup import NO_WISH, Wish

if TYPE_CHECKING:
    from backset.configuration.rules import Origin, Rules
    from backset.revisions.restore import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What flags ask of the steps.

    proves: the backup is restored and compared. wish: what else is asked of it. accepts:
    differences go into the baseline.
    downgrades: the migrations are taken back, in a scratch database.
    seeds_twice: a second run of the seed command must change no count.
    stamps: the revisions that the version table gets. drops: invalid indexes.
    recipe: the missing files that come back. asks_log: `verify` looks into the server's log.
    carries: how rows come into the new database, if they do. origin: whose; None is the target's.
    cold: what earlier runs have kept is forgotten.
    """

    proves: bool = False
    wish: Wish = NO_WISH
    accepts: bool = False
    downgrades: bool = False
    seeds_twice: bool = False
    stamps: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()
    recipe: Recipe | None = None
    asks_log: bool = True
    carries: Rules | None = None
    origin: Origin | None = None
    cold: bool = False
