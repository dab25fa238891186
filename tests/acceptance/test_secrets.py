"""No task shows a password: in no output, file, log, argument list, process name or session."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from backset.backups.store import BackupStore
from backset.tasks import namespace
from tests.canary import CANARY, spellings
from tests.incident.project import lay_down
from tests.marks import slow_but
from tests.project import REPOSITORY, Project, laid_down, migrating
from tests.servers import OWNER, SecuredServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

SPELLINGS = frozenset(spellings(CANARY).values())
ARGUMENTS = {
    "psql": ["--", "-c", "select 1"],
    "prove-squash": ["alembic/versions"],
    "squash": ["--plan"],
    "alembic": ["--", "upgrade", "head"],
    "carry": ["--from", "{backup}"],
    "restore": ["--yes"],
    "unprotect": ["--confirm", "{database}"],
    "wait": ["--timeout", "3"],
}
PROC = Path("/proc")
# reset-db makes the database; protect forbids what would come after it.
TASKS = sorted(namespace.task_names, key=lambda each: (each != "reset-db", "protect" in each, each))
# Those that hand the password on; a longer test runs every task.
AT_WORK = (
    *("reset-db", "backup", "upgrade", "seed", "status", "restore", "carry"),
    *("psql", "alembic", "url"),
)
TALKATIVE = ("--echo", "--debug")
IN_JSON = {"reset-db", "upgrade", "seed", "status", "backup", "repair", "verify", "history"}
TELL_ALL = """\
import json, os, sys
print(dict(os.environ), json.dumps(dict(os.environ)), *os.environ.values(), sep="\\n", flush=True)
"""


def leaks(text: str) -> list[str]:
    """Return the lines that have the password in any spelling."""
    return [line for line in text.splitlines() if any(each in line for each in SPELLINGS)]


def processes() -> Iterator[tuple[str, str]]:
    """Give the name and the arguments of every process of this machine, ours or not."""
    if not PROC.is_dir():
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                yield process.name(), " ".join(process.cmdline())
    for folder in PROC.glob("[0-9]*"):  # ten times as fast as psutil, so that it misses little
        with suppress(OSError):
            name, argv = (folder / "comm").read_bytes(), (folder / "cmdline").read_bytes()
            yield name.decode(errors="replace").strip(), argv.decode(errors="replace")


class Watch:
    """Looks at all processes and all sessions, again and again, and keeps what leaks.

    seen: the names of the programs that it saw, as the proof that it looked.
    """

    def __init__(self, server: SecuredServer) -> None:
        self.leaks: set[str] = set()
        self.seen: set[str] = set()
        self._clean: set[str] = set()  # looked at already
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        query = "SELECT concat_ws(' ', application_name, query) FROM pg_stat_activity"
        with self._server.administered() as session:
            while not self._over.wait(0.02):
                texts = {text for (text,) in session.execute(query).fetchall()}
                for name, argv in processes():
                    self.seen.add(name)
                    texts |= {name, argv}
                texts -= self._clean
                self.leaks.update(line for text in texts for line in leaks(text))
                self._clean |= texts


@pytest.fixture
def owned(secured: SecuredServer, own_database: str, tmp_path: Path) -> Iterator[Project]:
    """A project whose password is the canary, watched; nothing of it may have leaked at the end."""
    folder = tmp_path / "project"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    project = Project(folder, {"DATABASE_URL": secured.url(own_database)})
    written = secured.cluster.log.stat().st_size
    try:
        with Watch(secured) as watch:
            yield project
    finally:
        project.invoke("stop")
    assert watch.leaks == set()
    assert {"postgres", "pg_dump"} & watch.seen
    assert leaks(secured.cluster.log.read_bytes()[written:].decode(errors="replace")) == []
    assert leaky_files(folder) == []


def leaky_files(folder: Path) -> list[Path]:
    """Return the files, backups included, that have the password: but for those that we wrote."""
    ours = {".env", "passwords", "services.conf"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ours]
    return [path for path in files if leaks(path.read_bytes().decode(errors="replace"))]


def arguments(project: Project, task: str) -> list[str]:
    """Return what a task needs after its name."""
    path = project.env["DATABASE_URL"].partition("?")[0]
    manifests = sorted((project.folder / "backups").rglob("*.json"))
    given = {"database": path.rpartition("/")[2], "backup": manifests[-1].stem if manifests else ""}
    return [each.format(**given) for each in ARGUMENTS.get(task, [])]


def run_tasks(
    project: Project, tasks: Iterable[str], *flags: str, json_too: bool = True
) -> dict[str, int]:
    """Run tasks, and some in JSON as well; hold all output; return the exit codes."""
    codes = {}
    for task in tasks:
        done = project.invoke(*flags, task, *arguments(project, task))
        assert leaks(done.stdout + done.stderr) == [], task
        codes[task] = done.returncode
        if json_too and task in IN_JSON:
            done = project.invoke(task, "--json")
            assert leaks(done.stdout + done.stderr) == [], f"{task} --json"
            assert json.loads(done.stdout)["exit_code"] == done.returncode
    return codes


def tell_all(project: Project) -> None:
    """Let the seed command print all that it knows, and succeed."""
    script = project.folder / "scripts/add_mock_task_data.py"
    script.write_text(
        script.read_text().replace("import argparse\n", f"import argparse\n{TELL_ALL}")
    )


def test_the_tasks_that_use_it(owned: Project) -> None:
    """Also what a seed prints that tells all it knows: it succeeds, and is not repeated."""
    tell_all(owned)
    codes = run_tasks(owned, AT_WORK, json_too=False)
    assert set(codes.values()) == {0}, codes
    assert leaks(owned.invoke("reset-db", "--plan").stdout) == []


@pytest.mark.slow
def test_every_task_that_is_talkative(owned: Project) -> None:
    """Invoke's own log has what it is given, and it is given no password."""
    owned.invoke("alembic", "--", "revision", "-m", "more")
    tell_all(owned)
    codes = run_tasks(owned, TASKS, *TALKATIVE)
    assert set(codes.values()) == {0}, codes


def test_reveal_is_the_one_exception(owned: Project) -> None:
    """It is what the flag is for; without it the URL is there without its password."""
    assert owned.invoke("backup").returncode == 0
    assert owned.invoke("url", "--reveal").stdout.strip() == owned.url
    assert leaks(owned.invoke("url").stdout) == []


def wrong_password(project: Project) -> None:
    """The server turns us away."""
    project.env["DATABASE_URL"] = project.url.replace("can%25ary", "can%25ary".upper())


def failing_migration(project: Project) -> None:
    """A migration prints all it knows and ends with its URL."""
    (project.folder / "alembic/versions/c0ffee000009_tell.py").write_text(
        f"{TELL_ALL}revision, down_revision = 'c0ffee000009', '0b228e9fec0b'\n"
        "def upgrade(): raise ValueError(os.environ['DATABASE_URL'])\n"
    )


def failing_seed(project: Project) -> None:
    """A seed command prints all it knows and ends with its whole environment."""
    (project.folder / "scripts/tell.py").write_text(f"{TELL_ALL}sys.exit(repr(dict(os.environ)))\n")
    project.configure("scripts/add_mock_task_data.py", "scripts/tell.py")


def broken_env(project: Project) -> None:
    """env.py fails with the parts of its URL in the exception."""
    path = project.folder / "alembic/env.py"
    path.write_text(f"{path.read_text()}\nraise RuntimeError(dict(connect_args()))\n")


def bug(project: Project) -> None:
    """Our own code fails with all it has in the message: a traceback, exit code 1."""
    (project.folder / "tasks.py").write_text(
        "from backset.tasks import namespace\nfrom backset.connections import session\n"
        "from backset.connections.target import Target\n"
        "def named(self, name): raise RuntimeError(self.url, dict(self.params), [self.params])\n"
        "Target.named = named\n"
    )


FAILURES = [
    (failing_migration, {"reset-db": 4, "upgrade": 4, "alembic": 1}),
    (failing_seed, {"reset-db": 4, "seed": 4}),
    (broken_env, {"reset-db": 4, "upgrade": 4, "alembic": 1}),
    (bug, {"reset-db": 1, "upgrade": 1, "undo": 1, "status": 1}),
    (wrong_password, {"reset-db": 4, "psql": 2, "status": 6}),
]


@pytest.mark.parametrize(
    ("break_it", "codes"), slow_but(FAILURES, lambda case: case[0] in {failing_seed, bug})
)
def test_a_task_that_fails(
    owned: Project, break_it: Callable[[Project], None], codes: dict[str, int]
) -> None:
    """What a child or a traceback says is passed on, without the password."""
    assert owned.invoke("upgrade", "backup").returncode == 0
    break_it(owned)
    assert run_tasks(owned, codes, json_too=False) == codes


@pytest.mark.slow
@pytest.mark.parametrize(("break_it", "codes"), FAILURES)
def test_every_task_when_something_fails(
    owned: Project, break_it: Callable[[Project], None], codes: dict[str, int]
) -> None:
    """Whatever the task makes of it, and however much Invoke logs."""
    assert owned.invoke("upgrade", "backup").returncode == 0
    break_it(owned)
    assert run_tasks(owned, TASKS, *TALKATIVE).items() >= codes.items()


def by_variable(project: Project, _server: SecuredServer) -> None:
    """PGPASSWORD."""
    project.env["PGPASSWORD"] = CANARY


def by_passfile(project: Project, server: SecuredServer) -> None:
    """A password file; it escapes : and backslashes."""
    path = project.folder / "passwords"
    path.touch(mode=0o600)
    path.write_text(f"localhost:{server.port}:*:{OWNER}:{CANARY.replace(':', chr(92) + ':')}\n")
    project.env["PGPASSFILE"] = str(path)


def service(project: Project, server: SecuredServer) -> None:
    """Write a service file that has everything but the database."""
    path = project.folder / "services.conf"
    path.touch(mode=0o600)
    path.write_text(
        f"[mine]\nhost=localhost\nport={server.port}\nuser={OWNER}\npassword={CANARY}\n"
        f"sslmode=verify-full\nsslrootcert={server.ca}\n"
    )
    project.env["PGSERVICEFILE"] = str(path)


def by_service(project: Project, server: SecuredServer) -> None:
    """PGSERVICE, with a URL that names the database alone."""
    service(project, server)
    name = project.url.partition("?")[0].rpartition("/")[2]
    project.env |= {"PGSERVICE": "mine", "DATABASE_URL": f"postgresql:///{name}"}


def by_service_in_the_url(project: Project, server: SecuredServer) -> None:
    """The service of a URL."""
    service(project, server)
    name = project.url.partition("?")[0].rpartition("/")[2]
    project.env["DATABASE_URL"] = f"postgresql:///{name}?service=mine"


def by_dotenv(project: Project, server: SecuredServer) -> None:
    """DATABASE_URL in .env alone."""
    name = project.url.partition("?")[0].rpartition("/")[2]
    (project.folder / ".env").write_text(f"DATABASE_URL='{server.url(name)}'\n")
    project.env["DATABASE_URL"] = ""


WAYS = [by_variable, by_passfile, by_service, by_service_in_the_url, by_dotenv]


@pytest.mark.parametrize("give", slow_but(WAYS, lambda give: give is by_passfile))
@pytest.mark.slow
def test_a_password_that_is_not_in_the_url(
    owned: Project,
    secured: SecuredServer,
    own_database: str,
    give: Callable[[Project, SecuredServer], None],
) -> None:
    """Every child finds it where libpq looks, under verified TLS, and none shows it."""
    owned.env["DATABASE_URL"] = secured.url(own_database, password=None)
    give(owned, secured)
    for task in ("reset-db", "backup", "restore", "psql", "alembic"):
        done = owned.invoke(task, *arguments(owned, task))
        assert done.returncode == 0, done.stderr
        assert leaks(done.stdout + done.stderr) == [], task
    failing_seed(owned)
    done = owned.invoke("reset-db")
    assert done.returncode == 4
    assert leaks(done.stdout + done.stderr) == []
    assert BackupStore.of(owned.folder / "backups", own_database).list()


_NAME = '"' + CANARY.replace('"', '""') + '"'
_TEXT = "'" + CANARY.replace("'", "''") + "'"
# Every kind of a name and a text that a database has.
IN_A_DATABASE = f"""
CREATE TABLE {_NAME} ({_NAME} text PRIMARY KEY DEFAULT {_TEXT},
                      CONSTRAINT {_NAME[:-1]}_check" CHECK (length({_NAME}) < 99));
CREATE TYPE {_NAME[:-1]}_type" AS ENUM ({_TEXT});
CREATE VIEW {_NAME[:-1]}_view" AS SELECT * FROM {_NAME};
CREATE SEQUENCE {_NAME[:-1]}_sequence";
COMMENT ON TABLE {_NAME} IS {_TEXT};
INSERT INTO {_NAME} VALUES ({_TEXT})
"""


@pytest.mark.parametrize(
    "tasks",
    slow_but(
        [["reset-db"], ["backup", "backups", "verify", "upgrade", "seed", "history", "undo"]],
        lambda case: case == ["reset-db"],
    ),
)
def test_a_password_that_stands_in_the_database(
    secured: SecuredServer, own_database: str, tmp_path: Path, tasks: list[str]
) -> None:
    """As a name, a comment, a default or a value: no task shows it, to people or in JSON."""
    project = laid_down(tmp_path / "p", "objects", secured.url(own_database))
    migrating(project, IN_A_DATABASE)
    (project.folder / "seed.py").write_text(TELL_ALL)
    (project.folder / "pyproject.toml").write_text(
        '[tool.backset]\nseed = ["python", "seed.py"]\nserver_log = true\n'
    )
    codes = run_tasks(project, ("reset-db", *tasks, "status"))
    assert set(codes.values()) == {0}, codes
    project.query(f'ALTER TABLE {_NAME} ADD {_NAME[:-1]}_more" text DEFAULT {_TEXT}')
    for flags in ([], ["--json"], ["--plan"], ["--write"])[: None if len(tasks) > 1 else 1]:
        done = project.invoke("reset-db", "--carry", *flags)
        assert done.returncode == 4
        assert leaks(done.stdout + done.stderr) == [], flags


@pytest.mark.slow
def test_a_password_that_stands_in_the_database_on_a_terminal(
    secured: SecuredServer, own_database: str, tmp_path: Path
) -> None:
    """Nor in the line that lives there."""
    project = laid_down(tmp_path / "p", "objects", secured.url(own_database))
    migrating(project, IN_A_DATABASE)
    for flags in ([], ["--carry"]):
        code, shown = project.on_a_terminal("reset-db", *flags)
        assert (code, leaks(shown)) == (0, [])
