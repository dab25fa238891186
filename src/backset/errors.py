"""One family of errors (what, remedy, exit code) and the findings that some of them carry."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from backset.described import described, key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A line of pyproject.toml, under the header of `table`, with key and value as TOML has them.

    A value that is a tuple is a list: those of one key belong into one, behind what is there
    `already`. is_choice: whether others mend it as well, and do something else with the rows, so
    that none may be taken unseen. advice: when this one is right.
    """

    table: str
    key: str
    value: str | tuple[str, ...]
    already: tuple[str, ...] = ()
    advice: str = ""
    is_choice: bool = False


@described(kw_only=True)
class Finding:
    """One thing that is not as it should be, in `findings`.

    line: what people read of it, where they have read the rest already.
    settings: what would mend it, if that is one, or the choice between several.
    """

    kind: str = key("a stable word: those of [the findings](findings.md)")
    name: str = key(
        "the object that it is about, by which the settings can silence it; may be empty",
        default="",
    )
    what: str = key("what is so, and where")
    why: str = key("why it matters")
    remedy: str = key("what to do")
    line: str = ""
    settings: tuple[Setting, ...] = ()

    def __str__(self) -> str:
        return self.line or f"{self.kind}: {self.what} ({self.why}) → {self.remedy}"


class BacksetError(Exception):
    """Something that a person can act on: `what` happened, the `remedy`, and an exit code.

    details: chain.Details for programs, if the step that found it has any.
    quoted: more lines of whoever said it, such as the server's DETAIL and HINT.
    """

    exit_code: ClassVar[int] = 1
    details: Any
    quoted: tuple[str, ...] = ()

    def __init__(self, what: str, remedy: str, *, findings: Iterable[Finding] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.findings = tuple(findings)

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> Self:
        """Return the error that consists of these findings, of which there is at least one."""
        return cls(findings[0].what, findings[0].remedy, findings=findings)

    def lines(self) -> list[str]:
        """Each problem in one line: what, where, → what to do."""
        return [str(each) for each in self.findings] or [f"{self.what} → {self.remedy}"]


class SettingsError(BacksetError):
    """The settings are wrong: every problem is told at once, each with its source.

    problems: (source and what, remedy) of each.
    """

    exit_code = 2

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__(*self.problems[0])

    def lines(self) -> list[str]:
        """Every problem in a line of its own, each with its source."""
        return [f"{what} → {remedy}" for what, remedy in self.problems]


class RefusedError(BacksetError):
    """The run was refused, and nothing was touched; every reason is told at once.

    reasons: (what, remedy) of each.
    """

    exit_code = 3

    def __init__(self, reasons: Iterable[tuple[str, str]]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(*self.reasons[0])

    def lines(self) -> list[str]:
        """Every reason in a line of its own."""
        return [f"{what} → {remedy}" for what, remedy in self.reasons]


class StepFailedError(BacksetError):
    """A step failed, or the server cannot be reached; the last line says how the database stands.

    After `reset-db`, `carry`, `reset`, `restore` and `undo` it is as it was, unless they had
    swapped already. `upgrade` and `seed` work on it directly: it keeps what they had committed.
    """

    exit_code = 4

    @classmethod
    def from_system(cls, error: OSError) -> Self:
        """Return what the operating system said, with the file that it is about."""
        what = f"{error.filename or 'the system'}: {error.strerror or error}"
        return cls(what, "mend that, then run this again")


class AstrayError(StepFailedError):
    """A command of the project came to the live database, and may have written there."""


class ReplacedError(RefusedError):
    """Another database has the name of the one that the plan was about."""


class ConsentError(RefusedError):
    """The run needs consent that is bound to facts; `stakes` are these, (word, text) each.

    digest: what `--confirm` must say; void as soon as one of the facts has changed.
    """

    def __init__(
        self, reasons: Iterable[tuple[str, str]], stakes: Iterable[tuple[str, str]], digest: str
    ) -> None:
        super().__init__(reasons)
        self.stakes = tuple(stakes)
        self.digest = digest


class RestoredError(BacksetError):
    """A step failed in place; the backup was restored and compared.

    Where it could not be restored, the last line has the command for that.
    """

    exit_code = 5


class UnreachableError(StepFailedError):
    """No connection could be made: `words` is what libpq said of it, without passwords."""

    def __init__(self, what: str, remedy: str, words: str = "") -> None:
        super().__init__(what, remedy)
        self.words = words or what


class AlembicError(StepFailedError):
    """Alembic's process could not do what it was asked for.

    kind: a stable word, such as `wrong target`. words: what happened, without the advice.
    """

    def __init__(self, what: str, remedy: str, *, kind: str, words: str) -> None:
        super().__init__(what, remedy)
        self.kind = kind
        self.words = words


class HeldUpError(StepFailedError):
    """A statement of ours did not get its lock in time: another session holds it."""


class FindingsError(BacksetError):
    """`status`, `verify`, `check` or `prove-squash` has something to say."""

    exit_code = 6


class LockedError(BacksetError):
    """Another run holds the lock of this database; `--wait` waits for it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


class Interrupted(KeyboardInterrupt):
    """The run was interrupted; the last line says how the database stands.

    In place the exit code is 5, once there was something to restore.
    """  # a KeyboardInterrupt, because psycopg cancels the running statement for that one only

    def __init__(self, signum: int) -> None:
        self.exit_code = 128 + signum
        self.findings: tuple[Finding, ...] = ()
        super().__init__(signal.Signals(signum).name)

    def lines(self) -> list[str]:
        """Return one line; a note says what stands now."""
        return [f"interrupted by {self}"]


class Overdue(Interrupted):
    """A step took longer than `--timeout` allows. `doing` is what it was at, in its own words."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(signal.SIGALRM)
        self.exit_code = StepFailedError.exit_code
        self.limit_s = limit_s
        self.doing = ""

    def lines(self) -> list[str]:
        """Return one line, with what the step was doing."""
        where = f", while at {self.doing}" if self.doing else ""
        remedy = "mend what it waits for, or give it longer: --timeout"
        return [f"stopped after {self.limit_s:g} s{where} → {remedy}"]
