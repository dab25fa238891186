"""The front door: the chains, step after step, and then the single tasks.

`invoke --list` is its table of contents, and `invoke TASK --plan` says what a task would do. What
stands in `parallel(…)` goes on at the same time. A chain that lacks what a step needs is refused.

| step    | does                                     | needs  | gives   |
|---------|------------------------------------------|--------|---------|
| backup  | pg_dump, read back, with a manifest      |        | backup  |
| reset   | CREATE DATABASE NAME__next               |        | next    |
| clear   | DROP what is in the target itself        | backup |         |
| follow  | write the id of a squash that has run   |        |         |
| upgrade | alembic upgrade head                     |        | schema  |
| verify  | compare the models with the database     |        |         |
| carry   | COPY the old rows into the new tables    | schema | carried |
| seed    | run the mock-data script                 |        |         |
| load    | pg_restore, compared with the manifest   |        | next    |
| promote | swap NAME__next in, by two renames       | next   |         |
| undo    | swap NAME__previous back in              |        |         |
"""

from backset import tasks
from backset.chain import Chain, parallel
from backset.steps import (
    backup,
    carry,
    clear,
    follow,
    load,
    promote,
    reset,
    seed,
    undo,
    upgrade,
    verify,
)

CHAINS = (
    Chain(
        "reset-db",
        *(parallel(backup, reset), upgrade, verify, carry, seed, promote),
        in_place=(backup, clear, upgrade, verify, carry, seed),
    ),
    Chain("carry", parallel(backup, reset), upgrade, verify, carry, seed, promote),
    Chain("reset", parallel(backup, reset), promote, in_place=(backup, clear)),
    Chain("restore", load, promote, in_place=(backup, clear, load)),
    Chain("undo", undo),
    Chain("backup", backup),
    Chain("upgrade", follow, upgrade),
    Chain("verify", verify),
    Chain("seed", seed),
)
namespace = tasks.collection(
    CHAINS,
    *(tasks.status, tasks.repair, tasks.backups, tasks.runs, tasks.history),
    *(tasks.report, tasks.archive, tasks.squash, tasks.rebase, tasks.prove_squash),
    *(tasks.branch, tasks.protect, tasks.unprotect),
    *(tasks.psql, tasks.alembic, tasks.url),
    *(tasks.start, tasks.stop, tasks.wait, tasks.check, tasks.fleet),
)
