"""Which Alembic configuration the project has."""

from __future__ import annotations

import io
import os
from pathlib import Path

from alembic import util
from alembic.config import Config


def find() -> Config:
    """Find the configuration where the `alembic` command does, ALEMBIC_CONFIG included."""
    given = os.environ.get("ALEMBIC_CONFIG", "")
    toml, ini = (given, "alembic.ini") if given.endswith(".toml") else ("pyproject.toml", given)
    ini = ini or "alembic.ini"
    has_toml = Path(toml).is_file() and "[tool.alembic]" in Path(toml).read_text(encoding="utf-8")
    if not Path(ini).is_file() and not has_toml:
        raise util.CommandError("no alembic.ini and no [tool.alembic] in pyproject.toml")
    try:
        return Config(ini, toml_file=toml, stdout=io.StringIO())
    except TypeError:  # Alembic before 1.16
        return Config(ini, stdout=io.StringIO())
