"""Opens what the rows of a carry come from: the target, its backup, another database, or a dump."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from backset.carrying import dump, remote, scratch_schema
from backset.carrying.source import Source
from backset.connections.session import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.migrations.migrating import Progress
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
    """Open it for the block. What is made for that is dropped again, whatever happens."""
    origin = build.options.origin
    if build.past is not None:
        with scratch_schema.filled(build, build.past, progress) as source:
            yield source
    elif origin is None:
        connected = partial(connect, build.target, build.purpose)
        yield Source(build.target, build.live, connected)
    elif origin.database is not None:
        with remote.opened(build, origin.database) as source:
            yield source
    else:
        with dump.opened(build, origin.dump, progress) as source:
            yield source
