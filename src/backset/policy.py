"""Pure: may this run touch that target? Facts in, refusals out; no input and no output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backset.locality import Locality

SYSTEM_DATABASES = frozenset({"postgres", "template0", "template1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What policy needs to know of a run.

    locality: whether the server is on this machine, as the live connection shows.
    foreign: databases, not empty, that bear our derived names though backset did not make them.
    """

    database: str
    in_recovery: bool
    may_create: bool
    owns: bool
    role: str
    owner: str
    locality: Locality
    foreign: tuple[str, ...] = ()


def refusals(facts: Circumstances, *, consent: bool) -> list[tuple[str, str]]:
    """Return every reason, with its remedy, why the target may not be replaced; none is a yes."""
    reasons = []
    if facts.database in SYSTEM_DATABASES:
        remedy = "name the application's own database in DATABASE_URL"
        reasons.append((f"{facts.database} belongs to PostgreSQL itself", remedy))
    if facts.in_recovery:
        reasons.append(("the server is in recovery, so it is read-only", "connect to the primary"))
    reasons += _missing_rights(facts)
    for name in facts.foreign:
        remedy = "rename or drop it, if nobody needs it"
        reasons.append((f"the database {name} exists and backset did not make it", remedy))
    if not consent and facts.locality.verdict != "local":
        reasons.append(_elsewhere(facts))
    return reasons


def _elsewhere(facts: Circumstances) -> tuple[str, str]:
    locality = facts.locality
    where = f"{locality.where}: {locality.why}"
    what = f"{facts.database} may be on another machine ({where})"
    return what, "if this is the right one, add --yes"


def _missing_rights(facts: Circumstances) -> list[tuple[str, str]]:
    reasons = []
    if not facts.may_create:
        remedy = f"as an administrator: ALTER ROLE {_quoted(facts.role)} CREATEDB"
        reasons.append((f"the role {facts.role} may not create databases", remedy))
    if not facts.owns:
        remedy = f"ALTER DATABASE {_quoted(facts.database)} OWNER TO {_quoted(facts.role)}"
        what = f"the role {facts.role} does not own {facts.database} ({facts.owner} does)"
        reasons.append((what, f"as an administrator: {remedy}"))
    return reasons


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
