"""Proves that the live schema is what the chain makes: in a scratch build, object by object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalogs import catalog, difference, schema
from backset.catalogs.difference import Difference, Sides
from backset.proofs import scratch

if TYPE_CHECKING:
    from collections.abc import Callable

    from backset.runs.build import Build

# Who owns what and who may do what is an administrator's matter as well as the chain's.
MINOR = frozenset({"owner", "rights", "version"})
SIDES = Sides("the migrations", "the database")


def differences(
    build: Build,
    progress: Callable[[str], None] = lambda _text: None,
    notice: Callable[[str], None] | None = None,
) -> list[Difference]:
    """Return how the target's schema differs from what the chain makes up to head; none is good.

    Rows, and the version table, are left out. The target is only read. What is `minor` (the order
    of columns, owners, rights, versions of extensions) is no reason against a stamp.
    notice: is told for whom we wait, if we may wait. Raises LockedError, RefusedError where
    the role cannot make a database, and StepFailedError where the chain cannot be built.
    """
    name = build.server.names.scratch
    scratch.prepare(build, [name], "build the chain to compare it", notice)
    with scratch.made(build, name) as made:
        made.upgrade(progress)
        made.inheritance.complete(made.session)
        chain = made.schema()
    live = schema.read(build.live, spare=catalog.version_tables(build.live))
    return difference.between(chain, live, SIDES, minor=MINOR)


def is_proved(found: list[Difference]) -> bool:
    """Tell whether nothing stands against stamping the database with the chain's heads."""
    return all(each.minor for each in found)
