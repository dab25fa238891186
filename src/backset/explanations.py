"""What Alembic's process says, by its kinds, for people: what happened, and what to do. Pure."""

from __future__ import annotations

import re

MEND = "mend the migration or env.py, then run this again"
_PACKAGES = "'alembic>=1.9' 'sqlalchemy>=1.4' 'psycopg[binary]'"
# In the server's own words, which depend on its lc_messages.
_CLUSTER_WIDE = re.compile('(role|tablespace) "[^"]*" already exists')
_ONLY_IF_MISSING = (
    "it belongs to the server, and no reset of a database removes it: let the migration make it "
    "only where it is missing, or drop it by hand"
)
_OF_FLASK = "outside of application context"
_FLASK = 'env.py runs only behind Flask: write [tool.backset] upgrade = ["flask", "db", "upgrade"]'
_DOOR = (
    "mend env.py, or, where it runs only behind a command of the project, name that: "
    '[tool.backset] upgrade = ["COMMAND", "ARGUMENT"]'
)
_EXPLAINED = {
    "no configuration": (
        "{message}",
        "go to the project's folder, or name the file: `backset -c FILE …`, [tool.backset] config",
    ),
    "missing module": (
        "{python}: {where}{message}",
        "install that there, mend the import, or set the interpreter: [tool.backset] python",
    ),
    "wrong target": (
        "env.py connected to {message}, not to {target}; nothing was executed",
        "let env.py take its URL from DATABASE_URL, or say in [tool.backset.env] where it looks",
    ),
    "orphaned revision": (
        "{where}{message}: the version table names a revision that no migration file has",
        "`invoke reset-db` rebuilds the database and keeps the old one for `invoke undo`",
    ),
    "several heads": (
        "the migrations have several heads ({message})",
        "join them: invoke alembic -- merge heads -m 'merge'",
    ),
    "several databases": (
        "env.py works on several databases ({message}), and a run rebuilds one of them",
        'name that one: databases = "…" in [tool.backset.ini]',
    ),
    "no connection": (
        "env.py gives Alembic no connection: it has no online mode ({message})",
        "let it call context.configure(connection=…), as what `alembic init` writes does",
    ),
    "asked for input": (
        "{where}it asked for input, and stdin is closed ({message})",
        "let it take the answer from an environment variable, then run this again",
    ),
    "missing schema": (
        "the schema {message} of the version table does not exist",
        "`invoke upgrade` makes it",
    ),
    "broken chain": (
        "the chain of migrations is broken: {where}{message}",
        "bring the missing file back, or correct its down_revision",
    ),
}


def of(kind: str, message: str, *, where: str, target: str, python: str) -> tuple[str, str]:
    """Return what happened and the remedy.

    kind: of the worker's failures. where: the revision and line, ending in `: `, or empty.
    target: the database that it was to work on, as it may be shown. python: its interpreter.
    """
    what, remedy = _EXPLAINED.get(kind, ("{where}{message}", MEND))
    named = {"message": message, "where": where, "target": target, "python": python}
    if _CLUSTER_WIDE.search(message):
        remedy = _ONLY_IF_MISSING
    elif kind == "error" and where.startswith("env.py"):
        remedy = _FLASK if _OF_FLASK in message else _DOOR
    return what.format(**named), remedy


def installation(python: str) -> str:
    """Return what installs in an interpreter what the worker needs there."""
    named = "name the project's interpreter: [tool.backset] python"
    return f"{python} -m pip install {_PACKAGES}, or {named}"
