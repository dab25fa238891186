"""What programs get of each step beside its line. Imported by a step that runs, not by `--list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.chain import Details, FoundDetails
from backset.described import ABSENT, described, inline, key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.carry.plan import Left
    from backset.checks.deep import DeepComparison
    from backset.checks.server_log import Look
    from backset.connections.activity import Backend
    from backset.migrate.answers import Migrated

_ROWS = "`backup` and `load`: exact counts in the dump, by table"


@described(kw_only=True)
class EndedDetails(Details):
    """What programs get of a step that ends the sessions of others."""

    ended: Sequence[Backend] = key(
        "`promote`, `undo`, `clear`, and `backup` in place: the sessions that were ended",
        default=ABSENT,
    )


@described(kw_only=True)
class ClearDetails(EndedDetails):
    """What programs get of `clear`."""

    dropped: int = key("`clear`: how many objects were dropped")


@described(kw_only=True)
class ResetDetails(Details):
    """What programs get of `reset`."""

    cloned: str | None = key("`reset`: the template that it is a copy of; null where it is empty")
    why: str = key(
        "`reset`: why it is no copy; null where it is, or cannot be", null=True, default=""
    )


@described(kw_only=True)
class PromoteDetails(EndedDetails):
    """What programs get of `promote`."""

    removed: int = key("`promote`: how many older backups were removed (`keep`, `keep_days`)")
    kept: Sequence[str] = key("`promote`: the templates that this run has made")
    unkept: str = key("`promote`: why it has made none; null where it has, or need not", null=True)
    previous: str | None = key(
        "`promote`: the name of the database kept for `undo`; null where there was none"
    )


@described(kw_only=True)
class BackupDetails(EndedDetails):
    """What programs get of `backup`."""

    file: str = key("`backup`: the path of the dump; absent where there was nothing to dump")
    rows: Mapping[str, int] = key(_ROWS)
    sha256: str = key("`backup`: of the dump, in hexadecimal, as in its manifest")
    proved: bool = key("`backup`: whether it was restored and compared (`--prove`)")
    same_as: str | None = key(
        "`backup`: another one of the same state, whose file it has; null where there is none"
    )
    needs_search_path: bool = key(
        "`backup`: whether it loads only with the search path of the database"
    )


@described(kw_only=True)
class FollowDetails(Details):
    """What programs get of `follow`."""

    squashes: Sequence[str] = key(
        "`follow`: the revisions whose ids were written for those that they replace"
    )
    ran: Sequence[str] = key("`follow`: the replaced revisions that ran before that")
    backup: str = key("`follow`: the path of the dump that was taken before these", default=ABSENT)


@described(kw_only=True)
class LoadDetails(Details):
    """What programs get of `load`."""

    rows: Mapping[str, int] = key(_ROWS)


@described()
class MigratedChain:
    """What `upgrade` did to one chain of revisions, in the `chains` of its step."""

    name: str = key("of `[[tool.backset.chains]]`; empty where there is only one chain")
    done: Migrated = inline()


@described(kw_only=True)
class UpgradeDetails(Details):
    """What programs get of `upgrade`."""

    chains: Sequence[MigratedChain] = key("`upgrade`: what it did to each chain of revisions")
    cluster_wide: Sequence[str] = key(
        "`upgrade`: roles and tablespaces that the migrations made, which `undo` leaves"
    )


@described(kw_only=True)
class VerifyDetails(FoundDetails):
    """What programs get of `verify`."""

    tables: int = key("`verify`: how many tables the database has")
    accepted: int = key("`verify`: how many differences are accepted ones (`--accept`)")
    silenced: int = key("`verify`: how many findings the settings silence (`ignore`)")
    server_log: Look = key("`verify` and `seed`: what the server's log has of this run")
    deep: DeepComparison | None = key(
        "`verify`: what was compared with that which the models make (`--deep`); null where nothing"
    )


@described(kw_only=True)
class CarryDetails(Details):
    """What programs get of `carry`."""

    rows: Mapping[str, int] = key("`carry`: the rows that came, by table")
    left: Sequence[Left] = key("`carry`: what has no place in the new schema, and was left behind")
    through: Sequence[str] = key(
        "`carry`: the files of pending migrations that the rows went through in a copy",
        default=ABSENT,
    )
    origin: str = key(
        "`carry` of the task `carry`: what the rows came from, without passwords", default=ABSENT
    )


@described(kw_only=True)
class SeedDetails(Details):
    """What programs get of `seed`."""

    rows: Mapping[str, int] = key("`seed`: exact counts in the database, by table")
    seeded_twice: bool = key("`seed`: whether it ran a second time (`--seed-twice`)")
    server_log: Look = key("`verify` and `seed`: what the server's log has of this run")
