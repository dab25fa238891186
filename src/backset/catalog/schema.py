"""How do two schemas differ? Every object is read with what can differ in it, and compared.

An object that is not there takes its parts with it: of a missing table no column is named.
"""

from __future__ import annotations

import gc
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec
from psycopg import sql

from backset.catalog import catalog, sharing
from backset.catalog.catalog import FIRST_OF_A_USER, SETTINGS, spelled
from backset.catalog.object_hashes import ASPECTS, IS_OURS, TO_COMPARE
from backset.text.pasted import parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from backset.catalog.sharing import Sharing
    from backset.connections.session import Session

_SHOWN_CHARS = 100
_ORDER = "position"
_SECRET = "secret options"  # noqa: S105  (the name of an aspect, whose text is a hash)


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An object of a schema, such as a table, one of its columns, or a function.

    name: qualified, as PostgreSQL writes it. parent: the `key` of what it is a part of, or nothing.
    aspects: what can differ, in words; what is as usual is left out. A database may have many
    thousands of these: a frozen dataclass is made in three times the time. None is in a circle, so
    that no collector has to look at them.
    """

    kind: str
    name: str
    parent: str = ""
    aspects: Mapping[str, str] = {}

    @property
    def key(self) -> str:
        """What it is, whatever its aspects: `table public.tasks`."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that two databases do not have in common.

    subject: the key of the object. what: a stable word, `missing`, `added`, `renamed`, `order`, or
    the name of the aspect. minor: whether the two do the same work nevertheless.
    """

    subject: str
    what: str
    text: str
    minor: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Sides:
    """What the two are called in words, such as `the old chain` and `the new chain`."""

    old: str
    new: str


def between(
    old: Mapping[str, Item],
    new: Mapping[str, Item],
    sides: Sides,
    *,
    minor: Collection[str] = (),
) -> list[Difference]:
    """Return how two schemas differ, by name; none is good.

    minor: aspects, and kinds of objects, that matter less. The order of columns always does.
    """
    gone, come = _lonely(old, new), _lonely(new, old)
    found = list(_renamed(gone, come, sides))
    found += [_one_sided(each, "missing", sides.old, minor) for each in gone.values()]
    found += [_one_sided(each, "added", sides.new, minor) for each in come.values()]
    both = [(each, new[key]) for key, each in old.items() if key in new]
    differing = [(a, b) for a, b in both if a.aspects != b.aspects]
    for a, b in differing:
        found += _changed(a, b, sides, minor)
    moved = {a.parent for a, b in differing if a.aspects.get(_ORDER) != b.aspects.get(_ORDER)}
    found += _reordered([each for each in both if each[0].parent in moved], sides)
    return sorted(found, key=lambda each: (each.minor, each.subject, each.what))


def normal(definition: str) -> str:
    """Return an expression in one of the ways in which the server spells it.

    Of a list of varchar constants it first writes (ARRAY['a'::varchar])::text[], and after a
    restore ARRAY[('a'::varchar)::text]; those of cidr it casts to inet. So these casts, and
    parentheses around what needs none, do not count; those that group operators do.
    """
    text = _LITERAL.sub(lambda match: match[0].translate(_HIDDEN), definition)
    text = _CAST.sub("", text)
    before = ""
    while text != before:
        before, text = text, _TWICE.sub(r"(\1)", _ATOM.sub(r"\1", text))
    return text


_LITERAL = re.compile(r"'(?:[^']|'')*'")
_HIDDEN = str.maketrans("():[]", "\1\2\3\4\5")  # of a literal, nothing is left out
_CAST = re.compile(r"::(?:text|inet)(\[\])?")
_ATOM = re.compile(r"""\(((?:ARRAY\[[^()\]]*\]|[\w."]+|'(?:[^']|'')*')(?:::[\w ."]+)?)\)""")
_TWICE = re.compile(r"\(\(([^()]*)\)\)")


def _lonely(these: Mapping[str, Item], others: Mapping[str, Item]) -> dict[str, Item]:
    """Return what only the first has, without the parts of what only it has."""
    return {
        key: each
        for key, each in these.items()
        if key not in others and (each.parent not in these or each.parent in others)
    }


def _renamed(gone: dict[str, Item], come: dict[str, Item], sides: Sides) -> Iterator[Difference]:
    """Take away parts that differ in nothing but the name, such as constraints; but not columns."""
    parts = {key: each for key, each in come.items() if each.parent and _ORDER not in each.aspects}
    waiting: dict[Any, list[str]] = {}
    for key, each in parts.items():
        waiting.setdefault(_likeness(each), []).append(key)
    for key, each in list(gone.items()):
        same = waiting.get(_likeness(each), []) if each.parent and each.aspects else []
        if same:
            other = same.pop(0)
            here, there = shown(each.key), come[other].name
            text = f"{here} is called {shown(there)} in {sides.new}"
            yield Difference(subject=key, what="renamed", text=text)
            del gone[key], come[other]


def _likeness(item: Item) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return item.kind, item.parent, _compared(item, {_ORDER})


def _compared(item: Item, spared: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return what of an object is compared, but for some aspects."""
    texts = item.aspects.items()
    return tuple(sorted((n, _meant(item.kind, n, each)) for n, each in texts if n not in spared))


def _one_sided(item: Item, what: str, side: str, minor: Collection[str]) -> Difference:
    text = f"{shown(item.key)} is only in {side}"
    return Difference(subject=item.key, what=what, text=text, minor=item.kind in minor)


def _changed(old: Item, new: Item, sides: Sides, minor: Collection[str]) -> Iterator[Difference]:
    for aspect in sorted((old.aspects.keys() | new.aspects.keys()) - {_ORDER}):
        before, after = old.aspects.get(aspect, ""), new.aspects.get(aspect, "")
        if before != after and _meant(old.kind, aspect, before) != _meant(old.kind, aspect, after):
            text = f"{shown(old.key)}: {_other(aspect, before, after, sides)}"
            is_minor = aspect in minor or old.kind in minor
            yield Difference(subject=old.key, what=aspect, text=text, minor=is_minor)


def _meant(kind: str, aspect: str, text: str) -> str:
    """Return what of an aspect is compared: an expression in one spelling, all else as it is.

    The body of a routine is as somebody has typed it, unless the server has parsed it.
    """
    if aspect not in _PARSED:
        return text
    if kind not in _ROUTINES:
        return normal(text)
    body = _TYPED.search(text)
    return normal(text[: body.start()]) + body[0] if body else normal(text)


_PARSED = frozenset(
    {"definition", "default", "generated", "using", "check", "bounds", "partition key"}
    | {"rows", "columns"}
)
_ROUTINES = frozenset({"function", "procedure"})
_TYPED = re.compile(r"^AS [$'].*", re.MULTILINE | re.DOTALL)


def _other(aspect: str, before: str, after: str, sides: Sides) -> str:
    if aspect == _SECRET:
        return f"{aspect} are not the same in {sides.new}"
    words = _labels(before, after, sides) if aspect == "labels" else ""
    return words or f"{aspect} is {_sides(before, after, sides)}"


def _labels(before: str, after: str, sides: Sides) -> str:
    """Say which labels of an enum are on one side only; nothing if it is about their order."""
    first, second = _LITERAL.findall(before), _LITERAL.findall(after)
    lost = [each for each in first if each not in second]
    new = [each for each in second if each not in first]
    words = [f"{', '.join(lost)} only in {sides.old}"] if lost else []
    words += [f"{', '.join(new)} only in {sides.new}"] if new else []
    return "; ".join(words)


def _sides(before: str, after: str, sides: Sides) -> str:
    before, after = (text or "none" for text in (before, after))
    if "\n" in before + after:
        pairs = zip_longest(before.split("\n"), after.split("\n"), fillvalue="")
        lines = [(first.strip(), second.strip()) for first, second in pairs]
        for number, (first, second) in enumerate(lines, 1):
            if first != second:
                return f"another from line {number} on: {_sides(first, second, sides)}"
        return f"another in its white space in {sides.new}"
    start = max(0, _common(before, after) - _SHOWN_CHARS // 3)
    return f"{_cut(before, start)} in {sides.old}, {_cut(after, start)} in {sides.new}"


def _common(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))


def _cut(text: str, start: int) -> str:
    if len(text) <= _SHOWN_CHARS:
        return text
    piece = text[start : start + _SHOWN_CHARS]
    return ("…" if start else "") + piece + ("…" if start + _SHOWN_CHARS < len(text) else "")


def _reordered(both: Sequence[tuple[Item, Item]], sides: Sides) -> Iterator[Difference]:
    """Compare the order of the columns that are on both sides."""
    before, after = (_columns([each[side] for each in both]) for side in (0, 1))
    for table, columns in before.items():
        if after.get(table, columns) != columns:
            order = " / ".join(
                ", ".join(parts(each)[-1] for each in side) for side in (columns, after[table])
            )
            text = f"{shown(table)}: its columns have another order in {sides.new}: {order}"
            yield Difference(subject=table, what="order", text=text, minor=True)


def _columns(items: Iterable[Item]) -> dict[str, Sequence[str]]:
    found: dict[str, list[tuple[int, str]]] = {}
    for each in items:
        if _ORDER in each.aspects:
            place = int(each.aspects[_ORDER]), each.key
            found.setdefault(each.parent, []).append(place)
    return {table: [key for _, key in sorted(places)] for table, places in found.items()}


def shown(key: str) -> str:
    """Return names as people write them: without `public`."""
    return re.sub(r"(?<![\w.\"])public\.", "", key)


# Aspects that differ between databases of one chain that do the same work.
OF_AN_ADMINISTRATOR = frozenset(
    {"owner", "rights", "column rights", "tablespace", "version", _SECRET}
)
KINDS_OF_AN_ADMINISTRATOR = frozenset({"default acl", "user mapping"})


def digest(items: Mapping[str, Item], major: int) -> str:
    """Return `18:` and 32 hexadecimal digits: the same for two schemas that do the same work.

    major: of the server's version, since each writes definitions in its own way. What is an
    administrator's does not count, no secret either, nor where columns stand.
    """
    spared = OF_AN_ADMINISTRATOR | {_ORDER}
    lines = [[key, *_compared(each, spared)] for key, each in sorted(items.items())]
    return f"{major}:{sha256(json.dumps(lines).encode()).hexdigest()[:32]}"


def of_dump(session: Session) -> str:
    """Return the digest of what a dump has of a database: what was restored of it has the same.

    Before it stands by what it was made: of two digests that begin otherwise, none tells anything.
    pg_dump leaves out an index that CREATE INDEX CONCURRENTLY did not finish. A restored database
    has a schema `public` in any case, and schemas that the script of an extension makes.
    """
    empty = {f"schema {each}" for each in ("public", *catalog.empty_schemas(session))}
    found = {
        key: each
        for key, each in read(session).items()
        if not (key in empty or each.kind in KINDS_OF_AN_ADMINISTRATOR or "valid" in each.aspects)
    }
    return f"{_MADE_BY}:{digest(found, session.info.server_version // 10000)}"


def read(
    session: Session,
    *,
    spare: Collection[tuple[str, str]] = (),
    others: Sharing = sharing.NOBODY,
) -> dict[str, Item]:
    """Return the objects by their keys.

    spare: schema and name of tables that are left out with their parts, such as the version table.
    others: what belongs to others, and is left out as well.
    """
    with _uncollected():
        with session.transaction():
            rows = spelled(session, sql.SQL(_SCHEMA))
            spared = keys(session, spare)
        return items(rows, spared | others.keys, others.schemas)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage: of thousands of new objects there is none, and each look costs more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def items(
    rows: Iterable[Sequence[Any]], spared: Collection[str], schemas: Collection[str] = ()
) -> dict[str, Item]:
    """Return what the rows of ROWS describe, by its keys.

    spared: keys of what is left out with its parts. schemas: those that are left out whole.
    """
    spared = frozenset(spared)
    found = {
        f"{kind} {name}": Item(kind=kind, name=name, parent=parent or "", aspects=aspects)
        for number, kind, name, parent, schema, own, more in rows
        if schema not in schemas
        for aspects in [_aspects(number, [*own, *more])]
    }
    if not spared:
        return found
    return {key: each for key, each in found.items() if not {key, each.parent} & spared}


def _aspects(number: int, texts: Sequence[str | None]) -> dict[str, str]:
    return {name: text for name, text in zip(_NAMES[number], texts, strict=True) if text}


_NAMES = [(*each, "comment", "security labels", "owner", "rights") for each in ASPECTS]


def keys(session: Session, tables: Collection[tuple[str, str]]) -> set[str]:
    """Return the keys of tables, given by schema and name."""
    found = (session.execute(_KEY, table).fetchone() for table in tables)
    return {key for (key,) in filter(None, found)}


_KEY = "SELECT format('table %%I.%%I', %s::text, %s::text)"
# Said of objid alone, this gets into each part, before the definitions of 6000 system objects.
_OF_A_USER = f"(objid >= {FIRST_OF_A_USER} OR objid = to_regnamespace('public'))"
# Columns, and the sequences of columns, have the owner of their table.
_OWNER = """CASE WHEN sub = 0 AND (relation = 0 OR classid <> 'pg_class'::regclass)
    THEN pg_get_userbyid(owner) END"""
# The rights of the owner go with the owner: of these counts what has been taken away.
_RIGHTS = """
CASE WHEN rights IS NOT NULL OR of_kind IN ('f', 'T', 'l') THEN (
    SELECT string_agg(grants, '; ' ORDER BY grants) FROM (
        SELECT coalesce(r.rolname, 'PUBLIC') || ' may '
               || string_agg(lower(privilege_type)
                             || CASE WHEN is_grantable THEN ' and grant it' ELSE '' END,
                             ', ' ORDER BY privilege_type)
        FROM aclexplode(coalesce(rights, acldefault(of_kind, owner)))
             LEFT JOIN pg_roles r ON r.oid = grantee
        WHERE grantee <> owner GROUP BY r.rolname
        UNION ALL SELECT 'its owner may not ' || string_agg(lower(privilege_type), ', '
                                                            ORDER BY privilege_type)
        FROM (SELECT privilege_type FROM aclexplode(acldefault(of_kind, owner))
              WHERE grantee = owner EXCEPT
              SELECT privilege_type FROM aclexplode(rights) WHERE grantee = owner) AS taken
        WHERE rights IS NOT NULL HAVING count(*) > 0
    ) AS g (grants)) END
"""
# Made once, and hashed: two look-ups for each object would take a tenth of the time.
_NAMED = """
    SELECT c.oid, nspname AS schema,
           quote_ident(nspname) || '.' || quote_ident(relname) AS identity,
           CASE c.relkind WHEN 'f' THEN 'foreign table' WHEN 'v' THEN 'view'
               WHEN 'm' THEN 'materialized view' WHEN 'c' THEN 'composite type'
               WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'S' THEN 'sequence'
               ELSE 'table' END AS type
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"""
_LABELS = """CASE WHEN EXISTS (SELECT FROM pg_seclabel) THEN (
    SELECT string_agg(provider || ': ' || label, ', ' ORDER BY provider) FROM pg_seclabel l
    WHERE (l.classoid, l.objoid, l.objsubid) = (classid, objid, sub)) END"""
_SCHEMA = f"""
WITH object AS ({TO_COMPARE}),
     named_relation AS MATERIALIZED ({_NAMED}),
     member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
                UNION ALL SELECT classid, objid FROM pg_depend  -- what a range type brings along
                WHERE deptype = 'i' AND refclassid = 'pg_type'::regclass
                  AND classid IN ('pg_proc'::regclass, 'pg_cast'::regclass))
SELECT number, coalesce(word, o.type, own.type) AS kind, p.identity,
       CASE relation WHEN named THEN own.type || ' ' || own.identity
                     ELSE parent.type || ' ' || parent.identity END AS parent, place,
       aspects, ARRAY[description, {_LABELS}, {_OWNER}, {_RIGHTS}] AS more
FROM object LEFT JOIN named_relation own ON own.oid = named
     LEFT JOIN named_relation parent ON parent.oid = nullif(relation, named)
     LEFT JOIN LATERAL (SELECT * FROM pg_identify_object(classid, objid, sub)
                        WHERE own.oid IS NULL OFFSET 0) o ON true
     CROSS JOIN LATERAL (
         SELECT coalesce(own.schema, CASE o.type WHEN 'schema' THEN o.name ELSE o.schema END),
                coalesce(prefix || own.identity, own.identity || suffix, own.identity, o.identity)
     ) p (place, identity)
     LEFT JOIN pg_description d ON (d.classoid, d.objoid, d.objsubid) = (classid, objid, sub)
WHERE {_OF_A_USER}
  AND (objid >= {FIRST_OF_A_USER} OR classid = 'pg_namespace'::regclass AND p.identity = 'public')
  AND p.identity IS NOT NULL AND {IS_OURS}
"""
# The same for a session that takes one statement at a time, and gives one text back.
STATEMENTS = [each for each in SETTINGS.split(";") if each.strip()]
ROWS = f"""
SELECT coalesce(json_agg(json_build_array(number, kind, identity, parent, place, aspects, more)),
                '[]')::text FROM ({_SCHEMA}) AS found
"""
_RULES = (_SCHEMA, SETTINGS, *sorted(_PARSED), *(each.pattern for each in (_CAST, _ATOM, _TWICE)))
_MADE_BY = sha256("".join(_RULES).encode()).hexdigest()[:8]
