"""A backup counts only if it can be loaded: with the search path of the database where it must."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.backups import backup as backups
from backset.backups import manifest, restoration
from backset.connections.target import Target
from backset.errors import StepFailedError
from tests.backups import EMPTY, NEVER, run, take
from tests.clusters import running
from tests.marks import slow_but
from tests.unloadable import BY_ORDER, BY_PATH, BY_ROWS, NOT_VALID, PATHS

if TYPE_CHECKING:
    from backset.backups.store import BackupStore
    from backset.servers.programs import Programs


def read(target: Target, query: str) -> object:
    """Return what a query gives, the first row."""
    with psycopg.connect(**target.params) as session:  # type: ignore[arg-type]
        return session.execute(query.encode()).fetchone()


@pytest.mark.parametrize("above", slow_but([NEVER, 0], lambda above: above == NEVER))
@pytest.mark.parametrize("kind", BY_PATH)
def test_what_counts_on_the_search_path_loads_with_it(
    vault: BackupStore, target: Target, programs: Programs, kind: str, above: int
) -> None:
    """The manifest says so beforehand; afterwards no function has a path that it had not."""
    run(target, BY_PATH[kind])
    taken = take(vault, target, programs, zstd_above=above)
    about = manifest.read(taken.dump).manifest
    assert about.needs_search_path
    assert about.search_path == '"$user", public'
    assert about.obstacle == ""
    run(target, EMPTY)
    assert restoration.load(taken, target, 18, programs)
    assert read(target, PATHS) == (0,)


@pytest.mark.parametrize("kind", slow_but([*BY_PATH], lambda kind: kind == "index"))
def test_a_dump_that_does_not_say_so_is_loaded_all_the_same(
    vault: BackupStore, target: Target, programs: Programs, kind: str
) -> None:
    """As one of an earlier version: by itself it fails, and the database is made anew."""
    run(target, BY_PATH[kind])
    taken = backups.noted(take(vault, target, programs), needs_search_path=False)
    run(target, EMPTY)
    with pytest.raises(StepFailedError, match="does not exist"):
        restoration.load(taken, target, 18, programs)

    def emptied() -> None:
        run(target, EMPTY)

    emptied()
    assert restoration.load(taken, target, 18, programs, emptied=emptied)


def test_what_is_not_valid_is_no_obstacle(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """A dump makes it after the rows, and asks none of them."""
    run(target, NOT_VALID)
    taken = take(vault, target, programs)
    assert taken.manifest.obstacle == ""
    run(target, EMPTY)
    assert not restoration.load(taken, target, 18, programs)


def test_a_load_that_has_succeeded_takes_back_that_it_could_not(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """What a proof or a rehearsal has shown is what the list says."""
    run(target, BY_ROWS)
    taken = take(vault, target, programs)
    assert taken.manifest.obstacle != ""
    backups.noted(taken, needs_search_path=False)
    assert manifest.read(taken.dump).manifest.obstacle == ""


def test_a_function_may_have_lines_as_a_dump_has(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Its text is loaded as it is, also through a session of ours."""
    lines = "SELECT 1; /*\n\\restrict word\nSET transaction_timeout = 0;\n*/"
    run(target, f"CREATE FUNCTION odd() RETURNS int LANGUAGE sql AS $x${lines}$x$")
    taken = backups.noted(take(vault, target, programs), needs_search_path=True)
    run(target, EMPTY)
    assert restoration.load(taken, target, 18, programs)


def test_rows_that_look_at_each_other_come_before_their_constraints(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """A CHECK that looks into a table which a dump loads later; inherited ones as well."""
    run(target, BY_ORDER)
    taken = take(vault, target, programs)
    run(target, EMPTY)
    assert restoration.load(taken, target, 18, programs, emptied=lambda: run(target, EMPTY))
    checks = "SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0"
    assert read(target, checks) == (4,)


def test_a_comment_on_a_constraint_comes_back(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Though the constraint was away while the rows came."""
    run(target, BY_PATH["check"])
    taken = take(vault, target, programs)
    run(target, EMPTY)
    restoration.load(taken, target, 18, programs)
    comment = "SELECT obj_description(oid) FROM pg_constraint WHERE conname = 'allowed'"
    assert read(target, comment) == ("as the table allowed says",)


def test_what_no_way_loads_is_said_with_what_keeps_it(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Rows that break a CHECK which they had passed; the manifest has it, and so has the error."""
    run(target, BY_ROWS)
    taken = take(vault, target, programs)
    assert taken.manifest.obstacle == "numbers: 1 row would not pass a CHECK again"
    run(target, EMPTY)
    with pytest.raises(StepFailedError, match='violates check constraint "numbers_n_check"'):
        restoration.load(taken, target, 18, programs, emptied=lambda: run(target, EMPTY))


@pytest.mark.parametrize("above", [NEVER, 0])
def test_everything_else_comes_with_it(
    vault: BackupStore, target: Target, programs: Programs, above: int
) -> None:
    """Large objects, sequences, and rows and names with whatever ends a line in them."""
    run(
        target,
        BY_PATH["check"]
        + """CREATE TABLE "odd ;\n" ("a\nb" text, " FROM stdin;\n" text);
        INSERT INTO "odd ;\n" VALUES (E'a\\nb\\\\.', E'\\\\.'), (E'\\\\.\\n', 'COMMIT;');
        CREATE SEQUENCE "s;\nCOPY '" START 7; SELECT nextval('"s;\nCOPY ''"');
        SELECT lo_from_bytea(1, convert_to(repeat(md5('x'), 50000), 'UTF8'))""",
    )
    what = """SELECT (SELECT md5(string_agg(o::text, ',' ORDER BY o::text)) FROM "odd ;\n" o),
        (SELECT last_value FROM "s;\nCOPY '"), md5(lo_get(1))"""
    before = read(target, what)
    taken = take(vault, target, programs, zstd_above=above)
    run(target, f"{EMPTY}; SELECT lo_unlink(1)")
    restoration.load(taken, target, 18, programs)
    assert read(target, what) == before


def test_to_look_changes_nothing(vault: BackupStore, target: Target, programs: Programs) -> None:
    """A CHECK whose function writes is not tried; the dump is taken all the same."""
    run(
        target,
        """CREATE TABLE seen (n int);
        CREATE FUNCTION noted(int) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.seen VALUES ($1); RETURN true; END';
        CREATE TABLE numbers (n int CHECK (noted(n))); INSERT INTO numbers VALUES (1)""",
    )
    taken = take(vault, target, programs)
    assert (taken.manifest.needs_search_path, taken.manifest.obstacle) == (False, "")
    assert read(target, "SELECT count(*) FROM seen") == (1,)


def test_functions_with_a_path_of_their_own_need_none(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """And what calls none is not looked at: braces and percent signs in it are of no matter."""
    run(target, BY_PATH["check"])
    run(target, "ALTER FUNCTION is_allowed SET search_path = public")
    run(
        target, """CREATE TABLE odd (t text[] CHECK (t <> '{"%s"}'), j text CHECK (j LIKE '{}%'))"""
    )
    run(target, "INSERT INTO odd VALUES (ARRAY['{}b'])")
    taken = take(vault, target, programs)
    assert (taken.manifest.needs_search_path, taken.manifest.obstacle) == (False, "")
    run(target, EMPTY)
    assert not restoration.load(taken, target, 18, programs)
    assert read(target, PATHS) == (1,)


def test_by_hand_it_loads_with_the_command_of_its_manifest(
    vault: BackupStore, target: Target, programs: Programs
) -> None:
    """Without backset."""
    run(target, BY_PATH["check"])
    taken = take(vault, target, programs)
    command = taken.manifest.by_hand.replace("DATABASE", '"$DATABASE"')
    run(target, EMPTY)
    folder = programs.find("pg_restore", 18).parent
    env = {"PATH": f"{folder}:{os.defpath}", "DATABASE": target.url}
    subprocess.run(["sh", "-ec", command], cwd=vault.folder, env=env, check=True)
    restoration.check(taken, target)


@pytest.mark.every_server
def test_on_an_older_server_too(vault: BackupStore, programs: Programs) -> None:
    """Which knows fewer settings, and gives itself no path of its own."""
    with running(16) as cluster:
        target = Target.parse(cluster.url("postgres"))
        run(target, "CREATE SCHEMA other")
        run(target, BY_PATH["check"] + BY_PATH["index"] + "SELECT lo_from_bytea(0, 'large')")
        taken = take(vault, target, programs)
        assert taken.manifest.needs_search_path
        run(target, f"{EMPTY}; SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
        restoration.load(taken, target, 16, programs)
        assert read(target, PATHS) == (0,)
