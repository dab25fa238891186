"""A fleet's run: so many jobs at a time, each in the journal before and after it."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from backset.errors import BacksetError, Interrupted
from backset.fleet import journal as journals
from backset.fleet.executors import refused
from backset.fleet.hand import TRIES, by_hand
from backset.fleet.jobs import Job, JobEnd
from backset.process import signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Executor

    from backset.fleet.executors import Executors
    from backset.fleet.journal import FleetJournal
    from backset.report.report import Report

_LOOK_EVERY_S = 0.5
_ENDING_S = 60.0  # for interrupted jobs, each of which cleans up
_VERIFY = "verify"


@dataclass(slots=True)
class Tally:
    """What has become of the members. bad: labels by how they ended; left: how many were not begun.

    code: the exit code, of the worst of them. why: what has stopped the run, if something did.
    """

    ends: Counter[str] = field(default_factory=Counter)
    bad: dict[str, list[str]] = field(default_factory=dict)
    code: int = 0
    left: int = 0
    why: str = ""

    @property
    def failures(self) -> int:
        """How many have ended badly."""
        return sum(map(len, self.bad.values()))

    def add_end(self, label: str, end: JobEnd) -> None:
        """Count how it ended for a member."""
        self.ends[end.how] += 1
        if not end.is_good:
            self.bad.setdefault(end.how, []).append(label)
            self.code = worse(self.code, end.exit_code)


_ORDER = (0, 6, 75, 3, 2, 4, 5, 1, 130, 143)  # exit codes, the worst last


def worse(one: int, other: int) -> int:
    """Return the exit code that says more of two."""
    return max(one, other, key=lambda code: _ORDER.index(code) if code in _ORDER else len(_ORDER))


def in_turn(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs in an order in which servers take turns: else one would have them all."""
    of_server: dict[str, list[Job]] = {}
    for each in jobs:
        of_server.setdefault(each.member.server, []).append(each)
    return [each for turn in zip_longest(*of_server.values()) for each in turn if each]


class FleetRun:
    """Does jobs, a bounded number at a time, and tells of each.

    tally: what has become of members before. fails_fast: whether nothing is begun after a failure.
    """

    def __init__(
        self,
        executors: Executors,
        journal: FleetJournal,
        told: Report,
        tally: Tally,
        *,
        fails_fast: bool,
    ) -> None:
        self._executors = executors
        self._journal = journal
        self._told = told
        self._fails_fast = fails_fast
        self._deaths = Counter[str]()
        self.tally = tally

    def do(self, jobs: Sequence[Job], canaries: Sequence[Job] = ()) -> None:
        """Do the canaries, verify them, and then the others. Raises Interrupted.

        jobs: those that are left of all, canaries among them. canaries: the first ones, those that
        are done included: what is not verified stops the run here.
        """
        if self._fails_fast and self.tally.bad:
            self.tally.why = self._because(next(iter(chain(*self.tally.bad.values()))))
        names = {each.member.key for each in canaries}
        first = [each for each in jobs if each.member.key in names]
        others = [each for each in jobs if each.member.key not in names]
        if self._round(first) and self._round(self._unverified(canaries)):
            self._round(in_turn(others))
            return
        self.tally.left += len(others)
        self.tally.why = self.tally.why or "the first ones are not verified"

    def _unverified(self, canaries: Sequence[Job]) -> list[Job]:
        """Return what verifies the canaries that are not."""
        return [
            replace(each, action=_VERIFY, oid=0, digest="", since="")
            for each in canaries
            if each.member.key not in self._journal.past.verified
        ]

    @staticmethod
    def _because(label: str) -> str:
        return f"{label} has failed, and --fail-fast was said"

    def _round(self, jobs: Iterable[Job]) -> bool:
        """Do jobs; tell whether all have ended well."""
        before = self.tally.failures
        waiting, running = deque(jobs), dict[Future[JobEnd], Job]()
        try:
            while running or (waiting and not self.tally.why):
                while waiting and len(running) < self._executors.number and not self.tally.why:
                    self._begin(waiting.popleft(), running)
                ended, _ = wait(running, _LOOK_EVERY_S, FIRST_COMPLETED)
                for future in ended:
                    job = running.pop(future)
                    if again := self._ended(job, _end_of(future)):
                        waiting.appendleft(again)
        except Interrupted:
            self._interrupt(running)
            self.tally.left += len(waiting)
            raise
        self.tally.left += len(waiting)
        return self.tally.failures == before and not self.tally.why

    def _begin(self, job: Job, running: dict[Future[JobEnd], Job]) -> None:
        job = replace(job, since=job.since or datetime.now(UTC).isoformat())
        self._journal.add(journals.BEGUN, job.member, oid=job.oid, action=job.action)
        self._told.member("begun", job.member.label, job.action)
        with signals.deferred():  # a job that nobody knows of would go on
            running[self._submitted(self._executors.works, job)] = job

    def _submitted(self, works: Executor, job: Job) -> Future[JobEnd]:
        if self._executors.is_remote:
            return works.submit(by_hand, job)
        label = job.member.label
        return works.submit(by_hand, job, lambda text: self._told.member("doing", label, text))

    def _ended(self, job: Job, end: JobEnd) -> Job | None:
        """Write down and tell how a job ended; return it where it is to be tried again."""
        label = job.member.label
        if end.how == "died":
            self._deaths[job.member.key] += 1
            if self._deaths[job.member.key] < TRIES:
                self._told.member("again", label, f"{end.text}; it is tried again")
                return job
        event = journals.VERIFIED if job.action == _VERIFY and end.is_good else end.how
        self._journal.add(journals.DONE if end.how == "nothing" else event, job.member)
        self._told.member(end.how, label, end.text, **end.told)
        self.tally.add_end(label, end)
        if self._fails_fast and not end.is_good:
            self.tally.why = self._because(label)
        return None

    def _interrupt(self, running: dict[Future[JobEnd], Job]) -> None:
        self._executors.interrupt()
        ended, pending = wait(running, 0 if self._executors.is_remote else _ENDING_S)
        for future in ended:
            self._ended(running[future], _end_of(future))
        for future in pending:
            future.cancel()


def _end_of(future: Future[JobEnd]) -> JobEnd:
    """Return how a job ended, also where it was the executor that gave it up."""
    try:
        return future.result()
    except BacksetError as error:
        return JobEnd(how="failed", text=error.what, lines=error.lines(), exit_code=error.exit_code)
    except (Exception, CancelledError) as error:  # noqa: BLE001  (Dask's, such as KilledWorker)
        lost = refused(error)
        return JobEnd(how="failed", text=lost.what, lines=lost.lines(), exit_code=lost.exit_code)
