"""A server as its maintenance database shows it: facts, the lock, who is connected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from psycopg.rows import dict_row

from backset import peer
from backset.errors import LockedError, StepFailedError
from backset.locality import judge
from backset.policy import Circumstances
from backset.session import Session, connect
from backset.target import Target, derived_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAINTENANCE = ("postgres", "template1")
_INVALID = -2  # DATCONNLIMIT_INVALID_DB
_OLDEST = 13  # DROP DATABASE … WITH (FORCE)
MARK = "backset "  # how the comment of a database that we made, or set aside, begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A row of pg_database: what a database beside it must be made like.

    size_bytes: None where the role may not connect to it.
    is_invalid: a DROP of it was interrupted: nobody can connect, it can only be dropped.
    comment: the user's own; `mark` is ours (`next`, `previous`, `discard`), empty if there is none.
    """

    name: str
    owner: str
    owned: bool
    encoding: str
    provider: str
    collate: str
    ctype: str
    locale: str | None
    icu_rules: str | None
    size_bytes: int | None
    comment: str
    mark: str
    is_invalid: bool


@dataclass(frozen=True, slots=True)
class Names:
    """The target's name and those that backset derives from it."""

    target: str
    next: str
    previous: str
    discard: str

    @classmethod
    def of(cls, database: str) -> Names:
        """Derive all names, each at most 63 bytes long."""
        derived = (derived_name(database, f"__{word}") for word in ("next", "previous", "discard"))
        return cls(database, *derived)


class Server:
    """A session on the maintenance database: facts, the lock, and everything about databases."""

    def __init__(self, target: Target, purpose: str) -> None:
        self.target = target
        self.names = Names.of(target.database)
        self.session = _maintenance_session(target, purpose)
        self.major = self.session.info.server_version // 10000
        if self.major < _OLDEST:
            what = f"{target.shown} is PostgreSQL {self.major}"
            raise StepFailedError(what, f"backset needs PostgreSQL {_OLDEST} or later")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.session.close()

    @property
    def maintenance(self) -> Target:
        """The maintenance database that this session is on."""
        return self.target.named(self.session.info.dbname)

    def databases(self) -> Mapping[str, Database]:
        """Return the target and its derived databases, those that exist, by name."""
        names = [self.names.target, self.names.next, self.names.previous, self.names.discard]
        with self.session.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(_DATABASES, {"names": names}).fetchall()
        return {row["name"]: _database(row) for row in rows}

    def circumstances(self, target: Database | None, foreign: Iterable[str]) -> Circumstances:
        """Return what policy wants to know of this connection, this role, and the target."""
        row = self.session.execute(_ROLE).fetchone()
        assert row is not None  # noqa: S101  (a SELECT without FROM has one row)
        role, may_create, in_recovery = row
        return Circumstances(
            database=self.names.target,
            in_recovery=in_recovery,
            may_create=may_create,
            owns=target is None or target.owned,
            role=role,
            owner=target.owner if target else role,
            locality=judge(peer.evidence(self.session)),
            foreign=tuple(foreign),
        )

    def lock(self) -> None:
        """Take the target's lock for as long as this session lives. Raises LockedError."""
        key = f"backset:{self.names.target}"
        taken = self.session.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [key]
        ).fetchone()
        if taken != (True,):
            holder = self.session.execute(_HOLDER, [key]).fetchone()
            who = "pid {} ({}), since {}".format(*holder) if holder else "it just ended"
            raise LockedError(
                f"another run holds the lock of {self.names.target}: {who}",
                "wait until it ends, then run this again",
            )

    def sessions(self, name: str) -> list[str]:
        """Return who else is connected to a database: application@address, once each."""
        rows = self.session.execute(_SESSIONS, [name]).fetchall()
        return [who for (who,) in rows]


def _maintenance_session(target: Target, purpose: str) -> Session:
    first: StepFailedError | None = None
    for name in MAINTENANCE:
        try:
            return connect(target.named(name), purpose)
        except StepFailedError as error:
            first = first or error
    assert first is not None  # noqa: S101  (there is more than one name)
    raise first


def _database(row: dict[str, Any]) -> Database:
    catalog, comment = row["catalog"], row["comment"] or ""
    mark, _, rest = comment.removeprefix(MARK).partition("\n")
    marked = comment.startswith(MARK) and mark in {"next", "previous", "discard"}
    return Database(
        name=row["name"],
        owner=row["owner"],
        owned=row["owned"],
        encoding=row["encoding"],
        provider=catalog.get("datlocprovider", ""),  # PostgreSQL 15 and later
        collate=catalog["datcollate"],
        ctype=catalog["datctype"],
        locale=catalog.get("datlocale") or catalog.get("daticulocale"),  # 17 and later; 15, 16
        icu_rules=catalog.get("daticurules"),  # 16 and later
        size_bytes=row["size_bytes"],
        comment=rest if marked else comment,
        mark=mark if marked else "",
        is_invalid=catalog["datconnlimit"] == _INVALID,
    )


_DATABASES = """
SELECT d.datname AS name, pg_get_userbyid(d.datdba) AS owner,
       pg_has_role(d.datdba, 'USAGE') AS owned, pg_encoding_to_char(d.encoding) AS encoding,
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') THEN pg_database_size(d.oid) END
           AS size_bytes,
       shobj_description(d.oid, 'pg_database') AS comment, to_jsonb(d) - 'datacl' AS catalog
FROM pg_database d WHERE d.datname = ANY(%(names)s)
"""
_ROLE = """
SELECT current_user, (SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user),
       pg_is_in_recovery()
"""
# A bigint advisory lock shows its halves in classid and objid, and objsubid 1 (pg_locks).
_HOLDER = """
SELECT a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'),
       to_char(a.backend_start, 'HH24:MI:SS')
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended(%s, 0)
"""
# Of a session of somebody else, a plain role sees no more than its user, database and pid.
_SESSIONS = """
SELECT DISTINCT CASE WHEN backend_type IS NULL THEN usename || ' (pid ' || pid || ')'
       ELSE coalesce(nullif(application_name, ''), usename)
            || '@' || coalesce(host(client_addr), 'socket') END
FROM pg_stat_activity
WHERE datname = %s AND coalesce(backend_type, 'client backend') = 'client backend'
  AND pid <> pg_backend_pid() ORDER BY 1
"""
