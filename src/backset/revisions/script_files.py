"""Migration scripts: which files are, what each says of itself, and their order."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.described import described, key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

_NAMES = ("revision", "down_revision", "depends_on", "branch_labels")
_OF_A_SQUASH = ("replaces", "replaced_heads", "replaced_schema")
_SPECIAL = re.compile(r"[][\\.*+?(){}|^$]")


@described(kw_only=True)
class Revision:
    """One migration script: in the `scripts` of a chain, and in `replaced_by`.

    own_labels: those of its labels that its script gives it. Alembic adds those of its branch.
    """

    id: str = key("its id", "revision")
    down: tuple[str, ...] = key("those it follows (`down_revision`)", default=())
    depends_on: tuple[str, ...] = key("those it needs besides; labels, too", default=())
    labels: tuple[str, ...] = key("its branch labels", default=())
    own_labels: tuple[str, ...] = ()
    replaces: tuple[str, ...] = key(
        "the revisions that it stands for (`replaces`), in the order in which they ran", default=()
    )
    replaced_heads: tuple[str, ...] = key(
        "those of them that no other one of them followed: a database at the end has these",
        default=(),
    )
    replaced_schema: str = key(
        "the digest of the schema that they made, as `catalog.schema.digest` has it; may be empty",
        default="",
    )
    doc: str = key("the first line of its docstring; may be empty", default="")
    path: Path = key(
        "of its file; in `replaced_by` from the top of git's repository", default=Path()
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """Every revision that must have run before this one."""
        return (*self.down, *self.depends_on)

    @property
    def is_rebased(self) -> bool:
        """Whether it replaces its own old id alone, by which a database needs not all it needs."""
        return not {*self.replaced_heads} <= {*self.replaces}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Revision:
        """Return what alembic_worker says of one script."""
        names = ("down", "depends_on", "labels", "own_labels")
        several = {name: tuple(content[name]) for name in names}
        path = Path(content["path"])
        return cls(**{**content, **several, **of_a_squash(content), "path": path})


def parse(text: str, path: Path = Path()) -> Revision | None:
    """Return the revision of a script; None where the text is no migration script.

    The text is read, never run. A script that Python cannot parse (it may be of Python 2, or half
    written) is read line by line.
    """
    if "revision" not in text:
        return None
    values, doc = _from_syntax(text) or _from_lines(text)
    if not (isinstance(values.get("revision"), str) and "down_revision" in values):
        return None
    down, depends_on, labels = (_several(values.get(name)) for name in _NAMES[1:])
    title = next(iter(doc.strip().splitlines()), "").strip()
    return Revision(
        id=values["revision"],
        down=down,
        depends_on=depends_on,
        labels=labels,
        own_labels=labels,
        doc=title,
        path=path,
        **of_a_squash(values),
    )


def of_a_squash(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Revision that say what it replaces, of the names in its script.

    Without `replaced_heads` the last of those that it replaces is the only one.
    """
    replaces = _in_order(values.get("replaces"))
    schema = values.get("replaced_schema")
    return {
        "replaces": replaces,
        "replaced_heads": _in_order(values.get("replaced_heads")) or replaces[-1:],
        "replaced_schema": schema if isinstance(schema, str) else "",
    }


def _in_order(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    several = value if isinstance(value, (list, tuple)) else ()
    return tuple(each for each in several if isinstance(each, str))


def pattern(revision: str) -> str:
    """Return the POSIX extended expression of a line that may give a script this revision's id."""
    quoted = _SPECIAL.sub(lambda match: f"\\{match[0]}", revision)
    return rf"^revision[^a-zA-Z0-9_].*[\"']{quoted}[\"']"


def ancestry(revision: str, known: Mapping[str, Revision]) -> Iterator[Revision]:
    """Yield a revision and everything that it needs, as far as that is known."""
    seen, todo = set(), [revision]
    while todo:
        each = todo.pop()
        if each in known and each not in seen:
            seen.add(each)
            yield known[each]
            todo += known[each].needs


def by_id(revisions: Iterable[Revision]) -> dict[str, Revision]:
    """Return the revisions by their ids; of several with one id, the first."""
    found: dict[str, Revision] = {}
    for each in revisions:
        found.setdefault(each.id, each)
    return found


def _from_syntax(text: str) -> tuple[dict[str, Any], str] | None:
    with warnings.catch_warnings():  # a stranger's invalid escapes are not for our user
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            return None
    values: dict[str, Any] = {}
    for node in tree.body:
        for name, value in assigned(node):
            if name in (*_NAMES, *_OF_A_SQUASH):
                with suppress(ValueError, TypeError):
                    values[name] = ast.literal_eval(value)
    return values, ast.get_docstring(tree) or ""


def assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names and values of `a = 1`, `a: int = 1` and `a, b = 1, 2`."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value
    if not isinstance(node, ast.Assign):
        return
    for target in node.targets:
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=False))
        yield from ((left.id, right) for left, right in pairs if isinstance(left, ast.Name))


_LINE = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*(.+?)\s*(?:#.*)?$", re.MULTILINE)


def _from_lines(text: str) -> tuple[dict[str, Any], str]:
    values: dict[str, Any] = {}
    for name, value in _LINE.findall(text):
        if name in (*_NAMES, *_OF_A_SQUASH):
            with suppress(ValueError, SyntaxError):
                values[name] = ast.literal_eval(value)
    opening = re.match(r"\s*(?:[uUrR]?)(\"\"\"|''')(.*?)\1", text, re.DOTALL)
    return values, opening[2] if opening else ""


def _several(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple, set)):
        return tuple(sorted(each for each in value if isinstance(each, str)))
    return ()


def ordered(revisions: Iterable[Revision]) -> list[Revision]:
    """Return the revisions so that each comes after all that it needs, unless it is in a circle."""
    known = by_id(revisions)
    needs = {each.id: [name for name in each.needs if name in known] for each in known.values()}
    return [known[name] for name in reversed(newest_first(needs))]


def newest_first(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return every node before those that it needs, line after line without mixing them.

    In a circle, which has no such order, the first node in `needs` begins.
    """
    waiting = Counter(each for several in needs.values() for each in set(several))
    todo = [each for each in reversed(list(needs)) if not waiting[each]]
    left = dict.fromkeys(needs)
    found = []
    while left:
        node = todo.pop() if todo else next(iter(left))
        if node not in left:
            continue
        del left[node]
        found.append(node)
        for each in dict.fromkeys(needs[node]):
            waiting[each] -= 1
            if each in left and not waiting[each]:
                todo.append(each)
    return found


def ancestors(ids: Sequence[str], revisions: Iterable[Revision]) -> set[str]:
    """Return these revisions and all that they need, as far as there are files of them."""
    known = {each.id: each for each in revisions}
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        each = waiting.pop()
        if each in known and each not in found:
            found.add(each)
            waiting += known[each].needs
    return found


def outdated(rows: Sequence[str], revisions: Iterable[Revision]) -> set[str]:
    """Return which rows of a version table another one comes after: Alembic refuses such rows."""
    alone = [replace(each, depends_on=()) for each in revisions]
    return {row for row in rows for each in rows if each != row and row in ancestors([each], alone)}


def heads(revisions: Sequence[Revision]) -> set[str]:
    """Return the revisions that no other one follows."""
    return {each.id for each in revisions} - {down for each in revisions for down in each.down}


def fits(found: Sequence[Revision], today: Sequence[Revision]) -> bool:
    """Tell whether found scripts make one whole chain with those of today.

    Those of a chain that was squashed away do not: they bring a second base and a second head.
    """
    union = [*today, *found]
    known = {each.id for each in union}
    gaps = {down for each in union for down in each.down} - known
    bases = {each.id for each in union if not each.down}
    old_bases = {each.id for each in today if not each.down}
    grows = len(bases) > max(1, len(old_bases)) or len(heads(union)) > max(1, len(heads(today)))
    return bool(found) and not gaps and not grows


LOADED = re.compile(r"^(?!\.#|__init__).*\.py$")  # as Alembic's script/base.py has it
_SCRIPT = re.compile(r"\.py(?![a-z])|\.(?:bak|old|orig|save|txt|disabled|off)$")  # x.py, x.py.bak
LARGEST_BYTES = 1_000_000
# Other people's code, and what is made from ours.
_ELSEWHERE = frozenset(
    {"node_modules", "site-packages", "__pycache__", "venv", "env", "virtualenv"}
    | {".git", ".hg", ".svn", ".venv", ".tox", ".nox", ".backset", ".eggs"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache"}
)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a project's migration scripts are.

    root: the project's. locations: the folders that Alembic loads scripts from.
    backups: backset's own. recursive: whether Alembic also loads what is in folders below.
    """

    root: Path
    locations: tuple[Path, ...]
    backups: Path
    recursive: bool = False

    @property
    def journal(self) -> Path:
        """The file that says what a squash changes in the version folders, while it is at that."""
        return self.backups / "squash.journal"

    def loads(self, path: Path) -> bool:
        """Tell whether Alembic loads this file as a script."""
        folders = path.parents if self.recursive else path.parents[:1]
        return bool(LOADED.match(path.name)) and any(each in folders for each in self.locations)

    def current(self) -> list[Revision]:
        """Return the scripts that Alembic loads, as their texts tell them."""
        found = (path for folder in self.locations for path in walk(folder))
        return list(read(filter(self.loads, dict.fromkeys(found))))

    def containing(self, revision: str) -> list[Revision]:
        """Return every script in the project, loaded or not, that has this revision's id."""
        paths = (path for path in walk(self.root, {self.backups}) if is_script(path))
        return [each for each in read(paths, revision) if each.id == revision]

    def shown(self, path: Path) -> str:
        """Return a path as seen from the project's root."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)


def is_script(path: Path) -> bool:
    """Tell whether a name may be that of a script, put out of the way or not."""
    return bool(_SCRIPT.search(path.name))


def walk(folder: Path, besides: Collection[Path] = ()) -> Iterator[Path]:
    """Yield the regular files in and below a folder, sorted; no symlink is followed.

    Left out are environments, caches, other people's packages, and what is in `besides`.
    """
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _ELSEWHERE
            and here / name not in besides
            and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            if (here / name).is_file() and not (here / name).is_symlink():
                yield here / name


def texts(folders: Iterable[Path]) -> Iterator[str]:
    """Yield what is written in the Python files in and below some folders."""
    for path in {path for folder in folders for path in folder.rglob("*.py")}:
        yield path.read_text(encoding="utf-8", errors="replace")


def read(paths: Iterable[Path], containing: str = "revision") -> Iterator[Revision]:
    """Yield the scripts among files; one that cannot be read, or is too long for one, is none."""
    wanted = containing.encode()
    for path in paths:
        try:
            raw = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else b""
        except OSError:
            continue
        if wanted in raw:
            found = parse(raw.decode(errors="replace"), path)
            if found is not None:
                yield found
