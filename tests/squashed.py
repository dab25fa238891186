"""A chain of revisions written by hand, and the one that replaces some of them, as a squash has it.

`CHAIN` makes two tables with rows. `squash` takes its files away and writes the one in their place.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import psycopg

from backset.catalog import catalog, schema
from backset.connections.target import Target
from tests.incident.project import run_alembic
from tests.project import Project, laid_down

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CHAIN = {
    "aaa": (None, "CREATE TABLE users (id int PRIMARY KEY, name text)"),
    "bbb": ("aaa", "INSERT INTO users VALUES (1, 'Ann'), (2, 'Bob')"),
    "ccc": ("bbb", "CREATE TABLE tasks (id int PRIMARY KEY, owner int REFERENCES users)"),
}
NEW = "7f3c"
ALL = f"{CHAIN['aaa'][1]}; {CHAIN['ccc'][1]}; {CHAIN['bbb'][1]}"


def script(name: str, down: object, statements: str, more: str = "") -> str:
    """Return the text of a revision."""
    return (
        f'"""Revision {name}.\n\nRevises: {down or ""}\n"""\nfrom alembic import op\n\n'
        f"revision = {name!r}\ndown_revision = {down!r}\n{more}\n\n"
        f"def upgrade(**_):\n    op.execute({statements!r})\n\n\ndef downgrade():\n    pass\n"
    )


def versions(project: Project) -> Path:
    """Return the folder of its revisions."""
    return project.folder / "migrations/versions"


def write(project: Project, name: str, down: object, statements: str, more: str = "") -> Path:
    """Write a revision."""
    path = versions(project) / f"{name}_of_the_chain.py"
    path.write_text(script(name, down, statements, more))
    return path


def laid(
    folder: Path,
    url: str,
    chain: Mapping[str, tuple[object, str]] = CHAIN,
    shape: str = "branches",
) -> Project:
    """Lay a project down with a chain of these revisions and no others: name → down, statements."""
    project = laid_down(folder, shape, url)
    become(project, chain)
    return project


def become(project: Project, chain: Mapping[str, tuple[object, str]] = CHAIN) -> None:
    """Give a project these revisions, and no others."""
    for path in versions(project).glob("*.py"):
        path.unlink()
    for name, (down, statements) in chain.items():
        write(project, name, down, statements)


def upgrade(project: Project, revision: str = "head") -> None:
    """Let Alembic itself migrate the project's database."""
    done = run_alembic(project.folder, project.url, "upgrade", revision)
    assert done.returncode == 0, done.stdout + done.stderr


def digest(project: Project) -> str:
    """Return the digest of the schema as it is now."""
    params = Target.parse(project.url).params
    with psycopg.connect(**params, autocommit=True) as session:  # type: ignore[arg-type]
        found = schema.read(session, spare=catalog.version_tables(session))
        return schema.digest(found, session.info.server_version // 10000)


def squash(
    project: Project,
    made: str,
    *,
    name: str = NEW,
    statements: str = ALL,
    replaces: Sequence[str] = tuple(CHAIN),
    heads: Sequence[str] = (),
    down: object = None,
    archive: bool = True,
) -> None:
    """Replace revisions by one; made: the digest of what they make.

    archive: whether their files go into a tar in the folder of backups, as those of a squash do.
    """
    folder = versions(project)
    files = [path for each in replaces for path in folder.glob(f"{each}_*.py")]
    if archive:
        tar = project.folder / f"backups/{project.database}/20261128T120000-{name}-replaced.tar.gz"
        tar.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(tar, "w:gz") as packed:
            for path in files:
                packed.add(path, path.relative_to(project.folder))
    for path in files:
        path.unlink()
    more = f"replaces = {tuple(replaces)!r}\nreplaced_schema = {made!r}\n"
    more += f"replaced_heads = {tuple(heads)!r}\n" if heads else ""
    write(project, name, down, statements, more)


def rows(project: Project, table: str = "alembic_version") -> list[str]:
    """Return what the version table names."""
    return sorted(row for (row,) in project.query(f"SELECT version_num FROM {table}"))
