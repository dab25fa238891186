"""Servers as a cautious administrator runs them: passwords (scram), TLS alone, three roles.

`secured` is PostgreSQL 18; `every_secured` is one of each major. Each is started once, by the first
test that asks.

The embedded PostgreSQL is built without TLS, so a front ends it there, as before many a managed
server; a server that knows TLS ends it itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import ssl
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
import trustme
from psycopg import sql

from backset.servers.location import temporary_cluster
from tests.canary import CANARY
from tests.clusters import free_port, installation, majors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster

SUPERUSER, OWNER, TENANT = "postgres", "owner", "tenant"
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_RULES = """\
local all all trust
{kind} all all 127.0.0.1/32 scram-sha-256
{kind} all all ::1/128 scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class SecuredServer:
    """A server that takes TLS and passwords over TCP; its socket is for the tests' own use.

    Its roles: SUPERUSER; OWNER, who may create databases; TENANT, who may not.
    ca: the certificate of the authority that signed the server's. wrong_ca: one that did not.
    port: of localhost, where TLS is demanded. password: of all three roles.
    """

    cluster: Cluster
    port: int
    ca: Path
    wrong_ca: Path
    password: str = CANARY

    def url(
        self,
        database: str,
        role: str = OWNER,
        *,
        password: str | None = CANARY,
        ca: Path | None = None,
    ) -> str:
        """Return a URL over TCP that verifies the server; None leaves the password out."""
        secret = "" if password is None else ":" + quote(password, safe="")
        trust = f"sslmode=verify-full&sslrootcert={quote(str(ca or self.ca), safe='')}"
        place = f"{quote(role, safe='')}{secret}@localhost:{self.port}"
        return f"postgresql://{place}/{quote(database, safe='')}?{trust}"

    @contextlib.contextmanager
    def administered(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """Give a session of the superuser, over the socket."""
        with psycopg.connect(self.cluster.url(database), autocommit=True) as session:
            yield session


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredServer]:
    """A secured PostgreSQL 18."""
    with serve(18, tmp_path_factory.mktemp("ca")) as server:
        yield server


@pytest.fixture(scope="session", params=majors())
def every_secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredServer]:
    """Each of the secured servers."""
    with serve(request.param, tmp_path_factory.mktemp("ca")) as server:
        yield server


@pytest.fixture
def own_database(secured: SecuredServer) -> Iterator[str]:
    """A name for a database on `secured`; whatever is derived from it is dropped afterwards."""
    name = f"t_{secrets.token_hex(4)}"
    yield name
    drop(secured, name)


def drop(server: SecuredServer, name: str) -> None:
    """Drop every database whose name begins with `name`."""
    with server.administered() as session:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        for (each,) in session.execute(query, [name]).fetchall():
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            session.execute(statement.format(sql.Identifier(each)))


@contextlib.contextmanager
def serve(major: int, folder: Path) -> Iterator[SecuredServer]:
    """Run a secured server for as long as the block lasts; certificates go into `folder`."""
    ca, wrong_ca, authority = folder / "ca.pem", folder / "wrong-ca.pem", trustme.CA()
    authority.cert_pem.write_to_path(ca)
    trustme.CA().cert_pem.write_to_path(wrong_ca)
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    with contextlib.ExitStack() as undo:
        made = undo.enter_context(
            temporary_cluster(major, tcp_port=free_port(), installation=installation(major))
        )
        made.start()
        with psycopg.connect(made.url("postgres"), autocommit=True) as session:
            own_tls = _knows_tls(session)
            if own_tls:
                _certify(made, certificate)
            _configure(session, made, own_tls=own_tls)
        port = made.port if own_tls else undo.enter_context(tls_front(made.port, certificate))
        yield SecuredServer(made, port, ca, wrong_ca)


def _configure(session: psycopg.Connection[Any], cluster: Cluster, *, own_tls: bool) -> None:
    (cluster.data / "pg_hba.conf").write_text(_RULES.format(kind="hostssl" if own_tls else "host"))
    _make_roles(session)
    for statement in ("log_statement = 'all'", "log_connections = on"):
        session.execute(f"ALTER SYSTEM SET {statement}".encode())
    session.execute("SELECT pg_reload_conf()")


def _knows_tls(session: psycopg.Connection[Any]) -> bool:
    """Tell whether a server was built with TLS; else it refuses the setting."""
    try:
        session.execute("ALTER SYSTEM SET ssl = on")
    except psycopg.errors.InvalidParameterValue:
        return False
    return True


def _certify(cluster: Cluster, certificate: trustme.LeafCert) -> None:
    """Put the server's key and certificate where it looks for them, readable by it alone."""
    key, cert = cluster.data / "server.key", cluster.data / "server.crt"
    key.touch(mode=0o600)
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(cert)
    if cluster.account:
        for file in (key, cert):
            os.chown(file, cluster.account.uid, cluster.account.gid)


@contextlib.contextmanager
def tls_front(port: int, certificate: trustme.LeafCert) -> Iterator[int]:
    """End TLS before a server that cannot, on a port of 127.0.0.1; plain text is hung up on."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    loop = asyncio.new_event_loop()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(8) == _SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(context)
                inner_reader, inner = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pump(reader, inner), _pump(inner_reader, writer))
        writer.close()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(meet, "127.0.0.1", 0)

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _make_roles(session: psycopg.Connection[Any]) -> None:
    session.execute("SET log_statement = none")  # the log is searched for this password
    for role, words in (
        (SUPERUSER, "ALTER ROLE {} PASSWORD {}"),
        (OWNER, "CREATE ROLE {} LOGIN CREATEDB PASSWORD {}"),
        (TENANT, "CREATE ROLE {} LOGIN PASSWORD {}"),
    ):
        session.execute(sql.SQL(words).format(sql.Identifier(role), sql.Literal(CANARY)))
