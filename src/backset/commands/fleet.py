"""The task on many databases: a plan first, then a bounded number of them at a time."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backset.chain import CHAINS
from backset.cli import opened
from backset.errors import (
    BacksetError,
    FindingsError,
    Interrupted,
    LockedError,
    RefusedError,
    RestoredError,
    SettingsError,
    StepFailedError,
)
from backset.migrate.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.fleet.executors import Executors
    from backset.fleet.jobs import How, Job, JobEnd
    from backset.fleet.journal import PastRun
    from backset.fleet.looking import Judge, MemberState, SeenMember
    from backset.fleet.members import FleetMember, Site
    from backset.fleet.running import Tally
    from backset.report.report import Report
    from backset.settings.settings import Settings

ACTIONS = ("status", "upgrade", "verify", "reset-db", "backup")
_BACKS_UP = ("upgrade", "reset-db", "backup")
_AGAIN = "mend what their lines say, then run this again: it goes on with them"
_KINDS: Mapping[int, type[BacksetError]] = {
    each.exit_code: each for each in (RestoredError, FindingsError, LockedError)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFlags:
    """What the flags say. jobs, canary: in digits, or empty. confirm: the digest of the plan."""

    plan: bool = False
    as_json: bool = False
    jobs: str = ""
    canary: str = ""
    fail_fast: bool = False
    dask: str = ""
    yes: bool = False
    confirm: str = ""
    wait: bool = False
    timeout: str = ""
    anew: bool = False

    def number(self, name: str) -> int | None:
        """Return a number of at least 1, or None where it is not said. Raises SettingsError."""
        text = str(getattr(self, name))
        if not text:
            return None
        if text.isdecimal() and int(text):
            return int(text)
        raise SettingsError([(f"--{name} is {text!r}", f"say a number, such as --{name} 2")])


@dataclass(slots=True)
class _Standing:
    """A member: where it stands, and what is to be done for it, or how that has ended already."""

    member: FleetMember
    seen: SeenMember
    state: MemberState
    job: Job | None = None
    end: JobEnd | None = None


def fleet(action: str, flags: FleetFlags) -> None:
    """Do a task on every database of the fleet; exit as the worst of them."""
    with opened("fleet", as_json=flags.as_json) as (settings, told), ExitStack() as stack:
        _demand_action(action, flags)
        number, _ = flags.number("jobs"), flags.number("canary")
        workers = Worker.several(settings, settings.lineages) if settings.fleet else []
        for each in workers:
            stack.enter_context(each).begin_alone(settings.plain_env)
        from backset.backups.shared import store_of
        from backset.fleet import executors, looking, members
        from backset.report.report import WOULD_START
        from backset.runs.consent import Consent
        from backset.servers import location
        from backset.settings import reader

        Consent(timeout=flags.timeout)  # or an error, before anything is done
        if action in _BACKS_UP and not flags.dask:
            store_of(settings, "fleet")  # likewise: it may want a package that is not here
        if flags.plan and settings.is_embedded and location.peek(settings) is None:
            told.plan([("start", WOULD_START)])
            return
        run = secrets.token_hex(8)  # a process may have several, each with its settings
        site = members.Site(str(Path.cwd()), run, tuple(reader.FLAGS.items()))
        hands = stack.enter_context(
            executors.on_dask(flags.dask, site, number)
            if flags.dask
            else executors.here(number or _processors())
        )
        _Fleet(settings, told, action, flags, site, hands, looking.Judge(workers)).do()


def _demand_action(action: str, flags: FleetFlags) -> None:
    if action not in ACTIONS:
        what = f"there is no `invoke fleet {action}`"
        raise SettingsError([(what, f"say one of {', '.join(ACTIONS)}")])
    if flags.canary and action not in {"upgrade", "reset-db"}:
        raise SettingsError([("--canary is for what changes something", "leave it out")])


class _Fleet:
    """A task on the members of a fleet, from the first look to the last line."""

    def __init__(
        self,
        settings: Settings,
        told: Report,
        action: str,
        flags: FleetFlags,
        site: Site,
        executors: Executors,
        judge: Judge,
    ) -> None:
        self._settings = settings
        self._told = told
        self._action = action
        self._flags = flags
        self._site = site
        self._executors = executors
        self._judge = judge

    def do(self) -> None:
        """Look, plan, obtain consent, act. Raises BacksetError where a member is not done."""
        from backset.fleet import journal, running

        if self._action in {"upgrade", "reset-db"}:
            self._judge.demand_destination()
        about = {"action": self._action, "goal": [*self._judge.goal]}
        path = self._settings.backups / ".fleet" / f"{self._action}.jsonl"
        looks_only = self._flags.plan or self._action == "status"
        past = journal.PastRun() if self._flags.anew else journal.read(path, about)
        every = self._stand(past)
        self._summarize(every, past)
        if looks_only:
            self._tell_plan(every)
            return
        self._demand_consent(every)
        with journal.opened(path, about, past) as book:
            tally = running.Tally()
            for each in every:
                self._tell_ended(each, tally)
            fast = self._flags.fail_fast
            work = running.FleetRun(self._executors, book, self._told, tally, fails_fast=fast)
            with _counted(tally):
                jobs = [each.job for each in every if each.job]
                work.do(jobs, self._canaries(every, past))
            if not tally.bad and not tally.left:
                book.add(journal.OVER)
        self._close(tally, len(every))

    def _stand(self, past: PastRun) -> list[_Standing]:
        """Look at every member; note what is to be done."""
        from backset.fleet import looking, members

        found = self._executors.looks.submit(members.find, self._site).result()
        if not self._executors.is_remote:
            members.conceal(self._site)
        sites = [self._site] * len(found)
        seen = self._executors.looks.map(looking.look, sites, found)
        every = []
        for member, look in zip(found, seen, strict=True):
            state = self._judge.state(look)
            remedy = members.remedy_of(member.database, state.remedy)
            every.append(_Standing(member, look, replace(state, remedy=remedy)))
        for each in every:
            each.end = self._ended_already(each, past)
            each.job = None if each.end else self._job(each.member, each.seen)
        if self._action == "reset-db":
            self._plan_jobs(every)
        return every

    def _ended_already(self, each: _Standing, past: PastRun) -> JobEnd | None:
        """Return how it ends for a member for which nothing is to be done."""
        from backset.fleet import looking

        if each.state.kind == looking.UNREACHABLE:
            return _ending("failed", each.state)
        if self._action == "status":
            is_good = each.state.kind == looking.AT_HEAD
            return _ending("nothing" if is_good else "findings", each.state)
        if self._action == "upgrade":
            return _nothing_to_upgrade(each.state)
        return self._done_before(each, past)

    def _done_before(self, each: _Standing, past: PastRun) -> JobEnd | None:
        """Return that the run before has done it: by the journal, or by the database itself."""
        from backset.text.quantities import moment

        key, before = each.member.key, each.seen.previous
        is_swapped = self._action == "reset-db" and before and past.begun.get(key) == before
        if past.at and (key in past.done or is_swapped):
            text = f"done by the run of {moment(past.at)}"
            return _ending("nothing", replace(each.state, text=text, remedy=""))
        return None

    def _job(self, member: FleetMember, seen: SeenMember) -> Job:
        from backset.fleet.jobs import Job

        flags = self._flags
        tasks = getattr(sys.modules.get("tasks"), "__file__", None) or ""
        return Job(
            action=self._action,
            site=self._site,
            member=member,
            tasks=tasks,
            oid=seen.oid if CHAINS[self._action].replaces else 0,
            goal=self._judge.goal if self._executors.is_remote else (),
            timeout=flags.timeout,
            yes=flags.yes,
            wait=flags.wait,
        )

    def _plan_jobs(self, every: Sequence[_Standing]) -> None:
        """Let each member that is replaced say what that is about, and what stands against it."""
        from backset.fleet.hand import look_by_hand

        wanted = [each for each in every if each.job]
        plans = [replace(each.job, plans=True) for each in wanted if each.job]
        ends = self._executors.works.map(look_by_hand, plans)
        for each, end in zip(wanted, ends, strict=True):
            if not end.is_good:
                each.job, each.end = None, end
            elif each.job:
                each.state = replace(each.state, text=_shown(end))
                each.job = replace(each.job, digest=end.digest)

    def _summarize(self, every: Sequence[_Standing], past: PastRun) -> None:
        from backset.text.quantities import count, moment

        todo = sum(1 for each in every if each.job)
        text = count(len(every), "database")
        if self._action != "status":
            text += f", {todo} to {self._action}, {self._executors.number} at a time"
        if past.at:
            text += f" · goes on with the run of {moment(past.at)} (--anew begins anew)"
        self._told.say(text)

    def _tell_plan(self, every: Sequence[_Standing]) -> None:
        """Tell of each member, and raise what is wrong with some."""
        from backset.fleet.running import Tally

        tally = Tally()
        for each in every:
            if each.job:
                self._told.member("planned", each.member.label, each.state.text)
            self._tell_ended(each, tally)
        if self._action != "status":
            if digest := _digest(self._action, every):
                self._told.say(f"consent: --confirm {digest}")
                self._told.note(confirm=digest)
            self._told.say("nothing was changed")
        self._close(tally, len(every))

    def _tell_ended(self, each: _Standing, tally: Tally) -> None:
        if each.end:
            self._told.member(each.end.how, each.member.label, each.end.text, **each.end.told)
            tally.add_end(each.member.label, each.end)

    def _demand_consent(self, every: Sequence[_Standing]) -> None:
        """Raise RefusedError where facts want consent, and nobody has agreed to these."""
        from backset.report.asking import typed
        from backset.text.quantities import count

        digest, said = _digest(self._action, every), self._flags.confirm
        if not digest or said == digest:
            return
        concerned = [each for each in every if each.job and each.job.digest]
        for each in concerned:
            self._told.member("planned", each.member.label, each.state.text)
        if self._told.can_ask and not said:
            wanted = str(len(concerned))
            if typed(f" type how many databases are replaced, {wanted}, to go on: ") == wanted:
                return
            raise RefusedError([("that is not their number", "type it to go on")])
        self._told.note(confirm=digest)
        what = f"{count(len(concerned), 'database')} would be replaced that somebody must look at"
        reasons = [(what, f"if the plan is right: --confirm {digest}")]
        if said:
            wrong = f"--confirm {said} is not the digest of the plan as it is now"
            reasons.insert(0, (wrong, "look at it anew"))
        raise RefusedError(reasons)

    def _canaries(self, every: Sequence[_Standing], past: PastRun) -> list[Job]:
        """Return the jobs of the first ones, those included that the run before has done."""
        number = self._flags.number("canary") or 0
        meant = [each for each in every if each.job or each.member.key in past.done]
        return [each.job or self._job(each.member, each.seen) for each in meant[:number]]

    def _close(self, tally: Tally, total: int) -> None:
        """Say what has become of all. Raises BacksetError as the worst of them."""
        from backset.text.quantities import few

        self._told.note(fleet=dict(tally.ends, left=tally.left))
        told = _words(tally)
        if not tally.bad and not tally.left:
            if self._action != "status" and not self._flags.plan:
                self._told.done(f" · {told}")
            return
        names = [each for some in tally.bad.values() for each in some]
        what = f"{len(names)} of {total} not done: {few(names)}" if names else told
        if self._action == "status" or self._flags.plan:
            what, again = f"{len(names)} of {total}: {few(names)}", "see their lines"
        else:
            again = _AGAIN
        if tally.left:
            what += f"; {tally.left} not begun" + (f", since {tally.why}" if tally.why else "")
        code = tally.code or StepFailedError.exit_code
        for kind in (RefusedError, SettingsError):
            if code == kind.exit_code:
                raise kind([(what, again)])
        raise _KINDS.get(code, StepFailedError)(what, again)


def _nothing_to_upgrade(state: MemberState) -> JobEnd | None:
    from backset.fleet import looking

    if state.kind == looking.AT_HEAD:
        return _ending("nothing", replace(state, text=f"{state.text}, nothing to do"))
    return None if state.kind in {"behind", "squashed"} else _ending("failed", state)


_CODES: Mapping[How, int] = {"nothing": 0, "findings": 6}


def _ending(how: How, state: MemberState) -> JobEnd:
    """Return how it ends without any work, in the words of where the member stands."""
    from backset.fleet.jobs import JobEnd

    text = f"{state.text} → {state.remedy}" if state.remedy else state.text
    code = _CODES.get(how, StepFailedError.exit_code)
    return JobEnd(how=how, text=text, lines=[text] if code else [], exit_code=code)


def _processors() -> int:
    """Return how many there are for us."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def _counted(tally: Tally) -> Iterator[None]:
    """Let an interruption of the block say how far the run has come."""
    try:
        yield
    except Interrupted as error:
        error.add_note(f"{_words(tally)}; run this again: it goes on with the others")
        raise


_SAID = {"nothing": "unchanged"}


def _words(tally: Tally) -> str:
    told = [f"{number} {_SAID.get(how, how)}" for how, number in tally.ends.items()]
    return ", ".join([*told, *([f"{tally.left} not begun"] if tally.left else [])]) or "none"


def _shown(end: JobEnd) -> str:
    """Return the plan of a member in a line: how, and why somebody must look at it first."""
    why = [text for text in end.lines if text.startswith("because")]
    return " · ".join([end.text, *(" ".join(each.split()) for each in why)])


def _digest(action: str, every: Sequence[_Standing]) -> str:
    """Return eight hexadecimal digits of all that wants consent; empty where nothing does."""
    bound = sorted((each.member.key, each.job.digest) for each in every if each.job)
    if not any(digest for _, digest in bound):
        return ""
    return hashlib.sha256(json.dumps([action, bound]).encode()).hexdigest()[:8]
