"""The floors: Invoke tasks of a few lines that do the same by the same programs, without promises.

They take no lock, compare nothing, read no dump back, refuse nobody, and lose what somebody
writes meanwhile. What they take, nothing that goes through Invoke and these programs can save.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.sides import Side

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.place import Place

COLD, WARM = "a bare script: cold", "a bare script: warm"
FLOORS = {
    "reads": "a bare script that compares nothing",
    "checks": "a bare script with alembic check",
}  # by what its database is called
_REBUILD = """
from invoke import task


@task
def rebuild(c, warm=False):
    import os
    import subprocess

    import psycopg

    name, seed = os.environ["BARE_NAME"], {seed!r}
    urls = {urls!r}
    with psycopg.connect(urls["postgres"], autocommit=True) as session:
        session.execute(f"DROP DATABASE IF EXISTS {{name}}__old WITH (FORCE)")
        dump = subprocess.Popen(["pg_dump", "-Fc", "-d", urls[name], "-f", f"{{name}}.dump"])
        template = f"{{name}}__kept" if warm else "template0"
        session.execute(f"CREATE DATABASE {{name}}__new TEMPLATE {{template}}")
        env = {{**os.environ, "DATABASE_URL": urls[f"{{name}}__new"]}}
        if not warm:
            subprocess.run(["alembic", "upgrade", "head"], env=env, check=True)
        subprocess.run(seed, env=env, check=True)
        if dump.wait():
            raise SystemExit("pg_dump failed")
        with session.transaction():
            session.execute(f"ALTER DATABASE {{name}} RENAME TO {{name}}__old")
            session.execute(f"ALTER DATABASE {{name}}__new RENAME TO {{name}}")
"""
# One process migrates and compares, so that it imports once; the server keeps a copy for the next.
_COMPARING = "from alembic.config import main; main(['upgrade', 'heads']); main(['check'])"
# Any comparison must read the schema: here SQLAlchemy reads each kind of object in one query.
_READING = """
from alembic.config import main
main(["upgrade", "heads"])
from sqlalchemy import MetaData, create_engine, inspect
with create_engine({url!r}).connect() as session:
    for schema in inspect(session).get_schema_names():
        MetaData().reflect(session, schema)
"""
_CHAIN = """
from invoke import task


@task
def rebuild(c):
    import os
    import subprocess

    import psycopg

    with psycopg.connect({maintenance!r}, autocommit=True) as session:
        session.execute("CREATE DATABASE {name}__new TEMPLATE template0")
        env = {{**os.environ, {variable!r}: {new!r}}}
        upgrade = subprocess.Popen(["python", "-c", {migrated!r}], env=env)
        dump = subprocess.Popen(["pg_dump", "-Fc", "-d", {url!r}, "-f", "{name}.dump"])
        session.execute("DROP DATABASE IF EXISTS {name}__old WITH (FORCE)")
        session.execute("DROP DATABASE IF EXISTS {name}__kept WITH (FORCE)")
        if dump.wait() or upgrade.wait():
            raise SystemExit("pg_dump or alembic failed")
        session.execute("CREATE DATABASE {name}__kept TEMPLATE {name}__new")
        with session.transaction():
            session.execute("ALTER DATABASE {name} RENAME TO {name}__old")
            session.execute("ALTER DATABASE {name}__new RENAME TO {name}")
"""
# The rows have been unpacked before, one half of the large table to a file. Each session that loads
# them and builds indexes has a core of its own.
_LARGE = """
from invoke import task

HALVES = {halves!r}


@task
def backup(c):
    import hashlib
    import subprocess

    import psycopg
    from backports import zstd

    argv = ["pg_dump", "-Fc", "--compress=0", "-d", {url!r}]
    with (
        psycopg.connect({url!r}) as session,
        open({dump!r}, "wb") as file,
        subprocess.Popen(argv, stdout=subprocess.PIPE) as dump,
    ):
        session.execute("SELECT count(*) FROM task_outputs")
        packing, digest = zstd.ZstdCompressor(), hashlib.sha256()
        while part := dump.stdout.read(1 << 20):
            packed = packing.compress(part)
            digest.update(packed)
            file.write(packed)
        file.write(packing.flush())
    if dump.returncode:
        raise SystemExit("pg_dump failed")


@task
def restore(c):
    import subprocess

    import psycopg

    with psycopg.connect({maintenance!r}, autocommit=True) as session:
        session.execute("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        session.execute("CREATE DATABASE {name} TEMPLATE template0")

    def pg_restore(section):
        argv = ["pg_restore", "-j2", "-d", {copy!r}, f"--section={{section}}", {schema!r}]
        subprocess.run(argv, check=True)

    def rows(files):
        commands = [word for table, file in files for word in ("-c", copied.format(table, file))]
        return subprocess.Popen(["psql", "-X", "-q", "-d", {copy!r}, *commands])

    copied = "\\\\copy {{}} from '{{}}'"
    pg_restore("pre-data")
    if any([each.wait() for each in [rows(half) for half in HALVES]]):
        raise SystemExit("psql failed")
    pg_restore("post-data")
"""


def side(place: Place, name: str, database: str) -> Side:
    """Return a bare rebuild, cold or warm, with a database of its own that is at head."""
    kept = f"{database}__kept"
    for each in (database, kept):
        place.renew(each)
        place.run("alembic", "upgrade", "head", env={"DATABASE_URL": place.url(each)})
    place.run(*peers.SEED, env={"DATABASE_URL": place.url(database)})
    names = (database, f"{database}__new", "postgres")
    text = _REBUILD.format(urls={each: place.url(each) for each in names}, seed=peers.SEED)
    (place.project / f"bare_{database}.py").write_text(text, encoding="utf-8")
    words = ["invoke", "-c", f"bare_{database}", "rebuild", *(["--warm"] if name == WARM else [])]
    return peers.checked(place, name, database, [words], BARE_NAME=database)


def chains(place: Place, name: str, folder: Path, variable: str) -> list[Side]:
    """Return the bare rebuilds of a project, which a variable tells its database; see FLOORS."""
    return [_chain(place, f"{name}_{each}", folder, variable) for each in FLOORS]


def _chain(place: Place, name: str, folder: Path, variable: str) -> Side:
    place.renew(name)
    place.run("alembic", "upgrade", "heads", env={variable: place.url(name)}, cwd=folder)
    new = place.url(f"{name}__new")
    text = _CHAIN.format(
        name=name,
        variable=variable,
        maintenance=place.url("postgres"),
        url=place.url(name),
        new=new,
        migrated=_COMPARING if name.endswith("checks") else _READING.format(url=_driven(new)),
    )
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return Side("a bare script", lambda: place.run("invoke", "-c", name, "rebuild", cwd=folder))


def _driven(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def large(place: Place, database: str, copy: str) -> tuple[Side, Side]:
    """Return a bare backup of a large database, and a bare restore of its rows into `copy`."""
    url, folder = place.url(database), place.folder / f"bare_{database}"
    folder.mkdir()
    schema = str(folder / "schema.dump")
    place.run("pg_dump", "-Fc", "--schema-only", "-d", url, "-f", schema)
    small = [(each, str(folder / each)) for each in ("alembic_version", *peers.OURS[:-1])]
    parts = [("task_outputs", str(folder / f"half_{each}")) for each in (0, 1)]
    for table, file in small:
        place.run("psql", "-X", "-q", "-d", url, "-c", f"\\copy {table} to '{file}'")
    for half, (table, file) in enumerate(parts):
        rows = f"(SELECT * FROM {table} WHERE id % 2 = {half} ORDER BY id)"
        place.run("psql", "-X", "-q", "-d", url, "-c", f"\\copy {rows} to '{file}'")
    text = _LARGE.format(
        url=url,
        dump=str(folder / "bare.zst"),
        maintenance=place.url("postgres"),
        name=copy,
        copy=place.url(copy),
        schema=schema,
        halves=[[*small, parts[0]], [parts[1]]],
    )
    (place.project / f"bare_{database}.py").write_text(text, encoding="utf-8")
    script = ("invoke", "-c", f"bare_{database}")

    def check() -> None:
        both = [place.sql(each, peers.COUNTS) for each in (database, copy)]
        if both[0] != both[1]:
            raise SystemExit(f"a bare restore: {both[1]} rows, not {both[0]}")

    return (
        Side("a bare script", lambda: place.run(*script, "backup")),
        Side("a bare script", lambda: place.run(*script, "restore"), check=check),
    )
