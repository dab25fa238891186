"""One trial: a random chain is squashed, and a database somewhere in the old one follows."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backset.errors import RefusedError
from tests.git import commit, git
from tests.incident.project import run_alembic
from tests.project import Project
from tests.squash import judging, random_chains
from tests.squash.shapes import USUAL_TEMPLATE

if TYPE_CHECKING:
    import subprocess

    from tests.doctor.chains import Chain
    from tests.squash.ground import Ground


_TWICE = 0.4  # how often all of the chain is squashed after a part of it


@dataclass
class Trial:
    """What was done in a trial, and which promises were broken.

    is_refused: a part whose revisions change what may have rows of people has to be.
    """

    seed: int
    revisions: int = 0
    at: int = 0
    flags: tuple[str, ...] = ()
    is_refused: bool = False
    broken: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        sign = "✘" if self.broken else "·" if self.is_refused else "✔"
        where = f"from {self.at} of {self.revisions}"
        return f" {sign} {self.seed:5} {where:12} squash {' '.join(self.flags)}"


def perform(seed: int, ground: Ground) -> Trial:
    """Perform the trial of a seed; return what came of it."""
    rng = random.Random(seed)
    chain, volatile = random_chains.grow(rng)
    last = len(chain.ids) - 1
    trial = Trial(seed, revisions=last + 1, at=rng.randint(0, last) + 1, flags=_flags(rng, chain))
    keeps = ("--rows", "keep") if volatile else ()
    trial.flags += keeps
    folder = ground.folder / f"trial_{seed}"
    chain.write(folder)
    shutil.copy(USUAL_TEMPLATE, folder / "migrations/script.py.mako")
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "Begin")
    git(folder, "tag", "old")
    empty, live = ground.database(), ground.database()
    project = Project(folder, {"DATABASE_URL": empty})
    _upgrade(project, empty, "head")
    for number, at in enumerate((rng.randint(1, trial.at), trial.at)):
        _upgrade(project, live, chain.ids[at - 1])
        _write_rows(live, f"token-{number}")
    expected = ground.database(ground.name_of(live))
    _upgrade(project, expected, "head")

    def look(url: str) -> judging.Made:
        return judging.look(url, volatile=volatile)

    old, wanted, words = look(empty), look(expected), _words(look(live))
    if not _squash(project, trial, keeps, is_twice=rng.random() < _TWICE):
        return trial
    fresh = ground.database()
    _upgrade(project, fresh, "head", trial)
    trial.broken += [f"from nothing: {each}" for each in old.differs(look(fresh))]
    if _ask(ground.clone(project, live), trial, "upgrade"):
        after = look(live)
        lost = words - _words(after)
        trial.broken += [f"rows are lost: {sorted(lost)[:5]}"] if lost else []
        trial.broken += [f"followed: {each}" for each in wanted.differs(after)]
        if judging.versions(live) != judging.versions(fresh):
            trial.broken.append(f"it is at {judging.versions(live)}")
    return trial


def _squash(project: Project, trial: Trial, keeps: tuple[str, ...], *, is_twice: bool) -> bool:
    """Squash what the flags say; of a part, perhaps all of the chain after that."""
    is_done = _ask(project, trial, "squash", "-m", "all", *trial.flags)
    if is_done:
        commit(project.folder, "Squash")
    left = len(list((project.folder / "migrations/versions").glob("*.py")))
    if is_done and is_twice and left > 1:
        trial.flags += ("and all",)
        is_done = _ask(project, trial, "squash", "-m", "again", *keeps)
        if is_done:
            commit(project.folder, "Squash all")
    return is_done


def _upgrade(project: Project, url: str, revision: str, trial: Trial | None = None) -> None:
    """Let Alembic itself upgrade; what fails is a broken promise, or else a bad trial."""
    done = run_alembic(project.folder, url, "upgrade", revision)
    if done.returncode and trial is None:
        raise RuntimeError(f"{project.folder.name} does not run: {done.stderr}")
    if done.returncode and trial is not None:
        trial.broken.append(f"the new chain does not run: {done.stderr[-600:]}")


def _flags(rng: random.Random, chain: Chain) -> tuple[str, ...]:
    """Return what is squashed, and how: most often everything, as it comes."""
    flags: list[str] = []
    if len(chain.ids) > 2 and rng.random() < 0.4:
        first = rng.randint(0, len(chain.ids) - 2)
        flags += ["--from", chain.ids[first]] if first else []
        flags += ["--to", chain.ids[rng.randint(first + 1, len(chain.ids) - 1)]]
    flags += ["--as", "sql"] if rng.random() < 0.3 else []
    return tuple(flags)


def _ask(project: Project, trial: Trial, *words: str) -> bool:
    done: subprocess.CompletedProcess[str] = project.invoke(*words)
    trial.log.append(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    if done.returncode == RefusedError.exit_code and "--from" in words:
        trial.is_refused = True
        changed = git(project.folder, "status", "--porcelain")
        trial.broken += [f"a refusal has changed {changed}"] if changed else []
    elif done.returncode:
        trial.broken.append(f"{words[0]} ended with {done.returncode}: {done.stderr[-600:]}")
    return not done.returncode


_TABLES = """
SELECT DISTINCT table_schema, table_name FROM information_schema.columns
WHERE column_name = 'token' AND table_schema IN ('public', 'side') AND is_generated = 'NEVER'
AND table_name IN (SELECT tablename FROM pg_tables) ORDER BY 1, 2
"""


def _write_rows(url: str, word: str) -> None:
    """Write rows of a person's into every table that takes some, each with a word of its own."""
    with judging.connected(url) as session:
        for schema, table in session.execute(_TABLES).fetchall():
            for number in range(3):
                query = f'INSERT INTO {schema}."{table}" (token) VALUES (%s)'
                session.execute(query.encode(), [f"{word}-{table[:20]}-{number}"])


def _words(made: judging.Made) -> set[str]:
    """Return the words of the rows that people wrote."""
    rows = " ".join(row for found in made.rows.values() for row in found)
    return {each for each in rows.replace('"', " ").split() if each.startswith("token-")}
