"""Squashes: old revisions are built, written anew as one, proved, and only then replaced."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from backset.catalog import schema
from backset.catalog.past import LARGE_OBJECTS
from backset.catalog.schema import Difference
from backset.chain import Details, Done
from backset.checks import drift
from backset.described import described, key
from backset.errors import RefusedError, StepFailedError
from backset.inherit import cluster_wide
from backset.inherit.inheritance import EVERYTHING, OF_DATABASE
from backset.migrate import upgrading
from backset.migrate.worker import Worker
from backset.process import files
from backset.prove import rows, scratch
from backset.prove.chains import SIDES, BuiltChain, Made, compare, finding
from backset.prove.scratch import limited
from backset.revisions import operations
from backset.servers import derived
from backset.squash import cluster, exchange, tree, writing
from backset.squash.writing import Below
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from backset.catalog.schema import Item
    from backset.chain import Watcher
    from backset.errors import Finding
    from backset.prove.scratch import Scratch
    from backset.runs.run import Run
    from backset.squash.choosing import Chosen, Wanted
    from backset.squash.cluster import ServerStatements

    Progress = Callable[[str], None]

_REMEDY = "nothing was changed: squash a part without that (--from, --to), or write it by hand"
_ROWS = "--rows keep writes them as they are in this build, --rows none leaves all rows out"


@described()
class _MadeDetails(Details):
    made: Made = key("`old chain` and `prove`: how much the revisions have made")


@described(kw_only=True)
class _WrittenDetails(Details):
    revision: str = key("`write`: the id of the new revision")
    path: Path = key("`write`: the path of its file")
    replaces: tuple[str, ...] = key("`write`: the revisions that it replaces, in their order")


@described(kw_only=True)
class _ProvedDetails(Details):
    made: Made = key("`old chain` and `prove`: how much the revisions have made")
    as_sql: tuple[str, ...] = key(
        "`prove`: the objects that are written as SQL, since Alembic's operations would make others"
    )


@described(kw_only=True)
class _ArchivedDetails(Details):
    archive: str = key("`archive`: the tar that has the replaced scripts")
    removed_files: tuple[str, ...] = key(
        "`archive`: the files that are gone, from the project's root"
    )
    rewritten: tuple[str, ...] = key("`archive`: the files that follow the new revision now")


@dataclass(frozen=True, slots=True)
class _Built:
    """A scratch database in which revisions have run.

    empty: its objects before the first. came: roles and tablespaces that came to the server in
    between. of_database: a hash of what the server knows of the database.
    """

    scratch: Scratch
    worker: Worker
    empty: Mapping[str, Item]
    chain: BuiltChain
    came: Sequence[Finding]
    of_database: str


class _New(NamedTuple):
    """What the new chain makes, the tables that the models have with it, and as _Built has it."""

    chain: BuiltChain
    modelled: frozenset[str]
    of_database: str


class Squash:
    """One squash: what is built in scratch databases for it, and what is written of that."""

    def __init__(
        self,
        run: Run,
        chosen: Chosen,
        wanted: Wanted,
        watcher: Watcher,
        limit_s: float,
        ahead: Sequence[Worker],
    ) -> None:
        self._run = run
        self._chosen = chosen
        self._selected = chosen.selection
        self._wanted = wanted
        self._watcher = watcher
        self._limit_s = limit_s
        self._ahead = [*ahead]
        self._inherits = False
        self._is_made = False
        self._cluster = cluster.ServerStatements()
        self._as_sql = wanted.form == "sql"

    def done(self) -> list[Finding]:
        """Do it; return how the new chain differs, after which nothing is changed."""
        names, watcher = self._run.server.names, self._watcher
        watcher.begin("old chain")
        with ExitStack() as stack:
            stack.callback(self._drop_made_ahead)
            ends = self._selected.heads
            old = self._build_old(stack, ends)
            self._cluster = self._read_cluster(old)
            keeps = self._keeps_rows(old.chain)
            text = f"{count(old.chain.revisions, 'revision')} built in a scratch database"
            watcher.end("old chain", Done(text, _MadeDetails(old.chain.made)))
            self._tell_models(old)
            modelled = self._modelled(old)
            watcher.begin("write")
            folder = stack.enter_context(files.temporary())
            plain, found = set[str](), list[Difference]()
            written = self._write(old, folder, plain, keeps=keeps)
            watcher.end("write", Done(self._told(written), self._details(written)))
            watcher.begin("prove")
            while True:  # each time more of it is SQL
                new = self._build_new(written, names.scratch)
                found = (
                    []
                    if new is None
                    else self._compared(old.chain, new.chain, written, keeps=keeps)
                )
                unlike = {*old.chain.schema} if new is None else _unlike(found, old.chain)
                if new is not None and unlike <= plain:
                    break
                plain |= unlike
                told = f"writing {count(len(plain), 'object')} as SQL, to have them exactly"
                watcher.progress(told)
                written = self._write(old, folder, plain, keeps=keeps)
            self._demand_same_database(old, new)
            self._tell_unimported(modelled - new.modelled)
            for each in found:
                if each.minor:
                    watcher.notice(each.text)
            loud = [finding(each) for each in found if not each.minor]
            if findings := [replace(each, remedy=_REMEDY) for each in loud]:
                watcher.end("prove", Done(count(len(findings), "difference")))
                return findings
            watcher.end(
                "prove",
                Done(
                    _same(old, keeps=keeps, plain=plain),
                    _ProvedDetails(made=old.chain.made, as_sql=tuple(sorted(plain))),
                ),
            )
            watcher.begin("archive")
            watcher.end("archive", self._placed(written))
        return []

    @contextmanager
    def _built(
        self, name: str, ends: Sequence[str], side: str, versions: Path | None = None
    ) -> Iterator[_Built]:
        """Build the chains before this one, and this one up to some revisions, for the block."""
        settings = self._run.settings
        own = replace(self._chosen.lineage, heads=tuple(ends), upgrade=(), init=())
        before = settings.lineages[: settings.lineages.index(self._chosen.lineage)]
        there = replace(settings, lineages=(*before, own), upgrade=(), init=())
        others, alone = (replace(there, lineages=each) for each in (before, (own,)))
        workers = [Worker(there, each) for each in before]
        one = self._ahead.pop(0) if self._ahead else Worker(settings, own)
        workers.append(one.meant_for(there, own, versions))
        one.listens = versions is None
        with (
            scratch.created(
                *(self._run, name),
                settings=there,
                ahead=workers,
                sources=EVERYTHING if self._inherits else OF_DATABASE,
                is_made=self._takes_over(name),
            ) as made,
            self._limited() as progress,
        ):
            for init in filter(None, (settings.init, self._chosen.lineage.init)):
                upgrading.init(made.command, init, made.session, progress)
            try:
                first = replace(made, settings=others, workers=workers[:-1]) if before else None
                count_before = first.upgrade(progress) if first else 0
                empty, before_all = made.schema(), cluster_wide.look(made.session)
                last = replace(made, settings=alone, workers=workers[-1:])
                with self._making_ahead(name):
                    chain = BuiltChain.of(made, count_before + last.upgrade(progress))
            except StepFailedError as error:
                what = f"{side} cannot be built on an empty database: {error.what}"
                raise StepFailedError(what, error.remedy) from None
            after_all = cluster_wide.look(made.session)
            came = cluster_wide.made(before_all, after_all)
            yield _Built(made, workers[-1], empty, chain, came, after_all.database)

    @contextmanager
    def _making_ahead(self, name: str) -> Iterator[None]:
        """Let the server make the other scratch database while the old chain is built."""
        server, like = self._run.server, self._run.current.database
        other = server.names.scratch

        def make() -> None:
            self._is_made = derived.has_made_scratch(server, other, like)

        if name == other or self._is_made:
            yield
            return
        thread = Thread(target=make, daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()  # nobody else may use its session before

    def _takes_over(self, name: str) -> bool:
        """Tell whether a scratch database was made ahead; who asks has it then."""
        if name != self._run.server.names.scratch:
            return False
        was_made, self._is_made = self._is_made, False
        return was_made

    def _drop_made_ahead(self) -> None:
        name = self._run.server.names.scratch
        if self._takes_over(name):
            derived.drop(self._run.server, name)

    def _limited(self) -> AbstractContextManager[Progress]:
        return limited(self._watcher, self._limit_s)

    def _keeps_rows(self, made: BuiltChain) -> bool:
        """Tell whether rows of migrations are written. Raises RefusedError: somebody must decide.

        The chain is built once more, where it inserts any: what each build makes anew, such as
        random ids and times, would be as it is in this one for ever.
        """
        self._refuse_large_objects(made)
        if self._wanted.rows or not any(each.total for each in made.rows.values()):
            return self._wanted.rows != "none"
        self._watcher.progress("building it again, to see what each build makes anew")
        name = self._run.server.names.scratch
        with self._built(name, self._selected.heads, SIDES.old) as again:
            anew = rows.unstable(made.rows, again.chain.rows)
        columns = [f"{table}.{each}" for table in sorted(anew) for each in sorted(anew[table])]
        if columns:
            what = f"each build of these migrations fills {few(columns)} anew, as with random ids"
            raise RefusedError([(f"{what} and times", _ROWS)])
        return True

    def _refuse_large_objects(self, made: BuiltChain) -> None:
        """Refuse what would be lost. Of a part the proof tells: others may stand before it."""
        total = made.rows[LARGE_OBJECTS].total
        if total and self._wanted.rows != "none" and not self._selected.down:
            what = f"the old revisions make {count(total, 'large object')}"
            remedy = "--rows none leaves them out, with all rows"
            raise RefusedError([(f"{what}, and a revision is written without such", remedy)])

    def _read_cluster(self, old: _Built) -> ServerStatements:
        """Return what is said to the server. Raises RefusedError where somebody must decide."""
        replaced = {each.id for each in self._selected.replaced}
        found = cluster.read(old.worker.said, replaced).chosen(self._wanted.cluster)
        for each in found.notices():
            self._watcher.notice(each)
        for role in old.came:
            if not any(role.name in each for each in found.all_of_it):
                self._watcher.notice(f"{role.what}, and the new revision does not make it")
        return found

    def _demand_same_database(self, old: _Built, new: _New) -> None:
        """Raise StepFailedError where the server knows other things of the database."""
        if old.of_database != new.of_database and not self._wanted.cluster:
            what = "the old revisions change settings, rights or the comment of their database"
            raise StepFailedError(f"{what}, and the new revision does not", cluster.CHOICE)

    def _is_whole(self) -> bool:
        """Whether all heads are replaced, so that the models can be held against the chain."""
        return {*self._selected.heads} == {*self._chosen.heads}

    def _tell_models(self, old: _Built) -> None:
        """Say how the models differ from what the old chain makes."""
        workers, session = old.scratch.workers, old.scratch.session
        try:
            found = self._is_whole() and drift.differences_of_models(workers, session)
        except StepFailedError as error:
            self._watcher.notice(f"the models cannot be compared: {error.what}")
            return
        if found:
            told = few(sorted(each.what for each in found))
            self._watcher.notice(f"the models differ from the chain, which is what counts: {told}")

    def _modelled(self, built: _Built) -> frozenset[str]:
        """Return the tables that the models have where the scripts of a chain are loaded."""
        if not self._is_whole():
            return frozenset()
        try:
            return frozenset(built.worker.describe(built.scratch.session).columns)
        except StepFailedError:  # which was told of the old chain
            return frozenset()

    def _tell_unimported(self, lost: frozenset[str]) -> None:
        """Say which models only the old revisions have imported: env.py has to do so now."""
        if lost:
            self._watcher.notice(
                f"only the old revisions have imported the models of {few(sorted(lost))} → "
                "import all models in env.py"
            )

    def _write(self, old: _Built, folder: Path, plain: Collection[str], *, keeps: bool) -> Path:
        """Write the revision beside all that stays, in a folder of their own; return its path."""
        selected, wanted = self._selected, self._wanted
        versions = Path(tempfile.mkdtemp(dir=folder))
        change = self._chosen.change
        for number, each in enumerate(old.worker.scripts.revisions):
            if each.path not in change.removed:
                _before, after = change.rewritten.get(each.path, (b"", b""))
                copy = versions / each.path.name
                copy = copy if not copy.exists() else versions / f"{number}_{copy.name}"
                copy.write_bytes(after or each.path.read_bytes())
        with self._below() as below:
            body = writing.read(
                old.scratch,
                old.worker,
                self._run.backups.programs,
                rows=keeps,
                as_sql=self._as_sql,
                plain=plain,
                before=old.empty,
                below=None if below is None else Below(made=below.scratch, worker=below.worker),
            )
            body = writing.begun(body, self._cluster.written)
            if below is not None and self._touches_rows(below.chain, old.chain):
                body = writing.guarded(body, below.chain)
        for unsaid in body.unsaid:
            what = f"how {schema.shown(unsaid)} has changed is not written"
            self._watcher.notice(f"{what}: the proof tells what differs")
        major = old.scratch.session.info.server_version // 10_000
        return writing.write(
            old.worker,
            body,
            folder=versions,
            revision=self._chosen.new,
            message=wanted.message or "squash",
            down=selected.down,
            labels=selected.labels,
            depends_on=selected.depends_on,
            replaces=selected.replaces,
            replaced_heads=selected.heads,
            replaced_schema=schema.digest(old.chain.schema, major),
        )

    def _build_old(self, stack: ExitStack, ends: Sequence[str]) -> _Built:
        """Build the old chain from nothing; else with what an administrator gave the target.

        What that is may as well be what the chain has made there, and would be left out.
        """
        name = self._run.server.names.scratch_old
        try:
            return stack.enter_context(self._built(name, ends, SIDES.old))
        except StepFailedError as error:
            if self._run.current.database is None:
                raise
            self._inherits = True
            built = stack.enter_context(self._built(name, ends, SIDES.old))
            self._watcher.notice(
                "what the target has from an administrator is taken for given, and not in the new "
                f"revision: from nothing {error.what}"
            )
            return built

    def _build_new(self, written: Path, name: str) -> _New | None:
        """Build the chain with the new revision; None where its operations cannot make it.

        Raises StepFailedError where SQL alone cannot, either.
        """
        try:
            with self._built(name, (self._chosen.new,), SIDES.new, written.parent) as new:
                return _New(new.chain, self._modelled(new), new.of_database)
        except StepFailedError as error:
            if self._as_sql:
                raise self._at_fault(error) from None
            self._watcher.notice(f"all of it becomes SQL, since {error.what}")
            self._as_sql = True
            return None

    def _at_fault(self, error: StepFailedError) -> StepFailedError:
        """Return the error; what is said to the server may have come too early."""
        if not self._cluster.written:
            return error
        return StepFailedError(error.what, f"{error.remedy}; or {cluster.NONE}")

    def _touches_rows(self, below: BuiltChain, old: BuiltChain) -> bool:
        """Tell whether a part may change rows that were there before it, or what they stand in.

        What it did to the rows of people cannot be read from any database: of a renamed column not
        even that it was renamed.
        """
        tables = {key for key, each in below.schema.items() if each.kind == "table"}
        before, after = (
            {
                key: each.aspects
                for key, each in built.schema.items()
                if key in tables or (each.kind == "column" and each.parent in tables)
            }
            for built in (below, old)
        )
        texts = (each.decode(errors="replace") for each in self._chosen.change.removed.values())
        return before != after or any(map(operations.depends_on_rows, texts))

    def _below(self) -> AbstractContextManager[_Built | None]:
        """Build what comes before the first replaced revision, for the block, if there is any."""
        needs = (*self._selected.down, *self._selected.depends_on)
        name = self._run.server.names.scratch
        return self._built(name, needs, SIDES.old) if needs else nullcontext()

    def _compared(
        self, old: BuiltChain, new: BuiltChain, written: Path, *, keeps: bool
    ) -> list[Difference]:
        if not keeps:
            old, new = replace(old, rows={}), replace(new, rows={})
        ends = {SIDES.old: self._selected.heads, SIDES.new: (self._chosen.new,)}
        folders = {SIDES.old: None, SIDES.new: written.parent}

        def again(side: str) -> BuiltChain:
            name = self._run.server.names.scratch
            with self._built(name, ends[side], side, folders[side]) as built:
                return built.chain

        return compare(old, new, again)

    def _placed(self, written: Path) -> Done:
        """Put the replaced scripts into a tar, and change the tree at once."""
        change, folders = self._chosen.change, self._chosen.folders
        store = self._run.backups.store
        files.make(store.folder)
        tar = tree.archive(change, folders.root, store.folder, datetime.now(UTC))
        home = self._home(written)
        for each in exchange.exchange(change, home, written.read_bytes(), folders):
            self._watcher.notice(each)
        gone = tuple(folders.shown(each) for each in change.removed)
        others = tuple(folders.shown(each) for each in change.rewritten)
        places = sorted({str(Path(each).parent) for each in gone})
        text = f"{count(len(gone), 'file')} → {folders.shown(tar)}, removed from {few(places)}"
        text += f" · {few(others)} follow the new one" if others else ""
        return Done(text, _ArchivedDetails(archive=str(tar), removed_files=gone, rewritten=others))

    def _told(self, written: Path) -> str:
        replaces = count(len(self._selected.replaces), "revision")
        return f"{self._chosen.folders.shown(self._home(written))} · replaces {replaces}"

    def _home(self, written: Path) -> Path:
        return self._selected.replaced[-1].path.parent / written.name

    def _details(self, written: Path) -> _WrittenDetails:
        return _WrittenDetails(
            revision=self._chosen.new,
            path=self._home(written),
            replaces=self._selected.replaces,
        )


_COUNTED = {
    "table": "tables",
    "view": "views",
    "materialized view": "materialized views",
    "type": "types",
    "function": "functions",
    "trigger": "triggers",
    "index": "indexes",
}


def _same(old: _Built, *, keeps: bool, plain: Collection[str]) -> str:
    """Say how much both chains make."""
    kinds = Counter(each.kind for key, each in old.chain.schema.items() if key not in old.empty)
    said = [
        f"{kinds[kind]:,} {kind if kinds[kind] == 1 else several}"
        for kind, several in _COUNTED.items()
        if kinds[kind]
    ]
    total = sum(each.total for each in old.chain.rows.values())
    if total:
        said.append(f"{count(total, 'row')} of migrations" + ("" if keeps else " left out"))
    text = f"both chains make the same: {', '.join(said) or 'nothing'}"
    return text + (f" · {count(len(plain), 'object')} written as SQL" if plain else "")


def _unlike(found: Iterable[Difference], old: BuiltChain) -> set[str]:
    """Return the keys of what Alembic's operations have not made exactly: tables and indexes."""
    keys = set()
    for each in found:
        if each.minor or each.subject not in old.schema:
            continue
        item = old.schema[each.subject]
        keys.add(item.key if item.kind == "index" or not item.parent else item.parent)
    return keys
