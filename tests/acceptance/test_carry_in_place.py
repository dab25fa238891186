"""`reset-db --carry` in place: the rows come back from the backup, or everything does."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backset.connections.target import Target
from tests.clusters import as_superuser, dumped
from tests.incident.project import CLEAN_REVISION, COUNTS
from tests.marks import slow_but
from tests.project import Project, databases, laid_down, migrating
from tests.states import broken

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from backset.servers.cluster import Cluster

SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backset%'"
CONTENTS = "SELECT id, task_id, variation_id, content, output_type FROM task_outputs ORDER BY 1"


@pytest.fixture
def bare(owned: Project, tmp_path: Path) -> Project:
    """A project without models, whose only migration is what written() says."""
    return laid_down(tmp_path / "bare", "objects", owned.url)


def with_settings(project: Project, text: str) -> Project:
    """Give a project that has none the settings of backset."""
    (project.folder / "pyproject.toml").write_text(f"[tool.backset]\n{text}")
    return project


@pytest.mark.parametrize(
    "above", slow_but(["1000000000", "0"], lambda above: above == "0"), ids=["gzip", "zstd"]
)
def test_the_incident_keeps_every_row(owned: Project, above: str) -> None:
    """The orphaned database of a role without CREATEDB comes to the clean schema, rows and all."""
    broken(owned)
    outputs = owned.query(CONTENTS)
    done = owned.invoke("reset-db", "--carry", BACKSET_ZSTD_ABOVE=above)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "carry     task_outputs 6 · tasks 3 · users 2" in done.stdout
    assert owned.query(COUNTS) == [(2, 3, 6)]
    assert owned.query(CONTENTS) == outputs
    assert owned.query("SELECT version_num FROM alembic_version") == [(CLEAN_REVISION,)]
    assert owned.query(SCHEMAS) == []
    assert databases(owned) == {""}
    again = owned.invoke("reset-db", "--carry", "--seed")
    assert again.returncode == 0, again.stdout + again.stderr
    assert owned.query(COUNTS) == [(3, 8, 36)]


def test_the_plan_says_what_it_cannot_know(owned: Project) -> None:
    """The rows that are there; that obstacles are known later; and nothing is changed."""
    broken(owned)
    done = owned.invoke("reset-db", "--carry", "--plan")
    assert done.returncode == 0, done.stderr
    assert "from the backup, by name: task_outputs 6 · tasks 3 · users 2" in done.stdout
    assert "what fits is known after the migrations" in done.stdout
    assert owned.query(COUNTS) == [(2, 3, 6)]


def test_an_obstacle_restores_the_backup(owned: Project, cluster: Cluster, name: str) -> None:
    """Exit 5, the line that mends it, and the database byte for byte; with the line it goes."""
    broken(owned)
    owned.query("CREATE TABLE wishes (a int); INSERT INTO wishes VALUES (1), (2)")
    before = dumped(cluster, name)
    done = owned.invoke("reset-db", "--carry")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "left behind: wishes (2 rows)" in done.stderr
    assert '[tool.backset] leave = ["wishes"]' in done.stderr
    assert "was restored from" in done.stderr
    assert dumped(cluster, name) == before
    owned.configure("[tool.backset]\n", '[tool.backset]\nleave = ["wishes"]\n')
    done = owned.invoke("reset-db", "--carry", "--json")
    assert done.returncode == 0, done.stderr
    (step,) = [each for each in json.loads(done.stdout)["steps"] if each["step"] == "carry"]
    assert step["left"] == [{"what": "table", "name": "wishes", "count": 2}]
    assert owned.query(COUNTS) == [(2, 3, 6)]


def test_a_row_that_the_new_schema_refuses_restores_the_backup(
    bare: Project, cluster: Cluster, name: str
) -> None:
    """What no catalog tells is found by the server, and told with its key."""
    migrating(bare, "CREATE TABLE t (a int PRIMARY KEY, b int CHECK (b < 5))")
    bare.query("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 2), (7, 9)")
    before = dumped(cluster, name)
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "t: the row a=7 violates t_b_check" in done.stderr
    assert dumped(cluster, name) == before


OF_EVERY_KIND = """
CREATE SCHEMA shop;
CREATE TYPE mood AS ENUM ('fine', 'o''k', 'Sad');
CREATE DOMAIN short AS varchar(9) CHECK (value <> '');
CREATE TYPE shop.part AS (label text, "How many" int, feels mood, note short);
CREATE TYPE shop.whole AS (first shop.part, rest shop.part[]);
CREATE TYPE span AS RANGE (subtype = time, multirange_type_name = spans);
CREATE TABLE "The Table" (
    id int PRIMARY KEY, m mood, ms mood[], s short, ss short[], p shop.part, ps shop.part[],
    w shop.whole, r span, rs spans, v vector(2), j json, jb jsonb, b bytea, n numeric(12,6),
    i interval, t timestamptz, d date, u uuid, a int[], aa text[][], ir int4range,
    mr nummultirange, "weird ""name" text, twice int GENERATED ALWAYS AS (id * 2) STORED, c char(3),
    bits bit varying(8), net inet, money money, ts tsvector, pt point
);
CREATE TABLE shop."The Table" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, whole "The Table");
CREATE TABLE "line
break" ("a
b" int, c text);
CREATE TABLE nothing ();
CREATE TABLE parted (day date, n int) PARTITION BY RANGE (day);
CREATE TABLE shop.parted_2024 (n int, day date);
ALTER TABLE parted ATTACH PARTITION shop.parted_2024
    FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE parted_rest PARTITION OF parted DEFAULT PARTITION BY LIST (n);
CREATE TABLE parted_rest_1 PARTITION OF parted_rest DEFAULT;
CREATE TABLE parent (a int);
CREATE TABLE child (b int) INHERITS (parent);
"""
ROWS = r"""
INSERT INTO "The Table" VALUES (
    1, 'o''k', '{fine,NULL,Sad}', 'a b', '{x,"y,z"}', ('a "b" \ ,)', 3, 'Sad', 'n'),
    ARRAY[('', NULL, NULL, NULL), NULL]::shop.part[],
    (('t', 1, 'fine', 'q'), ARRAY[('', 2, NULL, NULL)]::shop.part[]),
    '[08:00,09:30)', '{[08:00,09:00),[10:00,11:00)}', '[1,2]', '{"a":  1, "a": 2}',
    '{"k": [1, "é\\n"]}', '\x00ff0a5c', 1.5, '-1 day +02:03:00', '2024-02-03 04:05:06.789+02',
    '0044-03-15 BC', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '[0:1]={1,2}',
    '{{a,"b\"c"},{NULL,"NULL"}}', '[1,5)', '{(1,2.5]}', E'tab\t \\. \\N back\\slash\nline\r',
    DEFAULT, 'ab', '101', '10.0.0.1/8', 12.34, 'fat:2 cat:3', '(1.5,2)'
);
INSERT INTO "The Table" (id, "weird ""name") VALUES (2, '\.'), (3, ''), (4, NULL);
INSERT INTO shop."The Table" (whole) SELECT o FROM "The Table" o ORDER BY id;
INSERT INTO "line
break" VALUES (1, 'COPY public.t (a) FROM stdin;'), (2, NULL);
INSERT INTO parted VALUES ('2024-05-05', 1), ('2030-01-01', 2), (NULL, 3);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2, 3);
"""
TABLES = (
    *('"The Table"', 'shop."The Table"', '"line\nbreak"', "nothing", "parted"),
    *("shop.parted_2024", "parted_rest_1", "ONLY parent", "child"),
)


def contents(project: Project) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of every table as texts."""
    return {
        each: project.query(f"SELECT t::text FROM {each} AS t ORDER BY 1 NULLS FIRST")
        for each in TABLES
    }


@pytest.fixture
def rich(bare: Project, cluster: Cluster, name: str) -> Project:
    """A database with types, names and tables of every kind, as its only migration makes them."""
    as_superuser(cluster, name, "CREATE EXTENSION vector")
    migrating(bare, OF_EVERY_KIND)
    bare.query(OF_EVERY_KIND + ROWS)
    return bare


def test_values_of_every_kind_survive(rich: Project) -> None:
    """Their types are dropped with the schema, made again for reading them, and are gone then."""
    before = contents(rich)
    done = rich.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(rich) == before
    assert rich.query(SCHEMAS) == []
    assert rich.query("SELECT count(*) FROM pg_type WHERE typname = 'mood'") == [(1,)]


@pytest.mark.slow
def test_types_that_are_gone_can_be_read_by_rules(rich: Project) -> None:
    """The expressions of the settings see enums, composites, arrays and generated columns."""
    migrating(
        rich,
        'CREATE TABLE moods (id int, feels text, first text, "how many" int, twice int, n int)',
    )
    with_settings(
        rich,
        'schemas = ["shop"]\ncarry = ["The Table"]\nleave = ["The Table"]\n'
        '[tool.backset.rename]\n"moods" = "The Table"\n'
        '[tool.backset.fill]\n"moods.feels" = "upper(m::text)"\n'
        '"moods.first" = "(ps[1]).label || ms[3]"\n"moods.how many" = \'(p)."How many"\'\n'
        '"moods.n" = "extract(hour from upper(r))"\n',
    )
    done = rich.invoke("reset-db", "--carry", "--drop-data")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rich.query("SELECT * FROM moods ORDER BY id LIMIT 2") == [
        (1, "O'K", "Sad", 3, 2, 9),
        (2, None, None, None, 4, None),
    ]


def test_numbers_go_on_where_they_were(bare: Project) -> None:
    """An identity behind rows that were deleted, and a sequence of nobody, give no number twice."""
    made = "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, a int); CREATE SEQUENCE loose"
    bare.query(f"{made}; INSERT INTO t (a) VALUES (1), (2), (3); DELETE FROM t WHERE id > 1")
    bare.query("SELECT setval('loose', 41)")
    done = migrating(bare, made).invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    bare.query("INSERT INTO t (a) VALUES (4)")
    assert bare.query("SELECT * FROM t ORDER BY 1") == [(1, 1), (4, 4)]
    assert bare.query("SELECT nextval('loose')") == [(42,)]


def test_it_speaks_the_encoding_of_the_dump(
    bare: Project, superuser: psycopg.Connection[Any], name: str, plain: str
) -> None:
    """Names and rows come back in a database that does not speak UTF-8."""
    made = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc"
    superuser.execute(f'DROP DATABASE "{name}"'.encode())
    superuser.execute(f'CREATE DATABASE "{name}" {made} OWNER {plain}'.encode())
    table = """CREATE TABLE "größe" (id int, "é" text)"""
    migrating(bare, table)
    with psycopg.connect(bare.url, client_encoding="UTF8") as session:
        session.execute(f"""{table}; INSERT INTO "größe" VALUES (1, 'ÿ')""".encode())
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(bare.url, client_encoding="UTF8") as session:
        assert session.execute('SELECT * FROM "größe"').fetchall() == [(1, "ÿ")]


def test_rows_of_others_stay_where_they_are(bare: Project, cluster: Cluster, name: str) -> None:
    """They were not dropped, so they are not carried; ours are."""
    theirs = "CREATE TABLE theirs (a int); INSERT INTO theirs VALUES (1)"
    as_superuser(cluster, name, f"{theirs}; GRANT SELECT ON theirs TO PUBLIC")
    bare.query("CREATE TABLE t (a int); INSERT INTO t VALUES (5)")
    migrating(bare, "CREATE TABLE t (a int)")
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bare.query("SELECT t.a, theirs.a FROM t, theirs") == [(5, 1)]


@pytest.mark.slow
def test_it_is_refused_where_no_schema_can_be_made(
    owned: Project, superuser: psycopg.Connection[Any], cluster: Cluster, name: str, plain: str
) -> None:
    """Exit 3 with the GRANT that mends it, and nothing was dropped; without --carry it goes."""
    broken(owned)
    superuser.execute(
        sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(name))
    )
    as_superuser(cluster, name, f"GRANT CREATE ON SCHEMA public TO {plain}")
    before = dumped(cluster, name)
    for arguments in (["--carry"], ["--carry", "--plan"]):
        done = owned.invoke("reset-db", *arguments)
        assert done.returncode == 3, done.stdout + done.stderr
        assert f'GRANT CREATE ON DATABASE "{name}" TO "{plain}"' in done.stderr
    assert dumped(cluster, name) == before
    as_superuser(cluster, name, f'GRANT CREATE ON DATABASE "{name}" TO {plain}')
    done = owned.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert owned.query(COUNTS) == [(2, 3, 6)]


@pytest.mark.slow
def test_large_objects_are_refused_before_anything_is_dropped(
    bare: Project, cluster: Cluster, name: str
) -> None:
    """They are known beforehand; with the line that leaves them, the rows come."""
    bare.query("CREATE TABLE t (a int); INSERT INTO t VALUES (5); SELECT lo_from_bytea(0, 'x')")
    migrating(bare, "CREATE TABLE t (a int)")
    before = dumped(cluster, name)
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "has 1 large object, which would be left behind → --drop-data, or" in done.stderr
    assert dumped(cluster, name) == before
    with_settings(bare, 'leave = ["the large objects"]\n')
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left behind: the large objects (1 object)" in done.stdout
    assert bare.query("SELECT a FROM t") == [(5,)]


def start_slow_carry(project: Project) -> subprocess.Popen[str]:
    """Start reset-db --carry and return once it reads old rows in a way that never ends."""
    project.query("CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (a int, m mood)")
    project.query("INSERT INTO t VALUES (1, 'a')")
    migrating(project, "CREATE TABLE t (a int, m text, slow text)")
    with_settings(project, '[tool.backset.fill]\n"t.slow" = "(SELECT pg_sleep(600))::text"\n')
    process = project.start("reset-db", "--carry")
    deadline = time.monotonic() + 60
    asleep = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%'"
    name = Target.parse(project.url).database
    while not project.query(f"{asleep} AND datname = '{name}'", "postgres"):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    assert len(project.query(SCHEMAS)) > 0
    return process


@pytest.mark.parametrize(
    "signum", slow_but([signal.SIGTERM, signal.SIGINT], lambda signum: signum == signal.SIGTERM)
)
@pytest.mark.slow
def test_a_signal_in_the_carry_brings_everything_back(
    bare: Project, cluster: Cluster, name: str, signum: signal.Signals
) -> None:
    """Exit 5: the backup was restored, and nothing of the carry stays."""
    process = start_slow_carry(bare)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 5, errors
    assert "was restored from" in errors
    assert bare.query("SELECT a, m::text FROM t") == [(1, "a")]
    assert bare.query(SCHEMAS) == []
    assert "backset" not in dumped(cluster, name)


@pytest.mark.slow
def test_a_carry_that_was_killed_is_undone_by_the_next_run(bare: Project) -> None:
    """What it had made goes, the old content comes back, and then the carry can be done."""
    process = start_slow_carry(bare)
    process.kill()
    process.communicate(timeout=60)
    assert len(bare.query(SCHEMAS)) > 0
    done = bare.invoke("restore", "--yes")
    assert done.returncode == 0, done.stderr
    assert "a run in place was killed" in done.stdout
    assert bare.query("SELECT a, m::text FROM t") == [(1, "a")]
    assert bare.query(SCHEMAS) == []
    with_settings(bare, '[tool.backset.fill]\n"t.slow" = "\'no\'"\n')
    done = bare.invoke("reset-db", "--carry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bare.query("SELECT * FROM t") == [(1, "a", "no")]
