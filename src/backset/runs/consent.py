"""What a run needs: the facts for policy, the strategy, and the consent of a person."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backset.catalog import catalog, objects, past
from backset.connections.activity import listed
from backset.errors import ConsentError, RefusedError, ReplacedError
from backset.inherit import extensions
from backset.runs import login, policy
from backset.runs.policy import Strategy, TargetFacts
from backset.servers import derived, safeguards
from backset.servers.safeguards import SETTING
from backset.servers.server import tied_by
from backset.settings import values
from backset.text.pasted import quoted
from backset.text.quantities import amount, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backset.chain import Chain, Step
    from backset.runs.run import Run

    Facts = list[tuple[str, str]]

# Sessions at once: ours on two databases, the backup's two, Alembic's; a carry reads and writes on
# two more each. Tried with CONNECTION LIMIT.
_OF_A_BUILD, _OF_A_CARRY = 5, 7


@dataclass(frozen=True, slots=True)
class Consent:
    """What the user says beforehand, or can be asked.

    digest: what `--confirm` says. wait: whether a lock that another run holds is waited for.
    timeout: seconds in digits, after which a step is stopped; empty is never.
    named: whether the user has named the task that replaces, and not one that may lead to it.
    oid: of the database that is meant; another one of its name is not replaced. 0 is any.
    ask: shows the facts on a terminal and returns the typed name.
    """

    yes: bool = False
    digest: str = ""
    in_place: bool = False
    wait: bool = False
    timeout: str = ""
    named: bool = True
    oid: int = 0
    ask: Callable[[Facts], str] | None = None

    def __post_init__(self) -> None:
        """Raise SettingsError if a number makes no sense."""
        _ = self.timeout_s

    @property
    def timeout_s(self) -> float:
        """Seconds after which a step is stopped; 0 is never."""
        return values.of_flag("--timeout", self.timeout or "0", values.seconds)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The way of a run that policy does not forbid, and what somebody must look at first.

    concerns: why so; empty where nobody needs to. facts: (word, text) each, and their digest.
    flag: what says beforehand that they are right.
    """

    strategy: Strategy
    concerns: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    flag: str = ""


def admit(run: Run, chain: Chain, consent: Consent) -> Admitted:
    """Judge a run, without asking anybody. Raises RefusedError with every reason at once."""
    in_place = bool(chain.in_place)
    _demand_same(run, consent)
    facts = look(run, chain)
    strategy = policy.strategy(facts, offered=in_place, wanted=consent.in_place)
    reasons = policy.refusals(facts, strategy)
    if not reasons:
        _demand_aim(run, chain)
    if not consent.yes:
        reasons += policy.doubts(facts)
    if consent.in_place and not in_place:
        reasons.append((f"{chain.name} cannot work in place", "leave --in-place out"))
    concerns = policy.stakes(facts)
    if reasons:
        raise RefusedError(reasons + [(each, "look at --plan") for each in concerns])
    surprise = "" if consent.named or consent.yes else policy.surprise(facts)
    if not (concerns or surprise):
        return Admitted(strategy)
    run.choose(strategy)
    stakes = _facts(run, chain, strategy)
    digest = _digest(run, stakes)
    flag = f"--confirm {digest}" if concerns else "--yes"
    concerns += [surprise] if surprise else []
    return Admitted(strategy, tuple(concerns), tuple(stakes), digest, flag)


def _demand_same(run: Run, consent: Consent) -> None:
    """Raise ReplacedError where another database has the name of the one that is meant."""
    now = run.current.database
    if consent.oid and (now is None or now.oid != consent.oid):
        what = f"{run.target.database} is not the database of the plan any more"
        raise ReplacedError([(what, "look at --plan anew")])


def shown(admitted: Admitted) -> list[tuple[str, str]]:
    """Return the lines of a plan: the strategy, and what consent would be about."""
    lines = [("strategy", str(admitted.strategy)), *admitted.facts]
    if admitted.concerns:
        lines += [("because", each) for each in admitted.concerns]
        lines.append(("consent", f"type the database's name, or {admitted.flag}"))
    return lines


def settle(run: Run, admitted: Admitted, consent: Consent) -> None:
    """Obtain the consent that is needed, if any is. Raises ConsentError where there is none."""
    if not admitted.concerns or consent.digest == admitted.digest:
        return
    if consent.ask is not None and not consent.digest:
        why = [("because", each) for each in admitted.concerns]
        if consent.ask([*admitted.facts, *why]) == run.target.database:
            return
        remedy = "type the database's name to go on"
        raise RefusedError([("that is not its name", remedy)])
    remedy = f"if these facts are right: {admitted.flag}"
    reasons = [(each, remedy) for each in admitted.concerns]
    if consent.digest:
        what = f"--confirm {consent.digest} is not the digest of the facts as they are now"
        reasons.insert(0, (what, "look at them anew"))
    raise ConsentError(reasons, admitted.facts, admitted.digest)


def look(run: Run, chain: Chain) -> TargetFacts:
    """Return what policy wants to know of this connection, this role, and the target."""
    in_place = bool(chain.in_place)
    builds = not chain.has("undo")  # which only renames
    role = run.server.role
    old = run.current.database
    own_all = role.is_superuser
    barred: tuple[tuple[str, str], ...] = ()
    uncreatable: tuple[str, ...] = ()
    if in_place and old is None:
        barred = ((f"{run.target.database} does not exist", "create it, or use another role"),)
    elif in_place and not own_all:
        barred = _bars(run)
    if in_place and old is not None and run.current.sharing().kept:
        barred += tuple(
            (f"{each} depends on what would be dropped", objects.ASK_ITS_OWNER)
            for each in objects.dependants(run.current.session(), run.current.sharing().keeps)
        )
    if builds and old is not None:
        uncreatable = extensions.uncreatable(run.current.session())
    if in_place and not run.current.is_empty():
        barred += _bars_of_a_carry(run)
    unread = _unread(run) if builds else ()
    heirs = run.current.ownership()
    is_of_all = run.target.database == policy.MAINTENANCE
    clients = listed(run.server.sessions(run.target.database)) if is_of_all else ""
    return TargetFacts(
        database=run.target.database,
        in_recovery=role.in_recovery,
        is_confined=run.server.is_confined and old is not None,
        may_create=role.may_create,
        owns=old is None or old.owned,
        role=role.name,
        owner=old.owner if old else role.name,
        locality=role.locality,
        protected=old is not None and old.protected,
        kept=old is not None and bool(old.mark) and old.name.endswith(f"__{old.mark}"),
        foreign=derived.foreign(run.server, run.current.databases),
        shielded=derived.shielded(run.server, run.current.databases),
        is_durable=role.is_durable,
        standbys=role.standbys,
        machines=role.machines,
        clients=clients,
        heir=heirs.owner if builds and not heirs.role else "",
        empty=run.current.is_empty(),
        size_bytes=catalog.size_bytes(run.current.session()) if old else 0,
        ask_above=run.settings.ask_above,
        uncreatable=uncreatable,
        is_superuser=own_all,
        joins=old is not None and old.joined,
        shared=run.current.sharing().whose,
        mixed=run.current.sharing().mixed,
        unknown=run.current.sharing().unknown,
        is_claimed=bool(run.current.sharing().claimed),
        sessions=run.server.free_sessions(),
        unread=unread,
        guarded=_guarded(run, unread),
        backs_up=not chain.has("load"),
        needed=(_OF_A_CARRY if run.options.carries else _OF_A_BUILD) if builds else 0,
        barred=barred,
        tied=tied_by(run.server.session, [run.target.database]),
        tied_beside=tied_by(
            run.server.session, [*run.current.databases.keys() - {run.target.database}]
        ),
        frozen=safeguards.said(run.server.session, run.target.database),
    )


def _unread(run: Run) -> tuple[str, ...]:
    closed = run.current.unreadable()
    if not closed:
        return ()
    ours = (
        each
        for each in catalog.tables(run.current.session())
        if not run.current.sharing().has(each)
    )
    return tuple(catalog.shown(*each) for each in ours if each in closed)


def _guarded(run: Run, unread: tuple[str, ...]) -> tuple[str, ...]:
    hidden = (
        {catalog.shown(*each) for each in catalog.guarded(run.current.session())}
        if unread
        else set()
    )
    return tuple(each for each in unread if each in hidden)


def _bars(run: Run) -> tuple[tuple[str, str], ...]:
    """Return why the role could not empty the target and fill it again."""
    bars = []
    name, role = run.target.database, run.server.role.name
    claimed = run.current.sharing().claimed
    for owner in dict.fromkeys(each.owner for each in claimed):
        first, *more = [f"{each.type} {each.identity}" for each in claimed if each.owner == owner]
        others = f" and {len(more)} more" if more else ""
        what = f"the migrations make {first}{others}, which belongs to {owner}"
        grant = f"GRANT {quoted(owner)} TO {quoted(role)}"
        bars.append((what, f"run this as {owner}, or as an administrator: {grant}"))
    if not catalog.may_create_tables(run.current.session()):
        remedy = f'as an administrator, in {name}: GRANT CREATE ON SCHEMA public TO "{role}"'
        bars.append((f"the role {role} may not create tables in {name}", remedy))
    return tuple(bars)


def _bars_of_a_carry(run: Run) -> tuple[tuple[str, str], ...]:
    """Return why rows could not come back in place, as far as it is known beforehand."""
    rules, bars = run.options.carries, []
    if rules is None:
        return ()
    name, role = run.target.database, run.server.role.name
    if not catalog.may_create_schemas(run.current.session()):
        what = f"the role {role} may not create a schema in {name}, through which rows come back"
        grant = f"GRANT CREATE ON DATABASE {quoted(name)} TO {quoted(role)}"
        bars.append((what, f"as an administrator: {grant}; or leave --carry out"))
    number = past.large_objects(run.current.session())
    if number and rules.carries_all and not rules.leaves(past.LARGE_OBJECTS):
        what = f"{name} has {count(number, 'large object')}, which would be left behind"
        remedy = f'--drop-data, or [tool.backset] leave = ["{past.LARGE_OBJECTS}"]'
        bars.append((what, remedy))
    return tuple(bars)


def _facts(run: Run, chain: Chain, strategy: Strategy) -> Facts:
    """Return what is at stake, as a person wants to read it before agreeing."""
    server, rows = run.server, catalog.readable_counts(run.current.session())
    size = amount(catalog.size_bytes(run.current.session())) if run.current.database else "0 B"
    clients = ", ".join(server.clients()) or "none"
    return [
        ("server", f"{server.address()} (PostgreSQL {server.version})"),
        ("database", run.target.database),
        ("size", size),
        ("tables", " · ".join(f"{table} {rows.told(table)}" for table in rows) or "none"),
        ("youngest", catalog.youngest_row(run.current.session()) or "no table has a time"),
        ("clients", clients),
        ("rebuilt", f"{chain.name}, {strategy.way}: {_aim(run, chain)}"),
    ]


def _demand_aim(run: Run, chain: Chain) -> None:
    """Raise an error where there is nothing to go back to: nobody need agree to that."""
    if chain.has("undo"):
        run.current.demand_previous(run.backups.store, run.server.names.previous)
    if chain.has("load"):
        run.backups.chosen(run.server)


def _aim(run: Run, chain: Chain) -> str:
    """Return what the target would be afterwards."""
    if chain.has("undo") and run.current.previous:
        return f"{run.current.previous.name} (oid {run.current.previous.oid})"
    if chain.has("load"):
        return run.backups.chosen(run.server).name
    origin = f", with rows of {run.options.origin.shown}" if run.options.origin else ""
    if not chain.has("upgrade"):
        return "empty"
    return (", ".join(run.work.scripts().heads) or "no head") + origin


def _digest(run: Run, facts: Facts) -> str:
    """Return eight hexadecimal digits of the facts and of the database that they are about.

    Without its size, which a vacuum changes though nothing has happened.
    """
    bound: list[Any] = [each for each in facts if each[0] != "size"]
    bound += [run.server.identifier(), run.current.database.oid if run.current.database else 0]
    return hashlib.sha256(json.dumps(bound).encode()).hexdigest()[:8]


def refuse_writing(run: Run, steps: Iterable[Step]) -> None:
    """Refuse steps that work on the target itself, which is not rebuilt. Raises RefusedError."""
    name, writing = run.target.database, [each.name for each in steps if each.writes]
    if run.current.database is None or not writing or login.is_set(run.server.session, name):
        return
    reads, source, role = run.current.session().execute(_EFFECTIVE, [SETTING]).fetchone() or (
        False,
        "",
        "",
    )
    if not reads:
        return
    whose = {
        "database": f"ALTER DATABASE {quoted(name)}",
        "user": f"ALTER ROLE {quoted(role)}",
        "database user": f"ALTER ROLE {quoted(role)} IN DATABASE {quoted(name)}",
    }
    remedy = f"{whose[source]} RESET {SETTING}" if source in whose else f"turn {SETTING} off"
    what = f"sessions of {role} only read in {name} ({SETTING} is on), and {writing[-1]} writes"
    raise RefusedError([(what, f"if that is over: {remedy}")])


_EFFECTIVE = "SELECT setting::bool, source, session_user FROM pg_settings WHERE name = %s"
