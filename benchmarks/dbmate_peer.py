"""dbmate, a native binary: drop, create, migrate; with pg_dump before it and psql's seed after."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from benchmarks.peers import Unavailable, checked

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.place import Place
    from benchmarks.sides import Side

NAME = "pg_dump, dbmate drop, dbmate up, psql"


def side(place: Place, database: str, model: str) -> Side:
    """Return it with a migration and a seed in plain SQL, made from the database `model`.

    Raises Unavailable.
    """
    folder = place.folder / "dbmate"
    binary = _binary(place, folder)
    migrations, seed = folder / "migrations", folder / "seed.sql"
    migrations.mkdir()
    dump = ["pg_dump", "--no-owner", "--exclude-table=alembic_version", "-d", place.url(model)]
    up = plain(place.run(*dump, "--schema-only"))
    (migrations / "20250101000000_initial.sql").write_text(
        f"-- migrate:up\n{up}\n-- migrate:down\n"
    )
    seed.write_text(plain(place.run(*dump, "--data-only")))
    url = place.url(database)
    tool = [binary, "--url", url.replace("postgresql://", "postgres://", 1) + "&sslmode=disable"]
    tool += ["--migrations-dir", str(migrations), "--no-dump-schema"]
    load = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", str(seed)]
    commands = [["pg_dump", "-Fc", "-d", url, "-f", "dbmate.dump"], [*tool, "drop"]]
    commands += [[*tool, "up"], load]
    for command in commands[2:]:
        place.run(*command)
    return checked(place, NAME, database, commands)


def _binary(place: Place, folder: Path) -> str:
    npm = shutil.which("npm", path=place.env["PATH"])
    if npm is None:
        raise Unavailable("npm, which has it, is not here")
    try:
        place.run(npm, "install", "--silent", "--no-fund", "--prefix", str(folder), "dbmate")
    except SystemExit as failed:
        raise Unavailable("npm could not install it") from failed
    found = sorted(folder.glob("node_modules/@dbmate/*/bin/dbmate"))
    if not found:
        raise Unavailable("its package has no binary for this system")
    return str(found[0])


def plain(dumped: str) -> str:
    """Return a plain dump without psql's own commands, and with the search_path left alone."""
    lines = dumped.splitlines()
    return "\n".join(
        each for each in lines if not each.startswith(("\\restrict", "\\unrestrict", _PATH))
    )


_PATH = "SELECT pg_catalog.set_config('search_path'"
