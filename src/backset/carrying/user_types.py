"""Types that are gone, made again in schemas of our own, so that old values can be read there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from backset.carrying.expressions import raw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backset.catalogs.past import Kind, Past, UserType
    from backset.connections.session import Session

    Name = tuple[str, str]


class Types:
    """The types of a past: those that still stand by their names, the others made again.

    schemas: where those of a schema are made again; each keeps its own name there.
    The checks of a domain and the functions of a range are left out: the values have passed them.
    """

    def __init__(self, session: Session, past: Past, schemas: Mapping[str, str]) -> None:
        self._session = session
        self._past = past
        self._schemas = schemas
        self._made: set[int] = set()
        every = [each.oid for kinds in past.kinds.values() for each in kinds]
        every += [kind.oid for each in past.types.values() for _, kind in each.parts]
        rows = session.execute("SELECT oid FROM pg_type WHERE oid = ANY(%s)", [every])
        self._alive = {oid for (oid,) in rows}

    def spelled(self, kind: Kind) -> sql.Composable:
        """Return the type as SQL names it now; it is made first, if it is gone."""
        if kind.oid in self._alive:
            return raw(kind.text)
        lost = self._past.types.get(kind.oid)
        if lost is None:  # a base type, whose functions are gone: its values are texts
            return sql.SQL("text")
        self._make(lost)
        return sql.SQL("{}{}").format(self._place(lost.name), raw("[]" * kind.is_array))

    def _make(self, lost: UserType) -> None:
        if lost.oid not in self._made:
            self._made.add(lost.oid)
            parts = [(name, self.spelled(kind)) for name, kind in lost.parts]
            if lost.letter != "m":  # it came with its range
                self._session.execute(self._statement(lost, parts))

    def _statement(
        self, lost: UserType, parts: Sequence[tuple[str, sql.Composable]]
    ) -> sql.Composed:
        place = self._place(lost.name)
        if lost.letter == "e":
            labels = sql.SQL(", ").join(map(sql.Literal, lost.labels))
            return sql.SQL("CREATE TYPE {} AS ENUM ({})").format(place, labels)
        if lost.letter == "c":
            listed = [sql.SQL("{} {}").format(sql.Identifier(name), kind) for name, kind in parts]
            return sql.SQL("CREATE TYPE {} AS ({})").format(place, sql.SQL(", ").join(listed))
        ((_, base),) = parts
        if lost.letter == "d":
            return sql.SQL("CREATE DOMAIN {} AS {}").format(place, base)
        statement = "CREATE TYPE {} AS RANGE (SUBTYPE = {}{}, MULTIRANGE_TYPE_NAME = {})"
        assert lost.multirange  # noqa: S101  (each range has one)
        other = self._place(lost.multirange)
        return sql.SQL(statement).format(place, base, raw(lost.options), other)

    def _place(self, name: Name) -> sql.Identifier:
        return sql.Identifier(self._schemas[name[0]], name[1])
