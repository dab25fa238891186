"""What the replaced revisions say to the server: no database that they build has it.

Roles and their memberships, tablespaces, settings of the server, and what the server knows of a
database as a whole. A build in a scratch database leaves these out, or finds them there already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backset.errors import RefusedError
from backset.squash.statements import split
from backset.text.pasted import bare, literal
from backset.text.quantities import count, few

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from typing import Any

_CLUSTER_WIDE = re.compile(
    r"""
      (?:CREATE|ALTER|DROP)\s+(?:ROLE|USER(?!\s+MAPPING)|GROUP|TABLESPACE|DATABASE|SUBSCRIPTION)\b
    | ALTER\s+SYSTEM\b
    | COMMENT\s+ON\s+(?:ROLE|TABLESPACE|DATABASE|SUBSCRIPTION)\b
    | SECURITY\s+LABEL\s+(?:FOR\s+\S+\s+)?ON\s+(?:ROLE|TABLESPACE|DATABASE|SUBSCRIPTION)\b
    | (?:GRANT|REVOKE)\b(?:(?!\bON\b)[^;])*\b(?:TO|FROM)\b
    | (?:GRANT|REVOKE)\b(?:(?!\bON\b)[^;])*\bON\s+(?:TABLESPACE|DATABASE|PARAMETER)\b
    | SELECT\s[^;]*\bpg_(?:create|drop|copy)_\w*slot\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What runs in no transaction, or would have to be undone elsewhere.
_BEYOND = re.compile(
    r"""
      (?:CREATE|DROP)\s+(?:TABLESPACE|DATABASE)\b | ALTER\s+SYSTEM\b | \bSUBSCRIPTION\b | slot\b
    | ALTER\s+DATABASE\s+\S+\s+(?:SET\s+TABLESPACE|RENAME)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_BLOCK = re.compile(r"DO\b", re.IGNORECASE)
_CREATED = re.compile(
    r'CREATE\s+(?:ROLE|USER|GROUP)\s+("(?:[^"]|"")+"|[^\W\d][\w$]*)', re.IGNORECASE
)
_PASSWORD = re.compile(
    r"\s+(?:ENCRYPTED\s+)?PASSWORD\s*(?:''[^']*''|'(?:[^']|'')*'|NULL\b)", re.IGNORECASE
)
_ROLE = """\
DO $role$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN
        {statement};
    END IF;
END
$role$"""
NONE = "--cluster none leaves out all that is said to the server"
CHOICE = f"--cluster keep writes what can be written, {NONE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatements:
    """What revisions say to the server, in their order.

    written: the statements that another migration can begin with; no password is in them. left: the
    revision and the first words of each other one. shown: the first words of those that are
    written. bare: whether a password was taken out.
    """

    written: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    had_password: bool = False

    def chosen(self, answer: str) -> ServerStatements:
        """Return what the new revision says. Raises RefusedError where somebody must decide.

        answer: `keep`, `none`, or nothing.
        """
        if self.left and not answer:
            what = (
                f"{few(self.left)} is said to the server, and no revision written anew can say it"
            )
            raise RefusedError([(what, CHOICE)])
        return ServerStatements(left=(*self.shown, *self.left)) if answer == "none" else self

    @property
    def all_of_it(self) -> tuple[str, ...]:
        """The words in which it is said."""
        return (*self.written, *self.left)

    def notices(self) -> Iterator[str]:
        """Say what becomes of them."""
        if self.written:
            without = ", without the password" if self.had_password else ""
            much = count(len(self.written), "statement")
            yield f"the new revision begins with {much} to the server{without}: {few(self.shown)}"
        if self.left:
            yield f"the new revision leaves out what was said to the server: {few(self.left)}"


def read(said: Iterable[Sequence[Any]], revisions: Collection[str]) -> ServerStatements:
    """Return what some revisions say; said: as alembic_worker.listening has it."""
    written, shown, left, had_password = list[str](), list[str](), list[str](), False
    for revision, text, has_parameters in said:
        for statement in split(text) if revision in revisions else ():
            safe = _PASSWORD.sub("", statement)
            plain = _COMMENT.sub(" ", safe).strip()
            found = _found(plain)
            if found is None:
                continue
            words = f"{revision}: {' '.join(plain[found.start() :].split()[:4])}"
            has_secret = re.search(r"\bPASSWORD\b", safe, re.IGNORECASE)
            if has_parameters or has_secret or _BEYOND.search(plain):
                left.append(words)
            else:
                written.append(_guarded(safe, plain))
                shown.append(words)
                had_password |= safe != statement
    return ServerStatements(
        written=tuple(written), shown=tuple(shown), left=tuple(left), had_password=had_password
    )


def _found(plain: str) -> re.Match[str] | None:
    """Return where a statement without its comments speaks to the server, if it does."""
    is_block = _BLOCK.match(plain)
    return _CLUSTER_WIDE.search(plain) if is_block else _CLUSTER_WIDE.match(plain)


def _guarded(statement: str, plain: str) -> str:
    """Return a statement that may run where the role is there already; plain: without comments."""
    created = _CREATED.match(plain)
    if created is None:
        return statement
    spelled = created[1]
    name = bare(spelled) if spelled.startswith('"') else spelled.lower()
    return _ROLE.format(name=literal(name), statement=plain)
