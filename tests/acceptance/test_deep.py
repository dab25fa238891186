"""`verify --deep`: what Alembic's comparison does not see is found, and nothing else is."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.marks import slow_but
from tests.project import Project, databases, laid_down

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


UNSEEN = {
    "orders.amount": "default is 1 in the models, none in the database",
    "orders.double": "generated is (amount * 2)",
    "orders.note": 'collation is "C" in the models, none in the database',
    "orders_id_seq": "1 in the database",
    "apart on orders": "is only in the models",
    "fk_orders_a_pairs on orders": "MATCH FULL in the models",
    "positive on orders": "CHECK ((amount > 0)) in the models, CHECK ((amount >= 0)) in the",
    "there on orders": "NO INHERIT in the database",
    "ix_orders_day": "INCLUDE (amount) in the models",
    "ix_orders_note": "USING hash (note) in the models",
    "ix_orders_state": "'open'::text) in the models",
    "pk_pairs on pairs": "PRIMARY KEY (a, b) in the models, PRIMARY KEY (b, a) in the database",
    "pairs": "options is fillfactor=70 in the models, none in the database",
}
ASYNC = """
import asyncio
import os

import models
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine


def migrate(connection):
    context.configure(connection=connection, target_metadata=models.metadata, include_schemas=True,
        include_object=lambda thing, name, kind, reflected, other: name != "legacy")
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
"""


@pytest.fixture
def unseen(tmp_path: Path, database_url: str) -> Project:
    """A project whose models and migrations differ in what Alembic does not compare."""
    project = laid_down(tmp_path / "unseen", "unseen", database_url)
    assert project.invoke("upgrade").returncode == 0
    return project


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON object of a run."""
    return dict(json.loads(done.stdout))


def test_what_alembic_does_not_see_is_found_once(unseen: Project) -> None:
    """Each is named, with its model; what differs in name or in order alone is not."""
    assert unseen.invoke("verify").returncode == 0
    done = unseen.invoke("verify", "--deep", "--json")
    assert done.returncode == 6, done.stderr
    found = [each for each in said(done)["findings"] if each["kind"] == "deep drift"]
    names = [each["name"] for each in found]
    assert sorted(names) == sorted([*UNSEEN, "orders_id_seq"])  # start and cache
    for each in found:
        assert UNSEEN[each["name"]] in each["what"]
    why = {each["name"]: each["why"] for each in found}
    assert "Order in models.py:" in why["orders.amount"]
    assert why["orders.amount"].endswith("revision a1 names it last")
    assert "of models.py" in why["pairs"]
    (beyond,) = (each for each in said(done)["findings"] if each["kind"] == "beyond the models")
    assert beyond["what"].count(" is only in the database") == 5
    assert "trigger stamps on orders is only in the database" in beyond["what"]
    assert databases(unseen) == {""}


def test_they_can_be_accepted(unseen: Project) -> None:
    """With what only the database has; a plain `verify` takes none of them for gone."""
    done = unseen.invoke("verify", "--deep", "--accept")
    assert done.returncode == 0, done.stderr
    assert "backset-baseline.toml has 20 differences: +20 −0" in done.stdout
    assert "beyond the models" not in done.stdout
    for words in (["verify"], ["verify", "--accept"], ["verify", "--deep"]):
        done = unseen.invoke(*words)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    content = said(unseen.invoke("verify", "--deep", "--json"))
    (step,) = content["steps"]
    assert step["deep"].pop("objects") > 40
    assert step["deep"] == {"beyond": [], "problem": "", "unmade": []}
    assert step["accepted"] == 20
    unseen.query("ALTER TABLE orders ALTER amount SET DEFAULT 1")
    done = unseen.invoke("verify", "--deep")
    assert done.returncode == 6
    (line,) = (each for each in done.stderr.splitlines() if "vanished difference" in each)
    assert "column orders.amount: default is 1" in line
    remedy = line.partition("→ invoke ")[2].partition(" ·")[0]
    assert unseen.invoke(*remedy.split()).returncode == 0
    assert unseen.invoke("verify", "--deep").returncode == 0


@pytest.mark.slow
def test_a_rebuild_says_how_it_accepts_them(unseen: Project) -> None:
    """A rebuild compares deeply by its setting, and knows no such flag."""
    (unseen.folder / "pyproject.toml").write_text("[tool.backset]\ndeep = true\n")
    done = unseen.invoke("reset-db")
    assert "or accept it: invoke reset-db --accept\n" in done.stdout
    assert "`invoke reset-db --accept` accepts them" in done.stdout
    assert "--deep" not in done.stdout
    assert "+20 −0" in unseen.invoke("reset-db", "--accept").stdout


def add(project: Project, *lines: str) -> None:
    """Add lines to the models."""
    models = project.folder / "models.py"
    models.write_text("\n".join([models.read_text(), *lines, ""]))


def test_models_that_cannot_be_made(unseen: Project) -> None:
    """The reason is said in one line, and Alembic's comparison counts."""
    add(
        unseen,
        "from sqlalchemy import event",
        "@event.listens_for(metadata, 'before_create')",
        "def fail(*_given, **_more):",
        "    raise RuntimeError('not today')",
    )
    done = unseen.invoke("verify", "--deep")
    assert (done.returncode, done.stderr) == (0, "")
    assert "models and database agree as far as Alembic compares them" in done.stdout
    assert "not compared deeply: the models could not be made: " in done.stdout
    assert "RuntimeError: not today" in done.stdout
    assert databases(unseen) == {""}
    assert said(unseen.invoke("verify", "--json"))["steps"][0]["deep"] is None


def test_models_that_can_be_made_in_part(unseen: Project) -> None:
    """What the server refuses is named; the rest is compared, also by what only migrations make."""
    unseen.query("CREATE FUNCTION next_id() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    unseen.query(
        "CREATE TABLE items (id int PRIMARY KEY DEFAULT next_id(), name varchar DEFAULT '5%')"
    )
    unseen.query("CREATE INDEX ix_items_name ON items (name)")
    unseen.query("CREATE INDEX ix_items_id ON items (id) WHERE id > 1")
    add(
        unseen,
        "items = Table('items', metadata, Column('name', String, server_default='5%'),",
        "    Column('id', Integer, server_default=text('next_id()'), primary_key=True),",
        "    Index('ix_items_name', 'name', postgresql_using='gin'),",
        "    Index('ix_items_id', 'id', postgresql_where=text('id > 2')))",
    )
    found = said(unseen.invoke("verify", "--deep", "--json"))["findings"]
    told = {each["name"]: each["what"] for each in found if "items" in each["what"]}
    assert sorted(told) == ["", "ix_items_id"]
    assert (
        "create_all() cannot make index ix_items_name of items (PostgreSQL: data type" in told[""]
    )
    assert sum(each["kind"] == "deep drift" for each in found) == 1 + 1 + len(UNSEEN)


def test_what_one_chain_leaves_to_another_is_compared(tmp_path: Path, database_url: str) -> None:
    """Where each chain leaves out the other's tables, the tables of both are compared."""
    project = laid_down(tmp_path / "unseen", "unseen", database_url)
    folder = project.folder
    shutil.copytree(folder / "migrations", folder / "other")
    for name, word in (("migrations", ""), ("other", "not ")):
        env = folder / name / "env.py"
        left_out = f"not (name == 'legacy' or kind == 'table' and name {word}in ['bills'])"
        text = env.read_text().replace('name != "legacy"', left_out)
        own = f"context.configure(version_table='v_{name}',"
        env.write_text(text.replace("context.configure(", own))
    (folder / "other/versions/a1_all.py").write_text(
        "from alembic import op\n"
        "revision, down_revision = 'b1', None\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE bills (id serial PRIMARY KEY CHECK (id > 1))')\n"
        "    op.execute('COMMENT ON TABLE bills IS $$old$$')\n"
    )
    ini = (folder / "alembic.ini").read_text()
    other = ini.replace("[alembic]", "[other]").replace("/migrations", "/other")
    (folder / "alembic.ini").write_text(ini + other)
    chains = '[[tool.backset.chains]]\nname = "{0}"\nsection = "{0}"\n'
    text = "".join(chains.format(each) for each in ("alembic", "other"))
    (folder / "pyproject.toml").write_text(text)
    add(project, "Table('bills', metadata, Column('id', Integer, primary_key=True), comment='new')")
    assert project.invoke("upgrade").returncode == 0
    found = said(project.invoke("verify", "--deep", "--json"))["findings"]
    names = [each["name"] for each in found if each["kind"] == "deep drift"]
    assert sorted(names) == sorted([*UNSEEN, "orders_id_seq", "bills_id_check on bills"])
    (drift,) = (each["what"] for each in found if each["kind"] == "drift")
    assert drift == "other: comment of table bills is 'old' in the database, 'new' in the models"


@pytest.mark.slow
def test_a_role_that_may_not_create_databases(owned: Project) -> None:
    """It says so, with what would give it the right, and Alembic's comparison counts."""
    assert owned.invoke("upgrade").returncode == 0
    done = owned.invoke("verify", "--deep")
    assert (done.returncode, done.stderr) == (0, "")
    assert "models and database agree as far as Alembic compares them" in done.stdout
    assert "may not create databases, so it cannot compare with what the models" in done.stdout
    assert "→ as an administrator: ALTER ROLE " in done.stdout
    assert "correct the model" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_an_async_env(unseen: Project, driver: str) -> None:
    """Its models are made on its own connection, within its event loop."""
    (unseen.folder / "migrations/env.py").write_text(ASYNC)
    url = unseen.url.replace("postgresql:", f"postgresql+{driver}:")
    there = Project(unseen.folder, {"DATABASE_URL": url})
    found = said(there.invoke("verify", "--deep", "--json"))["findings"]
    assert sum(each["kind"] == "deep drift" for each in found) == 1 + len(UNSEEN)


@pytest.mark.parametrize("flag", slow_but(["", "--no-deep"], lambda it: not it))
def test_a_squash_is_told_how_the_models_differ(unseen: Project, flag: str) -> None:
    """That is no difference of the two chains."""
    versions = unseen.folder / "migrations/versions"
    shutil.copytree(versions, unseen.folder / "old")
    done = unseen.invoke("prove-squash", "old", *filter(None, [flag]), "--json")
    content = said(done)
    assert (done.returncode, content["findings"]) == (0, []), content
    told = [each["text"] for each in content["notices"]]
    assert any("column orders.amount: default is 1" in each for each in told) == (not flag)
    assert databases(unseen) == {""}
