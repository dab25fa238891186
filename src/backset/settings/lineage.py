"""Lineage: one chain of revisions of a database, as the settings describe it. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backset.settings import values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where one chain of revisions is configured, and where it ends.

    `chain.py` has the chain of a run's steps; a database can have several of these.

    name: what reports call it; empty where the database has this one only.
    config: the file of its Alembic configuration; empty means that it is looked for.
    section: of that file; empty means Alembic's own.
    arguments: templates of what env.py is given as `-x`, each `key=value`.
    version_table, schema: where its version table is, if not where env.py or Alembic put it;
    everything in `schema` belongs to it.
    ini: templates of options of its Alembic configuration, over those of every chain.
    upgrade, init: the project's own commands for this one.
    heads: where `upgrade` goes, and what the version table must then name; empty means one head.
    """

    name: str = ""
    config: str = ""
    section: str = ""
    arguments: tuple[str, ...] = ()
    version_table: str = ""
    schema: str = ""
    ini: Mapping[str, str] = field(default_factory=dict)
    upgrade: tuple[str, ...] = ()
    init: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How a line about it begins: `billing: `, and nothing where there is only one."""
        return f"{self.name}: " if self.name else ""

    @property
    def alembic(self) -> str:
        """How a command of Alembic on it begins, for people to type."""
        chain = f"--chain {shlex.quote(self.name)} " if self.name else ""
        return f"invoke alembic {chain}--"


# What a table of [[tool.backset.chains]] may have.
KEYS: dict[str, Callable[[Any], Any]] = {
    "name": values.name,
    "config": values.text,
    "section": values.text,
    "arguments": values.arguments,
    "version_table": values.name,
    "schema": values.name,
    "ini": values.templates,
    "upgrade": values.argv,
    "init": values.argv,
    "heads": values.heads,
}


def read(raw: object) -> tuple[Lineage, ...]:
    """Return the entries of [[tool.backset.chains]]. Raises ValueError with what they must be."""
    if not isinstance(raw, list) or not all(isinstance(table, dict) for table in raw):
        raise ValueError("tables that begin with [[tool.backset.chains]]")
    chains = [_entry(number, table) for number, table in enumerate(raw, 1)]
    if len({each.name for each in chains}) < len(chains):
        raise ValueError("tables with a name of its own in each")
    return tuple(chains)


def _entry(number: int, table: dict[str, object]) -> Lineage:
    if unknown := sorted(table.keys() - KEYS.keys()):
        known = ", ".join(KEYS)
        raise ValueError(f"without {unknown[0]!r} in table {number}; known keys: {known}")
    if "name" not in table:
        raise ValueError(f'with a name in table {number}, such as name = "billing"')
    given: dict[str, Any] = {}
    for key, value in table.items():
        try:
            given[key] = KEYS[key](value)
        except ValueError as error:
            raise ValueError(f"with {key} in table {number} as {error}") from None
    return Lineage(**given)
