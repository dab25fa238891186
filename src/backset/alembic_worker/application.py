"""The application within which some env.py files work: Flask-Migrate's ask it for the URL."""

from __future__ import annotations

import contextlib
import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .failures import NoApplicationError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

_ASKS_FOR_IT = "current_app"  # flask.current_app, in what `flask db init` writes


def context(env: Path) -> AbstractContextManager[Any]:
    """Return the context that `flask db upgrade` would run that env.py in, or an empty one.

    Raises NoApplicationError.
    """
    if is_asked_for(env):
        return _flask().app_context()  # type: ignore[no-any-return]
    return contextlib.nullcontext()


def is_asked_for(env: Path) -> bool:
    """Tell whether that env.py asks Flask for the application."""
    with contextlib.suppress(OSError):  # that it is missing is Alembic's to say
        return _ASKS_FOR_IT in env.read_text(encoding="utf-8", errors="replace")
    return False


@cache
def _flask() -> Any:
    """Load the application once: .flaskenv and FLASK_APP name it, else wsgi.py or app.py is it."""
    cli = import_module("flask.cli")
    cli.load_dotenv(".flaskenv")  # what is set already stays
    try:
        return cli.ScriptInfo(app_import_path=os.environ.get("FLASK_APP")).load_app()
    except cli.NoAppException as error:
        raise NoApplicationError(str(error)) from error
