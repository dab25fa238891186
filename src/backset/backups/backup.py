"""Takes a backup: dump, read back whole, manifest, rename."""

from __future__ import annotations

import re
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from backset.backups import dumps, manifest, toc
from backset.backups.manifest import SCRIPTS, Backup, Manifest
from backset.backups.shared import SharedStore, Upload
from backset.catalog import catalog, evaluated, object_hashes, schema
from backset.catalog.sharing import NOTHING, LeftOut
from backset.connections.session import LOCK_TIMEOUT_S, connect, conninfo
from backset.errors import SettingsError, StepFailedError
from backset.process import files
from backset.process.signals import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from backset.backups.dumps import Digests, Form
    from backset.backups.manifest import Dump
    from backset.backups.store import Store
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.programs import Programs


_NAMED = re.compile(r"[A-Za-z0-9][\w.+-]{0,79}", re.ASCII)
_ENDINGS = (*manifest.SUFFIXES, ".json", ".partial", ".zst", ".gz")  # what we tell files by


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asks of a backup.

    name: by which it is found again; such a one stays until a person removes it. is_pinned: whether
    it stays without a name, too.
    """

    name: str = ""
    is_pinned: bool = False

    @classmethod
    def of(cls, *, name: str = "", pin: bool = False) -> Wish:
        """Return what the flags say. Raises SettingsError for a name that no file can have."""
        if name and (not _NAMED.fullmatch(name) or name.endswith(_ENDINGS)):
            rule = "it must begin with a letter or a digit; more of these and of . _ + - may follow"
            raise SettingsError([(f"--name is {name!r}", f"{rule}, as in before-demo")])
        return cls(name=name, is_pinned=pin)


NO_WISH = Wish()


def take(
    store: Store,
    target: Target,
    folders: Callable[[], Iterable[Path]],
    programs: Programs,
    *,
    zstd_above: int,
    left_out: LeftOut = NOTHING,
    is_half_built: bool = False,
    wish: Wish = NO_WISH,
    is_remade: Callable[[Session], bool] = lambda _: False,
    server_id: str = "",
    meanwhile: Callable[[], object] = lambda: None,
) -> Backup:
    """Dump `target`, with its manifest and the migration scripts in `folders()`.

    left_out: what is others', and neither dumped nor counted. is_remade: tells of the database
    whether a rebuild makes all its rows again. server_id: which server it is of, if that is known
    otherwise. meanwhile: done while pg_dump works. What folders() waits for, nothing else does.
    A database of more than `zstd_above` bytes is compressed by zstd, and any in a bucket. All is
    written and read back, in a folder under the mark of `.dump.partial`; the rename of the dump
    comes last, or the manifest in a bucket.
    A state that another dump of a folder has becomes a second name of that file.
    Raises StepFailedError, and RefusedError where pg_dump is missing or the name is taken.
    """
    # A rollback on a session that the server has ended would be a warning of psycopg's.
    with closing(connect(target, "backup")) as session:
        major = session.info.server_version // 10000
        pg_dump = programs.find("pg_dump", major)
        both = pg_dump, programs.beside(pg_dump, "pg_restore")
        search_path = catalog.own_search_path(session)
        with store.open(), ExitStack() as opened:
            if wish.name:
                store.refuse_name(wish.name)
            _begin_snapshot(session)
            moment = datetime.now(UTC)
            revisions = tuple(catalog.revisions(session, left_out.has))
            name = wish.name or _name(moment, revisions)
            draft = opened.enter_context(_draft(store, name))
            size = catalog.size_bytes(session)
            form = draft.chosen(lambda: dumps.choose(size, zstd_above, pg_dump, programs))
            options = [*_options(session, target), *left_out.options()]
            written = draft.written(programs, both, *options, target=target)
            with written as finish, ThreadPoolExecutor(1) as beside:
                # While pg_dump works, in its snapshot.
                rows = catalog.row_counts(session, lambda table: not left_out.has(table))
                objects = object_hashes.read(session, left_out.condition())
                outcome = evaluated.look(session, search_path, left_out.has)
                about = Manifest(
                    name=name,
                    database=target.database,
                    taken_at=moment,
                    server_id=server_id or catalog.server_id(session),
                    server_version=session.info.parameter_status("server_version") or "",
                    tool_version=programs.run(both[0], "--version")[0],
                    revisions=revisions,
                    rows=rows,
                    objects=objects,
                    size_bytes=0,
                    sha256="",
                    dump_format=form.words,
                    by_hand=form.by_hand(name, with_path=outcome.needs_path),
                    left_out=left_out.names(),
                    is_half_built=is_half_built,
                    wal_position=catalog.wal_position(session),
                    is_pinned=wish.is_pinned or bool(wish.name),
                    search_path=search_path,
                    needs_search_path=outcome.needs_path,
                    obstacle=target.redact(outcome.obstacle),
                    is_remade=is_remade(session),
                )
                read = submit(beside, _schema_digest, session, left_out)  # nobody else asks now
                meanwhile()
                digests = finish()
                about = replace(about, schema_digest=read.result())
            about = replace(about, content_sha256=digests.content)
            about = draft.finished(about, digests.file, _listing(both[1], programs))
            _pack(draft.scripts, folders(), programs.cwd)
            return draft.publish(about)


class _Draft:
    """A backup on its way into a folder: what is of its name there is rubbish until publish()."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._partial = store.folder / f"{name}.dump.partial"
        self._dump = self._partial
        self._form = dumps.PLAIN
        self.scripts = manifest.beside(store.folder / f"{name}.dump", SCRIPTS)

    def __enter__(self) -> Self:
        files.create(self._partial)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave it to the store, which sweeps."""

    def chosen(self, choose: Callable[[], Form]) -> Form:
        """Return how it is dumped."""
        self._form = choose()
        self._dump = self._store.folder / f"{self._name}{self._form.suffix}"
        return self._form

    def written(
        self, programs: Programs, both: tuple[Path, Path], *options: str, target: Target
    ) -> AbstractContextManager[Callable[[], Digests]]:
        """Run pg_dump for the block; see dumps.written()."""
        return dumps.written(self._form, self._partial, programs, both, *options, target=target)

    def finished(
        self, about: Manifest, sha256: str, listing: Callable[[Dump], Sequence[str]]
    ) -> Manifest:
        """Put the dump on the disk, unless it is there under another name; return all about it."""
        earlier, partial = self._store.list(), self._partial
        size_bytes = manifest.size_bytes(partial)
        twin = _twin(earlier, about, partial, listing)
        if twin and _linked(twin, partial):
            size_bytes, sha256 = twin.manifest.size_bytes, twin.manifest.sha256
            about = replace(about, tool_version=twin.manifest.tool_version)
        files.sync(partial)
        number = 1 + max((each.manifest.number for each in earlier), default=0)
        return replace(about, size_bytes=size_bytes, sha256=sha256, number=number)

    def publish(self, about: Manifest) -> Backup:
        """Write the manifest, then rename the dump: with that the backup is there."""
        made = _described(self._dump, about)
        self._partial.rename(self._dump)
        return made


def _draft(store: Store, name: str) -> AbstractContextManager[_Draft | Upload]:
    return Upload(store, name) if isinstance(store, SharedStore) else _Draft(store, name)


def noted(backup: Backup, *, needs_search_path: bool) -> Backup:
    """Write into the manifest of a backup that it was loaded, and with which search path."""
    by_hand = dumps.form(backup).by_hand(backup.name, with_path=needs_search_path)
    about = replace(
        backup.manifest, needs_search_path=needs_search_path, by_hand=by_hand, obstacle=""
    )
    return _described(backup.dump, about)


def replaced(backup: Backup) -> Backup:
    """Write into the manifest of a backup that its state is replaced, without all its rows.

    Raises StepFailedError.
    """
    try:
        return _described(backup.dump, replace(backup.manifest, is_replaced=True))
    except OSError as error:
        what = f"{manifest.beside(backup.path)} cannot be written: {error.strerror}"
        raise StepFailedError(what, "make that possible, and run it again") from None


def _described(dump: Dump, about: Manifest) -> Backup:
    """Write the manifest of a dump."""
    if not isinstance(dump, Path):
        return dump.describe(about)
    rubbish = dump.with_name(f"{manifest.stem(dump)}~.dump.partial")  # by its name, if left behind
    files.write(manifest.beside(dump), manifest.written(about), partial=rubbish)
    return Backup(dump, about)


def _listing(pg_restore: Path, programs: Programs) -> Callable[[Dump], Sequence[str]]:
    """Return what gives the entries of a dump, with the oids that its objects had."""

    def listing(dump: Dump) -> Sequence[str]:
        with tempfile.TemporaryDirectory() as folder:
            return toc.read(dump, pg_restore, programs, Path(folder) / "toc")

    return listing


def _twin(
    earlier: Sequence[Backup],
    about: Manifest,
    dump: Path,
    listing: Callable[[Dump], Sequence[str]],
) -> Backup | None:
    """Return an undamaged backup whose dump says the same, in the same format.

    It must be of the same objects, too: what was restored meanwhile has other oids, by which a run
    in place knows what still stands in a database.
    """

    def what(each: Manifest) -> tuple[object, ...]:
        return each.content_sha256, each.dump_format, each.left_out, each.server_id

    for each in reversed(earlier):
        if what(each.manifest) == what(about):
            with suppress(StepFailedError, OSError):
                each.check()
                return each if listing(each.dump) == listing(dump) else None
    return None


def _linked(twin: Backup, partial: Path) -> bool:
    """Put a second name of a dump in place of one that says the same, if the disk knows such."""
    link = partial.with_name(f"{manifest.stem(partial)}~.dump.partial")
    try:
        link.hardlink_to(twin.path)
        link.replace(partial)
    except OSError:
        return False
    return True


def alone(
    folder: Path,
    target: Target,
    programs: Programs,
    *,
    zstd_above: int,
    left_out: LeftOut = NOTHING,
) -> Path:
    """Dump `target` into a file in `folder`, without what makes a backup of it.

    Raises StepFailedError, and RefusedError where pg_dump is missing.
    """
    with connect(target, "backup") as session:
        pg_dump = programs.find("pg_dump", session.info.server_version // 10000)
        both = pg_dump, programs.beside(pg_dump, "pg_restore")
        _begin_snapshot(session)
        form = dumps.choose(catalog.size_bytes(session), zstd_above, pg_dump, programs)
        path = files.create(folder / f"copy{form.suffix}")
        options = [*_options(session, target), *left_out.options()]
        with dumps.written(form, path, programs, both, *options, target=target) as finish:
            finish()
    return path


def _schema_digest(session: Session, left_out: LeftOut) -> str:
    return "" if left_out.names() else schema.of_dump(session)


def _begin_snapshot(session: Session) -> None:
    session.execute("SET row_security = off")  # as pg_dump does: an error rather than fewer rows
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _name(moment: datetime, revisions: tuple[str, ...]) -> str:
    text = quote("+".join(revisions), safe="+")[:80] or "no-revision"
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z-{text}"


def _options(session: Session, target: Target) -> list[str]:
    """Return what lets pg_dump read `target` in the session's snapshot."""
    (snapshot,) = session.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
    # In PGOPTIONS a lock_timeout would come to nothing: pg_dump and pg_restore lift it themselves.
    wait = f"--lock-wait-timeout={LOCK_TIMEOUT_S}s"
    return ["--no-password", f"--snapshot={snapshot}", "--dbname", conninfo(target, "backup"), wait]


def _pack(path: Path, folders: Iterable[Path], root: Path) -> None:
    """Put the migration scripts, as they are on disk, into a small tar."""
    with tarfile.open(files.create(path), "w:gz", compresslevel=6) as tar:
        for folder in folders:
            name = folder.relative_to(root) if folder.is_relative_to(root) else folder.name
            tar.add(folder, arcname=str(name), filter=_plain)
    files.sync(path)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out byte code, and parts of seconds, for which each file would get a second header."""
    member.mtime = int(member.mtime)
    return None if "__pycache__" in member.name else member
