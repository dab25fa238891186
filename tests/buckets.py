"""An S3 of the tests' own, over HTTP, and a proxy before it that fails as others do."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import obstore
from obstore.store import S3Store

from tests.clusters import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY_ID, SECRET = "AKIACANARYOFTESTS", "wJalrcanary/K7MDENG+bPxRfiCYcanary"
_HOP = {"connection", "transfer-encoding", "keep-alive", "server", "date", "content-length"}


@dataclass
class Bucket:
    """A bucket, `s3://team`, of a server at `endpoint`."""

    endpoint: str
    name: str = "team"

    @property
    def url(self) -> str:
        """What `backups` may be."""
        return f"s3://{self.name}/of/us"

    @property
    def env(self) -> dict[str, str]:
        """The variables by which it is found and opened."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            # Where nothing listens: no test asks a cloud who this machine is.
            "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
            "BACKSET_BACKUPS": self.url,
        }

    @property
    def store(self) -> S3Store:
        """It, for a test that looks in."""
        return S3Store(
            self.name,
            endpoint=self.endpoint,
            access_key_id=KEY_ID,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def listed(self) -> list[str]:
        """Return the keys of all objects."""
        return sorted(each["path"] for each in obstore.list(self.store).collect())

    def get(self, key: str) -> bytes:
        """Return an object."""
        return bytes(obstore.get(self.store, key).bytes())

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        obstore.put(self.store, key, content)

    def delete(self, key: str) -> None:
        """Remove an object."""
        obstore.delete(self.store, key)

    def uploads(self) -> bytes:
        """Return S3's list of uploads in parts that nobody has ended."""
        with urllib.request.urlopen(f"{self.endpoint}/{self.name}?uploads") as answer:  # noqa: S310
            return bytes(answer.read())


@contextmanager
def served() -> Iterator[str]:
    """Run an S3 for the block; give its address."""
    port = free_port()
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _await(f"{endpoint}/moto-api/")
            yield endpoint
        finally:
            server.terminate()


def made(endpoint: str, name: str) -> Bucket:
    """Make a bucket."""
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310
    return Bucket(endpoint, name)


def _await(url: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(URLError, OSError):
            urllib.request.urlopen(url).close()  # noqa: S310
            return
        time.sleep(0.1)
    raise TimeoutError(url)


@dataclass
class Proxy:
    """What stands before the store. fault: asked of each request; what it returns is done to it.

    A number is answered in place of the store, with `code` in the body as S3 has it; `lose` closes
    the connection before the store has seen anything, `forget` when it has done as it was asked;
    `stall` answers nothing for as long as the block lasts.
    """

    endpoint: str = ""
    code: str = "Fault"
    fault: Callable[[str, str], Any] = field(default=lambda _method, _path: None)
    asked: list[tuple[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def proxied(endpoint: str) -> Iterator[Proxy]:
    """Run a proxy before a store for the block."""
    it = Proxy()
    host, port = endpoint.removeprefix("http://").split(":")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            it.asked.append((self.command, self.path))
            what = it.fault(self.command, self.path)
            if what == "stall":
                it.over.wait()
            if what in {"stall", "lose"}:
                self.close_connection = True
                return
            if isinstance(what, int):
                said = f"<Error><Code>{it.code}</Code><Message>{KEY_ID} {SECRET}</Message></Error>"
                self.answer(what, {}, said.encode())
                return
            upstream = http.client.HTTPConnection(host, int(port))
            upstream.request(self.command, self.path, body, dict(self.headers))
            given = upstream.getresponse()
            content = given.read()
            upstream.close()
            if what == "forget":
                self.close_connection = True
                return
            headers = {k: v for k, v in given.getheaders() if k.lower() not in _HOP}
            self.answer(given.status, headers, content, dict(given.getheaders()))

        def answer(
            self,
            status: int,
            headers: dict[str, str],
            content: bytes,
            all_headers: dict[str, str] | None = None,
        ) -> None:
            length = str(len(content))
            if self.command == "HEAD" and all_headers:
                length = all_headers.get("Content-Length", length)
            with suppress(OSError):  # nobody waits any more
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        it.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield it
        finally:
            it.over.set()
            server.shutdown()
            thread.join()
