"""A long chain squashed, what the next rebuild gains, and a database that follows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import alembic

from benchmarks import rebuilds, revisions
from benchmarks.figures import Absent, Comparison
from benchmarks.sides import Side, alternate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.amounts import Amounts
    from benchmarks.figures import Found
    from benchmarks.place import Place

_TABLES = 100
_WHO = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
_VERSION = "SELECT version_num FROM alembic_version"


def squashing(place: Place, amounts: Amounts) -> Iterator[Found]:
    """Yield `squash`, a rebuild after it, and a follower, each against what Alembic takes."""
    if "squash" not in place.invoke("--list").split():
        yield Absent("squash", "this version cannot do it")
        return
    count = amounts.revisions[-1]
    old, new = (_laid_down(place, count, each) for each in ("before", "after"))
    place.renew("squashed")
    _squash(place, new)
    place.renew("at_old_head")
    _alembic(place, old, "at_old_head", "upgrade", "head")
    yield from _squashing(place, amounts, old, count)
    yield from _rebuilding(place, amounts, old, new, count)
    yield from _following(place, amounts, new)
    place.drop("squashed", "alone", "before", "after", "follows", "stamped", "at_old_head")


def _squashing(place: Place, amounts: Amounts, old: Path, count: int) -> Iterator[Found]:
    folder = old.with_name("again")

    def renewed() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old, folder)

    def check() -> None:
        if len(left := list((folder / "migrations/versions").glob("*.py"))) != 1:
            raise SystemExit(f"{len(left)} revisions are left")

    sides = [
        Side("squash", lambda: _squash(place, folder), renewed, check),
        Side(
            "alembic upgrade head",
            lambda: _alembic(place, old, "alone", "upgrade", "head"),
            lambda: place.renew("alone"),
        ),
    ]
    ours, theirs = alternate(sides, amounts.few + 2)
    yield Comparison(f"squash of {count} revisions, proved", "s", ours, theirs, 2.5)


def _rebuilding(
    place: Place, amounts: Amounts, old: Path, new: Path, count: int
) -> Iterator[Found]:
    def side(name: str, folder: Path) -> Side:
        env = {"DATABASE_URL": place.url(name)}
        words = ["backset", *rebuilds.cold(place)]
        return Side(
            f"reset-db, cold, {name} the squash",
            lambda: place.run(*words, env=env, cwd=folder),
            lambda: place.drop(name),
        )

    ours, theirs = alternate([side("after", new), side("before", old)], amounts.few + 2)
    yield Comparison(f"reset-db, cold, {count} revisions squashed", "s", ours, theirs, 0.5)


def _following(place: Place, amounts: Amounts, new: Path) -> Iterator[Found]:
    (script,) = (new / "migrations/versions").glob("*.py")
    place.renew("stamped")
    _alembic(place, new, "stamped", "stamp", "head")
    ((head,),) = place.sql("stamped", _VERSION)

    def side(database: str, *words: str) -> Side:
        def check() -> None:
            if (found := place.sql(database, _VERSION)) != [(head,)]:
                raise SystemExit(f"{words[0]} has left {found}, not {head} of {script.name}")

        env = {"DATABASE_URL": place.url(database)}
        return Side(
            " ".join(words),
            lambda: place.run(*words, env=env, cwd=new),
            lambda: place.renew(database, "at_old_head"),
            check,
        )

    sides = [side("follows", "backset", "upgrade")]
    sides += [side("stamped", "alembic", "stamp", "--purge", "head")]
    ours, theirs = alternate(sides, amounts.rounds)
    yield Comparison("upgrade that follows a squash", "s", ours, theirs, 1.5)


def _laid_down(place: Place, count: int, name: str) -> Path:
    """Write the chain into a repository of git, and return its folder."""
    folder = place.folder / "squashes" / name
    for path, text in revisions.files(count, min(count, _TABLES)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    template = Path(alembic.__file__).parent / "templates/generic/script.py.mako"
    shutil.copy(template, folder / "migrations")
    (folder / ".gitignore").write_text("__pycache__/\nbackups/\n")
    for words in (["init", "-q"], ["add", "-A"], [*_WHO, "commit", "-q", "-m", "begin"]):
        place.run("git", *words, cwd=folder)
    return folder


def _squash(place: Place, folder: Path) -> None:
    env = {"DATABASE_URL": place.url("squashed")}
    place.run("backset", "squash", "--message", "all", env=env, cwd=folder)


def _alembic(place: Place, folder: Path, database: str, *words: str) -> None:
    place.run("alembic", *words, env={"DATABASE_URL": place.url(database)}, cwd=folder)
