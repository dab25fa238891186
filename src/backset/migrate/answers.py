"""What Alembic's process answers, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from backset.chain import Details
from backset.described import described, key
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from backset.errors import Finding
    from backset.revisions.script_files import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What keeps the scripts from being one whole chain.

    kind: `missing file`, `duplicate id`, `no migrations`, `stale byte code`, `unreadable file`,
    `no chain` or `scripts below`. paths: the files, or for `no migrations` the folders. missing:
    the revision that no file has.
    """

    kind: str
    text: str
    paths: tuple[Path, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Scripts:
    """The migration scripts on disk: their heads, and the folders that they are in.

    A broken chain has no heads, but the revisions that could be read, and its problems.
    locations: the folders that Alembic loads scripts from, and whether from those below, too.
    goal: the heads that the settings accept, where they name some.
    below: the scripts in folders below those, where Alembic does not look into these.
    """

    heads: tuple[str, ...]
    folders: tuple[Path, ...]
    revisions: tuple[Revision, ...] = ()
    problems: tuple[Problem, ...] = ()
    locations: tuple[Path, ...] = ()
    is_recursive: bool = False
    goal: tuple[str, ...] = ()
    below: tuple[Path, ...] = ()

    @property
    def passed_over(self) -> str:
        """Say of the scripts below that they are no part of the chain; empty if there is none."""
        if not self.below:
            return ""
        folders = ", ".join(sorted({each.parent.name for each in self.below}))
        return f"{count(len(self.below), 'script')} in folders below ({folders}) not loaded"

    @classmethod
    def together(cls, several: Sequence[Scripts]) -> Scripts:
        """Return the scripts of several chains as if they were one; what they share, once."""
        if len(several) == 1:
            return several[0]
        names = ("heads", "folders", "revisions", "problems", "locations", "goal", "below")
        united = {
            name: tuple(dict.fromkeys(item for each in several for item in getattr(each, name)))
            for name in names
        }
        return cls(**united, is_recursive=any(each.is_recursive for each in several))


@described(kw_only=True)
class Migrated:
    """What a migration has done in one chain of revisions.

    after: the rows of the version tables. places: what was seen on the way, where that was asked
    for. revoked, was_open: rights of others that wait, as runs.login.Writers has them.
    init: whether the project's own command made the database; moved: whether one has moved it.
    said: to the server, as alembic_worker.listening has it, where that was asked for.
    """

    before: Sequence[str] = key("the revisions before; empty is base", "from")
    heads: Sequence[str] = key("the heads, at which it is now", "to")
    count: int = key("how many revisions ran", "ran")
    after: Sequence[str] = ()
    places: Sequence[Mapping[str, Any]] = ()
    revoked: Sequence[Sequence[Any]] = ()
    was_open: bool = False
    schemas: Sequence[str] = key("the schemas of version tables that were made for it", default=())
    init: bool = False
    moved: bool = False
    said: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Where a database is in one chain, and what env.py's models are.

    revisions: the rows of the version tables; orphans: those that no script has; strays: the same
    by table. pending: what is to be run. models: how many tables they have; None where nobody can
    tell. columns: theirs, by table; enums: theirs.
    uncompared: why there are no models. failure: that of env.py, where it only stops the look.
    """

    revisions: Sequence[str]
    orphans: Sequence[str]
    pending: Sequence[str]
    strays: Mapping[str, Sequence[str]] = field(default_factory=dict)
    heads: Sequence[str] = ()
    version_table: str
    models: int | None
    columns: Mapping[str, Any] = field(default_factory=dict)
    enums: Sequence[Mapping[str, Any]] = ()
    uncompared: str = ""
    failure: Finding | None = None


UNKNOWN = Description(revisions=(), orphans=(), pending=(), version_table="", models=None)


class Placed(NamedTuple):
    """Rows of a version table, held against the scripts: what no script has, what is to be run."""

    orphans: Sequence[str]
    pending: Sequence[str]


@described()
class Merged(Details):
    """The revision that joins all heads."""

    revision: str = key("`merge`: the revision that was made")
    path: Path = key("`merge`: the path of its file")
    down: Sequence[str] = key("`merge`: the heads that it joins")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedTable:
    """A table as an operation of Alembic.

    constraints: the names of those that are in it; foreign: its foreign keys as operations of their
    own, by their names.
    """

    code: str
    constraints: Sequence[str] = ()
    foreign: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """Tables and indexes as the code of operations, by their keys.

    imports: the lines that the code needs. sa, op: what it calls SQLAlchemy and Alembic.
    schema: the one that it does not name.
    """

    tables: Mapping[str, RenderedTable] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    imports: Sequence[str] = ()
    sa: str = "sa"
    op: str = "op"
    schema: str = ""
