"""The scripts that a squash has replaced: found in an archive, git or a copy, for a folder beside.

The working tree is only read.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backset.errors import AlembicError, StepFailedError
from backset.process import files
from backset.revisions import script_files
from backset.revisions.replaced import REBUILD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.migrate.answers import Migrated
    from backset.migrate.upgrading import Progress
    from backset.migrate.worker import Worker
    from backset.revisions.replaced import Leg
    from backset.revisions.restore import Recipe
    from backset.revisions.script_files import Revision
    from backset.settings.settings import Settings


_DATA = frozenset({".sql", ".json", ".csv", ".txt", ".yaml", ".yml", ".toml"})


@dataclass(slots=True)
class Retrieved:
    """What old scripts say, by revision: a name for the file, and its content.

    sources: where they were found, as people read it.
    """

    settings: Settings
    worker: Worker
    contents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    sources: dict[str, None] = field(default_factory=dict)
    _found: dict[str, Sequence[Revision]] = field(default_factory=dict)

    @property
    def whence(self) -> str:
        """Where they are taken from."""
        return f"from {', '.join(self.sources)}"

    def find(self, squash: Revision) -> Sequence[Revision]:
        """Return the scripts that a revision replaces, with what they need and no file has.

        The archive of the squash has just these; git and copies may have others of the same id.
        Raises StepFailedError where they are nowhere.
        """
        if squash.id not in self._found:
            self._found[squash.id] = self._find(squash)
        return self._found[squash.id]

    def _find(self, squash: Revision) -> Sequence[Revision]:
        from backset.revisions import orphans

        folders = self.worker.folders
        whole = orphans.before_squash(squash, folders, self.settings.environ)
        if whole is not None:
            scripts, recipe = whole
            self._take(recipe)
            return scripts
        found: dict[str, Revision] = {}
        for head in squash.replaced_heads:
            trace = orphans.trace(head, folders, self.settings.environ)
            if trace.recipe is None:
                first = next(iter(trace.lines()), "")
                raise StepFailedError(f"{squash.id} replaces {head}: {first}", _unfound(trace.gaps))
            self._take(trace.recipe)
            found |= {each.id: each for each in trace.scripts}
        return list(found.values())

    def _take(self, recipe: Recipe) -> None:
        from backset.revisions import restore

        self.sources |= dict.fromkeys(self._sources(recipe))
        for item, content in restore.contents(recipe, self.settings.plain_env):
            self.contents.setdefault(item.revision, (item.home.name, content))

    def _sources(self, recipe: Recipe) -> Iterator[str]:
        from backset.revisions.restore import Blob, Copy

        for each in recipe.items:
            source = each.source
            if isinstance(source, Blob):
                yield f"git's {source.commit}"
            else:
                path = source.path.parent if isinstance(source, Copy) else source.tar
                yield self.settings.shown(path)

    def text(self, script: Revision) -> str:
        """Return the text of a script of a chain, an old one's or one of today's."""
        _, content = self.contents.get(script.id, ("", None))
        return (script.path.read_bytes() if content is None else content).decode(errors="replace")

    def run(
        self,
        leg: Leg,
        target: Target,
        session: Session,
        progress: Progress,
        purpose: str,
        instead_of: str,
    ) -> Migrated | None:
        """Run what is pending of a leg on a database, each revision told; None if nothing is.

        instead_of: the database that it stands in for. Raises StepFailedError.
        """
        from backset.migrate import upgrading
        from backset.migrate.worker import Worker

        lineage = self.worker.lineage

        def each_revision(text: str) -> None:
            progress(f"{lineage.label}{text}", lasting=True)

        if not leg.pending:
            return None
        with (
            self.folder(leg.chain) as folder,
            Worker(self.settings, lineage, versions=folder) as worker,
        ):
            worker.begin(target, purpose, instead_of)
            try:
                return upgrading.upgrade(worker, session, each_revision, to=leg.rows)
            except AlembicError as error:
                if not worker.has_door:
                    raise
                what = f"old revisions run without the project's own command: {error.what}"
                raise StepFailedError(what, REBUILD) from None

    @contextmanager
    def folder(self, chain: Sequence[Revision]) -> Iterator[Path]:
        """Give a folder that nobody else can read, with the scripts of a chain and no others.

        Data beside today's scripts is there, too: old ones may read it.
        """
        with files.temporary() as folder:
            for location in self.worker.scripts.locations:
                _bring_data(location, folder)
            for each in chain:
                name, content = self.contents.get(each.id, (each.path.name, None))
                path = folder / name
                path = path.with_name(f"{each.id}_{name}") if path.exists() else path
                if content is None:
                    shutil.copy(each.path, path)
                else:
                    path.write_bytes(content)
            yield folder


def _bring_data(location: Path, folder: Path) -> None:
    """Copy what scripts read beside them; never what is large, a link, or other people's."""
    for path in script_files.walk(location):
        if path.suffix in _DATA and path.stat().st_size <= script_files.LARGEST_BYTES:
            there = folder / path.relative_to(location)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, there)


def _unfound(gaps: Sequence[str]) -> str:
    also = "".join(f"; not searched: {each}" for each in gaps)
    return (
        "put the archive of the squash into the folder of backups, or fetch the branch that has "
        f"the file, then run this again; else {REBUILD}{also}"
    )
