"""Projects whose chains are squashed in tests, each with another kind of thing in its revisions.

A project is a repository of git with its models, an env.py and `[tool.backset]`. Everything of it
is made here, by `Shape.lay_down`; `SHAPES` names them all.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent, indent
from typing import TYPE_CHECKING

import alembic

from tests.git import commit, git
from tests.project import TASKS, Project

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = "migrations/versions"
LATE = "e0late"  # a revision that somebody's branch had before the squash


@dataclass(frozen=True, kw_only=True)
class Script:
    """A revision: the bodies of its two functions, and its place in the chain."""

    id: str
    down: tuple[str, ...]
    up: str
    back: str = "pass"
    labels: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Its file."""
        down = self.down if len(self.down) > 1 else next(iter(self.down), None)
        return _SCRIPT.format(
            id=self.id,
            down=down,
            labels=self.labels or None,
            depends_on=self.depends_on or None,
            up=indent(dedent(self.up).strip(), "    "),
            back=indent(dedent(self.back).strip(), "    "),
        )


_SCRIPT = '''"""What {id} does."""

import uuid
from datetime import datetime, timezone

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = {id!r}
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = {depends_on!r}


def upgrade():
{up}


def downgrade():
{back}
'''


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A project.

    middle: revisions at which a database stopped on its way. rows, early_rows: what people write
    into one at the heads, and into one in the middle; INSERT statements. volatile: columns whose
    values every build makes anew, as `table.column`. template: that of new revisions, if it is not
    the usual one. flags: what its squash wants to be told.
    """

    name: str
    scripts: tuple[Script, ...]
    models: str
    middle: tuple[str, ...]
    rows: str
    early_rows: str
    configure: str = ""
    before: str = ""
    is_async: bool = False
    settings: str = ""
    template: str = ""
    flags: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ("public",)
    version_table: str = "alembic_version"

    @property
    def ids(self) -> tuple[str, ...]:
        """Its revisions, in their order."""
        return tuple(each.id for each in self.scripts)

    @property
    def heads(self) -> tuple[str, ...]:
        """Those which no other one follows."""
        followed = {down for each in self.scripts for down in each.down}
        return tuple(each.id for each in self.scripts if each.id not in followed)

    @property
    def late(self) -> Script:
        """A revision of a branch that was started at the head; of several, it merges them."""
        up = 'op.create_table("late", sa.Column("id", sa.Integer, primary_key=True))'
        return Script(id=LATE, down=self.heads, up=up, back='op.drop_table("late")')

    def lay_down(self, folder: Path, url: str) -> Project:
        """Make the project, committed to git."""
        versions = folder / VERSIONS
        versions.mkdir(parents=True)
        for number, each in enumerate(self.scripts):
            (versions / f"{number:04}_{each.id}.py").write_text(each.text)
        (folder / "alembic.ini").write_text(_INI)
        (folder / "migrations/env.py").write_text(self._env())
        if self.template:
            (folder / "migrations/script.py.mako").write_text(self.template)
        else:
            shutil.copy(USUAL_TEMPLATE, folder / "migrations/script.py.mako")
        (folder / "models.py").write_text(_MODELS + dedent(self.models))
        (folder / "tasks.py").write_text(TASKS)
        (folder / "pyproject.toml").write_text(f"[tool.backset]\n{dedent(self.settings)}")
        git(folder, "init", "-q", "-b", "main")
        commit(folder, "Begin")
        return Project(folder, {"DATABASE_URL": url})

    def _env(self) -> str:
        text = _ASYNC_ENV if self.is_async else _ENV
        return text.format(configure=self.configure, before=self.before or "pass")


_INI = "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = %(here)s\n"
_MODELS = """import sqlalchemy as sa
from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData()
"""
USUAL_TEMPLATE = Path(alembic.__file__).parent / "templates/generic/script.py.mako"
_SMALL_TEMPLATE = '''"""${message}."""

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''
_ENV = """import os

import sqlalchemy as sa
from alembic import context
from models import metadata

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
engine = sa.create_engine(url, poolclass=sa.NullPool)
with engine.connect() as connection:
    {before}
    context.configure(connection=connection, target_metadata=metadata{configure})
    with context.begin_transaction():
        context.run_migrations()
"""
_ASYNC_ENV = """import asyncio
import os

import sqlalchemy as sa
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine
from models import metadata


def run(connection):
    {before}
    context.configure(connection=connection, target_metadata=metadata{configure})
    with context.begin_transaction():
        context.run_migrations()


async def main():
    url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:")
    engine = create_async_engine(url, poolclass=sa.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(main())
"""


def line(*scripts: Script) -> tuple[Script, ...]:
    """Return the scripts, each behind the one before it."""
    before = [(), *((each.id,) for each in scripts)]
    return tuple(replace(each, down=down) for each, down in zip(scripts, before, strict=False))


def _sql(*statements: str) -> str:
    return "\n".join(f'op.execute("""{dedent(each)}""")' for each in statements)


def objects() -> Shape:
    """Enums, functions and triggers, views, policies, an exclusion constraint, what is computed."""
    people = """
    moods = sa.Enum("sad", "glad", name="mood")
    op.create_table(
        "people",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("mood", moods, server_default="sad", nullable=False),
        sa.Column("born", sa.Date),
        sa.Column("spare", sa.Text),
        sa.CheckConstraint("length(name) > 0", name="ck_people_name"),
    )
    op.create_table(
        "rooms",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("owner_id", sa.Integer, sa.ForeignKey("people.id", ondelete="CASCADE")),
        sa.Column("at", postgresql.TSRANGE, nullable=False),
        sa.Column("label", sa.String(80)),
        sa.Column("price", sa.Numeric(9, 2), server_default=sa.text("9.50")),
    )
    """
    no_people = 'op.drop_table("rooms")\nop.drop_table("people")\nop.execute("DROP TYPE mood")'
    touch = """
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- 100 % of them: 'it''s' \\\\ back
        IF NEW.name LIKE '%\\\\:x%' THEN RAISE NOTICE '%', NEW.name; END IF;
        NEW.touched := now(); RETURN NEW;
    END $$
    """
    add = 'op.add_column("people", sa.Column("touched", sa.DateTime(timezone=True)))\n'
    computed = """
    op.add_column(
        "people", sa.Column("slug", sa.Text, sa.Computed("lower(name)", persisted=True))
    )
    op.create_index("ix_people_lower", "people", [sa.text("lower(name)")], unique=True)
    op.create_index(
        "ix_people_glad", "people", ["born"], postgresql_where=sa.text("mood = 'glad'::mood")
    )
    op.drop_column("people", "spare")
    op.alter_column("rooms", "price", new_column_name="cost")
    """
    not_computed = """
    op.alter_column("rooms", "cost", new_column_name="price")
    op.add_column("people", sa.Column("spare", sa.Text))
    op.drop_index("ix_people_glad", "people")
    op.drop_index("ix_people_lower", "people")
    op.drop_column("people", "slug")
    """
    scripts = line(
        Script(id="a1", down=(), up=people, back=no_people),
        Script(
            id="a2",
            down=(),
            up=add
            + _sql(
                touch,
                "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON people "
                "FOR EACH ROW WHEN (NEW.name <> '') EXECUTE FUNCTION touch()",
                "COMMENT ON TABLE people IS 'who is ''here'': 100 %'",
                "COMMENT ON COLUMN people.born IS 'a day'",
            ),
            back=_sql(
                "COMMENT ON COLUMN people.born IS NULL",
                "COMMENT ON TABLE people IS NULL",
                "DROP TRIGGER touch ON people",
                "DROP FUNCTION touch()",
            )
            + '\nop.drop_column("people", "touched")',
        ),
        Script(
            id="a3",
            down=(),
            up='with op.get_context().autocommit_block():\n    op.execute("ALTER TYPE mood '
            "ADD VALUE 'calm' BEFORE 'glad'\")\n"
            + _sql(
                "CREATE VIEW glad AS SELECT id, name FROM people WHERE mood = 'glad'",
                "CREATE MATERIALIZED VIEW per_mood AS SELECT mood, count(*) FROM people GROUP BY 1",
                "CREATE UNIQUE INDEX ix_per_mood ON per_mood (mood)",
            ),
            back=_sql("DROP MATERIALIZED VIEW per_mood", "DROP VIEW glad"),
        ),
        Script(id="a4", down=(), up=computed, back=not_computed),
        Script(
            id="a5",
            down=(),
            up=_sql(
                "ALTER TABLE rooms ADD CONSTRAINT no_two EXCLUDE USING gist (at WITH &&)",
                "ALTER TABLE people ENABLE ROW LEVEL SECURITY",
                "ALTER TABLE people FORCE ROW LEVEL SECURITY",
                "CREATE POLICY everybody ON people FOR SELECT USING (name <> 'root')",
                "CREATE POLICY writers ON people AS RESTRICTIVE FOR INSERT "
                "WITH CHECK (born IS NULL OR born > '1900-01-01')",
                "CREATE DOMAIN short AS text CHECK (length(VALUE) < 9)",
                "CREATE TYPE point3 AS (x int, y int, z short)",
                "CREATE SEQUENCE tickets START 100 INCREMENT 5 MAXVALUE 9999 CYCLE",
            ),
            back=_sql(
                "DROP SEQUENCE tickets",
                "DROP TYPE point3",
                "DROP DOMAIN short",
                "DROP POLICY writers ON people",
                "DROP POLICY everybody ON people",
                "ALTER TABLE people NO FORCE ROW LEVEL SECURITY",
                "ALTER TABLE people DISABLE ROW LEVEL SECURITY",
                "ALTER TABLE rooms DROP CONSTRAINT no_two",
            ),
        ),
        Script(
            id="a6",
            down=(),
            up=_sql(
                "CREATE OR REPLACE VIEW glad AS SELECT id, name, born FROM people "
                "WHERE mood = 'glad'",
                "CREATE VIEW gladder WITH (security_barrier) AS SELECT id FROM glad "
                "WHERE born IS NOT NULL",
                "CREATE FUNCTION age_of(p people) RETURNS int LANGUAGE sql STABLE AS "
                "'SELECT extract(year FROM age(p.born))::int'",
                "CREATE PROCEDURE clear() LANGUAGE sql AS 'DELETE FROM rooms'",
            ),
            back=_sql(
                "DROP PROCEDURE clear()",
                "DROP FUNCTION age_of(people)",
                "DROP VIEW gladder",
                "DROP VIEW glad",
                "CREATE VIEW glad AS SELECT id, name FROM people WHERE mood = 'glad'",
            ),
        ),
    )
    models = """
    Table(
        "people", metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("name", sa.Text, nullable=False),
        Column(
            "mood", sa.Enum("sad", "calm", "glad", name="mood"), nullable=False,
            server_default="sad"
        ),
        Column("born", sa.Date, comment="a day"),
        Column("touched", sa.DateTime(timezone=True)),
        Column("slug", sa.Text, sa.Computed("lower(name)", persisted=True)),
        sa.CheckConstraint("length(name) > 0", name="ck_people_name"),
        sa.Index("ix_people_lower", sa.text("lower(name)"), unique=True),
        sa.Index("ix_people_glad", "born", postgresql_where=sa.text("mood = 'glad'::mood")),
        comment="who is 'here': 100 %",
    )
    Table(
        "rooms", metadata,
        Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        Column("owner_id", sa.Integer, sa.ForeignKey("people.id", ondelete="CASCADE")),
        Column("at", postgresql.TSRANGE, nullable=False),
        Column("label", sa.String(80)),
        Column("cost", sa.Numeric(9, 2), server_default=sa.text("9.50")),
    )
    """
    early = """
    INSERT INTO people (name, mood, born)
    VALUES ('Ann', 'glad', '1990-01-01'), ('Bob', 'sad', NULL);
    INSERT INTO rooms (owner_id, at) SELECT id, '[2024-01-01, 2024-02-01)' FROM people LIMIT 1
    """
    return Shape(
        name="objects",
        scripts=scripts,
        models=models,
        middle=("a3",),
        rows=early + "; INSERT INTO people (name, mood) VALUES ('Cid', 'calm')",
        early_rows=early,
        template=_SMALL_TEMPLATE,
    )


def rows() -> Shape:
    """Rows that migrations insert, change and take away, with sequences and awkward values."""
    scripts = line(
        Script(
            id="b1",
            down=(),
            up="""
            roles = op.create_table(
                "roles",
                sa.Column("id", sa.Integer, primary_key=True),
                sa.Column("name", sa.Text, nullable=False, unique=True),
            )
            op.create_table(
                "settings",
                sa.Column("key", sa.Text, primary_key=True),
                sa.Column("value", postgresql.JSONB),
            )
            op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True),
                            sa.Column("role_id", sa.Integer, sa.ForeignKey("roles.id")),
                            sa.Column("text", sa.Text))
            op.bulk_insert(roles, [{"name": each} for each in ("admin", "user", "guest", "spare")])
            """,
            back='op.drop_table("notes")\nop.drop_table("settings")\nop.drop_table("roles")',
        ),
        Script(
            id="b2",
            down=(),
            up=_sql(
                """INSERT INTO settings VALUES ('colour', '{"a": [1, null, "it''s %s"]}')""",
                "INSERT INTO settings VALUES ('empty', NULL), ('null', 'null')",
                "DELETE FROM roles WHERE name = 'spare'",
            ),
            back=_sql("DELETE FROM settings", "INSERT INTO roles (name) VALUES ('spare')"),
        ),
        Script(
            id="b3",
            down=(),
            up="""
            op.add_column("roles", sa.Column("rank", sa.SmallInteger))
            roles = sa.table("roles", sa.column("id"), sa.column("name"), sa.column("rank"))
            bind = op.get_bind()
            for number, (id_,) in enumerate(bind.execute(sa.select(roles.c.id).order_by("id"))):
                bind.execute(roles.update().where(roles.c.id == id_).values(rank=10 * number))
            op.execute("UPDATE roles SET name = 'member' WHERE name = 'user'")
            op.alter_column("roles", "rank", nullable=False)
            """,
            back="""
            op.execute("UPDATE roles SET name = 'user' WHERE name = 'member'")
            op.drop_column("roles", "rank")
            """,
        ),
        Script(
            id="b4",
            down=(),
            up="""
            kinds = op.create_table(
                "kinds",
                sa.Column("id", sa.BigInteger, sa.Identity(start=7), primary_key=True),
                sa.Column("parent_id", sa.BigInteger, sa.ForeignKey("kinds.id")),
                sa.Column("raw", sa.LargeBinary),
                sa.Column("tags", postgresql.ARRAY(sa.Text)),
                sa.Column("much", sa.Numeric),
                sa.Column("many", sa.Float),
                sa.Column("text", sa.Text),
                sa.Column("at", sa.DateTime(timezone=True)),
                sa.Column("on", sa.Boolean, server_default=sa.false(), nullable=False),
            )
            op.bulk_insert(kinds, [
                {"raw": b"\\x00\\xff'", "tags": ["a,b", 'c"d', "", None], "much": 1, "many": 0.1,
                 "text": "new\\nline\\ttab :colon %percent% \\\\ 'quote' \\"double\\" {brace} ü 🙂",
                 "at": datetime(2024, 2, 29, 12, tzinfo=timezone.utc), "on": True},
            ])
            op.execute("INSERT INTO kinds (parent_id, much, many, at, text) "
                       "VALUES (7, 'NaN', 'Infinity', 'infinity', ''), "
                       "(NULL, 1e30, -0.0, NULL, NULL)")
            """,
            back='op.drop_table("kinds")',
        ),
        Script(
            id="b5",
            down=(),
            up="""
            op.create_table(
                "rights",
                sa.Column("role_id", sa.Integer, sa.ForeignKey("roles.id"), primary_key=True),
                sa.Column("kind_id", sa.BigInteger, sa.ForeignKey("kinds.id"), primary_key=True),
            )
            op.execute("INSERT INTO rights SELECT r.id, k.id FROM roles r, kinds k")
            op.execute("SELECT setval('roles_id_seq', 1000)")
            op.execute("ALTER TABLE kinds ALTER COLUMN id RESTART WITH 500")
            """,
            back='op.drop_table("rights")',
        ),
    )
    models = """
    Table(
        "roles", metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("name", sa.Text, nullable=False, unique=True),
        Column("rank", sa.SmallInteger, nullable=False),
    )
    Table(
        "settings", metadata,
        Column("key", sa.Text, primary_key=True),
        Column("value", postgresql.JSONB),
    )
    Table(
        "notes", metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("role_id", sa.Integer, sa.ForeignKey("roles.id")),
        Column("text", sa.Text),
    )
    Table(
        "kinds", metadata,
        Column("id", sa.BigInteger, sa.Identity(start=7), primary_key=True),
        Column("parent_id", sa.BigInteger, sa.ForeignKey("kinds.id")),
        Column("raw", sa.LargeBinary),
        Column("tags", postgresql.ARRAY(sa.Text)),
        Column("much", sa.Numeric),
        Column("many", sa.Float),
        Column("text", sa.Text),
        Column("at", sa.DateTime(timezone=True)),
        Column("on", sa.Boolean, server_default=sa.false(), nullable=False),
    )
    Table(
        "rights", metadata,
        Column("role_id", sa.Integer, sa.ForeignKey("roles.id"), primary_key=True),
        Column("kind_id", sa.BigInteger, sa.ForeignKey("kinds.id"), primary_key=True),
    )
    """
    early = """
    INSERT INTO notes (role_id, text) VALUES (1, 'one'), (2, 'two'), (NULL, 'none');
    INSERT INTO settings VALUES ('mine', '[]')
    """
    at_head = (
        "; INSERT INTO roles (name, rank) VALUES ('mine', 1); INSERT INTO rights VALUES (1001, 8)"
    )
    return Shape(
        name="rows",
        scripts=scripts,
        models=models,
        middle=("b2",),
        rows=early + at_head,
        early_rows=early,
        settings="[tool.backset.rows]\nroles = 3\nkinds = 3\n",
    )


def anew() -> Shape:
    """Keys and times that every build makes anew: by the server's defaults, and by Python."""
    scripts = line(
        Script(
            id="c1",
            down=(),
            up="""
            op.execute("CREATE TABLE plans (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "
                       "name text NOT NULL, made timestamptz NOT NULL DEFAULT now())")
            op.execute("INSERT INTO plans (name) VALUES ('free'), ('paid')")
            """,
            back='op.drop_table("plans")',
        ),
        Script(
            id="c2",
            down=(),
            up="""
            prices = op.create_table(
                "prices",
                sa.Column("id", sa.Uuid, primary_key=True),
                sa.Column("plan_id", sa.Uuid, sa.ForeignKey("plans.id"), nullable=False),
                sa.Column("cents", sa.Integer, nullable=False),
                sa.Column("made", sa.DateTime(timezone=True)),
            )
            found = op.get_bind().execute(sa.text("SELECT id, name FROM plans ORDER BY name"))
            op.bulk_insert(prices, [
                {"id": uuid.uuid4(), "plan_id": id_, "cents": len(name) * 100,
                 "made": datetime.now(timezone.utc)}
                for id_, name in found
            ])
            """,
            back='op.drop_table("prices")',
        ),
        Script(
            id="c3",
            down=(),
            up="""
            op.execute("INSERT INTO plans (name) VALUES ('best')")
            op.execute("UPDATE plans SET made = clock_timestamp() WHERE name = 'free'")
            op.create_index("ix_prices_cents", "prices", ["cents"])
            """,
            back="""
            op.drop_index("ix_prices_cents", "prices")
            op.execute("DELETE FROM plans WHERE name = 'best'")
            """,
        ),
    )
    models = """
    Table(
        "plans", metadata,
        Column("id", sa.Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()")),
        Column("name", sa.Text, nullable=False),
        Column("made", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )
    Table(
        "prices", metadata,
        Column("id", sa.Uuid, primary_key=True),
        Column("plan_id", sa.Uuid, sa.ForeignKey("plans.id"), nullable=False),
        Column("cents", sa.Integer, nullable=False, index=True),
        Column("made", sa.DateTime(timezone=True)),
    )
    """
    mine = "INSERT INTO plans (name) VALUES ('mine')"
    return Shape(
        name="anew",
        scripts=scripts,
        models=models,
        middle=("c1",),
        rows=mine,
        early_rows=mine,
        flags=("--rows", "keep"),
        volatile=("plans.id", "plans.made", "prices.id", "prices.plan_id", "prices.made"),
    )


def branches() -> Shape:
    """Two branches with labels, a merge, two heads, and one that depends on another."""

    def table(name: str) -> tuple[str, str]:
        made = f'op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True))'
        return made, f'op.drop_table("{name}")'

    def script(
        id_: str,
        *down: str,
        labels: tuple[str, ...] = (),
        depends_on: tuple[str, ...] = (),
    ) -> Script:
        up, back = table(f"t_{id_}")
        return Script(id=id_, down=down, up=up, back=back, labels=labels, depends_on=depends_on)

    scripts = (
        script("d1"),
        script("d2l", "d1", labels=("left",)),
        script("d2r", "d1", labels=("right",)),
        script("d3l", "d2l"),
        replace(script("d4m", "d3l", "d2r"), up="pass", back="pass"),
        script("d5", "d4m"),
        script("x1", labels=("audit",)),
        replace(
            script("x2", "x1", depends_on=("d5",)),
            up='op.add_column("t_x1", sa.Column("d5_id", sa.Integer, sa.ForeignKey("t_d5.id")))',
            back='op.drop_column("t_x1", "d5_id")',
        ),
        script("d6", "d5"),
    )
    names = ("d1", "d2l", "d2r", "d3l", "d5", "d6")
    models = "\n".join(
        f'Table("t_{each}", metadata, Column("id", sa.Integer, primary_key=True))' for each in names
    )
    models += (
        '\nTable("t_x1", metadata, Column("id", sa.Integer, primary_key=True), '
        'Column("d5_id", sa.Integer, sa.ForeignKey("t_d5.id")))\n'
    )
    return Shape(
        name="branches",
        scripts=scripts,
        models=models,
        middle=("d3l", "d2r"),
        rows="INSERT INTO t_d5 VALUES (DEFAULT), (DEFAULT); INSERT INTO t_x1 (d5_id) VALUES (2)",
        early_rows="INSERT INTO t_d1 DEFAULT VALUES; INSERT INTO t_d2r DEFAULT VALUES",
        settings='heads = "all"\n',
    )


def schemas() -> Shape:
    """Two schemas, partitions, and the version table in a third schema."""
    scripts = line(
        Script(
            id="f1",
            down=(),
            up='op.execute("CREATE SCHEMA app")\nop.execute("CREATE SCHEMA audit")\n'
            'op.create_table("users", sa.Column("id", sa.Integer, primary_key=True), '
            'sa.Column("name", sa.Text), schema="app")',
            back='op.drop_table("users", schema="app")\n'
            'op.execute("DROP SCHEMA audit")\nop.execute("DROP SCHEMA app")',
        ),
        Script(
            id="f2",
            down=(),
            up=_sql(
                "CREATE TABLE audit.events (id bigserial, day date NOT NULL, "
                "user_id int REFERENCES app.users, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
                "CREATE TABLE audit.events_2024 PARTITION OF audit.events "
                "FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
                "CREATE TABLE audit.events_rest PARTITION OF audit.events DEFAULT",
                "CREATE INDEX ix_events_user ON audit.events (user_id)",
            ),
            back=_sql("DROP TABLE audit.events"),
        ),
        Script(
            id="f3",
            down=(),
            up=_sql(
                "CREATE TYPE app.state AS ENUM ('new', 'old')",
                "ALTER TABLE app.users ADD COLUMN state app.state NOT NULL DEFAULT 'new'",
                "CREATE FUNCTION app.count_of(s app.state) RETURNS bigint LANGUAGE sql AS "
                "'SELECT count(*) FROM app.users WHERE state = s'",
                "CREATE TABLE audit.by_kind (kind text, n int) PARTITION BY LIST (kind)",
                "CREATE TABLE audit.by_kind_a PARTITION OF audit.by_kind FOR VALUES IN ('a') "
                "PARTITION BY HASH (n)",
                "CREATE TABLE audit.by_kind_a0 PARTITION OF audit.by_kind_a "
                "FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
                "CREATE VIEW app.newest AS SELECT * FROM app.users WHERE state = 'new'",
                "INSERT INTO app.users (name) VALUES ('root')",
                "INSERT INTO audit.events (day, user_id) VALUES ('2024-05-05', 1), "
                "('2030-01-01', 1)",
            ),
            back=_sql(
                "DELETE FROM audit.events",
                "DELETE FROM app.users",
                "DROP VIEW app.newest",
                "DROP TABLE audit.by_kind",
                "DROP FUNCTION app.count_of(app.state)",
                "ALTER TABLE app.users DROP COLUMN state",
                "DROP TYPE app.state",
            ),
        ),
    )
    models = """
    Table(
        "users", metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("name", sa.Text),
        Column(
            "state", sa.Enum("new", "old", name="state", schema="app"), nullable=False,
            server_default="new"
        ),
        schema="app",
    )
    """
    early = """
    INSERT INTO app.users (name) VALUES ('Ann');
    INSERT INTO audit.events (day, user_id)
    SELECT '2024-06-06', id FROM app.users WHERE name = 'Ann'
    """
    return Shape(
        name="schemas",
        scripts=scripts,
        models=models,
        middle=("f2",),
        rows=early + "; INSERT INTO audit.by_kind VALUES ('a', 3)",
        early_rows=early,
        before='connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS meta"))\n'
        "    connection.commit()",
        configure=", include_schemas=True, version_table='history', version_table_schema='meta',"
        "\n        include_name=lambda name, kind, parent: kind != 'schema' or name == 'app'",
        schemas=("app", "audit", "public"),
        version_table="meta.history",
    )


def asynchronous() -> Shape:
    """An env.py that runs in asyncio, with a driver that takes one statement at a time."""
    scripts = line(
        Script(
            id="g1",
            down=(),
            up="""
            kinds = op.create_table(
                "kinds",
                sa.Column("id", sa.Integer, primary_key=True),
                sa.Column("at", sa.DateTime(timezone=True)),
                sa.Column("body", postgresql.JSONB),
            )
            op.bulk_insert(kinds, [
                {"at": datetime(2024, 1, 1, tzinfo=timezone.utc), "body": {"a": "$1 :b %s"}},
                {"at": None, "body": [1, 2]},
            ])
            """,
            back='op.drop_table("kinds")',
        ),
        Script(
            id="g2",
            down=(),
            up=_sql(
                "CREATE TYPE colour AS ENUM ('red', 'green')",
                "ALTER TABLE kinds ADD COLUMN colour colour",
                "CREATE FUNCTION twice(x int) RETURNS int LANGUAGE plpgsql AS "
                "$body$ BEGIN RETURN 2 * x; END; $body$",
            ),
            back=_sql(
                "DROP FUNCTION twice(int)",
                "ALTER TABLE kinds DROP COLUMN colour",
                "DROP TYPE colour",
            ),
        ),
        Script(
            id="g3",
            down=(),
            up='with op.get_context().autocommit_block():\n    op.create_index("ix_kinds_at", '
            '"kinds", ["at"], postgresql_concurrently=True)\n'
            "op.execute(\"UPDATE kinds SET colour = 'red' WHERE id = 1\")",
            back='op.drop_index("ix_kinds_at", "kinds")',
        ),
    )
    models = """
    Table(
        "kinds", metadata,
        Column("id", sa.Integer, primary_key=True),
        Column("at", sa.DateTime(timezone=True), index=True),
        Column("body", postgresql.JSONB),
        Column("colour", sa.Enum("red", "green", name="colour")),
    )
    """
    mine = "INSERT INTO kinds (body) VALUES ('\"mine\"')"
    return Shape(
        name="asynchronous",
        scripts=scripts,
        models=models,
        middle=("g1",),
        rows=mine,
        early_rows=mine,
        is_async=True,
    )


def long(revisions: int = 400) -> Shape:
    """Many revisions: each tenth makes a table, the others change the youngest."""
    scripts, models = [], []
    for number in range(revisions):
        table, place = f"t{number // 10}", number % 10
        if place == 0:
            reference = (
                f', sa.Column("before_id", sa.Integer, sa.ForeignKey("t{number // 10 - 1}.id"))'
            )
            columns = 'sa.Column("id", sa.Integer, primary_key=True)' + reference * (number > 0)
            up, back = f'op.create_table("{table}", {columns})', f'op.drop_table("{table}")'
            models.append([columns.replace("sa.Column", "Column")])
        elif place % 5 == 4:
            up = f'op.create_index("ix_{table}_{place}", "{table}", ["c{place - 1}"])'
            back = f'op.drop_index("ix_{table}_{place}", "{table}")'
            models[-1].append(f'sa.Index("ix_{table}_{place}", "c{place - 1}")')
        else:
            type_ = ("sa.Integer", "sa.Text", "sa.Boolean", "sa.Numeric(9, 2)")[place % 4]
            up = f'op.add_column("{table}", sa.Column("c{place}", {type_}))'
            back = f'op.drop_column("{table}", "c{place}")'
            models[-1].append(f'Column("c{place}", {type_})')
        scripts.append(Script(id=f"h{number:04}", down=(), up=up, back=back))
    tables = [
        f'Table("t{number}", metadata, {", ".join(each)})' for number, each in enumerate(models)
    ]
    mine = "INSERT INTO t0 (c3) VALUES (1.5), (NULL)"
    return Shape(
        name="long",
        scripts=line(*scripts),
        models="\n".join(tables) + "\n",
        middle=(f"h{revisions // 2:04}",),
        rows=mine,
        early_rows=mine,
    )


SHAPES: dict[str, Callable[[], Shape]] = {
    each.__name__: each for each in (objects, rows, anew, branches, schemas, asynchronous, long)
}
