"""Models and database as PostgreSQL wrote both, object by object: what Alembic does not compare.

The models are what `create_all()` has made in a scratch database. What Alembic's comparison has
said is not said again, and what differs in name alone is none.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from msgspec import structs

from backset.catalog import schema
from backset.catalog.schema import Sides
from backset.described import described, key
from backset.errors import Finding
from backset.text.pasted import bare, literal, parts, quoted_if_needed
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from backset.catalog.schema import Difference, Item

    Items = Mapping[str, Item]
    Table = tuple[str, str]  # schema and name
    Part = tuple[str, str, str]  # the same, and the name of the part, or of the table itself
    Places = Callable[[Collection[Part]], Mapping[Part, str]]

KIND = "deep drift"
BEYOND = "beyond the models"
KINDS = frozenset({KIND, BEYOND})
SIDES = Sides("the models", "the database")

# What a table, column, index or constraint of a model can say. Of all else, such as a storage, what
# only the database has came by SQL of a migration, and no model could have it.
_MODELLED = {
    "table": frozenset({"persistence", "options", "partition key", "comment", "access method"}),
    "column": frozenset(
        {"type", "null", "default", "generated", "identity", "collation", "comment"}
    ),
    "index": frozenset({"definition"}),
    "constraint": frozenset({"definition"}),
}
# What Alembic calls a change of a column, and what of it that covers.
_COVERED = {
    "type": {"type", "collation"},
    "nullable": {"null"},
    "default": {"default", "generated", "identity"},
    "comment": {"comment"},
    "column": {"missing", "added"},
}
# What functions of env.py may call equal.
_CALLED_EQUAL = {"type": _COVERED["type"], "default": _COVERED["default"]}
_NO_TABLE = ("", "")
_OF_ITS_TYPE = frozenset({"type", "minimum", "maximum"})  # a sequence has that of its column
_PARTS = frozenset({"column", "index", "constraint", "sequence"})
_NAMED_BY_ANYBODY = frozenset({"index", "constraint", "sequence"})
_OF_ANYBODY = frozenset({"owner", "rights"})  # both were made by the same role, or should have been
_OF_THE_SERVER = frozenset({"schema", "extension"})  # both databases were given these
_CONSTRAINTS = ("constraint", "fk")  # as Alembic calls them
# PostgreSQL's manual: CURRENT_TIMESTAMP, without a precision, is now() by its name in the standard.
_NOW = {"CURRENT_TIMESTAMP": "now()"}
_ITS_OWN = "nextval() of its own sequence"
_NEXT = re.compile(r"nextval\('(.*)'::regclass\)")


@dataclass(frozen=True, slots=True)
class Catalogs:
    """The objects that the models make, and those of the database.

    lent: the keys of what the scratch database was given before. unmade: what the models could not
    make, as alembic_worker.making has it.
    """

    models: Items
    database: Items
    lent: frozenset[str] = frozenset()
    unmade: Sequence[Sequence[str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is known already.

    about: what Alembic's differences are about; excluded: what env.py's hooks leave out; each as
    alembic_worker.compare has it. findings: what has been found otherwise.
    """

    about: Sequence[Sequence[Any]] = ()
    excluded: Sequence[Sequence[Any]] = ()
    findings: Sequence[Finding] = ()


@described(kw_only=True)
class DeepComparison:
    """What `--deep` has compared, in the `deep` of the step `verify`."""

    objects: int = key("how many objects of the models were compared")
    beyond: Sequence[str] = key(
        "what only the database has, of kinds that models do not have, and nobody has accepted"
    )
    unmade: Sequence[str] = key("what the models could not make, each with why", default=())
    problem: str = key("why the models could not be made; empty where they were", default="")


@dataclass(frozen=True, slots=True)
class DeepFindings:
    """What was found, `objects` of the models having been compared.

    findings: of KINDS. kinds: the kind of the object that each of BEYOND is about, by its text.
    problem: why the models could not be made, with its remedy. unmade: what of them could not, and
    why.
    """

    objects: int = 0
    findings: tuple[Finding, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    remedy: str = ""
    unmade: tuple[tuple[str, str], ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether everything was compared."""
        return not (self.problem or self.unmade)

    def told(self, beyond: Sequence[Finding]) -> DeepComparison:
        """Return what programs get of it; beyond: what the database alone has, unaccepted."""
        return DeepComparison(
            objects=self.objects,
            beyond=tuple(each.what for each in beyond),
            problem=self.problem,
            unmade=tuple(f"{name}: {why}" for name, why in self.unmade),
        )


def compare(both: Catalogs, said: Said, places: Places) -> DeepFindings:
    """Return how the two differ, beyond what was said.

    places: says of tables and their parts where the models of the tables are.
    """
    models = _plain(both.models, both.lent | _served_by_others(both))
    database = _renamed(models, _plain(both.database, _given(both)))
    every = [
        each
        for each in schema.between(models, database, SIDES)
        if not each.minor and not _is_in_name_alone(each)
    ]
    said = replace(said, excluded=[*said.excluded, *(each[:4] for each in both.unmade)])
    judge = _Judge(models, database, said, frozenset((each.subject, each.what) for each in every))
    told = [each for each in every if not (judge.is_said(each) or judge.is_implied(each))]
    beyond = [each for each in told if judge.is_beyond(each)]
    drift = [each for each in told if each not in beyond]
    wanted = {each: (*judge.table(each), _bare_name(judge.item(each))) for each in drift}
    where = places({*wanted.values()}) if drift else {}
    return DeepFindings(
        objects=len(models),
        findings=(
            *(_finding(each, where.get(wanted[each], "the models")) for each in drift),
            *map(_beyond, beyond),
        ),
        kinds={
            each.text: judge.item(each).kind if each.what == "added" else each.what
            for each in beyond
        },
        unmade=_unmade(both.unmade),
    )


def _unmade(unmade: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    """Return what could not be made, and why; the index of such a table is not named again."""
    tables = {(space, table) for kind, space, table, _, _ in unmade if kind == "table"}
    return tuple(
        (_named(kind, space, table, name), why)
        for kind, space, table, name, why in unmade
        if kind == "table" or (space, table) not in tables
    )


def _named(kind: str, space: str, table: str, name: str) -> str:
    where = schema.shown(f"{space}.{table}") if table else name or "an object"
    return where if kind in {"", "table"} else f"{kind} {name} of {where}"


def summary(found: DeepFindings, left: Sequence[Finding], command: str) -> list[Finding]:
    """Return one finding for all that is beyond the models; none where there is nothing.

    People read how many there are, programs each of them.
    left: what of it nobody has accepted.
    """
    kinds = Counter(found.kinds[each.what] for each in left)
    if not kinds:
        return []
    named = ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items()))
    told = Finding(
        kind=BEYOND,
        what="; ".join(each.what for each in left),
        why="create_all() makes nothing of the kind, so migrations alone say what it is",
        remedy=f"`--json` names each, `{command}` accepts them",
    )
    short = f"{count(kinds.total(), 'thing')} of the database alone ({named})"
    return [replace(told, line=str(replace(told, what=short)))]


def _given(both: Catalogs) -> frozenset[str]:
    """Return the keys of what is lent to models; of an extension also where the role may not."""
    return frozenset(
        name
        for name, each in both.database.items()
        if each.kind in _OF_THE_SERVER
        and (name in both.lent or (each.kind == "extension" and name not in both.models))
    )


def _plain(items: Items, without: Collection[str]) -> dict[str, Item]:
    """Leave out what does not count, and let a column say whether it has a sequence of its own."""
    sequences = {
        f"column {each.aspects['column']}": f"nextval({literal(each.name)}::regclass)"
        for each in items.values()
        if each.kind == "sequence" and "column" in each.aspects
    }
    found = {}
    for name, each in items.items():
        aspects = {what: text for what, text in each.aspects.items() if what not in _OF_ANYBODY}
        if default := aspects.get("default"):
            is_its_own = default == sequences.get(name) or _is_of_others(default, items)
            aspects["default"] = _ITS_OWN if is_its_own else _NOW.get(default, default)
        if name not in without:
            found[name] = structs.replace(each, aspects=aspects)
    return found


def _served_by_others(both: Catalogs) -> set[str]:
    """Return the models' sequences of columns whose sequence in the database another role owns."""
    columns = {
        name
        for name, each in both.database.items()
        if _is_of_others(each.aspects.get("default", ""), both.database)
    }
    return {
        name
        for name, each in both.models.items()
        if each.kind == "sequence" and f"column {each.aspects.get('column')}" in columns
    }


def _is_of_others(default: str, items: Items) -> bool:
    """Tell whether it asks a sequence that was left out: one that another role owns."""
    asked = _NEXT.fullmatch(default)
    return asked is not None and f"sequence {asked[1]}" not in items


def _renamed(models: Items, database: Items) -> Items:
    """Return the database with the models' names of constraints that have more, or less, to say.

    MATCH FULL, NO INHERIT and the like come behind what the constraint is about, so that one of the
    two definitions begins with the other.
    """
    lonely = [each for name, each in models.items() if name not in database and _says(each)]
    found = dict(database)
    for name, each in database.items():
        if name in models or not _says(each):
            continue
        same = [one for one in lonely if one.parent == each.parent and _is_longer(one, each)]
        if len(same) == 1:
            lonely.remove(same[0])
            del found[name]
            found[same[0].key] = structs.replace(each, name=same[0].name)
    return found


def _says(item: Item) -> bool:
    return item.kind == "constraint" and "definition" in item.aspects


def _is_longer(one: Item, other: Item) -> bool:
    first, second = one.aspects["definition"], other.aspects["definition"]
    return first != second and (first.startswith(second) or second.startswith(first))


def _is_in_name_alone(each: Difference) -> bool:
    """Tell whether one side has left a name to the server, or to another naming convention."""
    return each.what == "renamed" and each.subject.partition(" ")[0] in _NAMED_BY_ANYBODY


class _Judge:
    """Tells what becomes of each difference; told: subject and what of all of them."""

    def __init__(
        self, models: Items, database: Items, said: Said, told: frozenset[tuple[str, str]]
    ) -> None:
        self._models, self._database, self._told = models, database, told
        self._findings = {(each.kind, each.name) for each in said.findings}
        self._about = {tuple(each[:4]) for each in said.about}
        self._columns = [
            (tuple(each[:2]), each[4]) for each in said.about if each[2] in _CONSTRAINTS
        ]
        self._excluded = {tuple(each) for each in said.excluded}

    def item(self, each: Difference) -> Item:
        """Return the object that it is about."""
        return self._database.get(each.subject) or self._models[each.subject]

    def table(self, each: Difference) -> Table:
        """Return schema and name of the table that it is about; empty if that is none."""
        item = self.item(each)
        owner = item.parent or item.key
        kind, _, identity = owner.partition(" ")
        names = [*map(bare, parts(identity))]
        return (names[0], names[1]) if kind == "table" and names[1:] else _NO_TABLE

    def is_said(self, each: Difference) -> bool:
        """Tell whether Alembic, or another finding, says it, or env.py's hooks leave it out."""
        item, table = self.item(each), self.table(each)
        name = _bare_name(item)
        if ("table", *table, table[1]) in self._excluded:
            return True
        if item.kind != "table" and any(
            (*table, name) == one[1:] and each.what in _CALLED_EQUAL.get(one[0], {each.what})
            for one in self._excluded
        ):
            return True
        return self._is_told(each, item, table, name) or self._is_found(each, item, name)

    def _is_told(self, each: Difference, item: Item, table: Table, name: str) -> bool:
        """Tell whether Alembic says it."""
        if item.kind == "table":
            kind = "table" if each.what in {"missing", "added"} else f"table_{each.what}"
            return (*table, kind, name) in self._about
        if item.kind == "column":
            covers = (kind for kind, what in _COVERED.items() if each.what in what)
            return any((*table, kind, name) in self._about for kind in covers)
        if item.kind == "sequence" and "column" in item.aspects:  # Alembic says it of an identity
            column = bare(parts(item.aspects["column"])[-1])
            return (*table, "default", column) in self._about
        if item.kind != "constraint":
            return (*table, item.kind, name) in self._about
        definition = item.aspects.get("definition", "")
        return any((*table, kind, name) in self._about for kind in _CONSTRAINTS) or any(
            place == table and _is_of(definition, columns) for place, columns in self._columns
        )

    def _is_found(self, each: Difference, item: Item, name: str) -> bool:
        """Tell whether another finding says it."""
        if item.kind == "type":
            return any("enum" in kind and name == _shown(item) for kind, name in self._findings)
        if item.kind == "column":
            return each.what == "type" and ("enum column", _shown(item)) in self._findings
        if item.kind == "index":
            return each.what == "valid" and ("invalid index", name) in self._findings
        is_known = ("not valid constraint", name) in self._findings
        return is_known and each.what == "definition" and self._is_state_alone(each)

    def _is_state_alone(self, each: Difference) -> bool:
        """Tell whether a constraint of the database says the same, and is not valid."""
        said, there = (
            side[each.subject].aspects["definition"] for side in (self._models, self._database)
        )
        return said == there.removesuffix(" NOT VALID").removesuffix(" NOT ENFORCED")

    def is_implied(self, each: Difference) -> bool:
        """Tell whether it comes of another difference, which is told."""
        item = self.item(each)
        if item.kind == "sequence":
            column = f"column {item.aspects.get('column', '')}"
            if each.what in {"missing", "added"}:
                return any((column, what) in self._told for what in ("default", "identity"))
            if each.what in _OF_ITS_TYPE:
                causes = {(column, "type"), (item.key, "type")} - {(item.key, each.what)}
                return bool(causes & self._told)
        return each.what == "default" and (each.subject, "identity") in self._told

    def is_beyond(self, each: Difference) -> bool:
        """Tell whether the models could not have it, and only the database does."""
        item = self.item(each)
        if each.what == "missing" or each.subject not in self._database:
            return False
        if each.what == "added":
            return not ((item.kind in _PARTS and item.parent) or "labels" in item.aspects)
        before = self._models[each.subject].aspects.get(each.what, "")
        known = _MODELLED.get(item.kind)
        return not before and (each.what == "comment" if known is None else each.what not in known)


def _bare_name(item: Item) -> str:
    """Return the name of an object in its table or schema."""
    if item.kind == "constraint":
        return bare(item.name.removesuffix(f" on {item.parent.partition(' ')[2]}"))
    return bare((parts(item.name) or [item.name])[-1])


def _is_of(definition: str, columns: Sequence[str]) -> bool:
    """Tell whether a constraint that a model does not name is that of these columns."""
    names = ", ".join(quoted_if_needed(each) for each in columns)
    kinds = ("UNIQUE", "UNIQUE NULLS NOT DISTINCT", "FOREIGN KEY")
    return definition.startswith(tuple(f"{each} ({names})" for each in kinds))


def _shown(item: Item) -> str:
    names = [*map(bare, parts(item.name))]
    return ".".join(names[1:] if names[0] == "public" else names)


def _finding(each: Difference, place: str) -> Finding:
    return Finding(
        kind=KIND,
        name=schema.shown(each.subject.partition(" ")[2]),
        what=each.text,
        why=f"create_all() and the migrations do not make the same of {place}",
        remedy="let a migration make it so, or correct the model",
    )


def _beyond(each: Difference) -> Finding:
    return Finding(
        kind=BEYOND,
        name=schema.shown(each.subject.partition(" ")[2]),
        what=each.text,
        why="create_all() makes nothing of it",
        remedy="nothing, if a migration makes it",
    )
