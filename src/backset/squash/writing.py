"""The migration that makes what a chain has made: as operations of Alembic, the rest as SQL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backset.catalog import catalog
from backset.migrate.answers import Rendered
from backset.squash import difference, layout, statements
from backset.squash.altering import ChainState
from backset.squash.built import BuiltObjects
from backset.squash.composing import Composer
from backset.text.pasted import bare, literal, parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from backset.catalog.schema import Item
    from backset.migrate.worker import Worker
    from backset.prove.chains import BuiltChain
    from backset.prove.scratch import Scratch
    from backset.servers.programs import Programs

_WIDTH = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a migration says: the lines of upgrade() and of downgrade(), not indented.

    imports: lines that these need. needed: `sa` and `op` as env.py wants them, where they are used,
    with the lines that import them. plain: the keys of what is written as SQL, as `catalog.schema`
    has them. unsaid: those that have changed in a way that is not written, so that they differ.
    """

    upgrade: str
    downgrade: str
    imports: tuple[str, ...] = ()
    needed: Mapping[str, str] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """A scratch database up to the revision below the first one that is replaced."""

    made: Scratch
    worker: Worker


def read(
    made: Scratch,
    worker: Worker,
    programs: Programs,
    *,
    rows: bool,
    as_sql: bool = False,
    plain: Collection[str] = (),
    before: Mapping[str, Item] | None = None,
    below: Below | None = None,
) -> Body:
    """Return what makes the same as stands in a scratch database.

    rows: whether those that the migrations inserted come along. as_sql: all of it is SQL. plain:
    keys of tables and indexes that are SQL in any case. before: what the scratch database had
    before the first migration. below: where the revisions that are replaced begin, if others come
    before them. Raises StepFailedError.
    """

    def state(one: Scratch, by: Worker) -> ChainState:
        entries = statements.read(one.session, one.target, programs)
        spare = catalog.version_tables(one.session)
        built = BuiltObjects(one.session, entries, one.schema(), before or {}, spare)
        rendered = Rendered() if as_sql else by.render(one.session, built.wanted(plain))
        return ChainState(built=built, rendered=rendered, session=one.session)

    new = state(made, worker)
    if below is None:
        return _whole(new, rows=rows)
    old = state(below.made, below.worker)
    up = difference.between(old, new, rows=rows)
    down = difference.between(new, old, rows=rows)
    body = _body(new, up.code, down.code, up.plain)
    return replace(body, unsaid=tuple(dict.fromkeys((*up.unsaid, *down.unsaid))))


def _whole(state: ChainState, *, rows: bool) -> Body:
    left: set[str] = set()
    while tied := (composer := Composer(state.built, state.rendered, left)).tied():
        left |= tied
    texts = composer.texts(state.session if rows else None)
    return _body(state, *texts, composer.plain)


def _body(state: ChainState, upgrade: str, downgrade: str, plain: Sequence[str]) -> Body:
    rendered, both = state.rendered, f"{upgrade}\n{downgrade}"
    needed = {
        rendered.sa: f"import sqlalchemy as {rendered.sa}",
        rendered.op: f"from alembic import op as {rendered.op}".removesuffix(" as op"),
    }
    return Body(
        upgrade=upgrade,
        downgrade=downgrade,
        imports=tuple(each for each in rendered.imports if _is_used(each, both)),
        needed={name: line for name, line in needed.items() if name and f"{name}." in both},
        plain=tuple(plain),
    )


def _is_used(line: str, code: str) -> bool:
    """Tell whether code uses what a line imports."""
    name = line.rsplit(maxsplit=1)[-1]
    return f"{name}." in code


_GUARD = """\
DO $$
DECLARE
    place text;
    known bigint;
    is_more boolean;
BEGIN
    FOR place, known IN VALUES
        {tables}
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s OFFSET %s)', place, known) INTO is_more;
        IF is_more THEN
            RAISE EXCEPTION '% has rows that the replaced revisions may have changed', place
            USING HINT = 'Run those in place of this one, as backset does.';
        END IF;
    END LOOP;
END
$$"""


def guarded(body: Body, below: BuiltChain) -> Body:
    """Let a part be run only where its tables have no more rows than the revisions before inserted.

    below: what these have made.
    """
    tables = [each.name for each in below.schema.values() if each.kind == "table"]
    totals = {name: below.rows.get(catalog.shown(*map(bare, parts(name)))) for name in tables}
    pairs = [f"({literal(name)}, {found.total if found else 0})" for name, found in totals.items()]
    if not pairs:
        return body
    return begun(body, [_GUARD.format(tables=",\n        ".join(sorted(pairs)))])


def begun(body: Body, statements: Sequence[str]) -> Body:
    """Let upgrade() begin with some statements."""
    if not statements:
        return body
    op = next((name for name, line in body.needed.items() if line.endswith("import op")), "op")
    first = [layout.execute(each, op) for each in statements]
    rest = [body.upgrade] if body.upgrade != "pass" else []
    needed = {**body.needed, op: "from alembic import op"}
    return replace(body, upgrade=layout.joined([*first, *rest]), needed=needed)


def write(
    worker: Worker,
    body: Body,
    *,
    folder: Path,
    revision: str,
    message: str,
    down: Sequence[str] = (),
    labels: Sequence[str] = (),
    depends_on: Sequence[str] = (),
    replaces: Sequence[str],
    replaced_heads: Sequence[str] = (),
    replaced_schema: str = "",
) -> Path:
    """Write the file of the revision into `folder`, as the project's template and hooks have it.

    Raises StepFailedError.
    """
    names = [*_assigned("replaces", replaces)]
    if replaced_heads and tuple(replaced_heads) != tuple(replaces[-1:]):
        names += _assigned("replaced_heads", replaced_heads)
    if replaced_schema:
        names.append(f"replaced_schema = {layout.string(replaced_schema)}")
    return worker.write(
        folder=str(folder),
        revision=revision,
        message=message,
        down=list(down),
        labels=list(labels),
        depends_on=list(depends_on),
        upgrades=layout.indented(body.upgrade).strip(),
        downgrades=layout.indented(body.downgrade).strip(),
        imports="\n".join(body.imports),
        needed={**body.needed, **{each.split()[-1]: each for each in body.imports}},
        names=names,
    )


def _assigned(name: str, values: Sequence[str]) -> Iterator[str]:
    """Yield the lines that give a name a tuple, with as many of its values in a line as fit."""
    texts = [layout.string(each) for each in values]
    whole = f"{name} = ({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    if len(whole) <= _WIDTH:
        yield whole
        return
    yield f"{name} = ("
    line = "   "
    for each in texts:
        if len(line) + len(each) + len(" ,") > _WIDTH:
            yield line
            line = "   "
        line += f" {each},"
    yield from (line, ")")
