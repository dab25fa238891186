"""The scripts on disk, file by file, and what keeps them from being a chain.

Alembic's own map of them raises a bare KeyError where a file is missing, and only warns where two
files have one id; here each file is known by its path.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import util
from alembic.script.revision import RevisionMap

if TYPE_CHECKING:
    from alembic.script import Script, ScriptDirectory

_BYTE_CODE = frozenset({".pyc", ".pyo"})
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


def described(script: Script) -> dict[str, Any]:
    """Return one script as JSON; its names are as in backset's Revision."""
    return {
        "id": script.revision,
        "down": list(util.to_tuple(script.down_revision, default=())),
        "depends_on": list(util.to_tuple(script.dependencies, default=())),
        "labels": sorted(util.to_tuple(script.branch_labels, default=())),
        "path": script.path,
        "doc": title(script),
    }


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
    found = []
    for script in scripts:
        about = described(script)
        wanted = about["down"]
        wanted += [each for each in about["depends_on"] if not _known(each, ids, labels)]
        name = Path(script.path).name
        found += [
            problem(
                "missing file",
                f"{name} follows {each}, which no file has",
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
