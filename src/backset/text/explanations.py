"""What Alembic's process, libpq and a server say, for people: what happened, what to do. Pure."""

from __future__ import annotations

import re
import shlex

MEND = "mend the migration or env.py, then run this again"
_MISSING = re.compile(r"No module named '(\w+)")
_OLD = re.compile(r"^too old: (\w+)")
_BESIDE = re.compile(r"beside SQLAlchemy (\d+\.\d+)")
# From which version on; that of SQLAlchemy stays below the next one, for which code is rewritten.
_LEAST = {"alembic": "alembic>=1.9", "sqlalchemy": "sqlalchemy>=1.4,<2"}
# In the server's own words, which depend on its lc_messages.
_CLUSTER_WIDE = re.compile('(role|tablespace) "[^"]*" already exists')
_ONLY_IF_MISSING = (
    "it belongs to the server, and no reset of a database removes it: let the migration make it "
    "only where it is missing, or drop it by hand"
)
UNAVAILABLE = re.compile('extension "[^"]*" is not available')
_INSTALL_EXTENSION = (
    "install its files where PostgreSQL runs (the package postgresql-contrib, or one of its own), "
    "or set DATABASE_URL to a server that has them"
)
# Mostly asked for one function, which the server has by itself.
_UUIDS = re.compile('extension "(uuid-ossp|pgcrypto)" is not available')
_BUILT_IN = (
    "where it is for UUIDs alone: gen_random_uuid() is built in since PostgreSQL 13, so let the "
    rf"migration use that, without \1; else {_INSTALL_EXTENSION}"
)
_MAY_NOT_CREATE = re.compile('permission denied to create extension "([^"]*)"')
_AS_SUPERUSER = (
    'as a superuser, in the database that is rebuilt: CREATE EXTENSION "{}"; a rebuild then works '
    "in place, which keeps it (let the migration say IF NOT EXISTS)"
)
_THERE = re.compile('extension "[^"]*" already exists')
_IF_MISSING = (
    "let the migration say CREATE EXTENSION IF NOT EXISTS: a rebuild in place keeps extensions, "
    "and an administrator may have made it"
)
_NO_FOLDER = re.compile("Path doesn't exist|script_location")
_CORRECT_FOLDER = "correct script_location in Alembic's configuration"
_NO_TABLE = re.compile('(?<! of )(?:relation|table|index) "[^"]*" does not exist')
_FIRST_TABLES = (
    f"{MEND}; or, where a command of the project makes the first tables and the chain begins "
    'after them, name that: [tool.backset] init = ["COMMAND", "ARGUMENT"]'
)
INTERPRETER = (
    "name one of Python 3.9 or later that has the project's packages: [tool.backset] python"
)
_OF_FLASK = re.compile("outside of application context")
_FLASK = 'env.py runs only behind Flask: write [tool.backset] upgrade = ["flask", "db", "upgrade"]'
OR_DOOR = (
    "or, where it runs only behind a command of the project, name that: "
    '[tool.backset] upgrade = ["COMMAND", "ARGUMENT"]'
)
COMMIT = (
    "let nothing run on env.py's connection before `with context.begin_transaction():`, or call "
    "connection.commit() there, after what runs before it"
)
_DOOR = f"mend env.py, {OR_DOOR}"
_TAKE_IT = "let env.py take its URL from DATABASE_URL, or say in [tool.backset.env] where it looks"
# Of engine_from_config(): sqlalchemy.url in Alembic's own section is given to every project.
_NO_OPTION = re.compile("^KeyError: 'url'")
_NAME_IT = (
    'name the option that env.py reads, with its prefix: [tool.backset.ini] "PREFIX.url" = '
    '"{url}"; or the section, where it reads another one: [tool.backset] section = "…"'
)
_OTHER_DIALECT = re.compile("^a database of ")
_CHOOSE_SECTION = (
    'choose one, as `alembic -n NAME` does: [tool.backset] section = "NAME", or '
    "BACKSET_SECTION=NAME; for several, one [[tool.backset.chains]] with a section for each"
)
_STARTED_BEFORE = re.compile(r" follows \S+, which \S+ replaces")
REBASE = "`invoke rebase` lets a script from before the squash follow that one"
_EXPLAINED = {
    "no application": (
        "env.py works within the Flask application: {message}",
        "name it: FLASK_APP=…, here, in .flaskenv or in .env",
    ),
    "no configuration": (
        "{message}",
        "go to the project's folder, or name the file: `backset -c FILE …`, [tool.backset] config",
    ),
    "no section": ("{message}", _CHOOSE_SECTION),
    "unreadable configuration": ("{message}", "mend that file"),
    "missing module": (
        "{python}: {where}{message}",
        "install that there, mend the import, or set the interpreter: [tool.backset] python",
    ),
    "wrong target": (
        "env.py connected to {message}, not to {target}; nothing was executed",
        _TAKE_IT,
    ),
    "unreachable": (
        "{where}env.py cannot connect: {message}",
        f"{_TAKE_IT}; or start that server",
    ),
    "orphaned revision": (
        "{where}{message}: the version table names a revision that no migration file has",
        "`invoke reset-db` rebuilds the database, and says how to go back",
    ),
    "several heads": (
        "the migrations have several heads ({message})",
        "join them: {alembic} merge heads -m 'merge'",
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
    "no transaction": (
        "{where}{message}, and env.py has begun one before it",
        COMMIT,
    ),
    "missing schema": (
        "the schema {message} of the version table does not exist",
        "`invoke upgrade` makes it",
    ),
    "unreadable file": (
        "a migration file cannot be loaded: {where}{message}",
        "mend that file, or set what it asks for",
    ),
    "broken chain": (
        "the chain of migrations is broken: {where}{message}",
        "`invoke status` says which file, and what mends it",
    ),
}
# What a message means, whatever its kind; a group of the pattern stands in the remedy, too.
_BETTER = (
    (_STARTED_BEFORE, REBASE),
    (_CLUSTER_WIDE, _ONLY_IF_MISSING),
    (_UUIDS, _BUILT_IN),
    (UNAVAILABLE, _INSTALL_EXTENSION),
    (_MAY_NOT_CREATE, _AS_SUPERUSER.format(r"\1")),
    (_THERE, _IF_MISSING),
    (_NO_FOLDER, _CORRECT_FOLDER),
    (_OF_FLASK, _FLASK),
    (_NO_OPTION, _NAME_IT),
    (_OTHER_DIALECT, f"{_TAKE_IT}; {OR_DOOR}"),
)
_ANSWERS = "the server answers"
_FULL = r"too many (clients|connections)|remaining connection slots"
# The words of libpq and of the server, the most telling ones first.
_REMEDIES = (
    (
        r"pg_hba\.conf",
        f"{_ANSWERS}: let an administrator admit this client in pg_hba.conf, or correct {{url}}",
    ),
    (
        r"authentication failed|no password supplied|role .* (does not exist|is not permitted)",
        f"{_ANSWERS}: correct user and password in {{url}}",
    ),
    (
        r"permission denied for database|not currently accepting connections",
        f"{_ANSWERS}: let an administrator open that database to your role",
    ),
    (
        _FULL,
        f"{_ANSWERS}: end sessions that nobody needs, then run this again",
    ),
    (
        r"starting up|shutting down|not yet accepting|in recovery mode",
        f"{_ANSWERS}: wait until it is ready, then run this again",
    ),
    (
        r"certificate|does not support SSL|private key",
        "correct sslmode, sslrootcert and the like in {url}, or the server's certificate",
    ),
    (r"could not translate host name|failed to resolve host", "correct the host in {url}"),
)
GRANTED = "let an administrator GRANT that to your role, then run this again"
UNHIDDEN = (
    "its owner can run ALTER TABLE … NO FORCE ROW LEVEL SECURITY, if that is the role itself; for "
    "another role an administrator can run ALTER ROLE … BYPASSRLS; no GRANT shows hidden rows"
)


def of(
    kind: str,
    message: str,
    *,
    where: str,
    target: str,
    python: str,
    alembic: str = "invoke alembic --",
) -> tuple[str, str]:
    """Return what happened and the remedy.

    kind: of the worker's failures. where: the revision and line, ending in `: `, or empty.
    target: the database that it was to work on, as it may be shown. python: its interpreter.
    alembic: how a command of Alembic begins.
    """
    what, remedy = _EXPLAINED.get(kind, ("{where}{message}", MEND))
    named = {"message": message, "where": where, "target": target, "python": python}
    if where.startswith("revision") and _NO_TABLE.search(message):
        remedy = _FIRST_TABLES
    if kind != "no section" and (better := _better(message)):
        return what.format(**named), better
    if kind == "several heads":
        remedy = remedy.format(alembic=alembic)
    if kind == "error":
        remedy = _mended(where)
    return what.format(**named), remedy


def _mended(where: str) -> str:
    """Return what mends an error of the project's code, by the place that raised it."""
    if where.startswith("env.py"):
        return _DOOR
    if where and not where.startswith("revision"):
        return f"mend that file, {OR_DOOR}"
    return f"{MEND}; {OR_DOOR}"


def extension(name: str, *, has_files: bool) -> str:
    """Return how a database gets an extension that its role may not create.

    has_files: whether the server has its files.
    """
    denied = f'permission denied to create extension "{name}"'
    return _better(denied if has_files else f'extension "{name}" is not available')


def _better(message: str) -> str:
    found = ((pattern.search(message), better) for pattern, better in _BETTER)
    return next((match.expand(better) for match, better in found if match), "")


def installation(python: str, said: str) -> str:
    """Return what installs what the worker lacks in an interpreter, or finds too old there.

    said: its words, with the version of SQLAlchemy: that stays what it is.
    """
    old, missing = _OLD.search(said), _MISSING.search(said)
    package = (old or missing or ["", "alembic"])[1].lower()
    if package == "python":
        return INTERPRETER
    wanted = [_LEAST.get(package, package) if old or package == "alembic" else package]
    wanted += [f"sqlalchemy=={kept[1]}.*" for kept in [_BESIDE.search(said)] if kept]
    wanted += ["psycopg[binary]"] if "nor 'sqlalchemy'" in said else []
    named = "name the project's interpreter: [tool.backset] python"
    return f"{python} -m pip install {shlex.join(wanted)}, or {named}"


def unreached(words: str, url: str) -> str:
    """Return what to do about a connection of which libpq said these words.

    url: what says which one that is. A server that speaks another language gets general advice.
    """
    found = (text for pattern, text in _REMEDIES if re.search(pattern, words, re.IGNORECASE))
    return next(found, "start the server, or correct {url}").format(url=url)


def is_answer(words: str) -> bool:
    """Tell whether a server has said these words, and libpq has not missed one."""
    return unreached(words, "").startswith(_ANSWERS)


def is_full(words: str) -> bool:
    """Tell whether the server, the database or the role has as many sessions as it may have."""
    return re.search(_FULL, words, re.IGNORECASE) is not None
