"""The one door to an object store: requests of a few MB with limits, each fault one clear line.

By obstore, and not by fsspec: s3fs makes an object visible that is not complete, where the block
that writes it raises. Here every object is one request, which the store takes whole or not at all.
"""

from __future__ import annotations

import re
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from backset.errors import SettingsError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from obstore import Bytes

    from backset.settings.settings import Settings

_INSTALL = "install backset with its extra s3, or the package obstore beside it"
_REPEATS = 2
_CONNECT_S = 10
_LATE = "kind: Timeout"  # only among obstore's own values
_DEBUG = "\n\nDebug source"  # from there on obstore shows its own values
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")  # S3's, Azure's and Google's XML
_FULL = re.compile(r"quota|full|insufficientstorage|no space|entitytoolarge", re.IGNORECASE)
_LOCAL = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[?::1\]?")
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "file": "the rights of that folder",
}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
Given = ParamSpec("Given")
Result = TypeVar("Result")


def later(
    work: Callable[Given, Result], *arguments: Given.args, **options: Given.kwargs
) -> Future[Result]:
    """Do something in a thread that nobody has to wait for: a request cannot be interrupted."""
    future: Future[Result] = Future()

    def done() -> None:
        try:
            future.set_result(work(*arguments, **options))
        except BaseException as error:  # noqa: BLE001  (for whoever asks)
            future.set_exception(error)

    Thread(target=done, daemon=True).start()
    return future


class LateError(StepFailedError):
    """A store did not answer in time: what became of the request is not known."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a folder of a bucket has: objects with size and time, and the folders in it."""

    sizes: Mapping[str, int]
    moments: Mapping[str, datetime]
    folders: Sequence[str]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in an object store: `url`, and what is below it by keys such as `app/name.json`.

    Every method raises StepFailedError, in one line, where the store does not do as it is asked.
    """

    url: str
    timeout_s: int
    _store: Any

    @classmethod
    def of(cls, settings: Settings, url: str) -> Bucket:
        """Open the place of a URL. Raises SettingsError where it cannot be one."""
        try:
            from obstore.store import from_url  # noqa: PLC0415  (few share their backups)
        except ImportError:
            raise SettingsError([(f"{url} needs the package obstore", _INSTALL)]) from None
        options: Any = _options(settings, url)
        try:
            store = from_url(url, **options)
        except Exception as error:  # noqa: BLE001  (obstore has many for a wrong configuration)
            what = f"{url} cannot be opened: {_words(error)}"
            raise SettingsError([(what, f"correct it, or set {_keys(url)}")]) from None
        return cls(url, settings.backups_timeout, store)

    def at(self, key: str) -> str:
        """Return the address of an object, or of a folder, for people."""
        return f"{self.url}/{key}"

    def get(self, key: str) -> bytes | None:
        """Return an object; None where there is none."""
        found = self.view(key)
        return None if found is None else bytes(found)

    def view(self, key: str) -> Bytes | None:
        """Do what get() does, without a copy: in what holds bytes outside of Python."""
        import obstore  # noqa: PLC0415

        with self._told(f"{self.at(key)} cannot be read"):
            try:
                return obstore.get(self._store, key).bytes()
            except FileNotFoundError as error:
                if _code(error) in _NO_BUCKET:
                    raise
        return None

    def put(self, key: str, content: bytes) -> None:
        """Write an object, in place of another one if there is one."""
        self._put(key, content, "overwrite")

    def create(self, key: str, content: bytes) -> bool:
        """Write an object if there is none of that key; tell whether it is ours that is there.

        Of two who do so, one wins. A request whose answer was lost is repeated, and then finds its
        own object there.
        """
        import obstore.exceptions  # noqa: PLC0415

        for tries in range(_REPEATS, -1, -1):  # obstore repeats none of these that was late
            try:
                self._put(key, content, "create")
            except obstore.exceptions.AlreadyExistsError:
                return self.get(key) == content
            except LateError:
                if not tries:
                    raise
            else:
                break
        return True

    def list(self, folder: str) -> Listed:
        """Return what is in a folder; nothing where there is no such folder."""
        import obstore  # noqa: PLC0415

        with self._told(f"{self.at(folder)} cannot be listed"):
            found = obstore.list_with_delimiter(self._store, folder)
        objects = {each["path"]: each for each in found["objects"]}
        return Listed(
            {key: each["size"] for key, each in objects.items()},
            {key: each["last_modified"] for key, each in objects.items()},
            found["common_prefixes"],
        )

    def delete(self, *keys: str) -> None:
        """Remove objects; those that are gone already are no error."""
        import obstore  # noqa: PLC0415

        if not keys:
            return
        with self._told(f"{self.at(keys[0])} cannot be removed"):
            if not self.url.startswith("file:"):
                obstore.delete(self._store, keys)
                return
            for key in keys:  # a folder says of each that it is not there
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, key)

    def _put(self, key: str, content: bytes, mode: Any) -> None:  # noqa: ANN401  (its Literal)
        import obstore  # noqa: PLC0415

        with self._told(f"{self.at(key)} cannot be written"):
            obstore.put(self._store, key, content, mode=mode, use_multipart=False)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say in one line what the store has said; an object that is there is no fault."""
        from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415

        try:
            yield
        except AlreadyExistsError:
            raise
        except (BaseError, OSError) as error:
            raise self._fault(what, error) from None

    def _fault(self, what: str, error: Exception) -> StepFailedError:
        status, code = _found(_STATUS, _text(error)), _code(error)
        where = f"{self.url} ({code})" if code else self.url
        is_late = _LATE in str(error)
        why, remedy = self._cause(_text(error), status, code, is_late=is_late)
        if why:
            kind = LateError if is_late else StepFailedError
            return kind(f"{where} {why}: {what}", remedy)
        said = f"it answers {status}" if status else _words(error)
        return StepFailedError(f"{what}, {said}", "mend that, then run this again")

    def _cause(self, text: str, status: str, code: str, *, is_late: bool) -> tuple[str, str]:
        """Return what is wrong with the store, and what to do; nothing where that is not known."""
        causes = (
            (
                status == "507" or _FULL.search(code) or (not status and _FULL.search(text)),
                "is full",
                "make room there, or raise its quota; then run this again",
            ),
            (
                code in _NO_BUCKET or (status == "404" and not code),
                "does not exist",
                "make that bucket, or correct `backups`",
            ),
            (
                status in {"401", "403"} or _is_unopened(text, code),
                "does not let us in",
                f"set {_keys(self.url)}, which may read, write, list and delete there",
            ),
            (
                status == "301" or "redirect without LOCATION" in text,
                "is in another region",
                "set AWS_REGION to that of the bucket",
            ),
            (
                is_late,
                f"did not answer in {self.timeout_s} s, asked {1 + _REPEATS} times",
                "mend the connection, or set backups_timeout higher",
            ),
            (
                "builder error" in text,
                "would be asked without TLS",
                "use https, or set AWS_ALLOW_HTTP=true where nobody listens",
            ),
            (
                "HTTP error" in text,
                "cannot be reached, or the connection was lost",
                "mend the connection, or its address; then run this again",
            ),
        )
        return next(((why, remedy) for holds, why, remedy in causes if holds), ("", ""))


_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"}


def _is_unopened(text: str, code: str) -> bool:
    """Tell whether credentials are missing, refused, or not to be had."""
    refused = re.search(r"AccessDenied|AccessKey|Signature|Token|Authenti|Authoriz", code)
    return bool(refused) or bool(_WHO_ARE_WE.search(text))


# Where a cloud tells its own machines who they are: obstore asks there where it is told nothing.
_WHO_ARE_WE = re.compile(
    r"credential|169\.254\.169\.254|/latest/api/token|/latest/meta-data|computeMetadata|metadata/",
    re.IGNORECASE,
)


def _options(settings: Settings, url: str) -> dict[str, Any]:
    """Return how a store is asked: the limits of a request, and how often it is repeated."""
    if url.startswith("file:"):
        # A wrong --from makes no folder, and a backup that is removed leaves none.
        return {"mkdir": url == settings.bucket, "automatic_cleanup": True}
    timeout = settings.backups_timeout
    backoff = {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    }
    return {
        "config": _config(url, settings.store_environ),
        "client_options": {
            "timeout": f"{timeout}s",
            "connect_timeout": f"{min(timeout, _CONNECT_S)}s",
            "allow_http": _allows_http(settings.store_environ),
        },
        "retry_config": {
            "max_retries": _REPEATS,
            "retry_timeout": timedelta(seconds=timeout * _REPEATS + 1),
            "backoff": backoff,
        },
    }


def _allows_http(environ: Mapping[str, str]) -> bool:
    """Tell whether the store may be asked without TLS: on this machine, or where people say so."""
    if environ.get("AWS_ALLOW_HTTP", "").lower() in {"true", "1"}:
        return True
    host = urlsplit(_endpoint(environ)).hostname or ""
    return bool(_LOCAL.fullmatch(host)) or "AZURE_STORAGE_USE_EMULATOR" in environ


def _endpoint(environ: Mapping[str, str]) -> str:
    return next(filter(None, map(environ.get, _ENDPOINTS)), "")


def _config(url: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the variables as obstore takes them; it reads those of our environment itself.

    It would refuse one that it does not know, such as AWS_PROFILE.
    """
    if not url.startswith("s3:"):
        begin = "AZURE_" if url.startswith("az:") else "GOOGLE_"
        return {k.lower(): v for k, v in environ.items() if k.startswith(begin) and k in _OTHERS}
    found = {f"aws_{each}": environ.get(f"AWS_{each.upper()}", "") for each in _OF_S3}
    found["aws_endpoint_url"] = _endpoint(environ)
    return {name: text for name, text in found.items() if text}


_OF_S3 = (
    *("access_key_id", "secret_access_key", "session_token", "region", "default_region"),
    *("container_credentials_relative_uri", "container_credentials_full_uri"),
    *("container_authorization_token_file", "web_identity_token_file", "role_arn"),
    *("role_session_name", "metadata_endpoint", "skip_signature", "virtual_hosted_style_request"),
    *("server_side_encryption", "sse_kms_key_id", "sse_bucket_key_enabled", "request_payer"),
)
_OTHERS = {
    *("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY"),
    *("AZURE_STORAGE_CLIENT_ID", "AZURE_STORAGE_CLIENT_SECRET", "AZURE_STORAGE_TENANT_ID"),
    *("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_STORAGE_ENDPOINT"),
    *("AZURE_STORAGE_TOKEN", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_STORAGE_USE_EMULATOR"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
}


def _keys(url: str) -> str:
    return _KEYS[urlsplit(url).scheme]


def _text(error: Exception) -> str:
    """Return what obstore says, without its own values."""
    return str(error).partition(_DEBUG)[0]


def _words(error: Exception) -> str:
    """Return what obstore says in one line, without the answer of the store and its addresses.

    The answer of S3 may have the key's name in it, and what was to be signed.
    """
    text = _text(error).partition("<")[0]
    return " ".join(re.sub(r"https?://\S+", "the store", text).split())[:200]


def _code(error: Exception) -> str:
    return _found(_CODE, _text(error))


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""
