"""Proof of target: no migration runs on a connection that goes to another database."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError

from .failures import FoundError, WrongTargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_PLAIN = (str, int, bool)  # what of a connection's parameters can be told to the parent
# Where projects look whether their own database exists.
_MAINTENANCE = frozenset({"postgres", "template1"})
_HELD = "held by backset"
_PLACE = "where backset has proved it to be"
# What belongs to a server, beside what begins with ssl: another one has nothing of it.
_OF_A_SERVER = frozenset(
    {
        *("host", "hostaddr", "port", "user", "password", "passfile", "service", "unix_sock"),
        *("dsn", "conninfo", "direct_tls", "channel_binding", "require_auth", "requirepeer"),
        *("target_session_attrs", "load_balance_hosts", "gssencmode", "krbsrvname", "krbspn"),
    }
)


class ConnectionGuard:
    """Sends what is meant for one database to another one, and demands the proof of it.

    lock_key: of the lock which our parent holds in the agreed database; None: none is agreed on.
    agree: asks for that lock, where it is not held before something is opened.
    names: a database, and the one that is opened in its place, whatever URL env.py has.
    aside: the scratch database that is opened in the place of both, for one request.
    elsewhere: host, port, user and password of a throw-away server, which stands in for any other.
    writes: whether this process is to write where its login may only read.
    only_reads: whether nothing may be committed, not even what env.py does by itself.
    only_looks: whether the first connection is to be told, and not made; one to the maintenance
    database is made, since the next one is meant.
    found: whether that has happened.
    is_waiting: whether what env.py wanted to open last is not open yet.
    opened: what that is.
    """

    def __init__(self) -> None:
        self.lock_key = None  # type: int | None
        self.agree: Callable[[], int] | None = None
        self.names = ("", "")  # type: tuple[str, ...]
        self.aside = ""
        self.elsewhere = {}  # type: dict[str, Any]
        self._meant = ""
        self.writes = False
        self._tables = self._rights = self._back = ""
        self._revoked = []  # type: list[list[Any]]
        self._given_to = None  # type: Any
        self._was_open = False
        self._stays = None  # type: list[int] | None
        self.only_reads = False
        self.only_looks = False
        self.found = False
        self.is_waiting = False
        self.opened = {}  # type: dict[str, Any]
        event.listen(Engine, "do_connect", self._direct)
        event.listen(Engine, "handle_error", self._explain)
        event.listen(Engine, "engine_connect", self._hold)
        event.listen(Engine, "begin", self._begin_alone)
        event.listen(Engine, "rollback", self._roll_back_alone)
        event.listen(Engine, "before_cursor_execute", self._note_commit)
        event.listen(Engine, "before_cursor_execute", self._hold)
        event.listen(sqlalchemy.pool.Pool, "connect", self._prove)
        event.listen(sqlalchemy.pool.Pool, "checkout", self._renew)

    def expect(self, names: tuple[str, ...], elsewhere: dict[str, Any]) -> None:
        """Begin with what is meant now, whatever was meant before."""
        self.names, self.elsewhere, self._meant = names, elsewhere, ""
        self.only_looks = self.found = self.writes = False
        self.opened = {}

    def _direct(self, dialect: Any, _record: Any, _cargs: Any, cparams: Any) -> None:
        """Replace the database in the parameters of a connection, or tell them to the parent.

        Listeners of env.py come after this one, such as what sets a password that is a token.
        """
        told = {key: value for key, value in cparams.items() if isinstance(value, _PLAIN)}
        self.opened = {**told, "dialect": dialect.name, "driver": dialect.driver}
        self._stop_if_looking()
        if dialect.name != "postgresql":
            raise WrongTargetError(f"a database of {dialect.name}")
        self._demand_lock()
        self.is_waiting = True
        key = "dbname" if dialect.driver.startswith("psycopg") else "database"
        name = self._stand_in(cparams.get(key))
        if self.elsewhere:
            told = self.led_elsewhere(cparams)
            cparams.clear()
            cparams.update({**told, key: name})
        elif name:
            cparams[key] = name

    def _stand_in(self, name: Any) -> Any:
        """Return the database to open in place of another one, which is itself where none is.

        On a throw-away server it is the same one whatever env.py calls it, but it stands in for
        one only: what belongs into two is not to be built in one.
        """
        old, new = self.names[0], self.place
        if not self.elsewhere or name in _MAINTENANCE:
            return new if old and name and name in self.names else name
        is_told = name == new != old  # by us, and not by what env.py has of its own
        self._meant = self._meant or ("" if is_told else name)
        if name and name != self._meant and not is_told:
            raise WrongTargetError(f"{name} on {self.server}, and before that to {self._meant}")
        return new

    def led_elsewhere(self, told: dict[str, Any]) -> dict[str, Any]:
        """Return a connection's parameters with the throw-away server in them, and no other."""
        kept = {
            key: each
            for key, each in told.items()
            if key not in _OF_A_SERVER and not key.startswith("ssl")
        }
        return {**kept, **self.elsewhere}

    def _explain(self, context: Any) -> None:
        """Tell another server, which has no database of that name, by the error."""
        error = context.original_exception
        if self.kept_from and f'"{self.place}" does not exist' in str(error):
            raise WrongTargetError(f"{self.names[0]} on {self.server}") from error

    def directed(self, told: dict[str, Any]) -> str:
        """Return the database to open in place of the one that a driver was asked for, or "".

        told: the parameters, with libpq's names, and the driver.
        """
        if self.only_looks:
            self.opened = {key: each for key, each in told.items() if isinstance(each, _PLAIN)}
            self._stop_if_looking()
        self._demand_lock()  # with it, the server is there
        name = told.get("dbname")
        if self.elsewhere:
            return str(self._stand_in(name) or "")
        return self.place if name in self.kept_from else ""

    @property
    def place(self) -> str:
        """The database that is opened."""
        return self.aside or self.names[1]

    @property
    def kept_from(self) -> frozenset[str]:
        """The databases that must not be opened, since another one stands in for them."""
        return frozenset(each for each in self.names if each and each != self.place)

    def demand_proof(self, connection: Any) -> None:
        """Refuse to migrate through a connection that may only be read."""
        where = connection.info.get(_HELD) if connection is not None else None
        if where and not self.only_looks:
            raise WrongTargetError(where)

    def _demand_lock(self) -> None:
        if self.lock_key is None and self.agree is not None:
            self.lock_key = self.agree()

    def _stop_if_looking(self) -> None:
        name = self.opened.get("dbname") or self.opened.get("database")
        if self.only_looks and name not in _MAINTENANCE:
            self.found = True
            raise FoundError

    def _hold(self, connection: Any, *_of_the_event: Any) -> None:
        """Let no connection commit what we cannot take back, not even one in autocommit mode."""
        dialect, is_held = connection.dialect, self.only_reads or connection.info.get(_HELD)
        kind = type(dialect)
        # Many an env.py commits a CREATE SCHEMA before it does anything.
        commit = self._commit_alone if self.writes else kind.do_commit
        dialect.do_commit = partial(_commit_nothing if is_held else commit, dialect)
        driver = _driver(connection)
        if is_held and getattr(driver, "autocommit", False):
            dialect.set_isolation_level(driver, "READ COMMITTED")

    def write_alone(self, tables: str, rights: str, back: str) -> None:
        """Write in a database where the login may only read, and keep others from the new tables.

        tables: what asks for the oids of all tables. rights: what asks for the rights of other
        roles to write to tables but those, and for the statement that takes each of them away.
        back: what asks for the statement that gives each of such rights.
        """
        self.writes, self._tables, self._rights, self._back = True, tables, rights, back

    def take_revoked(self) -> dict[str, Any]:
        """Return the rights that wait, and whether somebody may have had one for a while."""
        told = {"revoked": self._revoked, "was_open": self._was_open}
        self._revoked, self._was_open = [], False
        return told

    def _begin_alone(self, connection: Any) -> None:
        """Give the rights back for one transaction, whose migrations may need them or take them."""
        driver = _driver(connection)
        if self._revoked and not getattr(driver, "autocommit", False):
            values = ", ".join(
                f"({relation}::oid, {column}, '{right}', {role}::oid)"
                for relation, column, right, role in self._revoked
            )
            cursor = driver.cursor()
            cursor.execute(self._back.format(rights=values))
            for (statement,) in cursor.fetchall():
                cursor.execute(statement)
            cursor.close()
            self._given_to = driver

    def _roll_back_alone(self, _connection: Any) -> None:
        self._given_to = None  # and with that they are taken away again

    def _commit_alone(self, dialect: Any, fairy: Any) -> None:
        """Commit tables without the rights of others to write to them."""
        driver = own(fairy)
        if self._given_to is driver:
            self._revoked, self._given_to = [], None
        cursor = driver.cursor()
        cursor.execute(self._rights.format(stays=", ".join(map(str, self._stays or [0]))))
        for *right, statement in cursor.fetchall():
            cursor.execute(statement)
            self._revoked.append(right)
            self._was_open = self._was_open or bool(getattr(driver, "autocommit", False))
        cursor.close()
        type(dialect).do_commit(dialect, fairy)

    def _note_commit(self, _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        """See a migration that commits by itself, past us."""
        if self.writes and statement.strip()[:6].upper() == "COMMIT":
            self._was_open = True

    @property
    def server(self) -> str:
        """Where env.py's last connection was meant to go."""
        host = self.opened.get("host", "")
        return f"{host or 'localhost'}:{self.opened.get('port', 5432)}"

    def _prove(self, connection: Any, record: Any) -> None:
        """Demand of every new connection that it sees the lock which our parent holds there.

        One to the maintenance database may be read, and commits nothing.
        """
        self.is_waiting = False
        if self.only_looks:  # what a driver of another kind has made past us, as by creator=
            self._stop_if_looking()
            record.info[_HELD] = self.server
            return
        self._demand_lock()
        if self.lock_key is None:
            raise WrongTargetError("env.py opened a connection though no database was agreed on")
        cursor = connection.cursor()
        cursor.execute(_PROOF.format(high=self.lock_key >> 32, low=self.lock_key & 0xFFFFFFFF))
        proved, database, server, can_watch = cursor.fetchone()
        connection.rollback()
        where = f"{database} on {server or 'a Unix socket'}"
        if not proved and database in _MAINTENANCE:
            record.info[_HELD] = where
            return
        if not proved:
            raise WrongTargetError(where)
        record.info[_PLACE] = self.place
        if self.writes:
            cursor.execute(WRITE)
            cursor.execute("SET synchronous_commit = local")  # the run itself waits for standbys
            if self._stays is None:
                cursor.execute(self._tables)
                self._stays = [oid for (oid,) in cursor.fetchall()]
            connection.commit()
        if self.kept_from:  # what stands in for another one is gone if we fail
            cursor.execute("SET synchronous_commit = off")
            connection.commit()
        if can_watch:  # else a statement that waits for a lock would go on waiting without us
            with contextlib.suppress(Exception):  # not every platform's server can
                cursor.execute("SET client_connection_check_interval = '1s'")
                connection.commit()
            connection.rollback()
        cursor.close()

    def _renew(self, _connection: Any, record: Any, _fairy: Any) -> None:
        """Let a pool open anew what it has kept from a request on another database."""
        if record.info.get(_PLACE, self.place) != self.place:
            raise DisconnectionError

    def demand_aside(self, connection: Any) -> None:
        """Refuse a connection that does not lead to the scratch database of the request."""
        if not self.aside or connection.info.get(_PLACE) != self.aside:
            raise WrongTargetError(f"another database than {self.aside or 'a scratch one'}")


def _commit_nothing(dialect: Any, fairy: Any) -> None:
    """Take back what a transaction has written, and keep what it has set, as a COMMIT would.

    An env.py may choose its schema that way: `SET search_path`, and a commit.
    """
    driver, kind = own(fairy), type(dialect)
    has_written, settings = True, []  # type: bool, list[Any]
    cursor = driver.cursor()
    with contextlib.suppress(Exception):  # of whichever driver: the transaction has failed
        cursor.execute(_HAS_WRITTEN)
        (has_written,) = cursor.fetchone()
        cursor.execute(_SETTINGS)
        settings = cursor.fetchall()
    if has_written:
        kind.do_rollback(dialect, fairy)
        for (statement,) in settings:
            cursor.execute(statement)
    cursor.close()
    kind.do_commit(dialect, fairy)


def _driver(connection: Any) -> Any:
    """Return the driver's own connection."""
    return own(connection.connection)


def own(fairy: Any) -> Any:
    """Return the driver's own connection behind SQLAlchemy's."""
    before_1_4_24 = getattr(fairy, "connection", None)
    return getattr(fairy, "dbapi_connection", None) or before_1_4_24 or fairy


_HAS_WRITTEN = "SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL"
# pg_settings does not show `role`. No `%`, which some drivers would take for a parameter.
_SETTINGS = """
SELECT 'SELECT pg_catalog.set_config(' || pg_catalog.quote_literal(name) || ', '
       || pg_catalog.quote_literal(setting) || ', false)'
FROM (SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
      AND context IN ('user', 'superuser') AND pg_catalog.strpos(name, 'transaction_') <> 1
      UNION ALL SELECT 'role', pg_catalog.current_setting('role')) AS set_here
"""
WRITE = "SET default_transaction_read_only = off"
_PROOF = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                 AND l.classid::bigint = {high} AND l.objid::bigint = {low}
                 AND d.datname = pg_catalog.current_database()),
       pg_catalog.current_database()::text,
       (pg_catalog.host(pg_catalog.inet_server_addr()) || ':'
        || pg_catalog.inet_server_port())::text,
       EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'
               AND setting = '0')
"""


def watch(gate: ConnectionGuard) -> None:
    """Send what the installed drivers open through the gate; others stay as they are."""
    for module, direct in (
        ("psycopg.generators", _psycopg),
        ("psycopg.connection", _psycopg_names),
        ("psycopg.connection_async", _psycopg_names),
        ("psycopg2", _psycopg2),
        ("asyncpg.connect_utils", _asyncpg),
    ):
        with contextlib.suppress(ImportError, AttributeError):  # another version's inside
            direct(gate, import_module(module))


def _psycopg(gate: ConnectionGuard, generators: Any) -> None:
    conninfo, connect = import_module("psycopg.conninfo"), generators.connect

    def directed(text: str, *args: Any, **words: Any) -> Generator[Any, Any, Any]:
        told = _with_default(conninfo.conninfo_to_dict(text))
        name = gate.directed({**told, "driver": "psycopg"})
        if gate.elsewhere:
            text = conninfo.make_conninfo(**{**gate.led_elsewhere(told), "dbname": name})
        elif name:
            text = conninfo.make_conninfo(text, dbname=name)
        opened = yield from connect(text, *args, **words)
        _demand(gate, opened.db.decode(), opened.finish)
        if gate.writes:
            opened.exec_(WRITE.encode())
        return opened

    generators.connect = directed


def _psycopg_names(gate: ConnectionGuard, connection: Any) -> None:
    """Let it look up the name of no server but the one that stands in for the others."""
    name = f"conninfo_attempts{connection.__name__.partition('connection')[2]}"
    attempts = getattr(connection, name)

    def directed(params: dict[str, Any]) -> Any:
        return attempts(gate.led_elsewhere(params) if gate.elsewhere else params)

    setattr(connection, name, directed)


def _psycopg2(gate: ConnectionGuard, psycopg2: Any) -> None:
    dsn, connect = import_module("psycopg2.extensions"), psycopg2._connect  # noqa: SLF001

    def directed(text: str, *args: Any, **words: Any) -> Any:
        told = _with_default(dsn.parse_dsn(text))
        name = gate.directed({**told, "driver": "psycopg2"})
        if gate.elsewhere:
            text = dsn.make_dsn(**{**gate.led_elsewhere(told), "dbname": name})
        elif name:
            text = dsn.make_dsn(text, dbname=name)
        opened = connect(text, *args, **words)
        if not words.get("async"):  # else it is not open yet
            _demand(gate, opened.info.dbname, opened.close)
            if gate.writes:
                opened.cursor().execute(WRITE)
                opened.commit()
        return opened

    psycopg2._connect = directed  # noqa: SLF001


def _asyncpg(gate: ConnectionGuard, utils: Any) -> None:
    parsed = utils._parse_connect_arguments  # noqa: SLF001

    def directed(**words: Any) -> Any:
        addresses, params, config = parsed(**words)
        told = {"dbname": params.database, "user": params.user, "password": params.password}
        where = addresses[0]
        host, port = where if isinstance(where, tuple) else (os.path.dirname(where), None)  # noqa: PTH120
        name = gate.directed({**told, "host": host, "port": port, "driver": "asyncpg"})
        if gate.elsewhere:
            addresses, params = _asyncpg_elsewhere(gate, params)
        given = params.server_settings or {}
        if gate.writes:
            params = params._replace(
                server_settings={**given, "default_transaction_read_only": "off"}
            )
        return addresses, params._replace(database=name or params.database), config

    utils._parse_connect_arguments = directed  # noqa: SLF001


def _asyncpg_elsewhere(gate: ConnectionGuard, params: Any) -> tuple[list[Any], Any]:
    there = gate.elsewhere
    mode = getattr(params, "sslmode", None)
    more = {} if mode is None else {"sslmode": type(mode)(0)}
    named = {"user": there["user"], "password": there["password"], "ssl": None, **more}
    return [(there["host"], int(there["port"]))], params._replace(**named)


def _with_default(told: dict[str, Any]) -> dict[str, Any]:
    """Add the database that libpq would take where none is named."""
    name = told.get("dbname") or os.environ.get("PGDATABASE") or told.get("user")
    return {**told, "dbname": name} if name and "service" not in told else told


def _demand(gate: ConnectionGuard, name: str, close: Callable[[], Any]) -> None:
    """Refuse a connection that a service file has led to where it must not be."""
    if name and name in gate.kept_from:
        close()
        raise WrongTargetError(f"{name}, as a service file says")
