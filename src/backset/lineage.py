"""Lineage: one chain of revisions of a database, as the settings describe it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

ALL_HEADS = ("heads",)  # Alembic's own word for them


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
    upgrade, init: the project's own commands for this one.
    heads: where `upgrade` goes, and what the version table must then name; empty means one head.
    """

    name: str = ""
    config: str = ""
    section: str = ""
    arguments: tuple[str, ...] = ()
    version_table: str = ""
    schema: str = ""
    upgrade: tuple[str, ...] = ()
    init: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How a line about it begins: `billing: `, and nothing where there is only one."""
        return f"{self.name}: " if self.name else ""
