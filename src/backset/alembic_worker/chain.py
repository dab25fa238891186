"""The migration scripts as Alembic reads them: the heads, what is to be run, what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import util
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError, RevisionError, RevisionMap

from .failures import BrokenChainError, UnreadableFileError, message_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from alembic.config import Config
    from alembic.script import Script

_BYTE_CODE = frozenset({".pyc", ".pyo"})
_ALL = ("heads",)  # as in backset's lineage


class ScriptChain:
    """The scripts of one lineage, loaded once.

    lineage: as backset's Lineage has it. versions: a folder that counts in place of those that the
    configuration names. directory: Alembic's. folders: where scripts and env.py are.
    """

    def __init__(self, config: Config, lineage: dict[str, Any], versions: str | None) -> None:
        self.directory = ScriptDirectory.from_config(config)
        if versions:
            self.directory.version_locations = [versions]
        own = {str(Path(self.directory.dir).resolve())}
        self.folders = tuple(own | {*locations(self.directory)["locations"]})
        self._lineage = lineage
        self._problems = []  # type: list[dict[str, Any]]

    def read(self, where: Callable[[BaseException], str]) -> dict[str, Any]:
        """Load the scripts and tell of them; where: says at which line a script has failed."""
        found, stopped = load(self.directory)
        self._problems = problems(self.directory, found)
        if stopped is not None:
            text = ": ".join(filter(None, (where(stopped), message_of(stopped))))
            self._problems = [problem("unreadable file", text)]
        return {
            "folders": sorted(self.folders),
            "heads": self._heads_if_whole(),
            "goal": self.goal(),
            "revisions": list(map(described, found)),
            "problems": self._problems,
            "below": below(self.directory),
            **locations(self.directory),
        }

    def goal(self) -> list[str]:
        """Return the heads that the settings accept, in full; none where they name none."""
        wanted = tuple(self._lineage.get("heads") or ())
        if wanted == _ALL:  # for Alembic, a head that another branch depends on is none of them
            return self._heads_if_whole()
        try:
            found = self.directory.get_revisions(wanted) if wanted else ()
        except (util.CommandError, KeyError, RevisionError, ResolutionError):
            return list(wanted)
        return [each.revision for each in found]

    def _heads_if_whole(self) -> list[str]:
        """Return the heads of the scripts; none of a broken chain, which is a problem then."""
        try:
            return self.heads()
        except BrokenChainError as error:
            if not any(each["kind"] in FATAL for each in self._problems):
                self._problems.insert(0, problem("no chain", message_of(error)))
            return []

    def heads(self) -> list[str]:
        """Return the heads of the scripts. Raises BrokenChainError."""
        fatal = [each for each in self._problems if each["kind"] in FATAL]
        if fatal:
            is_unreadable = fatal[0]["kind"] == "unreadable file"
            family = UnreadableFileError if is_unreadable else BrokenChainError
            raise family("; ".join(each["text"] for each in fatal))
        try:
            return list(self.directory.get_heads())
        except (KeyError, RevisionError, ResolutionError) as error:
            raise BrokenChainError(message_of(error)) from error

    def known(self) -> set[str]:
        """Return the revisions that a script has."""
        return {script.revision for script in self.directory.walk_revisions()}

    def ends(self, to: list[str] | None) -> list[str]:
        """Return the revisions that a request or the settings name, else `head`."""
        return to or self._lineage.get("heads") or ["head"]

    def steps(self, current: Any, to: list[str] | None = None) -> list[Any]:
        """Return the steps from the rows of a version table to where the lineage ends."""
        heads = self.ends(to)
        # Alembic takes a text for one revision, and a tuple for several that must not overlap, as
        # those do of which one depends on another.
        destination = heads[0] if len(heads) == 1 else tuple(heads)  # type: Any
        if len(heads) > 1 and not to and set(self.goal()) == set(self.heads()):
            destination = "heads"
        return list(self.directory._upgrade_revs(destination, current))  # noqa: SLF001

    def pending(self, rows: Any) -> list[str]:
        """Return what is to be run after rows of a version table; nothing where no end is known.

        Each row is one that a script has.
        """
        is_one = len(self.heads()) == 1 or self._lineage.get("heads")
        if not (is_one and self.known().issuperset(self.goal())):
            return []
        return [each.revision.revision for each in self.steps(rows)]

    def place(self, rows: Any) -> dict[str, list[str]]:
        """Hold rows of a version table against the scripts: `orphans` and `pending`."""
        known = self.known()
        orphans = [each for each in rows if each not in known]
        return {"orphans": orphans, "pending": [] if orphans else self.pending(rows)}


# With one of these Alembic would refuse, or silently leave a migration out.
FATAL = frozenset({"unreadable file", "missing file", "duplicate id"})


def load(directory: ScriptDirectory) -> tuple[list[Script], BaseException | None]:
    """Load every script once, and keep them for Alembic; return them, and what stopped that."""
    found = []  # type: list[Script]
    stopped = None
    try:
        for script in directory._load_revisions():  # noqa: SLF001
            found.append(script)  # noqa: PERF402  (the ones before an error count, too)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a script may raise anything)
        stopped = error
    directory.revision_map = RevisionMap(lambda: iter(found))
    return found, stopped


def locations(directory: ScriptDirectory) -> dict[str, Any]:
    """Return the folders that scripts are loaded from, and whether from those below, too."""
    folders = [str(Path(each).resolve()) for each in directory._version_locations]  # noqa: SLF001
    recursive = getattr(directory, "recursive_version_locations", False)  # since Alembic 1.10
    return {"locations": folders, "is_recursive": bool(recursive)}


def below(directory: ScriptDirectory) -> list[str]:
    """Return the scripts in folders below those that are loaded, which Alembic passes over."""
    if locations(directory)["is_recursive"]:
        return []
    folders = locations(directory)["locations"]
    paths = {
        path
        for each in folders
        for path in Path(each).glob("*/**/*.py")
        if str(path.parent) not in folders and path.is_file()
    }
    return [str(each) for each in sorted(paths) if b"down_revision" in each.read_bytes()]


_OF_A_SQUASH = ("replaces", "replaced_heads", "replaced_schema")  # Alembic passes over these


def described(script: Script) -> dict[str, Any]:
    """Return one script as JSON; its names are as in backset's Revision."""
    return {
        "id": script.revision,
        "down": list(util.to_tuple(script.down_revision, default=())),
        "depends_on": list(util.to_tuple(script.dependencies, default=())),
        "labels": sorted(util.to_tuple(script.branch_labels, default=())),
        "own_labels": list(script._orig_branch_labels or ()),  # noqa: SLF001
        **{name: _texts(getattr(script.module, name, None)) for name in _OF_A_SQUASH},
        "path": script.path,
        "doc": title(script),
    }


def _texts(value: Any) -> Any:
    """Return a text, or several; None in place of what somebody else means by that name."""
    several = value if isinstance(value, (list, tuple)) else [value]
    return value if all(isinstance(each, str) for each in several) else None


def title(script: Any) -> str:
    """Return the first line of what a script says of itself; Alembic takes the first paragraph."""
    return next(iter((script.doc or "").strip().splitlines()), "")


def problems(directory: ScriptDirectory, scripts: list[Script]) -> list[dict[str, Any]]:
    """Return what is wrong, worst first: `kind`, `text`, and the `paths` that it is about."""
    return [
        *_duplicates(scripts),
        *_missing(scripts),
        *_stale(scripts),
        *([] if scripts else _empty(directory)),
    ]


def problem(kind: str, text: str, *paths: str, missing: str = "") -> dict[str, Any]:
    """Return one problem; missing: the revision that no file has."""
    return {"kind": kind, "text": text, "paths": list(paths), "missing": missing}


def _duplicates(scripts: list[Script]) -> list[dict[str, Any]]:
    by_id = {}  # type: dict[str, list[Script]]
    for script in scripts:
        by_id.setdefault(script.revision, []).append(script)
    return [
        problem("duplicate id", f"{each} is the id of {_names(same)}", *[s.path for s in same])
        for each, same in by_id.items()
        if len(same) > 1
    ]


def _missing(scripts: list[Script]) -> list[dict[str, Any]]:
    ids = {script.revision for script in scripts}
    labels = {each for script in scripts for each in described(script)["labels"]}
    replaced = {
        each: f"{script.revision} replaces"
        for script in scripts
        for each in util.to_tuple(described(script)["replaces"], default=())
    }
    found = []
    for script in scripts:
        about = described(script)
        wanted = about["down"]
        wanted += [each for each in about["depends_on"] if not _known(each, ids, labels)]
        name = Path(script.path).name
        found += [
            problem(
                "missing file",
                f"{name} follows {each}, which {replaced.get(each, 'no file has')}",
                script.path,
                missing=each,
            )
            for each in wanted
            if each not in ids
        ]
    return found


def _known(name: str, ids: set[str], labels: set[str]) -> bool:
    """Tell whether `depends_on` may say this: an id, the beginning of one, or a branch's label."""
    if name in ids or name in labels:
        return True
    label, _, revision = name.rpartition("@")
    return label in labels or any(each.startswith(revision) for each in ids)


def _stale(scripts: list[Script]) -> list[dict[str, Any]]:
    """Name byte code whose source is gone, unless the whole project is made of byte code."""
    stale = [script for script in scripts if Path(script.path).suffix in _BYTE_CODE]
    if len(stale) == len(scripts):
        return []
    return [
        problem(
            "stale byte code",
            f"{each.revision} is loaded from {Path(each.path).name}, whose source is gone",
            each.path,
        )
        for each in stale
    ]


def _empty(directory: ScriptDirectory) -> list[dict[str, Any]]:
    folders = [str(each) for each in directory._version_locations]  # noqa: SLF001
    there = any(Path(each).is_dir() for each in folders)
    text = "the versions folder " + ("has no migration file" if there else "does not exist")
    below = sorted({path.parent.name for each in folders for path in Path(each).glob("*/*.py")})
    text += f" itself; its folders {', '.join(below)} have" if below else ""
    return [problem("no migrations", text, *folders)]


def _names(scripts: list[Script]) -> str:
    return " and of ".join(sorted(Path(each.path).name for each in scripts))
