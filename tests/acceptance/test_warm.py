"""A rebuild of what nothing has changed is a clone of the last one, and of nothing else is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backset.catalog import object_hashes
from backset.connections.target import Target
from tests.marks import slow_but
from tests.project import Project, databases, laid_down

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = dict[str, Any]


def rebuilt(project: Project, *flags: str, **env: str) -> dict[str, Step]:
    """Run reset-db; return its steps by their names."""
    done = project.invoke("reset-db", "--json", *flags, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return {each["step"]: each for each in json.loads(done.stdout)["steps"]}


def cloned(project: Project, *flags: str, **env: str) -> bool:
    """Run reset-db; tell whether it was a clone."""
    return rebuilt(project, *flags, **env)["reset"]["cloned"] is not None


def planned(project: Project, **env: str) -> str:
    """Return what `reset` would do."""
    done = project.invoke("reset-db", "--plan", "--json", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    (text,) = [each["text"] for each in json.loads(done.stdout)["plan"] if each["step"] == "reset"]
    return str(text)


def would_clone(project: Project, **env: str) -> bool:
    """Tell whether `reset` would be a clone."""
    return planned(project, **env).startswith("would clone")


def content(project: Project) -> tuple[dict[str, str], dict[str, list[Any]], list[Any]]:
    """Return every object, every row, and what the server knows of the database as a whole."""
    with psycopg.connect(**Target.parse(project.url).params) as session:  # type: ignore[arg-type]
        tables = session.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname !~ '^(pg_|information)' ORDER BY 1"
        ).fetchall()
        rows = {
            name: session.execute(f"SELECT t::text FROM {name} t ORDER BY 1".encode()).fetchall()
            for (name,) in tables
        }
        whole = session.execute(
            "SELECT pg_get_userbyid(datdba), datacl::text, datallowconn, datconnlimit, datcollate,"
            " encoding, (SELECT array_agg(setconfig) FROM pg_db_role_setting"
            " WHERE setdatabase = d.oid)"
            " FROM pg_database d WHERE datname = current_database()"
        ).fetchall()
        return object_hashes.read(session), rows, whole


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Project:
    """A project whose env.py reads many things; it has been rebuilt once."""
    project = laid_down(tmp_path / "shop", "inputs", database_url)
    assert not cloned(project)
    return project


def test_the_second_rebuild_says_that_it_is_a_clone(project: Project) -> None:
    """With its backup and its seed; every step that was not done says since when it holds."""
    name = Target.parse(project.url).database
    first = project.invoke("reset-db")
    second = project.invoke("reset-db")
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    lines = second.stdout.splitlines()
    assert f"✔ reset     {name}__next cloned from {name}__clean" in lines[0]
    for line, text in zip(lines[2:4], ("base → 0b228e9fec0b, 1 revision", "4 tables"), strict=True):
        assert text in line
        assert " · unchanged since " in line
        assert line.endswith(", cloned")
    assert lines[4] == " ✔ seed      users 1 · tasks 5 · task_outputs 30"
    assert databases(project) == {"", "__previous", "__clean"}
    assert project.query("SELECT count(*) FROM task_outputs") == [(30,)]


def test_a_clone_is_what_migrating_gives(shop: Project) -> None:
    """Every object, every row and every property of the database, warm and cold."""
    assert cloned(shop)
    warm = content(shop)
    assert not cloned(shop, "--cold")
    assert content(shop) == warm


def test_a_changed_byte_of_any_file_builds_anew(shop: Project) -> None:
    """Whichever of its files env.py has read; as it was before, it is a clone again."""
    record = json.loads(next(shop.folder.glob("backups/*/clean.template")).read_text())
    ours = [Path(path) for path in record["account"]["files"] if path.startswith(str(shop.folder))]
    files = [path for path in [*ours, shop.folder / "data/words.txt"] if path.is_file()]
    assert {path.name for path in files} >= {
        *("env.py", "a1_all.py", "colours.csv", "words.txt", "alembic.ini"),
        *("__init__.py", "base.py", "colours.py", "orders.py"),
    }
    for path in files:
        before = path.read_bytes()
        times = path.stat()
        path.write_bytes(before + b"\n")
        assert planned(shop).endswith(f"{path.relative_to(shop.folder)} has changed")
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert would_clone(shop)


def test_a_byte_counts_whatever_the_size_and_the_time_of_its_file(shop: Project) -> None:
    """Neither tells of it; the content does."""
    path = shop.folder / "data/colours.csv"
    times = path.stat()
    path.write_text("rad\ngreen\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not cloned(shop)
    assert shop.query("SELECT name FROM colours ORDER BY 1") == [("green",), ("rad",)]


def edited(path: str, text: str) -> Callable[[Project], None]:
    """Return what writes a file of a project, or makes it."""

    def edit(shop: Project) -> None:
        (shop.folder / path).parent.mkdir(exist_ok=True)
        (shop.folder / path).write_text(text)

    return edit


def removed(path: str) -> Callable[[Project], None]:
    """Return what removes a file of a project."""
    return lambda shop: (shop.folder / path).unlink()


def told(statement: str) -> Callable[[Project], None]:
    """Return what tells the server something, as its superuser; NAME is the target."""
    return lambda shop: _tell(shop, statement)


def _tell(shop: Project, statement: str) -> None:
    name = Target.parse(shop.url).database
    shop.query(statement.replace("NAME", name), "postgres")


TELLS = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listening.getsockname())
client.sendall(b"hello")
"""
HEARS = f"{TELLS}listening.accept()[0].sendall(b'x')\nclient.recv(1)\n"
FINDS = "from ctypes.util import find_library\nfind_library('c')\n"
SETTINGS = """
from pydantic_settings import BaseSettings, SettingsConfigDict

class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")
    currency: str = "EUR"

Settings()
"""


SOURCE = f"""
from pydantic_settings import EnvSettingsSource

class Own(EnvSettingsSource):
    pass
{SETTINGS}
"""


def begun(shop: Project, code: str) -> None:
    """Let env.py begin with this."""
    env = shop.folder / "migrations/env.py"
    env.write_text(f"{code}\n{env.read_text()}")


B1 = '"""b"""\nrevision, down_revision = "b1", "a1"\n\n\ndef upgrade():\n    pass\n'


@pytest.mark.parametrize(
    ("change", "why"),
    slow_but(
        [
            (edited("migrations/versions/b1_none.py", B1), "migrations/versions has changed"),
            (edited("shop/later.py", "x = 1\n"), "shop has changed"),
            (removed("shop/colours.py"), "shop/colours.py has changed"),
            (edited("extra.sql", "SELECT 1"), "a file that is looked for has changed"),
            (edited("local_settings.py", "x = 1\n"), "a module that can be imported has changed"),
            (edited("data/more.txt", "x"), "data/more.txt is new"),
            (removed("data/words.txt"), "data/words.txt has changed"),
            (
                edited("backset-baseline.toml", "differences = []\n"),
                "backset-baseline.toml has changed",
            ),
            (edited(".env", "SHOP_FLAG=on\n"), "variable SHOP_FLAG has changed"),
            (told("ALTER DATABASE NAME SET timezone TO 'UTC'"), "setting TimeZone is new"),
            (told("ALTER DATABASE NAME OWNER TO developer"), "is not like the one that was built"),
            (told("CREATE ROLE NAME"), "a role of the server has changed"),
        ],
        lambda case: case[1].startswith(("shop has", "data/words", "variable", "setting")),
    ),
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_env_py_would_notice_builds_anew(
    shop: Project, change: Callable[[Project], None], why: str
) -> None:
    """A file that comes or goes, where it lists, looks or imports; a variable; a setting."""
    change(shop)
    assert planned(shop).endswith(why)


@pytest.mark.slow
def test_only_the_variables_and_settings_that_count_do(shop: Project) -> None:
    """Each terminal has others than those that env.py reads, and most settings build nothing."""
    assert would_clone(shop, SOMETHING="else", TERM="vt100", BACKSET_KEEP="7")
    assert planned(shop, SHOP_FLAG="on").endswith("variable SHOP_FLAG has changed")
    assert planned(shop, BACKSET_SERVER_LOG="true").endswith("a setting has changed")


@pytest.mark.parametrize(
    "closes", slow_but([True, False], lambda closes: closes), ids=["closed again", "left open"]
)
def test_a_template_that_was_touched_is_not_used(shop: Project, *, closes: bool) -> None:
    """Nobody can connect to it; a superuser who opens it, and even closes it again, is noticed."""
    name = f"{Target.parse(shop.url).database}__clean"
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        shop.query("SELECT 1", name)
    shop.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true", "postgres")
    shop.query("INSERT INTO colours VALUES ('forged')", name)
    if closes:
        shop.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", "postgres")
    step = rebuilt(shop)["reset"]
    assert (step["cloned"], step["why"]) == (None, f"{name} is not as it was kept")
    assert shop.query("SELECT name FROM colours ORDER BY 1") == [("green",), ("red",)]
    assert cloned(shop)


@pytest.mark.slow
def test_another_database_under_that_name_is_not_used_and_stays(
    shop: Project, superuser: psycopg.Connection[Any]
) -> None:
    """What backset did not make is neither cloned nor dropped, and stops nothing."""
    name = f"{Target.parse(shop.url).database}__clean"
    superuser.execute(f"DROP DATABASE {name}".encode())
    superuser.execute(f"CREATE DATABASE {name}".encode())
    shop.query("CREATE TABLE precious (id int)", name)
    for _ in range(2):
        assert rebuilt(shop)["promote"]["unkept"] == f"backset did not make {name}"
    assert shop.query("SELECT count(*) FROM precious", name) == [(0,)]


@pytest.mark.slow
def test_a_killed_runs_half_kept_template_is_replaced(shop: Project) -> None:
    """Without its mark it is no foreign database: nobody can connect to it."""
    name = f"{Target.parse(shop.url).database}__clean"
    shop.query(f"COMMENT ON DATABASE {name} IS NULL", "postgres")
    assert not cloned(shop)
    assert cloned(shop)


@pytest.mark.slow
def test_cold_forgets_it(shop: Project) -> None:
    """It runs every migration, and keeps what that gave."""
    name = Target.parse(shop.url).database
    query = f"SELECT oid FROM pg_database WHERE datname = '{name}__clean'"
    before = shop.query(query)
    steps = rebuilt(shop, "--cold")
    assert (steps["reset"]["why"], steps["upgrade"]["chains"][0]["ran"]) == ("--cold", 1)
    assert "since" not in steps["upgrade"]
    assert shop.query(query) != before
    assert cloned(shop)


@pytest.mark.slow
def test_a_failing_seed_leaves_the_verified_build_for_the_next_run(shop: Project) -> None:
    """The template is of the state before the seed, and holds whatever comes after that."""
    with (shop.folder / "shop/orders.py").open("a") as file:
        file.write("\n")
    seed = (shop.folder / "seed.py").read_text()
    (shop.folder / "seed.py").write_text("raise SystemExit('no')")
    assert shop.invoke("reset-db").returncode == 4
    (shop.folder / "seed.py").write_text(seed)
    assert cloned(shop)
    assert shop.query("SELECT id FROM orders") == [(1,)]


@pytest.mark.slow
def test_a_failing_migration_leaves_nothing_that_would_be_cloned(shop: Project) -> None:
    """What was not verified is not kept."""
    path = shop.folder / "migrations/versions/a1_all.py"
    good = path.read_text()
    path.write_text(good.replace("names = ", "names = 1 / 0 or "))
    assert shop.invoke("reset-db").returncode == 4
    path.write_text(good)
    assert not cloned(shop)
    assert cloned(shop)


@pytest.mark.slow
def test_a_file_that_changes_while_it_is_read_is_not_relied_on(shop: Project) -> None:
    """Nobody knows whether it was read before that or after it."""
    with (shop.folder / "shop/colours.py").open("a") as file:
        file.write("\nfrom pathlib import Path\nPath('data/words.txt').write_text('hello\\n')\n")
    step = rebuilt(shop)["promote"]
    told = "data/words.txt has changed meanwhile; [tool.backset] ignore_inputs names what does not"
    assert (step["kept"], step["unkept"]) == ([], f"{told} count")
    assert not cloned(shop)


@pytest.mark.parametrize(
    "statement",
    slow_but(
        [
            "CREATE ROLE {name}",
            """DO $$ BEGIN EXECUTE
        format('ALTER DATABASE %I SET timezone TO ''UTC''', current_database()); END $$""",
            """DO $$ BEGIN EXECUTE
        format('GRANT CREATE ON DATABASE %I TO PUBLIC', current_database()); END $$""",
        ],
        lambda statement: "ROLE" in statement,
    ),
)
@pytest.mark.slow
def test_migrations_that_reach_beyond_their_database_run_each_time(
    shop: Project, statement: str
) -> None:
    """No copy has what they do there, but every rebuild must."""
    name = Target.parse(shop.url).database
    path = shop.folder / "migrations/versions/a1_all.py"
    start = "def upgrade():\n"
    more = f"    op.execute({statement.format(name=name)!r})\n"
    path.write_text(path.read_text().replace(start, start + more))
    why = "something was changed outside of the content of the database"
    try:
        assert rebuilt(shop)["promote"]["unkept"] == why
    finally:
        shop.query(f"DROP ROLE IF EXISTS {name}", "postgres")
    assert not would_clone(shop)


@pytest.mark.slow
def test_rows_of_another_place_are_fetched_each_time(shop: Project) -> None:
    """What a view has of a foreign table would be as old as the clone; people see why."""
    path = shop.folder / "migrations/versions/a1_all.py"
    start = "def upgrade():\n"
    remote = (
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER prices FOREIGN DATA WRAPPER far;"
        "CREATE FOREIGN TABLE quotes (id int) SERVER prices;"
        "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id WITH NO DATA"
    )
    path.write_text(path.read_text().replace(start, f"{start}    op.execute({remote!r})\n"))
    done = shop.invoke("reset-db")
    assert done.returncode == 0, done.stderr
    why = "nothing kept to clone: the foreign server prices may show other rows by then"
    assert f"is the new database · {why}\n" in done.stdout
    assert not cloned(shop)
    assert "__clean" not in databases(shop)


@pytest.mark.parametrize(
    ("code", "why"),
    slow_but(
        [
            ("import subprocess; subprocess.run(['true'], check=True)", "env.py starts true"),
            (HEARS, "env.py reads from 127.0.0.1:"),
        ],
        lambda case: case[0] == HEARS,
    ),
)
def test_what_comes_from_elsewhere_cannot_be_known(shop: Project, code: str, why: str) -> None:
    """A program or a server may say something else each time; `inputs` says that it does not."""
    begun(shop, code)
    shop.configure('inputs = ["data/*.txt"]\n', "")
    assert rebuilt(shop)["promote"]["unkept"].startswith(why)
    assert f" · cold: {why}" in planned(shop)
    assert rebuilt(shop)["reset"]["why"].startswith(f"cold: {why}")
    shop.configure("[tool.backset]\n", '[tool.backset]\ninputs = ["data/*.txt"]\n')
    assert rebuilt(shop)["promote"]["unkept"] is None
    assert cloned(shop)


@pytest.mark.parametrize(
    "code", slow_but([TELLS, FINDS], lambda code: code == TELLS), ids=["tells", "finds"]
)
def test_what_brings_nothing_into_the_build_is_cloned(shop: Project, code: str) -> None:
    """A server that is only told something, a library that is looked up."""
    begun(shop, code)
    assert not cloned(shop)
    assert cloned(shop)


def test_a_settings_class_does_not_read_every_variable(shop: Project) -> None:
    """It goes through all of them, and takes those of its fields; another's change is no change.

    The record has no value, and four digits of each variable, by which nobody can try passwords.
    """
    begun(shop, SETTINGS)
    assert not cloned(shop, SHOP_CURRENCY="swordfish")
    assert would_clone(shop, SHOP_CURRENCY="swordfish", SOMETHING="else", NO_COLOR="1")
    assert planned(shop, SHOP_CURRENCY="CHF").endswith("variable SHOP_CURRENCY has changed")
    text = next(shop.folder.glob("backups/*/clean.template")).read_text()
    assert "swordfish" not in text
    assert len(json.loads(text)["hints"]["SHOP_CURRENCY"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("code", [SOURCE, "import os; dict(os.environ)"], ids=["own", "all"])
def test_who_reads_every_variable_depends_on_all(shop: Project, code: str) -> None:
    """But for those of a terminal; so does a settings class with a source of the project's own."""
    begun(shop, code)
    assert not cloned(shop)
    assert planned(shop, SOMETHING="else").endswith("variable SOMETHING has changed")
    assert would_clone(shop, NO_COLOR="1")


@pytest.mark.slow
def test_what_the_settings_ignore_does_not_count(shop: Project) -> None:
    """A variable, a file, a program, a server: whatever is said of them then, it is a clone."""
    (shop.folder / "version.txt").write_text("1")
    begun(
        shop,
        "import os, subprocess; os.environ.get('GIT_SHA'); open('version.txt').read()\n"
        f"subprocess.run(['true'], check=True)\n{HEARS}",
    )
    shop.configure('inputs = ["data/*.txt"]\n', 'ignore_inputs = ["true", "localhost:*"]\n')
    assert not cloned(shop)
    assert would_clone(shop)
    assert planned(shop, GIT_SHA="2").endswith("variable GIT_SHA has changed")
    old = 'ignore_inputs = ["true"'
    shop.configure(old, f'{old}, "GIT_*", "version.txt", "nothing-of-that-name"')
    report = json.loads(shop.invoke("reset-db", "--json").stdout)
    assert [each["name"] for each in report["findings"]] == ["nothing-of-that-name"]
    (shop.folder / "version.txt").write_text("2")
    assert would_clone(shop, GIT_SHA="2")
    (shop.folder / "version.txt").unlink()
    assert cloned(shop, GIT_SHA="3")


def test_several_chains_are_one_build(tmp_path: Path, database_url: str) -> None:
    """What any of them reads counts; without a change, all of them are cloned."""
    project = laid_down(tmp_path / "chains", "door/chains", database_url)
    assert not cloned(project)
    assert would_clone(project)
    for name in ("core/env.py", "billing/env.py", "billing/versions/billing1_items.py"):
        path = project.folder / name
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert planned(project).endswith(f"{name} has changed")
        path.write_bytes(before)
        os.utime(path, ns=(0, 0))
    first = rebuilt(project)
    assert first["reset"]["cloned"] is not None
    assert [each["name"] for each in first["upgrade"]["chains"]] == ["core", "billing"]
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    tables = {name for (name,) in project.query(query)}
    assert tables == {"core_items", "billing_items", "core_version", "billing_version"}


@pytest.mark.slow
def test_a_command_that_nobody_knows_is_told(shop: Project) -> None:
    """Each run says why it runs every migration, until `inputs` says what the command reads."""
    old = 'inputs = ["data/*.txt"]\n'
    shop.configure(old, 'upgrade = ["alembic", "upgrade", "head"]\n')
    why = "cold: a command of the project migrates, and inputs does not say what it reads"
    for _ in range(2):
        step = rebuilt(shop)["reset"]
        assert step["why"] == why
        assert step["text"].endswith(f" · {why}")
        assert planned(shop).endswith(why)
    shop.configure("upgrade = [", f"{old}upgrade = [")
    assert not cloned(shop)
    assert cloned(shop)
    assert planned(shop, SOMETHING="else").endswith("variable SOMETHING has changed")


@pytest.mark.slow
def test_in_place_nothing_is_cloned(shop: Project) -> None:
    """The objects of the target are dropped, and every migration runs."""
    steps = rebuilt(shop, "--in-place")
    assert ("reset" in steps, "since" in steps["upgrade"]) == (False, False)
    assert steps["upgrade"]["chains"][0]["ran"] == 1


@pytest.fixture
def seeded(shop: Project) -> Project:
    """The same, with a seed whose state is kept; it has been rebuilt once more."""
    inputs = 'inputs = ["seed.py", "data/*.txt"]\ncache_seed = true\n'
    shop.configure('inputs = ["data/*.txt"]\n', inputs)
    name = Target.parse(shop.url).database
    assert rebuilt(shop)["promote"]["kept"] == [f"{name}__clean", f"{name}__seeded"]
    (shop.folder / "runs.log").unlink()
    return shop


@pytest.mark.slow
def test_a_kept_seed_is_cloned_and_told_again(seeded: Project) -> None:
    """The command does not run; its rows are there, and said as they were."""
    cold = content(seeded)
    steps = rebuilt(seeded)
    assert steps["reset"]["cloned"].endswith("__seeded")
    assert steps["seed"]["rows"] == {"alembic_version": 1, "colours": 2, "orders": 1}
    assert "since" in steps["seed"]
    assert not (seeded.folder / "runs.log").exists()
    assert content(seeded) == cold
    assert databases(seeded) == {"", "__previous", "__clean", "__seeded"}


@pytest.mark.slow
def test_a_changed_seed_runs_on_the_kept_build(seeded: Project) -> None:
    """Its file counts, as one of `inputs`; so does every variable, since it may read any."""
    assert rebuilt(seeded, SOMETHING="else")["reset"]["cloned"].endswith("__clean")
    path = seeded.folder / "seed.py"
    path.write_text(path.read_text().replace("DEFAULT VALUES", "VALUES (DEFAULT), (DEFAULT)"))
    assert rebuilt(seeded)["seed"]["rows"]["orders"] == 2
    again = rebuilt(seeded)
    assert again["reset"]["cloned"].endswith("__seeded")
    assert again["seed"]["rows"]["orders"] == 2


def test_a_kept_seed_needs_to_know_its_files(shop: Project) -> None:
    """Nobody but its author can tell what a command reads; exit 2."""
    shop.configure('inputs = ["data/*.txt"]\n', "cache_seed = true\n")
    done = shop.invoke("reset-db")
    assert done.returncode == 2
    assert "cache_seed is set, and inputs is not → name the files that the seed" in done.stderr


def test_a_warm_run_starts_no_alembic(shop: Project) -> None:
    """Neither it nor SQLAlchemy is imported anywhere: the project's interpreter runs the seed."""
    python = shop.folder / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> calls.log\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    shop.configure("[tool.backset]\n", '[tool.backset]\npython = "./python"\n')
    assert not cloned(shop)
    calls = shop.folder / "calls.log"
    assert "alembic_worker" in calls.read_text()
    calls.unlink()
    done = shop.invoke("reset-db", PYTHONPROFILEIMPORTTIME="1")
    assert "cloned from" in done.stdout
    (call,) = calls.read_text().splitlines()
    assert call.endswith("seed.py")
    assert "alembic_worker" not in call
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "psycopg" in imported
    assert {each for each in imported if each.startswith(("alembic.", "sqlalchemy"))} == set()
