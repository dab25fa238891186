"""One trial: a random chain, built up to a random revision; one damage; `status`, and `repair`."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.doctor import chains
from tests.doctor.damages import DAMAGES, Case
from tests.incident.project import run_alembic
from tests.project import Project

if TYPE_CHECKING:
    from pathlib import Path

_REFUSALS = {3, 4, 6}
_REBUILDS = {"reset", "carry"}


@dataclass
class Trial:
    """What was done in a trial, and which promises were broken."""

    seed: int
    damage: str
    found: str = ""
    ways: tuple[str, ...] = ()
    ended: str = ""
    broken: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        did = " + ".join(self.ways) or "nothing"
        sign = "✘" if self.broken else "✔"
        return f" {sign} {self.seed:5} {self.damage:22} {self.found:26} {did:24} → {self.ended}"


def perform(seed: int, folder: Path, url: str, *, is_brief: bool = False) -> Trial:
    """Perform the trial of a seed with an empty database; return what came of it.

    is_brief: a repair says what it has found, and what it has left, so that nobody else is asked.
    """
    rng = random.Random(seed)
    chain = chains.grow(rng)
    chain.write(folder)
    project = Project(folder, {"DATABASE_URL": url})
    damage = DAMAGES[seed % len(DAMAGES)]
    last = len(chain.ids) - 1
    is_short = damage.__name__ in {"stamp_higher", "half"} or rng.random() < 0.25
    case = Case(rng, project, chain, rng.randint(0, max(0, last - 1)) if is_short else last)
    trial = Trial(seed, damage.__name__)
    done = run_alembic(folder, url, "upgrade", chain.ids[case.at])
    if done.returncode:
        raise RuntimeError(f"the chain of seed {seed} does not run: {done.stderr}")
    _write_rows(project)
    damage(case)
    _judge(case, trial, is_brief=is_brief)
    return trial


def _judge(case: Case, trial: Trial, *, is_brief: bool) -> None:
    project, before = case.project, _standing(case.project)
    plain = _ask(project, trial, "status") if case.is_healthy or not is_brief else {}
    proved = {} if is_brief else _ask(project, trial, "status", "--prove")
    looked = _standing(project)
    repaired = _ask(project, trial, "repair", "--yes")
    repairs = repaired.get("repairs", ())
    trial.found = (proved or (repairs or [repaired])[0])["state"]
    trial.ways = tuple(each["cure"]["way"] for each in repairs)
    trial.ended = f"{repaired['exit_code']} {repaired['state']}"
    after = _standing(project)
    is_done = not repaired["exit_code"]
    again = _ask(project, trial, "status", "--prove") if is_done and not is_brief else repaired
    lines = (repaired.get("error") or {}).get("lines", ())
    lost = before.tokens - after.tokens
    promises = {
        f"a false diagnosis: it is one of {set(case.truth)}": trial.found in case.truth,
        f"a healthy database is called {plain.get('state')}": not case.is_healthy
        or (plain["state"], plain["exit_code"]) == ("at head", 0),
        "looking has changed something": looked == before,
        f"rows are lost: {sorted(lost)[:5]}": not lost,
        "it was rebuilt twice": sum(each in _REBUILDS for each in trial.ways) <= 1,
        f"a cure has not cured: {lines}": not any("diagnosis is wrong" in each for each in lines),
        f"repair ended with {repaired['exit_code']}": repaired["exit_code"] in {0, *_REFUSALS},
        "a healthy database was changed": not case.is_healthy or after == before,
        f"after a repair it is {again['state']}": not is_done
        or (again["state"], again["exit_code"]) == ("at head", 0),
    }
    trial.broken += [promise for promise, is_kept in promises.items() if not is_kept]


@dataclass(frozen=True)
class _Standing:
    """What stands in the target: which database it is, the words of all rows, and the version."""

    oid: Any
    tokens: Counter[str]
    rows: Counter[str]


def _standing(project: Project) -> _Standing:
    tables = project.query(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
        "WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' ORDER BY 1"
    )
    rows = Counter(
        f"{table} {row}" for (table,) in tables for (row,) in project.query(_ROWS.format(table))
    )
    words = Counter(word for row in rows.elements() for word in row.replace('"', " ").split())
    tokens = Counter({word: times for word, times in words.items() if word.startswith("token-")})
    oid = project.query("SELECT oid FROM pg_database WHERE datname = current_database()")
    return _Standing(oid, tokens, rows)


_ROWS = "SELECT to_jsonb(r)::text FROM {} AS r"


def _write_rows(project: Project) -> None:
    """Write rows of a person's into every table that takes some, each with a word of its own."""
    tables = project.query(
        "SELECT DISTINCT table_schema, table_name FROM information_schema.columns "
        "WHERE column_name = 'token' AND table_schema IN ('public', 'side') AND table_name IN "
        "(SELECT tablename FROM pg_tables) ORDER BY 1, 2"
    )
    for schema, table in tables:
        for number in range(3):
            word = f"token-{table[:20]}-{number}"
            project.query(f"INSERT INTO {schema}.\"{table}\" (token) VALUES ('{word}')")


def _ask(project: Project, trial: Trial, *words: str) -> dict[str, Any]:
    done = project.invoke(*words, "--json")
    trial.log.append(f"{' '.join(words)}: {done.returncode} {done.stdout.strip()} {done.stderr}")
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        trial.broken.append(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-400:]}")
        return {"state": "?", "exit_code": done.returncode}
    return {"state": "?", **told}
