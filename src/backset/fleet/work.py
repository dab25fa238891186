"""One member's work: the chain of the task, run on its database as it would be on a target.

It is done in a process that does nothing else meanwhile: see hand.py.
"""

from __future__ import annotations

import sys
import time
import traceback
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from backset import execution
from backset.backups import shared
from backset.chain import CHAINS
from backset.connections.session import explained
from backset.errors import (
    AlembicError,
    BacksetError,
    FindingsError,
    Interrupted,
    LockedError,
    RefusedError,
    ReplacedError,
    StepFailedError,
)
from backset.fleet import members
from backset.fleet.jobs import JobEnd
from backset.memory import builds
from backset.migrate import nursery
from backset.process import process, signals, streams
from backset.runs.consent import Consent
from backset.runs.run import Options, Run
from backset.settings import rules
from backset.steps import STANDARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from backset.chain import Chain, Done
    from backset.connections.target import Target
    from backset.fleet.jobs import How, Job
    from backset.settings.settings import Settings

_EARLIER = "an earlier try had done it"
_PATIENCE_S = 30.0  # with the lock of a try whose process is just ending
_LOOK_AGAIN_S = 0.5


class _Steps:
    """What a run tells while it happens.

    ended: the words of each step that has ended. has_migrated: whether a revision was begun.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self.ended: list[tuple[str, str]] = []
        self.has_migrated = False
        self._step = ""

    def begin(self, step: str) -> None:
        """Note that a step begins."""
        self._step = step
        self._progress(step)

    def progress(self, text: str, *, lasting: bool = False) -> None:  # noqa: ARG002  (a table shows it)
        """Note what the step is doing."""
        self.has_migrated = self.has_migrated or self._step == "upgrade"
        self._progress(f"{self._step} {text}")

    def notice(self, text: str, clients: Sequence[Any] = ()) -> None:  # noqa: ARG002  (JSON)
        """Keep what must not go unsaid."""
        self._progress(text)
        self.ended.append(("!", text))

    def end(self, step: str, done: Done) -> None:
        """Keep what the step did."""
        if done.text:
            self.ended.append((step, done.text))
        self.ended += [("!", str(each)) for each in done.findings]


def do(job: Job, progress: Callable[[str], None]) -> JobEnd:
    """Do what is asked for, and return how it ended, whatever that is."""
    began, steps = time.monotonic(), _Steps(progress)
    with signals.raised():
        try:
            end = _tried(job, steps)
        except ReplacedError as error:
            end = _failed("refused", error)
        except FindingsError as error:
            end = _failed("findings", error)
        except RefusedError as error:
            end = _failed("refused", error)
        except LockedError as error:
            end = _failed("locked", error)
        except BacksetError as error:
            end = _failed("failed", error)
        except Interrupted as error:
            process.end_all()  # before this is told: whoever hears it ends our process
            end = _failed("interrupted", error)
        except OSError as error:
            end = _failed("failed", StepFailedError.from_system(error))
        except Exception as error:  # noqa: BLE001  (a bug: the others go on)
            traceback.print_exc()  # what our process has said last is told where it dies
            end = JobEnd(how="failed", text=f"a bug: {type(error).__name__}: {error}", exit_code=1)
        signals.ignore()
    text, *lines = (members.told_of(job.member.database, x) for x in (end.text, *end.lines))
    end = replace(end, text=text, lines=lines)
    return replace(end, steps=tuple(steps.ended), seconds=round(time.monotonic() - began, 3))


def _failed(how: How, error: BacksetError | Interrupted) -> JobEnd:
    *first, last = error.lines()
    lines = [*first, " · ".join([last, *getattr(error, "__notes__", ())])]
    shown = [streams.concealed(each) for each in lines]
    text = shown[0] if len(shown) == 1 else f"{shown[0]} (and {len(shown) - 1} more)"
    return JobEnd(how=how, text=text, lines=shown, exit_code=error.exit_code)


def _tried(job: Job, steps: _Steps) -> JobEnd:
    settings, chain = members.settings_at(job.site), chain_of(job)
    target = members.target(job.site, job.member)
    if settings.fleet[job.member.number].url or not settings.is_embedded:
        settings = replace(settings, target=target)
    streams.conceal({*settings.secrets(settings.target), *target.secrets})
    until = time.monotonic() + _PATIENCE_S
    while True:
        if _is_backed_up(job, settings):
            return JobEnd(how="done", text=_EARLIER)
        try:
            return _done(job, settings, target, chain, steps)
        except AlembicError:
            if steps.has_migrated or not nursery.import_anew():
                raise
            steps.ended.clear()
        except LockedError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_AGAIN_S)


def chain_of(job: Job) -> Chain:
    """Return the chain of a job, as the project has it."""
    _load_chains(job.tasks)
    return CHAINS[job.action]


@cache
def _load_chains(tasks: str) -> None:
    """Make the chains known, once: the standard ones, or those of the project's own file."""
    CHAINS.update({each.name: each for each in STANDARD})
    if not tasks:
        return
    file = Path(tasks)
    sys.path.insert(0, str(file.parent))  # as Invoke does
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None  # noqa: S101  (it has a loader, by its suffix)
    assert spec.loader is not None  # noqa: S101  (likewise)
    module = sys.modules[file.stem] = module_from_spec(spec)
    spec.loader.exec_module(module)


def _is_backed_up(job: Job, settings: Settings) -> bool:
    """Tell whether a try before this one has taken the backup that is wanted.

    Another server may have a database of that name, whose backups are in the same folder.
    """
    if job.action != "backup" or job.plans or not job.since:
        return False
    found = shared.store_of(settings, job.member.database).list()
    began = datetime.fromisoformat(job.since)
    about = (each.manifest for each in found)
    return any(x.server_id == job.member.server and x.taken_at > began for x in about)


def _done(job: Job, settings: Settings, target: Target, chain: Chain, steps: _Steps) -> JobEnd:
    wanted = rules.wanted(settings, said=None, drops=False, seeds=False)
    carries = wanted if chain.has("carry") else None
    consent = Consent(
        yes=job.yes, digest=job.digest, oid=job.oid, wait=job.wait, timeout=job.timeout
    )
    with _run(job, settings, target, chain, Options(carries=carries)) as run:
        run.open()
        with explained(target):
            members.demand_server(job.member, run.server.identifier())
        if job.plans:
            planned = execution.plan(run, chain, skip=frozenset(), consent=consent)
            if planned.problems:
                raise StepFailedError.of(planned.problems)
            lines = [f"{step:<9} {text}" for step, text in planned.lines]
            text = next((text for step, text in planned.lines if step == "strategy"), "")
            return JobEnd(
                how="planned", text=text, lines=lines, facts=planned.facts, digest=planned.digest
            )
        try:
            execution.perform(run, chain, steps, skip=frozenset(), consent=consent)
        except ReplacedError:
            before = run.current.previous
            if before is None or before.oid != job.oid:
                raise
            return JobEnd(how="done", text=_EARLIER)
        told = [text for step, text in steps.ended if step != "!"]
        return JobEnd(how="done", text=told[-1] if told else "done")


@contextmanager
def _run(
    job: Job, settings: Settings, target: Target, chain: Chain, options: Options
) -> Iterator[Run]:
    """Give a run on the member, as a task on a target has it."""
    with builds.ahead(settings, chain, target.database, cold=False) as (memory, worker):
        if worker is not None and job.goal:
            worker.begin_alone(settings.plain_env)
            _demand_goal(worker.scripts.heads, job.goal)
        with Run(
            *(settings, target, "plan" if job.plans else chain.name),
            beside=chain.replaces,
            worker=worker,
            options=options,
            memory=memory,
        ) as run:
            yield run


def _demand_goal(heads: Sequence[str], goal: Sequence[str]) -> None:
    """Raise StepFailedError where the scripts here are others than those of the plan."""
    if missing := set(heads) - set(goal):
        what = f"the scripts here end at {', '.join(sorted(missing))}, those of the plan at "
        raise StepFailedError(what + ", ".join(goal), "give each machine the same scripts")
