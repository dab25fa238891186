"""The floor: a script of one screen that rebuilds by the same programs, and keeps no promise.

It takes no lock, compares nothing, reads no dump back, refuses nobody, and loses what somebody
writes meanwhile. What it takes, no rebuild through Invoke, Alembic and a seed can do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import peers

if TYPE_CHECKING:
    from benchmarks.place import Place
    from benchmarks.sides import Side

COLD, WARM = "a bare script: cold", "a bare script: warm"
_TASKS = """
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


def side(place: Place, name: str, database: str) -> Side:
    """Return it, cold or warm, with a database of its own that is at head."""
    kept = f"{database}__kept"
    for each in (database, kept):
        place.renew(each)
        place.run("alembic", "upgrade", "head", env={"DATABASE_URL": place.url(each)})
    place.run(*peers.SEED, env={"DATABASE_URL": place.url(database)})
    names = (database, f"{database}__new", "postgres")
    text = _TASKS.format(urls={each: place.url(each) for each in names}, seed=peers.SEED)
    (place.project / f"bare_{database}.py").write_text(text, encoding="utf-8")
    words = ["invoke", "-c", f"bare_{database}", "rebuild", *(["--warm"] if name == WARM else [])]
    return peers.checked(place, name, database, [words], BARE_NAME=database)
