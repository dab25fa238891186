"""What the texts of the scripts say must, and must not yet, be in a database; and what is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backset.catalogs import catalog
from backset.catalogs.system import stored
from backset.scripts import graph, operations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from backset.connections.session import Session
    from backset.scripts.operations import Operation
    from backset.scripts.revisions import Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprints:
    """What was compared, in words; `ours` are the tables that models and scripts speak of.

    in_the_way: what exists though a pending revision makes it. unmade: what does not exist though
    a recorded revision made it. invalid: indexes.
    """

    ours: frozenset[str]
    in_the_way: tuple[str, ...]
    unmade: tuple[str, ...]
    invalid: tuple[str, ...]


def look(
    session: Session,
    revisions: Sequence[Revision],
    models: Mapping[str, Collection[str]],
    *,
    done: Collection[str],
    pending: Collection[str],
    homes: Collection[str] = (),
    spare: Callable[[tuple[str, str]], bool] = lambda _: False,
) -> Footprints:
    """Compare what the scripts make with what there is.

    models: columns by table. done, pending: the ids of revisions. homes: the schemas beside
    `public` that a name without a schema may mean. Such a name is in the way in one of these; it is
    made wherever it is found, since only a run tells in which schema that was. So is one in a
    schema that is not there at all: it may stand for those of tenants (schema_translate_map).
    spare: which tables are somebody else's, whose indexes are not ours to judge.
    """
    order = graph.ordered(revisions)
    indexes = catalog.indexes(session)
    columns = catalog.columns(session)
    others = catalog.other_names(session)
    every = _read(order)
    standing = operations.standing(_of(every, done))
    made = {name for kind, name in operations.standing(_of(every)) if kind == "table"}
    ours = {*models, *made}
    schemas = {each.rpartition(".")[0] for each in columns}
    stand_ins = {each.rpartition(".")[0] for each in ours} - schemas | {""}
    existing = _existing(columns, indexes, others, homes, {""})
    anywhere = _existing(columns, indexes, others, schemas, stand_ins)
    return Footprints(
        ours=frozenset(ours.union(each for each in columns if _meant(each, stand_ins) & ours)),
        in_the_way=tuple(
            f"{each.kind} {each.name} exists already, which {file}:{each.line} makes"
            for file, each in operations.in_the_way(_of(every, pending), existing)
        ),
        unmade=tuple(_unmade(standing, anywhere, models)),
        invalid=tuple(catalog.invalid_indexes(session, spare)),
    )


def _existing(
    columns: Mapping[str, set[str]],
    indexes: Mapping[str, bool],
    others: Sequence[tuple[str, str]],
    homes: Collection[str],
    stand_ins: Collection[str],
) -> dict[str, set[str]]:
    """Return the names of what there is, by kind; of what is in `homes`, all that may mean it."""
    tables = [*columns.items()]
    for name, own in columns.items():
        if name.rpartition(".")[0] in homes:
            tables += [(each, own) for each in _meant(name, stand_ins)]
    found: dict[str, set[str]] = defaultdict(set)
    for kind, name in others:
        schema, _, bare = name.partition(".")
        found[kind] |= {name, bare} if schema in homes else {name}
    return {
        **found,
        "table": {name for name, _ in tables},
        "column": {f"{name}.{each}" for name, own in tables for each in own},
        "index": {name.rpartition(".")[2] for name, valid in indexes.items() if valid},
    }


def _meant(table: str, stand_ins: Collection[str]) -> set[str]:
    """Return how a table may be named by a script; stand_ins: schemas, an empty one for none."""
    bare = table.rpartition(".")[2]
    return {f"{schema}.{bare}" if schema else bare for schema in stand_ins}


def _unmade(
    standing: Mapping[tuple[str, str], tuple[str, int]],
    existing: Mapping[str, set[str]],
    models: Mapping[str, Collection[str]],
) -> Iterator[str]:
    """Say what a recorded revision makes and the models have, but the database has not.

    Without models only where none of it exists: a script may drop in a way that its text hides.
    """
    wanted = {("table", each) for each in models}
    wanted |= {("column", f"{table}.{each}") for table, own in models.items() for each in own}
    made = {name for kind, name in standing if kind == "table"}
    gone = made - existing["table"]
    if not models and gone == made:
        wanted = {("table", each) for each in made}
    for (kind, name), (file, line) in standing.items():
        of_gone = kind == "column" and name.rpartition(".")[0] in gone
        if (kind, name) in wanted and name not in existing[kind] and not of_gone:
            yield f"{kind} {name} does not exist, which {file}:{line} makes"


def _read(revisions: Iterable[Revision]) -> list[tuple[Revision, list[Operation]]]:
    """Read the texts of scripts; one whose source is gone says nothing."""
    return [(each, list(_stored(each))) for each in revisions if each.path.suffix == ".py"]


def _stored(revision: Revision) -> Iterator[Operation]:
    """Yield what a script does, by names as the server stores them."""
    for each in operations.read(revision.path.read_text(encoding="utf-8", errors="replace")):
        yield replace(each, name=stored(each.name), owner=stored(each.owner))


def _of(
    every: Sequence[tuple[Revision, list[Operation]]], ids: Collection[str] | None = None
) -> Iterator[tuple[str, Operation]]:
    """Yield what these revisions do, or all of them, each with the name of its file."""
    for revision, does in every:
        if ids is None or revision.id in ids:
            yield from ((revision.path.name, each) for each in does)
