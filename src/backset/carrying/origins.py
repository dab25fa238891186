"""Opens what the rows of a carry come from: the target, its backup, another database, or a dump."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backset.backups import backup
from backset.carrying import dump, pending, remote, scratch_schema
from backset.carrying.source import Source
from backset.catalogs.left_out import NOTHING
from backset.connections.session import connect
from backset.errors import RefusedError, StepFailedError
from backset.servers import companions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backset.connections.target import Target
    from backset.migrations.migrating import Progress
    from backset.revisions.revision import Revision
    from backset.runs.build import Build


def is_empty(build: Build) -> bool:
    """Tell whether there is nothing to carry: the rows are the target's, and it has none."""
    was_empty = build.past is None if build.cleared else build.old_is_empty
    return build.options.origin is None and was_empty


def check(build: Build) -> None:
    """Raise an error where rows cannot come from there, before anything is done."""
    origin = build.options.origin
    if origin is not None and origin.database is not None:
        remote.check(build, origin.database)
    elif origin is not None:
        dump.check(build, origin.dump)


@contextmanager
def opened(build: Build, progress: Progress) -> Iterator[Source]:
    """Open it for the block. What is made for that is dropped again, whatever happens.

    Where revisions are pending that change rows, it is a copy that has gone through them.
    """
    origin = build.options.origin
    if build.past is not None and build.pending and build.taken:
        with dump.opened(build, str(build.taken.dump), progress, is_own=True) as source:
            yield source
    elif build.past is not None:
        with scratch_schema.filled(build, build.past, progress) as source:
            yield source
    elif origin is None:
        connected = partial(connect, build.target, build.purpose)
        own = Source(build.target, build.live, connected)
        with _as_it_would_be(build, own, progress) as source:
            yield source
    elif origin.database is not None:
        with (
            remote.opened(build, origin.database) as found,
            _as_it_would_be(build, found, progress) as source,
        ):
            yield source
    else:
        with dump.opened(build, origin.dump, progress) as source:
            yield source


@contextmanager
def _as_it_would_be(build: Build, source: Source, progress: Progress) -> Iterator[Source]:
    """Open the copy of a database that has gone through what is pending; itself, if nothing is."""
    waiting = pending.found(source.session, build)
    if not waiting:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="backset-") as folder:
        path = _dumped(build, source.target, Path(folder), waiting, progress)
        is_own = source.target == build.target
        with dump.opened(build, str(path), progress, is_own=is_own) as copy:
            path.unlink()
            yield copy


def _dumped(
    build: Build, target: Target, folder: Path, waiting: Sequence[Revision], progress: Progress
) -> Path:
    """Dump a database, in order to change a copy of it. Raises StepFailedError."""
    server = build.server
    progress(f"copying {target.database}, for {pending.files(waiting)}")
    try:
        companions.refuse_scratch(
            server, [server.names.scratch_old], server.databases(), "change a copy"
        )
        spare = build.left_out if target == build.target else NOTHING
        above = build.settings.zstd_above
        return backup.alone(folder, target, build.programs, zstd_above=above, left_out=spare)
    except (StepFailedError, RefusedError) as error:
        raise pending.failed(waiting, error) from None
