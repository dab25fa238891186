"""What is asked for one member of a fleet, and how that ended: JSON, and no password in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from backset.fleet.members import FleetMember, Site

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

How = Literal[
    "done", "nothing", "planned", "findings", "failed", "refused", "locked", "interrupted", "died"
]
GOOD = frozenset({"done", "nothing", "planned"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done for a member.

    action: the chain. plans: whether only its plan is wanted. tasks: the file that makes the
    chains of the project; empty where they are the standard ones. oid: of the database that is
    meant. goal: the heads of the plan. digest: of the facts that somebody has agreed to.
    since: when the fleet's run began it, ISO 8601. timeout, yes, wait: what the flags say.
    """

    action: str
    site: Site
    member: FleetMember
    tasks: str = ""
    plans: bool = False
    oid: int = 0
    goal: tuple[str, ...] = ()
    digest: str = ""
    since: str = ""
    timeout: str = ""
    yes: bool = False
    wait: bool = False

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Job:
        """Read what plain() has returned, after a journey as JSON."""
        site, member = dict(told["site"]), FleetMember(**told["member"])
        flags = tuple((name, text) for name, text in site.pop("flags"))
        given = {"site": Site(**site, flags=flags), "member": member, "goal": tuple(told["goal"])}
        return cls(**{**told, **given})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How it ended: `text` for people, in one line; `lines`: every problem in a line of its own.

    steps: (step, text) of those that ended well. digest: of the facts that want consent.
    """

    how: How
    text: str
    lines: Sequence[str] = ()
    steps: Sequence[Sequence[str]] = ()
    facts: Sequence[Sequence[str]] = ()
    digest: str = ""
    exit_code: int = 0
    seconds: float = 0

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @property
    def told(self) -> dict[str, Any]:
        """What programs get of it beside how it ended and its line."""
        names = ("seconds", "exit_code", "lines", "steps")
        return {name: getattr(self, name) for name in names}

    @property
    def is_good(self) -> bool:
        """Whether nothing is left to be done."""
        return self.how in GOOD
