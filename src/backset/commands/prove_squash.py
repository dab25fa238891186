"""The task that proves a squash: two chains built in scratch databases, and compared."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.chain import Details, Done
from backset.checks import drift
from backset.cli import opened
from backset.connections.session import explained
from backset.described import described, key
from backset.errors import Finding, FindingsError, StepFailedError
from backset.process import files
from backset.prove import models, scratch
from backset.prove.chains import SIDES, BuiltChain, Made, compare, finding
from backset.prove.scratch import limited
from backset.report.report import WOULD_START
from backset.revisions.git import Git
from backset.runs.consent import Consent
from backset.runs.run import Run
from backset.servers import derived, location
from backset.settings.reader import configurations
from backset.settings.values import ALL_HEADS
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backset.chain import Watcher
    from backset.prove.scratch import Scratch
    from backset.settings.settings import Settings
    from backset.settings.values import Lineage

    Progress = Callable[[str], None]

_PURPOSE = "prove a squash"
_OLDER = "name a commit whose chain runs, or a copy of the old revisions in which that is mended"
_CHOOSE = "name a commit, a branch or a tag, or a folder of old revisions"


def prove_squash(
    old: str, *, plan: bool, as_json: bool, deep: bool, said: Mapping[str, Any]
) -> None:
    """Compare what the chain makes with what an old one made; exit 6 when that differs.

    deep: whether what the models make is compared with that, too; such a difference is told.
    """
    with opened("prove-squash", as_json=as_json) as (settings, told):
        consent = Consent(**said)
        target = location.peek(settings) if plan else location.locate(settings)
        if target is None:
            told.plan([("start", WOULD_START)])
            return
        told.note(database=target.database, url=target.shown)
        purpose = "plan" if plan else "prove-squash"
        with Run(settings, target, purpose, beside=False) as run, explained(target):
            run.open()
            if plan:
                told.plan(_planned(run, old))
                return
            findings = _proved(run, old, told, consent, deep=deep and settings.deep is not False)
        if findings:
            raise FindingsError.of(findings)
        told.done("")


@described()
class _SquashDetails(Details):
    made: Made = key("`old` and `new`: how much the chain has made")


@described()
class _ComparisonDetails(Details):
    minor: int = key("`compare`: how many differences matter less; they are among `notices`")


def _proved(run: Run, old: str, watcher: Watcher, consent: Consent, *, deep: bool) -> list[Finding]:
    """Build both chains, compare what they made, and return the differences; minor ones are told.

    old: what _old_chain() takes. consent: whether a lock is waited for, and how long a step.
    """
    names = run.server.names
    scratch.prepare(run, names.scratches, _PURPOSE, watcher.notice if consent.wait else None)
    today = _Chain(settings=run.settings, shown="as it is on disk")
    with _old_chain(run.settings, old) as before, explained(run.target):
        both = {SIDES.old: (before, names.scratch_old), SIDES.new: (today, names.scratch)}

        unlike: list[Finding] = []

        def make(side: str, look: Callable[[Scratch], None] = _unseen) -> BuiltChain:
            with limited(watcher, consent.timeout_s) as progress:
                return _made(run, side, *both[side], progress, look)

        def again(side: str) -> BuiltChain:
            watcher.progress(f"building {side} again, to see what each build makes anew")
            return make(side)

        def look(new: Scratch) -> None:
            watcher.progress("comparing the new chain with what the models make")
            unlike.extend(_unlike_models(run, new))

        made = []
        for side, step in ((SIDES.old, "old"), (SIDES.new, "new")):
            watcher.begin(step)
            made.append(make(side, look if deep and side == SIDES.new else _unseen))
            much = made[-1].made
            watcher.end(step, Done(f"{both[side][0].shown} · {much}", _SquashDetails(much)))
        watcher.begin("compare")
        found = compare(made[0], made[1], again)
    for each in found:
        if each.minor:
            watcher.notice(each.text)
    if unlike:
        told = few(each.what for each in unlike)
        watcher.notice(f"the models differ from the new chain, before the squash or by it: {told}")
    findings = [finding(each) for each in found if not each.minor]
    minor = len(found) - len(findings)
    watcher.end("compare", Done(_verdict(len(findings), minor), _ComparisonDetails(minor)))
    return findings


def _planned(run: Run, old: str) -> list[tuple[str, str]]:
    """Return (step, what it would do). Nothing is changed. Raises as _proved() would."""
    names = run.server.names
    derived.refuse_scratch(run.server, names.scratches, run.current.databases, _PURPOSE)
    before = _old_name(run.settings, old)
    return [
        ("old", f"would build {before} in {names.scratch_old}, and drop that"),
        ("new", f"would build the chain as it is on disk in {names.scratch}, and drop that"),
        ("compare", "would compare every object, and the rows that migrations insert"),
    ]


def _unseen(_made: Scratch) -> None:
    """Look at nothing."""


def _unlike_models(run: Run, new: Scratch) -> list[Finding]:
    """Return how the models differ from the new chain; they make theirs where the old one was."""
    name = run.server.names.scratch_old
    both = partial(models.made, run, name, new.workers, new.session)
    try:
        return drift.differences_of_models(new.workers, new.session, both)
    except StepFailedError:  # env.py cannot be asked, which `verify` says
        return []


def _made(
    run: Run,
    side: str,
    chain: _Chain,
    name: str,
    progress: Progress,
    look: Callable[[Scratch], None],
) -> BuiltChain:
    """Build a chain in the scratch database `name`, read that, and drop it.

    look: looks at it before that.
    Raises StepFailedError that says whose chain it is: it may be broken itself.
    """
    try:
        with scratch.created(run, name, settings=chain.settings, versions=chain.versions) as one:
            built = BuiltChain.of(one, one.upgrade(progress))
            look(one)
            return built
    except StepFailedError as error:
        what = f"{side} ({chain.shown}) cannot be built on an empty database: {error.what}"
        remedy = _OLDER if side == SIDES.old else error.remedy
        raise StepFailedError(what, remedy) from None


def _verdict(findings: int, minor: int) -> str:
    text = f"{count(findings, 'difference')}" if findings else "both chains make the same"
    return text + (f", and {minor} that matter less" if minor else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """A chain of revisions: whose project it belongs to, and what it is called.

    versions: a folder of revisions in place of those that the project's configuration names.
    """

    settings: Settings
    shown: str
    versions: Path | None = None


@contextmanager
def _old_chain(settings: Settings, old: str) -> Iterator[_Chain]:
    """Give the chain that `old` means: a folder with revisions in it, else a commit.

    A commit is written into a temporary folder that nobody else can read, with its own env.py and
    its own models; its children get today's environment. A folder gets today's env.py and models.
    Raises StepFailedError if `old` is neither.
    """
    if folder := _folder(settings, old):
        if len(settings.lineages) > 1:
            what = "the settings have several chains, and a folder of old revisions is one"
            raise StepFailedError(what, "name a commit, a branch or a tag")
        ends = _to_all_heads(settings)
        yield _Chain(settings=ends, shown=_shown_folder(settings, folder), versions=folder)
        return
    commit, git = _commit(settings, old)
    with files.temporary() as folder:
        tree = folder / "tree"
        git.export(commit, tree)
        yield _Chain(settings=_moved(settings, tree, git), shown=_shown_commit(old, commit))


def _old_name(settings: Settings, old: str) -> str:
    """Say what _old_chain() would give; write nothing. Raises StepFailedError as that does."""
    if folder := _folder(settings, old):
        return f"{_shown_folder(settings, folder)} with today's env.py"
    commit, _ = _commit(settings, old)
    return f"the project of {_shown_commit(old, commit)}"


def _shown_folder(settings: Settings, folder: Path) -> str:
    root = settings.root
    return f"the folder {folder.relative_to(root) if folder.is_relative_to(root) else folder}"


def _shown_commit(old: str, commit: str) -> str:
    return commit[:10] if commit.startswith(old) else f"{old}, commit {commit[:10]}"


def _folder(settings: Settings, old: str) -> Path | None:
    """Return the folder that has the revisions: `old`, or the only one below it that has some."""
    folder = settings.root / Path(old).expanduser()
    if not old or not folder.is_dir():
        return None
    found = {path.parent for path in folder.rglob("*.py") if path.name != "__init__.py"}
    if folder in found or len(found) == 1:
        return folder if folder in found else found.pop()
    names = ", ".join(sorted(str(each.relative_to(folder)) for each in found)) or "none"
    raise StepFailedError(f"{old} has no revision; folders in it that have some: {names}", _CHOOSE)


def _commit(settings: Settings, old: str) -> tuple[str, Git]:
    git = Git(settings.root, settings.environ)
    commit = git.commit_id(old) if old and not old.startswith("-") else None
    if commit is None:
        raise StepFailedError(
            f"{old!r} is neither a commit of this repository nor a folder", _CHOOSE
        )
    return commit, git


def _moved(settings: Settings, tree: Path, git: Git) -> Settings:
    """Return today's settings for the project in another tree, whose modules come first."""
    root = tree / git.prefix
    if not root.is_dir():
        raise StepFailedError(f"{git.prefix} does not exist in that commit", _CHOOSE)
    modules = [str(each) for each in (root / "src", root) if each.is_dir()]
    path = os.pathsep.join([*modules, *filter(None, [settings.environ.get("PYTHONPATH")])])
    there = tuple(_found(each, settings.root, root) for each in settings.lineages)
    return replace(
        _to_all_heads(replace(settings, lineages=there)),
        root=root,
        environ={**settings.environ, "PYTHONPATH": path},
    )


def _to_all_heads(settings: Settings) -> Settings:
    """Let every chain go to all its heads: several of them may be why it was squashed."""
    lineages = tuple(replace(each, heads=ALL_HEADS) for each in settings.lineages)
    return replace(settings, lineages=lineages)


def _found(lineage: Lineage, today: Path, root: Path) -> Lineage:
    """Return the lineage with its configuration where that is in the other tree."""
    config = Path(lineage.config)
    if lineage.config and config.is_absolute() and config.is_relative_to(today):
        config = config.relative_to(today)
    if lineage.config and (root / config).is_file():
        return replace(lineage, config=str(config))
    return replace(lineage, config=next(iter(configurations(root)), lineage.config))
