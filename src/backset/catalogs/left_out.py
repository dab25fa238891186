"""What a dump leaves out: schemas and relations of others that the role may not read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
    return '"' + name.replace('"', '""') + '"'
