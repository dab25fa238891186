"""Pages of made-up content: a large one, and one whose texts would act; and a browser for them."""

from __future__ import annotations

import random
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from backset.catalog.catalog import RowCounts
from backset.catalog.columns import Column, Reference, Table
from backset.errors import Finding
from backset.memory.journal import NotedRun
from backset.page.content import (
    LeftRows,
    PageContent,
    RunTold,
    SeenClient,
    TimedNotice,
    TimedStep,
)
from backset.revisions.history import History
from backset.revisions.script_files import Revision
from backset.status.facts import Facts
from backset.status.states import state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Browser, Page, Request

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), "")
MADE_AT = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"
_TYPES = ("text", "integer", "character varying(40)", "timestamp with time zone", "numeric(12,2)")
_WORDS = ("user", "order", "item", "stock", "invoice", "event", "audit")


@contextmanager
def browser() -> Iterator[Browser]:
    """Give the block the browser of this machine."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (not for the other tests)

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def column(name: str, kind: str = "text", *, not_null: bool = True) -> Column:
    """Return a column that has a name and a type."""
    return Column(
        name=name,
        type=kind,
        base=kind,
        builtin=True,
        labels=(),
        members="",
        not_null=not_null,
        default="",
        generated="",
        identity="",
    )


def table(name: str, *columns: Column, refers: Sequence[str] = ()) -> Table:
    """Return a table with an id, a column for each table that it refers to, and some more."""
    own = [column(f"{each}_id", "bigint", not_null=False) for each in refers]
    return Table(
        schema="public",
        name=name,
        partitioned=False,
        size_bytes=8192,
        readable=True,
        references=tuple(Reference((f"{each}_id",), ("public", each)) for each in refers),
        columns=(column("id", "bigint"), *own, *columns),
    )


def drift(name: str, what: str) -> Finding:
    """Return a difference between models and database."""
    remedy = "alembic revision --autogenerate -m '…'"
    return Finding(
        kind="drift",
        name=name,
        what=what,
        why="models and migrations disagree",
        remedy=remedy,
    )


def chain(length: int, dice: random.Random) -> list[Revision]:
    """Return a chain that parts and meets again every forty revisions."""
    found: list[Revision] = []
    last: tuple[str, ...] = ()
    while len(found) < length:
        number = len(found)
        name = f"{dice.randrange(16**11):011x}"
        if number % 40 == 12 and number + 4 <= length:
            side = Revision(id=f"a{name}", down=last, doc=f"Try another index {number}")
            main = Revision(id=f"b{name}", down=last, doc=f"Add a column {number}")
            more = Revision(id=f"c{name}", down=(main.id,), doc=f"Fill the column {number}")
            joined = Revision(id=f"d{name}", down=(side.id, more.id), doc="Merge the branches")
            found += [side, main, more, joined]
        else:
            words = dice.choice(("Create the table", "Add a column to", "Drop an index of"))
            replaces = ("0001", "0002", "0003") if number == 0 else ()
            doc = f"{words} {dice.choice(_WORDS)}s ({number})"
            found.append(Revision(id=f"0{name}", down=last, doc=doc, replaces=replaces))
        last = (found[-1].id,)
    return found


def schema(number: int, dice: random.Random) -> list[Table]:
    """Return tables in areas of some, of which many also refer to the first three."""
    names = [f"{dice.choice(_WORDS)}_{each}" for each in range(number)]
    refers: dict[int, set[int]] = {each: set() for each in range(number)}
    at = 3
    while at < number * 0.93:
        first = at
        for _ in range(min(dice.randrange(4, 16), number - at)):
            if at > first:
                refers[at].add(first if dice.random() < 0.4 else dice.randrange(first, at))
            refers[at] |= {hub for hub in range(3) if dice.random() < 0.3}
            at += 1
    return [
        table(
            name,
            *(
                column(f"column_{each}", dice.choice(_TYPES), not_null=dice.random() < 0.5)
                for each in range(dice.randrange(3, 14))
            ),
            refers=[names[each] for each in sorted(refers[place])],
        )
        for place, name in enumerate(names)
    ]


def content(revisions: int, tables: int, *, is_orphaned: bool = False) -> PageContent:
    """Return a page of so many revisions and tables, with a run, drift and a wait."""
    dice = random.Random(7)
    scripts, made = chain(revisions, dice), sorted(schema(tables, dice), key=lambda e: e.shown)
    names = [each.shown for each in made]
    rows = RowCounts({name: dice.randrange(100_000) for name in names})
    here = "cf94a9256bdb" if is_orphaned else scripts[-min(9, revisions)].id
    first, second = names[1], names[tables // 2]
    found = [
        drift(f"{first}.column_1", f"column {first}.column_1: type text, integer in the models"),
        drift("wishes", "table wishes is only in the models"),
        drift(second, f"table {second} has an index that no model has"),
    ]
    facts = Facts(
        database="shop",
        differences=tuple(each.what for each in found),
        recorded=(here,),
        orphans=(here,) if is_orphaned else (),
        goal=(scripts[-1].id,),
        pending=tuple(each.id for each in scripts[-min(9, revisions) + 1 :]),
        tables=frozenset(names),
        models=frozenset({*names, "wishes"}),
    )
    return PageContent(
        database="shop",
        where="postgresql://me@localhost:5432/shop (from .env)",
        server="18.4",
        made_at=MADE_AT,
        state=state(facts),
        unlooked=("what Alembic does not compare: `invoke status --prove`",),
        findings=found,
        chains=(History(scripts=tuple(scripts), heads=(scripts[-1].id,), database=(here,)),),
        tables=made,
        keys=dict.fromkeys(names, ("id",)),
        models=facts.models,
        rows=rows,
        run=run(rows),
        runs=[noted("reset-db", days, exit_code=4 if days == 2 else 0) for days in range(1, 5)],
    )


def noted(task: str, days: int, *, exit_code: int = 0, text: str = "") -> NotedRun:
    """Return a run some days ago."""
    return NotedRun(
        began=(MADE_AT - timedelta(days=days)).isoformat(),
        task=task,
        database="shop",
        url="postgresql://me@localhost:5432/shop",
        who=text or "me@laptop",
        result="failed" if exit_code else "done",
        seconds=5.5 + days,
        exit_code=exit_code,
        error=text or ("relation users exists already" if exit_code else ""),
        backup=text or "20261129T120000.000Z-0b228e9fec0b",
        digest="",
    )


def run(rows: RowCounts) -> RunTold:
    """Return a run with steps beside each other, a wait, and something left behind."""
    before = {name: number or 0 for name, number in rows.items()}
    some = dict(list(before.items())[: len(before) * 2 // 3])
    name = next(iter(before))
    left = [LeftRows("column", f"{name}.nickname", 12)]
    psql = SeenClient(pid=4711, application="psql", address="socket")
    return RunTold(
        task="reset-db",
        exit_code=0,
        seconds=6.4,
        steps=[
            TimedStep("reset", "shop__next created", 0.4, 0.35),
            TimedStep("backup", "backups/shop/now.dump · 9.8 MB", 1.9, 0.3, rows=before),
            TimedStep("upgrade", "base → head, 400 revisions", 2.2, 2.2),
            TimedStep("verify", "models and database agree", 0.7, 4.4),
            TimedStep("carry", "all rows but 12 values", 0.6, 5.1, rows=some, left=left),
            TimedStep("promote", "shop is the new database", 0.1, 6.2, ended=[psql]),
        ],
        notices=[
            TimedNotice(
                "waits for psql@socket, pid 4711, idle in transaction for 3 min",
                step="upgrade",
                at=3.1,
                sessions=[psql],
            )
        ],
    )


def hostile() -> PageContent:
    """Return a page in which every text would act, if it were not escaped."""
    revision = Revision(id=HOSTILE, down=(), doc=HOSTILE, labels=(HOSTILE,), own_labels=(HOSTILE,))
    tables = [table(HOSTILE, column(HOSTILE, HOSTILE)), table("b", refers=[HOSTILE])]
    facts = Facts(database=HOSTILE, recorded=(HOSTILE,), orphans=(HOSTILE,))
    return PageContent(
        database=HOSTILE,
        where=HOSTILE,
        server=HOSTILE,
        made_at=MADE_AT,
        state=state(facts),
        unlooked=[HOSTILE],
        findings=[
            Finding(kind=HOSTILE, name=HOSTILE, what=HOSTILE, why=HOSTILE, remedy=HOSTILE),
            drift(f"{HOSTILE}.{HOSTILE}", HOSTILE),
        ],
        chains=(
            History(
                name=HOSTILE,
                scripts=(revision,),
                heads=(HOSTILE,),
                database=(HOSTILE,),
                problems=(HOSTILE,),
            ),
        ),
        tables=tables,
        keys={HOSTILE: ("id",)},
        models=frozenset({HOSTILE}),
        rows=RowCounts({HOSTILE: 1}),
        run=RunTold(
            task=HOSTILE,
            exit_code=4,
            seconds=1.0,
            steps=[TimedStep(HOSTILE, HOSTILE, 0.4, 0.1, rows={HOSTILE: 1})],
            notices=[TimedNotice(HOSTILE, step=HOSTILE, at=0.2)],
        ),
        runs=[
            noted(HOSTILE, 1, exit_code=1, text=HOSTILE),
        ],
    )


def watched(
    started: Browser,
    size: tuple[int, int] = (1280, 900),
    **context: Any,  # noqa: ANN401  (Playwright's)
) -> tuple[Page, list[str]]:
    """Return a new page, and what is wrong with it: what its console says, and what it asks for."""
    view = {"width": size[0], "height": size[1]}
    page = started.new_context(viewport=view, **context).new_page()  # type: ignore[arg-type]
    told: list[str] = []
    page.on("console", lambda each: told.append(each.text))
    page.on("pageerror", lambda each: told.append(str(each)))

    def asked(request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            told.append(request.url)

    page.on("request", asked)
    return page, told
