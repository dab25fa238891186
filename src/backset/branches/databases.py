"""The databases of branches on a server: looked at, copied from the nearest one, dropped.

The lock of the base is held for whatever changes one. A copy is closed until it has its mark, and
is a branch's once git's configuration says so, which comes last: of a run that was killed before
that nothing is taken for a branch's database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.catalog import catalog, versions
from backset.connections.activity import listed
from backset.connections.session import connect, explained
from backset.connections.target import derived_name
from backset.described import described, key
from backset.errors import RefusedError, StepFailedError, UnreachableError
from backset.inherit import inheritance
from backset.inherit import property as properties
from backset.servers import derived, swap
from backset.servers.server import PROTECTED, TESTS, Server, protection, tied_by
from backset.text.pasted import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backset.branches.entries import Entries
    from backset.branches.place import BranchChain
    from backset.connections.session import Session
    from backset.connections.target import Target
    from backset.servers.server import Database
    from backset.settings.settings import Settings

_SLUG_CHARS = 24
_SUFFIX = re.compile(r"__branch_[a-z0-9]+(?:_[a-z0-9]+)*")


@described(kw_only=True)
class BranchDatabase:
    """A database of a branch, in `branches`.

    found: as the server has it; None where it is not there. files: how many it is on the disk.
    """

    branch: str = key("the branch; of one that git has no more, the name that it had", null=True)
    database: str = key("its database")
    is_base: bool = key("whether that is the one that the settings name", "base", default=False)
    is_here: bool = key("whether the branch is checked out here", "here", default=False)
    is_gone: bool = key("whether no branch has the database any more", "gone", default=False)
    size_bytes: int = key("the size of the database", default=0)
    revisions: tuple[str, ...] = key("the rows of its version table", default=())
    place: str = key(
        "where these stand in the chain of this checkout: `at head`, `behind`, `aside` (a row is "
        "not in it), `unknown` (no script was found), or `missing`: the database is not there",
        default="missing",
    )
    left: int = key("how many revisions are before it, if it is `behind`", default=0)
    command: str = key("the command that drops one that is gone; else empty", default="")
    found: Database | None = None
    files: int = 0


_OFTEN = 5  # a copy takes its time, and so does each look that waits for one


@dataclass(frozen=True, slots=True)
class Family:
    """The base, the databases of branches beside it, and a session on their server."""

    settings: Settings
    target: Target
    server: Server
    entries: Entries

    def hold(self, waiting: Callable[[str], None] | None) -> None:
        """Take the lock of the base, look anew, and drop what a killed run has left."""
        with explained(self.target):
            self.server.lock(waiting)
        self.entries.read()
        self._clear()

    def look(self, chain: BranchChain, only: str = "") -> list[BranchDatabase]:
        """Return every one: the base first, then by branch, then those whose branch is gone.

        only: the branch whose own is wanted, and no other.
        """
        base, named = self.entries.base, self.entries.databases
        there = derived.of_branches(self.server, [base, *named.values()])
        here = self.entries.git.branch()
        kept = {**({} if self.entries.holder else {"": base}), **named}
        known = set(kept.values())
        found = [
            self._seen(chain, there, branch, database, is_here=branch == here)
            for branch, database in sorted(kept.items(), key=lambda it: (it[1] != base, it[0]))
            if only in {"", branch}
        ]
        if only:
            return found
        marks = {name: derived.branch_of(each, base) for name, each in there.items()}
        gone = {name: mark[0] for name, mark in marks.items() if mark and name not in known}
        return found + [
            self._seen(chain, there, branch, name, is_gone=True) for name, branch in gone.items()
        ]

    def _seen(
        self,
        chain: BranchChain,
        there: dict[str, Database],
        branch: str,
        name: str,
        *,
        is_here: bool = False,
        is_gone: bool = False,
    ) -> BranchDatabase:
        known = {"branch": branch, "database": name, "is_base": name == self.entries.base}
        known |= {"is_here": is_here, "is_gone": is_gone}
        if is_gone:
            known["command"] = f"invoke branch delete {shlex.quote(name)}"
        if (database := there.get(name)) is None or database.is_invalid:
            return BranchDatabase(**known)  # type: ignore[arg-type]
        known |= {"found": database, "size_bytes": catalog.size_bytes(self.server.session, name)}
        try:
            rows, files = self._read(name, chain)
        except UnreachableError:  # closed to this role: it is no source for a copy
            return BranchDatabase(**known, place="unknown")  # type: ignore[arg-type]
        known |= {"revisions": rows, "files": files}
        place = chain.where(rows)
        known |= {"place": place, "left": chain.left(rows) if place == "behind" else 0}
        return BranchDatabase(**known)  # type: ignore[arg-type]

    def _read(self, name: str, chain: BranchChain) -> tuple[tuple[str, ...], int]:
        """Return a database's revisions, and how many files it has, about.

        Another run that copies it ends the sessions there: then it is read again.
        """
        for _ in range(_OFTEN):
            again = suppress(StepFailedError)
            with again, explained(self.target), self._session(name) as session:
                return self._rows(session, chain), catalog.files(session)
        with self._session(name) as session:
            return self._rows(session, chain), catalog.files(session)

    def _session(self, name: str) -> closing[Session]:
        return closing(connect(self.target.named(name), "status"))

    def _rows(self, session: Session, chain: BranchChain) -> tuple[str, ...]:
        """Return the rows of the version tables of the project's chains."""
        tables = versions.tables(session)
        lineages = self.settings.lineages
        found = {
            row
            for each in lineages
            for table in versions.likely(
                each,
                tables,
                chain.known,
                [other for other in lineages if other is not each],
                is_behind=self.settings.has_door,
            )
            for row in table.revisions
        }
        return tuple(sorted(found))

    def _clear(self) -> None:
        """Drop what a killed run has half copied: under the lock of the base nobody else is at it.

        The name of the base may have been cut in that of a copy, so that is derived again.
        """
        for name, found in derived.of_branches(self.server, []).items():
            suffix = name[name.rfind("__branch_") :]
            is_own = _SUFFIX.fullmatch(suffix) and derived_name(self.entries.base, suffix) == name
            if found.is_half_copied and is_own and name not in self.entries.bases:
                with explained(self.target):
                    derived.drop_of_branch(self.server, name)

    def free_name(self, branch: str) -> str:
        """Return a name for the database of a branch that no database has.

        Where the branch is not spelled as the name has it, a digest tells it from others.
        """
        slug = re.sub(r"[^a-z0-9]+", "_", branch.lower()).strip("_")[:_SLUG_CHARS].strip("_")
        digest = hashlib.sha256(branch.encode()).hexdigest()[:6]
        first = slug if slug == branch else f"{slug}_{digest}".strip("_")
        words = (first, *(f"{slug}_{secrets.token_hex(4)}".strip("_") for _ in range(9)))
        names = [derived_name(self.entries.base, f"__branch_{each}") for each in words]
        others = self.entries.bases.keys() - {self.entries.databases.get(branch)}
        taken = {*derived.of_branches(self.server, names), *others}
        return next(each for each in names if each not in taken)

    def refusals(self, source: BranchDatabase, *, yes: bool) -> list[tuple[str, str]]:
        """Return every reason, with its remedy, why a database is not copied."""
        role, found, reasons = self.server.role, source.found, list[tuple[str, str]]()
        if role.in_recovery:
            reasons.append(("the server is in recovery: it can only be read", "use the primary"))
        if not role.may_create:
            remedy = f"as an administrator: ALTER ROLE {quoted(role.name)} CREATEDB"
            reasons.append((f"the role {role.name} may not create databases", remedy))
        if found is not None and not (found.owned or role.is_superuser):
            grant = f"ALTER DATABASE {quoted(found.name)} OWNER TO {quoted(role.name)}"
            what = f"{found.name} belongs to {found.owner}, so {role.name} may not copy it"
            reasons.append((what, f"as an administrator: {grant}"))
        if role.locality.verdict != "local" and not yes:
            what = f"{source.database} may be on another machine ({role.locality})"
            reasons.append((what, "if this is the right one, add --yes"))
        for each in self.server.sessions(source.database):
            if not each.may_end:
                what = f"{each} is connected to {source.database}, which has to be left for a copy"
                reasons.append((what, each.remedy(role.name)))
        return reasons

    def make(
        self,
        branch: str,
        name: str,
        source: BranchDatabase,
        *,
        is_empty: bool,
        waiting: Callable[[str], None] | None,
    ) -> list[str]:
        """Make the database `name` of a branch; return what must not go unsaid of that.

        source: what is copied, or with `is_empty` the one whose owner, encoding and locale it gets.
        """
        assert source.found is not None  # noqa: S101  (the caller has looked)
        told = list[str]()
        with explained(self.target), Server(self.target.named(source.database), "branch") as other:
            if source.database != self.entries.base:
                other.lock(waiting)  # another run may work on it
            try:
                if is_empty:
                    derived.make_closed(self.server, name, source.found)
                else:
                    if ended := listed(self.server.sessions(source.database)):
                        told.append(f"ended for the copy: {ended}")
                    derived.copy_for_branch(self.server, source.found, name, source.files)
                lost = self._give(source.database, name)
                told += [f"{name} has not, as {source.database} has: {each}" for each in lost]
                marked = derived.branch_of(source.found, self.entries.base)
                own = marked[1] if marked else source.found.comment
                derived.show_for_branch(self.server, name, branch, own)
            except BaseException as error:
                derived.give_up_branch(self.server, name, error)
                raise
        self.entries.write(branch, name)
        return told

    def _give(self, source: str, name: str) -> list[str]:
        """Give a copy what stands outside of a database; return what our role may not give.

        What protects the source, the copy has not.
        """
        session = self.server.session
        wanted = properties.read(session, inheritance.OF_DATABASE, source)
        wanted = [each for each in wanted if each.kind != "template" and each.name != PROTECTED]
        has = properties.read(session, inheritance.OF_DATABASE, name)
        there = {each.key for each in has}
        for each in properties.missing(wanted, has):
            each.apply(session, name, there=each.key in there)
        has = properties.read(session, inheritance.OF_DATABASE, name)
        return [str(each) for each in properties.missing(wanted, has)]

    def demand_droppable(self, name: str, found: Database) -> None:
        """Raise RefusedError unless a database is a branch's, and may go."""
        what, remedy = protection(name)  # as it stands, about the branch that is checked out
        reasons = [(what, f"with the URL of {name}: {remedy}")] if found.protected else []
        if derived.branch_of(found, self.entries.base) is None:
            what = f"{name} has no mark of a branch beside {self.entries.base}"
            reasons.append((what, "drop it by hand, if nobody needs it"))
        if not (found.owned or self.server.role.is_superuser):
            reasons.append((f"{name} belongs to {found.owner}", f"do it as {found.owner}"))
        reasons += [
            (f"{each} is connected to {name}", each.remedy(self.server.role.name))
            for each in self.server.sessions(name)
            if not each.may_end
        ]
        reasons += tied_by(self.server.session, [name])
        if reasons:
            raise RefusedError(reasons)

    def beside(self, name: str) -> list[str]:
        """Return what backset itself has made beside a branch's database, such as `__previous`."""
        found = []
        for each in _places(name):
            with explained(self.target), Server(self.target.named(each), "plan") as server:
                own = server.databases().values()
                found += [other.name for other in own if other.name != each and other.is_ours]
        return found

    def drop(self, branch: str, name: str, waiting: Callable[[str], None] | None) -> None:
        """Drop a branch's database with what is beside it, and then its entry.

        Raises RefusedError where it may not go by now.
        """
        with ExitStack() as stack:
            stack.enter_context(explained(self.target))
            places = [self.target.named(each) for each in _places(name)]
            servers = [stack.enter_context(Server(each, "branch")) for each in places]
            for each in servers:
                each.lock(waiting)  # a run, or tests, may be at work
            now = derived.of_branches(self.server, [name]).get(name)
            if now is not None:  # as it is now, and before anything beside it goes
                self.demand_droppable(name, now)
            for server in servers:
                for other in server.databases().values():
                    if other.name != server.names.target and other.is_ours and not other.protected:
                        swap.drop(server, other.name)
            if now is not None:
                derived.drop_of_branch(self.server, name)
        if branch in self.entries.databases:
            self.entries.remove(branch)


def _places(name: str) -> tuple[str, str]:
    """Return beside what there may be databases of a branch: its own, and that of its tests."""
    return name, derived_name(name, TESTS)


def nearest(found: Sequence[BranchDatabase], preferred: str) -> BranchDatabase | None:
    """Return the database with the fewest revisions left to head; None where none is in the chain.

    preferred: the branch whose is taken where several have as many; then it is the base.
    """
    fit = [each for each in found if each.place in {"at head", "behind"} and not each.is_gone]
    return min(
        fit,
        key=lambda each: (each.left, each.branch != preferred, not each.is_base),
        default=None,
    )
