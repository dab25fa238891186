"""The table of faults: what each strikes, and what the run may then answer."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests import poolers
from tests.faults import strikes, volume
from tests.faults.world import (
    CARRY,
    DEVELOPER,
    IN_PLACE,
    POOLER,
    PROXY,
    RESET,
    RESTORE,
    SOCKET,
    TARGET,
    TCP,
    UNDO,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.faults.strikes import Scene
    from tests.faults.world import World

BESIDE = (RESET, CARRY, RESTORE, UNDO)
EVERY = (*BESIDE, IN_PLACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A kind of fault.

    tasks: which it can strike. codes: the documented exit codes. project, doors: where the run
    happens, and as whom.
    around: holds something up for as long as the run lasts. strike: is called at the
    moment, and tells whether it hit anything.
    early: whether the moment is in the first step, since the fault waits for its victim itself.
    steps: in which the moment is, one after the other from trial to trial; any where there is none.
    hangs_s: after so long a run that has not ended has hung.
    must: `before` or `after` where the target has to be one of them; the run decides otherwise.
    needs: returns why it cannot be tried here; empty where it can.
    """

    name: str
    codes: frozenset[int]
    tasks: tuple[str, ...] = BESIDE
    project: str = "plain"
    doors: tuple[str, ...] = (SOCKET, TCP)
    around: Callable[[World], AbstractContextManager[object]] = nullcontext
    strike: Callable[[Scene], bool] = lambda _scene: True
    early: bool = False
    steps: tuple[str, ...] = ()
    hangs_s: float = 60.0
    must: str = ""
    needs: Callable[[], str] = str

    @property
    def why_not(self) -> str:
        """Why it cannot be tried here; empty where it can."""
        return self.needs()


_OURS = ("invoke",)
_DUMPS = ("pg_dump", "pg_restore")
_CHILDREN = ("alembic_worker", "add_mock_task_data.py")
_DONE_OR_FAILED = frozenset({0, 4})

FAULTS = (
    Fault(
        name="kill -9",
        codes=frozenset({0, 137}),
        tasks=EVERY,
        strike=partial(strikes.send, signal.SIGKILL),
    ),
    Fault(
        name="TERM",
        codes=frozenset({0, 143}),
        tasks=EVERY,
        strike=partial(strikes.send, signal.SIGTERM),
    ),
    Fault(
        name="INT",
        codes=frozenset({0, 130}),
        tasks=EVERY,
        strike=partial(strikes.send, signal.SIGINT),
    ),
    Fault(
        name="HUP",
        codes=frozenset({0, 129}),
        tasks=EVERY,
        strike=partial(strikes.send, signal.SIGHUP),
    ),
    Fault(name="the run is held up", codes=frozenset({0}), strike=strikes.hold_up, must="after"),
    Fault(
        name="the server crashes",
        codes=_DONE_OR_FAILED,
        tasks=EVERY,
        strike=partial(strikes.restart, signal.SIGQUIT),
    ),
    Fault(
        name="the server restarts",
        codes=_DONE_OR_FAILED,
        tasks=EVERY,
        strike=partial(strikes.restart, signal.SIGINT),
    ),
    Fault(
        name="the disk of the backups is full",
        codes=_DONE_OR_FAILED,
        tasks=(RESET, CARRY),
        strike=strikes.full_backups,
        early=True,
        needs=volume.why_not,
    ),
    Fault(
        name="the disk of the server is full",
        codes=_DONE_OR_FAILED,
        strike=strikes.full_server,
        early=True,
        needs=volume.why_not,
    ),
    Fault(
        name="our sessions are ended",
        codes=_DONE_OR_FAILED,
        tasks=EVERY,
        doors=(TCP,),
        strike=partial(strikes.terminate, _OURS),
    ),
    Fault(
        name="pg_dump's session is ended",
        codes=_DONE_OR_FAILED,
        tasks=(RESET, CARRY, RESTORE),
        doors=(TCP,),
        strike=partial(strikes.terminate, _DUMPS),
        early=True,
    ),
    Fault(
        name="the sessions of migrations and seed are ended",
        codes=_DONE_OR_FAILED,
        tasks=(RESET,),
        doors=(TCP,),
        strike=partial(strikes.terminate, _CHILDREN),
        early=True,
    ),
    Fault(
        name="the answer to the swap's COMMIT is lost",
        codes=_DONE_OR_FAILED,
        doors=(PROXY,),
        around=partial(strikes.broken_line, "reply"),
        must="after",
    ),
    Fault(
        name="the network goes away in the swap",
        codes=frozenset({4}),
        doors=(PROXY,),
        around=partial(strikes.broken_line, "everything"),
        must="before",
    ),
    Fault(
        name="a pool reconnects in a loop", codes=frozenset({0}), around=strikes.pool, must="after"
    ),
    Fault(
        name="a transaction stays open",
        codes=frozenset({0}),
        around=partial(strikes.idle, TCP),
        must="after",
    ),
    Fault(
        name="a superuser's transaction stays open",
        codes=frozenset({4}),
        doors=(TCP,),
        around=partial(strikes.idle, SOCKET),
        must="before",
    ),
    Fault(
        name="two runs at once",
        codes=frozenset({0, 75}),
        tasks=(RESET,),
        doors=(TCP,),  # what a superuser has built, its second could not read
        strike=strikes.rival,
        early=True,
    ),
    Fault(
        name="a migration fails",
        codes=frozenset({4}),
        tasks=(RESET, CARRY, IN_PLACE),
        project="bad migration",
        must="before",
    ),
    Fault(
        name="the seed command fails",
        codes=frozenset({4}),
        tasks=(RESET, IN_PLACE),
        project="bad seed",
        must="before",
    ),
    Fault(
        name="a pooler shares sessions",
        codes=frozenset({2}),
        tasks=EVERY,
        doors=(POOLER,),
        around=partial(strikes.pooled, "transaction"),
        must="before",
        needs=poolers.why_not,
    ),
    Fault(
        name="a pooler between goes away",
        codes=_DONE_OR_FAILED,
        doors=(POOLER,),
        around=partial(strikes.pooled, "session"),
        strike=strikes.end_pooler,
        needs=poolers.why_not,
    ),
    Fault(
        name="a role only reads",
        codes=frozenset({0}),
        tasks=EVERY,
        doors=(TCP,),
        around=partial(strikes.only_read, "ROLE", DEVELOPER),
        must="after",
    ),
    Fault(
        name="a database is only read",
        codes=frozenset({3}),
        tasks=EVERY,
        around=partial(strikes.only_read, "DATABASE", TARGET),
        must="before",
    ),
    Fault(
        name="the dump does not load by itself",
        codes=frozenset({4}),
        tasks=(RESET, CARRY, IN_PLACE),
        project="bad migration",
        around=strikes.unloadable,
        must="before",
    ),
    Fault(
        name="the backups are of the future",
        codes=frozenset({0, 137}),
        tasks=(RESET, CARRY, RESTORE),
        doors=(SOCKET,),
        around=strikes.future,
        strike=partial(strikes.send, signal.SIGKILL),
    ),
    Fault(
        name="a standby is away",
        codes=frozenset({0}),
        tasks=EVERY,
        around=strikes.away,
        must="after",
    ),
    Fault(
        name="somebody begins to replicate it",
        codes=frozenset({0, 3}),
        around=strikes.without_slots,
        strike=strikes.take_a_slot,
    ),
)
