"""A project puts a step of its own into a chain of its own, in its own tasks.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.canary import CANARY
from tests.marks import slow_but
from tests.project import databases
from tests.states import rebuilt

if TYPE_CHECKING:
    from tests.project import Project

TASKS = """\
from backset.chain import CHAINS, Step
from backset.tasks import namespace, rebuilding

def anonymize(run, progress):
    run.work.session().execute("UPDATE users SET email = id || '@example.org'")
    return "no address is left"

step = Step("anonymize", anonymize, "would replace every address")
chain = CHAINS["reset-db"].named("reset-db-anonymized", after="carry", step=step)
namespace.add_task(rebuilding(chain))
"""


@pytest.fixture
def own(project: Project) -> Project:
    """A project with such a chain, and with a row of somebody's."""
    rebuilt(project)
    (project.folder / "tasks.py").write_text(TASKS)
    project.query("UPDATE users SET email = 'somebody@private'")
    return project


def emails(project: Project) -> list[str]:
    """Return the addresses in the target."""
    return [each for (each,) in project.query("SELECT DISTINCT email FROM users")]


@pytest.mark.parametrize("way", slow_but(["beside", "in place"], lambda way: way == "beside"))
def test_a_step_of_ones_own_is_one_of_the_chain(own: Project, way: str) -> None:
    """It is planned, works on the new database before that is swapped in, and is told."""
    words = ["reset-db-anonymized", "--carry", *(["--in-place"] if way == "in place" else [])]
    planned = json.loads(own.run(*words, "--plan", "--json").stdout)
    said = [(each["step"], each["text"]) for each in planned["plan"]]
    assert ("anonymize", "would replace every address") in said
    assert emails(own) == ["somebody@private"]
    done = own.run(*words, "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [each["step"] for each in json.loads(done.stdout)["steps"]]
    assert steps.index("anonymize") == steps.index("carry") + 1
    assert all(each.endswith("@example.org") for each in emails(own))
    assert own.run("reset-db-anonymized", "--help").returncode == 0


def test_one_that_fails_leaves_the_target_as_it_was(own: Project) -> None:
    """As each other step does: one line, and nothing of the new database stays."""
    tasks = own.folder / "tasks.py"
    tasks.write_text(tasks.read_text().replace("UPDATE users", "UPDATE nothing"))
    before = databases(own)
    done = own.run("reset-db-anonymized", "--carry", "--yes")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "anonymize" in done.stderr
    assert 'relation "nothing" does not exist' in done.stderr
    assert "Traceback" not in done.stderr
    assert (emails(own), databases(own)) == (["somebody@private"], before)


RAISES = """
def anonymize(run, progress):
    raise ValueError(f"no address in {run.target.url}")
"""


@pytest.mark.parametrize(
    ("way", "code"), slow_but([("beside", 4), ("in place", 5)], lambda case: case[1] == 4)
)
def test_whatever_it_raises_is_a_line(own: Project, way: str, code: int) -> None:
    """With the line of the function, and without a password; the target is then as it was."""
    own.env["DATABASE_URL"] = own.url.replace("postgres@", f"postgres:{quote(CANARY, safe='')}@")
    tasks = own.folder / "tasks.py"
    text = tasks.read_text()
    tasks.write_text(text.replace("\nstep =", f"{RAISES}\nstep ="))
    flags = ["--in-place"] if way == "in place" else []
    done = own.run("reset-db-anonymized", "--carry", "--yes", *flags)
    assert done.returncode == code, done.stdout + done.stderr
    assert "anonymize ValueError: no address in postgresql://postgres:***@" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "→ mend tasks.py:9, or what it needs" in done.stderr
    assert "Traceback" not in done.stderr
    assert emails(own) == ["somebody@private"]


LIVE = """\
from backset.chain import Chain, Step, parallel
from backset.steps import backup
from backset.tasks import namespace, rebuilding

def blank(run, progress):
    return run.work.session().execute("UPDATE users SET email = 'blank'")

chain = Chain("blank", backup, Step("blank", blank, "would blank every address"))
namespace.add_task(rebuilding(chain))
"""


@pytest.mark.slow
def test_one_that_works_on_a_target_that_stays_respects_what_seed_does(own: Project) -> None:
    """A protected database, and one whose sessions only read, are left alone."""
    (own.folder / "tasks.py").write_text(LIVE)
    assert own.run("protect").returncode == 0
    refused = own.run("blank")
    assert (refused.returncode, "is protected" in refused.stderr) == (3, True), refused.stderr
    assert own.run("unprotect", "--confirm", own.database).returncode == 0
    only_reads = f"ALTER DATABASE {own.database} SET default_transaction_read_only = on"
    own.query(only_reads, "postgres")
    refused = own.run("blank")
    assert (refused.returncode, "and blank writes" in refused.stderr) == (3, True), refused.stderr
    assert emails(own) == ["somebody@private"]
    own.query(f"ALTER DATABASE {own.database} RESET default_transaction_read_only", "postgres")
    done = own.run("blank")
    assert (done.returncode, " ✔ blank     done\n" in done.stdout) == (0, True), done.stderr
    assert emails(own) == ["blank"]


@pytest.mark.slow
def test_a_build_with_one_before_it_is_verified_is_not_cloned(own: Project) -> None:
    """The line of `reset`, and that of the plan, say why."""
    assert own.run("reset-db", "--yes").returncode == 0
    tasks = own.folder / "tasks.py"
    tasks.write_text(tasks.read_text().replace('after="carry"', 'after="upgrade"'))
    why = "· a step of the project's own comes before it is verified"
    for words in (["--plan"], ["--yes"]):
        done = own.run("reset-db-anonymized", *words)
        (line,) = (each for each in done.stdout.splitlines() if " reset " in each)
        assert line.endswith(why), line


@pytest.mark.slow
def test_what_a_step_does_is_not_cloned(own: Project) -> None:
    """A kept seed has nothing of a step of the project's own; that runs each time."""
    tasks = own.folder / "tasks.py"
    row = "INSERT INTO users (id, email) VALUES ('own', 'own@example.org')"
    update = "UPDATE users SET email = id || '@example.org'"
    tasks.write_text(tasks.read_text().replace(update, row))
    settings = own.folder / "pyproject.toml"
    kept = '[tool.backset]\ncache_seed = true\ninputs = ["scripts/*.py"]'
    settings.write_text(settings.read_text().replace("[tool.backset]", kept))
    for _ in range(2):
        done = own.run("reset-db-anonymized", "--yes", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "own@example.org" in emails(own)
    for _ in range(2):
        assert own.run("reset-db", "--yes").returncode == 0
        assert "own@example.org" not in emails(own)


def test_a_chain_that_lacks_something_is_refused_with_a_line(own: Project) -> None:
    """Before any task runs: `invoke --list` says it, too."""
    tasks = own.folder / "tasks.py"
    tasks.write_text(tasks.read_text().replace('every address")', 'every address", needs="dump")'))
    for words in (["--list"], ["status"]):
        done = own.run(*words)
        assert (done.returncode, done.stdout) == (2, "")
        line = "the chain reset-db-anonymized: anonymize needs dump, and no step before gives that"
        assert line in done.stderr
        assert "Traceback" not in done.stderr


BESIDE = """\
from backset.chain import Chain, Step, parallel
from backset.steps import backup, promote, reset, upgrade
from backset.tasks import namespace, rebuilding

def fail(run, progress):
    run.server.session.execute("SELECT 1 / 0")

fails = Step("fails", fail, "would fail")
namespace.add_task(rebuilding(Chain("mine", parallel(backup, reset, fails), upgrade, promote)))
"""


def test_what_fails_beside_a_backup_is_said_when_that_is_whole(own: Project) -> None:
    """The dump is worth having; the line is of the step that failed, and nothing else is done."""
    (own.folder / "tasks.py").write_text(BESIDE)
    before = databases(own)
    done = own.run("mine", "--yes", "--json")
    told = json.loads(done.stdout)
    assert [each["step"] for each in told["steps"]] == ["reset", "backup"]
    assert told["error"]["step"] == "fails"
    assert "division by zero" in told["error"]["lines"][0]
    listed = json.loads(own.run("backups", "--json").stdout)["backups"]
    assert [each["file"] for each in listed] == [told["steps"][1]["file"]]
    assert (emails(own), databases(own)) == (["somebody@private"], before)


def test_a_backup_that_fails_is_the_step_that_failed(own: Project) -> None:
    """Though another one has ended while it went on; what that has made goes again."""
    before = databases(own)
    own.prefix = ("bash", "-c", 'ulimit -f 4; exec "$@"', "bash")  # KiB of a file: a dump has more
    done = own.run("reset-db", "--cold", "--yes", "--json")
    assert json.loads(done.stdout)["error"]["step"] == "backup", done.stdout
    assert (emails(own), databases(own)) == (["somebody@private"], before - {"__clean"})


ENDS = """
import psycopg

def anonymize(run, progress):
    ours = "application_name LIKE 'backset%' AND pid <> pg_backend_pid()"
    with psycopg.connect(run.target.url) as session:
        session.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
"""


def test_sessions_that_end_after_the_last_step_are_a_line(own: Project) -> None:
    """In place, it is half built until its marks are removed; the next run brings it back."""
    tasks = own.folder / "tasks.py"
    before, _, after = TASKS.partition("def anonymize")
    tasks.write_text(f"{before}{ENDS}\n{after[after.index('step =') :]}".replace("carry", "seed"))
    done = own.run("reset-db-anonymized", "--in-place", "--yes")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "is half built" in done.stderr
    again = own.run("reset-db", "--in-place", "--yes")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "bringing" in again.stdout
