"""The JSON report is what its schema says: no key more, none less, none that never comes.

Each story takes a database through some states, and runs tasks with `--json` on the way.
"""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from inspect import signature
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from jsonschema import Draft202012Validator, ValidationError
from psycopg import sql

from backset.connections.target import Target
from backset.servers.server import Server
from backset.tasks import namespace
from tests import situations, squashed
from tests.clusters import free_port
from tests.git import commit, git
from tests.incident.project import lay_down
from tests.project import REPOSITORY, Project, laid_down, wait_until_told
from tests.squashed import squash, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster


# As the package has it for programs that read reports.
SCHEMA: dict[str, Any] = json.loads((files("backset") / "schemas/report.json").read_text())
REPORT = Draft202012Validator(SCHEMA)


def keys(schema: dict[str, Any]) -> Iterator[str]:
    """Yield every key that is described: `Class.key`; those of the whole object without a class."""
    for name, kind in {"": schema, **schema["$defs"]}.items():
        for key in kind["properties"]:
            yield f"{name}.{key}"


def used(value: Any, kind: dict[str, Any], name: str = "") -> Iterator[str]:  # noqa: ANN401  (JSON)
    """Yield those of the keys that a value has."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        kind = SCHEMA["$defs"][name]
    if "anyOf" in kind:
        yield from used(value, kind["anyOf"][0])
    elif isinstance(value, dict) and "properties" in kind:
        for key, each in value.items():
            yield f"{name}.{key}"
            yield from used(each, kind["properties"][key])
    elif isinstance(value, list):
        for each in value:
            yield from used(each, kind["items"])


class Told:
    """What the tasks have told: each object is held against the description as it comes."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def by(self, project: Project, *words: str, code: int = 0, **env: str) -> dict[str, Any]:
        """Run a task with `--json`, and return its object."""
        done = project.invoke(*words, "--json", **env)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return self.look(done.stdout)

    def look(self, text: str) -> dict[str, Any]:
        """Return the object in a text, which is as it is described."""
        content: dict[str, Any] = json.loads(text)
        try:
            REPORT.validate(content)
        except ValidationError as error:
            raise AssertionError(f"{content['task']}: {error}: {content}") from None
        self.keys |= {*used(content, SCHEMA)}
        return content


def session_on(project: Project) -> psycopg.Connection[Any]:
    """Return a session of somebody else on the target."""
    return psycopg.connect(**Target.parse(project.url).params, application_name="app")  # type: ignore[arg-type]


def a_life(told: Told, project: Project) -> None:
    """From nothing to head, and back, and back again."""
    told.by(project, "status", code=6)
    for task in ("reset-db", "upgrade", "repair", "seed", "backup", "archive"):
        told.by(project, task, "--plan")
    told.by(project, "reset-db")
    told.by(project, "reset-db")  # a clone
    with session_on(project):
        told.by(project, "reset-db", "--plan")
        told.by(project, "reset")
    told.by(project, "report")
    for words in (["undo", "--plan"], ["undo"], ["status"], ["verify", "--plan"], ["verify"]):
        told.by(project, *words)
    told.by(project, "backup", "--prove")
    told.by(project, "runs")
    told.by(project, "seed", "--seed-twice")
    told.by(project, "reset", "--plan")
    told.by(project, "restore", "--yes", "--plan")
    told.by(project, "restore", "--yes")
    told.by(project, "restore", code=4)
    next((project.folder / "backups").rglob("*.json")).write_text("{")
    assert told.by(project, "backups")["unreadable"]


def things_that_go_wrong(told: Told, project: Project) -> None:
    """Settings, a step, a difference, consent, a lock, and a server that is not there."""
    told.by(project, "reset-db", code=2, BACKSET_KEEP="many")
    told.by(project, "status", code=6, DATABASE_URL=f"postgresql://x@127.0.0.1:{free_port()}/x")
    told.by(project, "history", DATABASE_URL=f"postgresql://x@127.0.0.1:{free_port()}/x")
    project.configure('"python", "scripts/add_mock_task_data.py"', '"false"')
    told.by(project, "reset-db", code=4)
    told.by(project, "upgrade")
    project.query("ALTER TABLE tasks DROP COLUMN archived CASCADE")
    told.by(project, "status", code=6)
    told.by(project, "verify", code=6)
    project.query("INSERT INTO users (id, email) VALUES ('me', 'me@here')")
    agreed = told.by(project, "reset", "--plan", BACKSET_ASK_ABOVE="1")["confirm"]
    refused = told.by(project, "reset", code=3, BACKSET_ASK_ABOVE="1")
    assert refused["confirm"] == agreed
    with session_on(project):
        told.by(project, "reset", "--in-place")
    with Server(Target.parse(project.url), "a test") as server:
        server.lock()
        told.by(project, "upgrade", code=75)


def whom_it_waits_for(told: Told, project: Project) -> None:
    """A notice has the session that holds the run up."""
    told.by(project, "upgrade")
    script = project.folder / "alembic/versions/c0ffee_more.py"
    script.write_text(
        "from alembic import op\nrevision, down_revision = 'c0ffee', '0b228e9fec0b'\n"
        "def upgrade(): op.execute('LOCK TABLE tasks')\n"
    )
    with session_on(project) as session:
        session.execute("LOCK TABLE tasks IN ACCESS SHARE MODE")
        process = project.start("upgrade", "--json", "--timeout", "60")
        wait_until_told(project, process)
        session.commit()
        assert told.look(process.communicate(timeout=60)[0])["notices"][0]["sessions"]


def repairs(told: Told, project: Project) -> None:
    """A file comes back from git, a version is proved, heads are merged, an index is dropped."""
    situations.in_git(project)
    git(project.folder, "rm", "-q", "migrations/versions/c1_notes.py")
    commit(project.folder, "Forget it")
    another = situations.versions(project) / "c1_another.py"
    another.write_text(situations.MORE.format("c1", "gone"))
    commit(project.folder, "Take its id")
    another.unlink()
    commit(project.folder, "Forget that, too")
    (orphan,) = told.by(project, "status", code=6)["orphans"]
    assert orphan["removal"]["subject"] == "Forget it"
    assert [each["meant"] for each in orphan["generations"]] == [False, True]
    told.by(project, "repair", "--plan")
    told.by(project, "repair")
    project.query("UPDATE alembic_version SET version_num = 'dead'")
    told.by(project, "status", code=6)
    told.by(project, "repair", "--plan")
    told.by(project, "repair")
    script = situations.versions(project) / "d1_x.py"
    script.write_text(situations.MORE.format("d1", "b1"))
    told.by(project, "repair")


def rows_come_along(told: Told, project: Project) -> None:
    """Carried rows are counted, and so is what is left behind."""
    told.by(project, "reset-db")
    project.query("ALTER TABLE users ADD nickname text; UPDATE users SET nickname = 'Nick'")
    told.by(project, "reset-db", "--carry", "--plan", code=4)
    told.by(project, "reset-db", "--carry", code=4)
    told.by(project, "reset-db", "--carry", "--drop-data")
    *_, dump = sorted((project.folder / "backups").rglob("*.dump"))
    told.by(project, "carry", "--from", str(dump), "--plan", code=4)
    told.by(project, "carry", "--from", str(dump), "--drop-data")
    project.query("ALTER TABLE users ADD nickname text; UPDATE users SET nickname = 'Nick'")
    told.by(project, "reset-db", "--carry", "--write", code=4)


def an_invalid_index(told: Told, project: Project) -> None:
    """It is dropped, and what made it runs again."""
    situations.invalid_index(project)
    told.by(project, "repair")


def out_of_use(told: Told, project: Project) -> None:
    """Scripts are put away, and the orphan is found in their tar."""
    told.by(project, "upgrade")
    scripts = situations.versions(project)
    old, foreign = scripts.with_name("versions_old"), project.folder / "tests/versions"
    shutil.copytree(scripts, foreign)
    old.mkdir()
    (scripts / "c1_notes.py").rename(old / "c1_notes.py")
    told.by(project, "archive", "--plan")
    assert told.by(project, "archive")["kept"]
    shutil.rmtree(foreign)
    (chain,) = told.by(project, "history")["chains"]
    assert chain["orphans"][0]["archives"]


def a_squash(told: Told, project: Project) -> None:
    """A chain is proved, and what differs is told."""
    versions = project.folder / "alembic/versions"
    shutil.copytree(versions, project.folder / "old")
    told.by(project, "prove-squash", "old", "--plan")
    told.by(project, "prove-squash", "old")


def a_squash_that_is_written(told: Told, project: Project) -> None:
    """A part of a chain is replaced, and what follows it gets the new id."""
    squashed.become(project)
    shutil.copy(REPOSITORY / "alembic/script.py.mako", project.folder / "migrations")
    told.by(project, "squash", "--to", "bbb", "--dirty", "--plan")
    told.by(project, "squash", "--to", "bbb", "--dirty", "-m", "start")
    told.by(project, "squash", "--sql")


def a_squash_that_is_followed(told: Told, project: Project) -> None:
    """A database in the middle of what is replaced, and a script from before it."""
    squashed.become(project)
    upgrade(project, "bbb")
    squash(project, "", archive=True)
    squashed.write(project, "eee", "ccc", "SELECT 1")
    told.by(project, "status", code=6)
    told.by(project, "rebase", "--plan")
    assert told.by(project, "rebase")["rebased"]
    told.by(project, "upgrade", "--plan")
    assert told.by(project, "upgrade")["steps"][0]["step"] == "follow"


def two_chains(told: Told, project: Project) -> None:
    """Each has its place."""
    told.by(project, "reset-db")
    for task in ("status", "history"):
        assert [each["name"] for each in told.by(project, task)["chains"]] == ["core", "billing"]


def on_a_server_of_its_own(told: Told, project: Project) -> None:
    """`check` needs none of ours."""
    told.by(project, "check")
    assert told.look(project.invoke("--dry", "check", "--json").stdout)["plan"]


def a_branch(told: Told, project: Project) -> None:
    """It gets a database, is renamed out of git's sight, and its database goes."""
    situations.in_git(project)
    told.by(project, "branch", "--install-hook", "--plan")
    told.by(project, "branch", "--install-hook")
    git(project.folder, "checkout", "-q", "-b", "feature")
    told.by(project, "branch", "create", "--plan")
    told.by(project, "branch", "create")
    assert told.by(project, "status", code=0)["branch"] == "feature"
    git(project.folder, "checkout", "-q", "main")
    git(project.folder, "branch", "-q", "-D", "feature")
    *_, gone = told.by(project, "branch")["branches"]
    told.by(project, "branch", "delete", gone["database"], "--plan")
    told.by(project, "branch", "delete", gone["database"], "--yes")


STORIES = {
    a_life: "",
    things_that_go_wrong: "",
    whom_it_waits_for: "",
    out_of_use: "states",
    a_squash: "",
    a_squash_that_is_written: "branches",
    a_squash_that_is_followed: "branches",
    rows_come_along: "",
    on_a_server_of_its_own: "",
    repairs: "states",
    an_invalid_index: "states",
    a_branch: "states",
    two_chains: "chains",
}


def placed(folder: Path, name: str, url: str) -> Project:
    """Return one of the projects in a folder of its own; without a name, that of the incident."""
    if name in {"states", "branches"}:
        return laid_down(folder / name, name, url)
    if name == "chains":
        project = laid_down(folder / name, "door/chains", url)
        project.env["LIVE_URL"] = url
        return project
    lay_down(folder, REPOSITORY)
    return Project(folder, {"DATABASE_URL": url})


def test_each_task_tells_json(project: Project) -> None:
    """One object, which is as it is described, and nothing else."""
    project.invoke("alembic", "--", "revision", "-m", "more")
    shutil.copytree(project.folder / "alembic/versions", project.folder / "old")
    told = Told()
    lives = [
        *(["reset-db"], ["backup"], ["reset"], ["upgrade"], ["seed"], ["verify"], ["status"]),
        *(["repair"], ["history"], ["archive"], ["rebase"], ["prove-squash", "old"], ["check"]),
        *(["backups"], ["runs"], ["report"], ["squash", "--plan"], ["branch"]),
        *(["restore", "--yes"], ["undo"], ["carry", "--from", "{backup}"]),
    ]
    with_json = [
        name for name, task in namespace.tasks.items() if "json" in signature(task.body).parameters
    ]
    in_lines = ["fleet"]  # test_fleet.py tries it
    assert sorted([*(words[0] for words in lives), *in_lines]) == sorted(with_json)
    content: dict[str, Any] = {}
    for words in lives:
        if words == ["branch"]:
            git(project.folder, "init", "-q")
        backup = content["backups"][0]["name"] if words[0] == "carry" else ""
        content |= told.by(project, *(each.format(backup=backup) for each in words))


@pytest.mark.slow
def test_every_report_is_as_described_and_every_key_is_used(
    tmp_path: Path, cluster: Cluster, superuser: psycopg.Connection[Any], name: str
) -> None:
    """Of each task, in many states: what programs read, and what the reference page says."""
    told = Told()

    def tell(number: int) -> None:
        story, kind = list(STORIES.items())[number]
        folder = tmp_path / story.__name__
        folder.mkdir()
        story(told, placed(folder, kind, cluster.url(f"{name}_{number}")))

    for number in range(len(STORIES)):
        database = sql.Identifier(f"{name}_{number}")
        superuser.execute(sql.SQL("CREATE DATABASE {}").format(database))
    for number in range(len(STORIES)):
        tell(number)
    in_lines = ("ToldMember.", "ToldEvent.", ".fleet")  # test_fleet.py and test_runs.py read those
    assert {each for each in keys(SCHEMA) if not each.startswith(in_lines)} - told.keys == set()


SOUND = {"task": "x", "exit_code": 0, "seconds": 0.1, "steps": [], "notices": [], "findings": []}
STEP = {"step": "seed", "text": "", "seconds": 1, "began": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"error": None, "surprise": 1},
        {"error": None, "exit_code": "0"},
        {"error": None, "steps": [STEP, {**STEP, "surprise": 1}]},
        {"error": None, "steps": [{**STEP, "rows": {"users": 1, "tasks": "2"}}]},
        {"error": None, "cure": {"way": "pray", "command": None, "why": ""}},
    ],
    ids=["too few", "too many", "of another type", "deep", "deeper", "no such word"],
)
def test_what_is_not_described_is_noticed(wrong: dict[str, Any]) -> None:
    """A key too many or too few, or one of another type, at any depth."""
    REPORT.validate({**SOUND, "error": None, "steps": [STEP]})
    with pytest.raises(ValidationError):
        REPORT.validate({**SOUND, **wrong})
