"""What can have happened to a database and to its scripts, and what a doctor may say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.doctor import chains
from tests.git import commit, git

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.doctor.chains import Chain
    from tests.project import Project

HEALTHY = frozenset({"at head"})
ILL = frozenset(
    {"half applied", "stamped but not migrated", "drift", "wrong database", "ahead", "behind"}
)


@dataclass
class Case:
    """A project, its database, and where in its chain that was built.

    truth: the states that a proof may find. is_healthy: whether nothing may be changed.
    """

    rng: random.Random
    project: Project
    chain: Chain
    at: int
    truth: frozenset[str] = HEALTHY

    @property
    def is_healthy(self) -> bool:
        """Whether there is nothing to repair."""
        return self.truth == HEALTHY

    @property
    def is_at_head(self) -> bool:
        """Whether the whole chain was run."""
        return self.at == len(self.chain.ids) - 1

    def shows(self, first: int, last: int) -> bool:
        """Tell whether the revisions after `first` up to `last` can be seen in a schema."""
        return any(each.shows for each in self.chain.revisions[first + 1 : last + 1])

    def stamp(self, *revisions: str) -> None:
        """Write the version table by hand."""
        self.project.query("DELETE FROM alembic_version")
        for each in revisions:
            self.project.query(f"INSERT INTO alembic_version VALUES ('{each}')")


def nothing(case: Case) -> None:
    """Leave it as it is."""
    case.truth = HEALTHY if case.is_at_head else frozenset({"behind"})


def temporary(case: Case) -> None:
    """Have a temporary table, which leaves two schemas of the server's own behind."""
    case.project.query("CREATE TEMPORARY TABLE was_here (id int)")
    nothing(case)


def drop_table(case: Case) -> None:
    """Drop a table by hand."""
    tables = case.project.query(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
        "WHERE schemaname IN ('public', 'side') AND tablename <> 'alembic_version' ORDER BY 1"
    )
    case.project.query(f"DROP TABLE {case.rng.choice(tables)[0]} CASCADE")
    case.truth = ILL


def drop_column(case: Case) -> None:
    """Drop a column by hand, if a table has one to spare."""
    columns = case.project.query(
        "SELECT format('ALTER TABLE %I.%I DROP COLUMN %I CASCADE', table_schema, table_name, "
        "column_name) FROM information_schema.columns WHERE column_name LIKE 'c\\_%' "
        "AND table_schema IN ('public', 'side') ORDER BY 1"
    )
    if not columns:
        return drop_table(case)
    case.project.query(case.rng.choice(columns)[0])
    case.truth = ILL
    return None


def drop_object(case: Case) -> None:
    """Drop what Alembic does not compare: a check, a view, a function or a trigger."""
    there = [each for several in case.chain.objects.values() for each in several]
    if not there or not case.is_at_head:
        return drop_column(case)
    case.project.query(case.rng.choice(there))
    case.truth = ILL
    return None


def rename_table(case: Case) -> None:
    """Rename a table by hand."""
    name, *_ = case.chain.tables
    table = chains._qualified(case.chain.tables[name])  # noqa: SLF001
    case.project.query(f"ALTER TABLE IF EXISTS {table} RENAME TO called_otherwise")
    case.truth = ILL


def leftover(case: Case) -> None:
    """Make a table that no model has, with a row of a person's."""
    case.project.query("CREATE TABLE by_hand (id int, token text)")
    case.project.query("INSERT INTO by_hand VALUES (1, 'token-by-hand')")
    case.truth = frozenset({"drift", "behind"})


def more(case: Case) -> None:
    """Make a view that no migration makes, as somebody does who looks for something."""
    case.project.query("CREATE VIEW looked_for AS SELECT 1 AS one")
    case.truth = frozenset({"drift" if case.is_at_head else "behind"})


def stamp_lower(case: Case) -> None:
    """Stamp an earlier revision than the one that is there."""
    if not case.at:
        return orphan(case)
    lower = case.rng.randrange(case.at)
    case.stamp(case.chain.ids[lower])
    case.truth = frozenset({"half applied"} if case.shows(lower, case.at) else {"behind"})
    return None


def stamp_higher(case: Case) -> None:
    """Stamp the head where the chain was not run to its end."""
    head = len(case.chain.ids) - 1
    case.stamp(case.chain.ids[head])
    is_seen = case.shows(case.at, head)
    case.truth = frozenset({"stamped but not migrated", "drift"} if is_seen else {"at head"})


def orphan(case: Case) -> None:
    """Name a revision that never had a file here."""
    case.stamp("0123456789ab")
    case.truth = frozenset({"orphaned revision"})


def deleted(case: Case) -> None:
    """Delete the script of the revision that the database is at; git has it."""
    folder = case.project.folder
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "Begin")
    for each in case.chain.ids[case.at :]:
        (path,) = (folder / "migrations/versions").glob(f"*_{each}.py")
        path.unlink()
    case.truth = frozenset({"orphaned revision", "broken chain"})


def squash(case: Case) -> None:
    """Put one revision in the place of all; git has the old ones."""
    _squash(case, "5a5a5a5a5a5a")


def squash_onto_the_first(case: Case) -> None:
    """Do that with the id of the first one."""
    _squash(case, case.chain.ids[0])
    if not case.at:
        case.truth = ILL | HEALTHY


def _squash(case: Case, revision: str) -> None:
    folder = case.project.folder
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "Begin")
    versions = folder / "migrations/versions"
    for path in versions.glob("*.py"):
        path.unlink()
    chains.write(versions / "000_squashed.py", chains.squashed(case.chain, revision), [])
    commit(folder, "Squash")
    case.truth = frozenset({"orphaned revision"})


def half(case: Case) -> None:
    """Do the first thing of the next revision by hand, or of one that did not get to its end."""
    following = case.chain.revisions[case.at + 1 : case.at + 2]
    if not following or not following[0].first:
        return stamp_lower(case)
    case.project.query(following[0].first)
    case.truth = ILL
    return None


def unrecorded(case: Case) -> None:
    """Lose the row of the version table."""
    case.project.query("DELETE FROM alembic_version")
    case.truth = frozenset({"ahead"})


def row_too_many(case: Case) -> None:
    """Have two rows in the version table, of which one comes after the other."""
    if not case.at:
        return unrecorded(case)
    case.stamp(case.chain.ids[case.at], case.chain.ids[case.at - 1])
    case.truth = frozenset({"half applied"})
    return None


DAMAGES: tuple[Callable[[Case], None], ...] = (
    *(nothing, temporary, nothing, drop_table, drop_column, drop_object, rename_table, leftover),
    *(more, stamp_lower, stamp_higher, orphan, deleted, squash, squash_onto_the_first, half),
    *(unrecorded, row_too_many, temporary, drop_object),
)
