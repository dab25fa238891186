"""What the project says of a database, where the catalogs do not tell whose something is."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from backset.errors import StepFailedError
from backset.migrations import standing
from backset.migrations.worker import Worker
from backset.templates import memory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backset.configuration.settings import Settings
    from backset.connections.session import Session
    from backset.connections.target import Target

_USUAL = ("versions/*.py", "*/versions/*.py", "*/*/versions/*.py")


class Project:
    """The project's migrations and env.py; Alembic is started only for what nothing else knows."""

    def __init__(self, settings: Settings, target: Target, session: Session) -> None:
        self._settings = settings
        self._target = target
        self._session = session
        self._record = memory.read(memory.path(settings, target.database))

    @property
    def is_known(self) -> bool:
        """Whether this database has been built and verified from this checkout."""
        return self._record is not None

    @property
    def schemas(self) -> frozenset[str]:
        """The schemas that the settings give to the project, or that its last build has made."""
        own = {each.schema for each in self._settings.lineages if each.schema}
        made = self._record.schemas if self._record else ()
        return frozenset(own.union(self._settings.schemas, made))

    def version_tables(self) -> Iterator[tuple[str, str]]:
        """Yield the version tables that the settings name, by schema and name."""
        for each in self._settings.lineages:
            if each.schema or each.version_table:
                yield each.schema or "public", each.version_table or "alembic_version"

    def usual_texts(self) -> Iterator[str]:
        """Yield the migrations that are where Alembic's templates put them, without asking it."""
        for pattern in _USUAL:
            for path in self._settings.root.glob(pattern):
                yield path.read_text(encoding="utf-8", errors="replace")

    def texts(self) -> Iterator[str]:
        """Yield the migrations, and the configuration that they read."""
        root = self._settings.root
        files = [path for folder in self._folders for path in folder.rglob("*.py")]
        for path in (*files, *root.glob("*.ini"), *root.glob("pyproject.toml")):
            yield path.read_text(encoding="utf-8", errors="replace")

    def seen(self) -> tuple[str, Collection[str]]:
        """Return env.py's version table, as people write it, and the rows that it sees there.

        Where env.py cannot tell, it is Alembic's own, and nobody knows what it sees.
        """
        shown, rows = "alembic_version", set[str]()
        for lineage in self._settings.lineages:
            with suppress(StepFailedError), Worker(self._settings, lineage) as worker:
                worker.begin(self._target, "gate")
                about = standing.describe(worker, self._session)
                shown, rows = about["version_table"], rows | set(about["revisions"])
        return shown, rows

    @cached_property
    def _folders(self) -> list[Path]:
        if self._record is not None:
            return [Path(each) for each in self._record.folders]
        found: list[Path] = []
        for lineage in self._settings.lineages:
            with Worker(self._settings, lineage) as worker:
                worker.begin(self._target, "gate")
                found += worker.scripts.folders
        return found
