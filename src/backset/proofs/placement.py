"""Finds where in its chain the live schema really is: by a scratch build, revision by revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.catalogs import catalog, difference, schema
from backset.catalogs.difference import Sides
from backset.connections.session import explained
from backset.diagnoses.facts import Proof
from backset.errors import RefusedError, StepFailedError
from backset.migrations import upgrading
from backset.proofs import scratch
from backset.scripts import graph, row_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backset.catalogs.difference import Difference, Item
    from backset.catalogs.sharing import Sharing
    from backset.connections.session import Session
    from backset.proofs.scratch import Scratch
    from backset.runs.build import Build
    from backset.scripts.revisions import Revision

    Progress = Callable[[str], None]


# Who owns what and who may do what is an administrator's matter as well as the chain's.
_MINOR = frozenset({"owner", "rights", "version", "default acl"})
_SIDES = Sides("the migrations", "the database")


def find(build: Build, progress: Progress, notice: Callable[[str], None] | None = None) -> Proof:
    """Build the chain in a scratch database, and compare it with the target at every revision.

    What belongs to others is not compared, nor an extension that the role could not make there: the
    proof names it. It wants a build without a session on the target: what stood there before the
    lock is ended.
    The target is only read. A chain that cannot be built proves nothing, and the proof says so.
    notice: is told for whom we wait, if we may wait. Raises LockedError.
    """
    name = build.server.names.scratch
    same: list[str] = []
    last: list[Difference] = []
    try:
        with explained(build.target):
            scratch.prepare(build, [name], "build the chain to compare it", notice)
            others = build.sharing
            live, columns = _schema(build.live, others), _columns(build.live, others)
        with explained(build.target), scratch.made(build, name) as made:
            spare = [f"extension {each}" for each in made.inheritance.uncreatable]
            live = {key: each for key, each in live.items() if key not in spare}
            for at, is_end in _climb(made, progress):
                # The names alone are soon read.
                if is_end or _columns(made.session, others) == columns:
                    last = compare(made, live)
                    same += [at] if is_proved(last) else []
            agrees = _agrees(made)
            unseen, filling = _traceless(made, same)
    except StepFailedError as error:
        return Proof(unbuilt=f"the chain cannot be built: {error.what} → {error.remedy}")
    except RefusedError as error:
        return Proof(unbuilt=f"{error.what} → {error.remedy}")
    texts = tuple(each.text for each in last if not each.minor)
    spare += [others.whose] if others.whose else []
    return Proof(
        same=tuple(same),
        differences=texts,
        agrees=agrees,
        unseen=unseen,
        filling=filling,
        spare=tuple(spare),
    )


def _traceless(made: Scratch, same: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files of what may have run or not, and of what has filled tables before that."""
    if not same:
        return (), ()
    known = [each for worker in made.workers for each in worker.scripts.revisions]
    first, latest = (graph.ancestors(each.split(), known) for each in (same[0], same[-1]))
    texts = {each: _text(each) for each in graph.ordered(known)}
    return (
        tuple(
            each.path.name
            for each, text in texts.items()
            if each.id in latest - first and not row_changes.is_idle(text)
        ),
        tuple(
            each.path.name
            for each, text in texts.items()
            if each.id in first and row_changes.speaks_of_rows(text)
        ),
    )


def _text(script: Revision) -> str:
    """Return the text of a script; nothing of one whose source is gone."""
    is_source = script.path.suffix == ".py"
    return script.path.read_text(encoding="utf-8", errors="replace") if is_source else ""


def _schema(session: Session, others: Sharing) -> dict[str, Item]:
    return schema.read(session, spare=catalog.version_tables(session), others=others)


def _columns(session: Session, others: Sharing) -> dict[str, set[str]]:
    tables = set(catalog.tables(session)) - set(catalog.version_tables(session))
    tables = {each for each in tables if not others.has(each)}
    every = catalog.columns(session)
    return {name: every[name] for name in (catalog.shown(*each) for each in tables)}


def _climb(made: Scratch, progress: Progress) -> Iterator[tuple[str, bool]]:
    """Yield each place of the chain once it is reached, and whether it is the end.

    A place is named by the rows that the version table has there, with a space between. Of several
    chains in one database only the end of all of them is a place.
    """
    if len(made.workers) > 1:
        made.upgrade(progress)
        made.inheritance.complete(made.session)
        heads = [head for worker in made.workers for head in worker.scripts.heads]
        yield " ".join(sorted(heads)), True
        return
    (worker,) = made.workers
    scripts = worker.scripts
    wanted = graph.ancestors(scripts.heads, scripts.revisions)
    order = [each for each in graph.ordered(scripts.revisions) if each.id in wanted]
    yield "base", not order
    for number, each in enumerate(order, 1):
        progress(f"{number}/{len(order)} {each.id}")
        upgrading.upgrade(worker, made.session, lambda _text: None, to=each.id)
        is_end = number == len(order)
        if is_end:
            made.inheritance.complete(made.session)
        rows = graph.heads(order[:number])
        _demand(set(rows), made)
        yield " ".join(sorted(rows)), is_end


def _demand(rows: set[str], made: Scratch) -> None:
    """Raise StepFailedError if the version table is elsewhere: an application migrates by itself.

    Otherwise every place would look like the one to which it has gone.
    """
    found = set(catalog.revisions(made.session))
    if not found <= rows:
        what = f"env.py or its application went on to {', '.join(sorted(found - rows))} by itself"
        raise StepFailedError(what, "let it not migrate when it is loaded")


def compare(made: Scratch, live: Mapping[str, Item]) -> list[Difference]:
    """Return how a schema differs from what was built; rows and the version table are left out.

    What is `minor` (the order of columns, owners, rights, versions of extensions) is no reason
    against a stamp.
    """
    return difference.between(made.schema(), live, _SIDES, minor=_MINOR)


def is_proved(found: Sequence[Difference]) -> bool:
    """Tell whether nothing stands against stamping the database with the chain's heads."""
    return all(each.minor for each in found)


def _agrees(made: Scratch) -> bool:
    """Tell whether the models agree with what the chain makes."""
    for worker in made.workers:
        about = worker.ask("describe", made.session)
        if about["models"] and worker.ask("check", made.session)["differences"]:
            return False
    return True
