"""What of a database is somebody else's: another role's, a platform's, a second application's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from psycopg import sql

from backset.catalog import catalog, objects
from backset.catalog.catalog import FIRST_OF_A_USER, is_users
from backset.text.quantities import few

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from backset.catalog.objects import Object
    from backset.connections.session import Session

_RELATIONS = frozenset({"table", "view", "materialized view", "foreign table", "sequence"})
_OWN_SCHEMA = "backset__old"  # what a carry in place reads old rows through
_ROUTINES = frozenset({"function", "procedure", "aggregate"})
_ROUTINE = "(?:function|procedure|aggregate)"
_FREE = frozenset({"event trigger"})  # kinds that a superuser makes for the whole database


@dataclass(frozen=True, slots=True)
class Sharing:
    """What stays where it is, whatever is rebuilt.

    kept: the objects. schemas: those in which everything stays. claimed: objects of others that
    the migrations make, too, so that the role could not replace them. mixed: version tables of
    other applications, as people write them, in a schema that this project's tables are in.
    unknown: schemas of our own role, not empty, that no migration knows; what an earlier chain has
    left looks like that, too, so that somebody must decide.
    """

    kept: tuple[Object, ...] = ()
    schemas: frozenset[str] = frozenset()
    claimed: tuple[Object, ...] = ()
    mixed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def whose(self) -> str:
        """What belongs to others, in words; empty where nothing does."""
        named = [f"the schema {each}" for each in sorted(self.schemas)]
        single = [each for each in self.kept if each.schema not in self.schemas]
        named += [f"{each.type} {each.identity} of {each.owner}" for each in single]
        return few(named)

    def keeps(self, each: Object) -> bool:
        """Tell whether an object stays, one that was made meanwhile included."""
        return each.schema in self.schemas or any(
            (each.type, each.identity) == (kept.type, kept.identity) for kept in self.kept
        )

    def has(self, table: tuple[str, str]) -> bool:
        """Tell whether a table, by schema and name, is somebody else's."""
        return table[0] in self.schemas or table in self.relations

    @property
    def is_nobodys(self) -> bool:
        """Whether nothing belongs to others."""
        return not (self.kept or self.schemas)

    @property
    def keys(self) -> frozenset[str]:
        """What stays, by type and identity, as pg_identify_object() has them."""
        return frozenset(f"{each.type} {each.identity}" for each in self.kept)

    @property
    def relations(self) -> tuple[tuple[str, str], ...]:
        """Schema and name of the single tables, views and sequences that stay."""
        single = (each for each in self.kept if each.schema not in self.schemas)
        return tuple((each.schema, each.name) for each in single if each.type in _RELATIONS)


NOBODY = Sharing()


class Project(Protocol):
    """What the project itself says, asked for only where the catalogs alone do not tell."""

    @property
    def is_known(self) -> bool:
        """Whether this database has been built from here before."""

    @property
    def schemas(self) -> frozenset[str]:
        """The schemas that are known for the project's, whatever its migrations say."""

    def usual_texts(self) -> Iterable[str]:
        """Return the migrations that can be found without Alembic."""

    def texts(self) -> Iterable[str]:
        """Return the migrations, and the configuration that they read."""

    def version_tables(self) -> Iterable[tuple[str, str]]:
        """Return the version tables that the settings name, by schema and name."""

    def seen(self) -> tuple[str, Collection[str]]:
        """Return env.py's version tables, as people write them, and the rows that it sees there."""


def look(session: Session, project: Project) -> Sharing:
    """Return what of the database of `session` belongs to others.

    Two short queries where the database is known, and every object is of our own role, in `public`
    or beside the only version table.
    """
    tables = catalog.version_tables(session)
    if len(tables) <= 1 and (project.is_known or _is_obvious(session, tables, project)):
        places = {"places": ["public", *(schema for schema, _ in tables)]}
        if session.execute(_IS_PLAIN, places).fetchone() == (True,):
            return NOBODY
    words = "\n".join(project.texts()).replace('\\"', '"')
    own, foreign = _told_apart(session, tables, project, words)
    facts = session.execute(_ABOUT).fetchone()
    is_superuser, of_extensions = facts or (False, [])
    # A publication is inherited; but only a superuser can give it to the one who owned it.
    every = [
        each
        for each in objects.found(session)
        if not each.is_public and not (is_superuser and each.type == "publication")
    ]
    owners = _own_roles(session, own)
    strange = {each for each in every if each.owner not in owners}
    schemas = _Schemas.of(every, strange, words, of_extensions)
    own_schemas = {schema for schema, _ in own} | project.schemas
    if not (own and _only_elsewhere(own, foreign, words)):
        own_schemas.add("public")
    ours, others = schemas.divided(own_schemas, {schema for schema, _ in foreign})
    kept = [each for each in every if each.schema in others]
    claimed: list[Object] = []
    for each in every:
        if each.schema in others or each.type == "schema" or each.schema in of_extensions:
            continue  # whoever made a schema, what is in it is ours, and is made again or stays
        if each in strange:
            (claimed if _makes(words, each) else kept).append(each)
        elif each.type in _FREE and not _makes(words, each):
            kept.append(each)
    return Sharing(
        kept=tuple(kept),
        schemas=frozenset(others),
        claimed=tuple(claimed),
        mixed=tuple(catalog.shown(*each) for each in foreign if each[0] in ours),
        unknown=schemas.unknown(ours | others),
    )


@dataclass(frozen=True, slots=True)
class _Schemas:
    """The schemas of a database, by what is in them.

    every: those that are not an extension's. strange: those of others, with nothing of ours in
    them. filled: those with something in them. named: those that the migrations name; like: those
    whose every table they make.
    """

    every: frozenset[str]
    strange: frozenset[str]
    filled: frozenset[str]
    named: frozenset[str]
    like: frozenset[str]

    @classmethod
    def of(
        cls,
        every: Sequence[Object],
        strange: Collection[Object],
        words: str,
        of_extensions: Collection[str],
    ) -> _Schemas:
        names = {each.schema for each in every if each.schema}
        inside = [each for each in every if each.type != "schema"]
        foreign = {each.name for each in every if each.type == "schema" and each in strange}
        return cls(
            every=frozenset(
                each
                for each in names
                if each not in of_extensions and not each.startswith(_OWN_SCHEMA)
            ),
            strange=frozenset(foreign - {each.schema for each in inside if each not in strange}),
            filled=frozenset(each.schema for each in inside),
            named=frozenset(each for each in names if mentions(words, each)),
            like=frozenset(each for each in names if _is_like(every, each, words)),
        )

    def divided(
        self, own: Collection[str], foreign: Collection[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return those that are ours, and others'. own, foreign: what is known of that."""
        ours = (self.named | frozenset(own)) - self.strange
        return ours, (frozenset(foreign) - ours) | self.strange

    def unknown(self, known: Collection[str]) -> tuple[str, ...]:
        """Return those of which nobody can tell, but for what is known."""
        return tuple(sorted((self.every & self.filled) - frozenset(known) - self.like))


def _is_obvious(session: Session, tables: Sequence[tuple[str, str]], project: Project) -> bool:
    """Tell whether the only version table has Alembic's name, and a revision of the project's."""
    if not tables:
        return True
    if tables != [("public", "alembic_version")] or set(tables) & catalog.unreadable(session):
        return False
    rows = catalog.revisions(session)
    return not rows or all(mentions("\n".join(project.usual_texts()), row) for row in rows)


def _told_apart(
    session: Session, tables: Sequence[tuple[str, str]], project: Project, words: str
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the version tables that are this project's, and those of other applications.

    A table is ours if the settings name it, if it is empty, or if a migration has its revision.
    The revision of any other may be an orphaned one: then env.py is asked where it looks.
    """
    known, closed = set(project.version_tables()), catalog.unreadable(session)
    rows: dict[tuple[str, str], set[str]] = {}
    for name in tables:
        query = sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(*name))
        rows[name] = set() if name in closed else {row for (row,) in session.execute(query)}
    own = [
        name
        for name in tables
        if name in known or (name not in closed and all(mentions(words, row) for row in rows[name]))
    ]
    if set(tables) - closed - set(own):
        shown, seen = project.seen()
        own = [
            name
            for name in tables
            if name in own
            or catalog.shown(*name) in shown.split(", ")
            or (rows[name] and rows[name] <= set(seen))
        ]
    return own, [name for name in tables if name not in own]


def _is_like(every: Iterable[Object], schema: str, words: str) -> bool:
    """Tell whether the migrations make every table of a schema, as they do for each tenant."""
    tables = [each.name for each in every if each.schema == schema and each.type == "table"]
    return bool(tables) and all(mentions(words, each) for each in tables)


def _only_elsewhere(
    own: Iterable[tuple[str, str]], foreign: Iterable[tuple[str, str]], words: str
) -> bool:
    """Tell whether `public` is another application's, and ours is in schemas of its own."""
    return (
        all(schema != "public" for schema, _ in own)
        and any(schema == "public" for schema, _ in foreign)
        and not mentions(words, "public")
    )


def _own_roles(session: Session, own: Iterable[tuple[str, str]]) -> set[str]:
    """Return whose objects are ours: those of every role that we may act as.

    A superuser may act as anybody; his are his own, the database's owner's, and the project's.
    """
    query = _ROLES, {"schemas": [s for s, _ in own], "names": [n for _, n in own]}
    return {role for (role,) in session.execute(*query)}


def _makes(words: str, each: Object) -> bool:
    """Tell whether migrations that have these words make an object."""
    if each.type in _ROUTINES:  # a table may have its name
        return any(
            (before[-1:] in _QUOTES and after[:1] == "(")
            or (_IS_CALLED.match(after) and _OF_ROUTINE.search(before))
            for before, after in _places(words, each.name)
        )
    return mentions(words, each.name)


def unnamed(tables: Iterable[tuple[str, str]], texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return those of some tables, by schema and name, that no text names."""
    words = "\n".join(texts).replace('\\"', '"')
    return [each for each in tables if not mentions(words, each[1])]


def mentions(words: str, name: str) -> bool:
    """Tell whether a text has a name in quotes, or as SQL has one: qualified, or after a keyword.

    A bare word would be found in any sentence.
    """
    return any(_is_name(*each) for each in _places(words, name))


def _places(words: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield what stands before and behind each place of a name: one search for all is slow."""
    at = words.find(name)
    while at >= 0:
        end = at + len(name)
        yield words[max(0, at - _REACH) : at], words[end : end + _REACH]
        at = words.find(name, at + 1)


def _is_name(before: str, after: str) -> bool:
    is_quoted = before[-1:] in _QUOTES and before[-1:] == after[:1]
    is_qualified = _IS_QUALIFIED.match(after) and not _IS_LONGER.search(before)
    return bool(is_quoted or is_qualified or (_ENDS.match(after) and _AFTER_KEYWORD.search(before)))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Names of schemas, and schema and name of tables, views and sequences in others."""

    schemas: tuple[str, ...] = ()
    relations: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, names: Iterable[Iterable[str]]) -> LeftOut:
        """Make it of what names() gave, as a manifest has it."""
        several = [tuple(each) for each in names]
        schemas = tuple(name for name, *more in several if not more)
        return cls(schemas, tuple((each[0], each[1]) for each in several if len(each) > 1))

    def names(self) -> tuple[tuple[str, ...], ...]:
        """Return the names for a manifest: one of each schema, two of each relation."""
        return (*((each,) for each in self.schemas), *self.relations)

    def has(self, table: tuple[str, str]) -> bool:
        """Tell whether a table, by schema and name, is left out."""
        return table[0] in self.schemas or table in self.relations

    def options(self) -> Iterator[str]:
        """Yield the options of pg_dump; what is quoted in a pattern stands for itself."""
        yield from (f"--exclude-schema={_quoted(each)}" for each in self.schemas)
        for each in self.relations:
            yield f"--exclude-table={'.'.join(map(_quoted, each))}"

    def condition(self) -> sql.Composable:
        """Return an SQL condition on the oid `relation` and the name `place` of its schema."""
        if not (self.schemas or self.relations):
            return sql.SQL("true")
        return sql.SQL(
            "coalesce(place <> ALL({}::name[]), true) AND relation NOT IN ("
            "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = ANY({}::name[]) OR (n.nspname, c.relname) IN"
            " (SELECT * FROM unnest({}::name[], {}::name[])))"
        ).format(
            list(self.schemas),
            list(self.schemas),
            [schema for schema, _ in self.relations],
            [name for _, name in self.relations],
        )


NOTHING = LeftOut()


def _quoted(name: str) -> str:
    """Return a name as a pattern of pg_dump has it, which is not SQL, though it looks alike."""
    return '"' + name.replace('"', '""') + '"'


_REACH = 200  # characters beside a name
_QUOTES = ("'", '"')
_KEYWORDS = "schema|exists|table|on|into|view|function|type|trigger|publication|to"
_AFTER_KEYWORD = re.compile(rf"(?i:\b(?:{_KEYWORDS})\s+)\"?\Z")
_OF_ROUTINE = re.compile(rf"(?i:\b{_ROUTINE})\s+(?:\"?[\w$]+\"?\.)?\"?\Z")
_IS_CALLED = re.compile(r"\"?\s*\(")
_IS_QUALIFIED = re.compile(r"\"?\.\"?\w")
_IS_LONGER = re.compile(r"[\w.]\Z")
_ENDS = re.compile(r"\"?(?!\w)")
_ABOUT = """
SELECT rolsuper, ARRAY(SELECT nspname::text FROM pg_extension e JOIN pg_namespace n
                       ON n.oid = e.extnamespace WHERE nspname <> 'public')
FROM pg_roles WHERE rolname = current_user
"""
_ROLES = """
WITH me AS (SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user)
SELECT rolname FROM me
UNION SELECT r.rolname FROM pg_roles r, me WHERE NOT me.rolsuper AND pg_has_role(r.oid, 'USAGE')
UNION SELECT pg_get_userbyid(datdba) FROM pg_database, me
      WHERE me.rolsuper AND datname = current_database()
UNION SELECT pg_get_userbyid(c.relowner)
      FROM me, pg_class c JOIN pg_namespace n ON n.oid = relnamespace
           JOIN unnest(%(schemas)s::text[], %(names)s::text[]) AS v (schema, name)
           ON (n.nspname, c.relname) = (v.schema, v.name)
      WHERE me.rolsuper
"""
# What extensions made is theirs; what a system catalog has is PostgreSQL's.
_IS_PLAIN = f"""
WITH roles AS (
    SELECT oid, pg_has_role(oid, 'USAGE') AND NOT (me.super AND oid NOT IN (
               SELECT datdba FROM pg_database WHERE datname = current_database()
               UNION SELECT oid FROM pg_roles WHERE rolname = current_user)) AS ours
    FROM pg_roles, (SELECT rolsuper AS super FROM pg_roles WHERE rolname = current_user) me
), things AS (
    SELECT 'pg_class'::regclass AS classid, oid, relnamespace AS place, relowner AS owner
    FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT relispartition
    UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace, proowner FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace, typowner FROM pg_type
              WHERE typtype IN ('e', 'd', 'r')
    UNION ALL SELECT 'pg_namespace'::regclass, oid, oid, nspowner FROM pg_namespace
              WHERE nspname <> 'public' AND {is_users("nspname")}
    UNION ALL SELECT 'pg_publication'::regclass, oid, NULL, pubowner FROM pg_publication
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid, NULL, 0 FROM pg_event_trigger
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, NULL, srvowner FROM pg_foreign_server
)
SELECT NOT EXISTS (
    SELECT FROM things t LEFT JOIN pg_namespace n ON n.oid = t.place
         LEFT JOIN roles r ON r.oid = t.owner
    WHERE t.oid >= {FIRST_OF_A_USER}
      AND (NOT coalesce(r.ours, false) OR n.nspname <> ALL(%(places)s))
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = t.classid AND d.objid = t.oid
                      AND d.deptype IN ('e', 'i'))
      AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extnamespace = t.oid))
"""
