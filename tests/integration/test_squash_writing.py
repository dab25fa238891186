"""What a chain has made is written as one migration, which makes exactly the same."""

from __future__ import annotations

import ast
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy
from hypothesis import example, given
from hypothesis import strategies as st

from backset.catalog import schema
from backset.catalog.schema import Sides
from backset.migrate.worker import Worker
from backset.prove import rows, scratch
from backset.revisions import script_files
from backset.runs.run import Run
from backset.servers.programs import Programs
from backset.settings.reader import load
from backset.squash import layout, statements, writing
from tests.conftest import ROLE
from tests.incident.project import run_alembic
from tests.marks import slow_but
from tests.project import Project

if TYPE_CHECKING:
    from backset.catalog.schema import Difference
    from backset.squash.writing import Body

VOLATILE = {"users": {"at"}, "app.items": {"at"}}
SIDES = Sides("the old chain", "the new chain")
HERE = Path(__file__).parent
ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+{driver}:")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
ASYNC = """
import asyncio
import os
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:")
def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
async def main():
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()
asyncio.run(main())
"""
MAKO = """\"\"\"${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}

\"\"\"
from typing import Sequence, Union

from alembic import op

# revision identifiers, used by Alembic.
revision: str = ${repr(up_revision)}
down_revision: Union[str, Sequence[str], None] = ${repr(down_revision)}
branch_labels: Union[str, Sequence[str], None] = ${repr(branch_labels)}
depends_on: Union[str, Sequence[str], None] = ${repr(depends_on)}


def upgrade() -> None:
    \"\"\"Upgrade schema.\"\"\"
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    \"\"\"Downgrade schema.\"\"\"
    ${downgrades if downgrades else "pass"}
"""


@dataclass(frozen=True)
class Squashed:
    """A migration, and how what it makes differs from what it was made of; `left` by downgrade."""

    body: Body
    text: str
    differences: list[Difference]
    left: list[Difference]

    @property
    def told(self) -> list[str]:
        """All of that in words."""
        both = [*self.differences, *self.left]
        return [str(each) for each in both if each.what != "volatile"]


def chain(
    tmp_path: Path, url: str, *scripts: str, env: str = ENV, driver: str = "psycopg"
) -> Project:
    """Return a project with a revision for each script of SQL."""
    folder = tmp_path / "chain"
    (folder / "migrations/versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\n")
    (folder / "migrations/env.py").write_text(env.replace("{driver}", driver))
    (folder / "migrations/script.py.mako").write_text(MAKO)
    down = None
    for number, script in enumerate(scripts, 1):
        lines = layout.joined([*map(layout.execute, statements.split(script))])
        (folder / f"migrations/versions/r{number}_made.py").write_text(
            f"from alembic import op\nrevision, down_revision = 'r{number}', {down!r}\n"
            f"def upgrade():\n{layout.indented(lines)}\n"
        )
        down = f"r{number}"
    return Project(folder, {"DATABASE_URL": url})


def squashed(project: Project, *, as_sql: bool = False, since: str = "") -> Squashed:
    """Write a migration that replaces the chain of a project, and try it.

    since: the revision below the first one that is replaced.
    """
    settings = load(project.folder, {"DATABASE_URL": project.url, "PATH": "/usr/bin:/bin"})
    assert settings.target is not None
    folder = project.folder / "written"
    programs = Programs(settings.environ, settings.root)
    with Run(settings, settings.target, "test", beside=False) as run, ExitStack() as stack:
        run.open()
        names = run.server.names
        scratch.prepare(run, names.scratches, "test")
        with scratch.created(run, names.scratch_old) as old:
            before = old.schema()
            old.upgrade()
            below = None
            if since:
                low = stack.enter_context(scratch.created(run, names.scratch))
                low.workers[0].upgrade(low.session, to=[since])
                below = writing.Below(made=low, worker=low.workers[0])
            body = writing.read(
                *(old, old.workers[0], programs),
                rows=True,
                as_sql=as_sql,
                before=before,
                below=below,
            )
            stack.close()
            path = writing.write(
                *(old.workers[0], body),
                folder=folder,
                revision="5c4a",
                message="all of it",
                down=[since] if since else [],
                replaces=["r1"],
            )
            items, inserted = old.schema(), rows.read(old.session)
            stand = rows.sequences(old.session)
        for each in sorted((project.folder / "migrations/versions").glob("*.py")):
            if since and each.stem.partition("_")[0] <= since:
                shutil.copy(each, folder)
        with scratch.created(run, names.scratch, versions=folder) as new:
            if since:
                new.workers[0].upgrade(new.session, to=[since])
                before, lower = new.schema(), rows.read(new.session)
            new.upgrade()
            made = rows.read(new.session)
            found = schema.between(items, new.schema(), SIDES)
            found += rows.between(inserted, made, SIDES, VOLATILE)
            assert stand == rows.sequences(new.session)
            if since:
                run_down(project, new, folder, since)
            else:
                new.downgrade()
            left = schema.between(before, new.schema(), SIDES)
            if since:
                left += rows.between(lower, rows.read(new.session), SIDES, VOLATILE)
    text = path.read_text()
    compile(text, str(path), "exec")
    return Squashed(body, text, found, left)


def run_down(project: Project, made: scratch.Scratch, folder: Path, to: str) -> None:
    """Take the last revision back."""
    versions = project.folder / "migrations/versions"
    shutil.rmtree(versions)
    shutil.copytree(folder, versions)
    done = run_alembic(project.folder, made.target.url, "downgrade", to)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("as_sql", slow_but([False, True], lambda as_sql: not as_sql))
@pytest.mark.parametrize("script", ["everything", "rich"])
def test_what_a_database_can_hold(
    database_url: str, tmp_path: Path, script: str, *, as_sql: bool
) -> None:
    """Whatever a database can hold is made again, as operations and as SQL, and taken back."""
    text = (HERE / f"{script}.sql").read_text(encoding="utf-8")
    text = text.replace("SELECT lo_create(0), lo_create(0);\n", "")
    done = squashed(chain(tmp_path, database_url, text), as_sql=as_sql)
    assert done.told == []


ORDINARY = r"""
CREATE SCHEMA audit;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s');
CREATE DOMAIN email AS text CHECK (VALUE ~ '@');
CREATE FUNCTION short(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT left($1, 3)';
CREATE TABLE users (
    id serial PRIMARY KEY, name varchar(40) NOT NULL, mail email, mood mood DEFAULT 'ok' NOT NULL,
    moods mood[], born date, at timestamptz DEFAULT now() NOT NULL,
    data jsonb DEFAULT '{"a": ":x%"}', price numeric(8, 2),
    is_admin boolean DEFAULT false NOT NULL, team_id int, boss_id int REFERENCES users (id),
    nick text GENERATED ALWAYS AS (short(name)) STORED,
    CONSTRAINT ck_price CHECK (price > 0 AND name NOT LIKE '%%:x%'), UNIQUE (name, mail)
);
CREATE TABLE teams (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
    leader_id int CONSTRAINT leads REFERENCES users (id) ON DELETE SET NULL DEFERRABLE, mood mood
);
ALTER TABLE users ADD CONSTRAINT fk_team FOREIGN KEY (team_id) REFERENCES teams (id);
COMMENT ON TABLE users IS 'people, as "they" are: 100%';
COMMENT ON COLUMN users.name IS 'it''s :name';
CREATE INDEX ix_users_at ON users (at DESC);
CREATE INDEX ix_users_lower ON users (lower(name)) WHERE is_admin;
CREATE UNIQUE INDEX ix_users_mail ON users (mail) INCLUDE (name);
CREATE INDEX ix_users_sum ON users ((team_id + boss_id), (name || ':x%'));
CREATE INDEX ix_users_last ON users ((team_id + id) DESC, lower(name) text_pattern_ops);
CREATE INDEX ix_users_odd ON users (id) WHERE name <> ':x%';
CREATE INDEX ix_users_data ON users USING gin (data jsonb_path_ops);
CREATE TABLE audit.entries (
    user_id int NOT NULL REFERENCES users ON DELETE CASCADE, number smallint, what text,
    PRIMARY KEY (user_id, number)
);
CREATE TABLE pairs (
    id int PRIMARY KEY, other int REFERENCES pairs (id) DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE pairs ENABLE ROW LEVEL SECURITY;
CREATE TABLE codes (code char(2) PRIMARY KEY, words text, is_old boolean, number bigint);
CREATE TABLE plain (id int PRIMARY KEY, words varchar(50), is_old boolean, number bigint);
CREATE FUNCTION is_rich(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 3';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'fired: %, :x, \d', tg_name;
END
$$;
CREATE FUNCTION rich() RETURNS SETOF users LANGUAGE sql AS 'SELECT * FROM users WHERE is_rich(id)';
CREATE TRIGGER gone BEFORE DELETE ON plain FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER touch BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE users DISABLE TRIGGER touch;
INSERT INTO users (name, mail, mood, moods, born, data, price, boss_id) VALUES
    ('a :b \:c %s %% "q" ''s', 'a@b', 'it''s', '{sad,ok}', '2024-02-29', '{"a": [":x"]}', 1.5, 2),
    ('second
line', NULL, 'sad', NULL, NULL, NULL, NULL, NULL);
ALTER TABLE users ENABLE TRIGGER touch;
INSERT INTO teams (name, leader_id) VALUES ('one', 1), ('two', NULL);
ALTER TABLE codes ADD counted serial;
ALTER TABLE codes RENAME TO codes_of_old;
INSERT INTO codes_of_old VALUES ('aa', 'x: y, C:\d :z', true, 9000000000), ('bb', NULL, false, -1);
ALTER SEQUENCE codes_counted_seq RESTART WITH 500;
INSERT INTO pairs VALUES (1, 2), (2, 1);
INSERT INTO plain VALUES (1, 'x: y, C:\d :z %(a)s', true, 9000000000), (2, NULL, false, -1);
INSERT INTO plain SELECT n, 'n', true, n FROM generate_series(10, 12) AS n;
UPDATE users SET team_id = 1 WHERE id = 1;
CREATE VIEW admins AS SELECT id, name FROM users WHERE is_admin;
CREATE MATERIALIZED VIEW numbers AS SELECT mood, count(*) FROM users GROUP BY mood;
CREATE INDEX ON numbers (mood);
"""


@pytest.mark.parametrize(
    "driver", slow_but(["psycopg", "psycopg2", "asyncpg"], lambda driver: driver == "asyncpg")
)
def test_an_ordinary_chain(database_url: str, tmp_path: Path, driver: str) -> None:
    """Its tables are operations of Alembic, its rows are there, whatever driver env.py has."""
    env = ASYNC if driver == "asyncpg" else ENV
    done = squashed(chain(tmp_path, database_url, ORDINARY, env=env, driver=driver))
    assert done.told == []
    made = [each for each in done.body.plain if each.startswith(("table ", "index "))]
    assert made == ["index public.ix_users_last", "index public.numbers_mood_idx"]
    assert "setval('public.codes_counted_seq', 500, false)" in done.text
    assert done.text.index('{"id": 2,') < done.text.index('{"id": 10,'), "as numbers, not as texts"


CHANGES = r"""
ALTER TYPE mood ADD VALUE 'fine' AFTER 'sad';
CREATE TYPE kind AS ENUM ('a', 'b');
ALTER TABLE users ADD kind kind DEFAULT 'a' NOT NULL, ADD score int, DROP COLUMN born;
UPDATE users SET score = id * 10;
ALTER TABLE users ALTER score SET NOT NULL, ALTER price TYPE numeric(10, 3), ALTER mail TYPE text;
ALTER TABLE users ALTER is_admin SET DEFAULT true, ALTER mood DROP DEFAULT;
ALTER TABLE users DROP CONSTRAINT ck_price, ADD CONSTRAINT ck_score CHECK (score > 0);
ALTER TABLE users ADD CONSTRAINT uq_score UNIQUE (score);
COMMENT ON TABLE users IS 'others';
COMMENT ON COLUMN users.name IS NULL;
COMMENT ON COLUMN users.score IS 'points';
DROP INDEX ix_users_at;
CREATE INDEX ix_users_at ON users (at, score);
DROP TABLE audit.entries;
DROP SCHEMA audit;
CREATE TABLE badges (id serial PRIMARY KEY, user_id int REFERENCES users (id), kind kind);
INSERT INTO badges (user_id, kind) VALUES (1, 'b');
ALTER TABLE plain DISABLE TRIGGER gone;
DELETE FROM plain WHERE id = 2;
ALTER TABLE plain ENABLE TRIGGER gone;
UPDATE plain SET words = 'others' WHERE id = 1;
INSERT INTO plain VALUES (3, 'third', true, 3);
CREATE OR REPLACE FUNCTION short(text) RETURNS text LANGUAGE sql IMMUTABLE
    AS 'SELECT left($1, 4)';
CREATE SEQUENCE counter;
ALTER TABLE badges ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON badges USING (user_id > 0);
DROP MATERIALIZED VIEW numbers;
CREATE VIEW ranked AS SELECT id, score FROM users ORDER BY score;
DROP FUNCTION rich();
ALTER DOMAIN email DROP CONSTRAINT email_check;
ALTER DOMAIN email ADD CONSTRAINT is_mail CHECK (VALUE ~ '@.');
GRANT SELECT ON badges TO PUBLIC;
GRANT SELECT ON users TO PUBLIC;
"""


@pytest.mark.slow
def test_a_part_of_a_chain(database_url: str, tmp_path: Path) -> None:
    """What a part has changed is written as changes, which can be taken back."""
    first = ORDINARY + "CREATE INDEX ON numbers (mood);"
    views = "DROP VIEW admins;"
    again = "CREATE VIEW admins AS SELECT id, name FROM users WHERE is_admin;"
    one, _, two = CHANGES.partition("CREATE TABLE badges")
    two = f"CREATE TABLE badges{two}"
    done = squashed(chain(tmp_path, database_url, first, views + one + again, two), since="r1")
    assert [str(each) for each in done.differences if not each.minor] == []
    assert [each.what for each in done.left] == ["order"], "a column that comes back is the last"
    assert done.body.unsaid == ()


BASE_TYPE = """
CREATE TYPE base; CREATE FUNCTION base_in(cstring) RETURNS base LANGUAGE internal IMMUTABLE STRICT
AS 'int4in'; CREATE FUNCTION base_out(base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT
AS 'int4out'; CREATE TYPE base (INPUT = base_in, OUTPUT = base_out, LIKE = int4);
CREATE TABLE of_base (a base);
"""
# NOT NULL that says more than a column can. PostgreSQL knows it since 18.
NOT_NULL = """
CREATE TABLE alone (a int CONSTRAINT own NOT NULL NO INHERIT, id int PRIMARY KEY);
CREATE TABLE later (a int, b int); ALTER TABLE later ADD CONSTRAINT own NOT NULL a NOT VALID;
CREATE TABLE said (a int CONSTRAINT own NOT NULL);
COMMENT ON CONSTRAINT own ON said IS 'of its own';
"""


def test_what_a_column_cannot_say(database_url: str, tmp_path: Path) -> None:
    """A base type with its functions, and NOT NULL with words of its own, come back, and go."""
    done = squashed(chain(tmp_path, database_url, BASE_TYPE, _known(database_url, NOT_NULL)))
    assert done.told == []


def _known(url: str, statements: str) -> str:
    with psycopg.connect(url) as session:
        return statements if session.info.server_version >= 180000 else "SELECT 1"


_L = """
CREATE FUNCTION l_handler() RETURNS language_handler LANGUAGE c
AS '$libdir/plpgsql', 'plpgsql_call_handler';
"""
# of a part: what stands before it, what it does
PARTS = {
    "NO INHERIT comes": (
        "CREATE TABLE t (a int, b int NOT NULL); CREATE TABLE u (a int)",
        (
            "ALTER TABLE t ADD NOT NULL a NO INHERIT; ALTER TABLE t ALTER b DROP NOT NULL;"
            "ALTER TABLE t ADD NOT NULL b NOT VALID; ALTER TABLE u ADD b int NOT NULL NO INHERIT;"
            "ALTER TABLE u ADD c int DEFAULT 3; ALTER TABLE u ADD CONSTRAINT n NOT NULL c NOT VALID"
        ),
    ),
    "NOT VALID goes": (
        (
            "CREATE TABLE t (a int, b int); ALTER TABLE t ADD CONSTRAINT n NOT NULL a NOT VALID;"
            "ALTER TABLE t ADD CONSTRAINT m NOT NULL b NOT VALID"
        ),
        "ALTER TABLE t VALIDATE CONSTRAINT n; ALTER TABLE t DROP CONSTRAINT m",
    ),
    "a collation": (
        "CREATE COLLATION c (locale = 'C')",
        (
            "DROP COLLATION c; CREATE COLLATION c (locale = 'POSIX');"
            "COMMENT ON COLLATION c IS 'words'; CREATE TABLE t (a text COLLATE c)"
        ),
    ),
    "a language": (
        f"{_L} CREATE LANGUAGE l HANDLER l_handler",
        "DROP LANGUAGE l; CREATE TRUSTED LANGUAGE l HANDLER l_handler",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PARTS)
def test_a_part_that_makes_something_anew(database_url: str, tmp_path: Path, case: str) -> None:
    """What has changed is dropped before it is made, and so is a plain NOT NULL."""
    first, part = (_known(database_url, each) if "NO" in case else each for each in PARTS[case])
    done = squashed(chain(tmp_path, database_url, first, part), since="r1")
    assert (done.told, done.body.unsaid) == ([], ())


# likewise, with the key of what is not written
HELD = {
    "collation public.c": (
        "CREATE COLLATION c (locale = 'C'); CREATE TABLE t (a text COLLATE c)",
        (
            "DROP TABLE t; DROP COLLATION c; CREATE COLLATION c (locale = 'POSIX');"
            "CREATE TABLE t (a text COLLATE c)"
        ),
    ),
    "language l": (
        (
            f"{_L} CREATE LANGUAGE l HANDLER l_handler;"
            "CREATE FUNCTION f() RETURNS int LANGUAGE l AS 'BEGIN RETURN 1; END'"
        ),
        (
            "DROP FUNCTION f(); DROP LANGUAGE l; CREATE TRUSTED LANGUAGE l HANDLER l_handler;"
            "CREATE FUNCTION f() RETURNS int LANGUAGE l AS 'BEGIN RETURN 1; END'"
        ),
    ),
    "function public.f(integer)": (
        (
            "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
            "CREATE TABLE t (a int DEFAULT f(1))"
        ),
        (
            "ALTER TABLE t ALTER a DROP DEFAULT; DROP FUNCTION f(int);"
            "CREATE FUNCTION f(x int) RETURNS bigint LANGUAGE sql AS 'SELECT 1';"
            "ALTER TABLE t ALTER a SET DEFAULT f(1)"
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("key", HELD)
def test_what_cannot_be_made_anew_is_named(database_url: str, tmp_path: Path, key: str) -> None:
    """Something that stays needs it: it is not written, and the proof tells the difference."""
    done = squashed(chain(tmp_path, database_url, *HELD[key]), since="r1")
    assert key in done.body.unsaid
    assert any(schema.shown(key) in each for each in done.told)


OWNED = """
CREATE SCHEMA inner_part;
CREATE TABLE inner_part.things (id int PRIMARY KEY, name text, secret text);
CREATE VIEW inner_part.named AS SELECT name FROM inner_part.things;
CREATE FUNCTION inner_part.one() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END;
GRANT USAGE ON SCHEMA inner_part TO {role};
GRANT SELECT, INSERT ON inner_part.things TO {role} WITH GRANT OPTION;
GRANT UPDATE (name) ON inner_part.things TO {role};
REVOKE DELETE ON inner_part.things FROM CURRENT_USER;
REVOKE EXECUTE ON FUNCTION inner_part.one() FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA inner_part GRANT SELECT ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE TABLE inner_part.later (id bigserial PRIMARY KEY);
"""


@pytest.mark.slow
def test_rights_of_a_plain_owner(tcp_url: str, plain: str, tmp_path: Path) -> None:
    """What others may do is granted again, whoever runs the migration; and taken back."""
    done = squashed(chain(tmp_path, tcp_url, OWNED.replace("{role}", plain), driver="psycopg"))
    assert done.told == []
    assert ROLE not in done.text, "the owner may be another one elsewhere"


CONVENTIONAL = """
import os
from alembic import context
from sqlalchemy import MetaData, create_engine, pool
names = {"ck": "ck_%(table_name)s_%(constraint_name)s", "pk": "pk_%(table_name)s"}
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
def written(kind, item, autogen):
    if kind == "type" and type(item).__name__ == "MONEY":
        autogen.imports.add("import decimal")
        return "db.Numeric(decimal.Decimal(9))"
    return False
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(
        connection=connection, target_metadata=MetaData(naming_convention=names),
        render_item=written, sqlalchemy_module_prefix="db.", alembic_module_prefix="ops.",
    )
    with context.begin_transaction():
        context.run_migrations()
"""
HOOK = """
import sys
from pathlib import Path
path = Path(sys.argv[1])
path.write_text(path.read_text() + "# " + ", ".join(sys.argv[2:]))
"""


def test_the_words_of_env_py(database_url: str, tmp_path: Path) -> None:
    """Its prefixes and types are taken, and its naming convention renames nothing."""
    script = (
        "CREATE TABLE things (id int CONSTRAINT pk_things PRIMARY KEY, "
        "n int CONSTRAINT ck_things_n CHECK (n > 0)); CREATE INDEX ix_n ON things (n);"
        "CREATE TABLE paid (sum money)"
    )
    project = chain(tmp_path, database_url, script, env=CONVENTIONAL)
    done = squashed(project)
    assert [str(each) for each in done.differences] == [
        "column paid.sum: type is money in the old chain, numeric(9,0) in the new chain"
    ], "which a project that renders it so wants"
    assert "import sqlalchemy as db\n" in done.text
    assert "from alembic import op as ops\n" in done.text
    assert 'db.CheckConstraint("n > 0", name=ops.f("ck_things_n"))' in done.text
    assert 'ops.create_index(ops.f("ix_n"), "things", ["n"], unique=False)' in done.text


@pytest.mark.slow
def test_what_stands_around_it(database_url: str, tmp_path: Path) -> None:
    """The file has the name and the form of the project's own, and says what it replaces."""
    project = chain(tmp_path, database_url, "CREATE TABLE things (id int)")
    path = project.folder / "alembic.ini"
    path.write_text(
        f"{path.read_text()}file_template = %%(slug)s_%%(rev)s\n[post_write_hooks]\nhooks = own\n"
        "own.type = exec\nown.executable = python3\n"
        "own.options = hook.py REVISION_SCRIPT_FILENAME kept\n"
    )
    (project.folder / "hook.py").write_text(HOOK)
    settings = load(project.folder, {"DATABASE_URL": project.url, "PATH": os.environ["PATH"]})
    many = [f"{number:012x}" for number in range(30)]
    with Worker(settings) as worker:
        worker.begin_alone()
        made = writing.write(
            worker,
            writing.Body(upgrade="pass", downgrade="pass"),
            folder=project.folder / "beside",
            revision="5c4a",
            message="All of it",
            down=["aa", "bb"],
            labels=["core"],
            depends_on=["cc"],
            replaces=many,
            replaced_heads=many[-2:],
            replaced_schema="18:00",
        )
    text = made.read_text()
    assert made == project.folder / "beside/all_of_it_5c4a.py"
    assert max(map(len, text.splitlines())) < 100
    assert text.endswith("# kept"), "a hook sees all that is in the file"
    found = script_files.parse(text)
    assert found is not None
    assert (found.down, found.labels, found.depends_on) == (("aa", "bb"), ("core",), ("cc",))
    assert (found.replaces, found.replaced_heads) == (tuple(many), tuple(many[-2:]))
    assert found.replaced_schema == "18:00"
    lines = text.splitlines()
    assert lines[lines.index("replaces = (") - 1].startswith("depends_on")


@given(st.text(alphabet=":\\ab$1 '\n%", max_size=12))
@example("a :b \\:c \\\\:d ::e :f: \\::g")
def test_no_text_is_a_parameter(statement: str) -> None:
    """Whatever a statement says, text() gives back the same and looks for no parameter."""
    read = sqlalchemy.text(layout.escaped(statement)).compile()
    assert (str(read), read.params) == (statement, {})
    code = layout.execute(statement)
    called = ast.parse(code).body[0]
    assert isinstance(called, ast.Expr)
    assert isinstance(called.value, ast.Call)
    written = ast.literal_eval(called.value.args[0])
    assert "".join(written.split()) == "".join(layout.escaped(statement).split())
