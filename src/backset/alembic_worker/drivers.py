"""Connections that env.py or a migration opens with a driver alone, past SQLAlchemy.

They are sent to the same database as the others. What is replaced in each driver is the one place
that every connection of it comes through, SQLAlchemy's too.
"""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .connections import WRITE
from .failures import WrongTargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .connections import Gate


def watch(gate: Gate) -> None:
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


def _psycopg(gate: Gate, generators: Any) -> None:
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


def _psycopg_names(gate: Gate, connection: Any) -> None:
    """Let it look up the name of no server but the one that stands in for the others."""
    name = f"conninfo_attempts{connection.__name__.partition('connection')[2]}"
    attempts = getattr(connection, name)

    def directed(params: dict[str, Any]) -> Any:
        return attempts(gate.led_elsewhere(params) if gate.elsewhere else params)

    setattr(connection, name, directed)


def _psycopg2(gate: Gate, psycopg2: Any) -> None:
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


def _asyncpg(gate: Gate, utils: Any) -> None:
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


def _asyncpg_elsewhere(gate: Gate, params: Any) -> tuple[list[Any], Any]:
    there = gate.elsewhere
    mode = getattr(params, "sslmode", None)
    more = {} if mode is None else {"sslmode": type(mode)(0)}
    named = {"user": there["user"], "password": there["password"], "ssl": None, **more}
    return [(there["host"], int(there["port"]))], params._replace(**named)


def _with_default(told: dict[str, Any]) -> dict[str, Any]:
    """Add the database that libpq would take where none is named."""
    name = told.get("dbname") or os.environ.get("PGDATABASE") or told.get("user")
    return {**told, "dbname": name} if name and "service" not in told else told


def _demand(gate: Gate, name: str, close: Callable[[], Any]) -> None:
    """Refuse a connection that a service file has led to where it must not be."""
    if name and name == gate.is_kept_from:
        close()
        raise WrongTargetError(f"{name}, as a service file says")
