"""A server as its maintenance database shows it: facts, the lock, sessions, what ties databases."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from backset.catalog import catalog
from backset.connections import activity
from backset.connections.locality import gather, is_neighbour, judge
from backset.connections.session import Session, connect, in_time, was_ended
from backset.connections.target import Target, derived_name
from backset.errors import LockedError, RefusedError, StepFailedError, UnreachableError
from backset.process.identity import has_died, run_mark, token, without_token
from backset.text.quantities import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backset.connections.activity import Backend
    from backset.connections.locality import Locality

MAINTENANCE = ("postgres", "template1")
_INVALID = -2  # DATCONNLIMIT_INVALID_DB
_OLDEST = 13  # DROP DATABASE … WITH (FORCE)
_NEWEST = 18  # that the tests run on
# No session that makes, renames or drops databases waits for a standby: one that is away would hold
# it up for ever, and the target with it. What that costs is said after the swap (swap.py).
LOCALLY = "SET synchronous_commit = local"
MARK = "backset "  # how the comment of a database begins that has a mark of ours
DERIVED = ("next", "previous", "discard", "scratch", "scratch_old", "clean", "seeded")
# A branch's database is somebody's own: its mark stays with its comment, whatever replaces it, and
# is none of MARKS, so that no run ever takes it for a leftover.
BRANCH = "branch"
BESIDE = frozenset({*DERIVED, "clone", BRANCH})  # marks of what is nobody's target
MARKS = frozenset({*BESIDE, "protected", "unfinished"} - {BRANCH})
TESTS = "__test"  # what the name of a database ends with beside which tests have theirs
PROTECTED = "backset.protected"  # the setting of a database that `invoke protect` makes
_CLEANING_S = 5.0
_NOBODY = "it just ended"
_LOOK_EVERY_S = 0.2  # at a lock that somebody else holds
_OF_DEAD_RUNS = "^(?=backset (?!(plan|verify|status|protect|unprotect) ))"  # these take no lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A row of pg_database: what a database beside it must be made like.

    owned, joined: whether the role has the rights of its owner, and whether it may act as that.
    oid: what stays the same through a rename.
    tablespace: None where it is the default one, or the role may not create databases in it.
    is_invalid: a DROP of it was interrupted: nobody can connect, it can only be dropped.
    comment: the user's own; `mark` is ours, one of MARKS, empty if there is none, and where it
    names another target than that beside which the database is. run: the run that has set it; empty
    in marks of what outlives its run, and of backset before it had that.
    label: what else it says: of a previous one the name of the backup that was taken before,
    of a template the digest of what it was built from.
    protected: whether it has the marker of `invoke protect`, as a setting or in the comment.
    is_closed: whether nobody may connect to it. made_in: the transaction that made this row, which
    is another one as soon as anything in it has been changed, even if it was changed back.
    """

    oid: int
    name: str
    owner: str
    owned: bool
    joined: bool
    encoding: str
    provider: str
    collate: str
    ctype: str
    locale: str | None
    icu_rules: str | None
    tablespace: str | None
    comment: str
    mark: str
    run: str
    label: str
    is_invalid: bool
    protected: bool
    is_closed: bool
    made_in: str

    @property
    def is_half_copied(self) -> bool:
        """Whether it is as a copy is before it has its mark: closed, and without any comment."""
        return self.is_closed and not self.mark and not self.comment

    @property
    def is_ours(self) -> bool:
        """Whether a run has made it, or left it half made."""
        return self.mark in DERIVED or self.is_invalid or self.is_half_copied

    @property
    def likeness(self) -> list[str | None]:
        """What a database in the likeness of this one was given when it was created."""
        own = [self.owner, self.encoding, self.provider, self.collate, self.ctype]
        return [*own, self.locale, self.icu_rules, self.tablespace]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Who we are to the server, where it is, and who else there is.

    is_durable: whether what is committed survives a crash of the server's machine.
    machines: the addresses of other machines that are connected to the target.
    """

    name: str
    is_superuser: bool
    may_create: bool
    in_recovery: bool
    is_durable: bool
    locality: Locality
    standbys: int
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """The target's name and those that backset derives from it."""

    target: str
    next: str
    previous: str
    discard: str
    scratch: str
    scratch_old: str
    clean: str
    seeded: str

    @classmethod
    def of(cls, database: str) -> Names:
        """Derive all names, each at most 63 bytes long."""
        derived = (derived_name(database, f"__{word}") for word in DERIVED)
        return cls(database, *derived)

    def set_aside(self, oid: int) -> str:
        """Return how a database is called that is to be dropped: the drop of one may take long."""
        return derived_name(self.target, f"__discard_{oid}")

    @property
    def scratches(self) -> tuple[str, str]:
        """Those of databases that exist for a proof only."""
        return self.scratch, self.scratch_old


class Server:
    """A session on the maintenance database: facts, the lock, and everything about databases.

    A role that may connect to its own database alone has its session there.
    """

    def __init__(self, target: Target, purpose: str) -> None:
        self.target = target
        self.purpose = purpose
        self.names = Names.of(target.database)
        # Whoever has said that its role only reads has not meant what this session is for.
        self.session = _maintenance_session(replace(target, writes=True), purpose)
        self._identifier: str | None = None
        self.made: set[str] = set()  # the databases that this run has created beside the target
        self.major = self.session.info.server_version // 10000
        if self.major < _OLDEST:
            what = f"{target.shown} is PostgreSQL {self.major}"
            raise StepFailedError(what, f"backset needs PostgreSQL {_OLDEST} or later")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: object, _trace: object) -> None:
        # The server notices later that a session was closed, and what follows may want the lock.
        if error is None:
            with suppress(psycopg.Error):  # it is gone, and the lock with it
                self.session.execute("SELECT pg_advisory_unlock_all()")
        self.session.close()

    @property
    def is_confined(self) -> bool:
        """Whether the role may connect to the target, and to no maintenance database."""
        return self.session.info.dbname == self.names.target

    @property
    def maintenance(self) -> Target:
        """The database that this session is on."""
        return replace(self.target.named(self.session.info.dbname), writes=True)

    def databases(self) -> Mapping[str, Database]:
        """Return the target and its derived databases, those that exist, by name."""
        return {each.name: each for each in self.look().values()}

    def look(
        self, session: Session | None = None, *, oids: Sequence[int] = ()
    ) -> Mapping[int, Database]:
        """Return the same by their oids, and those of `oids` whatever their name.

        session: another one on the same server.
        """
        names = self._names
        given = {"names": names, "oids": list(oids)}
        with (session or self.session).cursor(row_factory=dict_row) as cursor:
            found = [
                _database(row, self.names.target)
                for row in cursor.execute(_DATABASES, given).fetchall()
            ]
        return {
            each.oid: each
            for each in found
            if each.name in names or each.oid in oids or each.mark == "discard"
        }

    def demand_droppable(self, found: Database, session: Session | None = None) -> None:
        """Raise RefusedError or LockedError unless a run may drop a derived database.

        It must be ours, of no other run that may be at work, and nothing may be tied to it that
        would go with it.
        """
        session = session or self.session
        if not found.is_ours:
            raise RefusedError([foreign(found.name, self.names.target)])
        until = time.monotonic() + _CLEANING_S  # one that has just ended is seen for a moment
        while found.run != token() and (other := activity.runs(session).get(found.run)):
            if time.monotonic() > until:
                what = f"another run works on {found.name}: {without_token(other)}"
                raise LockedError(what, "wait until it ends, then run this again")
            time.sleep(_LOOK_EVERY_S)
        if tied := tied_by(session, [found.name]):
            raise RefusedError(tied)

    def has_made(self, found: Database) -> bool:
        """Tell whether this very run has made a database."""
        return found.run == token() or (found.is_half_copied and found.name in self.made)

    def is_being_dropped(self, found: Database) -> bool:
        """Tell whether a session is at the DROP of a database, which can take seconds."""
        row = self.session.execute(_IS_BEING_DROPPED, [found.oid]).fetchone()
        return row == (True,)

    @cached_property
    def role(self) -> Role:
        """Who we are to this server, and who else is there; asked once."""
        row = self.session.execute(_ROLE, [self.names.target]).fetchone()
        assert row is not None  # noqa: S101  (a SELECT without FROM has one row)
        name, is_superuser, may_create, in_recovery, is_durable, standbys, others = row
        locality = judge(gather(self.session))
        return Role(
            name=name,
            is_superuser=is_superuser,
            may_create=may_create,
            in_recovery=in_recovery,
            is_durable=is_durable,
            locality=locality,
            standbys=standbys,
            machines=tuple(each for each in others if not is_neighbour(locality, each)),
        )

    def identifier(self, *, anew: bool = False) -> str:
        """Return which server this is, as the maintenance database shows it; asked once.

        Empty where nothing tells; see catalog.server_id().
        """
        if self._identifier is None or anew:
            self._identifier = catalog.server_id(self.session)
        return self._identifier

    @property
    def version(self) -> str:
        """The server's version, as it writes it."""
        return self.session.info.parameter_status("server_version") or ""

    def address(self) -> str:
        """Return where the server says that it is."""
        row = self.session.execute(_ADDRESS).fetchone()
        return str(row[0]) if row and row[0] else "a Unix socket of this machine"

    def clients(self) -> list[str]:
        """Return who is connected to the target, runs of ours aside: application@address."""
        found = self.sessions(self.names.target)
        return sorted({each.who for each in found if not each.application.startswith("backset ")})

    def free_sessions(self) -> tuple[int, str]:
        """Return how many sessions this run may have, those that it has included; what limits it.

        A superuser has no limit but that of the server.
        """
        row = self.session.execute(
            _FREE, {"name": self.names.target, "mark": run_mark()}
        ).fetchone()
        return row or (0, "")

    def lock(
        self, waiting: Callable[[str], None] | None = None, session: Session | None = None
    ) -> None:
        """Take the target's lock for as long as a session lives: this one, or another one.

        An advisory lock is of one database. So it is taken on the maintenance database, where it
        outlives a swap, and in the target, where every role comes that may work on it. Whoever has
        taken it looks whether another run has it in any database: not every role has the same
        maintenance database, and the target may not exist, or be in the middle of a swap.
        waiting: is told for whom we wait, once each; without it, LockedError is raised at once.
        """
        key, told = f"backset:{self.names.target}", ""
        session = session or self.session
        until = time.monotonic() + _CLEANING_S
        while True:
            try:
                held = _held(session, key)
            except psycopg.OperationalError:
                if waiting is None or session is not self.session:
                    raise
                # A role that comes to the target alone waits there, and a swap ends that.
                self.session = session = _maintenance_session(self.target, self.purpose)
                continue
            if held is None:
                return
            holder, name, pid = held
            is_dead = has_died(name)
            if is_dead:  # what it left on the server may not have noticed yet
                session.execute(_END, [pid])
            is_going = holder == _NOBODY or is_dead or was_ended(pid)
            leaves = is_going and time.monotonic() < until
            if waiting is None and not leaves:  # the server ends its statement first
                what = f"another run holds the lock of {self.names.target}: {holder}"
                raise LockedError(what, "wait until it ends, or let this one wait: --wait")
            if waiting is not None and holder not in {told, _NOBODY}:
                waiting(f"waits for the lock of {self.names.target}: {holder}")
            told = holder
            time.sleep(_LOOK_EVERY_S)

    def end_dead_runs(self) -> None:
        """End what a killed run left connected to our databases. Only for who holds the lock."""
        names = _OF_DEAD_RUNS + activity.not_of_runs(self.session)
        activity.end(self.session, self._names, names)

    def recover(self) -> None:
        """Cancel the statement of another thread, or that a signal has torn; the session goes on.

        psycopg does so for one that it waits for, and leaves it running where the signal comes just
        before or after that: then it can send nothing more on that session.
        """
        line = self.session.pgconn
        with suppress(psycopg.Error):  # the server is gone
            self.session.cancel_safe(timeout=_CLEANING_S)
            with self.session.lock:
                while line.transaction_status == TransactionStatus.ACTIVE and line.get_result():
                    pass
            self.session.rollback()

    def abandon(self) -> None:
        """Recover the session, and end what our children left on the server.

        A session that waits for a lock does not notice that its client has ended. From here on we
        wait for locks only as long as a cleaning may take.
        """
        self.recover()
        with suppress(psycopg.Error):  # the server is gone, and so are they
            self.session.execute(f"SET lock_timeout = '{_CLEANING_S:.0f}s'".encode())
            activity.end(self.session, self._names, re.escape(run_mark()))

    def sessions(self, *names: str) -> list[Backend]:
        """Return who is connected to databases, the oldest first, but for this run itself."""
        found = activity.clients(self.session, names)
        return [each for each in found if run_mark() not in each.application]

    def endable(self, name: str) -> list[Backend]:
        """Return those of sessions() that our role may end."""
        return [each for each in self.sessions(name) if each.may_end]

    def immovable(self) -> list[tuple[Backend, str]]:
        """Return each session that would stop a swap, since our role may not end it; what to do."""
        role = self.session.info.user
        found = self.sessions(*self._names)
        return [(each, each.remedy(role)) for each in found if not each.may_end]

    @property
    def _names(self) -> list[str]:
        return [self.names.target, *(getattr(self.names, word) for word in DERIVED)]


def untried(major: int) -> str:
    """Return in words that backset was never tried on a major version; empty where it was.

    It works there all the same: what a server has is read from its catalogs.
    """
    if major <= _NEWEST:
        return ""
    return f"PostgreSQL {major} is newer than what backset was tried on ({_OLDEST} to {_NEWEST})"


def foreign(name: str, target: str) -> tuple[str, str]:
    """Return the reason why a run stays away from a database, with its remedy."""
    what = f"the database {name} exists and backset did not make it beside {target}"
    return what, "rename or drop it, if nobody needs it"


def protection(name: str) -> tuple[str, str]:
    """Return the reason, with its remedy, that the marker of `invoke protect` is."""
    return f"{name} is protected", "`invoke unprotect`, if it may go"


def _maintenance_session(target: Target, purpose: str) -> Session:
    """Return a session beside the target; on the target, where the role comes to no other one."""
    session = _beside(target, purpose) or connect(target, purpose)
    with in_time(session):
        session.execute(LOCALLY.encode())
    return session


def _beside(target: Target, purpose: str) -> Session | None:
    for name in MAINTENANCE:
        with suppress(UnreachableError):
            if name != target.database:
                return connect(target.named(name), purpose)
    return None


def _held(session: Session, key: str) -> tuple[str, str, int] | None:
    """Take a lock; where it is held, return by whom: in words, as the session is called, its pid.

    Two that take it at once in two databases see each other, and neither has it.
    """
    given = {"key": key, "mark": run_mark()}
    row = session.execute(_HOLDER, given).fetchone()
    if row is None:  # who only waits takes nothing, in which another one could see it
        taken = session.execute(_TAKE, [key]).fetchone() == (True,)
        row = session.execute(_HOLDER, given).fetchone()
        if taken and row is None:
            return None
        if taken:
            session.execute(_LET_GO, [key])
    if row is None:
        return _NOBODY, "", 0
    name, since, pid = row
    words = without_token(name)
    return (f"{words}, since {moment(since)}" if since else words), name, pid


def _marked(comment: str, row: dict[str, Any], target: str) -> tuple[str, str, str, str]:
    """Return mark, run and label of a database's comment, and what of it is the user's."""
    first, _, rest = comment.removeprefix(MARK).partition("\n")
    mark, _, label = first.partition(" ")
    if not comment.startswith(MARK) or mark not in MARKS:
        return "", "", "", comment
    if not label.startswith("{"):  # of backset before, or of the target itself
        return mark, "", label, rest
    try:
        said = json.loads(label)
        of, run, label = (str(said.get(key, "")) for key in ("of", "run", "label"))
    except (ValueError, AttributeError):
        return "", "", "", comment
    is_ours = of == target or row["name"] == target
    return (mark, run, label, rest) if is_ours else ("", "", "", comment)


def _database(row: dict[str, Any], target: str) -> Database:
    catalog = row["catalog"]
    mark, run, label, comment = _marked(row["comment"] or "", row, target)
    return Database(
        oid=row["oid"],
        name=row["name"],
        owner=row["owner"],
        owned=row["owned"],
        joined=row["joined"],
        encoding=row["encoding"],
        provider=catalog.get("datlocprovider", ""),  # PostgreSQL 15 and later
        collate=catalog["datcollate"],
        ctype=catalog["datctype"],
        locale=catalog.get("datlocale") or catalog.get("daticulocale"),  # 17 and later; 15, 16
        icu_rules=catalog.get("daticurules"),  # 16 and later
        tablespace=row["tablespace"],
        comment=comment,
        mark=mark,
        run=run,
        label=label,
        is_invalid=catalog["datconnlimit"] == _INVALID,
        protected=row["protected"] or mark == "protected",
        is_closed=not catalog["datallowconn"],
        made_in=row["made_in"],
    )


_DATABASES = """
SELECT d.oid, d.datname AS name, pg_get_userbyid(d.datdba) AS owner,
       pg_has_role(d.datdba, 'USAGE') AS owned, pg_has_role(d.datdba, 'MEMBER') AS joined,
       pg_encoding_to_char(d.encoding) AS encoding,
       (SELECT spcname FROM pg_tablespace t WHERE t.oid = dattablespace AND spcname <> 'pg_default'
        AND has_tablespace_privilege(t.oid, 'CREATE')) AS tablespace,
       shobj_description(d.oid, 'pg_database') AS comment, to_jsonb(d) - 'datacl' AS catalog,
       d.xmin::text AS made_in,
       EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) AS each WHERE
               s.setdatabase = d.oid AND each ~* '^backset[.]protected=(?!(off|false|no|0|)$)')
           AS protected
FROM pg_database d WHERE d.datname = ANY(%(names)s) OR d.oid = ANY(%(oids)s::oid[])
   OR starts_with(shobj_description(d.oid, 'pg_database'), 'backset discard {')
"""
_ROLE = """
SELECT current_user, rolsuper, rolsuper OR rolcreatedb, pg_is_in_recovery(),
       current_setting('fsync')::bool AND current_setting('full_page_writes')::bool,
       (SELECT count(*) FROM pg_stat_replication r WHERE r.state IS DISTINCT FROM 'backup' AND NOT
        EXISTS (SELECT FROM pg_replication_slots s
                WHERE s.active_pid = r.pid AND s.slot_type = 'logical')),
       ARRAY(SELECT DISTINCT host(client_addr) FROM pg_stat_activity WHERE datname = %s
             AND client_addr NOT IN (coalesce(inet_client_addr(), '::1'),
                                     coalesce(inet_server_addr(), '::1'))
             AND NOT client_addr <<= '127.0.0.0/8' AND client_addr <> '::1' ORDER BY 1)
FROM pg_roles WHERE rolname = current_user
"""
_FREE = """
WITH there AS (SELECT usename, datname, strpos(application_name, %(mark)s) > 0 AS ours
               FROM pg_stat_activity WHERE usename IS NOT NULL),
     limits (most, used, whose) AS (
    SELECT rolconnlimit, (SELECT count(*) FROM there WHERE usename = rolname AND NOT ours),
           'the role ' || rolname FROM pg_roles WHERE rolname = session_user AND NOT rolsuper
    UNION ALL SELECT datconnlimit, (SELECT count(*) FROM there t
                                    WHERE t.datname = d.datname AND NOT ours),
           'the database ' || d.datname FROM pg_database d, pg_roles
           WHERE d.datname = %(name)s AND rolname = session_user AND NOT rolsuper
    UNION ALL SELECT current_setting('max_connections')::int
                     - current_setting('superuser_reserved_connections')::int,
                     (SELECT count(*) FROM there WHERE NOT ours), 'the server')
SELECT (most - used)::int, whose || ' may have ' || most || ', and ' || used || ' are in use'
FROM limits WHERE most >= 0 ORDER BY 1 LIMIT 1
"""
_ADDRESS = "SELECT host(inet_server_addr()) || ' port ' || inet_server_port()"
_END = """
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.pid = %s AND pg_has_role(r.oid, 'USAGE')
  AND (NOT r.rolsuper OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
"""
_TAKE = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_LET_GO = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"
# A bigint advisory lock shows its halves in classid and objid, and objsubid 1 (pg_locks).
_HOLDER = """
SELECT coalesce(nullif(a.application_name, ''), a.usename || ', pid ' || a.pid), a.backend_start,
       a.pid
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
  AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended(%(key)s, 0)
  AND (l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       OR strpos(coalesce(a.application_name, ''), %(mark)s) = 0)
ORDER BY l.database <> (SELECT oid FROM pg_database WHERE datname = current_database())
LIMIT 1
"""
_IS_BEING_DROPPED = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass
               AND objid = %s AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid())
"""


def tied_by(
    session: Session, databases: Sequence[str], called: Mapping[str, str] = MappingProxyType({})
) -> tuple[tuple[str, str], ...]:
    """Return what ties databases down, each with what to do; `session` is on the same server.

    called: other names for some of them, which people know. Tried on PostgreSQL 16 and 18: a
    prepared transaction and a subscription make RENAME fail, and DROP … WITH (FORCE) too. A logical
    slot follows its database into `__previous`, and is gone with it, without a word.
    """
    fails_over = session.info.server_version >= _FAILING_OVER
    ties = _TIES.format(fails_over="failover" if fails_over else "false").encode()
    rows = session.execute(ties, {"databases": list(databases)}).fetchall()
    return tuple(
        (f"{called.get(database, database)} has the {kind} {name}", _REMEDIES[kind])
        for database, kind, name in rows
    )


_REMEDIES = {
    "prepared transaction": "COMMIT PREPARED or ROLLBACK PREPARED it",
    "logical replication slot": "if nobody needs it: SELECT pg_drop_replication_slot(its name)",
    "logical failover slot": (
        "if nobody needs it: SELECT pg_drop_replication_slot(its name), which drops it on the "
        "standbys, too"
    ),
    "subscription": "if nobody needs it: DROP SUBSCRIPTION, in that database",
}
_FAILING_OVER = 170000  # the version from which a slot can be one that standbys have as well
_TIES = """
SELECT database, 'prepared transaction', gid FROM pg_prepared_xacts
WHERE database = ANY(%(databases)s)
UNION ALL
SELECT database, CASE WHEN {fails_over} THEN 'logical failover slot'
                      ELSE 'logical replication slot' END, slot_name FROM pg_replication_slots
WHERE database = ANY(%(databases)s) AND slot_type = 'logical'
UNION ALL
SELECT d.datname, 'subscription', s.subname FROM pg_subscription s
JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = ANY(%(databases)s)
ORDER BY 1, 2, 3
"""
