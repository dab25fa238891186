"""Pure: may this run touch that target, and how? Facts in, decisions out; no input, no output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from backset.servers.server import foreign, protection
from backset.text.explanations import UNHIDDEN
from backset.text.pasted import quoted
from backset.text.quantities import few

if TYPE_CHECKING:
    from backset.connections.locality import Locality

TEMPLATES = frozenset({"template0", "template1"})
MAINTENANCE = "postgres"  # what createuser, monitoring and other tools connect to
_TELLING = ("prod", "live")  # what the name of a database has in it that people work with


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """What policy needs to know of a run.

    is_confined: whether the role may connect to no database beside the target.
    locality: whether the server is on this machine, as the live connection shows.
    protected: whether the database has the marker of `invoke protect`.
    kept: whether it is one that backset itself keeps beside another database.
    shielded: databases that bear our derived names and are protected.
    foreign: databases, not empty, that bear our derived names though backset did not make them.
    is_durable: whether what the server has committed survives a crash of its machine.
    machines: the addresses of other machines that are connected to the target.
    clients: the sessions of others on the target, in words.
    heir: whose the tables are, where what is built would belong to the role instead.
    empty: whether there is nothing in the target that could be lost.
    ask_above: the size in bytes above which a target needs consent.
    uncreatable: extensions in the target that the role could not create again.
    shared: what in the target belongs to others, in words. mixed: version tables of other
    applications, beside tables of this project. unknown: schemas that no migration knows.
    sessions: how many the run may have at once, and what limits it. needed: how many it needs.
    unread: tables of the project that the role may not read whole; guarded: those of them of which
    row security hides rows. backs_up: whether a swap takes a backup, too.
    is_claimed: whether the migrations make what belongs to somebody else.
    tied: what PostgreSQL ties to the target, each with its remedy; tied_beside: to those beside it.
    barred: why the objects of the target cannot be dropped and made again by the role.
    frozen: who has said that the target is only read, in words.
    """

    database: str
    in_recovery: bool
    is_confined: bool
    may_create: bool
    owns: bool
    role: str
    owner: str
    locality: Locality
    protected: bool = False
    kept: bool = False
    foreign: tuple[str, ...] = ()
    shielded: tuple[str, ...] = ()
    is_durable: bool = True
    standbys: int = 0
    machines: tuple[str, ...] = ()
    clients: str = ""
    heir: str = ""
    empty: bool = False
    size_bytes: int = 0
    ask_above: int = 1_000_000_000
    uncreatable: tuple[str, ...] = ()
    is_superuser: bool = False
    joins: bool = False
    shared: str = ""
    mixed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    is_claimed: bool = False
    sessions: tuple[int, str] = (100, "")
    needed: int = 0
    unread: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    backs_up: bool = True
    barred: tuple[tuple[str, str], ...] = ()
    tied: tuple[tuple[str, str], ...] = ()
    tied_beside: tuple[tuple[str, str], ...] = ()
    frozen: str = ""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How the target is replaced, why so, and what would lead to the better way.

    is_asked: whether a flag asks for it.
    """

    way: Literal["swap", "in place"]
    why: str
    remedy: str = ""
    is_asked: bool = False

    def __str__(self) -> str:
        better = f" · better, as an administrator: {self.remedy}" if self.remedy else ""
        return f"{self.way}: {self.why}{better}"


def strategy(facts: TargetFacts, *, offered: bool, wanted: bool) -> Strategy:
    """Choose how to replace the target; refusals() tells whether that is possible.

    offered: whether the task can work in place at all. wanted: whether `--in-place` asks for it.
    """
    lacking = "; ".join(f"{remedy}" for _, remedy in _missing_rights(facts))
    if offered and facts.shared:  # no right is advised: a swap would still take that away
        return Strategy(
            "in place", f"{facts.shared} in {facts.database} belongs to others, and stays"
        )
    if offered and wanted:
        return Strategy("in place", "--in-place asks for it", lacking, is_asked=True)
    if offered and facts.uncreatable:
        why = _uncreatable(facts)
        right = f"ALTER ROLE {quoted(facts.role)} SUPERUSER, for the rebuild"
        return Strategy("in place", why, "" if facts.is_superuser else right)
    if offered and lacking:
        return Strategy("in place", "; ".join(what for what, _ in _missing_rights(facts)), lacking)
    return Strategy(
        "swap", f"built beside {facts.database} and swapped in; `invoke undo` goes back"
    )


def _uncreatable(facts: TargetFacts) -> str:
    names = ", ".join(facts.uncreatable)
    word = "extension" if len(facts.uncreatable) == 1 else "extensions"
    return f"the role {facts.role} could not create the {word} {names} again"


def refusals(facts: TargetFacts, way: Strategy) -> list[tuple[str, str]]:
    """Return every reason, with its remedy, why the target may not be replaced whatever is said."""
    reasons = []
    if facts.database in TEMPLATES:
        remedy = "name the application's own database in DATABASE_URL"
        reasons.append((f"{facts.database} belongs to PostgreSQL itself", remedy))
    if facts.protected:
        reasons.append(protection(facts.database))
    if facts.kept:
        remedy = "name the other one, or give this one another name first"
        reasons.append((f"{facts.database} is kept by backset beside another database", remedy))
    if facts.in_recovery:
        what = "the server is in recovery, as a standby is: it can only be read"
        reasons.append((what, "connect to the primary"))
    reasons += facts.tied
    if facts.unread and (facts.backs_up or way.way == "in place"):
        what = f"the role {facts.role} may not read every row of {', '.join(facts.unread)}"
        remedies = [UNHIDDEN] if facts.guarded else []
        if set(facts.unread) - set(facts.guarded):
            remedies.append("as its owner: GRANT SELECT on it")
        reasons.append((f"{what}, so that no backup is whole", "; else ".join(remedies)))
    free, limit = facts.sessions
    if free < facts.needed:
        what = f"the run needs {facts.needed} sessions at once: {limit}"
        reasons.append((what, "end some that nobody needs, or let an administrator raise that"))
    for each in facts.mixed:
        what = f"{each} is another application's version table, among this project's tables"
        remedy = "give one of the two a schema of its own (version_table_schema); whose each table "
        reasons.append((what, f"{remedy}is, cannot be told"))
    return reasons + (_against_a_swap(facts) if way.way == "swap" else _against_in_place(facts))


def _against_a_swap(facts: TargetFacts) -> list[tuple[str, str]]:
    elsewhere = "use `invoke reset-db` or `invoke restore`, which then work in place"
    if facts.shared:
        what = f"{facts.shared} in {facts.database} belongs to others; a swap would take it away"
        return [(what, elsewhere)]
    if facts.uncreatable:
        return [(f"{_uncreatable(facts)}, so a swap would lose it", elsewhere)]
    reasons = [protection(name) for name in facts.shielded]
    reasons += [(w, f"as an administrator: {remedy}") for w, remedy in _missing_rights(facts)]
    reasons += [foreign(name, facts.database) for name in facts.foreign]
    return [*reasons, *facts.tied_beside]


def _against_in_place(facts: TargetFacts) -> list[tuple[str, str]]:
    """Return what bars it; a right that would lead to a swap helps only where all is ours."""
    if not facts.barred or facts.shared or facts.is_claimed:
        return list(facts.barred)
    rights = [(w, f"as an administrator: {remedy}") for w, remedy in _missing_rights(facts)]
    return [*facts.barred, *rights]


def stakes(facts: TargetFacts) -> list[str]:
    """Return every reason why somebody must look at the facts first; none is a yes.

    What is not there cannot be lost: an empty target needs no such look, unless others use it.
    """
    name, reasons = facts.database, []
    if name == MAINTENANCE and (facts.clients or not facts.empty):
        whose = f" (connected: {facts.clients})" if facts.clients else ""
        reasons.append(f"{name} is what tools of the whole server connect to{whose}")
    if facts.empty:
        return reasons
    if facts.frozen:
        reasons.append(f"{name} is to be left alone: it is only read ({facts.frozen})")
    if facts.locality.verdict == "remote":
        reasons.append(f"{name} may be on another machine ({facts.locality})")
    if facts.standbys:
        reasons.append(f"the server of {name} has {facts.standbys} standby(s)")
    if facts.machines:
        reasons.append(f"other machines are connected to {name} ({', '.join(facts.machines)})")
    if facts.size_bytes > facts.ask_above:
        reasons.append(f"{name} is larger than ask_above ({facts.ask_above} bytes)")
    if facts.unknown:
        schemas = f"the schema{'s' * (len(facts.unknown) > 1)} {few(facts.unknown)}"
        hint = "yours are named by [tool.backset] schemas"
        reasons.append(f"no migration knows {schemas} in {name}, which would go, too ({hint})")
    telling = [word for word in _TELLING if word in name.lower()]
    reasons += [f"{name} has {word!r} in its name" for word in telling]
    return reasons


def surprise(facts: TargetFacts) -> str:
    """Return why a run that nobody has called by its name must ask; nothing where it need not."""
    return "" if facts.empty else f"{facts.database} is not empty, and would be replaced"


def doubts(facts: TargetFacts) -> list[tuple[str, str]]:
    """Return every reason for which `--yes` is enough."""
    verdict, reasons = facts.locality.verdict, []
    if verdict == "doubtful" or (verdict == "remote" and facts.empty):  # else stakes() has it
        what = f"{facts.database} may be on another machine ({facts.locality})"
        reasons.append((what, "if this is the right one, add --yes"))
    if facts.heir and not facts.empty:
        what = f"the tables of {facts.database} belong to {facts.heir}, and would be {facts.role}'s"
        remedy = f"add ?options=-crole%3D{quote(facts.heir)} to DATABASE_URL, or --yes"
        reasons.append((what, remedy))
    if not facts.is_durable and not facts.empty:
        what = f"the server of {facts.database} can lose what it has committed"
        remedy = "turn its fsync and full_page_writes on, or add --yes"
        reasons.append((what, remedy))
    return reasons


def _missing_rights(facts: TargetFacts) -> list[tuple[str, str]]:
    reasons = []
    if facts.is_confined:
        remedy = f"GRANT CONNECT ON DATABASE {MAINTENANCE} TO {quoted(facts.role)}"
        what = f"the role {facts.role} may connect to {facts.database} alone"
        reasons.append((what, remedy))
    if not facts.may_create:
        remedy = f"ALTER ROLE {quoted(facts.role)} CREATEDB"
        reasons.append((f"the role {facts.role} may not create databases", remedy))
    if not facts.owns:
        remedy = f"ALTER DATABASE {quoted(facts.database)} OWNER TO {quoted(facts.role)}"
        if facts.joins:  # it is a group's, and stays that
            remedy = f"ALTER ROLE {quoted(facts.role)} SET role = {quoted(facts.owner)}"
        what = f"the role {facts.role} does not own {facts.database} ({facts.owner} does)"
        reasons.append((what, remedy))
    return reasons
