"""How the database differs from the models, and which differences are accepted."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.catalog import catalog
from backset.errors import Finding, SettingsError
from backset.settings import writing
from backset.text import pasted
from backset.text.pasted import literal
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from backset.connections.session import Session
    from backset.settings.values import Ignore

LEFTOVER = "leftover table"
ENUM_KINDS = frozenset(
    {"missing enum", "missing enum value", "extra enum value", "enum order", "enum column"}
)


def drift(
    differences: Sequence[Mapping[str, str]], session: Session, alembic: str
) -> list[Finding]:
    """Return the findings of the worker's differences; one query where tables are left over.

    alembic: how a command of Alembic on that chain begins.

    Alembic also calls a partition, a table of an extension, or a version table in the schema of a
    tenant one that no model has. They are nobody's to drop, and left out.
    """
    names = [each["name"] for each in differences if each["kind"] == LEFTOVER]
    rows = _rows(names, session) if names else {}
    return [
        _leftover(each, rows[each["name"]]) if each["kind"] == LEFTOVER else _drift(each, alembic)
        for each in sorted(differences, key=lambda each: (each["kind"], each["name"], each["text"]))
        if each["kind"] != LEFTOVER or each["name"] in rows
    ]


def _rows(names: Sequence[str], session: Session) -> dict[str, int]:
    """Return the rows of the tables; a name without a schema means the first of that name."""
    spare = set(catalog.version_tables(session))  # Alembic's own, wherever env.py says it is
    found_there = [each for each in catalog.tables(session) if each not in spare]
    tables = sorted(found_there, key=lambda each: each[0] != "public", reverse=True)
    known = {table: (schema, table) for schema, table in tables}
    known |= {f"{schema}.{table}": (schema, table) for schema, table in tables}
    wanted = {name: known[name] for name in names if name in known}
    found = catalog.counts(session, list(wanted.values()))
    return {name: found[catalog.shown(*table)] for name, table in wanted.items()}


def _leftover(difference: Mapping[str, str], rows: int) -> Finding:
    return Finding(
        kind=LEFTOVER,
        name=difference["name"],
        what=difference["text"],
        why=f"no model has it; it has {count(rows, 'row')}",
        remedy="drop it in a migration, add a model, or let env.py's include_object leave it out",
    )


def _drift(difference: Mapping[str, str], alembic: str) -> Finding:
    return Finding(
        kind="drift",
        name=difference["name"],
        what=difference["text"],
        why="models and migrations disagree",
        remedy=f"{alembic} revision --autogenerate -m '…'",
    )


def enums(
    models: Sequence[Mapping[str, Any]],
    session: Session,
    schema: str = "",
    told: Collection[str] = (),
) -> list[Finding]:
    """Compare the worker's list of the models' enums with the database, in two queries.

    told: the columns, as people write them, of which Alembic has said that their type differs; it
    need not compare types.
    schema: where those of this chain are, if the settings say so. An enum without a schema is the
    one there, else the one that the search path finds, else those beside a version table: env.py
    may go through the schemas of tenants.
    """
    if not models:
        return []
    found = [_Enum(*row) for row in session.execute(_ENUMS).fetchall()]
    return [
        *(each for model in models for each in _compared(model, _meant(model, found, schema))),
        *_enum_columns(models, session, told),
    ]


@dataclass(frozen=True, slots=True)
class _Enum:
    """An enum type of a database. is_at_home: whether a version table is beside it."""

    schema: str
    name: str
    is_visible: bool
    is_at_home: bool
    values: list[str]


def _meant(model: Mapping[str, Any], every: Sequence[_Enum], schema: str) -> list[_Enum]:
    """Return the types that an enum of the models may mean; several where there are tenants."""
    same = [each for each in every if each.name == model["name"]]
    if model["schema"]:
        return [each for each in same if each.schema == model["schema"]]
    ranked = (
        [each for each in same if each.schema == schema],
        [each for each in same if each.is_visible],
        [each for each in same if each.is_at_home],
    )
    return next(filter(None, ranked), [])


def _compared(model: Mapping[str, Any], meant: Sequence[_Enum]) -> Iterator[Finding]:
    for each in meant:
        yield from _compare(catalog.shown(each.schema, each.name), model["values"], each.values)
    if not meant:
        yield from _compare(
            catalog.shown(model["schema"] or "public", model["name"]), model["values"], None
        )


def _enum_columns(
    models: Sequence[Mapping[str, Any]], session: Session, told: Collection[str]
) -> Iterator[Finding]:
    """Find the columns that are of another type than the enum, such as varchar."""
    wanted = [(column, each) for each in models for column in each.get("columns", ())]
    names = [[str(column[part]) for column, _ in wanted] for part in (1, 2)]
    there = {(row[0], *row[2:4]): row for row in session.execute(_ENUM_COLUMNS, names)}
    there |= {(None, *row[2:4]): row for row in there.values() if row[1]}
    for column, enum in wanted:
        if (row := there.get(tuple(column))) is None:
            continue
        schema, _, table, name, is_array, of_schema, of_name, type_, quoted, altered = row
        owner = f"{catalog.shown(schema, table)}.{name}"
        is_it = of_name == enum["name"] and enum["schema"] in {None, of_schema}
        if is_it or owner in told:
            continue
        type_name = catalog.shown(enum["schema"] or "public", enum["name"])
        brackets = "[]" if is_array else ""
        yield _finding(
            "enum column",
            owner,
            f"{owner} is {type_}, and the models have the enum {type_name}",
            "the database lets in what no model can read, and a comparison with the enum fails",
            f'op.execute("{altered} TYPE {type_name}{brackets} USING '
            f'{quoted}::text{brackets}::{type_name}{brackets}") in a migration',
        )


def _compare(name: str, wanted: Sequence[str], existing: Sequence[str] | None) -> Iterator[Finding]:
    """Compare the values of one enum: those of the models with the database's; None: it has none.

    The order is compared among the values that both have.
    """
    if existing is None:
        yield _finding(
            *("missing enum", name, f"the enum type {name} does not exist"),
            "the models use it",
            f'op.execute("CREATE TYPE {name} AS ENUM ({", ".join(map(literal, wanted))})")',
        )
        return
    for value in wanted:
        if value not in existing:
            yield _finding(
                *("missing enum value", name, f"the enum {name} lacks {literal(value)}"),
                "the models have it: writing such a row fails",
                f'op.execute("ALTER TYPE {name} ADD VALUE {literal(value)}") in a migration',
            )
    for value in existing:
        if value not in wanted:
            yield _finding(
                *("extra enum value", name, f"the enum {name} has {literal(value)}"),
                "no model knows it: reading such a row fails",
                "add it to the model, or let a migration make the type anew without it",
            )
    common = [value for value in existing if value in wanted]
    if common != [value for value in wanted if value in existing]:
        yield _finding(
            *("enum order", name, f"the enum {name} has the order {', '.join(common)}"),
            "the models have another one: ORDER BY, < and max() follow the database's",
            "order the model like the database, or let a migration make the type anew",
        )


def _finding(kind: str, name: str, what: str, why: str, remedy: str) -> Finding:
    return Finding(kind=kind, name=name, what=what, why=why, remedy=remedy)


_ENUM_COLUMNS = """
SELECT n.nspname, pg_table_is_visible(c.oid), c.relname, a.attname, t.typcategory = 'A',
       en.nspname, e.typname, format_type(a.atttypid, a.atttypmod),
       quote_ident(a.attname),
       format('ALTER TABLE %%s ALTER COLUMN %%I', c.oid::regclass, a.attname)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_type d ON d.oid = a.atttypid
     JOIN pg_type t ON t.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
     JOIN pg_type e ON e.oid = CASE t.typcategory WHEN 'A' THEN t.typelem ELSE t.oid END
     JOIN pg_namespace en ON en.oid = e.typnamespace
WHERE c.relkind IN ('r', 'p') AND NOT a.attisdropped
  AND (c.relname, a.attname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
_ENUMS = """
SELECT n.nspname, t.typname, pg_type_is_visible(t.oid), EXISTS (
           SELECT FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = n.oid AND c.relkind = 'r' AND a.attname = 'version_num'),
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid
             ORDER BY e.enumsortorder)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'e'
"""


# What migrations have made otherwise than the models say. All else is about rows, settings, or
# the state of this one database, and is not for a file that all checkouts share.
DIFFERENCES = frozenset(
    {
        *("drift", "leftover table", "invalid index", "not valid constraint", "disabled trigger"),
        *("missing enum", "missing enum value", "extra enum value", "enum order", "enum column"),
        *("deep drift", "beyond the models"),
    }
)
_HEADER = """\
# Accepted differences between the models and the database. `invoke verify` says only what is new
# or gone; `invoke verify --accept` writes this file anew, and keeps the reasons.
"""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The accepted differences: the reason of each, by kind and text."""

    path: Path
    reasons: Mapping[tuple[str, str], str]

    def has(self, finding: Finding) -> bool:
        """Tell whether a finding is an accepted difference."""
        return (finding.kind, finding.what) in self.reasons

    def of(self, kinds: Collection[str]) -> frozenset[tuple[str, str]]:
        """Return the accepted differences of these kinds."""
        return frozenset(each for each in self.reasons if each[0] in kinds)

    def vanished(
        self, findings: Iterable[Finding], accept: str, unasked: Collection[str] = ()
    ) -> list[Finding]:
        """Return a finding for each accepted difference that is none any more.

        accept: the command that brings the file up to date. unasked: kinds that were not looked
        for.
        """
        found = {(each.kind, each.what) for each in findings}
        return [
            Finding(
                kind="vanished difference",
                name=what,
                what=f"{what}: this {kind} is gone",
                why=f"{self.path.name} still accepts it",
                remedy=accept,
            )
            for kind, what in sorted(self.reasons.keys() - found - self.of(unasked))
        ]


def read(path: Path) -> Baseline:
    """Read the file; no file is an empty one. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Baseline(path, {})
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    try:
        entries = tomllib.loads(text).get("differences", [])
        reasons = {(each["kind"], each["what"]): each.get("reason", "") for each in entries}
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(path, str(error)) from None
    except (AttributeError, KeyError, TypeError):
        raise _unreadable(path, "each difference needs a kind and a what") from None
    return Baseline(path, reasons)


def write(old: Baseline, findings: Iterable[Finding], unasked: Collection[str] = ()) -> Baseline:
    """Record the differences among the findings; the reasons that are there already are kept.

    unasked: kinds that were not looked for, of which all that is there stays.
    Where there is nothing to record and no file, none is made. Raises OSError.
    """
    found = {(each.kind, each.what) for each in findings if each.kind in DIFFERENCES}
    found |= old.of(unasked)
    reasons = {key: old.reasons.get(key, "") for key in sorted(found)}
    lines = [
        "    {{ kind = {}, what = {}, reason = {} }},\n".format(*map(pasted.string, (*key, reason)))
        for key, reason in reasons.items()
    ]
    if lines or old.path.exists():
        writing.replace(old.path.resolve(), f"{_HEADER}differences = [\n{''.join(lines)}]\n")
    return Baseline(old.path, reasons)


def changes(old: Baseline, new: Baseline) -> str:
    """Say what has become of the file."""
    added, gone = len(new.reasons.keys() - old.reasons), len(old.reasons.keys() - new.reasons)
    if not (added or gone):
        return f"{new.path.name} is as it was" if old.reasons else "nothing to accept"
    return f"{new.path.name} has {count(len(new.reasons), 'difference')}: +{added} −{gone}"


def _unreadable(path: Path, why: str) -> SettingsError:
    return SettingsError(
        [(f"{path.name}: {why}", "correct the file, or remove it and accept anew")]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is left of the findings, in their order.

    accepted, silenced: how many the baseline and the settings took away.
    expired, unused, vanished: what has become of entries of the settings and of the baseline.
    """

    findings: tuple[Finding, ...]
    accepted: int
    silenced: int
    expired: tuple[Finding, ...]
    unused: tuple[Finding, ...]
    vanished: tuple[Finding, ...]


def judge(
    findings: Sequence[Finding],
    ignores: Sequence[Ignore],
    baseline: Baseline,
    *,
    today: date,
    accept: str,
    unasked: Collection[str] = (),
) -> Judged:
    """Hold findings against the settings, and what is left of them against the baseline.

    accept: the command that brings the baseline up to date. unasked: kinds that were not looked
    for, so that nobody knows what has become of an entry for one of them.
    """
    valid = [each for each in ignores if not each.has_expired(today)]
    loud = [each for each in findings if not any(_covers(entry, each) for entry in valid)]
    left = [each for each in loud if not baseline.has(each)]
    return Judged(
        findings=tuple(left),
        accepted=len(loud) - len(left),
        silenced=len(findings) - len(loud),
        expired=tuple(_expired(each) for each in ignores if each not in valid),
        unused=tuple(
            _unused(each)
            for each in valid
            if each.kind not in unasked and not any(_covers(each, one) for one in findings)
        ),
        vanished=tuple(baseline.vanished(loud, accept, unasked)),
    )


def _covers(entry: Ignore, finding: Finding) -> bool:
    return entry.covers(finding.kind, finding.name, finding.what)


def _expired(entry: Ignore) -> Finding:
    return Finding(
        kind="expired ignore",
        name=entry.name,
        what=f"[[tool.backset.ignore]] {entry} ended on {entry.until}",
        why="what it silenced is said again",
        remedy="mend that and remove the entry, or give it another date",
    )


def _unused(entry: Ignore) -> Finding:
    return Finding(
        kind="unused ignore",
        name=entry.name,
        what=f"[[tool.backset.ignore]] {entry} matches nothing",
        why="it could hide something new",
        remedy="remove the entry, or correct its kind and name",
    )
