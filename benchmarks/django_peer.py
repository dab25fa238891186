"""Django: reset_db (of django-extensions), migrate, check, loaddata, as its developers type it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers import OURS, Unavailable, checked

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.place import Place
    from benchmarks.sides import Side

NAME = "Django reset_db, migrate, check, loaddata"
_SITE, _APP = "mocksite", "mock"
_WANTED = ("django", "django-extensions", "psycopg[binary]")


def side(place: Place, database: str, model: str) -> Side:
    """Return a project as `startproject` makes it, with tables and rows of the database `model`.

    Raises Unavailable.
    """
    folder = place.folder / "django"
    python = _interpreter(place, folder)
    place.run(python, "-m", "django", "startproject", _SITE, str(folder))
    manage = [python, str(folder / "manage.py")]
    place.run(*manage, "startapp", _APP, cwd=folder)
    with (folder / _SITE / "settings.py").open("a") as settings:
        settings.write(_settings(place, default=database, model=model))
    models = place.run(*manage, "inspectdb", "--database=model", *OURS)
    (folder / _APP / "models.py").write_text(models.replace("managed = False", "managed = True"))
    rows = str(folder / "rows.json")
    place.run(*manage, "dumpdata", "--database=model", _APP, "--output", rows)
    place.run(*manage, "makemigrations", _APP)
    place.renew(database)
    words = (["reset_db", "--noinput"], ["migrate"], ["check"], ["loaddata", rows])
    commands = [[*manage, *each] for each in words]
    for command in commands:
        place.run(*command)
    return checked(place, NAME, database, commands)


def _interpreter(place: Place, folder: Path) -> str:
    place.run(sys.executable, "-m", "venv", str(folder / "venv"), cwd=place.folder)
    python = str(folder / "venv/bin/python")
    try:
        place.run(python, "-m", "pip", "install", "--quiet", *_WANTED)
    except SystemExit as failed:
        raise Unavailable("pip could not install it") from failed
    return python


def _settings(place: Place, **databases: str) -> str:
    """Return the lines that name the application and the databases, by their aliases."""
    lines = [f"INSTALLED_APPS += ['django_extensions', {_APP!r}]", "DATABASES = {"]
    for alias, name in databases.items():
        where = conninfo_to_dict(place.url(name))
        keys = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port"}
        about = {"ENGINE": "django.db.backends.postgresql"}
        about |= {key: str(where[word]) for key, word in keys.items()}
        lines.append(f"    {alias!r}: {about!r},")
    return "\n".join([*lines, "}", ""])
